"""The lease of a node: for how long this process may serve the node's accounts without asking anybody.

A node that is cut off from the others cannot know what they decide. So the directory in PostgreSQL keeps
until when each node may serve, and gives no account of a node to another before that is over. Every process
that opens accounts renews the lease for itself, and remembers by its own clock, from before it asked, until
when it may serve; a part is left off for what is under way then, and for clocks that run at different rates.
When it could not renew until then it opens no account, ends its sessions and takes no mail.

A server without a name, or with its directory in its data root, has no lease and needs none.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread

from mailstore.account import read_server_key
from mailstore.directory import directory_place, lease_of_directory, node_name
from mailstore.errors import LeaseOver, LeaseRefused, NodeIsLost, NodeWasLost, NoSuchNode, StoreError

log = logging.getLogger("sealbox.nodes")

DEFAULT_LEASE_S = 300.0
DEFAULT_MARGIN_S = 30.0
"""Seconds at the end of a lease that are never used. In them sessions are closed and commands ended, up to
``LOOK_S`` late; what was begun is written; and clocks may have run at different rates."""

MARGINS = 3
"""A lease is at least so many times as long as its margin, or it would be over before it is renewed."""

LOOK_S = 1.0
"""Most seconds between two looks at a lease that is held."""

_RENEWALS = 3
"""So often a lease is renewed before it is over."""

_FIRST_PAUSE = 20
"""The first pause after a renewal that failed is this part of the longest."""


def _seconds() -> float:
    """A clock that goes on while the machine is suspended, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """See the module's docstring. Any number of threads may use it at once."""

    def __init__(
        self,
        node: str,
        lease_s: float,
        renew: Callable[[], int],
        retry_max_s: float,
        at_end: Callable[[], None] | None = None,
        seconds: Callable[[], float] = _seconds,
        margin_s: float = DEFAULT_MARGIN_S,
    ) -> None:
        """``renew`` blocks, says how often the node was marked as lost, raises StoreError; it is called in a
        thread that begins with the first :meth:`require`. ``at_end`` is called in another one when the lease
        that was held is over, whatever renewing it waits for."""
        self._node = node
        self._lease_s = lease_s
        self._renew = renew
        self._retry_max_s = retry_max_s
        self._at_end = at_end
        self._seconds = seconds
        self._margin_s = margin_s
        self._until_s = -math.inf
        self._was_held = False
        self._times_lost: int | None = None
        self._is_refused = False
        self._told = ""
        self._tried = Event()
        self._ending = Event()
        self._lock = Lock()
        self._thread: Thread | None = None

    @property
    def left_s(self) -> float:
        """Seconds for which this process may go on serving; 0 when it may not."""
        return max(self._until_s - self._seconds(), 0.0)

    @property
    def is_held(self) -> bool:
        """Whether this process may serve."""
        return self._seconds() < self._until_s

    def require(self) -> None:
        """In a thread: waits for the first try to renew. Raises LeaseOver, LeaseRefused."""
        if self.is_held:
            return
        self.start()
        self._tried.wait()
        if not self.is_held:
            raise LeaseRefused if self._is_refused else LeaseOver

    def start(self) -> None:
        """Renew it from now on, in a thread."""
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="sealbox-lease", daemon=True)
                self._thread.start()
                Thread(target=self._watch, name="sealbox-lease-end", daemon=True).start()

    def stop(self) -> None:
        """Renew it no more; may be called from any thread, and does not wait."""
        self._ending.set()

    def _run(self) -> None:
        pause_s = self._retry_max_s / _FIRST_PAUSE
        while not self._ending.is_set():
            if self.renew():
                pause_s = self._retry_max_s / _FIRST_PAUSE
                self._ending.wait(self._lease_s / _RENEWALS)
            else:
                self._ending.wait(pause_s)
                pause_s = min(2 * pause_s, self._retry_max_s)

    def renew(self) -> bool:
        """Try once, and whether it was renewed; blocks."""
        asked_s = self._seconds()
        try:
            self._require_never_lost(self._renew())
        except Exception as error:  # noqa: BLE001 - if the thread ended, nobody would renew the lease
            self._is_refused = isinstance(error, NodeIsLost | NoSuchNode)
            if self._is_refused:
                self._until_s = -math.inf
            self._tell(error)
        else:
            self._is_refused = False
            self._until_s = max(self._until_s, asked_s + self._lease_s - self._margin_s)
            if self._told:
                self._told = ""
                log.warning("node %s: its lease is renewed", self._node)
            self._was_held = self.is_held
        self._tried.set()
        self._look()
        return not self._told

    def _require_never_lost(self, times_lost: int) -> None:
        """Raises NodeWasLost: what this process remembers of accounts may be others' by now."""
        if self._times_lost is None:
            self._times_lost = times_lost
        if times_lost != self._times_lost:
            raise NodeWasLost

    def _tell(self, error: Exception) -> None:
        """Once for each reason; the directory's log has what PostgreSQL says."""
        if self._told == type(error).__name__:
            return
        self._told = type(error).__name__
        match error:
            case NodeWasLost():
                log.error(
                    "node %s was marked as lost and added again while this process was silent: it opens no"
                    " account any more, so restart the server",
                    self._node,
                )
            case NodeIsLost():
                log.error(
                    "node %s was marked as lost, and other nodes take its accounts: it opens none until"
                    " 'sealbox node add --again' adds it again",
                    self._node,
                )
            case NoSuchNode():
                log.error(
                    "node %s is not in the directory, so it opens no account: run 'sealbox node add %s"
                    " HOST:PORT'",
                    *(self._node, self._node),
                )
            case StoreError():
                log.warning(
                    "node %s: its lease cannot be renewed (%s); it serves for %d s more",
                    *(self._node, self._told, self.left_s),
                )
            case _:
                log.error("node %s: renewing its lease has failed: %s", self._node, self._told)

    def _look(self) -> None:
        """Notice the end of it."""
        with self._lock:
            is_over = self._was_held and not self.is_held
            self._was_held = self._was_held and not is_over
        if is_over:
            log.error("node %s: its lease is over: until it is renewed no account is open", self._node)
            if self._at_end is not None:
                self._at_end()

    def _watch(self) -> None:
        while not self._ending.wait(min(self.left_s, LOOK_S) if self.is_held else LOOK_S):
            self._look()


