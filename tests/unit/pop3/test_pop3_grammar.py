"""POP3's pure parts: command lines, the maildrop's numbers, TOP."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore.model import MaildropId, MaildropListing, Uid
from mailstore.schema import new_object_id
from mailstore.uidset import UidSet
from protocols.limits import Pop3Limits
from protocols.pop3 import requests as ask
from protocols.pop3.commands import COMMANDS, Malformed, find_command, is_foreign, parse_arguments
from protocols.pop3.maildrop import Listed, Maildrop, NoSuchNumber, unique_id
from protocols.pop3.top import TopCutter

LIMITS = Pop3Limits()

GOOD: list[tuple[bytes, ask.Request]] = [
    (b"USER joe", ask.User(b"joe")),
    (b"user joe@example.org ", ask.User(b"joe@example.org")),
    (b"USER j\xc3\xb6", ask.User(b"j\xc3\xb6")),
    (b"PASS correct horse  staple ", ask.Pass(b"correct horse  staple ")),
    (b"AUTH plain", ask.Auth(b"PLAIN")),
    (b"AUTH", ask.Mechanisms()),
    (b"AUTH PLAIN =", ask.Auth(b"PLAIN", b"")),
    (b"AUTH SCRAM-SHA-256 biws", ask.Auth(b"SCRAM-SHA-256", b"biws")),
    (b"STAT", ask.Stat()),
    (b"LIST", ask.Scan()),
    (b"LIST 3", ask.Scan(3)),
    (b"UIDL", ask.Uidl()),
    (b"uidl 03", ask.Uidl(3)),
    (b"RETR 1", ask.Retr(1)),
    (b"TOP 1 0", ask.Top(1, 0)),
    (b"TOP 1 9999999999", ask.Top(1, LIMITS.top_lines_max)),
    (b"DELE 2", ask.Dele(2)),
    (b"RSET", ask.Rset()),
    (b"NOOP ", ask.Noop()),
    (b"CAPA", ask.Capa()),
    (b"STLS", ask.Stls()),
    (b"UTF8", ask.Utf8()),
    (b"LANG", ask.Lang()),
    (b"LANG *", ask.Lang(b"*")),
    (b"LANG en-GB", ask.Lang(b"en-gb")),
    (b"QUIT", ask.Quit()),
]

MALFORMED = [
    b"USER",
    b"USER  ",
    b"PASS",
    b"PASS ",
    b"PASS a\x00b",
    b"PASS a\rb",
    b"AUTH PLAIN a b",
    b"AUTH PL/AIN",
    b"STAT 1",
    b"LIST x",
    b"LIST -1",
    b"LIST 1 2",
    b"UIDL \xb2",
    b"RETR",
    b"RETR 12345678901",
    b"TOP 1",
    b"TOP 1 2 3",
    b"TOP 1 -1",
    b"DELE",
    b"LANG en en",
    b"LANG e_n",
    b"QUIT now",
]


@pytest.mark.parametrize(("line", "expected"), GOOD)
def test_command_line(line: bytes, expected: ask.Request) -> None:
    """The line makes this request."""
    spec = find_command(line)
    assert spec is not None
    assert parse_arguments(spec, line, LIMITS) == expected


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed_line(line: bytes) -> None:
    """Known command, wrong arguments."""
    spec = find_command(line)
    assert spec is not None
    with pytest.raises(Malformed):
        parse_arguments(spec, line, LIMITS)


@pytest.mark.parametrize("line", [b"", b" STAT", b"APOP joe x", b"XTND", b"ST\x00AT", b"\xff", b"A" * 500])
def test_unknown_command(line: bytes) -> None:
    """APOP is refused on principle: it needs the plaintext password kept."""
    assert find_command(line) is None


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"POST /x", b"EHLO x", b"PRI * HTTP/2.0", b"\x16\x03\x01"]
)
def test_foreign_lines(line: bytes) -> None:
    """Other protocols are recognised; no command of ours is."""
    assert is_foreign(line)
    assert not any(is_foreign(name + b" 1 2") for name in COMMANDS)


def test_secrets_stay_out_of_reprs() -> None:
    """Requests can be printed without harm."""
    for request in (ask.User(b"hidden"), ask.Pass(b"hidden"), ask.Auth(b"PLAIN", b"hidden")):
        assert "hidden" not in repr(request)


@given(st.binary(max_size=100))
def test_any_line_is_a_request_or_malformed(line: bytes) -> None:
    """Nothing but Malformed comes out of the parser."""
    for name in COMMANDS:
        text = name + b" " + line
        spec = find_command(text)
        assert spec is not None
        try:
            parse_arguments(spec, text, LIMITS)
        except Malformed as error:
            assert str(error).isascii()


def drop_of(*sizes: int) -> Maildrop:
    """A maildrop with messages of these sizes and UIDs 10, 20, ..."""
    return Maildrop(MaildropListing([10 * n for n in range(1, len(sizes) + 1)], sizes))


def test_maildrop_keeps_numbers_while_marking() -> None:
    """Marked messages vanish from listings, the others keep their numbers."""
    drop = drop_of(100, 200, 300)
    drop.delete(2)
    assert (drop.count, drop.size_bytes) == (2, 400)
    assert [(number, drop.entry(number)) for number in drop.numbers()] == [
        (1, Listed(Uid(10), 100)),
        (3, Listed(Uid(30), 300)),
    ]
    assert drop.deleted == UidSet.of([20])
    for number in (0, 2, 4):
        with pytest.raises(NoSuchNumber):
            drop.entry(number)
    drop.reset()
    assert (drop.count, drop.size_bytes, bool(drop.deleted)) == (3, 600, False)


def test_the_longest_unique_id_fits() -> None:
    """RFC 1939 section 7: 1 to 70 printable characters."""
    longest = unique_id(MaildropId(Uid(2**32 - 1), new_object_id("M"), 2**63 - 1))
    assert len(longest) <= 70 and re.fullmatch(rb"[!-~]+", longest)


def naive_top(message: bytes, lines: int) -> bytes:
    """TOP by splitting the whole message."""
    rows = message.split(b"\n")
    rows = [row + b"\n" for row in rows[:-1]] + ([rows[-1]] if rows[-1] else [])
    for index, row in enumerate(rows):
        if row in (b"\n", b"\r\n"):
            return b"".join(rows[: index + 1 + lines])
    return message


@given(
    st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"."]), max_size=40).map(b"".join),
    st.integers(min_value=0, max_value=5),
    st.lists(st.integers(min_value=1, max_value=4), max_size=40),
)
def test_top_is_the_same_under_any_chunking(message: bytes, lines: int, cuts: list[int]) -> None:
    """Header, empty line and so many lines, however the message is cut."""
    cutter = TopCutter(lines)
    got, left = b"", message
    for size in [*cuts, len(message)]:
        got += cutter.feed(left[:size])
        left = left[size:]
    assert got == naive_top(message, lines)
