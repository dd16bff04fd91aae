"""Commands as they are received and parsed."""

from __future__ import annotations

from mailstore.uidset import SequenceSet
from protocols.imap.connection import CommandReceived, Connection, ContinuationNeeded
from protocols.imap.grammar.table import Parsed, Unparsed, parse_command
from protocols.limits import ImapLimits

LIMITS = ImapLimits()


def received(line: bytes) -> CommandReceived:
    """A command given as it goes over the wire."""
    connection = Connection(LIMITS)
    connection.authenticated = True
    connection.feed(b"t " + line + b"\r\n")
    event = connection.next_event()
    while isinstance(event, ContinuationNeeded):
        event = connection.next_event()
    assert isinstance(event, CommandReceived)
    return event


def parse(line: bytes, utf8: bool = False) -> Parsed | Unparsed:
    """The outcome of one command."""
    return parse_command(received(line), LIMITS, utf8)


def numbers(*ranges: tuple[int, int]) -> SequenceSet:
    """A sequence set."""
    return SequenceSet(ranges)
