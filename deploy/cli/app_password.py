"""sealbox app-password. Exit codes: see deploy/cli/sentences.py."""

import datetime
import time
from collections.abc import Iterable

import click

from deploy.cli.account import slot_fields, slot_line
from deploy.cli.asking import current_secret, opened_keyring, password_stdin_option, protocol_option
from deploy.cli.root import EPILOG, Cli, Refusal, command, find_account_here
from mailstore.account import account_paths
from mailstore.errors import NoSuchKeyslot
from mailstore.keys import Keyslot, Scope, SlotId, SlotKind, read_header
from mailstore.model import AccessProtocol

_SECONDS_PER_DAY = 86_400


@click.group("app-password", epilog=EPILOG)
def app_password() -> None:
    """Add, list and revoke app passwords."""


@app_password.command(epilog=EPILOG)
@click.argument("name")
@click.option("--label", required=True, help="What it is for, like 'phone'.")
@protocol_option("it")
@click.option("--read-only", is_flag=True, help="It may read only.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Its last day, UTC.")
@password_stdin_option
@command
def add(
    cli: Cli,
    name: str,
    label: str,
    protocols: tuple[str, ...],
    read_only: bool,
    until: datetime.datetime | None,
    from_stdin: bool,
) -> None:
    """Make an app password for the account NAME and print it, once: it opens the mail as far as it may."""
    not_after = None
    if until is not None:
        not_after = int(until.replace(tzinfo=datetime.UTC).timestamp()) + _SECONDS_PER_DAY - 1
        if not_after < time.time():
            raise click.BadParameter("that day is over (UTC): choose a later one", param_hint="'--until'")
    allowed = frozenset(AccessProtocol(protocol) for protocol in protocols) or None
    with cli.directory() as directory:
        secret = current_secret(from_stdin)
        with opened_keyring(cli, directory, name, secret) as keyring:
            same = _labelled(keyring.slots(), label)
            made = keyring.add_app_password(label, Scope(allowed, read_only, not_after))
    text = made.printed.text()
    cli.answer({"app_password": text, **slot_fields(made.slot)}, text)
    cli.remark(f"keyslot {made.slot.id}; the app password is not shown again")
    if same:
        cli.remark(
            f"other app passwords are labelled so, too: {', '.join(same)}; what is not in use any more:"
            " 'sealbox app-password revoke'"
        )


@app_password.command("list", epilog=EPILOG)
@click.argument("name")
@command
def list_app_passwords(cli: Cli, name: str) -> None:
    """List the app passwords of the account NAME; needs no secret, shows none, and reads no mail."""
    with cli.directory() as directory:
        record = find_account_here(cli, directory, name)
    slots = _app_passwords(read_header(account_paths(cli.root, record.account_id).folder).header.slots)
    cli.answer({"app_passwords": [slot_fields(slot) for slot in slots]}, *map(slot_line, slots))
    if not slots:
        cli.remark(
            f"there are no app passwords: 'sealbox app-password add {record.name} --label LABEL' adds one"
        )


def _app_passwords(slots: Iterable[Keyslot]) -> list[Keyslot]:
    return [slot for slot in slots if slot.kind is SlotKind.APP_PASSWORD]


def _labelled(slots: Iterable[Keyslot], label: str) -> list[str]:
    """The ids of the app passwords with this label."""
    return [slot.id for slot in _app_passwords(slots) if slot.label == label]


@app_password.command(epilog=EPILOG)
@click.argument("name")
@click.argument("keyslot")
@password_stdin_option
@command
def revoke(cli: Cli, name: str, keyslot: str, from_stdin: bool) -> None:
    """Revoke the app password with the id KEYSLOT (its first two groups) at once; no mail is changed.

    It takes the password or the recovery key. Sessions that have logged in with it are ended.
    """
    slot_id = SlotId(keyslot.replace("-", "").lower())
    with cli.directory() as directory:
        record = find_account_here(cli, directory, name)
        # Before a secret is asked for; nothing is believed of it that is not seen again below.
        slots = read_header(account_paths(cli.root, record.account_id).folder).header.slots
        labelled = _labelled(slots, keyslot)
        if labelled and all(slot.id != slot_id for slot in slots):
            raise Refusal(f"{keyslot!r} is a label, and one is revoked by its id: {', '.join(labelled)}")
        secret = current_secret(from_stdin)
        with opened_keyring(cli, directory, name, secret) as keyring:
            if all(slot.id != slot_id or slot.is_owner for slot in keyring.slots()):
                raise NoSuchKeyslot
            keyring.revoke(slot_id)
    cli.answer({"revoked": slot_id}, f"app password {slot_id} revoked")
