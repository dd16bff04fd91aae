"""The AUTHORIZATION state (RFC 1939 section 4): USER and PASS, AUTH (RFC 5034), and opening the maildrop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mailstore.errors import AuthenticationFailed, NoSuchMailbox
from mailstore.model import AccessProtocol
from protocols.pop3 import requests as ask
from protocols.pop3.context import Pop3Services, Refused, log
from protocols.pop3.retrieval import Sender
from protocols.pop3.transaction import Transaction, open_maildrop
from protocols.sasl import (
    MECHANISMS,
    Credentials,
    SaslError,
    decode_response,
    encode_challenge,
    read_credentials,
)
from protocols.scram import SCRAM, SCRAM_PLUS
from protocols.scram_login import ScramLogin
from protocols.store_api import AccountApi
from protocols.transport import Channel


class Authorization:
    """The logins of one session. ``next_line`` gives the line that answers a challenge."""

    def __init__(
        self,
        channel: Channel,
        services: Pop3Services,
        sender: Sender,
        next_line: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._channel = channel
        self._services = services
        self._sender = sender
        self._next_line = next_line
        self._user: bytes | None = None
        self._failures = 0

    @property
    def is_over(self) -> bool:
        """Whether there were so many failures that the connection has to end."""
        return self._failures >= self._services.login.limits.attempts_per_connection_max

    def mechanisms(self) -> tuple[bytes, ...]:
        """The SASL mechanisms that this connection is told of."""
        if not self._services.login.limits.list_scram:
            return tuple(MECHANISMS)
        bound = (SCRAM_PLUS,) if self._channel.channel_binding() is not None else ()
        return (*MECHANISMS, SCRAM, *bound)

    def user(self, name: bytes) -> None:
        """USER: does not reveal whether the name exists."""
        self._user = name

    async def password(self, secret: bytes) -> Transaction:
        """PASS. Raises Refused, StoreError."""
        user, self._user = self._user, None
        if user is None:
            raise Refused(b"USER first")
        return await self._enter(self._log_in(Credentials(user, secret)))

    async def sasl(self, request: ask.Auth) -> Transaction:
        """AUTH with or without initial response; the client may abort with ``*`` (RFC 5034 section 4).

        Raises Refused, StoreError.
        """
        return await self._enter(self._authenticated(request))

    async def _authenticated(self, request: ask.Auth) -> AccountApi:
        services, binding = self._services, self._channel.channel_binding()
        if request.mechanism == SCRAM or (request.mechanism == SCRAM_PLUS and binding is not None):
            login = ScramLogin(
                services.login,
                AccessProtocol.POP3,
                self._channel.address,
                self._ask,
                binding,
                services.random,
            )
            return await login.run(request.mechanism, request.initial)
        mechanism = MECHANISMS.get(request.mechanism)
        if mechanism is None:
            raise Refused(b"mechanism not supported")
        return await self._log_in(await read_credentials(mechanism(), request.initial, self._ask))

    async def _ask(self, challenge: bytes) -> bytes:
        self._sender.put(b"+ %s\r\n" % encode_challenge(challenge))
        line = (await self._next_line()).rstrip(b" ")
        if line == b"*":
            raise Refused(b"authentication aborted")
        return decode_response(line)

    async def _log_in(self, credentials: Credentials) -> AccountApi:
        # The login may have to wait; send earlier answers first.
        await self._sender.flush()
        return await self._services.login.login(
            self._channel.address, credentials.name, credentials.secret, AccessProtocol.POP3
        )

    async def _enter(self, login: Awaitable[AccountApi]) -> Transaction:
        """Open the maildrop of the account that ``login`` proves to be the client's."""
        try:
            account = await login
        except SaslError as error:
            self._failures += 1
            raise Refused(str(error).encode("ascii")) from None
        except AuthenticationFailed:
            self._failures += 1
            raise
        try:
            await self._check_delay(account)
            return await open_maildrop(account, self._sender, self._services.limits)
        except NoSuchMailbox:
            log.error("account %s: the mailbox that pop3_maildrop names is not there", account.account_id)
            account.release()
            raise Refused(
                b"the mailbox set as maildrop of this account does not exist", b"SYS/PERM"
            ) from None
        except BaseException:
            account.release()
            raise

    async def _check_delay(self, account: AccountApi) -> None:
        """LOGIN-DELAY (RFC 2449 section 8.1.1): sent only after the secret has been proved."""
        delay_s = self._services.login_delay_s(account)
        if delay_s and not await account.may_log_in_by_pop3(delay_s):
            raise Refused(b"the last login was less than %d s ago" % delay_s, b"LOGIN-DELAY")
