"""The one crossing from the reactor into threads.

``Executor.call`` runs one synchronous function in a pool thread. ``Lane`` adds order: its jobs share
a fixed number of database connections, each job gets one for itself, the rest wait their turn. What
has started always finishes; cancelling a waiting job removes it, cancelling a started one only
means that nobody hears of its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from mailstore.errors import AccountClosed

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
_Job = tuple["Deferred[Any]", Callable[[], Any]]


class Executor:
    """A bounded number of threads and the reactor that results come back to.

    Nearly every command crosses twice, so the crossing itself is short: one queue that all threads wait at,
    and one call into the reactor for all results that are there. (Twisted's pool keeps a queue and a lock for
    every thread: with many of them at work that costs several times as much.)
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int) -> None:
        self._reactor = reactor
        self._most = threads
        self._threads: list[Thread] = []
        self._unfinished = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._is_called = False
        self._is_stopped = False
        self.background = DeferredSemaphore(1)
        """Whoever does much that nobody waits for, in any account, takes turns here."""

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a function in a thread; the Deferred fires on the reactor's thread.

        After :meth:`stop` nothing is run, and the Deferred fails with CancelledError; with RuntimeError where
        the system allows not a single thread.
        """
        done: Deferred[T] = Deferred()
        if self._is_stopped:
            done.cancel()
            return done
        if len(self._threads) < min(self._unfinished + 1, self._most):
            try:
                self._start_thread()
            except RuntimeError:
                if not self._threads:
                    done.errback(Failure())
                    return done
                # The others do it; with the next job it is tried again.
        self._unfinished += 1
        self._jobs.put((done, partial(function, *args, **kwargs)))
        return done

    def _start_thread(self) -> None:
        thread = Thread(target=self._work, name=f"sealbox-store-{len(self._threads)}")
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            done, function = job
            result: Any
            try:
                result = function()
            except BaseException:  # noqa: BLE001 # it travels on as the job's outcome
                result = Failure()
            self._results.append((done, result))
            # Whoever waits for the next job should not keep this one's arguments and result alive.
            del job, done, function, result
            if not self._is_called:
                self._is_called = True
                self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        # First this: what comes from now on calls again.
        self._is_called = False
        # No more than are there now: others wait for the reactor, too.
        for _ in range(len(self._results)):
            self._unfinished -= 1
            done, result = self._results.popleft()
            done.callback(result)

    @property
    def waiting(self) -> int:
        """Calls that no thread has taken yet."""
        return max(self._unfinished - self._most, 0)

    @property
    def threads(self) -> int:
        """Threads that have been started."""
        return len(self._threads)

    def stop(self) -> None:
        """Wait for what has been accepted and end the threads."""
        self._is_stopped = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


class Lane(Generic[R]):
    """Jobs that share up to ``width`` resources (database connections), opened when first needed."""

    def __init__(self, executor: Executor, width: int, acquire: Callable[[], R]) -> None:
        """``acquire`` opens a resource; it runs in a thread, at the start of a job."""
        self._executor = executor
        self._acquire = acquire
        self._idle: list[R] = []
        self._unopened = width
        self._running = 0
        self._waiting: deque[tuple[Deferred[Any], Callable[[R], Any]]] = deque()
        self._closed: Deferred[list[R]] | None = None

    def run(self, fn: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run ``fn(resource, *args)`` in a thread as soon as a resource is free.

        The Deferred fails with ``AccountClosed`` when the lane is closed already.
        """
        done: Deferred[T] = Deferred(self._cancel)
        if self._closed is not None:
            done.errback(Failure(AccountClosed("the account is closed")))
            return done
        self._waiting.append((done, lambda resource: fn(resource, *args)))
        self._next()
        return done

    @property
    def is_busy(self) -> bool:
        """Whether jobs run or wait."""
        return bool(self._running or self._waiting)

    def close(self) -> Deferred[list[R]]:
        """Refuse new jobs, let accepted ones finish, then hand over all resources for closing."""
        if self._closed is None:
            self._closed = Deferred()
            self._settle()
        return self._closed

    def _cancel(self, done: Deferred[Any]) -> None:
        for entry in self._waiting:
            if entry[0] is done:
                self._waiting.remove(entry)
                break

    def _next(self) -> None:
        while self._waiting and (self._idle or self._unopened):
            done, job = self._waiting.popleft()
            self._running += 1
            inner: Deferred[tuple[R | None, Any]]
            taken = self._idle.pop() if self._idle else None
            if taken is not None:
                inner = self._executor.call(self._do, taken, job)
            else:
                self._unopened -= 1
                inner = self._executor.call(self._open_and_do, job)
            inner.addBoth(self._finished, done, taken)

    def _open_and_do(self, job: Callable[[R], Any]) -> tuple[R | None, Any]:
        try:
            resource = self._acquire()
        except BaseException:  # noqa: BLE001 # it becomes the job's outcome
            return None, Failure()
        return self._do(resource, job)

    @staticmethod
    def _do(resource: R, job: Callable[[R], Any]) -> tuple[R | None, Any]:
        try:
            return resource, job(resource)
        except BaseException:  # noqa: BLE001  # it travels on as the job's outcome
            return resource, Failure()

    def _finished(
        self, outcome: tuple[R | None, Any] | Failure, done: Deferred[Any], taken: R | None
    ) -> None:
        """``taken`` is the resource that the job was given: it is still there if the job was not begun."""
        self._running -= 1
        resource, result = (taken, outcome) if isinstance(outcome, Failure) else outcome
        if resource is None:
            self._unopened += 1
        else:
            self._idle.append(resource)
        self._next()
        self._settle()
        if done.called:
            return  # cancelled meanwhile; the work was done anyway
        if isinstance(result, Failure):
            done.errback(result)
        else:
            done.callback(result)

    def _settle(self) -> None:
        if self._closed is not None and not self._closed.called and not self._running and not self._waiting:
            idle, self._idle = self._idle, []
            self._closed.callback(idle)


__all__ = ["CancelledError", "Executor", "Lane"]
