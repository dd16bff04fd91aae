"""Find what to restore, and put it where it belongs.

Everything is rebuilt and checked in a scratch folder on the same volume; only then does a rename put it
in place. What it replaces is kept in ``replaced``. The account's next unlock finds a mark and gives every
mailbox a new UIDVALIDITY, so that no client trusts a UID from the lost future.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from backup.candidates import Candidates
from backup.catalogue import Head
from backup.errors import (
    AccountInUse,
    ChainBroken,
    ChainLinkBroken,
    NothingSound,
    NothingToRestore,
    ObjectMissing,
    SegmentDamaged,
)
from backup.moment import utc_ms
from backup.reading import OpenSegment
from backup.rebuild import Rebuilder, Rebuilt
from backup.retention import chains
from backup.segment import PAGE_BYTES, SegmentName, StreamId, parse_name
from backup.soundness import check_sound, wrong_database, wrong_keys_in
from backup.source import Progress, Source
from backup.state import State
from backup.stores import ObjectStore
from mailstore.account import (
    AccountPaths,
    account_paths,
    keys_lock,
)
from mailstore.durable import make_folder, storage_errors, sync_folder, write_new
from mailstore.errors import Busy, KeysChanged, StorageFailed
from mailstore.eviction import evicted
from mailstore.inbox_size import changing
from mailstore.keys import NEW_KEYS_FILE, AccountId
from mailstore.restored_mark import mark_restored, restored_mark
from mailstore.set_aside import REPLACED
from mailstore.staged_keys import is_staged, set_aside, staged_former_key


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in the object store: segments by stream, and sizes."""

    streams: dict[StreamId, tuple[SegmentName, ...]]
    sizes: dict[SegmentName, int] = field(repr=False)
    foreign: int
    """Objects under the prefix that are no segments."""

    def known_to(self, state: State) -> Listing:
        """The part that a living server remembers writing; the rest may be anything."""
        sizes = {
            one.name: one.size_bytes
            for stream in state.streams()
            for one in state.segments(stream.stream)
            if one.stored and one.name in self.sizes
        }
        return _listing(sizes, self.foreign)


def _listing(sizes: dict[SegmentName, int], foreign: int) -> Listing:
    streams: dict[StreamId, list[SegmentName]] = {}
    for name in sorted(sizes):
        streams.setdefault(name.stream, []).append(name)
    return Listing({stream: tuple(names) for stream, names in streams.items()}, sizes, foreign)


def list_store(store: ObjectStore) -> Listing:
    """Everything under the store's prefix. Raises ObjectStoreError."""
    sizes: dict[SegmentName, int] = {}
    foreign = 0
    for found in store.list():
        name = parse_name(found.name)
        if name is None:
            foreign += 1
        else:
            sizes[name] = found.size_bytes
    return _listing(sizes, foreign)


@dataclass(frozen=True, slots=True)
class Target:
    """One account to be restored."""

    account_id: AccountId
    names: tuple[SegmentName, ...] = field(repr=False)
    """All objects of its stream that may be part of the state."""

    size_bytes: int
    head: Head
    newest: bool
    """Whether the state that ``head`` names is wanted, or a later one."""

    @property
    def chain(self) -> tuple[SegmentName, ...]:
        """What has to be applied if every object is what its name says."""
        return Candidates(self.names).way()


def target(listing: Listing, account_id: AccountId, head: Head, at_ms: int | None) -> Target:
    """What to apply for the newest state of one account, or the one at a time. Raises NothingToRestore."""
    present = listing.streams.get(head.stream, ())
    names = tuple(one for one in present if at_ms is None or one.taken_ms <= at_ms)
    chain = Candidates(names).way()
    if not chain:
        oldest = min((one.segments[0].taken_ms for one in chains(present)), default=None)
        known = "" if oldest is None else f": the oldest is of {utc_ms(oldest)}"
        raise NothingToRestore(f"there is no snapshot of this account at that time{known}")
    size = sum(listing.sizes[name] for name in chain)
    return Target(account_id, names, size, head, at_ms is None)


