"""The receiving half of a connection: lines, literals, and every limit before its bytes are kept."""

from __future__ import annotations

import dataclasses

import pytest

from protocols.imap.connection import (
    CommandReceived,
    Connection,
    ContinuationNeeded,
    Event,
    Fatal,
    FatalReason,
    LineReceived,
    LineTooLong,
    Literal,
    LiteralRefused,
)
from protocols.limits import ImapLimits

SMALL = dataclasses.replace(
    ImapLimits(),
    line_max_bytes=400,
    line_before_login_max_bytes=300,
    literal_max_bytes=50,
    literal_before_login_max_bytes=20,
    literals_total_max_bytes=80,
    literals_total_before_login_max_bytes=30,
    append_max_bytes=1000,
    append_total_max_bytes=1000,
    swallow_max_bytes=2000,
    long_lines_max=2,
)


def events_of(data: bytes, size: int, logged_in: bool = False, limits: ImapLimits = SMALL) -> list[Event]:
    """All events of ``data`` fed in pieces of ``size`` bytes."""
    connection = Connection(limits)
    connection.authenticated = logged_in
    events: list[Event] = []
    for at in range(0, len(data), size):
        connection.feed(data[at : at + size])
        while (event := connection.next_event()) is not None:
            events.append(event)
            if isinstance(event, Fatal):
                return events
    return events


