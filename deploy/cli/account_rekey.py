"""sealbox account rekey. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import time

import click

from deploy.cli.account_vacuum import PATIENCE_S, damaged, no_room
from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.root import (
    EPILOG,
    EXIT_BUSY,
    EXIT_SECRET,
    Cli,
    Refusal,
    command,
    find_account_here,
    mail_limits,
    retention_days,
)
from deploy.cli.snapshot_store import has_snapshots
from deploy.texts import counted, size_text, utc_s
from mailstore import rekeying
from mailstore.account import account_paths
from mailstore.directory import AccountRecord, Directory
from mailstore.errors import (
    AccountDisabled,
    AuthenticationFailed,
    Busy,
    DatabaseDamaged,
    KeysChanged,
    ScopeDenied,
    StoreError,
)
from mailstore.invitation_files import invitations
from mailstore.keys import SlotKind, process_hardening, read_header
from mailstore.opened_account import Wanted, opened_account
from mailstore.rekeying import KeyslotsChanged, NotThePassword, Rekeyed, app_passwords
from mailstore.rewriting import NoRoomToRewrite

_SECONDS_PER_DAY = 86_400


@click.command(epilog=EPILOG)
@click.argument("name")
@password_stdin_option
@command
def rekey(cli: Cli, name: str, from_stdin: bool) -> None:
    """Give the account NAME a new master key, after its old one may have become known; no mail is changed.

    The old one opens nothing that is stored from then on. The password stays as it is and is asked for. All
    app passwords and links of invitations stop working, and so does the recovery key: if there was one, a new
    one is printed, once. Older snapshots stay as they are, under the old key, until they expire.

    The database is written anew under the new key and compared with the old one; if it is interrupted, the
    account has its old keys or its new ones, and running it again is right in both cases. The server may run:
    the account's sessions are ended and can log in again when it is done, some 30 seconds for each gigabyte;
    mail is delivered meanwhile. It needs as much free space as the account takes.
    """
    process_hardening()
    with cli.directory() as directory:
        record = find_account_here(cli, directory, name)
        _announce(cli, record)
        secret = current_secret(from_stdin)
        done = _rekeyed(cli, directory, record, secret)
    _answer(cli, record, done)
    _file_waiting(cli, record, secret)


def _announce(cli: Cli, record: AccountRecord) -> None:
    """Say what will stop working, before a secret is asked for."""
    header = read_header(account_paths(cli.root, record.account_id).folder).header
    labels = app_passwords(header)
    if labels:
        cli.remark(f"once the password is given, these app passwords stop working: {', '.join(labels)}")
    if any(slot.kind is SlotKind.RECOVERY_KEY for slot in header.slots):
        cli.remark("once the password is given, the recovery key stops working, and a new one is printed")
    links = len(invitations(cli.root, record.account_id))
    if links:
        cli.remark(f"once the password is given, {counted(links, 'link')} of invitations will lead nowhere")


def _rekeyed(cli: Cli, directory: Directory, record: AccountRecord, secret: bytes) -> Rekeyed:
    try:
        return rekeying.rekey_account(cli.root, directory, record, secret, cli.params, PATIENCE_S)
    except NotThePassword:
        raise Refusal(
            "that is the recovery key, and this needs the password, which would be lost: choose one with"
            " 'sealbox account passwd' first; nothing was changed",
            EXIT_SECRET,
        ) from None
    except (AccountDisabled, ScopeDenied):
        raise
    except AuthenticationFailed:
        raise Refusal("that is not the account's password; nothing was changed", EXIT_SECRET) from None
    except KeyslotsChanged:
        raise Refusal(
            "somebody has changed the account's app passwords or other keyslots meanwhile: run it again;"
            " nothing was changed",
            EXIT_BUSY,
        ) from None
    except NoRoomToRewrite as error:
        raise no_room(cli, error) from None
    except KeysChanged:
        raise  # no session is to be waited for
    except Busy:
        raise Refusal(
            "the account's sessions, a snapshot of it or another change of its keys did not end in time: try"
            " again, or stop the server; nothing was changed",
            EXIT_BUSY,
        ) from None
    except DatabaseDamaged:
        raise damaged() from None


def _file_waiting(cli: Cli, record: AccountRecord, secret: bytes) -> None:
    """Open the account as a login does, and file what has arrived: then the old private key goes, too."""
    try:
        with opened_account(
            Wanted(cli.root, record.name, secret, cli.params, *mail_limits(cli)), writes=True
        ) as account:
            account.file_waiting()
    except StoreError:
        cli.remark("mail that arrived before still waits, sealed to the old key: the next login files it")


def _answer(cli: Cli, record: AccountRecord, done: Rekeyed) -> None:
    until = int(time.time() + retention_days(cli) * _SECONDS_PER_DAY) if has_snapshots(cli.root) else None
    recovery_key = None if done.recovery_key is None else done.recovery_key.text()
    fields = {
        "account": record.account_id,
        "name": record.name,
        "size_bytes": done.size_bytes,
        "revoked_app_passwords": done.revoked,
        "revoked_invitations": done.invitations,
        "recovery_key": recovery_key,
        "finished": done.is_finished,
        "old_snapshots_until": until,
    }
    lines = [f"{record.name}: new master key, {size_text(done.size_bytes)} written anew"]
    if done.revoked:
        lines.append(f"app passwords revoked: {', '.join(done.revoked)}")
        lines.append(f"make new ones: sealbox app-password add {record.name} --label LABEL")
    if done.invitations:
        lines.append(f"links of invitations revoked: {done.invitations}")
    if recovery_key is not None:
        lines.append(f"new recovery key, shown only now: {recovery_key}")
    cli.answer(fields, *lines)
    if not done.is_finished:
        cli.remark("the last step failed, most likely at the disk: the next login tries it again")
    if until is not None:
        cli.remark(
            "snapshots taken before, and what restores have set aside, open with the old key until they"
            f" expire, by {utc_s(until)}; the next snapshot takes the whole account once more"
        )
