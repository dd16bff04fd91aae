"""An account that lives, over which its snapshots are restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from backup_world import BackupWorld, NewMessage, message, now

from backup.catalogue import Head
from backup.restore import Restorer, Target
from backup.state import Segment
from mailstore.account import AccountPaths
from mailstore.keys import AccountId
from mailstore.limits import StoreLimits

MAILBOXES = ("INBOX", "Drafts", "Sent")
RESTORE_ID = 7

SOMEBODY_INSIDE = """
import fcntl, os, pathlib, select, sys, time
path, leaves = pathlib.Path(sys.argv[1]), sys.argv[2] == "leaves"
database = os.open(path / "mail.db", os.O_RDWR)
fcntl.lockf(database, fcntl.LOCK_SH, 1, 0x40000002)
print("inside", flush=True)
until = time.monotonic() + 60
while time.monotonic() < until and not (leaves and (path / "leave").exists()):
    if select.select([sys.stdin], [], [], 0.01)[0]:
        break
"""
"""Another process that has the database open, as SQLite's lock on it says; it leaves when asked, or never."""


class Living(BackupWorld):
    """An account with snapshots, over which they are restored."""

    @property
    def account_id(self) -> AccountId:
        """The only account."""
        return self.mail.directory.accounts()[0].account_id

    @property
    def paths(self) -> AccountPaths:
        """Its files."""
        return self.mail.paths

    @property
    def restorer(self) -> Restorer:
        """As a command makes it."""
        return Restorer(self.place / "root", self.source(), self.place / "scratch", 1)

    def append(self, subject: str, size: int = 500) -> None:
        """Append to INBOX; the account stays open."""
        account = self.mail.login()
        now(account.append("INBOX", [NewMessage(message(subject, size))]))
        account.release()

    def settle(self) -> None:
        """Checkpoint and close the account."""
        self.mail.clock.advance(StoreLimits().close_grace_s + 1)

    def snapshot(self) -> Segment:
        """A stored one; it has to have something new."""
        taken = self.take()
        assert taken is not None
        self.upload()
        return taken

    def wanted(self, segment: Segment, *, newest: bool = False) -> Target:
        """The state after a segment."""
        names = tuple(name for name in self.names() if name.sequence <= segment.name.sequence)
        return Target(self.account_id, names, 1, Head(segment.name.stream, len(names), b""), newest)

    def install(self, segment: Segment, patience_s: float = 0.0) -> Path | None:
        """Restore the state after a segment in place. Nobody of this process is inside meanwhile."""
        self.settle()
        folder, rebuilt = self.restorer.rebuild(self.wanted(segment))
        return self.restorer.install(self.account_id, folder, rebuilt, RESTORE_ID, patience_s)

    def inbox(self) -> list[bytes]:
        """Subjects of all that is there after a login, in a database that is sound."""
        self.mail.login().release()
        return self.subjects(self.paths.folder)

    def validities(self) -> dict[str, int]:
        """UIDVALIDITY of every mailbox."""
        account = self.mail.login()
        found = now(account.statuses(MAILBOXES))
        account.release()
        return {name: int(status.uid_validity) for name, status in found.items()}


def inode(path: Path) -> int:
    """What tells a file from another one of the same name."""
    return path.stat().st_ino


def make_living(folder: Path) -> Iterator[Living]:
    """A fresh account, for a fixture."""
    made = Living(folder)
    yield made
    made.close()


def killed_with_a_full_log(world: Living, subject: str) -> dict[str, bytes]:
    """Leave the account as kill -9 of its worker does, nothing copied back; its files as they are then."""
    world.append(subject)
    files = [world.paths.mail_db, world.paths.wal, world.paths.folder / "mail.db-shm"]
    content = {path.name: path.read_bytes() for path in files}
    assert len(content["mail.db-wal"]) > 4 * 4096
    world.settle()
    assert not world.paths.wal.exists()
    for name, data in content.items():
        (world.paths.folder / name).write_bytes(data)
    return content
