"""How much of the disk an account takes, as can be known without its key; and with it, each mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mailstore.account import AccountPaths
from mailstore.durable import storage_errors
from mailstore.engine import Database, Txn
from mailstore.errors import NoSuchAccount
from mailstore.former_key import waiting_messages
from mailstore.inbox_size import waiting_bytes
from mailstore.mail_size import used_bytes
from mailstore.model import MailboxName
from mailstore.ops import mailboxes
from mailstore.sealed import damaged_messages


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Sizes in octets, of mail and of files, and how many sealed messages wait or could not be opened."""

    mail_bytes: int
    """What is compared with the storage limit: mail as it is, not as it is compressed; rounded up."""

    database_bytes: int
    log_bytes: int
    """Of the write-ahead log, which goes into the database when that is closed."""
    search_bytes: int
    inbox_bytes: int
    """Of the messages that wait."""
    waiting_messages: int
    damaged_messages: int

    @property
    def total_bytes(self) -> int:
        """All files."""
        return self.database_bytes + self.log_bytes + self.search_bytes + self.inbox_bytes


def disk_use(paths: AccountPaths) -> DiskUse:
    """Look at the files of an account. Raises NoSuchAccount, Busy, StorageFailed."""
    if not paths.keys.exists():
        raise NoSuchAccount
    return DiskUse(
        used_bytes(paths),
        _size(paths.mail_db),
        _size(paths.wal),
        sum(map(_size, paths.search_db_files)),
        waiting_bytes(paths.inbox),
        len(waiting_messages(paths.inbox)),
        len(damaged_messages(paths.inbox)),
    )


@dataclass(frozen=True, slots=True)
class MailboxUse:
    """How many messages and octets a mailbox has; a copy counts like an original."""

    name: MailboxName
    messages: int
    size_bytes: int


def mailbox_use(database: Database) -> list[MailboxUse]:
    """All mailboxes, INBOX first, then by name. Raises Busy, DatabaseDamaged, StorageFailed."""
    return database.read(0, _mailbox_use)


def _mailbox_use(txn: Txn) -> list[MailboxUse]:
    names = [info.name for info in mailboxes.list_mailboxes(txn).mailboxes]
    found = mailboxes.statuses(txn, names).items()
    return [MailboxUse(name, one.messages, one.size_bytes) for name, one in found]


def _size(path: Path) -> int:
    with storage_errors():
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0
