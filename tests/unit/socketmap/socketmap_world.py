"""The recipient maps over a store in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

from twisted.internet.task import Clock

from protocols.limits import SocketmapLimits
from protocols.socketmap.grammar import netstring
from protocols.socketmap.server import SocketmapFactory
from tests.unit.lmtp.lmtp_world import MemoryDeliveries
from tests.wire import Client, RecordingLog


class SocketmapWorld:
    """A server with its clock and logs. Keyword arguments change its limits."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.store = MemoryDeliveries()
        self.access_log = RecordingLog()
        self.limits = dataclasses.replace(SocketmapLimits(), **limits)
        self.factory = SocketmapFactory(self.store, self.limits, self.access_log, self.clock)

    def connect(self) -> Client:
        """A connection."""
        return Client(self.factory)

    def ask(self, request: bytes) -> bytes:
        """The answer to one request."""
        return self.connect().say(netstring(request))
