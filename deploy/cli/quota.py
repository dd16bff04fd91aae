"""sealbox account limit, sealbox domain limit. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click

from deploy.cli.root import EPILOG, EXIT_USAGE, Cli, Refusal, command, find_account, mail_limits
from deploy.texts import counted, size_text
from mailstore.directory import NO_QUOTA, AccountRecord, DomainLimits

_SIZE = re.compile(r"([0-9]{1,12})([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_NONE, _DEFAULT = "none", "default"


def parse_size(text: str) -> int:
    """Bytes of a size like 500M. Raises Refusal."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Refusal("that is not a size: write it like 500M or 2G", EXIT_USAGE)
    size = int(match[1]) * _UNITS[match[2].lower()]
    if size >= NO_QUOTA:
        raise Refusal("that is more than any disk has: write it like 500M or 2G", EXIT_USAGE)
    return size


def parse_limit(text: str) -> int | None:
    """A storage limit: bytes, ``NO_QUOTA``, or None for what the level above says. Raises Refusal."""
    if text == _DEFAULT:
        return None
    if text == _NONE:
        return NO_QUOTA
    if _SIZE.fullmatch(text) is None:
        raise Refusal(
            "that is not a size: write it like 500M or 2G, 'none' for no limit, or 'default' for what the"
            " level above says",
            EXIT_USAGE,
        )
    return parse_size(text)


def remark_on_zero(cli: Cli, quota_bytes: int | None) -> None:
    """Say what 0 means: somebody may have taken it for no limit."""
    if quota_bytes == 0:
        cli.remark("with a limit of 0 no mail is taken; 'none' is no limit")


@dataclass(frozen=True, slots=True)
class Limits:
    """Says which storage limit counts for an account."""

    server_bytes: int | None
    """The server's, for those that have none, nor does their domain."""

    @classmethod
    def of(cls, cli: Cli) -> Limits:
        """By the configuration."""
        return cls(mail_limits(cli)[0].quota_bytes)

    def fields(self, record: AccountRecord) -> dict[str, object]:
        """For JSON: the account's own limit, the one that counts (null for none), and who has set that."""
        return {
            "quota_bytes": None if record.quota_bytes == NO_QUOTA else record.quota_bytes,
            "limit_bytes": record.limit_bytes(self.server_bytes),
            "limit_from": self._set_by(record),
        }

    def text(self, record: AccountRecord) -> str:
        """The same for people."""
        limit, set_by = record.limit_bytes(self.server_bytes), self._set_by(record)
        text = "no limit" if limit is None else size_text(limit)
        return text if set_by in (None, "account") else f"{text} (by its {set_by})"

    def share(self, record: AccountRecord) -> str:
        """What is said behind how much there is; nothing without a limit."""
        return "" if record.limit_bytes(self.server_bytes) is None else f" of {self.text(record)}"

    def _set_by(self, record: AccountRecord) -> str | None:
        levels = (
            ("account", record.quota_bytes),
            ("domain", record.domain_quota_bytes),
            ("server", self.server_bytes),
        )
        return next((name for name, level in levels if level is not None), None)


def domain_limit_text(limits: DomainLimits) -> str:
    """What a domain may have, for people."""
    parts = [f"{_quota_text(limits.quota_bytes)} for each account without its own"]
    parts += [] if limits.accounts is None else [f"{counted(limits.accounts, 'account')} at most"]
    parts += [] if limits.aliases is None else [f"{counted(limits.aliases, 'alias', 'aliases')} at most"]
    return ", ".join(parts)


def _quota_text(quota_bytes: int | None) -> str:
    if quota_bytes is None:
        return "the server's quota"
    return "no limit" if quota_bytes == NO_QUOTA else size_text(quota_bytes)


def domain_limit_fields(limits: DomainLimits) -> dict[str, object]:
    """The same for JSON; null is no limit of the domain's."""
    return asdict(limits) | {"quota_bytes": None if limits.quota_bytes == NO_QUOTA else limits.quota_bytes}


def _quota_option(*, required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--quota",
        "quota",
        metavar="SIZE",
        required=required,
        help="Like 500M or 2G; 'none' for no limit; 'default' for what the level above says.",
    )


def _parse_number(text: str) -> int | None:
    if text == _NONE:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(f"not a number: {text!r}; write it like 25, or 'none' for no limit", EXIT_USAGE)
    return int(text)


@click.command("limit", epilog=EPILOG)
@click.argument("name")
@_quota_option(required=True)
@command
def account_limit(cli: Cli, name: str, quota: str) -> None:
    """Set how much mail the account NAME may have, at once; no mail that is there is removed.

    What counts is the account's own limit, else that of the domain ('sealbox domain limit'), else the
    server's ([store] quota_bytes). A full account is told so when it stores mail, and senders try again for
    days.
    """
    wanted = parse_limit(quota)
    with cli.directory() as directory:
        account_id = find_account(directory, name).account_id
        directory.set_quota(account_id, wanted)
        record = find_account(directory, name)
    limits = Limits.of(cli)
    fields = {"name": record.name, **limits.fields(record)}
    cli.answer(fields, f"account {record.name}: {limits.text(record)}")
    remark_on_zero(cli, wanted)


@click.command("limit", epilog=EPILOG)
@click.argument("name")
@_quota_option(required=False)
@click.option("--accounts", metavar="N", help="How many accounts it may have; 'none' for no limit.")
@click.option("--aliases", metavar="N", help="How many aliases it may have; 'none' for no limit.")
@command
def domain_limit(cli: Cli, name: str, quota: str | None, accounts: str | None, aliases: str | None) -> None:
    """Limit the domain NAME: how much mail each account may have, how many accounts and aliases there may be.

    Nothing that is there is removed, no mail, account or alias, even if it is more: only more of it is
    refused. Accounts with a storage limit of their own ('sealbox account limit') keep that.
    """
    wanted: dict[str, int | None] = {}
    if quota is not None:
        wanted["quota_bytes"] = parse_limit(quota)
    if accounts is not None:
        wanted["accounts"] = _parse_number(accounts)
    if aliases is not None:
        wanted["aliases"] = _parse_number(aliases)
    if not wanted:
        raise Refusal("say what to limit: --quota SIZE, --accounts N or --aliases N", EXIT_USAGE)
    with cli.directory() as directory:
        limits = directory.limit_domain(name, **wanted)
    cli.answer({"name": name, **domain_limit_fields(limits)}, f"domain {name}: {domain_limit_text(limits)}")
    remark_on_zero(cli, wanted.get("quota_bytes"))
