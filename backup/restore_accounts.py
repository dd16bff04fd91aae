"""Restore accounts: which of them, opened by which keys, into which data root."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from backup.catalogue import Head, Server
from backup.errors import BackupError, MailIsThere, NothingSound, NothingToRestore, StoreUnavailable
from backup.former_keys import successors_of
from backup.rebuild import Rebuilt
from backup.restore import Listing, Restorer, Target, is_half_restored, target
from backup.restored_keys import Difference, Keyslots, choose_keys, is_one_master_key, living_header
from backup.retention import misdated
from backup.segment import PAGE_BYTES, SERVER, StreamId
from backup.server_stream import read_former_keys, read_server
from backup.signing import Signer, Trust
from backup.source import Source, keys_of
from backup.state import FORGOTTEN, State
from backup.stores import ObjectStore
from mailstore.account import AccountPaths, account_paths, holds_mail, open_directory
from mailstore.directory import AccountRecord, Directory, given_to_this, is_elsewhere
from mailstore.errors import (
    Busy,
    DirectoryUnavailable,
    HeaderTampered,
    KeysChanged,
    LeaseOver,
    NoSuchAccount,
    OnAnotherNode,
    StoreError,
    TooNew,
)
from mailstore.keys import AccountId, Header, PrivateKey
from mailstore.lease import require_lease
from mailstore.locks import LOCK_TIMEOUT_S
from mailstore.move_mark import require_not_moving
from mailstore.staged_keys import accept_header, settle, settle_alone

SESSIONS_END_S = 60.0
"""Seconds that sessions have to end before an account is replaced."""

_NOTHING_SOUND = "no state of this account is sound"
_NOTHING_SOUND_HERE = (
    f"{_NOTHING_SOUND} of those that this server remembers: --private-key also finds what was stored"
    " before a --take-over"
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where snapshots come from, and what is known about them."""

    source: Source
    listing: Listing
    heads: Mapping[str, Head]
    server: Server | None
    """The server as its stream describes it; None when the living server's own state is used."""

    passed_over: tuple[str, ...] = ()
    """Objects that do not belong to the server's stream although they are named so, each with the reason."""

    def target(self, account_id: AccountId, at_ms: int | None) -> Target:
        """What to apply for an account's newest state, or the one at a time. Raises NothingToRestore."""
        head = self.heads.get(account_id)
        if head is None:
            raise NothingToRestore("there is no snapshot of this account")
        return target(self.listing, account_id, head, at_ms)

    def find(self, directory: Directory, wanted: str) -> AccountId:
        """The account of an address or an id, also of one that was deleted. Raises NoSuchAccount."""
        record = directory.login(wanted)
        if record is None and self.server is not None:
            record = self.server.find(wanted)
        if record is not None:
            return record.account_id
        if wanted in self.heads:
            return AccountId(wanted)
        raise NoSuchAccount

    def everyone(self, directory: Directory) -> list[AccountId]:
        """The directory's accounts that have snapshots; of the others there is nothing to restore."""
        return [record.account_id for record in directory.accounts() if record.account_id in self.heads]

    def unknown(self, directory: Directory) -> set[str]:
        """Accounts that the server's stream knows and the directory does not."""
        known = set[str](self.server.accounts if self.server is not None else ())
        return known - {record.account_id for record in directory.accounts()}

    def streams(self) -> list[AccountStreams]:
        """Every account with snapshots, and the streams that hold them. Needs ``server``."""
        assert self.server is not None, "by the private key there is always one"
        server = self.server
        known = server.gone | server.accounts
        found = [
            AccountStreams(
                account,
                known[account].name if account in known else None,
                tuple(former.stream for former in (*server.former.get(account, ()), head)),
            )
            for account, head in server.heads.items()
        ]
        owned = {stream for one in found if not one.is_forgotten for stream in one.streams}
        return [one for one in found if not (one.is_forgotten and owned.issuperset(one.streams))]


@dataclass(frozen=True, slots=True)
class AccountStreams:
    """The streams that hold one account's points in time."""

    account: str
    name: str | None = field(repr=False)
    """Its address, as far as it is known."""

    streams: tuple[StreamId, ...]
    """Those of before a take-over first."""

    @property
    def is_forgotten(self) -> bool:
        """Whether the owner is unknown: the stream was there when the store was taken over."""
        return self.account.startswith(FORGOTTEN)


def by_private_key(
    store: ObjectStore, listing: Listing, private_key: PrivateKey, scratch: Path, wishes: Wishes
) -> Sources:
    """Everything from the store and the private key.

    Raises as ``read_server`` does, and SigningKeyReplaced. If it is not known who must have signed the
    server's stream, the accounts' streams must be signed by the server that it describes.
    """
    trust = wishes.signed_by
    source = Source(store, lambda _name: private_key, listing.sizes, trust)
    if trust is not None and not trust.former:
        former = read_former_keys(source, listing, private_key, scratch, wishes.at_ms)
        source = replace(source, trust=replace(trust, former=former))
    read = read_server(source, listing, private_key, scratch, wishes.at_ms, newest_sound=wishes.newest_sound)
    server = read.server
    trust = source.trust or _described(server)
    if trust is not None:
        heads = chain(server.heads.values(), *server.former.values())
        signed_from = {head.stream: head.signed_from for head in heads if head.signed_from is not None}
        source = replace(source, trust=replace(trust, signed_from=signed_from))
    return Sources(source, listing, server.heads, server, tuple(read.passed_over))


