"""Logging in by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 9266), whatever the protocol.

Only app passwords work here; for any other secret the proof fits no keyslot, and the client hears what it
hears of an unknown user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols import scram
from protocols.login import LoginGuard
from protocols.sasl import SaslError, decode_response
from protocols.store_api import AccountApi

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge and gives the client's response, decoded. Raises SaslError, and the protocol's own."""


@dataclass(frozen=True, slots=True)
class ScramLogin:
    """What a protocol provides for an exchange.

    ``binding`` is the connection's tls-exporter value, None where there is none; ``random(n)`` returns n
    random bytes.
    """

    guard: LoginGuard
    protocol: AccessProtocol
    address: str
    ask: Ask
    binding: bytes | None = field(repr=False)
    random: Callable[[int], bytes]

    async def run(self, mechanism: bytes, initial: bytes | None) -> AccountApi:
        """The whole exchange; the account is open when the client has seen our proof too.

        ``initial`` is the initial response in base64, None if not given.

        Raises:
            SaslError: a response breaks the rules. AuthenticationFailed: no; nothing more is said.
            StoreError: as it says. Whatever ``ask`` raises.
        """
        message = await self.ask(b"") if initial is None else decode_response(initial)
        try:
            proof = self._prove(mechanism, message)
            account, signature = await self.guard.observed(self.protocol, proof)
        except scram.BindingFailed:
            raise AuthenticationFailed("authentication failed") from None
        try:
            # There is no success with data, so the client answers our proof with an empty response.
            if await self.ask(scram.server_final(signature)):
                raise SaslError("empty response expected")
        except BaseException:
            account.release()
            raise
        return account

    async def _prove(self, mechanism: bytes, message: bytes) -> tuple[AccountApi, bytes]:
        can_bind = self.guard.limits.list_scram and self.binding is not None
        first = scram.client_first(message, mechanism, can_bind)
        attempt = await self.guard.begin(self.address, first.name)
        setup = await self.guard.scram_setup(attempt)
        challenge = scram.server_first(first, setup, self.random(scram.NONCE_BYTES))
        binding = self.binding if mechanism == scram.SCRAM_PLUS else None
        exchange = scram.client_final(await self.ask(challenge), first, challenge, binding)
        return await self.guard.login_scram(attempt, exchange, self.protocol)
