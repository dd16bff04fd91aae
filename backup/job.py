"""The snapshot job: finds changed accounts, takes snapshots, has them uploaded, deletes expired ones.

A loop without a reactor, in a process of its own. ``turn`` does what is due now and waits for the network
only to delete, or when somebody asks; everything it decides is in the state before anything depends on it, so
it may be killed at any step and goes on where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

from backup.catalogue import ServerFacts, stream_of_server
from backup.errors import ImageUnreadable, SegmentDamaged, StoreRefused, StoreUnavailable
from backup.limits import BackupLimits
from backup.retention import chains, dated_ahead, expired, full_is_due
from backup.schedule import Schedule
from backup.segment import SERVER, SegmentName, StreamId, parse_name
from backup.server_writer import ServerWriter
from backup.signing import Signer
from backup.snapshot import Snapshotter, fingerprint
from backup.staging import staged_name
from backup.state import FORGOTTEN, Segment, State
from backup.stores import ObjectStore
from backup.upload import Uploader
from backup.wall_clock import FILE as CLOCK_FILE
from backup.wall_clock import Clocks, ClockWatch
from mailstore.account import account_paths
from mailstore.damage import tell
from mailstore.durable import make_folder, storage_errors
from mailstore.errors import Busy, LeaseOver, NoSuchAccount, StoreError
from mailstore.keys import AccountId, PublicKey
from mailstore.lease import require_lease
from mailstore.set_aside import SCRATCH, remove_expired
from mailstore.staged_keys import settle
from mailstore.this_node import may_be_here

log = logging.getLogger("sealbox.backup")

HOUSEKEEPING_S = 3600.0
"""Seconds between two searches for what has expired."""

FAILED_PAUSE_S = 60.0
"""Seconds until an account whose snapshot failed is tried again."""

FOLDER = "backup"

TROUBLE = "trouble"
"""Setting of the state: why snapshots cannot be stored."""

FAILING = "failing"
"""Setting of the state: ids of the accounts of which no snapshot could be taken, with spaces between."""

VERIFIED = "verified_ms"
"""Setting of the state: when all objects in the store were last found to be what was written, in epoch ms."""

_DELETED_AT_ONCE = 16
"""Objects of which no other work comes between; each may be a question over the network."""

_UNREADABLE = "unreadable"
"""In place of a fingerprint: no snapshot has it, so the account waits for one and its age grows."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of a data root that belong to the job."""

    root: Path

    @property
    def folder(self) -> Path:
        """State and lock."""
        return self.root / FOLDER

    @property
    def staging(self) -> Path:
        """Segments that wait."""
        return self.folder / "staging"

    @property
    def scratch(self) -> Path:
        """Room for drills and restores."""
        return self.root / SCRATCH

    @property
    def clock(self) -> Path:
        """The course of the wall clock."""
        return self.folder / CLOCK_FILE

    @property
    def lock(self) -> Path:
        """flock of whoever takes snapshots."""
        return self.folder / "job.lock"

    def make(self) -> None:
        """Create the folders. Raises StorageFailed, StorageFull."""
        with storage_errors():
            for folder in (self.folder, self.staging, self.scratch):
                make_folder(folder)


