"""What all POP3 sessions share, what they ask of the store, and how a command is refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mailstore.errors import StoreError
from mailstore.model import MaildropId, MaildropListing
from mailstore.uidset import UidSet
from protocols.access_log import AccessLog
from protocols.errors import Meaning, meaning_of
from protocols.limits import Pop3Limits
from protocols.login import LoginGuard
from protocols.store_api import AccountApi, MailboxApi

log = logging.getLogger("sealbox.pop3")


class MaildropApi(MailboxApi, Protocol):
    """A mailbox as POP3 uses it."""

    async def maildrop(self) -> MaildropListing:
        """All messages, oldest first."""

    async def maildrop_ids(self, uids: UidSet) -> tuple[MaildropId, ...]:
        """What identifies those messages that are still there."""

    async def mark_seen(self, uids: UidSet) -> None:
        """Set ``\\Seen``; messages gone already do not matter. Raises ReadOnly."""

    async def remove(self, uids: UidSet) -> None:
        """Remove messages whatever their flags; those gone already do not matter. Raises ReadOnly."""

    async def discard(self, uids: UidSet) -> None:
        """As ``remove``, into the mailbox for deleted messages. Raises ReadOnly, LimitExceeded."""


@dataclass(frozen=True, slots=True)
class Pop3Services:
    """What all sessions of a server share. ``tls`` is None where STLS cannot be offered.

    ``random(n)`` returns n random bytes.
    """

    login: LoginGuard
    access_log: AccessLog
    clock: Any
    tls: Any = None
    limits: Pop3Limits = field(default_factory=Pop3Limits)
    random: Callable[[int], bytes] = os.urandom

    def login_delay_s(self, account: AccountApi) -> int:
        """Least time between two logins to ``account`` (RFC 2449 section 6.5); 0 for none."""
        own = account.pop3.login_delay_s
        return self.limits.login_delay_s if own is None else own

    async def largest_login_delay_s(self) -> int:
        """The longest that applies to any account. Raises StoreError."""
        return max(self.limits.login_delay_s, await self.login.largest_pop3_delay_s())


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is said behind -ERR; ``code`` is a response code (RFC 2449 section 8, RFC 3206)."""

    text: bytes
    code: bytes = b""

    @property
    def wire(self) -> bytes:
        """The line with its CRLF."""
        code = b"[%s] " % self.code if self.code else b""
        return b"-ERR %s%s\r\n" % (code, self.text)


class Refused(Exception):
    """Ends a command with -ERR."""

    def __init__(self, text: bytes, code: bytes = b"") -> None:
        super().__init__(text.decode("ascii"))
        self.refusal = Refusal(text, code)


class Hangup(Exception):
    """The connection has to end without another word: the middle of a response cannot be finished."""


_REFUSALS: dict[Meaning, Refusal] = {
    Meaning.LOGIN_FAILED: Refusal(b"wrong name or secret", b"AUTH"),
    Meaning.TRY_LATER: Refusal(b"try again later", b"SYS/TEMP"),
    Meaning.IN_USE: Refusal(b"the maildrop is in use, try again", b"IN-USE"),
    Meaning.ENDED: Refusal(b"this session has been ended, please log in again", b"SYS/TEMP"),
    Meaning.READ_ONLY: Refusal(b"only reading is allowed"),
    Meaning.NO_MESSAGE: Refusal(b"the message is gone"),
}
EVERYDAY_CODES = (b"", b"LOGIN-DELAY")
"""Codes of refusals that are normal; those without a code are, too."""
_FAULT = Refusal(b"internal error", b"SYS/PERM")


def refusal_of(error: StoreError) -> Refusal:
    """The answer to a failure of the store; whatever POP3 cannot cause is a server problem."""
    return _REFUSALS.get(meaning_of(error), _FAULT)
