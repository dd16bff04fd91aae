"""A data root with accounts to move mail between, without a server."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path

from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.keys import Argon2Params
from mailstore.limits import StoreLimits
from mailstore.model import Flags, MailboxName, SystemFlag
from mailstore.opened_account import OpenedAccount, Wanted, opened_account
from mailstore.ops import mailboxes, messages
from mailstore.ops.content import read_span
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from mailstore.transfer.exporting import Exported, export_mail
from mailstore.transfer.importing import Choice, Imported, import_mail

ALL = Choice()
TINY = Argon2Params(1, 64, 1)
PASSWORD = b"correct horse battery staple"


class Silent:
    """Progress that nobody looks at; it keeps what was said."""

    def __init__(self):
        self.expected = self.done = 0

    def expect(self, size_bytes):
        """There is so much more to do."""
        self.expected += size_bytes

    def advance(self, size_bytes):
        """So much more has been done."""
        self.done += size_bytes


class TransferWorld:
    """Accounts ``ada``, ``bob`` and whoever else is named, in one data root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.limits = StoreLimits(min_free_bytes=0)
        init_root(root)
        for name in ("ada", "bob"):
            self.add_account(name)

    @classmethod
    def again(cls, root: Path) -> TransferWorld:
        """One whose accounts are there already."""
        world = cls.__new__(cls)
        world.root = root
        world.limits = StoreLimits(min_free_bytes=0)
        return world

    def add_account(self, name: str, quota_bytes: int | None = None):
        """One more account."""
        directory = open_directory(self.root)
        try:
            new = NewAccount(f"{name}@example.org", PASSWORD, quota_bytes)
            return create_account(self.root, directory, new, params=TINY)
        finally:
            directory.close()

    def wanted(self, name: str, secret: bytes = PASSWORD) -> Wanted:
        """What opens an account."""
        return Wanted(self.root, f"{name}@example.org", secret, TINY, self.limits)

    @contextmanager
    def opened(self, name: str):
        """The account, open."""
        with opened_account(self.wanted(name), writes=True) as account:
            yield account

    def fill(self, name: str, mail: dict[str, list[tuple[bytes, Flags, int]]]) -> None:
        """Put messages into mailboxes, which are made and subscribed."""
        with self.opened(name) as account:
            account.database.write(1_000, _fill, mail)

    def contents(self, name: str) -> dict[str, list[tuple[bytes, Flags, int]]]:
        """Every mailbox with messages, their flags and internal dates, in order."""
        with self.opened(name) as account:
            return contents_of(account)

    def subscriptions(self, name: str) -> set[str]:
        """The subscribed names."""
        with self.opened(name) as account:
            listed = account.database.read(0, mailboxes.list_mailboxes)
            return {one.name for one in listed.mailboxes if one.subscribed} | set(listed.orphan_subscriptions)

    def take_in(self, name: str, source, choice=ALL, within=nullcontext) -> Imported:
        """Import."""
        done = Imported()
        self.progress = Silent()
        import_mail(self.wanted(name), source, choice, self.progress, within, done)
        return done

    def take_out(self, name: str, target, *, update=False, within=nullcontext) -> Exported:
        """Export."""
        done = Exported()
        self.progress = Silent()
        export_mail(self.wanted(name), target, self.progress, within, done, update=update)
        return done


def _fill(txn, mail):
    for name, content in mail.items():
        if not any(one.name == name for one in mailboxes.list_mailboxes(txn).mailboxes):
            mailboxes.create(txn, MailboxName(name), None, 5_000)
            mailboxes.subscribe(txn, MailboxName(name), 5_000)
        ready = [ReadyMessage(prepare(data), flags, date) for data, flags, date in content]
        messages.add_messages(txn, require_mailbox(txn, MailboxName(name)), ready)


def contents_of(account: OpenedAccount) -> dict[str, list[tuple[bytes, Flags, int]]]:
    """As :meth:`TransferWorld.contents`, of an open account."""
    database, found = account.database, {}
    for info in database.read(0, mailboxes.list_mailboxes).mailboxes:
        placed = database.read(0, messages.placed_messages, info.mailbox_id)
        found[info.name] = [
            (database.read(0, read_span, one.message_id, 0, one.size_bytes), one.flags, one.internal_date)
            for one in placed
        ]
    return found


SEEN = Flags(SystemFlag.SEEN)
ALL_FLAGS = Flags(SystemFlag(31), ("$Forwarded", "NonJunk", "work"))
NONE = Flags()

DIFFICULT = [
    b"Subject: plain\r\n\r\nHello.\r\n",
    b"",
    b"\r\n",
    b"\n",
    b"no header at all",
    b"Subject: no end\r\n",
    b"Subject: lf only\n\nFrom here on\n>From there\n",
    b"Subject: mixed\r\n\r\nFrom here\r\n>From there\n>>From\r\r\n.\r\nFrom \r\n\r\n"
    b"From a@b Mon Jan  1 00:00:00 2024\r\n",
    b"Status: RO\r\nX-Status: F\r\nX-Keywords: lie\r\nX-Sealbox: 5 lf\r\nSubject: lies\r\n\r\nx\r\n",
    b"X-Mozilla-Status: 0008\r\nContent-Length: 3\r\nSubject: more lies\r\n\r\nFrom x\r\n\r\n\r\n",
    b"Subject: octets\r\n\r\n" + bytes(range(256)) * 3,
    b"Subject: nul \0 and cr\r\r\n\r\n\0\0\r",
    b"\xff\xfe\r\nFrom x@y Thu Jan  1 00:00:01 1970\r\n\r\nbody",
    b"Subject: twin\r\n\r\nSame.\r\n",
    b"Subject: twin\r\n\r\nSame.\r\n",
]
"""Messages that a format may spoil."""


def difficult_mail() -> dict[str, list[tuple[bytes, Flags, int]]]:
    """Them, in mailboxes whose names are difficult, too."""
    flags = [NONE, SEEN, ALL_FLAGS, Flags(SystemFlag.DRAFT), Flags(SystemFlag.ANSWERED, ("a]b"[:1],))]
    mail = [
        (data, flags[at % len(flags)], 86_400 * (len(DIFFICULT) - at)) for at, data in enumerate(DIFFICULT)
    ]
    return {
        "INBOX": mail,
        "Sent": mail[:2],
        "Work/2024/..": mail[2:4],
        "Work": mail[4:6],
        "../x": mail[:1],
        ".hidden": mail[:1],
        "a.b/c.d": mail[:1],
        "Grüße & Küsse/日本語": mail[:3],
        "100%/%2E": mail[:1],
        "INBOX/below": mail[:1],
        "cur": mail[:1],
        "new/tmp": mail[:1],
        "x.mbox": mail[:1],
        "x": mail[:1],
        "x/y": mail[:1],
        "x.sbd/y": mail[:1],
        "1.eml": mail[:1],
        "long " + "ä" * 200 + "/" + "n" * 300: mail[:2],
        "long " + "ä" * 200 + "/" + "n" * 301: mail[:1],
        "sealbox-export.json": mail[:1],
        "messages.jsonl": mail[:1],
        "Empty": [],
    }
