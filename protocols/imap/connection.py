"""From bytes to complete commands (RFC 3501 section 2.2.1, RFC 7888). Sans I/O, pure but for its buffer.

The owner feeds bytes and pulls events. Nothing is looked at before it is pulled, so whatever a
command changes (login, STARTTLS, COMPRESS) holds for the bytes behind it. Every limit is asked
before a byte is kept, and every byte is looked at once.

Lines end with LF; one CR before it belongs to the line end, so a bare LF is tolerated everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from protocols.limits import ImapLimits


@dataclass(frozen=True, slots=True)
class Literal:
    """The octets of a literal; ``binary`` for ``literal8`` (RFC 3516 section 4.4)."""

    data: bytes
    binary: bool = False


Piece = bytes | Literal
"""Text of a command line (without the literal's announcement) or a literal."""


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A complete command: text and literals take turns, text comes first and last."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class LineReceived:
    """A line that is no command: a SASL response or the end of IDLE. Without its line end."""

    text: bytes


@dataclass(frozen=True, slots=True)
class ContinuationNeeded:
    """A synchronizing literal fits: send a command continuation request (RFC 3501 section 7.5).

    ``pieces`` is the command up to there; ``Connection.abandon`` forgets it when it is refused instead.
    """

    pieces: tuple[Piece, ...] = field(default=(), compare=False)


class Excess(Enum):
    """Why a literal is refused; the value is the text for NO or, where it cannot be swallowed, BYE."""

    SIZE = "literal too large"
    MEMORY = "too much is being sent at once, please try later"


@dataclass(frozen=True, slots=True)
class LiteralRefused:
    """A literal is over a limit; the command is gone, answer NO (RFC 7888 section 4)."""

    tag: bytes
    excess: Excess = Excess.SIZE
    pieces: tuple[Piece, ...] = field(default=(), compare=False)
    """The command up to the literal, or a part of that."""


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """A line is over its limit; the rest of it will be thrown away."""

    tag: bytes


class FatalReason(Enum):
    """Why the connection has to end; the value is the text for BYE."""

    FOREIGN = "this is an IMAP server"
    LITERAL = Excess.SIZE.value
    MEMORY = Excess.MEMORY.value
    LONG_LINES = "too many over-long lines"


@dataclass(frozen=True, slots=True)
class Fatal:
    """The stream can no longer be parsed: send BYE and close."""

    reason: FatalReason


Event = CommandReceived | LineReceived | ContinuationNeeded | LiteralRefused | LineTooLong | Fatal

UNTAGGED = b"*"

_LITERAL = re.compile(rb"(~?)\{([0-9]{1,20})(\+?)\}\Z")
_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,100}(?= )")
_APPEND = re.compile(rb"[^ ]+ +(?:APPEND|(?:UID +)?REPLACE) ", re.IGNORECASE)
_FOREIGN = re.compile(
    rb"(?:(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) .*\bHTTP/[0-9]|"
    rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) (?:/|https?:)|(?:EHLO|HELO|LHLO)(?: |\Z)|\x16\x03)",
    re.DOTALL,
)
_TAIL_BYTES = 32
"""Enough of a thrown-away line to recognise a literal's announcement at its end."""


class _Mode(Enum):
    TEXT = "text"
    LITERAL = "literal"
    SWALLOW_LITERAL = "swallow literal"
    DISCARD_LINE = "discard line"
    DEAD = "dead"


