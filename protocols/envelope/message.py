"""One message on its way in: collected in memory, within bounds, and its trace header. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum

from protocols.budget import MemoryBudget
from protocols.envelope import replies
from protocols.envelope.replies import Reply
from protocols.limits import EnvelopeLimits

_RECEIVED = re.compile(rb"(?:\A|\n)Received[ \t]*:", re.IGNORECASE)
_HEADER_END = re.compile(rb"(?:\A|\n)\r?\n")


RECEIVED_FIELD_MAX_BYTES = 1024
"""Names of hosts have 255 octets at most, and there are two."""


class Failure(Enum):
    """Why a message is refused; the rest of it is discarded."""

    TOO_LARGE = "above message_max_bytes"
    NO_MEMORY = "data_total_max_bytes reached"
    AMBIGUOUS = "two readings of its end"
    LOOP = "too many Received fields"


FAILURES: dict[Failure, Reply] = {
    Failure.TOO_LARGE: replies.TOO_LARGE,
    Failure.NO_MEMORY: replies.NO_MEMORY_NOW,
    Failure.AMBIGUOUS: replies.AMBIGUOUS_END,
    Failure.LOOP: replies.MAIL_LOOP,
}


class Collector:
    """Collects the octets of one message. ``close`` must be called in the end."""

    def __init__(self, budget: MemoryBudget, message_max_bytes: int) -> None:
        self.failure: Failure | None = None
        self.begun = False
        """DATA or the first BDAT has been given."""
        self.received_bytes = 0
        self._budget = budget
        self._message_max_bytes = message_max_bytes
        self._octets = bytearray()
        self._held_bytes = 0

    def add(self, data: bytes) -> None:
        """Add octets, or record why the message is refused."""
        self.received_bytes += len(data)
        if self.failure is not None:
            return
        if self.received_bytes > self._message_max_bytes:
            self.fail(Failure.TOO_LARGE)
        elif not self._budget.take(len(data)):
            self.fail(Failure.NO_MEMORY)
        else:
            self._held_bytes += len(data)
            self._octets += data

    def fail(self, failure: Failure) -> None:
        """Discard the octets; the first failure is the one reported."""
        if self.failure is None:
            self.failure = failure
        self.close()

    def message(self) -> bytes:
        """The whole message; may be called once."""
        whole = bytes(self._octets)
        self._octets.clear()
        return whole

    def close(self) -> None:
        """Release the memory; calling it again does nothing."""
        self._octets.clear()
        self._budget.give_back(self._held_bytes)
        self._held_bytes = 0


def is_loop(message: bytes, limits: EnvelopeLimits) -> bool:
    """Whether the header shows a mail loop (RFC 5321 section 6.3)."""
    beginning = message[: limits.loop_scan_max_bytes]
    end = _HEADER_END.search(beginning)
    header = beginning if end is None else beginning[: end.start()]
    return len(_RECEIVED.findall(header)) > limits.received_headers_max


@dataclass(frozen=True, slots=True)
class Trace:
    """What the trace header tells about a transaction (RFC 5321 section 4.4).

    ``spoken`` is ``LMTP``, ``ESMTP``, or ``SMTP`` after HELO; ``greeting_name`` what the peer called itself;
    ``address`` the peer's, empty for a Unix socket; ``received`` in epoch seconds; ``transaction_id`` is
    random and means nothing.
    """

    spoken: bytes
    sender: bytes = field(repr=False)
    greeting_name: bytes = field(repr=False)
    address: str = field(repr=False)
    hostname: bytes
    secure: bool
    smtputf8: bool
    transaction_id: bytes
    received: int

    @property
    def protocol(self) -> bytes:
        """The transmission type (RFC 3848, RFC 6531 section 4.3); with SMTP none tells of TLS."""
        if self.spoken == b"SMTP" and not self.smtputf8:
            return self.spoken
        spoken = b"UTF8" + self.spoken.removeprefix(b"E") if self.smtputf8 else self.spoken
        return spoken + (b"S" if self.secure else b"")

    def header(self, recipient: bytes) -> bytes:
        """Return-Path, Delivered-To and Received for one recipient, complete with their CRLFs."""
        return b"".join(
            (
                b"Return-Path: <%s>\r\n" % self.sender,
                b"Delivered-To: %s\r\n" % recipient,
                self.received_field(),
            )
        )

    def received_field(self) -> bytes:
        """Received alone, for mail that is passed on; shorter than ``RECEIVED_FIELD_MAX_BYTES``."""
        date = format_datetime(datetime.fromtimestamp(self.received, UTC)).encode("ascii")
        return b"".join(
            (
                b"Received: from %s%s\r\n" % (self.greeting_name, _tcp_info(self.address)),
                b"\tby %s with %s id %s;\r\n" % (self.hostname, self.protocol, self.transaction_id),
                b"\t%s\r\n" % date,
            )
        )


def _tcp_info(address: str) -> bytes:
    """The peer as an address literal in parentheses (RFC 5321 section 4.1.3)."""
    if not address:
        return b""
    literal = f"IPv6:{address}" if ":" in address else address
    return f" ([{literal}])".encode("ascii")
