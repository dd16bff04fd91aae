"""Slowing down guessers, and SASL's strictness."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.errors import AuthenticationFailed, TooManyLogins
from protocols.limits import LoginLimits
from protocols.login import LoginGuard
from protocols.sasl import LoginExchange, PlainExchange, SaslError, decode_response, encode_challenge
from tests.memory_store import AccountSession, MemoryStore


class Attempts:
    """A guard, its clock and a store with one account."""

    def __init__(self, limits: LoginLimits | None = None) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.store.add_account()
        self.guard = LoginGuard(self.store, limits or LoginLimits(), self.clock)

    def attempt(
        self, secret: bytes, address: str = "192.0.2.1", name: bytes = b"joe"
    ) -> Deferred[AccountSession]:
        """Begin one login."""
        return Deferred.fromCoroutine(self.guard.login(address, name, secret, "imap"))

    def fail(self, times: int, address: str = "192.0.2.1") -> None:
        """Fail as often, waiting as long as it takes."""
        for _ in range(times):
            done = self.attempt(b"wrong", address)
            self.clock.advance(60)
            done.addErrback(lambda failure: failure.trap(AuthenticationFailed))


def test_delays_double_up_to_a_bound_and_are_forgotten() -> None:
    """The first failures are free; a quiet quarter of an hour starts afresh."""
    world = Attempts()
    delays = []
    for _ in range(9):
        delays.append(world.guard.delay_s("192.0.2.1"))
        world.fail(1)
    assert delays == [0, 0, 0, 1, 2, 4, 8, 16, 30]
    assert world.guard.delay_s("192.0.2.2") == 0
    world.clock.advance(901)
    assert world.guard.delay_s("192.0.2.1") == 0


def test_parallel_guesses_wait_alike_and_are_bounded() -> None:
    """Connections of one address share the delay; only so many may wait."""
    world = Attempts(LoginLimits(waiting_per_address_max=3))
    world.fail(4)
    before = world.store.logins
    waiting = [world.attempt(b"wrong") for _ in range(4)]
    assert world.store.logins == before
    assert waiting[3].called
    waiting[3].addErrback(lambda failure: failure.trap(TooManyLogins))
    world.clock.advance(2)
    assert world.store.logins == before + 3
    for done in waiting[:3]:
        done.addErrback(lambda failure: failure.trap(AuthenticationFailed))


def test_neighbours_in_an_ipv6_network_are_one() -> None:
    """Failures from a /64 count together."""
    world = Attempts()
    world.fail(3, "2001:db8::1")
    world.fail(3, "2001:db8::2")
    assert world.guard.delay_s("2001:db8::ffff") == 8
    assert world.guard.delay_s("2001:db8:0:1::1") == 0


def test_memory_is_bounded() -> None:
    """The oldest addresses are forgotten first."""
    world = Attempts(LoginLimits(addresses_max=10))
    for number in range(30):
        world.fail(3, f"192.0.2.{number}")
    assert world.guard.delay_s("192.0.2.29") == 1
    assert world.guard.delay_s("192.0.2.1") == 0


def test_given_up_while_waiting() -> None:
    """A client that leaves during its delay never reaches the store."""
    world = Attempts()
    world.fail(5)
    before = world.store.logins
    done = world.attempt(b"secret")
    done.cancel()
    done.addErrback(lambda failure: None)
    world.clock.advance(60)
    assert world.store.logins == before


@pytest.mark.parametrize(
    "line",
    [b"=", b"A", b"AA", b"AA=", b"AAA", b"AB==", b"AA==AA==", b" AAAA", b"AAAA\n", b"A\xffAA", b"A" * 5000],
)
def test_base64_is_strict(line: bytes) -> None:
    """Only the canonical encoding is accepted (RFC 4648 section 3.5)."""
    with pytest.raises(SaslError):
        decode_response(line)


@given(st.binary(max_size=100))
def test_base64_round_trip(raw: bytes) -> None:
    """What we encode we decode."""
    assert decode_response(encode_challenge(raw)) == raw == base64.b64decode(encode_challenge(raw))


@pytest.mark.parametrize(
    "response", [b"", b"joe", b"\0joe", b"\0joe\0", b"\0\0pw", b"a\0joe\0pw", b"\0joe\0p\0w"]
)
def test_plain_needs_three_parts_and_no_other_identity(response: bytes) -> None:
    """RFC 4616 section 2; acting for somebody else is not offered."""
    with pytest.raises(SaslError):
        PlainExchange().respond(response)


def test_exchanges_yield_credentials_that_do_not_show() -> None:
    """Both mechanisms give name and secret, and neither is in a repr."""
    plain = PlainExchange().respond(b"joe\0joe\0pw")
    login = LoginExchange()
    assert login.challenge() == b"Username:"
    assert login.respond(b"joe") is None
    assert login.challenge() == b"Password:"
    assert login.respond(b"pw") == plain
    assert plain is not None
    assert (plain.name, plain.secret) == (b"joe", b"pw")
    assert "pw" not in repr(plain)
