"""Child processes that are copies of the supervisor, so that they share in memory what it has imported.

Starting each worker as a program of its own would load the interpreter and all modules once more for each of
them. A copy shares those pages until one of the processes writes to them. It keeps the standard streams, its
two pipes and the sockets that it serves, and closes every other descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

_PR_SET_NAME = 15
_STREAMS = 3
_BLOCKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
"""The supervisor's own: a child that has just been born must not take them for its parent's."""

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Inherited:
    """The descriptors of a child that lead to its supervisor."""

    control_fd: int
    """Read end of a pipe that closes when the supervisor is gone."""
    ready_fd: int
    """The child writes a line here when it is ready. It has to stay open until the child ends."""

    def tell_ready(self) -> None:
        """Say that this process does now what it was started for."""
        os.write(self.ready_fd, b"ready\n")


Run = Callable[[Inherited], int]
"""What a child does; its exit code."""


class ControlPipe:
    """For a child's reactor: calls ``gone`` when the supervisor is."""

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._gone = gone

    def fileno(self) -> int:
        """The inherited descriptor."""
        return self._descriptor

    def doRead(self) -> Failure | None:  # noqa: N802  # Twisted's name (IReadDescriptor)
        """End of file; nobody writes into the pipe."""
        return None if os.read(self._descriptor, 64) else Failure(EOFError())

    def connectionLost(self, _reason: Failure) -> None:  # noqa: N802  # Twisted's name
        """End of file: epoll reports it as a hang-up, without asking ``doRead`` first."""
        self._gone()

    def logPrefix(self) -> str:  # noqa: N802  # Twisted's name
        """For Twisted's log."""
        return "control"


class Parent(Protocol):
    """Who is told about a child; always from the reactor, never from within :func:`start`."""

    def ready(self) -> None:
        """It has said so."""

    def ended(self, code: int) -> None:
        """It is gone; its exit code, or the number of the signal that killed it, negative."""


class Child(Protocol):
    """A process that runs."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has just ended."""


def start(reactor: Any, name: str, run: Run, keep: Sequence[int], parent: Parent) -> Child:
    """Start a copy of this process that calls ``run`` and ends with what that returns.

    ``name`` is shown by ps and top; ``keep`` are descriptors that the child needs, which stay open here too.

    Raises:
        OSError: there are no more processes or descriptors, or a thread is at work here, which a copy would
            not have.
    """
    if threading.active_count() > 1:
        raise BlockingIOError(errno.EAGAIN, "a thread is at work")
    ours_ready, ready = os.pipe()
    try:
        control, ours_control = os.pipe()
    except OSError:
        _close(ours_ready, ready)
        raise
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        pid = os.fork()
        if pid == 0:
            _become(name, run, Inherited(control, ready), keep)
    except OSError:
        _close(ours_ready, ours_control)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _close(ready, control)
    return _Process(reactor, pid, ours_ready, ours_control, parent)


def _close(*descriptors: int) -> None:
    for one in descriptors:
        os.close(one)


def _become(name: str, run: Run, inherited: Inherited, keep: Sequence[int]) -> NoReturn:
    """In the child: be only what ``run`` is, and never return into the parent's work.

    The supervisor's objects stay as they are on the stack below, so that none of them closes its descriptor,
    which has another meaning here.
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _BLOCKED - {signal.SIGINT}:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches all; the supervisor decides what it means
        _close_all_but([*range(_STREAMS), inherited.control_fd, inherited.ready_fd, *keep])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        code = run(inherited)
    except BaseException:  # noqa: BLE001  # nobody above may see it: there, this process does not exist
        sys.excepthook(*sys.exc_info())
    finally:
        # Not sys.exit: a database that could not be closed under its lock must not be closed, and so
        # checkpointed, by the interpreter's clean-up.
        try:
            logging.shutdown()
        finally:
            os._exit(code)


def _close_all_but(keep: Sequence[int]) -> None:
    kept = sorted(set(keep))
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)


class _Process:
    """A child, seen from its parent: what the reactor reads is the pipe that it has open while it runs."""

    def __init__(self, reactor: Any, pid: int, ready_fd: int, control_fd: int, parent: Parent) -> None:
        self._reactor = reactor
        self._pid = pid
        self._ready_fd = ready_fd
        self._control_fd = control_fd
        self._parent = parent
        self._has_ended = False
        reactor.addReader(self)

    def send(self, number: signal.Signals) -> None:
        """See :class:`Child`. Its number is nobody else's until it has been waited for."""
        if not self._has_ended:
            os.kill(self._pid, number)

    def fileno(self) -> int:
        """The pipe."""
        return self._ready_fd

    def doRead(self) -> Exception | None:  # noqa: N802  # Twisted's name (IReadDescriptor)
        """A line when it is ready; the end when it is gone."""
        if not os.read(self._ready_fd, 64):
            return ConnectionDone()
        self._parent.ready()
        return None

    def connectionLost(self, _reason: object) -> None:  # noqa: N802  # Twisted's name
        """The end of the pipe; also called when the reactor stops."""
        if self._has_ended:
            return
        self._has_ended = True
        self._reactor.removeReader(self)
        _close(self._ready_fd, self._control_fd)
        # It has closed all descriptors, so it is ending, if it has not ended yet.
        _, status = os.waitpid(self._pid, 0)
        self._parent.ended(os.waitstatus_to_exitcode(status))

    def logPrefix(self) -> str:  # noqa: N802  # Twisted's name
        """For Twisted's log."""
        return "child"
