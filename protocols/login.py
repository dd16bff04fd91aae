"""Slowing down guessers: when an attempt to log in may start, and how many may wait.

Every failure looks the same, whatever its cause. The wait comes before the attempt, and attempts of one
site are spaced, so that parallel connections gain nothing. Who waits how long: ``protocols.throttle``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailstore.errors import AuthenticationFailed, OnAnotherNode, StoreError, TooManyLogins
from mailstore.model import AccessProtocol, Origin, ScramExchange, ScramSetup
from protocols.limits import LoginLimits
from protocols.observer import LoginResult, Observer, Unobserved
from protocols.sites import site_of
from protocols.store_api import AccountApi, StoreApi
from protocols.throttle import Start, Throttle

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("sealbox.login")

_LOOK_FIRST_S, _LOOK_MAX_S = 0.25, 2.0
"""Seconds until a waiting attempt asks again, doubling: a success in another worker may let it pass."""


class RunInThread(Protocol):
    """Runs a blocking function somewhere else; the result can be awaited."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Start ``function`` and return at once."""


class OtherNodes(Protocol):
    """Asks the nodes of accounts that are not here."""

    async def prove_for_smtp(self, node: str, address: str, name: bytes, secret: bytes) -> None:
        """Whether a secret opens an account of a node, for sending mail; its client is at ``address``.

        Raises:
            AuthenticationFailed: no. OnAnotherNode: that node cannot be asked, or cannot say now.
        """


@dataclass(frozen=True, slots=True)
class CountedAttempt:
    """One attempt to log in that has been counted and may go on; see ``LoginGuard.begin``."""

    site: str
    name: bytes = field(repr=False)
    account: str = field(repr=False)
    trusted: bool


