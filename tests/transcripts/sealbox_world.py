"""Our server over TCP as transcripts see it: a fresh account each, changed by another process."""

from __future__ import annotations

import re
import select
import smtplib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mailstore.account import NewAccount, account_paths, create_account, destroy_account, exclusive_lock
from mailstore.account_database import mail_key
from mailstore.engine import Database, Txn, open_connection
from mailstore.errors import NoSuchAccount
from mailstore.keyring import Keyring
from mailstore.keys import Scope
from mailstore.model import INBOX, ModSeq, SpecialUse, StoreMode
from mailstore.names import superiors
from mailstore.opening import Proven, open_as_owner
from mailstore.ops import mailboxes
from mailstore.ops.messages import add_messages, store_flags
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from mailstore.schema import migrate
from mailstore.uidset import UidSet
from tests.memory_mailbox import SAVED
from tests.transcripts.memory_world import SAMPLE, SAMPLE_DATE, flags_of, mail_of
from tests.transcripts.runner import ANSWER_S, NotHere
from tests.transcripts.sealbox_server import CHEAP, SealboxServer
from tests.transcripts.socket_peer import SocketPeer, after_starttls

PASSWORD = b"secret"
VALIDITY = 7
_NO_SINCE = ModSeq(0)
_NAMES_JOE = re.compile(rb"^(\S+ (?:LISTRIGHTS|SETACL|DELETEACL) \S+) joe\b")


class SealboxWorld:
    """See ``World``: joe of a domain of his own, so that no transcript meets another one's data.

    Mail comes by LMTP; what else happens aside is done in the account's database by this process, as
    another worker would.
    """

    services = ("imaps", "imap")
    """With TLS from the start, and without."""
    upgrade_after = staticmethod(after_starttls)

    def __init__(self, server: SealboxServer, domain: str, source: str) -> None:
        self._server = server
        self._name = f"joe@{domain}"
        self._source = source
        self._peers: list[SocketPeer] = []
        self._prelude: list[bytes] = []
        self._shows_greeting = True
        self._implicit_tls = True
        self._secret = PASSWORD
        directory = server.directory
        self._record = create_account(server.root, directory, NewAccount(self._name, PASSWORD), params=CHEAP)
        directory.set_default_domain(domain)
        self._paths = account_paths(server.root, self._record.account_id)
        self._database = self._fresh_database()
        self._actions: dict[str, Callable[..., None]] = {
            "plain": self._plain,
            "login": self._login,
            "select": self._select,
            "messages": self._messages,
            "deliver": self._deliver,
            "mail": self._mail,
            "flag": self._flag,
            "mailbox": self._mailbox,
            "subscribe": lambda name: self._write(mailboxes.subscribe, name, 1000),
            "quota": self._quota,
            "validity": self._validity,
            "read_only": self._read_only,
            "revoke": self._revoke,
            "hold": lambda: _cannot("a real store cannot be told to wait"),
            "clock": lambda _: _cannot("the clock of a real server goes its own way"),
            "limit": lambda *_: _cannot("limits are a setting of the whole server"),
            "load": lambda _: _cannot("the load of a real server is its own"),
            "nonce": lambda: _cannot("a real server's nonce and salt are its own"),
        }

    def __enter__(self) -> SealboxWorld:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()
        try:
            with exclusive_lock(self._paths):
                self._database.close()
        except NoSuchAccount:
            # Revoked: there is nothing left to lock.
            self._database.close()

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> SocketPeer:
        """See ``World``."""
        peer = self._peer()
        self._peers.append(peer)
        return peer

    def _peer(self) -> SocketPeer:
        peer = SocketPeer(
            self._server.ports[self.services[0] if self._implicit_tls else self.services[1]],
            self._server.tls(),
            source=self._source,
            implicit_tls=self._implicit_tls,
            heard_as=self._heard_as,
            sent_as=self._sent_as,
            upgrade_after=self.upgrade_after,
        )
        if not self._shows_greeting:
            _line(peer, b"* OK")
        for line in self._prelude:
            peer.send(line)
            _line(peer, line.split()[0] + b" OK")
        return peer

    def _sent_as(self, data: bytes) -> bytes:
        """The account's whole name where the transcript says joe; logging in needs no more than that."""
        whole = self._name.encode()
        data = data.replace(b"//joe", b"//" + whole.replace(b"@", b"%40"))
        return _NAMES_JOE.sub(rb"\1 " + whole, data).replace(b"joe secret", b"joe " + self._secret)

    def _heard_as(self, data: bytes) -> bytes:
        """The transcripts' words: joe is the whole name; without TLS there is nothing to bind to."""
        for whole in (self._name, self._name.replace("@", "%40")):
            data = data.replace(whole.encode(), b"joe")
        return data.replace(b" AUTH=SCRAM-SHA-256-PLUS", b"")

    @contextmanager
    def _opened(self) -> Iterator[Proven]:
        opened = open_as_owner(
            self._server.root, self._server.directory, self._name, PASSWORD, now=time.time(), params=CHEAP
        )
        try:
            yield opened
        finally:
            opened.wipe()

    def _fresh_database(self) -> Database:
        with self._opened() as opened:
            key = mail_key(opened.master)
        database = open_connection(self._paths.mail_db, key)
        migrate(database, SAVED)
        database.write(SAVED, _only_inbox)
        return database

    def _write(self, what: Callable[..., object], *words: object) -> None:
        self._database.write(SAVED, what, *words)

    def _plain(self) -> None:
        self._implicit_tls = False

    def _login(self) -> None:
        self._shows_greeting = False
        self._prelude.append(b"L LOGIN joe secret\r\n")

    def _select(self, name: str) -> None:
        self._login()
        self._prelude.append(b"S SELECT " + name.encode() + b"\r\n")

    def _messages(self, count: str, mailbox: str = "INBOX") -> None:
        for number in range(1, int(count) + 1):
            self._add(SAMPLE % (number, number, number), mailbox, SAMPLE_DATE)

    def _mail(self, *fields: str) -> None:
        data, date = mail_of(fields)
        self._add(data, INBOX, date)

    def _add(self, data: bytes, mailbox: str, date: int) -> None:
        self._write(_add, data, mailbox, date)

    def _deliver(self, mailbox: str = INBOX) -> None:
        local, _, domain = self._name.partition("@")
        to = self._name if mailbox == INBOX else f"{local}+{mailbox}@{domain}"
        port = self._server.ports["lmtp"]
        with smtplib.LMTP("127.0.0.1", port, local_hostname="localhost", timeout=ANSWER_S) as lmtp:
            lmtp.sendmail("sender@example.org", [to], SAMPLE % (99, 99, 99))
        if self._peers:
            _eventually(lambda: not list(self._paths.inbox.glob("*.sealed")))

    def _flag(self, uid: str, *words: str) -> None:
        self._write(_flag, int(uid), words)

    def _mailbox(self, name: str, use: str = "") -> None:
        self._write(_mailbox, name, SpecialUse(use) if use else None)

    def _quota(self, kib: str, messages: str) -> None:
        """The number of messages is a setting of the whole server: see ``needs``."""
        self._server.directory.set_quota(self._record.account_id, int(kib) * 1024)

    def _validity(self, name: str, number: str) -> None:
        self._write(_set_validity, name, int(number))

    @contextmanager
    def _keyring(self) -> Iterator[Keyring]:
        server = self._server
        with self._opened() as opened:
            yield Keyring(server.root, server.directory, self._record.account_id, opened.master, params=CHEAP)

    def _read_only(self) -> None:
        """An app password that only reads; those who are there come again with it."""
        with self._keyring() as keyring:
            made = keyring.add_app_password("reader", Scope(read_only=True))
        self._secret = made.printed.text().encode()
        for peer in self._peers:
            peer.become(self._peer())

    def _revoke(self) -> None:
        destroy_account(self._server.root, self._server.directory, self._record.account_id)


