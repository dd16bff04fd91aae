"""Continue where another server ended: rebuild its data root, and go on with the streams that it has left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backup.candidates import credible
from backup.catalogue import Server, stream_of_server
from backup.former_keys import successors_of
from backup.job import Places
from backup.restore import Listing
from backup.restore_accounts import Sources
from backup.segment import SERVER
from backup.signing import Signer
from backup.state import FORGOTTEN, STATE_FILE, Segment, State, Stream
from mailstore.account import has_server, make_root, open_directory, read_server_key
from mailstore.directory import Directory, given_to_this
from mailstore.durable import storage_errors, write_new
from mailstore.errors import AccountExists
from mailstore.keys import PublicKey
from mailstore.server_key import NOTES, read_note, write_note


def restore_server(root: Path, server: Server) -> None:
    """Make a data root with the server's key and its directory; what exists stays as it is.

    Raises:
        StorageFailed, StorageFull: call it again to continue.
    """
    make_root(root, server.server_key)
    _restore_notes(root, server)
    directory = open_directory(root)
    try:
        for domain in server.domains:
            directory.add_domain(domain)
        if server.default_domain is not None:
            directory.set_default_domain(server.default_domain)
        for record in server.accounts.values():
            if directory.account(record.account_id) is None:
                directory.add_account(given_to_this(root, record))
        for address, owner in server.aliases.items():
            try:
                directory.add_alias(address, owner)
            except AccountExists:
                continue  # an earlier try came this far
        _restore_limits(directory, server)
    finally:
        directory.close()


def _restore_limits(directory: Directory, server: Server) -> None:
    """Last, so that they refuse nothing of what was there."""
    for domain, quota_bytes in server.domain_quotas.items():
        directory.limit_domain(domain, quota_bytes=quota_bytes)
    for domain, numbers in server.domain_numbers.items():
        directory.limit_domain(domain, **numbers)


def _restore_notes(root: Path, server: Server) -> None:
    """Restore what outlives a server's key, where it is that key and there is nothing yet."""
    server_key = read_server_key(root)
    for name in NOTES:
        text = server.notes.get(name)
        if text is not None and server_key == server.server_key and read_note(root, server_key, name) is None:
            write_note(root, server_key, name, text)


def make_server(root: Path, server: Server, file_name: str) -> Path | None:
    """Restore server key, directory and configuration where missing; returns the path of the configuration.

    None when there is a configuration already, or none in the snapshots. Raises as ``restore_server`` does.
    """
    restore_server(root, server)
    target_file = root / file_name
    if target_file.exists() or not server.configuration:
        return None
    with storage_errors():
        write_new(target_file, server.configuration.encode("utf-8"))
    return target_file


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What a restore by the private key makes of a data root beside its accounts: see :meth:`look`."""

    root: Path
    sources: Sources
    new_server: bool
    """There was neither key nor directory, so they are made if the snapshots have them."""

    new_state: bool
    """No snapshot was ever taken here, so a new server may go on with the streams of the lost one."""

    @classmethod
    def look(cls, root: Path, sources: Sources) -> TakeOver:
        """Decide it before anything is restored. Raises StorageFailed."""
        return cls(root, sources, not has_server(root), not (Places(root).folder / STATE_FILE).exists())

    def make_server(self, file_name: str) -> tuple[bool, Path | None]:
        """Whether the server was made, and the configuration that was. Raises as ``restore_server`` does."""
        if self.sources.server is None or not self.new_server:
            return False, None
        return True, make_server(self.root, self.sources.server, file_name)

    @property
    def has_replaced_key(self) -> bool:
        """Whether the snapshots of that time have a server's key that named a successor since."""
        server = self.sources.server
        if server is None or not server.server_key:
            return False
        return bool(successors_of(Signer(server.server_key).public, server.later_keys))

    def finish(self, public_key: PublicKey, now_ms: int) -> int:
        """Go on with the streams, where the server is new; else say how many accounts its directory lacks.

        Those are in the snapshots, and restored only by name. Raises StoreError.
        """
        if self.new_server and self.new_state:
            state = State(Places(self.root).folder, read_server_key(self.root))
            try:
                adopt_streams(state, self.sources, public_key, now_ms)
            finally:
                state.close()
            return 0
        if self.sources.server is None:
            return 0
        directory = open_directory(self.root)
        try:
            return len(self.sources.unknown(directory))
        finally:
            directory.close()


def adopt_streams(state: State, sources: Sources, public_key: PublicKey, now_ms: int) -> None:
    """Let a new server continue the streams of the lost one. Raises StoreError."""
    for account, head in sources.heads.items():
        stream = Stream(head.stream, account, announced=head.sequence, signed_from=head.signed_from)
        _adopt(state, sources.listing, stream, now_ms)
    adopt_forgotten(state, sources.listing, public_key, now_ms)


def adopt_forgotten(state: State, listing: Listing, public_key: PublicKey, now_ms: int) -> None:
    """Record all streams in the store: the server's is continued, the others expire. Raises StoreError.

    Their keys and hashes stay unknown; only the private key opens them.
    """
    known = {one.stream for one in state.streams() if one.account != SERVER}
    server = stream_of_server(public_key)
    for stream in listing.streams.keys() - known:
        if stream == server:
            _adopt(state, listing, Stream(stream, SERVER), now_ms)
        else:
            _adopt(state, listing, Stream(stream, f"{FORGOTTEN}{stream}", gone_ms=now_ms), now_ms)


def _adopt(state: State, listing: Listing, stream: Stream, now_ms: int) -> None:
    names = listing.streams.get(stream.stream, ())
    taken = credible(names, now_ms)
    segments = [Segment(name, listing.sizes[name], b"", b"", stored=True) for name in taken]
    state.adopt(stream, segments, set(names) - set(taken), now_ms)
