"""Blanks that the grammar does not have: just inside parentheses, several at once, at the end of a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.imap.connection import CommandReceived, Piece
from protocols.imap.grammar.table import Parsed, parse_command
from protocols.limits import ImapLimits
from tests.unit.imap.grammar_world import received
from tests.unit.imap.test_imap_grammar import REQUESTS
from tests.wire import ImapWorld

LIMITS = ImapLimits()


def places(text: bytes) -> list[int]:
    """Where a blank more changes nothing: outside quoted strings, beside a blank or inside parentheses."""
    found: list[int] = []
    quoted = escaped = False
    for at, octet in enumerate(text):
        char = bytes((octet,))
        if quoted:
            quoted = escaped or char != b'"'
            escaped = not escaped and char == b"\\"
        elif char == b'"':
            quoted = True
        elif char in b" (":
            found.append(at + 1)
        elif char == b")":
            found.append(at)
    return found


def with_blanks(pieces: tuple[Piece, ...], counts: list[int]) -> tuple[Piece, ...]:
    """The command with blanks more, as many at each place as ``counts`` says."""
    more = iter(counts)
    loose: list[Piece] = []
    for index, piece in enumerate(pieces):
        if not isinstance(piece, bytes):
            loose.append(piece)
            continue
        at = [*places(piece), len(piece)] if index == len(pieces) - 1 else places(piece)
        for place in sorted(at, reverse=True):
            piece = piece[:place] + b" " * next(more, 0) + piece[place:]
        loose.append(piece)
    return tuple(loose)


@pytest.mark.parametrize("line", sorted(REQUESTS))
def test_a_blank_more_everywhere_changes_nothing(line: bytes) -> None:
    """One more at every place at once."""
    outcome = parse_command(
        CommandReceived(with_blanks(received(line).pieces, [1] * 1000)), LIMITS, utf8=False
    )
    assert isinstance(outcome, Parsed)
    assert outcome.request == REQUESTS[line]


@given(st.sampled_from(sorted(REQUESTS)), st.lists(st.integers(0, 3), max_size=30))
def test_blanks_more_change_no_request(line: bytes, counts: list[int]) -> None:
    """Any number of them at any of the places."""
    outcome = parse_command(CommandReceived(with_blanks(received(line).pieces, counts)), LIMITS, utf8=False)
    assert isinstance(outcome, Parsed)
    assert outcome.request == REQUESTS[line]


def test_blanks_before_append_keep_its_limit_on_literals() -> None:
    """A message of more than any other literal may have is asked for however APPEND is set off."""
    client = ImapWorld().logged_in()
    assert client.say(b"a  APPEND  INBOX ( \\Seen ) {200000}\r\n") == b"+ go ahead\r\n"


def test_done_may_have_blanks_behind_it() -> None:
    """The end of IDLE is a line like others."""
    client = ImapWorld().logged_in()
    assert client.say(b"a IDLE \r\n") == b"+ idling\r\n"
    assert client.say(b"DONE  \r\n") == b"a OK done\r\n"