_leases: dict[Path, Lease] = {}
_settings: dict[Path, tuple[float, float, Callable[[], None] | None]] = {}
_lock = Lock()


def put_lease(root: Path, lease_s: float, margin_s: float, at_end: Callable[[], None] | None = None) -> None:
    """Say for how long the lease of a data root's server is from now on in this process, and how much of it
    is left off; it begins when it is first asked for. ``at_end`` is called in a thread when it is over."""
    _settings[root.resolve()] = lease_s, margin_s, at_end


def forget_lease(root: Path) -> None:
    """Renew it no more; who asks for it again gets a new one, as if nothing had been said of it."""
    with _lock:
        _settings.pop(root.resolve(), None)
        found = _leases.pop(root.resolve(), None)
    if found is not None:
        found.stop()


def lease_of(root: Path) -> Lease | None:
    """The lease of this process for the server of a data root; None where it needs none.

    Raises NotInitialised, ServerKeyLost, DirectoryKeyWrong, DriverMissing, StorageFailed.
    """
    node, place = node_name(root), directory_place(root)
    if node is None or place is None:
        return None
    where = root.resolve()
    with _lock:
        found = _leases.get(where)
        if found is None:
            lease_s, margin_s, at_end = _settings.get(where, (DEFAULT_LEASE_S, DEFAULT_MARGIN_S, None))
            renew = lease_of_directory(root, read_server_key(root), node, lease_s)
            found = _leases[where] = Lease(
                node, lease_s, renew, place.limits.retry_max_s, at_end, margin_s=margin_s
            )
    return found


def require_lease(root: Path) -> None:
    """Blocks when it is asked first in a process. Raises LeaseOver, and as :func:`lease_of`."""
    found = lease_of(root)
    if found is not None:
        found.require()
