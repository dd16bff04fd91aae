"""The table of failed logins that all workers share, in a file that may be harmed."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import struct
from pathlib import Path

import pytest
from attempts_world import ELSEWHERE, HOME, KEY, START_S, Attempts, outcome
from twisted.internet.defer import Deferred

from mailstore.errors import AuthenticationFailed
from protocols.limits import LoginLimits
from protocols.throttle import (
    FILE_NAME,
    LOCK_PAUSE_S,
    FilePages,
    Throttle,
    table_bytes,
)
from tests.memory_store import AccountSession


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
