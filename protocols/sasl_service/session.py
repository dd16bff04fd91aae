"""One connection of a program that has passwords checked, such as Postfix or Exim.

Requests are worked on side by side and answered as they are done. Decisions:

- What cannot be checked now is not answered at all where nobody else waits: the connection ends. FAIL with
  ``temp`` would be right, but Postfix and Exim do not read ``temp`` and tell the user that the password is
  wrong; at the end of the connection they say "try again later" (454, 435), and connect again.
- Postfix never sends CANCEL: what a client of Postfix has begun and left would stay for ever. When there are
  too many requests, the oldest that waits for its client is forgotten.
- Plaintext mechanisms are refused where somebody could listen in, whatever the client program allows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, assert_never

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols.access_log import AccessLog, Entry
from protocols.errors import is_for_operator
from protocols.limits import SaslServiceLimits
from protocols.login import LoginGuard, OtherNodes
from protocols.output import Output
from protocols.redact import correlation_id, describe, incident
from protocols.sasl import MECHANISMS, Credentials, Exchange, OtherIdentity, SaslError, decode_response
from protocols.sasl_service import grammar
from protocols.sasl_service.connection import Broken, Connection
from protocols.sasl_service.requests import Auth, Cancel, Continue
from protocols.transport import Channel, IdleTimeout

log = logging.getLogger("sealbox.sasl")

SERVICES = {b"smtp": AccessProtocol.SMTP}
"""What ``service=`` may be, and the scope that an app password needs for it."""

COOKIE_BYTES = 16
COMMAND = "SASL AUTH"

WRONG = b"wrong name or password, or not one for sending mail"
"""Said whatever is wrong with them."""
NOT_PRIVATE = b"not without TLS"
NOT_A_SERVICE = b"this service is not known here"
NOT_A_MECHANISM = b"mechanism not supported"
FORGOTTEN = b"too many logins at once, try again"
UNKNOWN_ID = b"this login is over"
TRY_LATER = b"try again later"


@dataclass(frozen=True, slots=True)
class SaslServices:
    """What all connections of a worker share. ``random(n)`` returns n random bytes.

    ``nodes`` are asked about accounts of other nodes; None where there are none, or they cannot be asked.
    """

    login: LoginGuard
    limits: SaslServiceLimits
    access_log: AccessLog
    clock: Any
    random: Callable[[int], bytes] = os.urandom
    behind_proxy: bool = False
    """Whether a proxy has ended the TLS of whoever is logging in, so that a mail server cannot know of it."""
    nodes: OtherNodes | None = None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Somebody who is logging in."""

    request: Auth
    exchange: Exchange = field(repr=False)


