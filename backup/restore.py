"""Find what to restore, and put it where it belongs.

Everything is rebuilt and checked in a scratch folder on the same volume; only then does a rename put it
in place. What it replaces is kept beside. The account's next unlock finds a mark and gives every
mailbox a new UIDVALIDITY, so that no client trusts a UID from the lost future.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup.catalogue import Head, Server, stream_of_server
from backup.errors import (
    AccountInUse,
    ChainBroken,
    NothingToRestore,
    SegmentDamaged,
    WrongKey,
)
from backup.reading import open_file
from backup.rebuild import KeyFor, Rebuilder, Rebuilt, fetch, follows_not
from backup.retention import chains
from backup.segment import SERVER_FILE, SegmentName, StreamId, parse_name
from backup.staging import staged_name
from backup.stores import ObjectStore
from mailstore.account import (
    AccountPaths,
    account_paths,
    exclusive_lock,
    init_root,
    mark_restored,
    open_directory,
)
from mailstore.durable import make_folder, storage_errors, sync_folder, write_new
from mailstore.errors import AccountExists, Busy
from mailstore.eviction import evicted
from mailstore.keys import AccountId, PrivateKey

REPLACED = "replaced"
"""Folder of a data root that keeps what restores have replaced."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in the object store: segments by stream, and sizes."""

    streams: dict[StreamId, tuple[SegmentName, ...]]
    sizes: dict[SegmentName, int] = field(repr=False)
    foreign: int
    """Objects under the prefix that are no segments."""

    def ways(self, stream: StreamId, at_ms: int | None) -> list[tuple[SegmentName, ...]]:
        """The segments to apply for the newest state, or the one at a time; then those of older chains.

        Raises NothingToRestore.
        """
        fitting = [
            tuple(one for one in chain.segments if at_ms is None or one.taken_ms <= at_ms)
            for chain in reversed(chains(self.streams.get(stream, ())))
        ]
        found = [one for one in fitting if one]
        if not found:
            raise NothingToRestore("there is no snapshot of this account at that time")
        return found


def list_store(store: ObjectStore) -> Listing:
    """Everything under the store's prefix. Raises ObjectStoreError."""
    streams: dict[StreamId, list[SegmentName]] = {}
    sizes: dict[SegmentName, int] = {}
    foreign = 0
    for found in store.list():
        name = parse_name(found.name)
        if name is None:
            foreign += 1
            continue
        streams.setdefault(name.stream, []).append(name)
        sizes[name] = found.size_bytes
    return Listing({stream: tuple(sorted(names)) for stream, names in streams.items()}, sizes, foreign)


def read_server(
    store: ObjectStore, listing: Listing, private_key: PrivateKey, scratch: Path, at_ms: int | None = None
) -> Server:
    """The server as its stream describes it, by the private key; the newest, or the one at a time.

    Raises:
        WrongKey: there are snapshots, but none of a server with this key. NothingToRestore: there are none.
        SegmentDamaged, ChainBroken, ObjectStoreError: as they say.
    """
    stream = stream_of_server(private_key.public)
    if stream not in listing.streams:
        if listing.streams:
            raise WrongKey("the snapshots in this store belong to another key pair")
        raise NothingToRestore("there are no snapshots in this store")
    server = Server()
    previous: bytes | None = None
    for chain in chains(listing.streams[stream]):
        # Earlier chains tell of accounts that are gone; the last one alone describes the present.
        if at_ms is not None and chain.full.taken_ms > at_ms and server.accounts:
            break
        gone = server.accounts | server.gone
        heads, server = server.heads, Server()
        server.heads = dict(heads)
        for name in chain.segments:
            if at_ms is not None and name.taken_ms > at_ms and name is not chain.full:
                break
            previous = _add(server, store, name, private_key, scratch, previous)
        server.gone = {
            one: record for one, record in gone.items() if one not in server.accounts
        } | server.gone
        previous = None
    return server


def _add(
    server: Server,
    store: ObjectStore,
    name: SegmentName,
    private_key: PrivateKey,
    scratch: Path,
    previous: bytes | None,
) -> bytes:
    path = scratch / staged_name(name)
    try:
        digest = fetch(store, name, path)
        with open_file(path, name, private_key) as segment:
            if follows_not(segment, previous):
                raise ChainBroken(str(name), "it does not build on the object before it")
            segment.check()
            content = segment.file(SERVER_FILE)
            if content is None:
                raise SegmentDamaged(str(name), "it is not one of the server's")
            server.apply(name, content)
    finally:
        path.unlink(missing_ok=True)
    return digest


def restore_server(root: Path, server: Server) -> None:
    """Make a data root with the server's key and its directory; what is there already stays as it is.

    Raises:
        StorageFailed, StorageFull: as they say; calling it again goes on.
    """
    init_root(root, server.server_key)
    directory = open_directory(root)
    try:
        for domain in server.domains:
            directory.add_domain(domain)
        if server.default_domain is not None:
            directory.set_default_domain(server.default_domain)
        for record in server.accounts.values():
            if directory.account(record.account_id) is None:
                directory.add_account(record)
        for address, owner in server.aliases.items():
            try:
                directory.add_alias(address, owner)
            except AccountExists:
                continue  # an earlier try came this far
    finally:
        directory.close()


