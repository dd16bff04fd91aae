"""sealbox invite. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

import click

from deploy import config as configuration
from deploy.cli.asking import current_secret, opened_keyring, password_stdin_option, protocol_option
from deploy.cli.root import EPILOG, EXIT_USAGE, Cli, Refusal, command, find_account
from deploy.texts import utc_s
from mailstore.account import NewAccount
from mailstore.directory import AccountRecord, Directory
from mailstore.invitation_files import invitations
from mailstore.invitations import create_account_for_owner, invite, withdraw
from mailstore.keys import Invitation, InvitationFacts, Scope, SlotId
from mailstore.model import AccessProtocol
from protocols.https.facts import INVITE, WELCOME, SetupFacts, link

_VALID = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}
VALID_MAX_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Made:
    """A new account, and the link to it."""

    record: AccountRecord
    invitation_id: SlotId
    url: str = field(repr=False)


@click.command("invite", epilog=EPILOG)
@click.argument("name", required=False)
@click.option("--valid", metavar="TIME", help="How long the link works, like 30m, 24h or 7d; up to 30d.")
@click.option("--label", default="invitation", show_default=True, help="What the app password is called.")
@protocol_option("the app password")
@click.option("--read-only", is_flag=True, help="The app password may read only.")
@click.option("--list", "listing", is_flag=True, help="List invitations, of the account NAME or of all.")
@click.option("--revoke", metavar="ID", help="Make the link with that ID useless; needs no password.")
@password_stdin_option
@command
def invite_command(
    cli: Cli,
    name: str | None,
    valid: str | None,
    label: str,
    protocols: tuple[str, ...],
    read_only: bool,
    listing: bool,
    revoke: str | None,
    from_stdin: bool,
) -> None:
    """Print a link that gives one device its settings and an app password of the account NAME.

    The link works once, and for a day unless --valid says otherwise. It needs the HTTPS door (https in
    [listen]). Whoever has the link can use it: send it where only the user reads it. Nothing happens to the
    mail.
    """
    if listing:
        _list(cli, name)
    elif revoke is not None:
        withdraw(cli.root, SlotId(revoke.lower()))
        cli.answer({"revoked": revoke.lower()}, f"invitation {revoke.lower()} revoked")
    elif name is None:
        raise Refusal("name the account that is to get a link, or use --list or --revoke", EXIT_USAGE)
    else:
        facts, valid_s = facts_and_time(cli, valid)
        wanted = frozenset(AccessProtocol(one) for one in protocols)
        _require_offered(facts, wanted)
        scope = Scope(wanted or None, read_only)
        with cli.directory() as directory:
            secret = current_secret(from_stdin)
            with opened_keyring(cli, directory, name, secret) as keyring:
                now = int(time.time())
                token = invite(keyring, InvitationFacts(label, now, now + valid_s, scope))
        url = link(facts, token.text(), INVITE)
        cli.answer({"invite": url, "id": token.id, "not_after": now + valid_s}, url)
        cli.remark(f"invitation {token.id}; the link is not shown again")


def _require_offered(facts: SetupFacts, wanted: frozenset[AccessProtocol]) -> None:
    """Raises Refusal: a link cannot set up what the server does not offer."""
    missing = ", ".join(sorted(one.value for one in wanted - facts.offered))
    if missing:
        raise Refusal(f"not offered here: {missing}; its port in [setup] is 0", EXIT_USAGE)


def _list(cli: Cli, name: str | None) -> None:
    with cli.directory() as directory:
        account_id = None if name is None else find_account(directory, name).account_id
        names = {record.account_id: record.name for record in directory.accounts()}
    found = [one for one in invitations(cli.root, account_id) if one.not_after >= time.time()]
    cli.answer(
        {"invitations": [_fields(one, names.get(one.account_id)) for one in found]},
        *(_line(one, names.get(one.account_id, "?")) for one in found),
    )
    if not found:
        cli.remark("there are no invitations: 'sealbox invite ACCOUNT' makes one")


def _fields(one: Invitation, name: str | None) -> dict[str, object]:
    protocols = one.scope.protocols
    return {
        "id": one.id,
        "name": name,
        "label": one.label,
        "created": one.created,
        "not_after": one.not_after,
        "protocols": None if protocols is None else sorted(protocols),
        "read_only": one.scope.read_only,
        "new_account": one.replaces is not None,
    }


def _line(one: Invitation, name: str) -> str:
    return f"{one.id}  {name}  {one.label!r}  until {utc_s(one.not_after)}"


def facts_and_time(cli: Cli, valid: str | None) -> tuple[SetupFacts, int]:
    """How the door is called, and for how many seconds a link works.

    Raises:
        Refusal: the configuration cannot be used, or has no door; no such time.
    """
    try:
        config = configuration.load(cli.config_path)
    except configuration.ConfigError:
        raise Refusal("a link needs the configuration: see 'sealbox check-config'", EXIT_USAGE) from None
    if not config.listen.https:
        raise Refusal(
            "there is no HTTPS door to open a link: set 'https' in [listen] and restart", EXIT_USAGE
        )
    if valid is None:
        return config.setup_facts, config.door.setup.invitation_valid_s
    read = _VALID.fullmatch(valid)
    seconds = int(read[1]) * _UNITS_S[read[2]] if read else 0
    if not 0 < seconds <= VALID_MAX_S:
        raise Refusal("--valid is a time like 30m, 24h or 7d, up to 30d", EXIT_USAGE)
    return config.setup_facts, seconds


def link_to_new_account(cli: Cli, directory: Directory, wanted: NewAccount, valid: str | None) -> Made:
    """Make an account whose password its owner chooses behind a link; forget the one in ``wanted``.

    Raises:
        Refusal: as ``facts_and_time``; nothing was made.
    """
    facts, valid_s = facts_and_time(cli, valid)
    not_after = int(time.time()) + valid_s
    record, token = create_account_for_owner(cli.root, directory, wanted, not_after, params=cli.params)
    return Made(record, token.id, link(facts, token.text(), WELCOME))
