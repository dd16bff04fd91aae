"""Slowing down guessers."""

from __future__ import annotations

import pytest
from attempts_world import ELSEWHERE, HOME, KEY, START_S, Attempts, outcome
from twisted.internet.defer import CancelledError, Deferred

from mailstore.errors import AuthenticationFailed, Busy, StorageFailed, TooManyLogins
from protocols.limits import LoginLimits
from protocols.throttle import (
    Throttle,
)
from tests.login_guard import make_guard
from tests.memory_store import AccountSession


def test_delays_double_up_to_a_bound_and_are_forgotten() -> None:
    """The first failures are free; a quiet quarter of an hour starts afresh."""
    world = Attempts()
    delays = []
    for _ in range(9):
        delays.append(world.delay_s(HOME))
        world.fail(1)
    assert delays == [0, 0, 0, 1, 2, 4, 8, 16, 30]
    assert world.delay_s("192.0.2.2") == 0
    world.clock.advance(901)
    assert world.delay_s(HOME) == 0


def test_attempts_sent_together_do_not_all_pass() -> None:
    """What is not decided yet counts as failed: a hundred guesses at once are three guesses."""
    world = Attempts(LoginLimits(waiting_per_address_max=20))
    world.store.hold_logins = Deferred()
    sent = [world.attempt(b"guess %d" % number) for number in range(100)]
    assert world.store.logins == world.limits.free_failures + 1
    assert [outcome(done) for done in sent].count(TooManyLogins) == 100 - 3 - 20


def test_attempts_of_one_site_are_spaced() -> None:
    """However many connections wait, the site has one attempt in the time it has earned."""
    world = Attempts(LoginLimits(waiting_per_address_max=50))
    world.fail(20)
    before = world.store.logins
    sent = [world.attempt(b"guess %d" % number) for number in range(40)]
    for _ in range(300):
        world.clock.advance(1)
    assert world.store.logins == before + 10
    for done in sent:
        done.addErrback(lambda failure: None)
        done.cancel()


def test_hanging_up_is_an_attempt() -> None:
    """A client that leaves while its secret is looked at has had its guess."""
    world = Attempts()
    world.store.hold_logins = Deferred()
    for _ in range(3):
        done = world.attempt()
        done.cancel()
        assert outcome(done) is CancelledError
    assert world.delay_s(HOME) == 1


def test_being_turned_away_is_an_attempt() -> None:
    """Who fills the queue for memory is slowed, too."""
    world = Attempts()
    world.store.login_error = TooManyLogins()
    for _ in range(3):
        assert outcome(world.attempt()) is TooManyLogins
    assert world.delay_s(HOME) == 1


def test_our_own_failures_count_for_nobody() -> None:
    """A database that is busy says nothing about the secret: no failure, and no trust either."""
    world = Attempts()
    world.store.login_error = Busy()
    for _ in range(10):
        assert outcome(world.attempt()) is Busy
    world.store.login_error = None
    assert world.delay_s(HOME) == 0
    world.fail(4)
    assert outcome(world.attempt(b"secret")) is dict


def test_success_is_taken_back() -> None:
    """People who log in all day from one address wait for nothing."""
    world = Attempts()
    for number in range(50):
        world.store.add_account(b"user%d" % number, b"secret")
        assert outcome(world.attempt(b"secret", HOME, b"user%d" % number)) is AccountSession
    assert world.delay_s(HOME) == 0


def test_colleagues_pass_as_soon_as_those_before_them_have() -> None:
    """An office that comes back after a power cut waits for each other's results, not for a penalty."""
    world = Attempts()
    gate: Deferred[None] = Deferred()
    world.store.hold_logins = gate
    for number in range(40):
        world.store.add_account(b"user%d" % number, b"secret")
    sent = [world.attempt(b"secret", HOME, b"user%d" % number) for number in range(40)]
    assert world.store.logins == 3
    world.store.hold_logins = None
    gate.callback(None)
    assert [outcome(done) for done in sent] == [AccountSession] * 40


def test_trusted_owner_is_not_kept_out_by_strangers_elsewhere() -> None:
    """A thousand addresses guess at one account; it opens at once where it has been opened before."""
    world = Attempts()
    assert outcome(world.attempt(b"secret")) is AccountSession
    for number in range(1000):
        world.attempt(b"guess", f"203.0.{number // 250}.{number % 250}").addErrback(lambda failure: None)
    assert outcome(world.attempt(b"secret")) is AccountSession
    assert outcome(world.attempt(b"secret", ELSEWHERE)) is dict


def test_guesses_from_many_addresses_are_slowed() -> None:
    """What one account is asked from everywhere together is bounded, whether it exists or not."""
    for name in (b"joe", b"nobody"):
        world = Attempts()
        for number in range(1000):
            address = f"203.0.{number // 250}.{number % 250}"
            world.attempt(b"guess", address, name).addErrback(lambda failure: None)
        assert world.store.logins == world.limits.account_free_failures + 1


@pytest.mark.parametrize("name", [b"Joe@Example.org", b"JOE@example.ORG", b"joe@EXAMPLE.org", b"joe", b"JOE"])
def test_other_spellings_of_a_name_gain_nothing(name: bytes) -> None:
    """An account has one count, however its name is written, with the default domain or without it."""
    world = Attempts(LoginLimits(account_free_failures=0))
    world.fail(1, HOME, b"joe@example.org")
    assert outcome(world.attempt(b"guess", ELSEWHERE, name)) is dict


