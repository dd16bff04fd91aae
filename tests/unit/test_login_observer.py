"""What an observer is told of attempts to log in: how they end and after how long, not whose they are."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.errors import StorageFailed, TooManyLogins
from mailstore.model import AccessProtocol
from protocols.limits import LoginLimits, StreamLimits
from protocols.transport import StreamFactory
from tests.login_guard import make_guard
from tests.memory_store import MemoryStore


class Told:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def login(self, *what: object) -> None:
        """See ``Observer``."""
        self.said.append(what)

    def login_throttled(self) -> None:
        """See ``Observer``."""
        self.said.append(("throttled",))

    def limit(self, name: str) -> None:
        """See ``Observer``."""
        self.said.append((name,))


class World:
    """A guard that is observed, over a store with the account ``joe``."""

    def __init__(self, limits: LoginLimits | None = None) -> None:
        self.clock, self.told, self.store = Clock(), Told(), MemoryStore()
        self.store.add_account()
        self.guard = make_guard(self.store, limits or LoginLimits(), self.clock, observer=self.told)

    def attempt(self, secret: bytes, protocol: AccessProtocol = AccessProtocol.IMAP) -> Deferred[Any]:
        """Begin one; nobody minds how it ends."""
        done = Deferred.fromCoroutine(self.guard.login("192.0.2.1", b"joe", secret, protocol))
        return done.addErrback(lambda failure: failure.type)


def test_each_way_an_attempt_ends() -> None:
    """By protocol; in POP3 and for a mail server that asks as well."""
    world = World(LoginLimits(free_failures=100))
    world.attempt(b"secret")
    world.attempt(b"wrong", AccessProtocol.POP3)
    proof = Deferred.fromCoroutine(world.guard.prove("192.0.2.1", b"joe", b"wrong", AccessProtocol.SMTP))
    proof.addErrback(lambda _: None)
    world.store.login = raising(TooManyLogins())  # type: ignore[method-assign]  # a store that is loaded
    world.attempt(b"secret")
    world.store.login = raising(StorageFailed())  # type: ignore[method-assign]  # and one that is broken
    world.attempt(b"secret")
    assert world.told.said == [
        ("imap", "ok", 0.0),
        ("pop3", "wrong", 0.0),
        ("smtp", "wrong", 0.0),
        ("argon2.waiting_logins",),
        ("imap", "later", 0.0),
        ("imap", "error", 0.0),
    ]


def raising(error: Exception) -> Any:
    """A login that fails so."""

    async def login(*_: object) -> None:
        raise error

    return login


def test_whoever_has_to_wait_is_throttled_once_and_the_wait_counts() -> None:
    """However often the wait is looked at."""
    world = World(LoginLimits(free_failures=1, first_delay_s=8.0))
    world.attempt(b"wrong")
    world.attempt(b"wrong")
    world.told.said.clear()
    world.attempt(b"secret")
    assert world.guard.waiting == 1
    for _ in range(40):
        world.clock.advance(0.25)
    assert world.guard.waiting == 0
    throttled, ended = world.told.said[0], world.told.said[-1]
    assert [one for one in world.told.said if one == ("throttled",)] == [("throttled",)]
    assert throttled == ("throttled",)
    assert ended[:2] == ("imap", "ok")
    assert 8.0 <= ended[2] <= 10.0  # type: ignore[operator]  # a number of seconds


def test_one_who_hangs_up_is_not_counted() -> None:
    """Whether the secret was right nobody knows."""
    world = World(LoginLimits(free_failures=0, first_delay_s=8.0))
    world.attempt(b"wrong")
    world.told.said.clear()
    world.attempt(b"secret").cancel()
    assert world.told.said == [("throttled",)]


def test_logins_that_are_turned_away_name_the_setting() -> None:
    """The one that the operator can raise."""
    world = World(LoginLimits(free_failures=0, first_delay_s=8.0, waiting_per_address_max=1))
    world.attempt(b"wrong")
    world.attempt(b"secret")
    world.told.said.clear()
    world.attempt(b"secret")
    assert world.told.said == [("throttled",), ("login.waiting_per_address_max",), ("imap", "later", 0.0)]


def test_connections_that_are_turned_away_name_the_setting() -> None:
    """Of one address, and all together."""
    factory = StreamFactory(Clock(), StreamLimits(connections_max=2, connections_per_address_max=1))
    factory.observer = told = Told()
    here, there = (Address(host) for host in ("192.0.2.1", "192.0.2.2"))
    assert [factory.buildProtocol(one) is None for one in (here, here, there, there)] == [
        False,
        True,
        False,
        True,
    ]
    assert told.said == [("stream.connections_per_address_max",), ("stream.connections_max",)]


class Address:
    """Where a client connects from."""

    def __init__(self, host: str) -> None:
        self.host = host
