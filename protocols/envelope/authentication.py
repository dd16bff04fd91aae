"""AUTH (RFC 4954): who the peer is, asked of the guard that every login passes.

What cannot be checked now is answered 454, so that the client tries again later and does not ask for another
password.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols.envelope import replies
from protocols.envelope import requests as ask
from protocols.envelope.replies import Reply
from protocols.errors import is_for_operator
from protocols.login import LoginGuard
from protocols.redact import correlation_id, incident
from protocols.sasl import (
    MECHANISMS,
    Credentials,
    OtherIdentity,
    SaslError,
    decode_response,
    encode_challenge,
    read_credentials,
)

log = logging.getLogger("sealbox.login")

COMMAND = "AUTH"


@dataclass(frozen=True, slots=True)
class Logins:
    """Who checks passwords. ``protocol`` is the scope that an app password needs."""

    guard: LoginGuard
    protocol: AccessProtocol

    @property
    def capability(self) -> bytes:
        """What EHLO and LHLO are told (RFC 4954 section 3)."""
        return b"AUTH " + b" ".join(MECHANISMS)


class Refused(Exception):
    """The exchange cannot go on; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Authentication:
    """The logins of one connection.

    ``send`` sends a reply, and ``next_line`` gives the line that answers it; the latter raises Refused.
    """

    def __init__(
        self,
        logins: Logins,
        send: Callable[[Reply], Awaitable[None]],
        next_line: Callable[[], Awaitable[bytes]],
    ) -> None:
        self.user: str | None = None
        """The account that the peer has proved to be."""
        self._logins = logins
        self._send = send
        self._next_line = next_line
        self._failures = 0

    @property
    def is_over(self) -> bool:
        """Whether there were so many failures that the connection has to end."""
        return self._failures >= self._logins.guard.limits.attempts_per_connection_max

    async def run(self, request: ask.Auth, address: str) -> Reply:
        """One AUTH of a client at ``address``; the reply that ends it."""
        mechanism = MECHANISMS.get(request.mechanism)
        if self.user is not None:
            return replies.AUTH_ALREADY
        if mechanism is None:
            return replies.UNKNOWN_MECHANISM
        try:
            credentials = await read_credentials(mechanism(), request.initial, self._ask)
        except Refused as error:
            reply = error.reply
        except OtherIdentity:
            reply = replies.WRONG_CREDENTIALS
        except SaslError:
            reply = replies.BAD_RESPONSE
        else:
            reply = await self._proved(credentials, address)
        self._failures += reply.code >= 500
        return reply

    async def _ask(self, challenge: bytes) -> bytes:
        await self._send(Reply(334, b"", encode_challenge(challenge)))
        line = await self._next_line()
        if line == b"*":
            raise Refused(replies.AUTH_CANCELLED)
        return decode_response(line)

    async def _proved(self, credentials: Credentials, address: str) -> Reply:
        name, secret = credentials.name, credentials.secret
        try:
            self.user = await self._logins.guard.prove(address, name, secret, self._logins.protocol)
        except AuthenticationFailed:
            return replies.WRONG_CREDENTIALS
        except CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001  # the peer gets a temporary reply, the log a trace
            if is_for_operator(exc):
                log.error("%s", incident(COMMAND.encode("ascii"), correlation_id(), None, exc))
            return replies.CANNOT_CHECK_NOW
        return replies.AUTHENTICATED
