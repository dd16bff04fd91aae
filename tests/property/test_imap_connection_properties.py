"""Properties of the receiving half and of the grammar: any split, any bytes."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.budget import MemoryBudget, Reservation
from protocols.imap.connection import CommandReceived, Connection, ContinuationNeeded, Event, Fatal
from protocols.imap.grammar.table import Parsed, Unparsed, parse_command
from protocols.limits import ImapLimits

LIMITS = dataclasses.replace(
    ImapLimits(),
    line_max_bytes=300,
    line_before_login_max_bytes=250,
    literal_max_bytes=30,
    literals_total_max_bytes=60,
    literal_before_login_max_bytes=30,
    literals_total_before_login_max_bytes=60,
    append_max_bytes=200,
    append_total_max_bytes=200,
    literals_worker_max_bytes=400,
    swallow_max_bytes=500,
)

FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            b"a ",
            b"NOOP",
            b"\r\n",
            b"\n",
            b"\r",
            b"{3}\r\n",
            b"{3+}\r\n",
            b"{0+}\r\n",
            b"~{2+}\r\n",
            b"{31+}\r\n",
            b"{900+}\r\n",
            b"a APPEND x {100+}\r\n",
            b"a APPEND x {200}\r\n",
            b"abc",
            b"(",
            b")",
            b'"',
            b"\\",
            b"*",
            b"%",
            b"FETCH 1:* ",
            b"(FLAGS)",
            b"BODY[",
            b"]<0.",
            b"SEARCH ",
            b"OR ",
            b"NOT ",
            b"UID ",
            b"APPEND ",
            b"LIST ",
            b"&",
            b"\0",
            b"\xff",
            b"GET / HTTP/1.1",
            b"x" * 120,
            b"LOGIN ",
            b"AUTHENTICATE PLAIN ",
            b"=",
            b"SELECT ",
            b"STORE 1 +FLAGS ",
            b"ID (",
            b" ",
        ]
    ),
    st.binary(max_size=8),
)
STREAMS = st.lists(FRAGMENTS, max_size=40).map(b"".join)


def run(data: bytes, cuts: list[int], logged_in: bool) -> list[Event]:
    """All events of ``data`` cut at ``cuts``; memory stays bounded all the time."""
    # Room for the first 40 bytes above what every command may have.
    reservation = Reservation(MemoryBudget(80))
    connection = Connection(LIMITS, lambda size_bytes: reservation.grow_to(size_bytes, ("somebody",)))
    connection.authenticated = logged_in
    events: list[Event] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        connection.feed(data[start:stop])
        while (event := connection.next_event()) is not None:
            events.append(event)
            if not isinstance(event, ContinuationNeeded):
                reservation.release()
            if isinstance(event, Fatal):
                return events
        assert connection.buffered_bytes <= LIMITS.line_max_bytes
    return events


@given(STREAMS, st.lists(st.integers(0, 5000), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same_events(data: bytes, cuts: list[int], logged_in: bool) -> None:
    """How the network cuts the stream changes nothing."""
    whole = run(data, [], logged_in)
    assert run(data, cuts, logged_in) == whole
    assert run(data, list(range(len(data))), logged_in) == whole


@given(STREAMS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_command_is_parsed_or_refused(data: bytes, utf8: bool) -> None:
    """The grammar never fails in another way, and its text never repeats the input."""
    for event in run(data, [], True):
        if isinstance(event, CommandReceived):
            result = parse_command(event, LIMITS, utf8)
            assert isinstance(result, Parsed | Unparsed)
            if isinstance(result, Unparsed):
                assert b"\r" not in result.refusal.text
                assert result.refusal.text.isascii()
                assert b"xxxx" not in result.refusal.text
