"""Work at every full hour: at midnight, not up to a day later, and after a failure too."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from deploy.hourly import HOUR_S, Hourly

DAY_S = 24 * HOUR_S


def hourly(clock: Clock, result: Callable[[], Deferred[None]]) -> tuple[Hourly, list[float]]:
    """It, started, and the times at which it worked."""
    times: list[float] = []

    def work() -> Deferred[None]:
        times.append(clock.seconds())
        return result()

    made = Hourly(clock, work)
    made.start()
    return made, times


def test_it_works_at_the_start_and_right_after_each_hour_and_so_after_midnight() -> None:
    """Whenever the server was started."""
    clock = Clock()
    clock.advance(DAY_S - HOUR_S / 2)
    _, times = hourly(clock, lambda: succeed(None))
    clock.pump([1.0] * 3 * HOUR_S)
    assert times == [DAY_S - HOUR_S / 2, DAY_S + 1, DAY_S + HOUR_S + 1, DAY_S + 2 * HOUR_S + 1]


def test_a_failure_is_not_the_end() -> None:
    """The next hour is tried."""
    clock = Clock()
    _, times = hourly(clock, lambda: fail(OSError()))
    clock.advance(HOUR_S + 1)
    assert len(times) == 2


def test_nothing_begins_while_the_last_goes_on() -> None:
    """However long it takes; then the hour after that is next."""
    clock, slow = Clock(), Deferred[None]()
    _, times = hourly(clock, lambda: slow)
    clock.advance(5 * HOUR_S)
    assert len(times) == 1
    slow.callback(None)
    clock.advance(HOUR_S + 1)
    assert len(times) == 2


def test_it_stops() -> None:
    """Between two hours, and while it works."""
    clock, slow = Clock(), Deferred[None]()
    for result in (succeed(None), slow):
        made, _ = hourly(clock, lambda result=result: result)
        made.stop()
    slow.callback(None)
    assert clock.getDelayedCalls() == []