class AttemptGuard:
    """What every attempt to prove a secret passes: when it may start, and how it ended."""

    def __init__(
        self,
        limits: LoginLimits,
        clock: Any,
        throttle: Throttle,
        run_in_thread: RunInThread,
        login_name: Callable[[bytes], str | None],
        observer: Observer | None = None,
    ) -> None:
        """``login_name`` says, in a thread, which account a name means: ``Directory.login_name``."""
        self._observer = observer or Unobserved()
        self.limits = limits
        self._clock = clock
        self._throttle = throttle
        self._run = run_in_thread
        self._login_name = login_name
        self._waiting: dict[Deferred[None], str] = {}
        """A login waiting for its turn, and its site."""
        self._waiting_from: Counter[str] = Counter()

    async def begin(self, address: str, name: bytes) -> CountedAttempt:
        """Wait until an attempt may start; it counts as failed until it has succeeded.

        Raises:
            AuthenticationFailed: the name cannot be anybody's. TooManyLogins: too many wait already.
            StoreError: the directory or the table of attempts cannot be read.
        """
        site = site_of(address)
        account, start = await self._started(site, name)
        if not self._is_possible(name):
            raise AuthenticationFailed("authentication failed")
        return CountedAttempt(site, name, account, start.trusted)

    async def proven(self, attempt: CountedAttempt, proof: Awaitable[T]) -> T:
        """What ``proof`` gives; the attempt is no failure any more, unless the secret was wrong.

        Raises as ``proof`` does.
        """
        try:
            result = await proof
        except (AuthenticationFailed, CancelledError):
            raise  # already counted: hanging up does not undo an attempt
        except TooManyLogins:
            self._observer.limit("argon2.waiting_logins")
            raise  # as above
        except StoreError:
            self.take_back(attempt)
            raise
        now = self._clock.seconds()
        self._note(attempt, self._throttle.succeeded, attempt.site, attempt.account, attempt.trusted, now)
        return result

    def take_back(self, attempt: CountedAttempt) -> None:
        """The secret was not wrong, and nobody is in: the attempt is neither a failure nor a success."""
        self._note(attempt, self._throttle.take_back, attempt.site, attempt.account, attempt.trusted)

    def _note(
        self, attempt: CountedAttempt, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Not awaited: hanging up just here must not lose an open session."""
        done = self._run(function, *args, **kwargs)
        done.addCallbacks(lambda _none: self._wake(attempt.site), self._not_noted)

    @staticmethod
    def _not_noted(failure: Failure) -> None:
        log.error("a login could not be recorded: %s", failure.type.__name__ if failure.type else "unknown")

    @property
    def waiting(self) -> int:
        """Logins that wait because of earlier failures."""
        return len(self._waiting)

    # -- waiting ---------------------------------------------------------------------------------

    async def _started(self, site: str, name: bytes) -> tuple[str, Start]:
        """The account for which the attempt is counted, whether or not it exists; and what it may do."""
        look_s = _LOOK_FIRST_S
        while True:
            limits = self.limits
            account, start = await self._run(self._start, site, name, limits, self._clock.seconds())
            if start.wait_s <= 0:
                return account, start
            if look_s == _LOOK_FIRST_S:
                self._observer.login_throttled()
            if self._waiting_from[site] >= limits.waiting_per_address_max:
                self._observer.limit("login.waiting_per_address_max")
                raise TooManyLogins("too many logins are waiting")
            if len(self._waiting) >= limits.waiting_max:
                self._make_room(site)
            await self._pause(site, min(start.wait_s, look_s))
            look_s = min(2 * look_s, _LOOK_MAX_S)

    def _start(self, site: str, name: bytes, limits: LoginLimits, now: float) -> tuple[str, Start]:
        account = ""
        if self._is_possible(name):
            # A name that no account can have is counted as it was written.
            account = self._login_name(name) or name.decode("utf-8", "replace")
        return account, self._throttle.start(site, account, limits, now)

    def _is_possible(self, name: bytes) -> bool:
        return 0 < len(name) <= self.limits.name_max_bytes

    def _make_room(self, newcomer: str) -> None:
        """The site with most waiting loses the last. Raises TooManyLogins if that is the newcomer's."""
        largest, count = max(self._waiting_from.items(), key=lambda entry: entry[1])
        self._observer.limit("login.waiting_max")
        if count <= self._waiting_from[newcomer] + 1:
            raise TooManyLogins("too many logins are waiting")
        last = next(turn for turn, site in reversed(self._waiting.items()) if site == largest)
        if not last.called:
            last.errback(TooManyLogins("too many logins are waiting"))

    async def _pause(self, site: str, seconds: float) -> None:
        turn: Deferred[None] = Deferred()
        call = self._clock.callLater(seconds, turn.callback, None)
        self._waiting[turn] = site
        self._waiting_from[site] += 1
        try:
            await turn
        finally:
            del self._waiting[turn]
            self._waiting_from[site] -= 1
            if not self._waiting_from[site]:
                del self._waiting_from[site]
            if call.active():
                call.cancel()

    def _wake(self, site: str) -> None:
        """A login from that site succeeded: those waiting that may now start are started."""
        if not self._waiting_from[site]:
            return
        waiting = (turn for turn, other in self._waiting.items() if other == site and not turn.called)
        for turn in list(islice(waiting, self.limits.free_failures + 1)):
            if not turn.called:  # the one before may have passed, and woken it
                turn.callback(None)


class LoginGuard(AttemptGuard):
    """What every attempt to log in passes, whatever its protocol."""

    def __init__(
        self,
        store: StoreApi,
        limits: LoginLimits,
        clock: Any,
        throttle: Throttle,
        run_in_thread: RunInThread,
        login_name: Callable[[bytes], str | None],
        observer: Observer | None = None,
    ) -> None:
        """See :class:`AttemptGuard`."""
        super().__init__(limits, clock, throttle, run_in_thread, login_name, observer)
        self._store = store

    async def login(self, address: str, name: bytes, secret: bytes, protocol: AccessProtocol) -> AccountApi:
        """Try to log in, after the wait that site and account have earned.

        Raises:
            AuthenticationFailed: no; nothing more is said. TooManyLogins: later perhaps.
        """
        return await self.observed(protocol, self._log_in(address, name, secret, protocol))

    async def _log_in(self, address: str, name: bytes, secret: bytes, protocol: AccessProtocol) -> AccountApi:
        attempt, origin = await self._begin_with(address, name, secret)
        return await self.proven(attempt, self._store.login(name, secret, protocol, origin))

    async def prove(
        self,
        address: str,
        name: bytes,
        secret: bytes,
        protocol: AccessProtocol,
        nodes: OtherNodes | None = None,
    ) -> str:
        """As ``login``, but nothing is opened: the name of the account that the secret is right for.

        ``nodes`` are asked about accounts of theirs, for SMTP alone; None where that is not to be.
        """
        return await self.observed(protocol, self._proved(address, name, secret, protocol, nodes))

    async def _proved(
        self, address: str, name: bytes, secret: bytes, protocol: AccessProtocol, nodes: OtherNodes | None
    ) -> str:
        attempt, origin = await self._begin_with(address, name, secret)
        here = self._store.prove(name, secret, protocol, origin)
        if nodes is None or protocol is not AccessProtocol.SMTP:
            return await self.proven(attempt, here)
        return await self.proven(attempt, _here_or_there(here, nodes, address, name, secret))

    async def observed(self, protocol: AccessProtocol, attempt: Awaitable[T]) -> T:
        """Await an attempt to log in and count how it ends; one whose client hangs up does not count."""
        began_s = self._clock.seconds()
        try:
            found = await attempt
        except StoreError as error:
            self._ended(protocol, began_s, _result_of(error))
            raise
        self._ended(protocol, began_s, "ok")
        return found

    def _ended(self, protocol: AccessProtocol, began_s: float, result: LoginResult) -> None:
        self._observer.login(protocol, result, max(self._clock.seconds() - began_s, 0.0))

    async def _begin_with(self, address: str, name: bytes, secret: bytes) -> tuple[CountedAttempt, Origin]:
        """As ``begin``; a secret that nobody can have counts as failed too."""
        attempt = await self.begin(address, name)
        if not 0 < len(secret) <= self.limits.secret_max_bytes:
            raise AuthenticationFailed("authentication failed")
        return attempt, Origin(attempt.site, attempt.trusted)

    async def scram_setup(self, attempt: CountedAttempt) -> ScramSetup:
        """The SCRAM parameters for a name; they do not reveal whether the account exists."""
        try:
            return await self._store.scram_setup(attempt.name)
        except StoreError:
            self.take_back(attempt)
            raise

    async def login_scram(
        self, attempt: CountedAttempt, exchange: ScramExchange, protocol: AccessProtocol
    ) -> tuple[AccountApi, bytes]:
        """As ``login``, by a SCRAM proof; also gives the ServerSignature (RFC 5802 section 3)."""
        return await self.proven(attempt, self._store.login_scram(attempt.name, exchange, protocol))

    async def largest_pop3_delay_s(self) -> int:
        """The longest delay between POP3 logins that any account has of its own, in seconds; 0: none has."""
        return await self._store.largest_pop3_login_delay_s()


async def _here_or_there(
    here: Awaitable[str], nodes: OtherNodes, address: str, name: bytes, secret: bytes
) -> str:
    try:
        return await here
    except OnAnotherNode as error:
        if error.node is None:
            raise
        await nodes.prove_for_smtp(error.node, address, name, secret)
        if error.account is None:
            raise  # nobody had that name when the directory was asked here
        return error.account


def _result_of(error: StoreError) -> LoginResult:
    match error:
        case AuthenticationFailed():
            return "wrong"
        case TooManyLogins():
            return "later"
        case _:
            return "error"
