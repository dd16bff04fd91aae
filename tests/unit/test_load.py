"""A worker's load: what is measured, what it means, and who can wait."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.executor import Executor
from mailstore.memory_gate import MemoryGate, Pass
from mailstore.model import Origin
from protocols.imap.commands.shedding import can_wait
from protocols.limits import LoadLimits
from protocols.load import MEASUREMENTS, Load, LoadMeter, idle, is_high

LIMITS = LoadLimits(lag_s=0.5, waiting_jobs=10, waiting_logins=5)


class FromThreads:
    """A reactor that runs at once what threads send it."""

    def callFromThread(self, function: object, *args: object, **kwargs: object) -> None:  # Twisted's name
        """See Twisted's ``IReactorFromThreads``."""
        assert callable(function)
        function(*args, **kwargs)


@pytest.mark.parametrize(
    ("load", "high"),
    [
        (Load(), False),
        (Load(0.49, 9, 4), False),
        (Load(lag_s=0.5), True),
        (Load(waiting_jobs=10), True),
        (Load(waiting_logins=5), True),
    ],
)
def test_any_limit_that_is_reached_makes_the_load_high(load: Load, high: bool) -> None:
    """One bottleneck is enough."""
    assert is_high(load, LIMITS) is high
    assert not is_high(idle(), LoadLimits())


def test_lag_is_a_mean() -> None:
    """A reactor that is late once is not loaded, one that is late all the time is."""
    clock = Clock()
    meter = LoadMeter(clock, lambda: 3, lambda: 4)
    meter.start()
    clock.advance(1.0)
    assert meter.load() == Load(0.0, 3, 4)
    clock.advance(3.0)
    assert meter.load().lag_s == pytest.approx(2.0 / MEASUREMENTS)
    for _ in range(MEASUREMENTS):
        clock.advance(2.5)
    assert meter.load().lag_s == pytest.approx(1.5)
    clock.pump([1.0] * MEASUREMENTS)
    assert meter.load().lag_s == pytest.approx(0.0)
    meter.stop()
    meter.stop()
    assert not clock.getDelayedCalls()


def test_waiting_calls_are_counted() -> None:
    """Calls beyond the number of threads wait, until the threads have come to them."""
    executor = Executor(FromThreads(), 2)
    held, begun = threading.Event(), threading.Semaphore(0)

    def job() -> bool:
        begun.release()
        return held.wait(30)

    try:
        outcomes: list[bool] = []
        for _ in range(5):
            executor.call(job).addCallback(outcomes.append)
        assert begun.acquire(timeout=30) and begun.acquire(timeout=30)
        assert executor.waiting == 3
    finally:
        held.set()
        executor.stop()
    assert outcomes == [True] * 5
    assert executor.waiting == 0


def test_waiting_logins_are_counted() -> None:
    """Runs that do not fit the memory budget wait at the gate."""
    gate = MemoryGate(100, 10)
    passed: list[Pass] = []
    waiting: list[Deferred[None]] = [gate.enter(60, Origin()).addCallback(passed.append) for _ in range(3)]
    assert (gate.waiting, passed) == (2, [Pass(60, "")])
    waiting[2].addErrback(lambda failure: None)
    waiting[2].cancel()
    assert gate.waiting == 1
    gate.leave(passed[0])
    assert (gate.waiting, passed) == (0, [Pass(60, "")] * 2)


@given(events=st.lists(st.sampled_from([b"indexer", b"back-fill", b"periodic", b"push", b"indexers"])))
def test_any_background_word_counts(events: list[bytes]) -> None:
    """TN3189: the field is a list with commas; a word has to be there whole."""
    fields = [(b"event", b",".join(events)), (b"name", b"com.apple.email.maild")]
    assert can_wait(fields) is bool({b"indexer", b"back-fill"} & set(events))


@pytest.mark.parametrize("name", [None, b"", b"com.applesauce", b"Thunderbird", b"x com.apple.mail"])
def test_other_clients_words_mean_nothing(name: bytes | None) -> None:
    """TN3189: the field counts only where the client's name begins with com.apple."""
    assert not can_wait([(b"name", name), (b"event", b"back-fill")])
    assert not can_wait([(b"event", b"back-fill")])
