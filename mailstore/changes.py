"""Who must be told what changed: the file system is the bus.

A commit by any process closes ``write.lock`` when others can see it, a delivery renames a file into
``inbox/``, a key change renames a new header into place. (Writing to the WAL is no signal: what is written
can be seen only after it has reached the disk.) One inotify instance per worker sees all of it. An event is
only a hint to look: events coalesce, and a superfluous one does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from twisted.internet import inotify
from twisted.python.filepath import FilePath

from mailstore.clock import Clock, DelayedCall
from mailstore.errors import StorageFailed

log = logging.getLogger("sealbox.changes")

COALESCE_FIRST_S, COALESCE_MAX_S = 0.001, 0.02
"""Seconds for which further events of one folder are collected; the pause doubles while they keep coming."""

_MASK = (
    inotify.IN_CLOSE_WRITE
    | inotify.IN_ATTRIB
    | inotify.IN_MOVED_TO
    | inotify.IN_CREATE
    | inotify.IN_DELETE
    | inotify.IN_DELETE_SELF
)
_ARRIVALS = inotify.IN_MOVED_TO | inotify.IN_MODIFY | inotify.IN_DELETE_SELF
"""A delivery is a write and a rename; other events, such as the filer's own unlinking, do not matter."""


class FolderWatch:
    """One watched folder: reports its first change at once, and further ones together."""

    def __init__(
        self, clock: Clock, names: Collection[str] | None, callback: Callable[[frozenset[str]], None]
    ) -> None:
        """``names`` are the files that matter; None means all."""
        self._clock = clock
        self._matter = names
        self._callback = callback
        self._names: set[str] = set()
        self._call: DelayedCall | None = None
        self._reported_s = -COALESCE_MAX_S
        self._pause_s = 0.0

    def touched(self, name: str) -> None:
        """A file of this name changed."""
        if self._matter is not None and name not in self._matter:
            return
        self._names.add(name)
        if self._call is not None:
            return
        since_s = self._clock.seconds() - self._reported_s
        if not 0.0 <= since_s < COALESCE_MAX_S:
            self._pause_s = 0.0
        else:
            self._pause_s = min(max(2 * self._pause_s, COALESCE_FIRST_S), COALESCE_MAX_S)
        self._call = self._clock.callLater(self._pause_s, self._report)

    def touched_anyhow(self) -> None:
        """Any file may have changed: what happened is not known."""
        for name in ("",) if self._matter is None else self._matter:
            self.touched(name)

    def _report(self) -> None:
        self._call = None
        self._reported_s = self._clock.seconds()
        names, self._names = frozenset(self._names), set()
        self._callback(names)

    def cancel(self) -> None:
        """Report nothing any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


_NO_WATCH = 2**32 - 1
"""The watch that IN_Q_OVERFLOW is reported for: -1 (inotify(7))."""


class _Inotify(inotify.INotify):
    """Keeps running when a watched folder is deleted; Twisted's own would close the whole instance.

    It also reports lost events, which Twisted's ignores.
    """

    def __init__(self, reactor: Any, lost: Callable[..., None]) -> None:
        super().__init__(reactor)  # type: ignore[no-untyped-call]  # Twisted annotates no inotify
        self._watchpoints[_NO_WATCH] = inotify._Watch(FilePath(b"/"), callbacks=[lost])

    def loseConnection(self) -> None:  # noqa: N802  # Twisted's name
        """Twisted calls this for each deleted folder; all others have to stay watched."""


def _lasting_inotify(reactor: Any, lost: Callable[..., None]) -> inotify.INotify:
    return _Inotify(reactor, lost)


class Watcher:
    """Watches folders for one worker. Folders are named by their path, each watched once."""

    def __init__(self, reactor: Any) -> None:
        """Raises StorageFailed when the system gives no inotify instance."""
        self._clock: Clock = reactor
        self._reactor = reactor
        self._is_stopped = False
        try:
            self._inotify = _lasting_inotify(reactor, self._lost)
        except inotify.INotifyError:
            log.error("no inotify instance is left: raise fs.inotify.max_user_instances (sysctl)")
            raise StorageFailed("changes cannot be watched") from None
        self._inotify.startReading()
        self._folders: dict[bytes, FolderWatch] = {}
        self._written: dict[bytes, Callable[[str], None]] = {}

    def watch(self, folder: Path, names: Collection[str], callback: Callable[[frozenset[str]], None]) -> None:
        """Call ``callback(changed)`` on the reactor soon after files of these names in ``folder`` change.

        Raises StorageFailed when the system gives no watch.
        """
        self._watch(folder, names, callback, _MASK)

    def from_any_thread(self, callback: Callable[[], None]) -> Callable[[], None]:
        """What any thread may call, so that ``callback`` is called on the reactor soon, until ``stop``."""

        def call() -> None:
            if not self._is_stopped:
                callback()

        return lambda: self._reactor.callFromThread(call)

    def watch_arrivals(
        self, folder: Path, callback: Callable[[frozenset[str]], None], written: Callable[[str], None]
    ) -> None:
        """Call ``callback(arrived)`` soon after files are renamed into the folder. Raises as ``watch``.

        ``written(name)`` is called at once when something was written to a file in it.
        """
        self._watch(folder, None, callback, _ARRIVALS)
        self._written[bytes(folder)] = written

    def _watch(
        self,
        folder: Path,
        names: Collection[str] | None,
        callback: Callable[[frozenset[str]], None],
        mask: int,
    ) -> None:
        path = FilePath(bytes(folder))
        try:
            self._inotify.watch(path, mask=mask, callbacks=[self._event])
        except inotify.INotifyError:
            log.error("no inotify watch is left: raise fs.inotify.max_user_watches (sysctl)")
            raise StorageFailed("changes cannot be watched") from None
        self._folders[path.path] = FolderWatch(self._clock, names, callback)

    def ignore(self, folder: Path) -> None:
        """Stop watching; a folder that is not watched is no error."""
        path = FilePath(bytes(folder))
        self._written.pop(path.path, None)
        found = self._folders.pop(path.path, None)
        if found is not None:
            found.cancel()
            try:
                self._inotify.ignore(path)
            except KeyError:
                pass  # the folder was deleted, and inotify dropped it by itself

    def _event(self, _watch: object, path: Any, mask: int) -> None:
        raw = path.path if isinstance(path.path, bytes) else path.path.encode()
        folder, _, name = raw.rpartition(b"/")
        heard: Callable[[str], None] | None
        if mask & inotify.IN_MODIFY:
            heard = self._written.get(folder)
        else:
            heard = found.touched if (found := self._folders.get(folder)) else None
        if heard is not None:
            heard(name.decode("ascii", "replace"))

    def _lost(self, *_event: object) -> None:
        """The kernel's queue was full while this process was busy, or stopped: look at everything."""
        log.warning("the queue of inotify has overflowed (sysctl fs.inotify.max_queued_events)")
        for found in tuple(self._folders.values()):
            found.touched_anyhow()

    def stop(self) -> None:
        """End all watching and close the inotify instance."""
        self._is_stopped = True
        for found in self._folders.values():
            found.cancel()
        self._folders.clear()
        self._written.clear()
        self._inotify.stopReading()
        self._inotify.connectionLost(None)