def _described(server: Server) -> Trust | None:
    """Whose signature the server's stream itself says it has to be."""
    if not server.server_key:
        return None
    public = Signer(server.server_key).public
    # Snapshots of accounts are stored before the server's that names their key.
    followers = successors_of(public, server.later_keys)
    return Trust(public, former=server.former_keys(), followers=followers)


def by_state(store: ObjectStore, listing: Listing, state: State) -> Sources:
    """From what the living server remembers, and nothing else; no private key is needed."""
    heads: dict[str, Head] = {}
    for stream in state.streams():
        stored = [one for one in state.segments(stream.stream) if one.stored]
        if stored and stream.account != SERVER:
            newest = stored[-1]
            heads[stream.account] = Head(stream.stream, newest.name.sequence, newest.sha256)
    known = listing.known_to(state)
    return Sources(Source(store, keys_of(state), known.sizes), known, heads, None)


def streams_of_state(state: State, directory: Directory) -> list[AccountStreams]:
    """Every account of which the living server has taken snapshots."""
    names = {str(record.account_id): record.name for record in directory.accounts()}
    return [
        AccountStreams(one.account, names.get(one.account), (one.stream,))
        for one in state.streams()
        if one.account != SERVER
    ]


@dataclass(frozen=True, slots=True)
class Restored:
    """The result for one account. ``trouble`` is None when it was restored."""

    account_id: AccountId
    name: str | None = field(repr=False)
    taken_ms: int = 0
    pages: int = 0
    kept: Path | None = None
    skipped: bool = False
    trouble: str | None = None
    may_be_tried_again: bool = False
    """Whether the trouble passes by itself."""

    passed_over: tuple[str, ...] = ()
    """Objects that do not belong to its stream although they are named so, each with the reason."""

    damage: str | None = None
    """What is wrong with the restored database; see ``Rebuilt.damage``."""

    keyslots: Keyslots = Keyslots.THEN
    difference: Difference = field(default_factory=Difference)
    """Between the keyslots of then and of now, where both are known."""

    @property
    def size_bytes(self) -> int:
        """Of the restored database."""
        return self.pages * PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to restore."""

    at_ms: int | None = None
    replace: bool = False
    newest_sound: bool = False
    threads: int = 4
    sessions_end_s: float = SESSIONS_END_S
    keyslots: Keyslots = Keyslots.NOW
    signed_by: Trust | None = None
    """Whose key must have signed the server's stream; None: not known."""


