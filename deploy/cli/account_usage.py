"""sealbox account usage. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from backup.moment import utc_ms
from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.quota import Limits
from deploy.cli.root import EPILOG, EXIT_USAGE, Cli, Refusal, command, find_account_here, mail_limits
from deploy.cli.snapshot_store import has_snapshots, opened_state
from deploy.cli.transfer import transferring
from deploy.texts import counted, size_text
from mailstore.account import account_paths
from mailstore.account_usage import DiskUse, MailboxUse, disk_use, mailbox_use
from mailstore.directory import AccountRecord
from mailstore.errors import NoSuchAccount
from mailstore.opened_account import Wanted, opened_account
from mailstore.this_node import may_be_here

Fields = dict[str, object]


@click.command(epilog=EPILOG)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@password_stdin_option
@command
def usage(cli: Cli, names: tuple[str, ...], from_stdin: bool) -> None:
    """Show how much mail accounts have, of which limit, and what they take on disk; no mail is changed.

    Without a NAME: all of them. Mail counts as it is, the files have it compressed, with what was deleted. No
    password is needed for that, waiting mail and the newest snapshot in the store. With
    --password-stdin also how many messages and octets each mailbox of the one account NAME has; waiting mail
    is in none of them yet.
    """
    if from_stdin and len(names) != 1:
        raise Refusal("name the one account whose password you give", EXIT_USAGE)
    with cli.directory() as directory:
        records = [find_account_here(cli, directory, name) for name in names] or [
            record for record in directory.accounts() if may_be_here(cli.root, record)
        ]
    used = [(record, use) for record in records if (use := _disk_use(cli.root, record, names)) is not None]
    newest = _newest_snapshots(cli.root, {str(record.account_id) for record, _ in used})
    limits = Limits.of(cli)
    fields = [_fields(limits, record, use, newest.get(str(record.account_id))) for record, use in used]
    lines = [_line(limits, record, use, newest.get(str(record.account_id))) for record, use in used]
    if from_stdin:
        mailboxes = _mailboxes(cli, names[0], current_secret(from_stdin))
        fields[0]["mailboxes"] = [asdict(one) for one in mailboxes]
        lines += [
            f"  {one.name}  {counted(one.messages, 'message')}, {size_text(one.size_bytes)}"
            for one in mailboxes
        ]
    cli.answer({"accounts": fields}, *lines)


def _disk_use(root: Path, record: AccountRecord, names: tuple[str, ...]) -> DiskUse | None:
    """None for an account that was deleted while all are looked at. Raises NoSuchAccount for one named."""
    try:
        return disk_use(account_paths(root, record.account_id))
    except NoSuchAccount:
        if names:
            raise
        return None


def _newest_snapshots(root: Path, accounts: set[str]) -> dict[str, int]:
    """When the newest snapshot in the store was taken (ms), by account."""
    if not has_snapshots(root):
        return {}
    with opened_state(root) as state:
        streams = [one for one in state.streams() if one.account in accounts]
        stored = {one.account: [seg for seg in state.segments(one.stream) if seg.stored] for one in streams}
    return {account: max(one.name.taken_ms for one in found) for account, found in stored.items() if found}


def _mailboxes(cli: Cli, name: str, secret: bytes) -> list[MailboxUse]:
    wanted = Wanted(cli.root, name, secret, cli.params, *mail_limits(cli))
    with (
        transferring("the account cannot be read"),
        opened_account(wanted, writes=False) as account,
    ):
        return mailbox_use(account.database)


def _fields(limits: Limits, record: AccountRecord, use: DiskUse, newest_ms: int | None) -> Fields:
    return {
        "account": record.account_id,
        "name": record.name,
        **limits.fields(record),
        "total_bytes": use.total_bytes,
        **asdict(use),
        "newest_snapshot": None if newest_ms is None else utc_ms(newest_ms),
    }


def _line(limits: Limits, record: AccountRecord, use: DiskUse, newest_ms: int | None) -> str:
    parts = [
        f"mail {size_text(use.mail_bytes)}{limits.share(record)}; on disk {size_text(use.total_bytes)}"
        f" (database {size_text(use.database_bytes)}, log {size_text(use.log_bytes)},"
        f" search {size_text(use.search_bytes)}, inbox {size_text(use.inbox_bytes)})",
        f"{use.waiting_messages} waiting",
        *([f"{use.damaged_messages} DAMAGED"] if use.damaged_messages else []),
        "no snapshot in the store" if newest_ms is None else f"snapshot {utc_ms(newest_ms)}",
    ]
    return f"{record.name}  {', '.join(parts)}"
