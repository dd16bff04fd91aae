"""One account with mail, a snapshot job over it and a folder as object store."""

from __future__ import annotations

from pathlib import Path

from store_world import NAME, PASSWORD, TINY, World, now

from backup.limits import BackupLimits
from backup.rebuild import Rebuilder, Rebuilt
from backup.restore import list_store
from backup.retention import chains
from backup.segment import SegmentName, parse_name
from backup.signing import Signer, Trust
from backup.snapshot import Snapshotter
from backup.source import Source
from backup.staging import staged_name
from backup.state import Segment, State
from backup.store_file import FileStore
from mailstore.account_database import mail_key
from mailstore.engine import Database, open_connection
from mailstore.keys import load_private_key, new_private_key
from mailstore.mime import SectionSpec
from mailstore.model import NewMessage, SectionRead
from mailstore.opening import open_as_owner

__all__ = ["NAME", "PASSWORD", "TINY", "BackupWorld", "NewMessage", "SegmentName", "now"]

WHOLE = SectionRead(SectionSpec())
SERVER_KEY = b"a key of the server, for testing"


class BackupWorld:
    """``clock`` is the snapshot job's, in seconds."""

    def __init__(self, place: Path, limits: BackupLimits | None = None) -> None:
        self.place = place
        self.mail = World(place / "root")
        self.time = 1_800_000_000.0
        self.limits = limits or BackupLimits()
        for folder in ("backup", "staging", "objects", "scratch"):
            (place / folder).mkdir(exist_ok=True)
        self.private_key = load_private_key(new_private_key())
        self.state = State(place / "backup", SERVER_KEY)
        self.store = FileStore(place / "objects")
        self.snapshotter = Snapshotter(
            place / "root",
            self.state,
            place / "staging",
            self.private_key.public,
            Signer(SERVER_KEY),
            self.limits,
            self.clock,
        )
        self._restored = 0

    def clock(self) -> float:
        """The job's time; a second passes with each look."""
        self.time += 1
        return self.time

    def take(self, *, merge: bool = False) -> Segment | None:
        """A snapshot of the account."""
        return self.snapshotter.take(self.mail.directory.accounts()[0].account_id, merge=merge)

    def upload(self) -> None:
        """Put everything that waits into the store."""
        for segment in self.state.waiting():
            path = self.place / "staging" / staged_name(segment.name)
            self.store.put(str(segment.name), path, segment.sha256)
            self.state.stored(segment.name)
            path.unlink()

    def names(self) -> list[SegmentName]:
        """The segments in the store."""
        found = (parse_name(one.name) for one in self.store.list())
        return sorted(name for name in found if name is not None)

    def source(self, store: FileStore | None = None) -> Source:
        """The objects in a store, opened by the private key."""
        store = store or self.store
        trust = Trust(Signer(SERVER_KEY).public)
        return Source(store, lambda _name: self.private_key, list_store(store).sizes, trust)

    def rebuild(self, until: SegmentName | None = None) -> tuple[Path, Rebuilt]:
        """The newest state, or the one after ``until``, in a fresh folder, by the private key."""
        chain = next(
            one.segments for one in reversed(chains(self.names())) if until is None or until in one.segments
        )
        if until is not None:
            chain = chain[: chain.index(until) + 1]
        self._restored += 1
        folder = self.place / f"restored{self._restored}"
        rebuilder = Rebuilder(self.source(), self.place / "scratch", 2)
        return folder, rebuilder.rebuild(chain, folder)

    def opened(self, folder: Path) -> Database:
        """A rebuilt database, opened with the user's password."""
        owner = open_as_owner(
            self.place / "root", self.mail.directory, NAME.decode(), PASSWORD, now=0, params=TINY
        )
        key = mail_key(owner.master)
        return open_connection(folder / "mail.db", key)

    def subjects(self, folder: Path) -> list[bytes]:
        """Beginnings of all messages in a rebuilt database that is sound by both checks."""
        database = self.opened(folder)
        try:
            assert database.pragma("PRAGMA integrity_check") == [("ok",)]
            assert database.pragma("PRAGMA cipher_integrity_check") == []
            rows = database.read(
                0,
                lambda txn: txn.rows("SELECT m.envelope FROM placed p JOIN message_meta m USING(message_id)"),
            )
            return sorted(bytes(row[0]).split(b'"')[3] for row in rows)
        finally:
            database.close()

    def close(self) -> None:
        """Close everything."""
        self.state.close()
        self.mail.close()


def message(subject: str, size: int = 500) -> bytes:
    """A message of about ``size`` octets."""
    head = f"Date: Mon, 7 Feb 2022 21:52:25 +0000\r\nSubject: {subject}\r\n\r\n".encode()
    return head + b"some text that fills a line of the message\r\n" * (size // 44)
