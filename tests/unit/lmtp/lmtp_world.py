"""An LMTP server over a store that keeps deliveries in a list and fails where a test says so."""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.directory import Recipient
from mailstore.errors import OverQuota
from mailstore.keys import AccountId, PublicKey
from mailstore.model import AccessProtocol
from mailstore.sealed import Facts
from protocols.access_log import Entry
from protocols.budget import MemoryBudget
from protocols.envelope.authentication import Logins
from protocols.envelope.onward import Onward
from protocols.limits import EnvelopeLimits, LoginLimits, StreamLimits
from protocols.lmtp.server import LmtpFactory
from protocols.login import LoginGuard
from tests.login_guard import make_guard
from tests.memory_store import MemoryStore
from tests.wire import TLS, Client, RecordingLog

HOSTNAME = "mx.example.org"
GREETING = b"220 mx.example.org LMTP Sealbox ready\r\n"
CAPABILITIES = (
    b"250-mx.example.org\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n"
    b"250-SMTPUTF8\r\n250-CHUNKING\r\n250-SIZE %d\r\n250 STARTTLS\r\n"
)
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n"


@dataclass(frozen=True)
class Delivery:
    """One message that was kept."""

    account: str
    message: bytes
    facts: Facts


class MemoryDeliveries:
    """A ``DeliveryStore``. ``failures`` maps an account to what its deliveries raise."""

    def __init__(self) -> None:
        self.kept: list[Delivery] = []
        self.known = {b"joe@example.org": "joe", b"ann@example.org": "ann", b"max@example.org": "max"}
        self.disabled: set[str] = set()
        self.elsewhere: dict[str, str | None] = {}
        """Accounts of other nodes."""
        self.full: set[str] = set()
        self.failures: dict[str, Exception] = {}
        self.resolve_failure: Exception | None = None
        self.hold: Deferred[None] | None = None

    async def recipient(self, address: bytes, size_bytes: int | None) -> Recipient | None:
        """See ``DeliveryStore``; + introduces a detail."""
        if self.resolve_failure is not None:
            raise self.resolve_failure
        local, _, domain = address.lower().partition(b"@")
        base, _, detail = local.partition(b"+")
        account = self.known.get(base + b"@" + domain)
        if account is None:
            return None
        if account in self.full and account not in self.disabled and size_bytes is not None:
            raise OverQuota("full")
        name = f"{account}@example.org"
        found = Recipient(
            AccountId(account), name, PublicKey(b""), detail.decode() or None, None, account in self.disabled
        )
        if account not in self.elsewhere:
            return found
        return dataclasses.replace(found, node=self.elsewhere[account], elsewhere=True)

    async def deliver(self, recipient: Recipient, message: bytes, facts: Facts) -> None:
        """See ``DeliveryStore``."""
        if self.hold is not None:
            await self.hold
        failure = self.failures.get(recipient.account_id)
        if failure is not None:
            raise failure
        self.kept.append(Delivery(recipient.account_id, message, facts))


class LmtpWorld:
    """A server with its clock and logs. Keyword arguments change its limits."""

    def __init__(
        self, tls: Any = TLS, implicit_tls: bool = False, onward: Onward | None = None, **limits: Any
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.store = MemoryDeliveries()
        self.access_log = RecordingLog()
        self.limits = dataclasses.replace(EnvelopeLimits(), **limits)
        self.budget = MemoryBudget(self.limits.data_total_max_bytes)
        self.factory = LmtpFactory(
            self.store,
            self.limits,
            tls,
            self.access_log,
            self.clock,
            HOSTNAME,
            self.budget,
            implicit_tls,
            StreamLimits(),
            onward,
        )

    def connect(self) -> Client:
        """A connection whose greeting has been heard."""
        client = Client(self.factory)
        assert client.hear() == GREETING
        return client

    def greeted(self) -> Client:
        """A connection after LHLO."""
        client = self.connect()
        assert client.say(b"LHLO relay.example.net\r\n").startswith(b"250-mx.example.org\r\n")
        return client

    def ready(self, *recipients: bytes) -> Client:
        """A connection with an open transaction."""
        client = self.greeted()
        assert client.say(b"MAIL FROM:<bob@example.net>\r\n") == b"250 2.1.0 sender OK\r\n"
        for recipient in recipients or (b"joe@example.org",):
            client.say(b"RCPT TO:<%s>\r\n" % recipient)
        return client


CALM = LoginLimits(free_failures=1000, account_free_failures=1000, attempts_per_connection_max=1000)


def words(text: bytes) -> bytes:
    """In base64."""
    return base64.b64encode(text)


def plain(name: bytes = b"joe", secret: bytes = b"secret", authzid: bytes = b"") -> bytes:
    """AUTH PLAIN with its initial response."""
    return b"AUTH PLAIN " + words(b"\0".join((authzid, name, secret))) + b"\r\n"


class Door(LmtpWorld):
    """A door for nodes, over a store with the account ``joe`` whose secret is ``secret``."""

    def __init__(self, login_limits: LoginLimits = CALM, secure: bool = True, **limits: Any) -> None:
        super().__init__(**limits)
        self.accounts = MemoryStore()
        self.accounts.add_account()
        self.guard: LoginGuard = make_guard(self.accounts, login_limits, self.clock)
        self.factory = LmtpFactory(
            *(self.store, self.limits, TLS, self.access_log, self.clock, "mx.example.org", self.budget),
            implicit_tls=secure,
            logins=Logins(self.guard, AccessProtocol.SMTP),
        )

    @property
    def recorded(self) -> list[tuple[str, str, str]]:
        """Address, command and result of each line in the access log."""
        entries: list[Entry] = self.access_log.entries
        return [(one.address, one.command, one.result) for one in entries]
