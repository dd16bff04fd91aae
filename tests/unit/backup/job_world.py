"""A server with one account, its snapshot job with clocks moved by hand, and a store with moods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backup_world import NewMessage, message, now
from store_world import World

from backup.catalogue import ServerFacts
from backup.errors import StoreRefused, StoreUnavailable
from backup.job import Job, Places
from backup.limits import BackupLimits
from backup.restore import list_store
from backup.segment import parse_name
from backup.server_stream import ReadServer, read_server
from backup.signing import Signer, Trust
from backup.source import Source
from backup.state import State
from backup.store_file import FileStore
from backup.wall_clock import Clocks
from mailstore.account import read_server_key
from mailstore.keys import load_private_key, new_private_key

LIMITS = BackupLimits(settle_s=60, longest_wait_s=300, retry_first_s=10, retry_max_s=40)


class Time:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Moody(FileStore):
    """A folder that can be away, or not let anything be deleted."""

    away = False
    keeps = False
    requests = 0

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See ``ObjectStore``."""
        self.requests += 1
        if self.away:
            raise StoreUnavailable("away")
        super().put(name, path, sha256)

    def delete(self, names: Sequence[str]) -> None:
        """See ``ObjectStore``."""
        self.requests += 1
        if self.keeps:
            raise StoreRefused("no")
        super().delete(names)


class JobWorld:
    """A server with one account, its job and its store."""

    def __init__(self, place: Path) -> None:
        self.root = place / "root"
        self.mail = World(self.root)
        self.time = Time()
        self.jump_s = 0.0
        """How far the wall clock is from the truth."""

        (place / "objects").mkdir()
        self.store = Moody(place / "objects")
        self.private_key = load_private_key(new_private_key())
        self.places = Places(self.root)
        self.places.make()
        self.state = State(self.places.folder, read_server_key(self.root))
        self.job = self.new_job()

    def new_job(self) -> Job:
        """A job as after a restart."""
        facts = ServerFacts(
            self.mail.directory, read_server_key(self.root), "hostname = 'mail.example.org'\n"
        )
        return Job(
            self.places,
            self.state,
            self.store,
            self.private_key.public,
            lambda: facts,
            LIMITS,
            Clocks(lambda: self.time() + self.jump_s, self.time),
        )

    def pass_time(self, seconds: float, step: float = 20.0) -> None:
        """Let the job turn while time passes."""
        until = self.time.now_s + seconds
        while self.time.now_s < until:
            self.time.now_s += step
            self.job.turn()
            self.job._uploader.wait(10)
            self.job.collect()

    def append(self, *subjects: str) -> None:
        """Append messages to INBOX."""
        account = self.mail.login()
        now(account.append("INBOX", [NewMessage(message(subject)) for subject in subjects]))
        account.release()

    def source(self) -> Source:
        """The objects in the store, opened by the private key."""
        sizes = list_store(self.store).sizes
        return Source(self.store, lambda _name: self.private_key, sizes, self.trust())

    def trust(self) -> Trust:
        """The server's signature is asked for."""
        return Trust(Signer(read_server_key(self.root)).public)

    def read_server(self, scratch: Path, **wishes: bool) -> ReadServer:
        """The server as its stream tells it."""
        return read_server(self.source(), list_store(self.store), self.private_key, scratch, **wishes)

    def stored(self) -> list[str]:
        """Kinds of the account's segments in the store, in order."""
        stream = self.state.stream(self.mail.directory.accounts()[0].account_id)
        names = [parse_name(one.name) for one in self.store.list()]
        return [name.kind for name in names if name and stream and name.stream == stream.stream]
