"""sealbox export. Exit codes: see deploy/cli/root.py."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.owner import as_caller
from deploy.cli.root import EPILOG, EXIT_USAGE, Cli, Refusal, command, mail_limits
from deploy.cli.snapshot_store import size_text
from deploy.cli.transfer import explained, transfer_bar
from mailstore.transfer.eml_target import EmlTarget
from mailstore.transfer.exporting import Exported, export_mail
from mailstore.transfer.maildir_target import MaildirTarget
from mailstore.transfer.mbox_target import MboxTarget
from mailstore.transfer.opened import Wanted
from mailstore.transfer.target import Target

_TARGETS = "mbox:DIR, maildir:DIR or eml:DIR"


@click.command("export", epilog=EPILOG)
@click.argument("account")
@click.option("--to", "place", metavar="PLACE", required=True, help=f"{_TARGETS}.")
@click.option("--update", is_flag=True, help="Make a complete export equal to the account as it is now.")
@password_stdin_option
@command
def export_command(cli: Cli, account: str, place: str, update: bool, from_stdin: bool) -> None:
    """Export all mail of ACCOUNT, in plain text: whoever can read the files can read the mail.

    An interrupted export goes on when it is run again. Nothing in the account is changed; mail that waits is
    filed first, as at a login. Any password with which the mail can be read will do.
    """
    target = _target(place)
    wanted = Wanted(cli.root, account, current_secret(from_stdin), cli.params, *mail_limits(cli))
    done = Exported()
    with explained("the export cannot be written"), transfer_bar(cli, "exporting") as bar:
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
            raise Refusal(f"say where the mail shall go: {_TARGETS}", EXIT_USAGE)
