"""A snapshot job over a real account and a real bucket, its clocks moved by hand."""

from __future__ import annotations

from pathlib import Path

from backup.catalogue import Server, ServerFacts
from backup.job import Job, Places
from backup.limits import BackupLimits
from backup.restore import Restorer, list_store, target
from backup.server_stream import read_server
from backup.source import Source
from backup.state import State
from backup.stores import ObjectStore
from backup.take_over import restore_server
from backup.wall_clock import Clocks
from mailstore.account import open_directory, read_server_key
from mailstore.keys import load_private_key, new_private_key
from mailstore.mime import SectionSpec
from mailstore.model import NewMessage, SectionRead
from mailstore.staged_keys import accept_header
from tests.unit.store.store_world import World, now

UPLOAD_S = 60.0
CONFIGURATION = "hostname = 'mail.example.org'\n"


class Time:
    """Wall clock and monotonic clock in one, in seconds."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class SnapshotWorld:
    """A server with one account, its job and a store."""

    def __init__(self, place: Path, store: ObjectStore, limits: BackupLimits | None = None) -> None:
        self.place = place
        self.root = place / "root"
        self.mail = World(self.root)
        self.time = Time()
        self.store = store
        self.private_key = load_private_key(new_private_key())
        self.places = Places(self.root)
        self.places.make()
        self.state = State(self.places.folder, read_server_key(self.root))
        facts = ServerFacts(self.mail.directory, read_server_key(self.root), CONFIGURATION)
        self.job = Job(
            self.places,
            self.state,
            store,
            self.private_key.public,
            lambda: facts,
            limits or BackupLimits(),
            Clocks(self.time, self.time),
        )

    def pass_time(self, seconds: float, step: float = 20.0) -> None:
        """Let the job turn while time passes; uploads end within each turn."""
        until = self.time.now_s + seconds
        while self.time.now_s < until:
            self.time.now_s += step
            self.job.turn()
            self.finish()

    def finish(self) -> None:
        """Wait for the uploads that were begun, and those that these bring."""
        while self.job._uploader.busy:
            self.job._uploader.wait(UPLOAD_S)
            self.job.collect()

    def append(self, *messages: bytes) -> None:
        """Append messages to INBOX, as a session does."""
        account = self.mail.login()
        now(account.append("INBOX", [NewMessage(one) for one in messages]))
        account.release()

    def staged_bytes(self) -> int:
        """What lies in the staging folder."""
        return sum(path.stat().st_size for path in self.places.staging.iterdir())

    def source(self) -> Source:
        """The objects in the store, opened by the private key."""
        return Source(self.store, lambda _name: self.private_key, list_store(self.store).sizes)

    def read_server(self, scratch: Path) -> Server:
        """The server as its stream tells it."""
        return read_server(self.source(), list_store(self.store), self.private_key, scratch).server

    def restored(self, name: str) -> World:
        """A new server, made by the private key from what is stored."""
        fresh, scratch = self.place / name, self.place / f"{name}-scratch"
        scratch.mkdir()
        listing = list_store(self.store)
        source = self.source()
        server = self.read_server(scratch)
        restore_server(fresh, server)
        directory = open_directory(fresh)
        restorer = Restorer(fresh, source, scratch, 2)
        for account_id, head in server.heads.items():
            wanted = target(listing, server.accounts[account_id].account_id, head, None)
            folder, rebuilt = restorer.rebuild(wanted)
            restorer.install(wanted.account_id, folder, rebuilt, 7, 1.0)
            accept_header(fresh, directory, wanted.account_id)
        directory.close()
        return World(fresh)

    def close(self) -> None:
        """Close everything."""
        self.job.stop()
        self.state.close()
        self.mail.close()


def message(subject: str, content: bytes) -> bytes:
    """A message with this text."""
    head = f"Date: Mon, 7 Feb 2022 21:52:25 +0000\r\nSubject: {subject}\r\n\r\n".encode("ascii")
    return head + content


def in_inbox(mail: World) -> list[bytes]:
    """Every message of INBOX as BODY[] returns it, sorted; mail that waits is filed first."""
    account = mail.login()
    try:
        mailbox = now(account.select("INBOX", True))
        rows = now(mailbox.content(mailbox.opened.uids, [SectionRead(SectionSpec())], 1 << 30))
        return sorted(row.sections[0].data for row in rows)
    finally:
        account.release()