class Restorer:
    """Rebuilds accounts and installs them below a data root. Methods block; accounts may go in parallel."""

    def __init__(
        self, root: Path, source: Source, scratch: Path, threads: int, progress: Progress | None = None
    ) -> None:
        self._root = root
        self._scratch = scratch
        self._source = source
        self._rebuilder = Rebuilder(source, scratch, threads, progress)

    def rebuild(self, wanted: Target, *, newest_sound: bool = False) -> tuple[Path, Rebuilt]:
        """The account's state, rebuilt in a folder below scratch; an interrupted attempt is continued.

        An object that turns out not to be a segment is skipped if another one has the same number, or if it
        comes after the newest one that the server's stream names; ``Rebuilt.passed_over`` lists those. With
        ``newest_sound`` everything else that is damaged or missing, or was damaged already when the snapshot
        was taken, means the newest state before it.

        Raises:
            SegmentDamaged, ChainBroken: naming the object. NothingSound: no state is.
            ObjectStoreError, StorageFull, StorageFailed.
        """
        folder = self._scratch / wanted.account_id
        expected = {wanted.head.sequence: wanted.head.sha256} if wanted.head.sha256 else {}
        candidates = Candidates(wanted.names)
        passed_over: list[str] = []
        looked_at: set[SegmentName] = set()
        check = check_sound if newest_sound else OpenSegment.check
        begun_anew = False
        while chain := candidates.way():
            if wanted.newest and not newest_sound and chain[-1].sequence < wanted.head.sequence:
                raise self._missing(wanted, chain[-1].sequence)
            try:
                self._look_at(chain, candidates, looked_at)
                rebuilt = self._rebuilder.rebuild(
                    chain, folder, account=wanted.account_id, expected=expected, check=check
                )
            except (SegmentDamaged, ChainBroken) as error:
                bad = _to_blame(error, chain, candidates)
                if not (newest_sound or candidates.has_other(bad) or bad.sequence > wanted.head.sequence):
                    raise
                candidates.drop(bad)
                passed_over.append(str(error))
            else:
                damage = wrong_database(folder / "mail.db", rebuilt.pages)
                wrong = damage or wrong_keys_in(folder, wanted.account_id)
                if newest_sound and wrong and not begun_anew:
                    # An earlier try may have applied segments that it checked less: all are read once more.
                    begun_anew = True
                    continue
                return folder, replace(rebuilt, passed_over=tuple(passed_over), damage=damage)
        raise NothingSound(passed_over)

    def _look_at(
        self, chain: Sequence[SegmentName], candidates: Candidates, looked_at: set[SegmentName]
    ) -> None:
        """Check the beginning of every object that shares its number with others.

        There may be very many of them: each costs one look at its beginning, once, instead of another attempt
        at the whole chain. Raises SegmentDamaged, ChainBroken, ObjectStoreError.
        """
        for name in chain:
            if name not in looked_at and candidates.has_other(name):
                looked_at.add(name)
                try:
                    self._source.opened(name)
                except ObjectMissing:
                    raise ChainBroken(str(name), "it is missing in the object store") from None

    def _missing(self, wanted: Target, reached: int) -> ChainBroken:
        present = {name.sequence for name in wanted.names}
        number = next(one for one in count(reached + 1) if one not in present)
        why = "the server's stream names it and it is missing in the object store"
        return ChainBroken(f"{wanted.head.stream}/{number:08d}", why)

    def install(
        self,
        account_id: AccountId,
        folder: Path,
        rebuilt: Rebuilt,
        restore_id: int,
        patience_s: float,
        look_again: Callable[[], None] | None = None,
    ) -> Path | None:
        """Put a rebuilt account in place; returns where the replaced one is kept, None when there was none.

        ``folder`` has to hold what ``rebuilt`` says, otherwise the account stays as it is. If it has no key
        header, the one in place stays. Sessions are asked to end within ``patience_s`` seconds; mail that
        waits or is delivered meanwhile stays. An account whose key header is lost is treated like any
        other: its database may be all there is of its newest mail. ``look_again`` is called while nobody can
        change the account any more; if it raises, the account stays as it is.
        After a crash at any point, rebuilding and installing again finishes it; nobody can log in until then
        if files were being exchanged.

        Raises:
            AccountInUse: sessions did not end. Busy, StorageFailed, StorageFull; what ``look_again`` raises.
        """
        paths, fresh = account_paths(self._root, account_id), AccountPaths(folder)
        with storage_errors():
            _check_whole(fresh, rebuilt)
        # This fsyncs the folder: the progress note must be gone for good before the files it is about are
        # moved.
        mark_restored(fresh, restore_id)
        with storage_errors():
            is_there = paths.folder.exists()
        if not is_there:
            self._put_new(folder, paths)
            return None
        kept = self._root / REPLACED / f"{account_id}-{restore_id:014x}"
        try:
            # The key header is exchanged too. The locks come in the order of ``destroy_account``.
            with keys_lock(paths), evicted(paths, patience_s), storage_errors():
                _check_whole(fresh, rebuilt)  # time has passed while sessions left
                if look_again is not None:
                    look_again()
                was_kept = _keep(paths, self._database(paths), kept)
                _exchange(paths, fresh, rebuilt)
        except KeysChanged:
            raise
        except Busy:
            raise AccountInUse("sessions keep the account open: try again, or stop the server") from None
        shutil.rmtree(folder, ignore_errors=True)
        return kept if was_kept else None

    def _database(self, paths: AccountPaths) -> AccountPaths:
        """Where the database is that gets replaced; an interrupted exchange has kept it already."""
        if not is_half_restored(paths):
            return paths
        earlier = f"{paths.folder.name}-{restored_mark(paths) or 0:014x}"
        return AccountPaths(self._root / REPLACED / earlier)

    def _put_new(self, folder: Path, paths: AccountPaths) -> None:
        with storage_errors():
            make_folder(self._root / "accounts")
            make_folder(paths.folder.parent)
            folder.rename(paths.folder)
            sync_folder(paths.folder.parent)


