"""Give accounts to other nodes: snapshots and tickets for whoever takes them, then the account itself.

What is due is decided anew at every look, from the directory and from the mark in the account's folder, so it
may be killed at any step. Two threads share the work. That of the snapshot job takes the snapshots: it closes
an account only when it is about to take the last one, and does nothing else until that is given away. The
other one never takes a snapshot nor waits for one: it gives up what lasts too long, opens again what was
closed, and puts away what has gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from threading import Lock
from typing import Any

from backup.errors import ImageUnreadable, ObjectStoreError, SegmentDamaged, StoreUnavailable
from backup.job import Job
from backup.move_ticket import Notes, Ticket, newest_chain
from mailstore.account import AccountPaths, account_paths, keys_lock
from mailstore.directory import (
    FORGOTTEN_S,
    Due,
    Move,
    MoveId,
    Moves,
    Phase,
    Seen,
    Side,
    Trouble,
    View,
    is_over,
    is_past,
    source_due,
)
from mailstore.durable import storage_errors
from mailstore.errors import (
    Busy,
    DirectoryUnavailable,
    MoveOver,
    NoSuchAccount,
    StorageFailed,
    StorageFull,
    StoreError,
)
from mailstore.eviction import is_closed
from mailstore.keys import AccountId
from mailstore.limits import MoveLimits
from mailstore.move_mark import mark_at, put_mark, remove_mark
from mailstore.moved_account import set_aside_moved
from mailstore.placing import placing

log = logging.getLogger("sealbox.moves")

_LOCK_WAIT_S = 0.5
"""Seconds for which a change of the account's keys, or of its place, is waited for in each look."""

BEAT_S = 20.0
"""Seconds between two signs of life while the target waits for this node."""

AGAIN_S = 60.0
"""Seconds until the next look at what has failed, or leads nowhere any more."""

_NO_ROOM = "it has moved, but what it had here cannot be put away: make room on this server's disk"

_FOR_THE_JOB = (Phase.BEGUN, Phase.COPIED)


@dataclass(frozen=True, slots=True)
class _Closed:
    """A mark that was seen, and by this process's clock since when."""

    mark: MoveId
    since_s: float


