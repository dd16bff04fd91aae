"""sealbox account, sealbox recovery-key. Exit codes: see deploy/cli/sentences.py."""

import os
import re
import sys
import time
from dataclasses import asdict, replace

import click

from deploy.cli.account_check import check
from deploy.cli.account_move import move, require_stays
from deploy.cli.account_rekey import rekey
from deploy.cli.account_usage import usage
from deploy.cli.account_vacuum import vacuum
from deploy.cli.asking import current_secret, new_password, opened_keyring, password_stdin_option
from deploy.cli.invite import facts_and_time, link_to_new_account
from deploy.cli.quota import Limits, account_limit, parse_limit, remark_on_zero
from deploy.cli.root import (
    EPILOG,
    EXIT_USAGE,
    Cli,
    Refusal,
    command,
    deletion_hold_days,
    find_account,
    find_account_here,
    retention_days,
)
from deploy.texts import counted, size_text, utc_s
from mailstore.account import NewAccount, account_paths, create_account, destroy_account, init_root
from mailstore.damage import GUIDE
from mailstore.directory import AccountRecord
from mailstore.errors import MailboxNameInvalid, NoSuchAccount, NotInitialised
from mailstore.former_key import waiting_messages
from mailstore.index_progress import IndexProgress, IndexState, index_progress
from mailstore.keys import Keyslot, read_header
from mailstore.model import MailboxName, Pop3Settings
from mailstore.names import for_creation, mailbox_name
from mailstore.sealed import damaged_messages

_UNKNOWN_BYTES = 32
_LOGIN_DELAY_MAX_S = 86_400
_SECONDS_PER_DAY = 86_400


@click.group(epilog=EPILOG)
def account() -> None:
    """Add, show, change and delete accounts."""


account.add_command(check)
account.add_command(account_limit)
account.add_command(move)
account.add_command(rekey)
account.add_command(usage)
account.add_command(vacuum)


@account.command(epilog=EPILOG)
@click.argument("name")
@click.option(
    "--quota",
    metavar="SIZE",
    help="Storage limit, like 500M or 2G, 'none' for no limit; else the domain's or the server's.",
)
@click.option("--invite", is_flag=True, help="Print a link behind which the user chooses the password.")
@click.option("--valid", metavar="TIME", help="How long the link works, like 24h or 7d.")
@password_stdin_option
@command
def add(cli: Cli, name: str, quota: str | None, invite: bool, valid: str | None, from_stdin: bool) -> None:
    """Make the account NAME (an address); its domain is added if it is new.

    From now on mail for it is taken and kept, sealed, until its owner first logs in. Nobody else's mail is
    touched. With --invite nobody but the user ever knows the password, and the link is the only way in until
    it is used: once it has run out, delete the account and add it again.
    """
    if "@" not in name:
        raise Refusal(f"an account's name is a whole address: type 'sealbox account add {_whole(cli, name)}'")
    quota_bytes = None if quota is None else parse_limit(quota)
    remark_on_zero(cli, quota_bytes)
    if invite:
        _add_by_link(cli, name, quota_bytes, valid)
        return
    password = new_password(from_stdin)
    init_root(cli.root)
    with cli.directory() as directory:
        record = create_account(
            cli.root, directory, NewAccount(name, password, quota_bytes), params=cli.params
        )
    cli.answer(_record_fields(Limits.of(cli), record), f"account {record.name} added")
    cli.remark("there is no way back in without the password: print a key with 'sealbox recovery-key'")


def _add_by_link(cli: Cli, name: str, quota_bytes: int | None, valid: str | None) -> None:
    facts_and_time(cli, valid)  # refuses before anything is made
    init_root(cli.root)
    # Nobody learns this password: the link replaces it.
    wanted = NewAccount(name, os.urandom(_UNKNOWN_BYTES).hex().encode("ascii"), quota_bytes)
    with cli.directory() as directory:
        made = link_to_new_account(cli, directory, wanted, valid)
    fields = {
        **_record_fields(Limits.of(cli), made.record),
        "invite": made.url,
        "invitation": made.invitation_id,
    }
    cli.answer(fields, made.url)
    cli.remark(
        f"account {made.record.name} added; invitation {made.invitation_id} is the only way in until it is"
        " used, and is not shown again"
    )


