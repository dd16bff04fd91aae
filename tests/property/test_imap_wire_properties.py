"""What is rendered can be read back: names, strings, sets, dates."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore import modified_utf7
from protocols.imap.connection import CommandReceived, Connection
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.responses import lines
from protocols.limits import ImapLimits

LIMITS = ImapLimits()
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def cursor(wire: bytes, utf8: bool = False) -> Cursor:
    """A cursor on what a client would send for ``wire``: its literals do not wait."""
    connection = Connection(LIMITS)
    connection.authenticated = True
    connection.feed(wire.replace(b"}\r\n", b"+}\r\n") + b"\r\n" if b"{" in wire else wire + b"\r\n")
    event = connection.next_event()
    assert isinstance(event, CommandReceived)
    return Cursor(event.pieces, LIMITS, utf8)


@given(NAMES)
def test_modified_utf7_round_trip(name: str) -> None:
    """Every text survives, and what was written is printable ASCII."""
    wire = modified_utf7.encode(name)
    assert modified_utf7.decode(wire) == name
    assert all(0x20 <= octet <= 0x7E for octet in wire)


@given(st.text("&-,+AOk4EGx \xe9", max_size=12))
def test_modified_utf7_is_strict(text: str) -> None:
    """Octets that decode are the one encoding of what they decode to."""
    wire = text.encode("latin-1")
    try:
        name = modified_utf7.decode(wire)
    except ValueError:
        return
    assert modified_utf7.encode(name) == wire


@pytest.mark.parametrize(
    "wire",
    [
        b"&",
        b"a&b",
        b"&A-",
        b"&AA-",
        b"&AGE-",
        b"&AOk",
        b"&AOl-x&",
        b"&AOk-&AOk-",
        b"\xe9",
        b"a\0",
        b"&2AA-",
        b"&AOm-",
    ],
)
def test_bad_modified_utf7(wire: bytes) -> None:
    """Wrong, wasteful or ambiguous encodings are refused (targets row 13)."""
    with pytest.raises(ValueError):
        modified_utf7.decode(wire)


def test_known_modified_utf7() -> None:
    """The example of RFC 3501 section 5.1.3."""
    assert modified_utf7.decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"
    assert modified_utf7.encode("A&B") == b"A&-B"


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="{"), max_size=30).filter(
        lambda name: not name.upper().startswith("INBOX")
    ),
    st.booleans(),
)
def test_mailbox_round_trip(name: str, utf8: bool) -> None:
    """A mailbox name without control characters comes back as it was, in NFC."""
    name = unicodedata.normalize("NFC", name)
    reader = cursor(lines.mailbox(name, utf8), utf8)
    assert reader.mailbox() == name
    reader.end()


@given(st.binary(max_size=60).filter(lambda text: b"\0" not in text and b"{" not in text))
def test_string_round_trip(text: bytes) -> None:
    """A string comes back octet for octet, quoted or as a literal."""
    reader = cursor(lines.astring(text))
    assert reader.astring(b"string") == text
    reader.end()


@given(st.integers(-2_000_000_000, 200_000_000_000))
def test_internal_date_round_trip(seconds: int) -> None:
    """A date-time names the same second."""
    assert cursor(lines.internal_date(seconds)).date_time() == seconds


@given(st.lists(st.integers(1, 60), unique=True, max_size=40))
def test_ordered_set_keeps_order(numbers: list[int]) -> None:
    """Written out again, a COPYUID set is the list it came from."""
    read: list[int] = []
    for part in filter(None, lines.ordered_set(numbers).split(b",")):
        low, _, high = part.partition(b":")
        read += range(int(low), int(high or low) + 1)
    assert read == numbers