@dataclass(frozen=True, slots=True)
class Target:
    """One account to be restored."""

    account_id: AccountId
    chain: tuple[SegmentName, ...]
    older: tuple[tuple[SegmentName, ...], ...] = field(repr=False)
    """Chains that end earlier, for when this one is damaged."""

    size_bytes: int
    head: Head | None = field(default=None, repr=False)
    """What the server's stream says is the newest; None when an older state is wanted."""


def target(listing: Listing, account_id: AccountId, head: Head, at_ms: int | None) -> Target:
    """What to apply for one account.

    Raises:
        NothingToRestore: no snapshot. ChainBroken: the newest ones are missing in the store.
    """
    chain, *older = listing.ways(head.stream, at_ms)
    if at_ms is None and chain[-1].sequence < head.sequence:
        missing = f"{head.stream}/{head.sequence:08d}"
        raise ChainBroken(missing, "the server's stream names it and it is missing in the object store")
    size = sum(listing.sizes[name] for name in chain)
    return Target(account_id, chain, tuple(older), size, head if at_ms is None else None)


class Restorer:
    """Rebuilds accounts and installs them below a data root. Methods block; accounts may go in parallel."""

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        key_for: KeyFor,
        scratch: Path,
        threads: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._root = root
        self._scratch = scratch
        self._rebuilder = Rebuilder(store, key_for, scratch, threads, progress)

    def rebuild(self, wanted: Target, *, newest_sound: bool = False) -> tuple[Path, Rebuilt]:
        """The account's state in a folder below scratch; an interrupted try is gone on with.

        With ``newest_sound`` a damaged or missing segment means the newest state before it.
        Raises as ``Rebuilder.rebuild`` does, and NothingToRestore when no state is sound.
        """
        folder = self._scratch / wanted.account_id
        expected = {wanted.head.sequence: wanted.head.sha256} if wanted.head else None
        chain: Sequence[SegmentName] = wanted.chain
        older = list(wanted.older)
        while True:
            try:
                rebuilt = self._rebuilder.rebuild(chain, folder, expected=expected)
            except (SegmentDamaged, ChainBroken) as error:
                at = next((index for index, name in enumerate(chain) if str(name) == error.key), 0)
                if not newest_sound:
                    raise
                if at == 0 and not older:
                    raise NothingToRestore("no state of this account is sound") from error
                chain = chain[:at] if at else older.pop(0)
                continue
            if rebuilt.account != wanted.account_id:
                raise SegmentDamaged(str(chain[-1]), "it belongs to another account")
            return folder, rebuilt

    def install(self, account_id: AccountId, folder: Path, restore_id: int, patience_s: float) -> Path | None:
        """Put a rebuilt account in place; where what was there is kept, None when nothing was.

        Sessions are ended, and have ``patience_s`` for it; mail that is delivered or waits meanwhile stays.
        After a crash at any point, rebuilding and installing again finishes it.

        Raises:
            AccountInUse: sessions did not end. Busy, StorageFailed, StorageFull: as they say.
        """
        paths = account_paths(self._root, account_id)
        mark_restored(AccountPaths(folder), restore_id)
        if not paths.keys.exists():
            self._put_new(folder, paths)
            return None
        kept = self._root / REPLACED / f"{account_id}-{restore_id:014x}"
        try:
            with evicted(paths, patience_s), exclusive_lock(paths), storage_errors():
                _keep(paths, kept)
                _exchange(paths, AccountPaths(folder))
        except Busy:
            raise AccountInUse("sessions keep the account open: try again, or stop the server") from None
        shutil.rmtree(folder, ignore_errors=True)
        return kept

    def _put_new(self, folder: Path, paths: AccountPaths) -> None:
        with storage_errors():
            for name in ("lock", "keys.lock"):
                if not (folder / name).exists():
                    write_new(folder / name, b"")
            sync_folder(folder)
            make_folder(self._root / "accounts")
            make_folder(paths.folder.parent)
            if paths.folder.exists():
                shutil.rmtree(paths.folder)  # without keys: an account that was being deleted
            folder.rename(paths.folder)
            sync_folder(paths.folder.parent)


def _keep(paths: AccountPaths, kept: Path) -> None:
    """Link what is going to be replaced into a folder of its own."""
    make_folder(kept.parent)
    make_folder(kept)
    for path in (paths.mail_db, paths.wal, paths.keys):
        if path.exists() and not (kept / path.name).exists():
            os.link(path, kept / path.name)
    sync_folder(kept)


def _exchange(paths: AccountPaths, fresh: AccountPaths) -> None:
    """Put the restored files where the old ones are; the inbox stays and gets what waited then."""
    # First of all: whatever follows, clients are told that their UIDs are no good any more.
    fresh.restored.rename(paths.restored)
    # A log must never meet a database that is not its own; the journal and the index are of the old one.
    for path in (paths.wal, paths.mail_db.with_name("mail.db-shm"), paths.page_journal, paths.search_db):
        path.unlink(missing_ok=True)
    sync_folder(paths.folder)
    if fresh.mail_db.exists():
        fresh.mail_db.rename(paths.mail_db)
    else:
        paths.mail_db.unlink(missing_ok=True)
    fresh.keys.rename(paths.keys)
    for path in fresh.inbox.iterdir():
        if not (paths.inbox / path.name).exists():
            os.link(path, paths.inbox / path.name)
    sync_folder(paths.inbox)
    sync_folder(paths.folder)
