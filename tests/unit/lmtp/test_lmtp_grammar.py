"""LMTP command lines, each whole and byte by byte."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.envelope import replies
from protocols.envelope import requests as ask
from protocols.envelope.connection import (
    CommandLine,
    Connection,
    DataEnded,
    DataReceived,
    Foreign,
    Unreadable,
)
from protocols.envelope.grammar import parse_command
from protocols.envelope.replies import Reply
from protocols.limits import EnvelopeLimits
from protocols.lmtp.grammar import USE_LHLO, VERBS

LIMITS = EnvelopeLimits()

CASES: list[tuple[bytes, ask.Request | Reply]] = [
    (b"LHLO relay.example.net", ask.Greeting(b"relay.example.net")),
    (b"lhlo [127.0.0.1]", ask.Greeting(b"[127.0.0.1]")),
    (b"LHLO [IPv6:::1] ", ask.Greeting(b"[IPv6:::1]")),
    (b"LHLO", replies.SYNTAX),
    (b"LHLO a b", replies.SYNTAX),
    (b"LHLO a(b)", replies.SYNTAX),
    (b"LHLO " + b"a" * 256, replies.SYNTAX),
    (b"HELO relay", USE_LHLO),
    (b"EHLO relay", USE_LHLO),
    (b"MAIL FROM:<bob@example.net>", ask.Mail(b"bob@example.net")),
    (b"mail from: <bob@example.net>", ask.Mail(b"bob@example.net")),
    (b"MAIL FROM:<>", ask.Mail(b"")),
    (b"MAIL FROM:<> SIZE=123 BODY=8bitmime", ask.Mail(b"", 123)),
    (b"MAIL FROM:<b\xc3\xb6b@example.net> SMTPUTF8", ask.Mail(b"b\xc3\xb6b@example.net", None, True)),
    (b"MAIL FROM:<b\xc3\xb6b@example.net>", replies.NEEDS_SMTPUTF8),
    (b"MAIL FROM:<b\xc3b@example.net> SMTPUTF8", replies.BAD_SENDER),
    (b"MAIL FROM:<@a.example,@b.example:bob@example.net>", ask.Mail(b"bob@example.net")),
    (b'MAIL FROM:<"bob"@example.net>', ask.Mail(b"bob@example.net")),
    (b'MAIL FROM:<"b\\ob"@example.net>', ask.Mail(b"bob@example.net")),
    (b'MAIL FROM:<"b o>b"@example.net>', ask.Mail(b'"b o>b"@example.net')),
    (b"MAIL FROM:bob@example.net", replies.BAD_SENDER),
    (b"MAIL FROM:<bob@example.net", replies.BAD_SENDER),
    (b"MAIL FROM:<bob@example.net>SIZE=1", replies.BAD_SENDER),
    (b"MAIL FROM:<b\x00b@example.net>", replies.BAD_SENDER),
    (b"MAIL FROM:<" + b"a" * 321 + b">", replies.BAD_SENDER),
    (b"MAIL", replies.BAD_SENDER),
    (b"MAIL FROM:<> SIZE=", replies.SYNTAX),
    (b"MAIL FROM:<> SIZE", replies.SYNTAX),
    (b"MAIL FROM:<> SIZE=x", replies.SYNTAX),
    (b"MAIL FROM:<> SIZE=1 SIZE=2", replies.SYNTAX),
    (b"MAIL FROM:<> SIZE=" + b"9" * 21, replies.SYNTAX),
    (b"MAIL FROM:<> BODY=7BIT", ask.Mail(b"")),
    (b"MAIL FROM:<> BODY=BINARYMIME", replies.UNKNOWN_BODY),
    (b"MAIL FROM:<> SMTPUTF8=1", replies.SYNTAX),
    (b"MAIL FROM:<> AUTH=<>", replies.UNKNOWN_PARAMETER),
    (b"MAIL FROM:<> RET=FULL", replies.UNKNOWN_PARAMETER),
    (b"MAIL FROM:<>" + b" A" * 21, replies.SYNTAX),
    (b"RCPT TO:<joe@example.org>", ask.Rcpt(b"joe@example.org")),
    (b"RCPT TO:<j\xc3\xb6@example.org>", ask.Rcpt(b"j\xc3\xb6@example.org")),
    (b"RCPT TO:<postmaster>", ask.Rcpt(b"postmaster")),
    (b"RCPT TO:<>", replies.BAD_ADDRESS),
    (b"RCPT TO:<joe@example.org> NOTIFY=NEVER", replies.UNKNOWN_PARAMETER),
    (b"RCPT FROM:<joe@example.org>", replies.BAD_ADDRESS),
    (b"DATA", ask.Data()),
    (b"data ", ask.Data()),
    (b"DATA now", replies.SYNTAX),
    (b"BDAT 12", ask.Bdat(12, last=False)),
    (b"bdat 0 last", ask.Bdat(0, last=True)),
    (b"BDAT", replies.BAD_BDAT),
    (b"BDAT -1", replies.BAD_BDAT),
    (b"BDAT 1 LAST LAST", replies.BAD_BDAT),
    (b"BDAT 1 FIRST", replies.BAD_BDAT),
    (b"RSET", ask.Rset()),
    (b"NOOP", ask.Noop()),
    (b"NOOP whatever", ask.Noop()),
    (b"VRFY joe", ask.Vrfy()),
    (b"HELP", ask.Help()),
    (b"EXPN list", replies.NOT_OFFERED),
    (b"AUTH PLAIN", replies.NOT_OFFERED),
    (b"STARTTLS", ask.StartTls()),
    (b"STARTTLS now", replies.SYNTAX),
    (b"QUIT", ask.Quit()),
    (b"XCLIENT ADDR=1.2.3.4", replies.UNKNOWN_COMMAND),
    (b"PROXY TCP4", replies.UNKNOWN_COMMAND),
    (b"", replies.UNKNOWN_COMMAND),
    (b" NOOP", replies.UNKNOWN_COMMAND),
    (b"N\x00OP", replies.UNKNOWN_COMMAND),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_command_line(line: bytes, expected: ask.Request | Reply) -> None:
    """The line means this, and arrives the same byte by byte."""
    assert parse_command(line, LIMITS, VERBS) == expected
    connection = Connection(LIMITS)
    for octet in line + b"\r":
        connection.feed(bytes([octet]))
        assert connection.next_event() is None
    connection.feed(b"\n")
    assert connection.next_event() == CommandLine(line)
    assert connection.next_event() is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"NOOP\n", Unreadable.NOT_CRLF),
        (b"NO\rOP\r\n", Unreadable.NOT_CRLF),
        (b"NOOP " + b"x" * 95 + b"\r\n", Unreadable.TOO_LONG),
        (b"GET / HTTP/1.1\r\n", Foreign()),
        (b"POST " + b"x" * 9 + b" HTTP/1.1\r\n", Foreign()),
        (b"\x16\x03\x01\x02\x00", Foreign()),
    ],
)
def test_unreadable_line(line: bytes, expected: object) -> None:
    """A line that is none says why, whole and byte by byte; the next one is read again."""
    limits = dataclasses.replace(LIMITS, line_max_bytes=100)
    for pieces in ([line], [bytes([octet]) for octet in line]):
        connection = Connection(limits)
        events = []
        for piece in pieces:
            connection.feed(piece)
            event = connection.next_event()
            if event is not None and event not in events:
                events.append(event)
        assert events == [expected]
        connection.feed(b"NOOP\r\n")
        follows = Foreign() if expected == Foreign() else CommandLine(b"NOOP")
        assert connection.next_event() == follows


@given(st.binary(max_size=300), st.lists(st.integers(min_value=1, max_value=20), max_size=30))
def test_any_octets_give_events_in_bounded_memory(data: bytes, cuts: list[int]) -> None:
    """Whatever comes, events come out and the buffer stays below the line limit."""
    limits = dataclasses.replace(LIMITS, line_max_bytes=50)
    connection = Connection(limits)
    for size in [*cuts, len(data)]:
        connection.feed(data[:size])
        data = data[size:]
        event = connection.next_event()
        while event is not None and event != Foreign():
            if isinstance(event, CommandLine):
                parse_command(event.text, limits, VERBS)
            event = connection.next_event()
        assert connection.buffered_bytes <= limits.line_max_bytes


@given(st.binary(max_size=200), st.booleans(), st.lists(st.integers(min_value=1, max_value=9), max_size=40))
def test_data_and_chunks_are_handed_through(body: bytes, chunked: bool, cuts: list[int]) -> None:
    """Mail data comes out whole under any cutting, and the command behind it is a command."""
    body = body.replace(b".", b"-") + b"\r\n"
    wire = (body if chunked else body + b".\r\n") + b"NOOP\r\n"
    connection = Connection(LIMITS)
    if chunked:
        connection.expect_chunk(len(body))
    else:
        connection.expect_data()
    got, others = [], []
    for size in [*cuts, len(wire)]:
        connection.feed(wire[:size])
        wire = wire[size:]
        while (event := connection.next_event()) is not None:
            if isinstance(event, DataReceived):
                got.append(event.data)
            else:
                others.append(event)
    assert b"".join(got) == body
    assert others == [DataEnded(ambiguous=False), CommandLine(b"NOOP")]
