"""Take accounts from other nodes: copy what their tickets name, and put the account in its place.

What is due is decided anew at every turn, from the directory and from what lies in scratch and in the
account's place, so it may be killed at any step. It opens no database and needs no key but those of tickets.
Copying has threads of its own; ``look`` is called in one thread, which is not the snapshot job's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from threading import Event

from backup.errors import (
    ChainBroken,
    ObjectStoreError,
    OtherStore,
    SegmentDamaged,
)
from backup.limits import BackupLimits
from backup.move_ticket import Ticket
from backup.rebuild import Rebuilder, forget_progress
from backup.source import Source
from backup.stores import ObjectStore
from mailstore.account import AccountPaths, account_paths
from mailstore.directory import Due, Move, Moves, Phase, Seen, Side, Trouble, is_past, target_due
from mailstore.durable import make_folders, remove_tree, storage_errors
from mailstore.errors import (
    Busy,
    DirectoryUnavailable,
    LeaseOver,
    MoveOver,
    NoSuchNode,
    StorageFull,
    StoreError,
)
from mailstore.keys import AccountId
from mailstore.lease import require_lease
from mailstore.limits import MoveLimits
from mailstore.move_mark import mark_at, remove_mark
from mailstore.moved_account import put_in_place, throw_away
from mailstore.placing import placing
from mailstore.set_aside import SCRATCH, shred_keys

log = logging.getLogger("sealbox.moves")

WORK = SCRATCH / "move"
"""Folder of a data root: one folder for each move, and in it one for the account."""

BEAT_S = 5.0
"""Seconds between two signs of life of a copy that goes on."""


AGAIN_S = 10.0
"""Seconds until the next look at what has failed."""

_HAS_TURN = (Phase.COPYING, Phase.LAST)
_SOURCE_HAS_TURN = (Phase.BEGUN, Phase.COPIED)


@dataclass(slots=True)
class _Work:
    """A copy that goes on in a thread."""

    move: Move
    done: Future[None] | None = None
    copied_bytes: int = 0
    next_beat_s: float = 0.0
    is_over: Event = field(default_factory=Event)

    def progress(self, size: int) -> None:
        """Called by threads that fetch. Raises MoveOver, so that nothing more is fetched in vain."""
        if self.is_over.is_set():
            raise MoveOver
        self.copied_bytes += size


class Taker:
    """The accounts that come to this node."""

    def __init__(
        self,
        root: Path,
        me: str,
        moves: Moves,
        open_store: Callable[[str], ObjectStore],
        limits: MoveLimits,
        backup: BackupLimits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``open_store`` opens a store by the URL of another node. Raises StorageFailed."""
        self._root = root
        self._me = me
        self._moves = moves
        self._open_store = open_store
        self._threads = backup.upload_threads
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(limits.at_once, thread_name_prefix="move")
        self._working: dict[AccountId, _Work] = {}
        self._not_before_s: dict[AccountId, float] = {}
        with storage_errors():
            arrived = (root / "accounts").glob("??/*/arrived")
            self._known = {AccountId(path.parent.name) for path in arrived}
            self._known |= {AccountId(path.name) for path in (root / WORK).glob("*/*") if path.is_dir()}

    def look(self, seen: Iterable[Seen]) -> None:
        """Do what is due. ``seen`` are all moves, as they were a moment ago."""
        mine = {one.move.account_id: one.move for one in seen if one.move.target == self._me}
        coming = {account_id for account_id, move in mine.items() if move.phase in _HAS_TURN}
        still = {account_id for account_id, move in mine.items() if move.phase in _SOURCE_HAS_TURN}
        for account_id in sorted(coming | (self._known - still)):
            if self._monotonic() < self._not_before_s.get(account_id, -inf):
                continue
            try:
                self._look_after(account_id)
            except (MoveOver, Busy, DirectoryUnavailable, LeaseOver):
                continue  # the next look says what that means
            except Exception as error:  # noqa: BLE001 - others have their turn
                self._not_before_s[account_id] = self._monotonic() + AGAIN_S
                said = type(error).__name__
                log.error("account %s: what was copied stays: %s; trying again soon", account_id, said)

    def stop(self) -> None:
        """End what is being copied; the next process goes on with it. Not during a look."""
        for work in self._working.values():
            work.is_over.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look_after(self, account_id: AccountId) -> None:
        if account_id in self._working and not self._ended(self._working[account_id]):
            return
        view = self._moves.view(account_id)
        paths = account_paths(self._root, account_id)
        scratch = self._scratch_of(account_id)
        due = target_due(view, self._me, mark_at(paths.arrived), bool(scratch))
        if due in (Due.COPY, Due.TAKE) and view.seen is not None:
            require_lease(self._root)  # an account is not given to a node that opens none
            self._known.add(account_id)
            self._begin(view.seen.move, self._copy if due is Due.COPY else self._take)
        elif due is Due.SETTLE:
            self._settle(paths, scratch)
        elif due is Due.THROW_AWAY:
            self._throw_away(paths, scratch)
        elif view.seen is None or is_past(view.record, view.seen.move):
            self._known.discard(account_id)

    def _settle(self, paths: AccountPaths, scratch: list[Path]) -> None:
        self._clear(scratch, paths)
        if mark_at(paths.arrived) is not None:
            forget_progress(paths.folder)
            remove_mark(paths.arrived)
        self._known.discard(AccountId(paths.folder.name))

    def _throw_away(self, paths: AccountPaths, scratch: list[Path]) -> None:
        account_id = AccountId(paths.folder.name)
        self._clear(scratch, paths)
        with placing(self._root):
            view, mark = self._moves.view(account_id), mark_at(paths.arrived)
            if target_due(view, self._me, mark, bool(scratch)) is not Due.THROW_AWAY:
                return
            if mark is not None:
                throw_away(self._root, paths, None if view.record is None else view.record.node_generation)
        self._known.discard(account_id)
        log.info("account %s does not come here: what was copied has been removed", paths.folder.name)

    def _scratch_of(self, account_id: AccountId) -> list[Path]:
        with storage_errors():
            return list((self._root / WORK).glob(f"*/{account_id}"))

    def _clear(self, scratch: Iterable[Path], paths: AccountPaths) -> None:
        """Remove what lies in scratch; once the account is in its place, that is an empty folder."""
        move_id = mark_at(paths.arrived)
        with storage_errors():
            if move_id is not None:
                remove_tree(self._root / WORK / move_id)
            for folder in scratch:
                shred_keys(folder)
                remove_tree(folder.parent)

    # -- in threads ------------------------------------------------------------------------------

    def _begin(self, move: Move, work: Callable[[_Work], None]) -> None:
        found = self._working[move.account_id] = _Work(move)
        found.next_beat_s = self._monotonic() + BEAT_S
        found.done = self._pool.submit(self._guarded, work, found)

    def _ended(self, work: _Work) -> bool:
        """Whether it has; otherwise give a sign of life, and end it if nobody waits for it any more."""
        assert work.done is not None, "it has begun"
        if work.done.done():
            del self._working[work.move.account_id]
            return True
        if work.move.phase is Phase.COPYING and self._monotonic() >= work.next_beat_s:
            work.next_beat_s = self._monotonic() + BEAT_S
            try:
                self._moves.step(work.move, Side.TARGET, Phase.COPYING, copied_bytes=work.copied_bytes)
            except MoveOver:
                work.is_over.set()
        return False

    def _guarded(self, work: Callable[[_Work], None], found: _Work) -> None:
        """Do it, and say what went wrong, to the source and to the log."""
        move = found.move
        try:
            work(found)
        except (MoveOver, Busy, DirectoryUnavailable):
            return  # the next look says what that means
        except StorageFull:
            self._fail(move, Trouble.DISK_FULL)
        except OtherStore:
            self._fail(move, Trouble.OTHER_STORE)
        except ObjectStoreError:
            self._fail(move, Trouble.STORE)
        except (SegmentDamaged, ChainBroken):
            self._fail(move, Trouble.DAMAGED)
        except Exception as error:  # noqa: BLE001 - whatever it is, it has a line in the log, and an end
            log.error("account %s: %s", move.account_id, type(error).__name__)
            self._fail(move, Trouble.OTHER)

    def _fail(self, move: Move, trouble: Trouble) -> None:
        log.error("account %s does not come here from node %s: %s", move.account_id, move.source, trouble)
        try:
            self._moves.step(move, Side.TARGET, Phase.FAILED, failed=Side.TARGET, trouble=trouble)
        except StoreError:
            return  # the source gives up when it hears nothing

    def _copy(self, work: _Work) -> None:
        self._rebuilt(work)
        self._moves.step(work.move, Side.TARGET, Phase.COPIED, copied_bytes=work.copied_bytes)
        log.info("account %s: %d bytes copied from node %s", *_facts(work))

    def _take(self, work: _Work) -> None:
        move, paths = work.move, account_paths(self._root, work.move.account_id)
        if mark_at(paths.arrived) != move.move_id:
            folder, ticket = self._rebuilt(work)
            ticket.notes.write(AccountPaths(folder))
            with placing(self._root):
                self._require_on(move)
                put_in_place(self._root, folder, paths, move.move_id, move.generation + 1)
        try:
            self._moves.finish(move)
        except NoSuchNode:  # this one has been removed
            self._fail(move, Trouble.OTHER)
        else:
            log.info("account %s: here now, the last %d bytes copied from node %s", *_facts(work))

    def _require_on(self, move: Move) -> None:
        """Raises MoveOver: somebody has ended it, such as who recovers the accounts of a lost source."""
        seen = self._moves.view(move.account_id).seen
        if seen is None or seen.move.move_id != move.move_id:
            raise MoveOver

    def _rebuilt(self, work: _Work) -> tuple[Path, Ticket]:
        """The account as its ticket says, in scratch; what an earlier try has done is done."""
        move, ticket = work.move, Ticket.of(work.move.ticket)
        keys = {one.name: one.content_key for one in ticket.segments}
        sizes = {one.name: one.size_bytes for one in ticket.segments}
        place = self._root / WORK / move.move_id
        folder = place / move.account_id
        source = Source(self._open_store(ticket.store), keys.get, sizes)
        with storage_errors():
            make_folders(folder)  # by which what is in scratch is found
        rebuilder = Rebuilder(source, place, self._threads, work.progress)
        rebuilder.go_on(
            ticket.names,
            folder,
            account=move.account_id,
            expected={one.name.sequence: one.sha256 for one in ticket.segments},
        )
        return folder, ticket


def _facts(work: _Work) -> tuple[AccountId, int, str]:
    return work.move.account_id, work.copied_bytes, work.move.source
