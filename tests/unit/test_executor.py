"""The lanes into threads, with threads that a test runs by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from deploy import service
from mailstore.errors import AccountClosed
from mailstore.executor import Executor, Lane
from mailstore.limits import StoreLimits


class ByHand:
    """An executor whose jobs run when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.refuses = False
        """There are no threads."""

    def call(self, fn: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Keep a job."""
        done: Deferred[Any] = Deferred()
        if self.refuses:
            done.errback(RuntimeError("no thread"))
            return done
        self.jobs.append(lambda: done.callback(fn(*args)))
        return done

    def perform(self) -> None:
        """Run the oldest job."""
        self.jobs.pop(0)()


def lane(width: int) -> tuple[Lane[str], ByHand, list[str]]:
    """A lane over numbered resources."""
    executor, opened = ByHand(), []

    def acquire() -> str:
        opened.append(f"connection {len(opened)}")
        return opened[-1]

    return Lane(executor, width, acquire), executor, opened  # type: ignore[arg-type]


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """Results appear here."""
    seen: list[Any] = []
    deferred.addBoth(seen.append)
    return seen


class Reactor:
    """Keeps what threads want to be called, until the test does it."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def callFromThread(self, call: Callable[[], Any]) -> None:
        """See ``IReactorFromThreads``."""
        self.calls.put(call)

    def turn(self) -> None:
        """Do the next call, and wait for it if need be."""
        self.calls.get(timeout=60)()


@contextmanager
def threads(count: int) -> Iterator[tuple[Reactor, Executor]]:
    """Threads that end with the test, whatever becomes of it."""
    reactor = Reactor()
    executor = Executor(reactor, count)  # type: ignore[arg-type]
    try:
        yield reactor, executor
    finally:
        executor.stop()


def test_so_many_threads_work_at_a_time() -> None:
    """One job more waits, and counts as waiting."""
    reactor = Reactor()
    executor = Executor(reactor, 3)  # type: ignore[arg-type]
    began, go_on = threading.Semaphore(0), threading.Event()
    finished: list[bool] = []

    def job() -> bool:
        began.release()
        return go_on.wait(60)

    jobs = [executor.call(job).addCallback(finished.append) for _ in range(4)]
    for _ in range(3):
        assert began.acquire(timeout=60)
    assert (executor.waiting, executor.threads) == (1, 3)
    assert not began.acquire(blocking=False)
    go_on.set()
    executor.stop()
    while len(finished) < len(jobs):
        reactor.turn()
    assert finished == [True] * len(jobs)
    assert executor.waiting == 0


def test_threads_are_started_when_they_are_needed() -> None:
    """One job after the other needs one thread."""
    with threads(3) as (reactor, executor):
        for number in range(5):
            seen = outcome(executor.call(int, number))
            reactor.turn()
            assert seen == [number]
        assert executor.threads == 1


def test_results_that_come_together_are_told_by_one_call() -> None:
    """The reactor is woken once for all of them."""
    with threads(1) as (reactor, executor):
        seen: list[int] = []
        for number in range(3):
            executor.call(int, number).addCallback(seen.append)
        executor.stop()  # so all three have been done
        assert reactor.calls.qsize() == 1
        reactor.turn()
        assert seen == [0, 1, 2]


def test_what_a_callback_starts_is_told_later() -> None:
    """A chain of jobs, each begun by the one before, lets the reactor do other things in between."""
    with threads(2) as (reactor, executor):
        results: list[int] = []

        def again(count: int) -> None:
            results.append(count)
            if count:
                executor.call(int, count - 1).addCallback(again)

        executor.call(int, 3).addCallback(again)
        for done in range(4):
            assert len(results) == done
            reactor.turn()
        assert results == [3, 2, 1, 0]


def test_only_results_that_are_there_are_told_in_one_turn() -> None:
    """What is done while callbacks run waits for the next turn, so that connections are not kept waiting."""
    with threads(1) as (reactor, executor):
        told: list[str] = []

        def first(_: int) -> None:
            told.append("first")
            done = threading.Event()
            executor.call(int, 2).addCallback(lambda _: told.append("second"))
            executor.call(done.set)
            assert done.wait(60)  # so the second has been done as well

        executor.call(int, 1).addCallback(first)
        reactor.turn()
        assert told == ["first"]
        reactor.turn()
        assert told == ["first", "second"]


def test_an_error_is_the_outcome_and_its_thread_works_on() -> None:
    """Also one that is no Exception."""

    def wrong() -> None:
        raise SystemExit(3)

    with threads(1) as (reactor, executor):
        failed = outcome(executor.call(wrong))
        reactor.turn()
        assert failed[0].check(SystemExit)
        done = outcome(executor.call(int, 1))
        reactor.turn()
        assert done == [1]
        assert executor.threads == 1


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job fails only where there is no thread at all; what the system refused once is not lost for good."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with threads(2) as (reactor, executor):
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refused)
            failed = outcome(executor.call(int, 1))
        assert failed[0].check(RuntimeError)
        assert (executor.waiting, executor.threads) == (0, 0)
        done = outcome(executor.call(int, 1))
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refused)
            executor.call(int, 2).addCallback(done.append)
        while len(done) < 2:
            reactor.turn()
        assert (done, executor.threads) == ([1, 2], 1)
        both = threading.Barrier(2)
        together = [outcome(executor.call(both.wait, 60)) for _ in range(2)]
        while not all(together):
            reactor.turn()
        assert executor.threads == 2


