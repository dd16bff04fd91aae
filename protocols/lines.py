"""Lines on the wire: splitting commands, taking dot-stuffed mail data in, putting it out. Pure.

Everything here is incremental, looks at every byte once and keeps a bounded number of bytes whatever
the peer sends. What a message consists of is decided here and nowhere else:

- Incoming mail data ends at CRLF ``.`` CRLF and at nothing else (RFC 5321 section 4.1.1.4), where the
  beginning counts as the end of a line. A bare CR or bare LF is an octet like any other and is kept,
  with one exception: where a dot stands alone between two line ends of which at least one is a bare
  CR or a bare LF, other servers see the end of the message ("SMTP smuggling"). Such a message has two
  readings, and :attr:`MailData.ambiguous` says so; the caller refuses it.
- Outgoing mail (POP3) consists of lines that end with CRLF (RFC 1939 section 3). A bare LF in a stored
  message goes out as CRLF, a missing last CRLF is added, a bare CR stays what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CRLF = b"\r\n"
END_OF_DATA = b".\r\n"

_DOT_AFTER_LINE_END = re.compile(rb"(?<=[\r\n])\.")


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end. ``strict``: it ended with CRLF and holds no further CR."""

    text: bytes
    strict: bool


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line passed its limit; the rest of it is thrown away. ``beginning`` has up to 32 octets of it."""

    beginning: bytes


_BEGINNING_BYTES = 32


class LineBuffer:
    """Received bytes, taken out as lines or as counted octets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._discarding = False

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes; the caller stops reading when ``len()`` passes its bound."""
        self._buffer += data

    def next_line(self, max_bytes: int) -> Line | LongLine | None:
        """The next line of at most ``max_bytes`` with its end; None when more bytes are needed.

        A line ends with LF, so that a peer that forgets the CR gets an answer; ``Line.strict`` tells.
        """
        if self._discarding and not self._discard():
            return None
        end = self._buffer.find(b"\n", self._scanned)
        if (len(self._buffer) if end < 0 else end + 1) > max_bytes:
            beginning = bytes(self._buffer[:_BEGINNING_BYTES])
            self._discarding = True
            self._discard()
            return LongLine(beginning)
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        line = self.take(end + 1)
        text = line[:-2] if line.endswith(CRLF) else line[:-1]
        return Line(text, line.endswith(CRLF) and b"\r" not in text)

    def _discard(self) -> bool:
        """Throw away the rest of an over-long line; True once its end was seen."""
        end = self._buffer.find(b"\n")
        if end < 0:
            self.take_rest()
            return False
        self.take(end + 1)
        self._discarding = False
        return True

    def take(self, max_bytes: int) -> bytes:
        """Remove and return up to ``max_bytes`` from the front."""
        taken = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._scanned = 0
        return taken

    def startswith(self, prefix: bytes) -> bool:
        """Whether the next bytes are ``prefix``."""
        return self._buffer.startswith(prefix)

    def take_rest(self) -> bytes:
        """Remove and return everything (STARTTLS throws it away)."""
        return self.take(len(self._buffer))


class MailData:
    """Dot-stuffed mail data on its way in (RFC 5321 section 4.5.2)."""

    def __init__(self) -> None:
        self.ambiguous = False
        """The data has two readings; see the module's docstring."""
        self.ended = False
        self._before = CRLF
        self._undecided = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The octets of the message in ``data``, and what came behind the end once ``ended``.

        Up to two octets are held back until it is known how a line that begins with a dot goes on.
        """
        if self.ended:
            return b"", data
        raw = self._before + self._undecided + data
        self._undecided = b""
        pieces: list[bytes] = []
        start = len(self._before)
        if b"\n." not in raw and b"\r." not in raw:
            # Nearly all mail nearly all of the time, ten times as fast as the search below.
            self._before = raw[-2:]
            return raw[start:], b""
        for matched in _DOT_AFTER_LINE_END.finditer(raw, start):
            dot = matched.start()
            behind = raw[dot + 1 : dot + 3]
            strict = raw[dot - 2 : dot] == CRLF
            if behind in (b"", b"\r"):
                pieces.append(raw[start:dot])
                self._before, self._undecided = raw[dot - 2 : dot], raw[dot:]
                return b"".join(pieces), b""
            if strict and behind == CRLF:
                self.ended = True
                pieces.append(raw[start:dot])
                return b"".join(pieces), raw[dot + 3 :]
            if behind[0] in CRLF:
                self.ambiguous = True
            if strict:
                pieces.append(raw[start:dot])
                start = dot + 1
        pieces.append(raw[start:])
        self._before = raw[-2:]
        return b"".join(pieces), b""


class DotStuffer:
    """A stored message on its way out as a multi-line response (RFC 1939 section 3)."""

    def __init__(self) -> None:
        self._last = b"\n"

    def feed(self, data: bytes) -> bytes:
        """The wire form of the next octets of the message."""
        if not data:
            return b""
        wire = data.replace(CRLF, b"\n").replace(b"\n", CRLF)
        if self._last == b"\r" and data.startswith(b"\n"):
            wire = wire[1:]  # this CRLF began in the octets before
        elif self._last == b"\n" and data.startswith(b"."):
            wire = b"." + wire
        self._last = data[-1:]
        return wire.replace(b"\n.", b"\n..")

    def finish(self) -> bytes:
        """The end: a CRLF if the last line has none, and the line with a single dot."""
        return END_OF_DATA if self._last == b"\n" else CRLF + END_OF_DATA
