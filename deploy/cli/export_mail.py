"""sealbox export. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from deploy.cli.asking import current_secret, new_passphrase, password_stdin_option
from deploy.cli.owner import as_caller
from deploy.cli.root import EPILOG, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, command, mail_limits
from deploy.cli.transfer import MOST_SHOWN, transfer_bar, transferring
from deploy.texts import counted, size_text
from mailstore.damage import ACCOUNT_SECTION, GUIDE
from mailstore.opened_account import Wanted
from mailstore.transfer.eml_target import EmlTarget
from mailstore.transfer.exporting import Exported, export_mail
from mailstore.transfer.maildir_target import MaildirTarget
from mailstore.transfer.mbox_target import MboxTarget
from mailstore.transfer.sqlite_target import SqliteTarget
from mailstore.transfer.target import Target

_TARGETS = "mbox:DIR, maildir:DIR, eml:DIR or sqlite:FILE"


@click.command("export", epilog=EPILOG)
@click.argument("account")
@click.option("--to", "place", metavar="PLACE", required=True, help=f"{_TARGETS}.")
@click.option("--update", is_flag=True, help="Make a complete export equal to the account as it is now.")
@click.option("--encrypt", is_flag=True, help="Encrypt sqlite:FILE with a passphrase (SQLCipher).")
@password_stdin_option
@command
def export_command(cli: Cli, account: str, place: str, update: bool, encrypt: bool, from_stdin: bool) -> None:
    """Export all mail of ACCOUNT, in plain text: whoever can read the files can read the mail.

    An interrupted export goes on when it is run again. Nothing in the account is changed; mail that waits is
    filed first, as at a login. Any password with which the mail can be read will do. With --password-stdin
    the first line is the password; with --encrypt the second is the passphrase.
    """
    _check_place(place, encrypt)
    wanted = Wanted(cli.root, account, current_secret(from_stdin), cli.params, *mail_limits(cli))
    passphrase = new_passphrase(from_stdin) if encrypt else None
    done = Exported()
    with (
        transferring("the export cannot be written"),
        transfer_bar(cli, "exporting") as bar,
        _target(place, passphrase) as target,
    ):
        export_mail(wanted, target, bar, as_caller, done, update=update)
    cli.answer(
        asdict(done),
        f"exported to {place}: {counted(done.messages, 'message')}"
        f" in {counted(done.mailboxes, 'mailbox', 'mailboxes')}, {size_text(done.size_bytes)}",
    )
    if not encrypt:
        cli.remark("it is not encrypted: keep it where only its owner can read it")
    for place_of in done.damaged[:MOST_SHOWN]:
        cli.remark(f"damaged, and not exported: {place_of}")
    if done.damaged_count:
        cli.remark(f'damaged: {counted(done.damaged_count, "message")}: see {GUIDE}, "{ACCOUNT_SECTION}"')
        raise SystemExit(EXIT_STORAGE)


def _check_place(place: str, encrypt: bool) -> None:
    kind, _, rest = place.partition(":")
    if not rest or kind not in ("mbox", "maildir", "eml", "sqlite"):
        raise Refusal(f"say where the mail shall go: {_TARGETS}", EXIT_USAGE)
    if encrypt and kind != "sqlite":
        raise Refusal("only sqlite:FILE can be encrypted", EXIT_USAGE)


@contextmanager
def _target(place: str, passphrase: str | None) -> Iterator[Target]:
    kind, _, rest = place.partition(":")
    match kind:
        case "mbox":
            yield MboxTarget(Path(rest))
        case "maildir":
            yield MaildirTarget(Path(rest))
        case "eml":
            yield EmlTarget(Path(rest))
        case _:
            file = SqliteTarget(Path(rest), passphrase)
            try:
                yield file
            finally:
                with as_caller():
                    file.close()