class SaslSession:
    """See the module's docstring. ``number`` tells the connections of a worker apart."""

    def __init__(self, channel: Channel, services: SaslServices, number: int) -> None:
        self._channel = channel
        self._services = services
        self._limits = services.limits
        self._number = number
        self._connection = Connection(services.limits)
        self._asked: dict[int, _Attempt] = {}
        """Those whose client has to say something, the oldest first."""
        self._proofs: dict[int, Deferred[str]] = {}
        """Those whose secret is being checked."""
        self._output = Output()
        self._over = False
        self._ending = False

    def end(self, reason: bytes) -> None:
        """Close as soon as what is being checked has been answered; ``reason`` is not said."""
        self._ending = True
        self._channel.wake()

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        cookie = self._services.random(COOKIE_BYTES)
        self._output += grammar.handshake(MECHANISMS, os.getpid(), self._number, cookie)
        try:
            while not self._over and (self._proofs or not self._ending):
                if self._channel.turn_is_over:
                    await self._output.flush(self._channel)
                    await self._channel.turn()
                await self._step()
            await self._output.flush(self._channel)
        except IdleTimeout:
            return
        finally:
            for proof in tuple(self._proofs.values()):
                proof.cancel()

    async def refuse(self) -> None:
        """Close at once because there are too many; the client says "try again later" then."""

    async def _step(self) -> None:
        event = None if self._ending else self._connection.next_event()
        match event:
            case None:
                await self._output.flush(self._channel)
                if not self._over:
                    self._connection.feed(await self._channel.read(self._patience_s()) or b"")
            case Broken(why):
                log.warning("a client of the authentication service is cut off: %s", why)
                self._over = True
            case Auth():
                self._begin(event)
            case Continue(number, response):
                self._go_on(number, response)
            case Cancel(number):
                self._cancel(number)
            case _:
                assert_never(event)

    def _patience_s(self) -> float:
        limits = self._limits
        return limits.idle_timeout_s if self._connection.ready else limits.handshake_timeout_s

    # -- requests --------------------------------------------------------------------------------

    def _begin(self, request: Auth) -> None:
        if request.id in self._asked or request.id in self._proofs:
            # Whose answer would it be?
            log.warning("a client of the authentication service is cut off: the same id twice")
            self._over = True
            return
        mechanism = MECHANISMS.get(request.mechanism)
        if request.service not in SERVICES:
            self._fail(request, NOT_A_SERVICE)
        elif mechanism is None:
            self._fail(request, NOT_A_MECHANISM)
        elif not (request.is_private or self._services.behind_proxy):
            self._fail(request, NOT_PRIVATE)
        elif not self._has_room():
            self._fail(request, FORGOTTEN, b"temp")
        else:
            self._respond(_Attempt(request, mechanism()), request.initial)

    def _has_room(self) -> bool:
        if len(self._asked) + len(self._proofs) >= self._limits.requests_max and self._asked:
            oldest = next(iter(self._asked))
            self._fail(self._asked.pop(oldest).request, FORGOTTEN, b"temp")
        return len(self._asked) + len(self._proofs) < self._limits.requests_max

    def _go_on(self, number: int, response: bytes) -> None:
        attempt = self._asked.pop(number, None)
        if attempt is not None:
            self._respond(attempt, response)
        elif number in self._proofs:
            log.warning("a client of the authentication service is cut off: an answer to no question")
            self._over = True
        else:
            self._output += grammar.failure(number, UNKNOWN_ID)

    def _cancel(self, number: int) -> None:
        self._asked.pop(number, None)
        proof = self._proofs.get(number)
        if proof is not None:
            proof.cancel()

    def _respond(self, attempt: _Attempt, response: bytes | None) -> None:
        """``response`` is in base64; None: the client has not said anything yet."""
        request, exchange = attempt.request, attempt.exchange
        try:
            credentials = None if response is None else exchange.respond(decode_response(response))
        except OtherIdentity as error:
            self._fail(request, str(error).encode("ascii"), b"authz")
        except SaslError as error:
            self._fail(request, str(error).encode("ascii"))
        else:
            if credentials is None:
                self._asked[request.id] = attempt
                self._output += grammar.challenge(request.id, exchange.challenge())
            else:
                self._prove(request, credentials)

    # -- proving ---------------------------------------------------------------------------------

    def _prove(self, request: Auth, credentials: Credentials) -> None:
        given = request.address, credentials.name, credentials.secret, SERVICES[request.service]
        proof = Deferred.fromCoroutine(self._services.login.prove(*given, self._services.nodes))
        self._proofs[request.id] = proof
        proof.addTimeout(self._limits.answer_timeout_s, self._services.clock)
        answered = proof.addCallbacks(
            self._proven, self._not_proven, callbackArgs=(request,), errbackArgs=(request,)
        )
        answered.addErrback(self._broke_off)

    def _broke_off(self, failure: Failure) -> None:
        """A mistake of ours while answering."""
        if failure.value is not None:
            log.error("authentication service failed, id %s: %s", correlation_id(), describe(failure.value))
        self._over = True
        self._channel.wake()

    def _proven(self, user: str, request: Auth) -> None:
        del self._proofs[request.id]
        self._answer(request, grammar.success(request.id, user), "OK")
        self._channel.wake()

    def _not_proven(self, failure: Failure, request: Auth) -> None:
        del self._proofs[request.id]
        error = failure.value
        if isinstance(error, CancelledError):
            return  # nobody waits for it any more
        if isinstance(error, AuthenticationFailed):
            self._fail(request, WRONG)
        else:
            self._tell(error)
            self._cannot_say(request)
        self._channel.wake()

    @staticmethod
    def _tell(error: BaseException | None) -> None:
        """Log what the operator has to repair."""
        if error is None or isinstance(error, DeferredTimeout):
            return
        if is_for_operator(error):
            log.error("%s", incident(COMMAND.encode("ascii"), correlation_id(), None, error))

    def _cannot_say(self, request: Auth) -> None:
        """Nothing is known of the secret; see the module's docstring."""
        if self._proofs:
            self._fail(request, TRY_LATER, b"temp")
        else:
            self._answer(request, b"", "FAIL temp")
            self._over = True

    # -- answering -------------------------------------------------------------------------------

    def _fail(self, request: Auth, reason: bytes, *flags: bytes) -> None:
        result = b" ".join((b"FAIL", *flags)).decode("ascii")
        self._answer(request, grammar.failure(request.id, reason, *flags), result)

    def _answer(self, request: Auth, line: bytes, result: str) -> None:
        self._output += line
        entry = Entry(request.address, "", COMMAND, len(line), result, failed=result != "OK")
        self._services.access_log.record(entry)