class Connection:
    """The receiving half of one IMAP connection.

    ``hold`` is asked, before they come, whether the literals of the command may have so many bytes beyond
    ``literals_total_max_bytes``. The owner releases that memory after the event that ends the
    command: any but ``ContinuationNeeded``, or that one when ``abandon`` follows.
    """

    def __init__(self, limits: ImapLimits, hold: Callable[[int], bool] = lambda _: True) -> None:
        self.authenticated = False
        self._limits = limits
        self._hold = hold
        self._buffer = bytearray()
        self._scanned = 0
        self._mode = _Mode.TEXT
        self._long_lines = 0
        self._fatal = Fatal(FatalReason.LITERAL)
        self._start_command()

    def _start_command(self) -> None:
        self._pieces: list[Piece] = []
        self._text_bytes = 0
        self._literal_bytes = 0
        self._literals = 0
        self._literal = bytearray()
        self._missing = 0
        self._binary = False
        self._excess: Excess | None = None
        self._swallowed = 0
        self._tail = b""

    @property
    def buffered_bytes(self) -> int:
        """Bytes fed and not yet turned into a piece of a command."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes; the caller stops reading when ``buffered_bytes`` passes its bound."""
        if self._mode is not _Mode.DEAD:
            self._buffer += data

    def abandon(self) -> bytes:
        """Forget the command that waits for a continuation request, for no literal comes; its tag."""
        tag = self._tag(b"")
        self._start_command()
        self._mode = _Mode.TEXT
        return tag

    def take_rest(self) -> bytes:
        """Remove and return what has not been looked at (STARTTLS throws it away, COMPRESS inflates it)."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return rest

    def next_event(self) -> Event | None:
        """The next event of the command stream; None when more bytes are needed."""
        while True:
            match self._mode:
                case _Mode.DEAD:
                    return self._fatal
                case _Mode.TEXT:
                    event, more = self._read_text()
                case _Mode.LITERAL:
                    event, more = None, self._read_literal()
                case _Mode.SWALLOW_LITERAL:
                    event, more = None, self._swallow_literal()
                case _Mode.DISCARD_LINE:
                    event, more = self._discard_line()
            if event is not None or not more:
                return event

    def next_line(self) -> LineReceived | LineTooLong | Fatal | None:
        """The next bare line (SASL response, DONE); None when more bytes are needed.

        Only to be called between commands.
        """
        while self._mode is _Mode.DISCARD_LINE:
            event, more = self._discard_line()
            if not more:
                return event if isinstance(event, Fatal) else None
        if self._mode is _Mode.DEAD:
            return self._fatal
        end = self._find_line_end()
        if end is None or end > self._line_max():
            return self._overlong(end)
        return LineReceived(self._take_line(end))

    def _line_max(self) -> int:
        limits = self._limits
        return limits.line_max_bytes if self.authenticated else limits.line_before_login_max_bytes

    def _find_line_end(self) -> int | None:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        return end

    def _take_line(self, end: int) -> bytes:
        stop = end - 1 if end and self._buffer[end - 1] == 0x0D else end
        line = bytes(self._buffer[:stop])
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def _overlong(self, end: int | None) -> LineTooLong | Fatal | None:
        """What to say when the line being read has no end yet or its end lies beyond the limit."""
        size = len(self._buffer) if end is None else end
        if self._text_bytes + size <= self._line_max():
            return None
        tag = self._tag(bytes(self._buffer[:200]))
        self._long_lines += 1
        self._start_command()
        if self._long_lines > self._limits.long_lines_max:
            return self._die(FatalReason.LONG_LINES)
        self._mode = _Mode.DISCARD_LINE
        self._scanned = 0
        return LineTooLong(tag)

    def _tag(self, text: bytes) -> bytes:
        first = self._pieces[0] if self._pieces else text
        matched = _TAG.match(first) if isinstance(first, bytes) else None
        return matched.group() if matched else UNTAGGED

    def _die(self, reason: FatalReason) -> Fatal:
        self._fatal = Fatal(reason)
        self._mode = _Mode.DEAD
        self._buffer.clear()
        self._start_command()
        return self._fatal

    def _read_text(self) -> tuple[Event | None, bool]:
        end = self._find_line_end()
        if end is None or self._text_bytes + end > self._line_max():
            if not self._pieces and self._buffer.startswith(b"\x16\x03"):
                return self._die(FatalReason.FOREIGN), False
            return self._overlong(end), False
        line = self._take_line(end)
        if not self._pieces and _FOREIGN.match(line):
            return self._die(FatalReason.FOREIGN), False
        self._text_bytes += end
        announced = _LITERAL.search(line)
        if announced is not None:
            return self._announced(line[: announced.start()], announced)
        if self._excess is not None:
            refused = LiteralRefused(self._tag(line), self._excess, tuple(self._pieces))
            self._start_command()
            return refused, False
        pieces = (*self._pieces, line)
        self._start_command()
        self._long_lines = 0
        return CommandReceived(pieces), False

    def _announced(self, text: bytes, announced: re.Match[bytes]) -> tuple[Event | None, bool]:
        """A line ends with ``{n}`` or ``{n+}``: accept, refuse or swallow the literal."""
        size = int(announced.group(2))
        waits = not announced.group(3)
        self._pieces.append(text)
        self._literals += 1
        self._excess = self._excess or self._excess_of(size)
        if self._excess is not None:
            if waits:
                refused = LiteralRefused(self._tag(b""), self._excess, tuple(self._pieces))
                self._start_command()
                return refused, False
            self._literal.clear()
            self._swallowed += size
            if self._swallowed > self._limits.swallow_max_bytes:
                return self._die(FatalReason(self._excess.value)), False
            del self._pieces[1:]
            self._missing = size
            self._mode = _Mode.SWALLOW_LITERAL
            return None, True
        self._literal_bytes += size
        self._missing = size
        self._binary = bool(announced.group(1))
        self._mode = _Mode.LITERAL
        return (ContinuationNeeded(tuple(self._pieces)) if waits else None), True

    def _excess_of(self, size: int) -> Excess | None:
        """Why a literal of that size is refused; None when memory for it is now reserved."""
        limits = self._limits
        if self._literals > limits.literals_per_command_max:
            return Excess.SIZE
        if not self.authenticated:
            largest, total = (
                limits.literal_before_login_max_bytes,
                limits.literals_total_before_login_max_bytes,
            )
        else:
            largest, total = limits.literal_max_bytes, limits.literals_total_max_bytes
            first = self._pieces[0]
            if isinstance(first, bytes) and _APPEND.match(first):
                largest, total = (
                    limits.append_max_bytes,
                    total + max(limits.append_total_max_bytes, limits.append_max_bytes),
                )
        literal_bytes = self._literal_bytes + size
        if size > largest or literal_bytes > total:
            return Excess.SIZE
        held_bytes = literal_bytes - limits.literals_total_max_bytes
        return Excess.MEMORY if held_bytes > 0 and not self._hold(held_bytes) else None

    def _read_literal(self) -> bool:
        taken = self._buffer[: self._missing]
        del self._buffer[: self._missing]
        self._literal += taken
        self._missing -= len(taken)
        if self._missing:
            return False
        self._pieces.append(Literal(bytes(self._literal), self._binary))
        self._literal = bytearray()
        self._mode = _Mode.TEXT
        return True

    def _swallow_literal(self) -> bool:
        gone = min(self._missing, len(self._buffer))
        del self._buffer[:gone]
        self._missing -= gone
        if self._missing:
            return False
        self._mode = _Mode.TEXT
        return True

    def _discard_line(self) -> tuple[Fatal | None, bool]:
        """Throw away up to the line's end; a literal behind it could not be told from commands."""
        end = self._buffer.find(b"\n")
        gone = len(self._buffer) if end < 0 else end + 1
        self._tail = (self._tail + self._buffer[max(0, gone - _TAIL_BYTES) : gone])[-_TAIL_BYTES:]
        del self._buffer[:gone]
        self._scanned = 0
        self._swallowed += gone
        if self._swallowed > self._limits.swallow_max_bytes:
            return self._die(FatalReason.LONG_LINES), False
        if end < 0:
            return None, False
        if self._tail.rstrip(b"\r\n").endswith(b"+}"):
            return self._die(FatalReason.LITERAL), False
        self._start_command()
        self._mode = _Mode.TEXT
        return None, True
