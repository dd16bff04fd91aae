"""A POP3 server over the memory store."""

from __future__ import annotations

import dataclasses
from typing import Any

from twisted.internet.task import Clock

from protocols.limits import LoginLimits, Pop3Limits, StreamLimits
from protocols.pop3.server import Pop3Factory
from tests.login_guard import make_guard
from tests.memory_store import MemoryStore
from tests.wire import TLS, Client, RecordingLog

GREETING = b"+OK Sealbox ready\r\n"
AFTER_TLS = (
    b"+OK capabilities\r\nUSER\r\nSASL PLAIN LOGIN\r\nUTF8\r\nLANG\r\nTOP\r\nUIDL\r\nRESP-CODES\r\n"
    b"AUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nIMPLEMENTATION Sealbox\r\n.\r\n"
)
BEFORE_TLS = AFTER_TLS.replace(b"USER\r\nSASL PLAIN LOGIN\r\nUTF8\r\nLANG\r\n", b"STLS\r\n")


class Pop3World:
    """A server with its clock and logs. Keyword arguments change its limits."""

    def __init__(
        self,
        *messages: bytes,
        implicit_tls: bool = True,
        login_limits: LoginLimits | None = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1)  # a time of zero means never
        self.store = MemoryStore()
        self.account = self.store.add_account()
        self.account.clock = self.clock.seconds
        for message in messages:
            self.account.deliver(message)
        self.access_log = RecordingLog()
        self.limits = dataclasses.replace(Pop3Limits(), **limits)
        self.guard = make_guard(self.store, login_limits or LoginLimits(), self.clock)
        self.factory = Pop3Factory(
            self.guard,
            self.limits,
            TLS,
            self.access_log,
            self.clock,
            implicit_tls,
            StreamLimits(),
            random=bytes,
        )

    def connect(self) -> Client:
        """A connection whose greeting has been heard."""
        client = Client(self.factory)
        assert client.hear() == GREETING
        return client

    def logged_in(self) -> Client:
        """A connection in the TRANSACTION state."""
        client = self.connect()
        count = len(self.account.mailboxes[self.account.pop3.maildrop].messages)
        assert client.say(b"USER joe\r\n") == b"+OK send PASS\r\n"
        assert client.say(b"PASS secret\r\n") == b"+OK %d messages\r\n" % count
        return client

    @property
    def stored(self) -> list[bytes]:
        """What is in the INBOX."""
        return [one.data for one in self.account.mailboxes["INBOX"].messages.values()]