class Job:
    """See the module's docstring. The caller holds ``Places.lock``."""

    urgent: frozenset[str] = frozenset()
    """Accounts whose snapshots are uploaded before those of others."""

    alone: frozenset[str] = frozenset()
    """If there are any, no other upload is begun: they are closed and wait for it, or are about to be."""

    def __init__(
        self,
        places: Places,
        state: State,
        store: ObjectStore,
        public_key: PublicKey,
        facts: Callable[[], ServerFacts],
        limits: BackupLimits,
        clocks: Clocks | None = None,
    ) -> None:
        self._places = places
        self._state = state
        self._store = store
        self._facts = facts
        self._limits = limits
        self._clocks = clocks or Clocks()
        self._watch = ClockWatch(
            places.clock, self._clocks.wall, self._clocks.monotonic, state.newest_stored_ms()
        )
        self._schedule = Schedule(limits)
        signer = Signer(facts().server_key)

        def sure_ms() -> int:
            return self._watch.sure_ms

        self._snapshotter = Snapshotter(
            places.root, state, places.staging, public_key, signer, limits, self._clocks.wall, sure_ms
        )
        self._server = ServerWriter(
            state, places.staging, public_key, signer, facts, limits, self._clocks, sure_ms
        )
        self._uploader = Uploader(
            store,
            places.staging,
            limits,
            self._clocks.monotonic,
            stream_of_server(public_key),
            self._server.names,
        )
        self._next_housekeeping_s = 0.0
        self._directory_version: Hashable = None
        self._accounts: list[AccountId] = []
        self._generations: dict[AccountId, int] = {}  # of those that were on another node
        self._told_trouble = state.setting(TROUBLE) or ""
        self._told_failing = state.setting(FAILING) or ""
        self._unreadable: set[AccountId] = set()
        self.between: Callable[[], None] = lambda: None
        """Called between any two pieces of work, for what cannot wait until a turn has ended."""

        self._snapshotter.clean()

    @property
    def trouble(self) -> str | None:
        """Why snapshots cannot be stored, as text for people; None when they can."""
        return self._uploader.trouble

    def trouble_of(self, account: AccountId) -> str | None:
        """Why the snapshots of one account cannot be stored now; those of others may be in other trouble."""
        stream = self._state.stream(account)
        return None if stream is None else self._uploader.trouble_of(stream.stream)

    @property
    def can_upload(self) -> bool:
        """Whether what is taken next can be uploaded at once."""
        return self._uploader.has_room

    @property
    def clock_doubt_s(self) -> float:
        """Seconds for which the wall clock has to run evenly before anything is deleted; 0 when it has."""
        return self._watch.doubt_s

    def oldest_change_s(self) -> float:
        """Age in seconds of the oldest change that has no snapshot yet; 0 when there is none."""
        return self._schedule.oldest_s(self._clocks.monotonic())

    def turn(self, *, everything: bool = False) -> None:
        """Do what is due; with ``everything`` wait neither for changes to settle nor for a pause to end.

        Raises:
            LeaseOver: nothing is done, for other nodes may have the accounts by now.
            StoreError: the directory or the state cannot be read.
        """
        require_lease(self._places.root)
        self.collect()
        self._watch.look()
        if everything:
            self._uploader.retry_now()
            self._tell_trouble()
        now_s = self._clocks.monotonic()
        self._look(now_s)
        due = self._schedule.changed() if everything else self._schedule.due(now_s)
        for account in due:
            self._take(AccountId(account))
            self._between()
        self._tell_failing()
        if now_s >= self._next_housekeeping_s:
            self._next_housekeeping_s = now_s + HOUSEKEEPING_S
            self._housekeep()
        self._between()
        self._server.take(settled=not self._uploader.busy or everything)
        self._upload()
        if everything and not self._state.waiting():
            self._uploader.look()
            self._tell_trouble()

    def _between(self) -> None:
        """After each piece of work that may have taken long."""
        self.collect()
        self.between()

    def run_once(self, timeout_s: float = 3600.0) -> bool:
        """Take a snapshot of everything that changed and store it; whether all of it is stored."""
        until = self._clocks.monotonic() + timeout_s
        self.turn(everything=True)
        while self._clocks.monotonic() < until and self._is_under_way():
            if not self._uploader.busy and self._uploader.trouble:
                return False
            self._uploader.wait(1.0)
            self.collect()
            self._server.take(settled=not self._uploader.busy)
        return all_is_stored(self._state)

    def _is_under_way(self) -> bool:
        """Whether something is still to be stored, or to be named by the server's stream."""
        return bool(self._uploader.busy or self._state.waiting() or self._state.heads(everything=False))

    def stop(self) -> None:
        """Let running uploads finish, and note them and the course of the clock."""
        self._uploader.stop()
        self.collect()
        self._watch.look()
        self._watch.note()

    # -- accounts --------------------------------------------------------------------------------

    def _look(self, now_s: float) -> None:
        streams = {one.account: one for one in self._state.streams()}
        self._list_accounts()
        for account in self._accounts:
            found = self._fingerprint(account)
            if found is not None:
                known = streams.get(account)
                # An account that was gone and is back counts as changed.
                before = known.fingerprint if known and known.gone_ms is None else ""
                has_come = self._generations.get(account, 0) > (known.generation if known else 0)
                # Whatever its snapshots here have, it is not what the account had on the other node.
                self._schedule.seen(account, found, "" if has_come else before, now_s, at_once=has_come)
        self._schedule.keep_only(self._accounts)
        now_ms, sure_ms = self._now_ms(), self._watch.sure_ms
        for gone in streams.keys() - set(self._accounts) - {SERVER}:
            gone_ms = streams[gone].gone_ms
            if gone_ms is None or dated_ahead(gone_ms, now_ms, sure_ms):
                self._state.gone(gone, max(now_ms, sure_ms))

    def _fingerprint(self, account: AccountId) -> str | None:
        """What tells states of the account apart; ``_UNREADABLE`` where it cannot be looked at."""
        try:
            with storage_errors():
                found = fingerprint(account_paths(self._places.root, account))
        except StoreError:
            if account not in self._unreadable:
                self._unreadable.add(account)
                tell(account, "its folder cannot be read")
            return _UNREADABLE
        self._unreadable.discard(account)
        return found

    def _list_accounts(self) -> None:
        """Read the directory again when it has changed."""
        directory = self._facts().directory
        version = directory.version()
        if version != self._directory_version:
            here = [one for one in directory.accounts() if may_be_here(self._places.root, one)]
            self._accounts = [one.account_id for one in here]
            self._generations = {
                one.account_id: one.node_generation for one in here if one.node_generation > 1
            }
            self._directory_version = version
            self._server.facts_changed()

    def _take(self, account: AccountId) -> None:
        stream = self._state.stream(account)
        waiting = [one for one in self._state.waiting() if stream and one.name.stream == stream.stream]
        full = sum(one.size_bytes for one in self._state.waiting()) > self._limits.staging_max_bytes
        if full and (not waiting or (stream and stream.stream in self._uploader.busy)):
            return  # its change waits in the account until there is room
        try:
            require_lease(self._places.root)
            settle(self._places.root, self._facts().directory, account, self._limits.lock_wait_s)
            self._snapshotter.take(account, merge=full, generation=self._generations.get(account, 0))
        except NoSuchAccount:
            self._schedule.done(account)
        except LeaseOver:
            raise  # no account has its turn
        except Busy:
            self._schedule.failed(account, self._clocks.monotonic(), self._limits.lock_wait_s)
        except (StoreError, ImageUnreadable, SegmentDamaged) as error:
            # Whatever it is, it is this account's: the others have their turn.
            log.error("no snapshot of account %s: %s %s", account, type(error).__name__, error)
            self._schedule.failed(account, self._clocks.monotonic(), FAILED_PAUSE_S)
        else:
            self._schedule.done(account)

    def snapshot(self, account: AccountId) -> None:
        """Take a snapshot of an account now, if it has changed, and upload it although uploads have failed.

        Raises:
            NoSuchAccount, Busy, ImageUnreadable, StorageFull, StorageFailed.
        """
        settle(self._places.root, self._facts().directory, account, self._limits.lock_wait_s)
        self._snapshotter.take(account, generation=self._generations.get(account, 0))
        self._uploader.retry_now()
        self._upload()

    def segments(self, account: AccountId) -> list[Segment]:
        """What has been taken of an account, stored or not, in order."""
        stream = self._state.stream(account)
        return [] if stream is None else self._state.segments(stream.stream)

    # -- upkeep ----------------------------------------------------------------------------------

    def collect(self) -> None:
        """Note finished uploads, and start the next ones."""
        for segment in self._uploader.finished():
            self._state.stored(segment.name)
            (self._places.staging / staged_name(segment.name)).unlink(missing_ok=True)
        for segment in self._uploader.harmed():
            for name in self._state.lost(segment.name):
                (self._places.staging / staged_name(name)).unlink(missing_ok=True)
            self._server.facts_changed()
        self._tell_trouble()
        if self._uploader.rested:
            self._upload()

    def _upload(self) -> None:
        waiting = self._state.waiting()
        first = {one.stream for one in map(self._state.stream, self.alone or self.urgent) if one is not None}
        if self.alone:
            waiting = [one for one in waiting if one.name.stream in first]
        else:
            waiting.sort(key=lambda one: one.name.stream not in first)
        self._uploader.start(waiting)

    def _tell_trouble(self) -> None:
        trouble = self._uploader.trouble or ""
        if trouble != self._told_trouble:
            self._told_trouble = trouble
            self._state.remember(TROUBLE, trouble)

    def _tell_failing(self) -> None:
        failing = " ".join(self._schedule.failing())
        if failing != self._told_failing:
            self._told_failing = failing
            self._state.remember(FAILING, failing)

    def _housekeep(self) -> None:
        """Replace chains that are too old, delete what has expired, checkpoint the state's database."""
        for stream in self._state.streams():
            if stream.gone_ms is None and stream.account != SERVER and self._is_worn_out(stream.stream):
                self._take(AccountId(stream.account))
                self._between()
        self.prune()
        self._between()
        self.remove_expired()
        self._between()
        self._watch.note()
        self._state.tidy()

    def _is_worn_out(self, stream: StreamId) -> bool:
        """Whether a stream gets a full segment although its account may not have changed."""
        segments = self._state.segments(stream)
        # One that was taken over counts as changed: its turn comes without this.
        was_written_here = bool(segments) and bool(segments[-1].sha256)
        return was_written_here and full_is_due(segments, self._now_ms(), self._watch.sure_ms, self._limits)

    def prune(self) -> list[SegmentName]:
        """Delete what merging has left over, and expired segments, whose names are returned.

        While the clock is in doubt nothing expires.
        """
        left_over = self._state.left_over()
        if left_over and self._deleted(left_over):
            self._state.cleared(left_over)
        self._watch.look()
        doomed = self._expired() if not self._watch.doubt_s else []
        if doomed and self._deleted(doomed):
            self._state.pruned(doomed)
            return doomed
        return []

    def _expired(self) -> list[SegmentName]:
        now_ms = self._now_ms()
        spare: dict[StreamId, list[SegmentName]] = {}
        for name in self._state.spare():
            spare.setdefault(name.stream, []).append(name)
        doomed: list[SegmentName] = []
        with_full: set[str] = set()
        forgotten: list[SegmentName] = []
        for stream in self._state.streams():
            stored = [one for one in self._state.segments(stream.stream) if one.stored]
            own = [one.name for one in stored if one.sha256]
            adopted = [one.name for one in stored if not one.sha256] + spare.pop(stream.stream, [])
            past = expired(own, now_ms, stream.gone_ms, self._limits, adopted)
            (forgotten if stream.account.startswith(FORGOTTEN) else doomed).extend(past)
            if chains(own):
                with_full.add(stream.account)
        noted_by_ms = now_ms - int(self._limits.retention_s * 1000)
        forgotten += [name for name in self._state.spare(noted_by_ms) if name.stream in spare]
        # They may be the only good snapshots of any of the accounts.
        self._list_accounts()
        if forgotten and with_full.issuperset(self._accounts):
            doomed += forgotten
        return doomed

    def remove_expired(self) -> int:
        """Remove what restores have set aside or left unfinished, after the retention time; returns how many.

        Nothing while the clock is in doubt.
        """
        self._watch.look()
        if self._watch.doubt_s:
            return 0
        return remove_expired(self._places.root, self._clocks.wall(), self._limits.retention_s)

    def prune_left_over(self) -> list[SegmentName]:
        """Delete objects of our streams that a newer segment of the same number has replaced."""
        doomed: list[SegmentName] = []
        spare = set(self._state.spare())
        for stream in self._state.streams():
            known = {one.name.sequence: one.name for one in self._state.segments(stream.stream)}
            for found in self._store.list(f"{stream.stream}/"):
                name = parse_name(found.name)
                if name is not None and name not in spare and known.get(name.sequence, name) != name:
                    doomed.append(name)
        return doomed if doomed and self._deleted(doomed) else []

    def _deleted(self, names: Iterable[SegmentName | str]) -> bool:
        try:
            self._uploader.require_place()
            left = [str(name) for name in names]
            while left:
                self._store.delete(left[:_DELETED_AT_ONCE])
                del left[:_DELETED_AT_ONCE]
                self.between()
        except StoreRefused as error:
            # Rules of the bucket delete instead; the listing shows what they have deleted.
            self._state.remember("deletes_refused", str(error))
            return False
        except StoreUnavailable as error:
            log.error("old snapshots not deleted: %s", error)
            return False
        self._state.remember("deletes_refused", "")
        return True

    def _now_ms(self) -> int:
        return int(self._clocks.wall() * 1000)


def failing_accounts(state: State) -> list[str]:
    """Ids of the accounts of which the last try took no snapshot."""
    return (state.setting(FAILING) or "").split()


def note_verified(state: State, now_ms: int) -> None:
    """All objects in the store have been read and are what was written; at epoch ms ``now_ms``."""
    state.remember(VERIFIED, str(now_ms))


def verified_ms(state: State) -> int:
    """When that was last so, in epoch ms; 0 for never."""
    return int(state.setting(VERIFIED) or 0)


def is_hindered(state: State) -> bool:
    """Whether the store could not be used, or an account gave no snapshot, when it was last tried."""
    return bool(state.setting(TROUBLE) or failing_accounts(state))


def all_is_stored(state: State) -> bool:
    """Whether every change that the job has seen is in the store, and the server's stream names it there:
    what that does not name, nobody finds who has lost the server."""
    return not state.waiting() and not state.heads(everything=False) and not is_hindered(state)


def refused_deletes(state: State) -> str | None:
    """Why the object store does not let old snapshots be deleted; None when it does."""
    return state.setting("deletes_refused") or None