def test_a_job_that_is_not_begun_keeps_no_resource() -> None:
    """The lane can go on, and be closed with all it has opened."""
    shared, executor, opened = lane(1)
    first = outcome(shared.run(str.upper))
    executor.perform()
    assert first == ["CONNECTION 0"]
    executor.refuses = True
    failed = [outcome(shared.run(str.upper)) for _ in range(2)]
    assert all(seen[0].check(RuntimeError) for seen in failed)
    executor.refuses = False
    again = outcome(shared.run(str.upper))
    executor.perform()
    assert again == ["CONNECTION 0"]
    assert outcome(shared.close()) == [opened]


def test_nothing_is_run_after_the_end() -> None:
    """And whoever waits for it hears so."""
    executor = Executor(Reactor(), 1)  # type: ignore[arg-type]
    executor.stop()
    ran: list[bool] = []
    seen = outcome(executor.call(lambda: ran.append(True)))
    assert seen[0].check(CancelledError)
    assert not ran


def test_a_worker_has_threads_of_two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins have their own, so that slow readers do not keep others out."""
    made: list[int] = []

    def enough(_root: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(service, "Executor", lambda _reactor, threads: made.append(threads))
    monkeypatch.setattr(service, "open_directory", enough)
    config: Any = SimpleNamespace(store=StoreLimits(threads=5, login_threads=7), data=None)
    with pytest.raises(InterruptedError):
        service.Service(None, config)
    assert made == [5, 7]


def test_jobs_share_what_is_open() -> None:
    """A lane opens no more than it may and reuses what is idle."""
    made, executor, opened = lane(2)
    results = [outcome(made.run(lambda one, n=n: (one, n))) for n in range(5)]
    assert len(executor.jobs) == 2
    while executor.jobs:
        executor.perform()
    assert opened == ["connection 0", "connection 1"]
    assert [one[0][1] for one in results] == [0, 1, 2, 3, 4]


def test_a_job_that_fails_gives_its_resource_back() -> None:
    """An error reaches its caller and nobody else."""
    made, executor, opened = lane(1)
    failing = outcome(made.run(lambda _one: 1 // 0))
    fine = outcome(made.run(lambda one: one))
    executor.perform()
    executor.perform()
    assert isinstance(failing[0], Failure) and failing[0].check(ZeroDivisionError)
    assert fine == ["connection 0"] and opened == ["connection 0"]


def test_cancelling_a_waiting_job_removes_it() -> None:
    """What has not started does not start."""
    made, executor, _ = lane(1)
    ran: list[str] = []
    made.run(lambda _one: ran.append("first"))
    waiting = made.run(lambda _one: ran.append("second"))
    told = outcome(waiting)
    waiting.cancel()
    while executor.jobs:
        executor.perform()
    assert ran == ["first"] and told[0].check(CancelledError)


def test_cancelling_a_started_job_lets_it_finish() -> None:
    """A started transaction is finished; only its result goes nowhere."""
    made, executor, _ = lane(1)
    ran: list[str] = []
    started = made.run(lambda _one: ran.append("first"))
    told = outcome(started)
    started.cancel()
    after = outcome(made.run(lambda _one: "after"))
    executor.perform()
    executor.perform()
    assert ran == ["first"] and told[0].check(CancelledError) and after == ["after"]


def test_closing_lets_accepted_jobs_finish() -> None:
    """Closing refuses what is new and hands over the resources when the last job is done."""
    made, executor, _ = lane(1)
    first, second = outcome(made.run(lambda _one: 1)), outcome(made.run(lambda _one: 2))
    closed = outcome(made.close())
    late = outcome(made.run(lambda _one: 3))
    assert late[0].check(AccountClosed) and closed == []
    executor.perform()
    executor.perform()
    assert (first, second, closed) == ([1], [2], [["connection 0"]])


def test_a_resource_that_cannot_be_opened_is_tried_again() -> None:
    """A failed opening fails that job; the next one opens afresh."""
    executor = ByHand()
    tries: list[int] = []

    def acquire() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError
        return "connection"

    made: Lane[str] = Lane(executor, 1, acquire)  # type: ignore[arg-type]
    failed, fine = outcome(made.run(lambda one: one)), outcome(made.run(lambda one: one))
    executor.perform()
    executor.perform()
    assert failed[0].check(OSError) and fine == ["connection"]