def _whole(cli: Cli, name: str) -> str:
    """What may have been meant by a name without a domain."""
    try:
        with cli.directory() as directory:
            domain = directory.default_domain()
    except NotInitialised:
        domain = None
    return f"{name}@{domain or 'example.org'}"


@account.command("list", epilog=EPILOG)
@command
def list_accounts(cli: Cli) -> None:
    """List all accounts; no mail is read or changed."""
    with cli.directory() as directory:
        records = directory.accounts()
    limits = Limits.of(cli)
    fields = [_record_fields(limits, record) for record in records]
    cli.answer({"accounts": fields}, *(_record_line(limits, record) for record in records))
    if not records:
        cli.remark("there are no accounts: 'sealbox account add ADDRESS' adds one")


@account.command(epilog=EPILOG)
@click.argument("name")
@command
def show(cli: Cli, name: str) -> None:
    """Show what the server knows about an account without its password; no mail is read or changed."""
    with cli.directory() as directory:
        record = find_account_here(cli, directory, name)
        aliases = [alias.address for alias in directory.aliases(record.account_id)]
    paths = account_paths(cli.root, record.account_id)
    slots = read_header(paths.folder).header.slots
    waiting, damaged = len(waiting_messages(paths.inbox)), len(damaged_messages(paths.inbox))
    index = index_progress(paths)
    fields = {
        **_record_fields(Limits.of(cli), record),
        "aliases": aliases,
        "pop3": asdict(record.pop3),
        "waiting_messages": waiting,
        "damaged_messages": damaged,
        "search_index": {"state": index.state.value, "indexed": index.indexed, "messages": index.messages},
        "keyslots": [slot_fields(slot) for slot in slots],
        "folder": str(paths.folder),
    }
    cli.answer(
        fields,
        _record_line(Limits.of(cli), record),
        f"folder   {paths.folder}",
        f"waiting  {waiting} sealed messages",
        *([f"damaged  {damaged} in inbox/*.damaged: see {GUIDE}"] if damaged else []),
        f"search   {_index_line(index)}",
        f"pop3     {_pop3_line(record.pop3)}",
        *(f"alias    {alias}" for alias in aliases),
        *(f"keyslot  {slot_line(slot)}" for slot in slots),
    )


@account.command("set", epilog=EPILOG)
@click.argument("name")
@click.option("--pop3-maildrop", metavar="MAILBOX", help="The mailbox that POP3 clients see; INBOX at first.")
@click.option("--pop3-retr-seen/--no-pop3-retr-seen", default=None, help="Whether RETR marks as read.")
@click.option("--pop3-dele-trash/--no-pop3-dele-trash", default=None, help="Whether DELE moves to Trash.")
@click.option(
    "--pop3-login-delay",
    metavar="SECONDS",
    help="Least time between two POP3 logins, up to a day; 'default' for what the configuration says.",
)
@command
def set_account(
    cli: Cli,
    name: str,
    pop3_maildrop: str | None,
    pop3_retr_seen: bool | None,
    pop3_dele_trash: bool | None,
    pop3_login_delay: str | None,
) -> None:
    """Change how the account NAME uses POP3, from its next login on.

    No mail is changed by that, but some settings say what becomes of mail that POP3 clients download or
    delete.
    """
    with cli.directory() as directory:
        record = find_account(directory, name)
        settings = record.pop3
        if pop3_maildrop is not None:
            settings = replace(settings, maildrop=_mailbox_name(pop3_maildrop))
        if pop3_retr_seen is not None:
            settings = replace(settings, retr_marks_seen=pop3_retr_seen)
        if pop3_dele_trash is not None:
            settings = replace(settings, dele_to_trash=pop3_dele_trash)
        if pop3_login_delay is not None:
            settings = replace(settings, login_delay_s=_login_delay(pop3_login_delay))
        directory.set_pop3(record.account_id, settings)
    fields = {"name": record.name, "pop3": asdict(settings)}
    cli.answer(fields, f"account {record.name}: pop3 {_pop3_line(settings)}")
    if pop3_maildrop is not None:
        cli.remark("the mailbox has to exist: until it does, POP3 logins are refused")


