"""sealbox import, sealbox export. Exit codes: see deploy/cli/root.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click
from tqdm import tqdm

from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.owner import as_caller
from deploy.cli.root import EPILOG, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, command, mail_limits
from deploy.cli.snapshot_store import size_text
from mailstore.transfer.eml_source import EmlSource
from mailstore.transfer.eml_target import EmlTarget
from mailstore.transfer.exporting import Exported, export_mail
from mailstore.transfer.importing import Imported, import_mail
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.maildir_target import MaildirTarget
from mailstore.transfer.mbox_source import MboxSource
from mailstore.transfer.mbox_target import MboxTarget
from mailstore.transfer.opened import Wanted
from mailstore.transfer.source import Source, SourceUnusable
from mailstore.transfer.target import Target, TargetUnusable

_MOST_NAMED = 20
"""At most this many things that could not be imported are named one by one."""


class _Bar:
    """A bar with rate and time left."""

    def __init__(self, bar: tqdm[NoReturn]) -> None:
        self._bar = bar

    def expect(self, size_bytes: int) -> None:
        self._bar.total = (self._bar.total or 0) + size_bytes
        self._bar.refresh()

    def advance(self, size_bytes: int) -> None:
        self._bar.update(size_bytes)


@contextmanager
def _bar(cli: Cli, what: str) -> Iterator[_Bar]:
    hidden = cli.as_json or not sys.stderr.isatty()
    with tqdm(total=0, unit="B", unit_scale=True, unit_divisor=1024, desc=what, disable=hidden) as bar:
        yield _Bar(bar)


@click.command("import", epilog=EPILOG)
@click.argument("account")
@click.option("--from", "place", metavar="PLACE", required=True, help="mbox:FILE, maildir:DIR or eml:DIR")
@password_stdin_option
@command
def import_command(cli: Cli, account: str, place: str, from_stdin: bool) -> None:
    """Import mail of another program into ACCOUNT.

    Nothing in the account is changed or removed. What is there already, with the same bytes and internal
    date in the same mailbox, is not imported again: run the command again after an interruption, or to fetch
    what is new. Messages that cannot be read are named and left out, and the exit code is 6.
    """
    limits, mime_limits = mail_limits(cli)
    source = _source(place, limits.max_message_bytes)
    wanted = Wanted(cli.root, account, current_secret(from_stdin), cli.params, limits, mime_limits)
    done = Imported()
    with _explained(), _bar(cli, "importing") as bar:
        import_mail(wanted, source, bar, as_caller, done)
    _answer_import(cli, done)


def _source(place: str, max_message_bytes: int) -> Source:
    kind, colon, rest = place.partition(":")
    match kind if colon and rest else "":
        case "maildir":
            return MaildirSource(Path(rest), max_message_bytes)
        case "mbox":
            return MboxSource(Path(rest), max_message_bytes)
        case "eml":
            return EmlSource(Path(rest), max_message_bytes)
        case _:
            raise Refusal("say where the mail is: mbox:FILE, maildir:DIR or eml:DIR", EXIT_USAGE)


def _answer_import(cli: Cli, done: Imported) -> None:
    unusable = [{"place": one.place, "reason": one.reason.value} for one in done.unusable]
    cli.answer(
        {**asdict(done), "unusable": unusable},
        f"{done.messages} messages imported, {size_text(done.size_bytes)}, in {done.mailboxes} mailboxes;"
        f" {done.already_there} were there already",
    )
    for one in done.unusable[:_MOST_NAMED]:
        cli.remark(f"not imported: {one.place}: {one.reason.value}")
    if done.unusable_count > _MOST_NAMED:
        cli.remark(f"not imported: {done.unusable_count - _MOST_NAMED} more; --json names them")
    if done.deleted_in_source:
        cli.remark(f"left out: {done.deleted_in_source} that the source counts as deleted")
    if done.keywords_left_out:
        cli.remark(f"left out: {done.keywords_left_out} keywords, more than a mailbox can have")
    if done.unusable_count:
        raise SystemExit(EXIT_STORAGE)


@click.command("export", epilog=EPILOG)
@click.argument("account")
@click.option("--to", "place", metavar="PLACE", required=True, help="mbox:DIR, maildir:DIR or eml:DIR")
@click.option("--update", is_flag=True, help="Make a complete export equal to the account as it is now.")
@password_stdin_option
@command
def export_command(cli: Cli, account: str, place: str, update: bool, from_stdin: bool) -> None:
    """Export all mail of ACCOUNT, in plain text: whoever can read the files can read the mail.

    An interrupted export goes on when it is run again. Nothing in the account is changed; mail that waits is
    filed first, as at a login.
    """
    target = _target(place)
    wanted = Wanted(cli.root, account, current_secret(from_stdin), cli.params, *mail_limits(cli))
    done = Exported()
    with _explained(), _bar(cli, "exporting") as bar:
        export_mail(wanted, target, bar, as_caller, done, update=update)
    cli.answer(
        asdict(done),
        f"{done.messages} messages in {done.mailboxes} mailboxes, {size_text(done.size_bytes)},"
        f" are in {place}",
    )
    cli.remark("it is not encrypted: keep it where only its owner can read it")


def _target(place: str) -> Target:
    kind, colon, rest = place.partition(":")
    match kind if colon and rest else "":
        case "mbox":
            return MboxTarget(Path(rest))
        case "maildir":
            return MaildirTarget(Path(rest))
        case "eml":
            return EmlTarget(Path(rest))
        case _:
            raise Refusal("say where the mail shall go: mbox:DIR, maildir:DIR or eml:DIR", EXIT_USAGE)


@contextmanager
def _explained() -> Iterator[None]:
    """The errors that only transfers have, as sentences."""
    try:
        yield
    except (SourceUnusable, TargetUnusable) as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        sentence = f"the export cannot be written: {error.strerror}: see what is in the way, and run it again"
        raise Refusal(sentence, EXIT_STORAGE) from None
