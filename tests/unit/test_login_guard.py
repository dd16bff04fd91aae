"""Slowing down guessers, and SASL's strictness."""

from __future__ import annotations

import base64
import errno
import fcntl
import math
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailstore.errors import AuthenticationFailed, Busy, StorageFailed, TooManyLogins
from mailstore.model import AccessProtocol
from protocols.limits import LoginLimits
from protocols.sasl import LoginExchange, PlainExchange, SaslError, decode_response, encode_challenge
from protocols.sites import site_of
from protocols.throttle import (
    FILE_NAME,
    KEY_BYTES,
    LOCK_PAUSE_S,
    FilePages,
    Throttle,
    _Area,
    _delay_s,
    table_bytes,
)
from tests.login_guard import make_guard
from tests.memory_store import AccountSession, MemoryStore

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
KEY = bytes(KEY_BYTES)
START_S = 1_700_000_000.0


class Attempts:
    """A guard, its clock and a store with the account ``joe``, whose secret is ``secret``."""

    def __init__(self, limits: LoginLimits | None = None, throttle: Throttle | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(START_S)
        self.limits = limits or LoginLimits()
        self.store = MemoryStore()
        self.store.add_account()
        self.throttle = throttle or Throttle.in_memory(KEY, self.limits)
        self.guard = make_guard(self.store, self.limits, self.clock, self.throttle)

    def attempt(
        self, secret: bytes = b"wrong", address: str = HOME, name: bytes = b"joe"
    ) -> Deferred[AccountSession]:
        """Begin one login."""
        return Deferred.fromCoroutine(self.guard.login(address, name, secret, AccessProtocol.IMAP))

    def delay_s(self, address: str) -> float:
        """Seconds that attempts of an untrusted address have to be apart now."""
        entry = self.throttle._find(self.throttle._pages, _Area.SITE, site_of(address))[1]
        return _delay_s(entry, self.limits.free_failures, self.limits, self.clock.seconds())

    def fail(self, times: int, address: str = HOME, name: bytes = b"joe") -> None:
        """Fail as often, waiting as long as it takes."""
        for _ in range(times):
            done = self.attempt(b"wrong", address, name)
            while not done.called:
                self.clock.advance(1)
            assert outcome(done) is AuthenticationFailed


def outcome(done: Deferred[AccountSession]) -> type:
    """The class of what a finished attempt has come to; dict when nothing has happened yet."""
    seen: list[type] = []

    def note(result: AccountSession | Failure) -> AccountSession | None:
        failed = isinstance(result, Failure)
        seen.append(type(result.value if failed else result))
        return None if failed else result

    done.addBoth(note)
    return seen[0] if seen else dict


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


def test_workers_and_restarts_share_one_count(tmp_path: Path) -> None:
    """What one worker has counted another one knows, and so does the next server on this data root."""
    limits = LoginLimits()
    one, other = (Attempts(limits, Throttle.on_disk(tmp_path, KEY, limits)) for _ in range(2))
    one.fail(2)
    other.fail(2)
    assert one.delay_s(HOME) == other.delay_s(HOME) == 2
    assert outcome(one.attempt(b"secret", ELSEWHERE)) is AccountSession
    for world in (one, other):
        world.throttle.close()
    later = Attempts(limits, Throttle.on_disk(tmp_path, KEY, limits))
    assert later.delay_s(HOME) == 2
    later.fail(30, "203.0.113.1")
    assert outcome(later.attempt(b"secret", ELSEWHERE)) is AccountSession
    later.throttle.close()


def test_nobody_else_counts_meanwhile(tmp_path: Path) -> None:
    """What is read is written before another process may read it."""
    one, other = (FilePages(tmp_path / FILE_NAME, 4096) for _ in range(2))
    with (tmp_path / FILE_NAME).open("rb") as third:
        with one.locked(), pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with other.locked(), pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for pages in (one, other):
        pages.close()


def test_a_success_elsewhere_lets_the_waiting_pass(tmp_path: Path) -> None:
    """A program whose connections went to several workers waits no longer than the first of them."""
    limits = LoginLimits()
    one, other = (Attempts(limits, Throttle.on_disk(tmp_path, KEY, limits)) for _ in range(2))
    gate: Deferred[None] = Deferred()
    one.store.hold_logins = gate
    first = [one.attempt(b"secret") for _ in range(8)]
    waiting = other.attempt(b"secret")
    assert outcome(waiting) is dict
    gate.callback(None)
    assert [outcome(done) for done in first] == [AccountSession] * 8
    other.clock.advance(1)
    assert outcome(waiting) is AccountSession
    for world in (one, other):
        world.throttle.close()


def test_the_table_tells_no_address_and_no_name(tmp_path: Path) -> None:
    """Who has the file alone learns nothing of who logs in from where."""
    world = Attempts(throttle=Throttle.on_disk(tmp_path, KEY, LoginLimits()))
    world.fail(2)
    assert outcome(world.attempt(b"secret", ELSEWHERE)) is AccountSession
    world.throttle.close()
    data = (tmp_path / FILE_NAME).read_bytes()
    assert any(data)
    for marker in (b"joe", b"192.0.2", b"198.51", b"secret", bytes((192, 0, 2, 1)), bytes((198, 51, 100, 7))):
        assert marker not in data
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_old_traces_are_blanked(tmp_path: Path) -> None:
    """After ten days nothing in the file tells that somebody was here."""
    world = Attempts(throttle=Throttle.on_disk(tmp_path, KEY, LoginLimits()))
    assert outcome(world.attempt(b"secret")) is AccountSession
    world.fail(3, ELSEWHERE)
    world.throttle.sweep(world.limits, START_S + 9 * 86_400 - 60)
    assert outcome(world.attempt(b"secret")) is AccountSession
    world.throttle.sweep(world.limits, START_S + 9 * 86_400 + 60)
    assert not any((tmp_path / FILE_NAME).read_bytes())
    world.throttle.close()


@pytest.mark.parametrize("harm", ["folder", "closed"])
def test_a_table_that_cannot_be_used_stops_nobody(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a broken disk failures are counted in memory, and the log says so."""
    if harm == "folder":
        (tmp_path / FILE_NAME).mkdir()
    throttle = Throttle.on_disk(tmp_path, KEY, LoginLimits())
    world = Attempts(throttle=throttle)
    if harm == "closed":
        os.close(throttle._pages._descriptor)  # type: ignore[attr-defined]  # the disk is gone
    world.fail(4)
    assert outcome(world.attempt(b"secret", ELSEWHERE)) is AccountSession
    assert world.delay_s(HOME) == 2
    assert FILE_NAME in caplog.text


def test_a_harmed_entry_is_read_as_something_that_can_be(tmp_path: Path) -> None:
    """Whatever a broken disk has made of the numbers, logins go on and are slowed."""
    throttle = Throttle.on_disk(tmp_path, KEY, LoginLimits())
    world = Attempts(throttle=throttle)
    world.fail(3)
    path = tmp_path / FILE_NAME
    data = path.read_bytes()
    at = next(number for number in range(0, len(data), 40) if data[number : number + 16] != bytes(16))
    for harm in (b"\xff" * 8, struct.pack("<Q", 3) + struct.pack("<dd", math.nan, math.inf)):
        with path.open("r+b") as file:
            file.seek(at + 16)
            file.write(harm)
        world.clock.advance(60)
        assert outcome(world.attempt(b"wrong")) in (AuthenticationFailed, dict)
    throttle.close()


def test_a_stopped_worker_that_holds_the_table_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the others count for themselves, and say so; for a minute nobody waits for it again.

    Then, when it has let go, all count together again: a busy disk is no reason to go on alone.
    """
    seconds = [0.0]
    monkeypatch.setattr("protocols.throttle.time.monotonic", lambda: seconds[0])
    waits: list[float] = []

    def sleep(duration_s: float) -> None:
        waits.append(duration_s)
        seconds[0] += 1.0

    monkeypatch.setattr("protocols.throttle.time.sleep", sleep)
    throttle = Throttle.on_disk(tmp_path, KEY, LoginLimits())
    world, beside = (
        Attempts(throttle=throttle),
        Attempts(throttle=Throttle.on_disk(tmp_path, KEY, LoginLimits())),
    )
    pages = throttle._pages
    with (tmp_path / FILE_NAME).open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert outcome(world.attempt(b"secret")) is AccountSession
        waited = len(waits)
        assert waited and FILE_NAME in caplog.text
        with pytest.raises(OSError), pages.locked():
            pass  # somebody who was waiting behind the first
        assert outcome(world.attempt(b"secret")) is AccountSession
        assert len(waits) == waited
        guesser = "198.51.100.7"
        world.fail(5, guesser)
        guessed_s = world.delay_s(guesser)
        seconds[0] += LOCK_PAUSE_S
        world.fail(1, guesser)
        assert world.delay_s(guesser) > guessed_s > 0, "what was counted meanwhile still counts"
        assert len(waits) - waited < waited, "and nobody waits for as long again"
    seconds[0] += LOCK_PAUSE_S
    world.fail(3)
    assert throttle._pages is pages
    assert beside.delay_s(HOME) == world.delay_s(HOME) > 0
    throttle.close()
    beside.throttle.close()


def test_threads_that_begin_and_give_up_together_keep_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One takes the file up again while another finds it locked: either all of it happens, or nothing."""
    throttle = Throttle.on_disk(tmp_path, KEY, LoginLimits())
    pages = throttle._pages
    throttle._give_up(OSError(errno.ETIMEDOUT, "locked"))
    assert throttle._aside is pages
    seen: list[bool] = []

    def looked_at(_pages: FilePages) -> bool:
        seen.append(throttle._switching.locked())
        return True

    monkeypatch.setattr(FilePages, "may_be_free", looked_at)
    with throttle._locked() as found:
        assert found is pages
    assert seen[0]
    assert (throttle._pages, throttle._aside) == (pages, None)
    throttle.close()


def test_a_clock_set_back_keeps_nobody_waiting() -> None:
    """An attempt noted in the future delays as one noted now."""
    world = Attempts()
    world.fail(9)
    assert world.throttle.start("192.0.2.1", "joe", world.limits, START_S - 1e6).wait_s <= 30


def test_a_table_of_another_size_begins_afresh(tmp_path: Path) -> None:
    """Changing ``addresses_max`` loses what was remembered, and nothing else."""
    Throttle.on_disk(tmp_path, KEY, LoginLimits()).close()
    smaller = LoginLimits(addresses_max=100)
    world = Attempts(smaller, Throttle.on_disk(tmp_path, KEY, smaller))
    world.fail(3)
    assert (tmp_path / FILE_NAME).stat().st_size == table_bytes(smaller)
    assert world.delay_s(HOME) == 1
    world.throttle.close()


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
