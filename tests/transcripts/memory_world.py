"""The server in memory as transcripts see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred

from mailstore.model import Flags, Pop3Settings, SpecialUse, SystemFlag, UidValidity
from protocols.budget import MemoryBudget
from protocols.load import Load
from tests.wire import Client, ImapWorld

SAMPLE = (
    b"From: Ann <ann@example.org>\r\nTo: joe@example.net\r\nSubject: Report %d\r\n"
    b"Date: Mon, 7 Feb 2022 21:52:25 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\nHello number %d.\r\n"
)
SAMPLE_DATE = 1_644_270_745
"""Internal date of the messages of ``@messages``, epoch s."""


SHORT_SAMPLE = b"Subject: Report %d\r\n\r\nHello number %d.\r\n.\r\n.a dot\r\n"
"""The messages of ``@messages`` in POP3's transcripts, which show them whole."""


def changed_settings(before: Pop3Settings, setting: str, value: str) -> Pop3Settings:
    """The settings after ``@pop3 SETTING VALUE``."""
    match setting:
        case "maildrop":
            return replace(before, maildrop=value)
        case "login_delay_s":
            return replace(before, login_delay_s=int(value))
        case _:
            return replace(before, **{setting: value == "yes"})


def mail_of(fields: Sequence[str]) -> tuple[bytes, int]:
    """The message of ``@mail``, ``_`` for a space and ``Body:`` for its text, and its internal date."""
    words = [field.replace("_", " ") for field in fields]
    header = "\r\n".join(word.replace(":", ": ", 1) for word in words if not word.startswith("Body:"))
    body = "".join(word.removeprefix("Body:") for word in words if word.startswith("Body:"))
    return f"{header}\r\n\r\n{body}\r\n".encode(), len(header)


def flags_of(words: Sequence[str]) -> Flags:
    """The flags of ``@flag``."""
    system = SystemFlag.NONE
    for word in words:
        if word.startswith("\\"):
            system |= SystemFlag[word[1:].upper()]
    return Flags(system, tuple(word for word in words if not word.startswith("\\")))


class MemoryPeer:
    """A client of the server in memory."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def send(self, data: bytes) -> None:
        """See ``Peer``."""
        heard = self._client.hear()
        self._client.transport.write(heard)
        if not self._client.closed:
            self._client.protocol.dataReceived(data)

    def receive(self, wait_s: float) -> bytes:
        """See ``Peer``; nothing is on its way."""
        return self._client.hear()

    @property
    def closed(self) -> bool:
        """See ``Peer``."""
        return self._client.closed


class MemoryWorld:
    """One account, joe with the password secret, and the actions of ``@`` lines.

    ``@plain`` connects to port 143 instead of 993; ``@login`` and ``@select NAME`` bring the
    connections that follow into that state without showing it. ``@limit NAME NUMBER`` gives them another
    limit. ``@clock 0`` and ``@nonce`` change
    nothing here: they say that what follows needs a clock that stands still, or a server whose SCRAM
    nonce and salt are known.
    """

    def __init__(self) -> None:
        self.world = ImapWorld()
        self._prelude: list[bytes] = []
        self._factory = self.world.factory
        self._shows_greeting = True
        self._gate: Deferred[None] = Deferred()
        self._actions: dict[str, Callable[..., None]] = {
            "plain": self._plain,
            "login": self._login,
            "select": self._select,
            "messages": self._messages,
            "deliver": self._deliver,
            "mail": self._mail,
            "flag": self._flag,
            "mailbox": self._mailbox,
            "subscribe": lambda name: self.world.account.subscriptions.add(name),
            "quota": self._quota,
            "validity": self._validity,
            "hold": self._hold,
            "proceed": self._proceed,
            "read_only": self._read_only,
            "clock": lambda seconds: self.world.clock.advance(float(seconds)),
            "nonce": lambda: None,
            "limit": self._limit,
            "load": self._load,
            "revoke": lambda: self.world.account.close_sessions(),
        }

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> MemoryPeer:
        """See ``World``."""
        client = Client(self._factory)
        if not self._shows_greeting:
            client.hear()
        for line in self._prelude:
            assert b" OK" in client.say(line)
        return MemoryPeer(client)

    def _limit(self, name: str, number: str) -> None:
        """Connections from now on have another limit."""
        self.world.limits = replace(self.world.limits, **{name: int(number)})
        self.world.literals = MemoryBudget(self.world.limits.literals_worker_max_bytes)
        self._factory = self.world.factory_for(implicit_tls=True)

    def _load(self, lag_s: str) -> None:
        """The worker comes late to its work by so much."""
        self.world.load = Load(float(lag_s))

    def _plain(self) -> None:
        self._factory = self.world.factory_for(implicit_tls=False)

    def _login(self) -> None:
        self._shows_greeting = False
        self._prelude.append(b"L LOGIN joe secret\r\n")

    def _select(self, name: str) -> None:
        self._login()
        self._prelude.append(b"S SELECT " + name.encode() + b"\r\n")

    def _messages(self, count: str, mailbox: str = "INBOX") -> None:
        for number in range(1, int(count) + 1):
            self.world.account.deliver(SAMPLE % (number, number, number), mailbox, date=SAMPLE_DATE)

    def _deliver(self, mailbox: str = "INBOX") -> None:
        self.world.account.deliver(SAMPLE % (99, 99, 99), mailbox)

    def _mail(self, *fields: str) -> None:
        data, date = mail_of(fields)
        self.world.account.deliver(data, date=date)

    def _flag(self, uid: str, *words: str) -> None:
        box = self.world.account.mailboxes["INBOX"]
        message = box.messages[int(uid)]
        message.flags = flags_of(words)
        message.modseq = box.bump()

    def _mailbox(self, name: str, use: str = "") -> None:
        self.world.account.create(name, SpecialUse(use) if use else None)

    def _hold(self) -> None:
        self._gate = self.world.hold()

    def _proceed(self) -> None:
        self._gate.callback(None)
        # Whoever has waited gives the others their turn first.
        self.world.clock.advance(0)

    def _validity(self, name: str, number: str) -> None:
        self.world.account.mailboxes[name].uid_validity = UidValidity(int(number))

    def _quota(self, kib: str, messages: str) -> None:
        self.world.account.limit_bytes = int(kib) * 1024
        self.world.account.limit_messages = int(messages)

    def _read_only(self) -> None:
        self.world.account.read_only = True