class Giver:
    """The accounts that go from this node: ``give`` is for the thread of the job, ``look`` for another."""

    def __init__(
        self,
        root: Path,
        me: str,
        job: Job,
        moves: Moves,
        store: str,
        limits: MoveLimits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``store`` is the URL of the job's store. Raises StorageFailed."""
        self._root = root
        self._me = me
        self._job = job
        self._moves = moves
        self._store = store
        self._limits = limits
        self._monotonic = monotonic
        self._taken: dict[AccountId, tuple[MoveId, Phase, bool]] = {}
        """At which point a snapshot has been taken of an account, so that it is not at every turn."""

        self._uploading: set[AccountId] = set()
        """Of which a snapshot has been taken that is not stored yet. Both are the job's thread's alone."""

        with storage_errors():
            found = list((root / "accounts").glob("??/*/moving"))
        self._lock = Lock()
        """Around what both threads change: the next three, and marks in folders."""

        self._marked = {AccountId(path.parent.name) for path in found}
        self._closed: dict[AccountId, _Closed] = {}
        self._work: dict[AccountId, Phase] = {}
        """What the job has to do something for."""

        self._looked_s = -inf
        self._not_before_s: dict[tuple[AccountId, MoveId | None], float] = {}
        """When what has failed, or leads nowhere, is looked at again."""

    # -- in a thread that never waits for the job ------------------------------------------------

    def look(self, seen: Iterable[Seen]) -> None:
        """Do what is due but for snapshots, and note what the job has to do. ``seen`` are all moves."""
        mine = {one.move.account_id: one for one in seen if one.move.source == self._me}
        with self._lock:
            accounts = self._marked | mine.keys()
        work: dict[AccountId, Phase] = {}
        for account_id in sorted(accounts):
            if self._look_after(account_id, mine.get(account_id)):
                work[account_id] = mine[account_id].move.phase
        with self._lock:
            self._work, self._looked_s = work, self._monotonic()
        late = [key for key, until_s in self._not_before_s.items() if until_s < self._monotonic()]
        for key in late:
            del self._not_before_s[key]

    def _look_after(self, account_id: AccountId, one: Seen | None) -> bool:
        """Whether the job has to do something for it."""
        key = account_id, None if one is None else one.move.move_id
        if self._monotonic() < self._not_before_s.get(key, -inf):
            return False
        paths = account_paths(self._root, account_id)
        try:
            mark, closed_s = self._marked_there(paths)
            if mark is None and one is not None and self._goes_on(one):
                return one.move.phase in _FOR_THE_JOB
            view = self._moves.view(account_id)
            due = source_due(view, self._me, mark, self._limits, closed_s)
            self._do(due, view, paths, mark)
        except MoveOver:
            return False  # the next look says what that means
        except (Busy, DirectoryUnavailable):
            with self._lock:
                return account_id in self._work
        except Exception as error:  # noqa: BLE001 - others have their turn
            self._not_before_s[key] = self._monotonic() + AGAIN_S
            log.error("account %s: its move: %s; trying again in %.0f s", account_id, _text(error), AGAIN_S)
            return False
        if due is Due.NOTHING and (view.seen is None or is_past(view.record, view.seen.move)):
            # As when it was deleted at its new node. Its files stay closed: the directory may be an old one.
            self._not_before_s[key] = self._monotonic() + AGAIN_S
        return one is not None and due in (Due.OFFER, Due.CLOSE)

    def _goes_on(self, one: Seen) -> bool:
        """Whether there is nothing to be asked of an account that is open: neither side has been silent."""
        if is_over(one.move):
            return one.silent_s <= FORGOTTEN_S
        longest_s = BEAT_S if one.move.phase in _FOR_THE_JOB else self._limits.silence_max_s
        return one.move.phase is not Phase.LAST and one.silent_s <= longest_s

    def _marked_there(self, paths: AccountPaths) -> tuple[MoveId | None, float]:
        """The mark, and for how many seconds it has been there, as far as this process knows."""
        account_id = AccountId(paths.folder.name)
        with self._lock:
            mark = mark_at(paths.moving)
            if mark is None:
                self._marked.discard(account_id)
                self._closed.pop(account_id, None)
                return None, 0.0
            self._marked.add(account_id)
            found = self._closed.get(account_id)
            if found is None or found.mark != mark:
                found = self._closed[account_id] = _Closed(mark, self._monotonic())
        return mark, self._monotonic() - found.since_s

    def _do(self, due: Due, view: View, paths: AccountPaths, mark: MoveId | None) -> None:
        match due:
            case Due.REOPEN:
                self._reopen(paths, mark)
            case Due.FORGET if view.seen is not None:
                self._moves.cancel(view.seen.move)
            case Due.SET_ASIDE:
                self._set_aside(paths)
            case Due.GIVE_UP if view.seen is not None:
                self._give_up(view.seen.move, mark)
            case Due.OFFER | Due.CLOSE if view.seen is not None and mark is None:
                if view.seen.silent_s > BEAT_S:
                    self._moves.step(view.seen.move, Side.SOURCE, view.seen.move.phase)

    def _reopen(self, paths: AccountPaths, mark: MoveId | None) -> None:
        account_id = AccountId(paths.folder.name)
        with self._lock:
            if mark_at(paths.moving) != mark:
                return  # another move has closed it meanwhile
            remove_mark(paths.moving)
            self._marked.discard(account_id)
            self._closed.pop(account_id, None)
        log.warning("account %s is open again: it does not move", account_id)

    def _set_aside(self, paths: AccountPaths) -> None:
        """Put away what has gone; what has come back meanwhile stays, which only the lock makes certain."""
        account_id = AccountId(paths.folder.name)
        with placing(self._root, _LOCK_WAIT_S):
            view, mark = self._moves.view(account_id), mark_at(paths.moving)
            if source_due(view, self._me, mark, self._limits) is not Due.SET_ASIDE:
                return  # the next look says what there is to do
            assert view.record is not None and mark is not None, "so it was due"
            try:
                set_aside_moved(self._root, paths, mark, view.record.node_generation)
            except StorageFull:
                raise StorageFull(_NO_ROOM) from None
        with self._lock:
            self._marked.discard(account_id)
            self._closed.pop(account_id, None)
        log.info("account %s is on node %s now", account_id, view.record.node)

    def _fail(self, move: Move, trouble: Trouble, failed: Side = Side.SOURCE) -> None:
        self._moves.step(move, Side.SOURCE, Phase.FAILED, failed=failed, trouble=trouble)
        log.error(
            "account %s does not move to node %s: %s (%s)", move.account_id, move.target, trouble, failed
        )

    def _give_up(self, move: Move, mark: MoveId | None) -> None:
        """Say which side has kept the other one, and the account's user, waiting for too long."""
        if move.phase in (Phase.COPYING, Phase.LAST):
            self._fail(move, Trouble.SILENCE, Side.TARGET)
        elif mark is None:
            self._fail(move, Trouble.SILENCE)
        else:
            has_left = self._taken.get(move.account_id) == (move.move_id, move.phase, True)
            self._fail(move, Trouble.STORE if has_left else Trouble.SESSIONS)

    # -- in the job's thread ---------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether the job has something to do that does not wait for an upload."""
        with self._lock:
            return bool(self._work.keys() - self._uploading) or bool(self._work.keys() & self._closed)

    def give(self) -> bool:
        """Take the snapshots that are due; whether an account is closed, and waits for the next call."""
        with self._lock:
            is_fresh = self._monotonic() - self._looked_s <= self._limits.silence_max_s
            work = dict(self._work) if is_fresh else {}  # without a directory nothing comes of it
            closed = self._closed.keys() & work.keys()
        self._job.urgent = frozenset(work)
        self._job.alone = frozenset(one for one, phase in work.items() if phase is Phase.COPIED)
        for account_id in self._taken.keys() - work.keys():
            del self._taken[account_id]
        self._uploading &= work.keys()
        waits = False
        # What is closed first, and then nothing that may take long.
        for account_id in sorted(work, key=lambda one: (one not in closed, one)):
            if not waits or account_id in closed:
                waits = self._serve(account_id) or waits
        if work:
            self._job.collect()
        return waits

    def _serve(self, account_id: AccountId) -> bool:
        """Take the next step; whether the account is closed and the step has still to come."""
        paths = account_paths(self._root, account_id)
        try:
            mark = mark_at(paths.moving)
            if account_id in self._uploading and self._is_uploading(account_id):
                return self._waits(account_id)
            view = self._moves.view(account_id)
            due = source_due(view, self._me, mark, self._limits)
            if view.seen is None or due not in (Due.OFFER, Due.CLOSE):
                with self._lock:
                    self._work.pop(account_id, None)
                return False
            self._go_on(due, view.seen.move, paths, mark)
        except MoveOver:
            return False  # the other thread finds out what that means
        except (Busy, DirectoryUnavailable, NoSuchAccount):
            pass  # tried again, until the move is given up
        except StoreError as error:
            log.error("account %s: its move: %s", account_id, _text(error))
            with self._lock:
                self._work.pop(account_id, None)
        return self._waits(account_id)

    def _waits(self, account_id: AccountId) -> bool:
        """Whether the account is closed, and this process can still give it away in time."""
        with self._lock:
            closed = self._closed.get(account_id) if account_id in self._work else None
        return closed is not None and self._monotonic() - closed.since_s <= self._limits.closed_max_s

    def _is_uploading(self, account_id: AccountId) -> bool:
        self._job.collect()
        is_stored = all(one.stored for one in newest_chain(self._job.segments(account_id)))
        return not is_stored and self._job.trouble_of(account_id) is None

    def _go_on(self, due: Due, move: Move, paths: AccountPaths, mark: MoveId | None) -> None:
        try:
            if due is Due.OFFER:
                self._offer(move, Ticket(self._store, ()))
            else:
                self._close(move, paths, mark)
        except StorageFull:
            self._fail(move, Trouble.DISK_FULL)
        except (ImageUnreadable, SegmentDamaged, StorageFailed):
            self._fail(move, Trouble.DAMAGED)
        except ObjectStoreError:
            self._fail(move, Trouble.STORE)
        except (MoveOver, Busy, DirectoryUnavailable, NoSuchAccount):
            raise
        except StoreError as error:
            log.error("account %s: %s", move.account_id, _text(error))
            self._fail(move, Trouble.OTHER)

    def _offer(self, move: Move, before: Ticket) -> None:
        """Have the target copy what there is now, once it is stored; sessions go on."""
        ticket = self._taken_now(move, before, closed=False)
        if ticket is not None:
            self._step(move, Phase.COPYING, ticket=ticket.value())

    def _close(self, move: Move, paths: AccountPaths, mark: MoveId | None) -> None:
        """Close the account and give it away; first let the target copy what much has come meanwhile."""
        before = Ticket.of(move.ticket)
        if mark is None:
            if not self._job.can_upload:
                return  # what is uploaded now ends first, and nothing of others is begun
            self._snapshot(move, closed=False)
            late_bytes = before.bytes_beside(newest_chain(self._job.segments(move.account_id)))
            if late_bytes > self._limits.late_max_bytes and before.rounds < self._limits.rounds_max:
                self._offer(move, replace(before, rounds=before.rounds + 1))
                return
            self._shut(move, paths)
        if not is_closed(paths):
            return
        ticket = self._taken_now(move, before, closed=True)
        if ticket is not None:
            ticket = replace(ticket, notes=Notes.read(paths))
            self._step(move, Phase.LAST, ticket=ticket.value())

    def _shut(self, move: Move, paths: AccountPaths) -> None:
        with keys_lock(paths, _LOCK_WAIT_S), self._lock:
            self._marked.add(move.account_id)
            self._closed[move.account_id] = _Closed(move.move_id, self._monotonic())
            put_mark(paths.moving, move.move_id)
        log.info("account %s is closed: it moves to node %s", move.account_id, move.target)
        self._moves.step(move, Side.SOURCE, move.phase, is_closed=True)

    def _step(self, move: Move, phase: Phase, **changed: Any) -> None:
        """Hand on to the target; nothing is left for the job until it answers."""
        self._moves.step(move, Side.SOURCE, phase, **changed)
        with self._lock:
            self._work.pop(move.account_id, None)

    def _taken_now(self, move: Move, before: Ticket, *, closed: bool) -> Ticket | None:
        """A ticket of a snapshot that was taken after this was first asked; None until it is stored.

        Raises ObjectStoreError: it cannot be.
        """
        self._snapshot(move, closed=closed)
        self._job.collect()
        chain = newest_chain(self._job.segments(move.account_id))
        if not chain or not all(one.stored for one in chain):
            if self._job.trouble_of(move.account_id) is not None:
                raise StoreUnavailable
            self._uploading.add(move.account_id)
            return None
        self._uploading.discard(move.account_id)
        return replace(before, store=self._store, segments=chain)

    def _snapshot(self, move: Move, *, closed: bool) -> None:
        at = (move.move_id, move.phase, closed)
        if self._taken.get(move.account_id) != at:
            self._job.snapshot(move.account_id)
            self._taken[move.account_id] = at


def _text(error: Exception) -> str:
    """Which error it is; what our own say has no values."""
    said = str(error) if isinstance(error, StoreError) else ""
    return ": ".join(one for one in (type(error).__name__, said) if one)
