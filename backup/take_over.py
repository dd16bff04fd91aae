"""Go on where another server ended: make its data root anew, and continue the streams that it has left."""

from __future__ import annotations

from pathlib import Path

from backup.candidates import credible
from backup.catalogue import Server, stream_of_server
from backup.restore import Listing, restore_server
from backup.restore_accounts import Sources
from backup.segment import SERVER
from backup.state import FORGOTTEN, Segment, State, Stream
from mailstore.durable import storage_errors, write_new
from mailstore.keys import PublicKey


def make_server(root: Path, server: Server, file_name: str) -> Path | None:
    """Server key, directory and configuration where there are none; where the configuration was put."""
    restore_server(root, server)
    target_file = root / file_name
    if target_file.exists() or not server.configuration:
        return None
    with storage_errors():
        write_new(target_file, server.configuration.encode("utf-8"))
    return target_file


def adopt_streams(state: State, sources: Sources, public_key: PublicKey, now_ms: int) -> None:
    """Let a new server go on with the streams of the lost one, where it left them."""
    for account, head in sources.heads.items():
        stream = Stream(head.stream, account, announced=head.sequence, signed_from=head.signed_from)
        _adopt(state, sources.listing, stream, now_ms)
    adopt_forgotten(state, sources.listing, public_key, now_ms)


def adopt_forgotten(state: State, listing: Listing, public_key: PublicKey, now_ms: int) -> None:
    """Know of all streams in the store: the server's goes on, the others are deleted in their time.

    Without keys and hashes, which the private key alone brings back.
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
