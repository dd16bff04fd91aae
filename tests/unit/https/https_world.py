"""The HTTPS door over accounts in memory."""

from __future__ import annotations

import dataclasses
from email.parser import BytesParser
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.errors import AuthenticationFailed, ScopeDenied, StoreError
from mailstore.model import AccessProtocol
from protocols.https.accounts import Joined, Welcomed
from protocols.https.facts import PolicyFacts, Server, SetupFacts
from protocols.https.server import HttpsFactory
from protocols.https.session import HttpsServices
from protocols.https.unseen import Unseen
from protocols.limits import AccessLogLimits, HttpsLimits, LoginLimits, StreamLimits
from protocols.login import AttemptGuard
from protocols.throttle import KEY_BYTES, Throttle
from tests.login_guard import at_once
from tests.wire import Client, RecordingLog, WireTransport

FACTS = SetupFacts(
    "Example Mail",
    "https://mail.example.org",
    (Server("imap.example.org", 993),),
    (Server("pop.example.org", 995),),
    (Server("smtp.example.org", 465), Server("smtp.example.org", 587, starttls=True)),
    PolicyFacts(("mx1.example.org", "mx2.example.org"), "testing", 604_800),
)
TOKEN = "d3v1ce00" + "s" * 32
OWNER = "0wner000" + "s" * 32
APP_PASSWORD = "d3v1-ce00-aaaa-bbbb-cccc-dddd-eeee"
RECOVERY_KEY = "sbrk-aaaa-bbbb"
PASSWORD = b"a password of my own"


class MemoryAccounts:
    """One account at example.org, and two invitations to it."""

    def __init__(self) -> None:
        self.unused = {TOKEN, OWNER}
        self.asked: list[str] = []
        """Whatever was looked up."""
        self.protocols: frozenset[AccessProtocol] | None = None
        self.trouble: StoreError | None = None
        self.device_valid_s = 3600
        self.passwords: list[bytes] = []
        self.gate: Deferred[None] | None = None
        """What an exchange waits for, once it has used its invitation up."""

    async def domain(self, text: str) -> str | None:
        """See ``DoorAccounts``."""
        self.asked.append(text)
        return text.lower() if text.lower() in ("example.org", "münchen.example") else None

    async def address(self, text: str) -> str | None:
        """See ``DoorAccounts``."""
        local, _, domain = text.rpartition("@")
        return text.lower() if local and await self.domain(domain) else None

    def is_token(self, text: str) -> bool:
        """See ``DoorAccounts``."""
        return len(text) == len(TOKEN) and text.isalnum()

    async def join(self, token: str, usable: frozenset[AccessProtocol]) -> Joined:
        """See ``DoorAccounts``."""
        if token in self.unused and not usable & (self.protocols or frozenset(AccessProtocol)):
            raise ScopeDenied
        self._use(token)
        if self.gate is not None:
            await self.gate
        return Joined("joe@example.org", APP_PASSWORD, self.protocols)

    async def welcome(self, token: str, password: bytes) -> Welcomed:
        """See ``DoorAccounts``."""
        self._use(token)
        self.passwords.append(password)
        return Welcomed("joe@example.org", RECOVERY_KEY, TOKEN, self.device_valid_s)

    def _use(self, token: str) -> None:
        self.asked.append(token)
        if self.trouble is not None:
            raise self.trouble
        if token not in self.unused:
            raise AuthenticationFailed
        self.unused.discard(token)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response as its client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode("utf-8")


def answer_in(data: bytes) -> Answer:
    """Read a response, which has to be whole."""
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    version, status, *_ = line.split(b" ")
    assert version == b"HTTP/1.1"
    headers = {name.lower(): value for name, value in BytesParser().parsebytes(fields).items()}
    assert headers["connection"] == "close"
    return Answer(int(status), headers, body)


class HttpsWorld:
    """A door with its clock and logs. Keyword arguments change its limits."""

    def __init__(
        self,
        login_limits: LoginLimits | None = None,
        behind_proxy: bool = False,
        facts: SetupFacts = FACTS,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1)  # a time of zero means never
        self.accounts = MemoryAccounts()
        self.access_log = RecordingLog()
        self.limits = dataclasses.replace(HttpsLimits(), **limits)
        login = login_limits or LoginLimits()
        throttle = Throttle.in_memory(bytes(KEY_BYTES), login)
        self.guard = AttemptGuard(login, self.clock, throttle, at_once, lambda _name: None)
        self.signed: list[bytes] = []
        self.signing: Deferred[None] | None = None
        """What a signature waits for."""
        self.signing_trouble: Exception | None = None
        services = HttpsServices(
            self.accounts,
            self.guard,
            facts,
            self._sign,
            self.limits,
            AccessLogLimits(),
            self.access_log,
            self.clock,
            behind_proxy,
            Unseen(self.clock, self.limits.unseen_kept_s),
        )
        self.factory = HttpsFactory(services, StreamLimits())

    async def _sign(self, content: bytes) -> bytes:
        self.signed.append(content)
        if self.signing is not None:
            await self.signing
        if self.signing_trouble is not None:
            raise self.signing_trouble
        return b"signed " + content

    def connect(self, address: str = "192.0.2.7") -> Client:
        """A connection."""
        return Client(self.factory, _From(address))

    def ask(self, request: bytes, address: str = "192.0.2.7") -> Answer:
        """The answer to one request."""
        client = self.connect(address)
        said = client.say(request)
        self.clock.advance(0)
        answer = answer_in(said + client.hear())
        assert client.closed
        return answer

    def get(self, path: str, host: str = "mail.example.org", more: str = "") -> Answer:
        """GET."""
        return self.ask(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())

    def post(self, path: str, body: bytes, host: str = "mail.example.org", more: str = "") -> Answer:
        """POST."""
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        return self.ask(head.encode() + body)

    @property
    def logged(self) -> list[tuple[str, str]]:
        """Commands and results in the access log."""
        return [(entry.command, entry.result) for entry in self.access_log.entries]


class _From(WireTransport):
    """A transport whose peer has that address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.peerAddr = type("Peer", (), {"host": address})()
