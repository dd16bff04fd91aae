"""Take the accounts of a lost node from its snapshots.

An account is rebuilt in scratch, put in place, and then given to this node by the directory. Until that the
directory says that the lost node has it, so nobody opens what lies here. The rebuilt folder has the
generation that it is going to be given under: so an interrupted run knows it again, and a folder that was
left here when the account was on this node before is not taken for it.

Several nodes may do this at once: each begins elsewhere, and passes over what another has taken.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from backup.errors import BackupError
from backup.rebuild import Rebuilt
from backup.restore import Target
from backup.restore_accounts import Restored, Restoring, Sources, Wishes
from backup.restored_keys import Difference, Keyslots, choose_keys
from mailstore.account import AccountPaths, account_paths
from mailstore.directory import AccountRecord, Directory, Phase, moves_of
from mailstore.durable import make_folder, remove_tree, storage_errors, sync_folder
from mailstore.errors import Busy, NodeGenerationPast, StorageFailed
from mailstore.keys import AccountId, Header, read_header
from mailstore.lease import require_lease
from mailstore.move_mark import mark_at
from mailstore.placing import placing
from mailstore.set_aside import REPLACED
from mailstore.this_node import last_generation, note_generation

_ELSEWHERE = (
    "what it was when it came there is in the snapshots of the node that had it before: run it again with"
    " --before-move and --store, which says where that node has them"
)


class KeysUnknown(BackupError):
    """The snapshot has other keys than the directory knows, and nobody vouches for who wrote it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Who takes from whom."""

    lost: str
    mine: str
    closed_max_s: float
    """Seconds for which the end of a move is waited for that only its target can bring about."""

    before_move: bool = False
    """Whether accounts are wanted as they were when the lost node got them."""


class SnapshotPast(BackupError):
    """The account has been on another node since the snapshot was taken."""


class Recovering(Restoring):
    """Takes accounts of node ``lost`` for node ``mine``, which is that of the data root."""

    def __init__(
        self,
        root: Path,
        directory: Directory,
        sources: Sources,
        work: Path,
        terms: Terms,
        wishes: Wishes,
        progress: Callable[[int], None],
    ) -> None:
        """The rest is as for :class:`Restoring`."""
        super().__init__(root, sources, work, wishes, progress)
        self._terms = terms
        self._lost, self._mine = terms.lost, terms.mine
        self._directory = directory
        self._raised: dict[AccountId, int] = {}
        self._moves = moves_of(directory)
        self._work = work
        self._progress = progress

    def targets(self, accounts: Sequence[AccountId]) -> tuple[list[Target], list[Restored]]:
        """As for :class:`Restoring`."""
        found, hopeless = super().targets(accounts)
        moved = {one.account_id for one in self._directory.accounts() if one.node_generation > 1}
        named = [
            replace(one, trouble=f"{one.trouble}; {_ELSEWHERE}") if one.account_id in moved else one
            for one in hopeless
        ]
        return found, named

    def accounts(self) -> list[AccountId]:
        """What the lost node still has, in an order that is another one on each node."""
        found = [one.account_id for one in self._directory.accounts() if one.node == self._lost]
        return sorted(found, key=lambda one: hashlib.sha256(f"{self._mine} {one}".encode()).digest())

    def _name(self, account_id: AccountId) -> None:
        """Accounts are named by their ids here."""

    def _restore(self, wanted: Target) -> Restored:
        require_lease(self._root)
        account_id = wanted.account_id
        paths = account_paths(self._root, account_id)
        record = self._lost_record(account_id)
        if record is None:
            self._progress(wanted.size_bytes)
            return Restored(account_id, None, skipped=True)
        if _is_built(paths, record):
            self._progress(wanted.size_bytes)
            done = Restored(account_id, None)
        else:
            done = self._build(wanted, record, paths)
        if done.skipped:
            return done
        header = read_header(paths.folder).header
        if not self._take(record, header):
            return Restored(account_id, None, skipped=True)
        is_older = header.generation < record.header_generation
        older = ("those of the snapshot",) if is_older else ()
        other = header.public_key != record.public_key
        return replace(done, difference=Difference(only_then=older, other_master=other))

    def _lost_record(self, account_id: AccountId) -> AccountRecord | None:
        """The account if the lost node still has it; a move of it is over then.

        Raises Busy: its target has everything, and is about to take it.
        """
        view = self._moves.view(account_id)
        if view.record is None or view.record.node != self._lost:
            return None
        if view.seen is not None:
            move = view.seen.move
            if move.phase is Phase.LAST and view.seen.silent_s < self._terms.closed_max_s:
                raise Busy(f"it is about to arrive at node {move.target}, with everything: look again later")
            if not self._moves.cancel(move):
                raise Busy("it was moved meanwhile: look again later")
            # Ending it may have raised the generation, but the account was nowhere else.
            after = self._moves.view(account_id).record
            if after is None or after.node != self._lost:
                return None
            self._raised[account_id] = after.node_generation - view.record.node_generation
            return after
        return view.record

    def _build(self, wanted: Target, record: AccountRecord, paths: AccountPaths) -> Restored:
        """Rebuild the account and put it in place; what lies there is kept in ``replaced``."""
        wanted, folder, rebuilt = self._rebuilt(wanted)
        self._require_newest(rebuilt, record)
        source, listing = self._sources.source, self._sources.listing
        names = listing.streams.get(wanted.head.stream, ())
        choose_keys(None, folder, source, names, rebuilt, Keyslots.NOW)
        self._require_known(read_header(folder).header, record)
        note_generation(AccountPaths(folder), record.node_generation + 1)
        restore_id = secrets.randbits(56)
        with placing(self._root):
            now = self._lost_record(wanted.account_id)
            if now is None or now.node_generation != record.node_generation:
                return Restored(wanted.account_id, None, skipped=True)
            if mark_at(paths.arrived) is not None:
                raise Busy("the server has to clear up after a move of it to this node: look again later")
            kept = self._set_aside(paths, restore_id)
            patience_s = self._wishes.sessions_end_s
            self._restorer.install(wanted.account_id, folder, rebuilt, restore_id, patience_s)
        return Restored(
            wanted.account_id,
            None,
            rebuilt.newest.taken_ms,
            rebuilt.pages,
            kept,
            passed_over=rebuilt.passed_over,
            damage=rebuilt.damage,
        )

    def _require_newest(self, rebuilt: Rebuilt, record: AccountRecord) -> None:
        """Raises SnapshotPast: an older state is never restored in silence."""
        needed = record.node_generation - self._raised.get(record.account_id, 0)
        needed -= 1 if self._terms.before_move else 0
        if rebuilt.generation < needed and needed > 1:
            raise SnapshotPast(
                "the newest snapshot there is from before the account was on another node, and came to node"
                f" {self._terms.lost}; {_ELSEWHERE}"
            )

    def _require_known(self, header: Header, record: AccountRecord) -> None:
        """Whoever can write into the bucket could have made it. Raises KeysUnknown."""
        if header.public_key != record.public_key and self._wishes.signed_by is None:
            raise KeysUnknown(
                "its keys are not those that the directory knows: it has got a new master key since, or"
                " somebody else has written the snapshot: --signed-by tells the two apart"
            )

    def _set_aside(self, paths: AccountPaths, restore_id: int) -> Path | None:
        """Keep a folder that was left here when the account went elsewhere. Raises StorageFailed."""
        kept = self._root / REPLACED / f"{paths.folder.name}-{restore_id:014x}"
        with storage_errors():
            if not paths.folder.exists():
                return None
            make_folder(kept.parent)
            paths.folder.rename(kept)
            sync_folder(kept.parent)
            sync_folder(paths.folder.parent)
        return kept

    def _take(self, record: AccountRecord, header: Header) -> bool:
        """Whether this node has the account now; if not, another one was faster, and what was built goes."""
        try:
            self._directory.take_from_lost(record.account_id, self._lost, self._mine, header)
        except NodeGenerationPast:
            now = self._directory.account(record.account_id)
            if now is None or now.node != self._mine:
                self._discard(record)
                return False
        return True

    def _discard(self, record: AccountRecord) -> None:
        """Nobody has opened it, and nobody could."""
        paths = account_paths(self._root, record.account_id)
        gone = self._work / f"{record.account_id}.gone"
        with placing(self._root), storage_errors():
            if _is_built(paths, record):
                paths.folder.rename(gone)
                sync_folder(paths.folder.parent)
        remove_tree(gone)


def _is_built(paths: AccountPaths, record: AccountRecord) -> bool:
    """Whether an interrupted run came so far that only the directory has to be told.

    A folder without keys is what is left of a move that was thrown away, if that was interrupted.
    """
    with suppress(StorageFailed), storage_errors():
        is_next = last_generation(paths) == record.node_generation + 1
        return is_next and mark_at(paths.arrived) is None and paths.keys.exists()
    return False