def _mailbox_name(text: str) -> MailboxName:
    try:
        return for_creation(mailbox_name(text))
    except MailboxNameInvalid:
        raise Refusal("no mailbox can have that name", EXIT_USAGE) from None


def _login_delay(text: str) -> int | None:
    if text == "default":
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _LOGIN_DELAY_MAX_S:
        raise Refusal(f"the delay is 'default' or 0 to {_LOGIN_DELAY_MAX_S} seconds", EXIT_USAGE)
    return int(text)


@account.command(epilog=EPILOG)
@click.argument("name")
@password_stdin_option
@command
def passwd(cli: Cli, name: str, from_stdin: bool) -> None:
    """Change the password; the current secret is the old password or the recovery key. No mail is changed.

    With --password-stdin the first line is the current secret, the second the new password.
    """
    with cli.directory() as directory:
        secret = current_secret(from_stdin)
        password = new_password(from_stdin)
        with opened_keyring(cli, directory, name, secret) as keyring:
            slot = keyring.change_password(password)
    cli.answer({"changed": True, "keyslot": slot.id}, "password changed")


@account.command(epilog=EPILOG)
@click.argument("name")
@command
def disable(cli: Cli, name: str) -> None:
    """Refuse logins and new mail for an account, and end its sessions; the mail it has stays as it is."""
    _set_disabled(cli, name, True)


@account.command(epilog=EPILOG)
@click.argument("name")
@command
def enable(cli: Cli, name: str) -> None:
    """Allow logins and new mail again; the mail of before is there as it was."""
    _set_disabled(cli, name, False)


@account.command(epilog=EPILOG)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--confirm-hold", is_flag=True, help="Delete it although it is held, as young accounts may be.")
@command
def delete(cli: Cli, name: str, yes: bool, confirm_hold: bool) -> None:
    """Delete an account with all its mail: keys first, then every file.

    In its first days ([accounts] deletion_hold_days, off by default) an account is held: who abuses a server
    likes to remove the traces, so it takes --confirm-hold then.

    The answer says what is left (snapshots in the backup store) and until when. Until then the backup private
    key can restore it: 'sealbox restore NAME --private-key FILE'. Without snapshots nothing can.
    """
    with cli.directory() as directory:
        record = find_account_here(cli, directory, name)
        require_stays(directory, record)
        if not confirm_hold:
            _require_no_hold(cli, record)
        if not yes:
            _confirm(record)
        done = destroy_account(cli.root, directory, record.account_id, retention_days=retention_days(cli))
    left = [{"what": rest.what, "until": rest.until, "until_utc": utc_s(rest.until)} for rest in done.left]
    fields = {
        "deleted": record.name,
        "account": done.account_id,
        "files_removed": done.files_removed,
        "bytes_removed": done.bytes_removed,
        "left": left,
    }
    cli.answer(
        fields,
        f"account {record.name} deleted: {counted(done.files_removed, 'file')},"
        f" {size_text(done.bytes_removed)}",
        *(f"left: {rest.what}, until {utc_s(rest.until)} at the latest" for rest in done.left),
    )


def _require_no_hold(cli: Cli, record: AccountRecord) -> None:
    """Raises Refusal: the account is too young to go without another word of the operator."""
    free_from = record.created + deletion_hold_days(cli) * _SECONDS_PER_DAY
    if free_from > record.created and time.time() < free_from:
        raise Refusal(
            f"the account is held until {utc_s(int(free_from))} ([accounts] deletion_hold_days), so that"
            " reports of abuse still find it: 'sealbox account disable' keeps its user out, and"
            " --confirm-hold deletes it now"
        )