class Restoring:
    """Restores accounts into one data root. ``work`` is a folder on its volume, kept when interrupted."""

    def __init__(
        self, root: Path, sources: Sources, work: Path, wishes: Wishes, progress: Callable[[int], None]
    ) -> None:
        self._root = root
        self._sources = sources
        self._wishes = wishes
        self._restorer = Restorer(root, sources.source, work, wishes.threads, progress)

    def targets(self, accounts: Sequence[AccountId]) -> tuple[list[Target], list[Restored]]:
        """What to fetch for these accounts, and those that cannot be restored at all."""
        found: list[Target] = []
        hopeless: list[Restored] = []
        for account in accounts:
            try:
                found.append(self._sources.target(account, self._wishes.at_ms))
            except BackupError as error:
                hopeless.append(Restored(account, self._name(account), trouble=str(error)))
        return found, hopeless

    def restore(self, targets: Sequence[Target]) -> list[Restored]:
        """Restore accounts, several at a time; a failure is reported and does not stop the others."""
        with ThreadPoolExecutor(self._wishes.threads) as pool:
            return list(pool.map(self._one, targets))

    def _one(self, wanted: Target) -> Restored:
        try:
            return self._restore(wanted)
        except HeaderTampered:
            why = "its key header is damaged or was exchanged: --replace restores it"
            return Restored(wanted.account_id, self._name(wanted.account_id), trouble=why)
        except (BackupError, StoreError) as error:
            return Restored(
                wanted.account_id,
                self._name(wanted.account_id),
                trouble=str(error) or type(error).__name__,
                may_be_tried_again=isinstance(
                    error, (Busy, DirectoryUnavailable, LeaseOver, StoreUnavailable)
                ),
            )

    def _name(self, account_id: AccountId) -> str | None:
        try:
            directory = open_directory(self._root)
            try:
                return self._record(directory, account_id).name
            finally:
                directory.close()
        except StoreError:
            return None

    def _restore(self, wanted: Target) -> Restored:
        directory = open_directory(self._root)
        try:
            record = self._record(directory, wanted.account_id)
            paths = account_paths(self._root, wanted.account_id)
            with suppress(HeaderTampered, TooNew):  # what cannot be settled is replaced, if that is wished
                settle(self._root, directory, wanted.account_id, LOCK_TIMEOUT_S)
            may_replace = self._wishes.replace or is_half_restored(paths)
            if paths.keys.exists() and not may_replace:
                # The account exists, or an earlier run restored it, perhaps all but the last step.
                if paths.restored.exists():
                    accept_header(self._root, directory, wanted.account_id)
                return Restored(wanted.account_id, record.name, skipped=True)
            if not may_replace and holds_mail(paths):
                raise MailIsThere(
                    "its key header is missing, but its mail is there: with --replace it is restored, its"
                    " database kept beside, and waiting mail stays"
                )
            wanted, folder, rebuilt = self._rebuilt(wanted)
            living = living_header(paths, self._record(directory, wanted.account_id))
            keyslots, differ = choose_keys(
                living,
                folder,
                self._sources.source,
                self._sources.listing.streams.get(wanted.head.stream, ()),
                rebuilt,
                self._wishes.keyslots,
            )
            restore_id = secrets.randbits(56)
            patience_s = self._wishes.sessions_end_s
            kept = self._restorer.install(
                *(wanted.account_id, folder, rebuilt, restore_id, patience_s),
                lambda: self._require_same_keys(directory, paths, record, living),
            )
            accept_header(self._root, directory, wanted.account_id)
        finally:
            directory.close()
        return Restored(
            wanted.account_id,
            record.name,
            rebuilt.newest.taken_ms,
            rebuilt.pages,
            kept,
            passed_over=(*rebuilt.passed_over, *self._not_found_by_time(wanted)),
            damage=rebuilt.damage,
            keyslots=keyslots,
            difference=differ,
        )

    def _require_same_keys(
        self, directory: Directory, paths: AccountPaths, record: AccountRecord, seen: Header | None
    ) -> None:
        """The account's locks are held. Raises KeysChanged: the choice of keys was made for others."""
        with suppress(HeaderTampered, TooNew):  # what cannot be settled is kept beside
            settle_alone(self._root, directory, record.account_id)
        found = living_header(paths, self._record(directory, record.account_id))
        both = [one for one in (seen, found) if one is not None]
        if both and not (len(both) == 2 and is_one_master_key(*both)):
            raise KeysChanged("its keys were changed meanwhile, and nothing was replaced: run it again")

    def _not_found_by_time(self, wanted: Target) -> tuple[str, ...]:
        """Mentions snapshots that no point in time reaches, because the clock was ahead."""
        if self._wishes.at_ms is None:
            return ()
        names = self._sources.listing.streams.get(wanted.head.stream, ())
        ahead = set(misdated(names, int(time.time() * 1000))) - set(wanted.names)
        if not ahead:
            return ()
        why = "dated ahead by a wrong clock: --at cannot reach them, without it the newest state is restored"
        return (f"{len(ahead)} snapshots of {wanted.account_id}: {why}",)

    def _rebuilt(self, wanted: Target) -> tuple[Target, Path, Rebuilt]:
        """What is wanted, rebuilt; with ``newest_sound`` from an earlier stream if need be."""
        if not self._wishes.newest_sound:
            return wanted, *self._restorer.rebuild(wanted)
        passed_over: list[str] = []
        for one in (wanted, *self._earlier(wanted.account_id)):
            try:
                folder, rebuilt = self._restorer.rebuild(one, newest_sound=True)
            except NothingSound as error:
                passed_over += error.passed_over
            else:
                passed_over += rebuilt.passed_over
                return one, folder, replace(rebuilt, passed_over=tuple(passed_over))
        raise NothingToRestore(_NOTHING_SOUND if self._sources.server else _NOTHING_SOUND_HERE)

    def _earlier(self, account: AccountId) -> Iterator[Target]:
        """The account in its earlier streams, the latest first."""
        server = self._sources.server
        for head in reversed(server.former.get(account, []) if server is not None else []):
            with suppress(NothingToRestore):
                yield target(self._sources.listing, account, head, self._wishes.at_ms)

    def _record(self, directory: Directory, account_id: AccountId) -> AccountRecord:
        """The account's entry; a deleted one is added again as the server's stream describes it."""
        record = directory.account(account_id)
        if record is None and self._sources.server is not None:
            record = (self._sources.server.gone | self._sources.server.accounts).get(account_id)
            if record is not None:
                record = given_to_this(self._root, record)
                directory.add_account(record)
        if record is not None and is_elsewhere(self._root, record):
            raise OnAnotherNode("another node has this account: restore it there")
        require_lease(self._root)
        if record is None:
            raise NoSuchAccount("the directory does not know this account: use --private-key")
        require_not_moving(account_paths(self._root, account_id))
        return record