CASES: dict[str, tuple[bytes, bool, list[Event]]] = {
    "two commands": (
        b"a NOOP\r\nb CAPABILITY\r\n",
        False,
        [CommandReceived((b"a NOOP",)), CommandReceived((b"b CAPABILITY",))],
    ),
    "bare LF": (b"a NOOP\nb NOOP\n", False, [CommandReceived((b"a NOOP",)), CommandReceived((b"b NOOP",))]),
    "empty line": (b"\r\n", False, [CommandReceived((b"",))]),
    "synchronizing literal": (
        b"a LOGIN {3}\r\njoe {2}\r\npw\r\n",
        False,
        [
            ContinuationNeeded(),
            ContinuationNeeded(),
            CommandReceived((b"a LOGIN ", Literal(b"joe"), b" ", Literal(b"pw"), b"")),
        ],
    ),
    "non-synchronizing literal": (
        b"a LOGIN {3+}\r\na\r\n x\r\n",
        False,
        [CommandReceived((b"a LOGIN ", Literal(b"a\r\n"), b" x"))],
    ),
    "empty literal": (b"a X {0+}\r\n\r\n", False, [CommandReceived((b"a X ", Literal(b""), b""))]),
    "literal8": (b"a X ~{1+}\r\n\0\r\n", False, [CommandReceived((b"a X ", Literal(b"\0", True), b""))]),
    "refused synchronizing literal": (
        b"a LOGIN {21}\r\nb NOOP\r\n",
        False,
        [LiteralRefused(b"a"), CommandReceived((b"b NOOP",))],
    ),
    "refused literal is swallowed with the rest of its command": (
        b"a LOGIN {21+}\r\n" + b"x" * 21 + b" {4+}\r\nc N\n\r\nb NOOP\r\n",
        False,
        [LiteralRefused(b"a"), CommandReceived((b"b NOOP",))],
    ),
    "refused literal too large to swallow": (
        b"a LOGIN {2001+}\r\n",
        False,
        [Fatal(FatalReason.LITERAL)],
    ),
    "sum of literals before login": (
        b"a LOGIN {20+}\r\n" + b"x" * 20 + b" {11+}\r\n" + b"y" * 11 + b"\r\n",
        False,
        [LiteralRefused(b"a")],
    ),
    "sum of literals after login": (
        b"a X {50+}\r\n" + b"x" * 50 + b" {31}\r\nb NOOP\r\n",
        True,
        [LiteralRefused(b"a"), CommandReceived((b"b NOOP",))],
    ),
    "APPEND may be large after login": (
        b"a append x {1000+}\r\n" + b"x" * 1000 + b"\r\n",
        True,
        [CommandReceived((b"a append x ", Literal(b"x" * 1000), b""))],
    ),
    "APPEND may not be large before login": (b"a append x {1000}\r\n", False, [LiteralRefused(b"a")]),
    "APPEND over its limit": (b"a append x {1001}\r\n", True, [LiteralRefused(b"a")]),
    "number beyond all bounds": (b"a X {99999999999999999999}\r\n", True, [LiteralRefused(b"a")]),
    "line too long": (
        b"a NOOP " + b"x" * 300 + b"\r\nb NOOP\r\n",
        False,
        [LineTooLong(b"a"), CommandReceived((b"b NOOP",))],
    ),
    "parentheses without end": (
        b"a SEARCH " + b"(" * 900 + b"\r\nb NOOP\r\n",
        False,
        [LineTooLong(b"a"), CommandReceived((b"b NOOP",))],
    ),
    "tag without end": (
        b"x" * 900 + b"\r\nb NOOP\r\n",
        False,
        [LineTooLong(b"*"), CommandReceived((b"b NOOP",))],
    ),
    "line too long in pieces": (
        b"a X {1+}\r\nx" + b"y" * 200 + b"{1+}\r\nx" + b"z" * 200 + b"\r\n",
        False,
        [LineTooLong(b"a")],
    ),
    "literal behind an over-long line": (
        b"a NOOP " + b"x" * 300 + b"{5+}\r\nb NOOP\r\n",
        False,
        [LineTooLong(b"a"), Fatal(FatalReason.LITERAL)],
    ),
    "line without end": (b"x" * 3000, False, [LineTooLong(b"*"), Fatal(FatalReason.LONG_LINES)]),
    "too many long lines": (
        (b"a " + b"x" * 301 + b"\r\n") * 3,
        False,
        [LineTooLong(b"a"), LineTooLong(b"a"), Fatal(FatalReason.LONG_LINES)],
    ),
    "browser": (b"GET / HTTP/1.1\r\nHost: x\r\n", False, [Fatal(FatalReason.FOREIGN)]),
    "form": (b"POST /x HTTP/1.1\r\n\r\na LOGIN a b\r\n", False, [Fatal(FatalReason.FOREIGN)]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False, [Fatal(FatalReason.FOREIGN)]),
    "SMTP": (b"EHLO there\r\n", False, [Fatal(FatalReason.FOREIGN)]),
    "TLS on the clear port": (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        False,
        [Fatal(FatalReason.FOREIGN)],
    ),
    "GET as a tag": (b"GET NOOP\r\n", False, [CommandReceived((b"GET NOOP",))]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_events_do_not_depend_on_the_split(name: str, size: int) -> None:
    """Each stream gives exactly its events, whole, in pieces and byte by byte."""
    data, logged_in, expected = CASES[name]
    assert events_of(data, size, logged_in) == expected


@pytest.mark.parametrize("size", [1, 3, 100])
def test_bare_lines_between_commands(size: int) -> None:
    """A SASL response and DONE are lines; commands behind them stay commands."""
    data = b"cGxhaW4=\r\nDONE\r\nb NOOP\r\n"
    connection = Connection(SMALL)
    got: list[Event] = []
    for at in range(0, len(data), size):
        connection.feed(data[at : at + size])
        while len(got) < 2 and (line := connection.next_line()) is not None:
            got.append(line)
        while len(got) >= 2 and (event := connection.next_event()) is not None:
            got.append(event)
    assert got == [LineReceived(b"cGxhaW4="), LineReceived(b"DONE"), CommandReceived((b"b NOOP",))]


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_over_long_bare_line(size: int) -> None:
    """A bare line has the same limit, and what follows it is read."""
    data = b"x" * 301 + b"\r\nnext\r\n"
    connection = Connection(SMALL)
    got: list[Event] = []
    for at in range(0, len(data), size):
        connection.feed(data[at : at + size])
        while (line := connection.next_line()) is not None:
            got.append(line)
    assert got == [LineTooLong(b"*"), LineReceived(b"next")]


def test_rest_is_handed_over_and_forgotten() -> None:
    """What follows STARTTLS can be taken out and leaves nothing behind."""
    connection = Connection(SMALL)
    connection.feed(b"a STARTTLS\r\nb LOGIN joe secret\r\n")
    assert connection.next_event() == CommandReceived((b"a STARTTLS",))
    assert connection.take_rest() == b"b LOGIN joe secret\r\n"
    assert connection.next_event() is None
    assert connection.buffered_bytes == 0
    connection.feed(b"c NOOP\r\n")
    assert connection.next_event() == CommandReceived((b"c NOOP",))


def test_memory_is_bounded_while_swallowing() -> None:
    """Refused octets are dropped as they come."""
    connection = Connection(SMALL)
    connection.feed(b"a LOGIN {1999+}\r\n")
    for _ in range(150):
        connection.feed(b"x" * 10)
        assert connection.next_event() is None
        assert connection.buffered_bytes == 0
