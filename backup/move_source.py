"""Give accounts to other nodes: snapshots and tickets for whoever takes them, then the account itself.

What is due is decided anew at every turn, from the directory and from the mark in the account's folder, so it
may be killed at any step. It runs in the thread of the snapshot job, whose snapshots it takes; no turn waits
for anybody but the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from backup.errors import ImageUnreadable, ObjectStoreError, SegmentDamaged, StoreUnavailable
from backup.job import Job
from backup.move_ticket import Notes, Ticket, newest_chain
from mailstore.account import AccountPaths, account_paths, keys_lock
from mailstore.damage import tell_seldom
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
"""Seconds for which a change of the account's keys, or of its place, is waited for in each turn."""


class Giver:
    """The accounts that go from this node; all methods are called in the snapshot job's thread."""

    def __init__(self, root: Path, me: str, job: Job, moves: Moves, store: str, limits: MoveLimits) -> None:
        """``store`` is the URL of the job's store. Raises StorageFailed."""
        self._root = root
        self._me = me
        self._job = job
        self._moves = moves
        self._store = store
        self._limits = limits
        self._taken: dict[AccountId, tuple[MoveId, Phase, bool]] = {}
        """At which point a snapshot has been taken of an account, so that it is not at every turn."""

        with storage_errors():
            found = list((root / "accounts").glob("??/*/moving"))
        self._marked = {AccountId(path.parent.name) for path in found}

    def concerns(self, seen: Iterable[Seen]) -> set[AccountId]:
        """The accounts that have to be looked at."""
        mine = (one for one in seen if one.move.source == self._me)
        going = {one.move.account_id for one in mine if not is_over(one.move) or one.silent_s > FORGOTTEN_S}
        return going | self._marked

    def turn(self, seen: Iterable[Seen]) -> None:
        """Do what is due. ``seen`` are all moves, as they were a moment ago."""
        accounts = self.concerns(seen)
        self._job.urgent = frozenset(accounts)
        for account_id in self._taken.keys() - accounts:
            del self._taken[account_id]
        for account_id in sorted(accounts):
            self._look_after(account_id)
        if accounts:
            self._job.collect()

    def _look_after(self, account_id: AccountId) -> None:
        paths = account_paths(self._root, account_id)
        try:
            view = self._moves.view(account_id)
            mark = mark_at(paths.moving)
            if mark is None:
                self._marked.discard(account_id)
            self._do(source_due(view, self._me, mark, self._limits), view, paths, mark)
        except MoveOver:
            return  # the next look says what that means
        except (Busy, DirectoryUnavailable, NoSuchAccount):
            return  # tried again, until the move is given up
        except StoreError as error:
            tell_seldom(account_id, f"it cannot be looked after while it moves ({type(error).__name__})")

    def _do(self, due: Due, view: View, paths: AccountPaths, mark: MoveId | None) -> None:
        match due:
            case Due.REOPEN:
                self._reopen(paths)
            case Due.FORGET if view.seen is not None:
                self._moves.cancel(view.seen.move)
            case Due.SET_ASIDE:
                self._set_aside(paths)
            case Due.GIVE_UP | Due.OFFER | Due.CLOSE if view.seen is not None:
                self._go_on(due, view.seen.move, paths, mark)

    def _go_on(self, due: Due, move: Move, paths: AccountPaths, mark: MoveId | None) -> None:
        try:
            if due is Due.GIVE_UP:
                self._give_up(move, mark)
            elif due is Due.OFFER:
                self._offer(move, Ticket(self._store, ()))
            else:
                self._close(move, paths, mark)
        except StorageFull:
            self._fail(move, Trouble.DISK_FULL)
        except (ImageUnreadable, SegmentDamaged, StorageFailed):
            self._fail(move, Trouble.DAMAGED)
        except ObjectStoreError:
            self._fail(move, Trouble.STORE)

    def _reopen(self, paths: AccountPaths) -> None:
        remove_mark(paths.moving)
        self._marked.discard(AccountId(paths.folder.name))
        log.warning("account %s is open again: it does not move", paths.folder.name)

    def _set_aside(self, paths: AccountPaths) -> None:
        """Put away what has gone; what has come back meanwhile stays, which only the lock makes certain."""
        account_id = AccountId(paths.folder.name)
        with placing(self._root, _LOCK_WAIT_S):
            view, mark = self._moves.view(account_id), mark_at(paths.moving)
            if source_due(view, self._me, mark, self._limits) is not Due.SET_ASIDE:
                return  # the next look says what there is to do
            assert view.record is not None and mark is not None, "so it was due"
            set_aside_moved(self._root, paths, mark, view.record.node_generation)
        self._marked.discard(account_id)
        log.info("account %s is on node %s now", account_id, view.record.node)

    def _fail(self, move: Move, trouble: Trouble, failed: Side = Side.SOURCE) -> None:
        self._moves.step(move, Side.SOURCE, Phase.FAILED, failed=failed, trouble=trouble)
        log.error(
            "account %s does not move to node %s: %s (%s)", move.account_id, move.target, trouble, failed
        )

    def _give_up(self, move: Move, mark: MoveId | None) -> None:
        if move.phase in (Phase.COPYING, Phase.LAST):
            self._fail(move, Trouble.SILENCE, Side.TARGET)
        else:
            self._fail(move, Trouble.SESSIONS if mark is not None else Trouble.SILENCE)

    def _offer(self, move: Move, before: Ticket) -> None:
        """Have the target copy what there is now, once it is stored; sessions go on."""
        ticket = self._taken_now(move, before, closed=False)
        if ticket is not None:
            self._moves.step(move, Side.SOURCE, Phase.COPYING, ticket=ticket.value())

    def _close(self, move: Move, paths: AccountPaths, mark: MoveId | None) -> None:
        """Close the account and give it away; first let the target copy what much has come meanwhile."""
        before = Ticket.of(move.ticket)
        if mark is None:
            self._snapshot(move, closed=False)
            late_bytes = before.bytes_beside(newest_chain(self._job.segments(move.account_id)))
            if late_bytes > self._limits.late_max_bytes and before.rounds < self._limits.rounds_max:
                self._offer(move, replace(before, rounds=before.rounds + 1))
                return
            self._marked.add(move.account_id)
            with keys_lock(paths, _LOCK_WAIT_S):
                put_mark(paths.moving, move.move_id)
            log.info("account %s is closed: it moves to node %s", move.account_id, move.target)
        if not is_closed(paths):
            return
        ticket = self._taken_now(move, before, closed=True)
        if ticket is not None:
            ticket = replace(ticket, notes=Notes.read(paths))
            self._moves.step(move, Side.SOURCE, Phase.LAST, ticket=ticket.value())

    def _taken_now(self, move: Move, before: Ticket, *, closed: bool) -> Ticket | None:
        """A ticket of a snapshot that was taken after this was first asked; None until it is stored.

        Raises ObjectStoreError: it cannot be.
        """
        self._snapshot(move, closed=closed)
        self._job.collect()
        chain = newest_chain(self._job.segments(move.account_id))
        if not chain or not all(one.stored for one in chain):
            if self._job.trouble is not None:
                raise StoreUnavailable
            return None
        return replace(before, store=self._store, segments=chain)

    def _snapshot(self, move: Move, *, closed: bool) -> None:
        at = (move.move_id, move.phase, closed)
        if self._taken.get(move.account_id) != at:
            self._job.snapshot(move.account_id)
            self._taken[move.account_id] = at
