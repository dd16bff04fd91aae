"""sealbox directory. Exit codes: see deploy/cli/sentences.py."""

import os
import sys
from pathlib import Path

import click

from deploy.cli.root import EPILOG, EXIT_STORAGE, Cli, Refusal, command
from deploy.texts import counted
from mailstore.account import make_root, read_server_key
from mailstore.directory import Contents, lines_of, read_lines, write_cluster_key
from mailstore.durable import storage_errors, write_new
from mailstore.errors import ExportInvalid

_STANDARD = "-"
_FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))


@click.group(epilog=EPILOG)
def directory() -> None:
    """Move the directory (domains, addresses, accounts) to or from PostgreSQL; see [directory] in the
    configuration. No mail is touched by any of these."""


@directory.command("export", epilog=EPILOG)
@_FILE
@command
def export_directory(cli: Cli, file: Path) -> None:
    """Write domains, accounts and aliases to a new FILE, or to standard output for "-", as lines of JSON.

    The file shows all addresses, and no secret; only its owner can read it. No mail is in it, nor touched.
    """
    with cli.directory() as opened:
        contents = opened.contents()
    if str(file) == _STANDARD:
        sys.stdout.writelines(lines_of(contents))
        return
    _require_new(file)
    with storage_errors():
        write_new(file, "".join(lines_of(contents)).encode("utf-8"))
    cli.answer({"exported": str(file), **_counts(contents)}, f"{_said(contents)} written to {file}")


@directory.command("import", epilog=EPILOG)
@_FILE
@command
def import_directory(cli: Cli, file: Path) -> None:
    """Fill an empty directory with what 'sealbox directory export' wrote to FILE, or "-": all or nothing.

    Where the directory is, the configuration says ([directory] url); it is made where there is none. If that
    is in it already, nothing is done. No mail is touched: the accounts' folders stay as they are.
    """
    contents = _read(file)
    make_root(cli.root, None)
    with cli.directory() as opened:
        is_filled = opened.fill(contents)
    said = f"{_said(contents)} imported" if is_filled else "all of that is there already"
    cli.answer({"imported": is_filled, **_counts(contents)}, said)


@directory.command("key", epilog=EPILOG)
@_FILE
@command
def write_key(cli: Cli, file: Path) -> None:
    """Write the key that seals the directory in PostgreSQL into a new FILE, for [directory] key_file.

    The directory is lost without it, also when server.key has changed. No mail is touched, and the key opens
    none; whoever has it and the database reads all addresses.
    """
    _require_new(file)
    write_cluster_key(cli.root, read_server_key(cli.root), file)
    cli.answer(
        {"written": str(file)},
        f"the key is in {file}: name it in [directory] key_file, and keep a copy off the server",
    )


def _require_new(file: Path) -> None:
    """Raises Refusal: the file cannot be made."""
    try:
        if file.exists():
            raise Refusal(f"{file} is there already: choose another name")
        if not file.parent.is_dir():
            raise Refusal(f"there is no folder {file.parent}: make it first, or choose another name")
    except OSError as error:
        raise Refusal(f"{file} cannot be written: {error.strerror}", EXIT_STORAGE) from None
    if not os.access(file.parent, os.W_OK):
        raise Refusal(
            f"{file.parent} is a folder in which the data's owner may not write: choose another one"
        )


def _read(file: Path) -> Contents:
    try:
        if str(file) == _STANDARD:
            return read_lines(sys.stdin)
        with file.open(encoding="utf-8") as lines:
            return read_lines(lines)
    except FileNotFoundError:
        raise Refusal(f"there is no file {file}: check its name") from None
    except OSError as error:
        raise Refusal(f"{file} cannot be read: {error.strerror}", EXIT_STORAGE) from None
    except ExportInvalid as error:
        raise Refusal(f"{file}: {error}: export it again") from None


def _counts(contents: Contents) -> dict[str, int]:
    return {
        "domains": len(contents.domains),
        "accounts": len(contents.accounts),
        "aliases": len(contents.aliases),
    }


def _said(contents: Contents) -> str:
    return ", ".join(
        (
            counted(len(contents.domains), "domain"),
            counted(len(contents.accounts), "account"),
            counted(len(contents.aliases), "alias", "aliases"),
        )
    )