@click.command("recovery-key", epilog=EPILOG)
@click.argument("name")
@password_stdin_option
@command
def recovery_key(cli: Cli, name: str, from_stdin: bool) -> None:
    """Make a recovery key and print it, once; the previous one stops working. No mail is changed.

    Whoever has it can read all mail of the account, also without the password.
    """
    with cli.directory() as directory:
        secret = current_secret(from_stdin)
        with opened_keyring(cli, directory, name, secret) as keyring:
            made = keyring.replace_recovery_key()
    text = made.printed.text()
    cli.answer({"recovery_key": text, "keyslot": made.slot.id}, text)
    cli.remark("write it down now: it is not shown again, and it opens the account without the password")


def slot_fields(slot: Keyslot) -> dict[str, object]:
    """A keyslot for JSON; times are epoch seconds, ``protocols`` null means all."""
    protocols = slot.scope.protocols
    return {
        "id": slot.id,
        "kind": slot.kind.value,
        "label": slot.label,
        "created": slot.created,
        "protocols": None if protocols is None else sorted(protocols),
        "read_only": slot.scope.read_only,
        "not_after": slot.scope.not_after,
    }


def slot_line(slot: Keyslot) -> str:
    """A keyslot as text for people."""
    scope = slot.scope
    limits = ["all protocols" if scope.protocols is None else ", ".join(sorted(scope.protocols))]
    limits += ["read-only"] if scope.read_only else []
    if scope.not_after is not None:
        ended = "ENDED " if scope.not_after < time.time() else "until "
        limits.append(ended + utc_s(scope.not_after))
    return f"{slot.id}  {slot.kind.value:12}  {utc_s(slot.created)}  {slot.label!r}  ({'; '.join(limits)})"


def _set_disabled(cli: Cli, name: str, disabled: bool) -> None:
    with cli.directory() as directory:
        record = find_account(directory, name)
        directory.set_disabled(record.account_id, disabled)
    state = "disabled" if disabled else "enabled"
    cli.answer({"name": record.name, "disabled": disabled}, f"account {record.name} {state}")


def _confirm(record: AccountRecord) -> None:
    if not sys.stdin.isatty():
        raise Refusal("there is no terminal to ask on: use --yes", EXIT_USAGE)
    if click.prompt(f"Type the name to delete {record.name} for good", err=True) != record.name:
        raise NoSuchAccount


def _record_fields(limits: Limits, record: AccountRecord) -> dict[str, object]:
    return {
        "account": record.account_id,
        "name": record.name,
        "created": record.created,
        **limits.fields(record),
        "disabled": record.disabled,
        **_node_fields(record),
    }


def _node_fields(record: AccountRecord) -> dict[str, object]:
    """Nothing where the server has no name."""
    return {} if record.node is None else {"node": record.node, "node_generation": record.node_generation}


def _pop3_line(settings: Pop3Settings) -> str:
    parts = [f"maildrop {settings.maildrop}"]
    parts += ["RETR marks as read"] if settings.retr_marks_seen else []
    parts += ["DELE moves to Trash" if settings.dele_to_trash else "DELE removes for good"]
    parts += [] if settings.login_delay_s is None else [f"a login every {settings.login_delay_s} s at most"]
    return "; ".join(parts)


def _index_line(index: IndexProgress) -> str:
    match index.state:
        case IndexState.NONE:
            return "no index yet: it is made while the account is open"
        case IndexState.PARTIAL if index.messages is None:
            return "some messages are not indexed yet"
        case IndexState.PARTIAL:
            return f"{index.indexed} of {index.messages} messages are indexed; more while the account is open"
        case IndexState.COMPLETE:
            return "all messages were indexed when the index was last filled"


def _record_line(limits: Limits, record: AccountRecord) -> str:
    state = "  disabled" if record.disabled else ""
    state += "" if record.node is None else f"  node {record.node} ({record.node_generation})"
    return f"{record.name}  {record.account_id}  {limits.text(record)}  since {utc_s(record.created)}{state}"