def _cannot(reason: str) -> None:
    raise NotHere(reason)


def _line(peer: SocketPeer, start: bytes) -> None:
    """Read up to the line that begins so."""
    heard = b""
    while not any(line.startswith(start) for line in heard.splitlines()):
        more = peer.receive(ANSWER_S)
        assert more, "no answer while a session was prepared"
        heard += more


def _eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        # A poll with a deadline: the condition above decides, not this pause.
        select.select([], [], [], 0.005)


def _only_inbox(txn: Txn) -> None:
    """As an account in memory begins: INBOX, not subscribed."""
    txn.run("DELETE FROM mailbox WHERE name <> ?", (INBOX,))
    txn.run("DELETE FROM subscription")
    txn.run("UPDATE mailbox SET uid_validity = ?", (VALIDITY,))


def _add(txn: Txn, data: bytes, mailbox: str, date: int) -> None:
    add_messages(txn, require_mailbox(txn, mailbox), [ReadyMessage(prepare(data), flags_of(()), date)])


def _flag(txn: Txn, uid: int, words: Sequence[str]) -> None:
    inbox = require_mailbox(txn, INBOX)
    store_flags(txn, inbox, UidSet.of([uid]), StoreMode.REPLACE, flags_of(words), None, _NO_SINCE)


def _mailbox(txn: Txn, name: str, use: SpecialUse | None) -> None:
    if txn.value("SELECT 1 FROM mailbox WHERE name = ?", (name,)):
        txn.run("UPDATE mailbox SET special_use = ? WHERE name = ?", (use.value if use else None, name))
    else:
        mailboxes.create(txn, name, use, 1000)
    for one in (*superiors(name), name):
        _set_validity(txn, one, VALIDITY)


def _set_validity(txn: Txn, name: str, number: int) -> None:
    txn.run("UPDATE mailbox SET uid_validity = ? WHERE name = ?", (number, name))