def test_names_of_two_accounts_are_counted_apart() -> None:
    """They differ for the directory, although their case-folded forms do not."""
    world = Attempts(LoginLimits(account_free_failures=0))
    world.fail(1, HOME, "stra\u00dfe@example.org".encode())
    assert outcome(world.attempt(b"guess", ELSEWHERE, b"strasse@example.org")) is AuthenticationFailed


def test_a_name_that_no_account_can_have_is_counted_too() -> None:
    """By itself, so that it takes as long as any other, and no longer."""
    world = Attempts(LoginLimits(account_free_failures=0))
    world.fail(1, HOME, b"joe smith")
    assert outcome(world.attempt(b"guess", ELSEWHERE, b"joe smith")) is dict
    assert outcome(world.attempt(b"guess", "203.0.113.1", b"ann smith")) is AuthenticationFailed


def test_an_attempt_whose_name_cannot_be_looked_up_tests_no_secret() -> None:
    """A directory that cannot be read is not taken for one without a default domain."""

    def unreadable(_name: bytes) -> str | None:
        raise StorageFailed

    world = Attempts()
    world.guard = make_guard(world.store, world.limits, world.clock, world.throttle, unreadable)
    assert outcome(world.attempt(b"secret")) is StorageFailed
    assert world.store.logins == 0


def test_trust_does_not_let_guesses_pass() -> None:
    """Where an account was opened before, guesses at it are slowed as everywhere else."""
    world = Attempts()
    assert outcome(world.attempt(b"secret")) is AccountSession
    world.store.hold_logins = Deferred()
    before = world.store.logins
    for number in range(100):
        world.attempt(b"guess %d" % number).addErrback(lambda failure: None)
    assert world.store.logins == before + world.limits.account_free_failures + 1


def test_a_typing_error_costs_no_trust() -> None:
    """Somebody who mistypes while strangers guess at his account still gets in."""
    world = Attempts()
    assert outcome(world.attempt(b"secret")) is AccountSession
    for number in range(100):
        world.attempt(b"guess", f"203.0.113.{number}").addErrback(lambda failure: None)
    assert outcome(world.attempt(b"typo")) is AuthenticationFailed
    assert outcome(world.attempt(b"secret")) is AccountSession


def test_right_passwords_clear_an_owners_mistakes() -> None:
    """A program that polls all day does not keep its user's typing errors alive."""
    world = Attempts(LoginLimits(account_free_failures=2))
    assert outcome(world.attempt(b"secret")) is AccountSession
    world.fail(8)
    for _ in range(4):
        done = world.attempt(b"secret")
        while not done.called:
            world.clock.advance(1)
    assert outcome(world.attempt(b"secret")) is AccountSession


def test_neighbours_in_an_ipv6_network_are_one() -> None:
    """Failures from a /64 count together."""
    world = Attempts()
    world.fail(3, "2001:db8::1")
    world.fail(3, "2001:db8::2")
    assert world.delay_s("2001:db8::ffff") == 8
    assert world.delay_s("2001:db8:0:1::1") == 0


def test_waiting_is_bounded_for_all_together() -> None:
    """Many addresses that wait do not take memory without end."""
    world = Attempts(LoginLimits(waiting_max=10, account_free_failures=0))
    sent = [world.attempt(b"guess", f"203.0.113.{number}") for number in range(30)]
    assert [outcome(done) for done in sent].count(TooManyLogins) == 19


def test_a_full_waiting_room_loses_the_last_of_the_largest_site() -> None:
    """One site that fills it does not keep those of others from waiting."""
    world = Attempts(LoginLimits(waiting_max=10, account_free_failures=0))
    crowd = [world.attempt(b"guess", HOME) for _ in range(12)]
    assert [outcome(done) for done in crowd].count(TooManyLogins) == 1
    other = world.attempt(b"secret", ELSEWHERE)
    assert outcome(other) is dict
    assert [done.called for done in crowd] == [True] + [False] * 9 + [True] * 2


def test_memory_is_bounded() -> None:
    """The table does not grow; the addresses unused for longest are forgotten first."""
    world = Attempts(LoginLimits(addresses_max=8, account_free_failures=10_000))
    for number in range(30):
        world.fail(3, f"192.0.2.{number}")
        world.clock.advance(1)
    assert world.delay_s("192.0.2.29") == 1
    assert world.delay_s("192.0.2.1") == 0


def test_who_goes_on_guessing_is_not_forgotten_for_others() -> None:
    """Only what has been quiet for longest makes room, whatever else comes and goes beside it."""
    world = Attempts(LoginLimits(addresses_max=8, account_free_failures=10_000))
    world.fail(8)
    for number in range(40):
        world.fail(1, f"203.0.113.{number}")
        if number % 5 == 0:
            world.fail(1)
    assert world.delay_s(HOME) == world.limits.delay_max_s


def test_who_has_just_logged_in_is_not_forgotten_for_others() -> None:
    """Of the sites that are trusted with accounts, too, the one not seen for longest makes room."""
    limits = LoginLimits(addresses_max=8)
    throttle = Throttle.in_memory(KEY, limits)
    for number in range(20):
        throttle.succeeded(HOME, f"user{number}", False, START_S + number)
    trusted = [throttle.start(HOME, f"user{number}", limits, START_S + 20).trusted for number in range(20)]
    assert trusted == [False] * 12 + [True] * 8


def test_given_up_while_waiting() -> None:
    """A client that leaves during its delay never reaches the store."""
    world = Attempts()
    world.fail(5)
    before = world.store.logins
    done = world.attempt(b"secret")
    done.cancel()
    done.addErrback(lambda failure: None)
    for _ in range(60):
        world.clock.advance(1)
    assert world.store.logins == before