def _to_blame(
    error: SegmentDamaged | ChainBroken, chain: Sequence[SegmentName], candidates: Candidates
) -> SegmentName:
    """The segment of the chain that an error is about."""
    at = next((index for index, name in enumerate(chain) if str(name) == error.key), 0)
    if isinstance(error, ChainLinkBroken) and at and candidates.has_other(chain[at - 1]):
        return chain[at - 1]  # the object that it builds on has the same number
    return chain[at]


def _check_whole(fresh: AccountPaths, rebuilt: Rebuilt) -> None:
    """Refuse a folder that lacks the rebuilt database, or has one that was not rebuilt.

    Raises OSError, StorageFailed.
    """
    if rebuilt.pages:
        is_whole = fresh.mail_db.stat().st_size == rebuilt.pages * PAGE_BYTES
    else:
        is_whole = not fresh.mail_db.exists()
    if not is_whole:
        raise StorageFailed


def is_half_restored(paths: AccountPaths) -> bool:
    """Whether a restore was interrupted while it exchanged files; only repeating it opens the account again.

    Raises StorageFailed.
    """
    with storage_errors():
        return paths.restored.exists() and paths.made.exists() and not paths.mail_db.exists()


def _keep(paths: AccountPaths, database: AccountPaths, kept: Path) -> bool:
    """Link what is about to be replaced into a folder of its own; returns whether there is anything."""
    files = [database.mail_db, database.wal, paths.keys]
    if is_staged(paths):
        # They could not be settled, and there may be mail that only these open.
        files += [paths.folder / NEW_KEYS_FILE, staged_former_key(paths), paths.rewritten]
    there = [path for path in files if path.exists()]
    if not there:
        return False
    make_folder(kept.parent)
    make_folder(kept)
    for path in there:
        if not (kept / path.name).exists():
            os.link(path, kept / path.name)
    sync_folder(kept)
    return True


def _exchange(paths: AccountPaths, fresh: AccountPaths, rebuilt: Rebuilt) -> None:
    """Replace the old files by the restored ones; the inbox stays, and gets the mail that waited then."""
    # First of all: whatever follows, clients will be told that their UIDs are invalid.
    fresh.restored.rename(paths.restored)
    if paths.mail_db.exists() and not paths.made.exists():
        write_new(paths.made, b"")
    sync_folder(paths.folder)
    # From here until all is done the database counts as lost: nobody opens the old one without its log, and
    # adds to it what the next attempt would take away.
    paths.mail_db.unlink(missing_ok=True)
    sync_folder(paths.folder)
    set_aside(paths)
    # A write-ahead log must never meet another database; journal and index belong to the old one too.
    shm = paths.mail_db.with_name("mail.db-shm")
    for path in (paths.wal, shm, paths.page_journal, *paths.search_db_files):
        path.unlink(missing_ok=True)
    sync_folder(paths.folder)
    make_folder(paths.inbox)  # an interrupted deletion may have removed it
    # Before the database, so that it is never there without the mail that waited with it.
    with changing(paths.inbox) as change:
        for path in fresh.inbox.iterdir():
            if not (paths.inbox / path.name).exists():
                os.link(path, paths.inbox / path.name)
                change.added_bytes += path.stat().st_size
    sync_folder(paths.inbox)
    if rebuilt.pages:
        fresh.mail_db.rename(paths.mail_db)
    else:
        paths.made.unlink(missing_ok=True)  # otherwise the missing database would be taken for a loss
    if fresh.keys.exists():
        fresh.keys.rename(paths.keys)  # otherwise today's keyslots stay
    sync_folder(paths.folder)
