"""URLs of CATENATE: what they name, that nothing else gets through, and that they cost what is allowed."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore.mime.section import SectionKind, SectionSpec
from mailstore.model import SectionRead, Uid, UidValidity
from mailstore.names import mailbox_name
from protocols.imap.grammar.message_url import MessageUrl, echoed, parse_url
from protocols.limits import ImapLimits
from tests.wire import ImapWorld

LIMITS = ImapLimits()
WHOLE = SectionRead(SectionSpec())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"/a/b/;UID=1", MessageUrl("a/b", None, Uid(1), WHOLE)),
        (b"/a%2Fb%3B;uidvalidity=9/;uid=1", MessageUrl("a/b;", UidValidity(9), Uid(1), WHOLE)),
        (b";UID=7", MessageUrl(None, None, Uid(7), WHOLE)),
        (
            b"imap://Joe%40x@h/a/;UID=1/;SECTION=1.2.MIME/;PARTIAL=5",
            MessageUrl("a", None, Uid(1), SectionRead(SectionSpec((1, 2), SectionKind.MIME), 5)),
        ),
        (
            b"imap://joe@x;AUTH=PLAIN@h/a/;UID=1",
            None,
        ),
        (b"imap://joe%40x;AUTH=PLAIN@h:1/a/;UID=1", MessageUrl("a", None, Uid(1), WHOLE)),
        (b"imap://joe%40x@h;UID=1", None),
        (b"imap://joe%40x@h/", None),
        (b"imaps://joe%40x@h/a/;UID=1", None),
        (b"//h/a/;UID=1", MessageUrl("/h/a", None, Uid(1), WHOLE)),
        (b"/a/;UID=0", None),
        (b"/a/;UID=4294967296", None),
        (b"/a/;UID=*", None),
        (b"/a/;UID=1/;SECTION=", None),
        (b"/a/;UID=1/;SECTION=1]BODY[2", None),
        (b"/a/;UID=1/;SECTION=1%5D<0.1>", None),
        (b"/a/;UID=1/;PARTIAL=0.0", None),
        (b"/%FF/;UID=1", None),
        (b"/a", None),
        (b"", None),
    ],
)
def test_what_urls_name(text: bytes, expected: MessageUrl | None) -> None:
    """Only messages of the own account, in the forms of RFC 5092 section 7."""
    assert parse_url(text, "joe@x", LIMITS) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.integers(1, 2**32 - 1))
def test_any_mailbox_can_be_named(name: str, uid: int) -> None:
    """A name survives percent encoding."""
    text = b"/%b/;UID=%d" % (quote(name, safe="").encode(), uid)
    assert parse_url(text, "joe", LIMITS) == MessageUrl(mailbox_name(name), None, Uid(uid), WHOLE)


@given(st.binary(max_size=60))
def test_any_octets(text: bytes) -> None:
    """Nothing raises, and what is echoed can end neither the response code nor the line."""
    parse_url(text, "joe", LIMITS)
    assert not set(echoed(text)) & set(b"]\r\n\0 ")


def test_size_is_bounded_before_it_is_read() -> None:
    """A message may not grow beyond its limit by URLs, nor one command beyond its own (section 4)."""
    world = ImapWorld(limits=dataclasses.replace(LIMITS, append_max_bytes=100, append_total_max_bytes=150))
    world.account.deliver(b"x" * 60)
    client = world.selected()
    too_big = b"a NO [TOOBIG] the message would be too large\r\n"
    assert client.say(b'a APPEND INBOX CATENATE (URL ";UID=1" URL ";UID=1")\r\n') == too_big
    three = b" ".join([b'CATENATE (URL ";UID=1")'] * 3)
    assert client.say(b"a APPEND INBOX " + three + b"\r\n") == too_big
    assert len(world.account.mailboxes["INBOX"].messages) == 1


def test_octet_by_octet() -> None:
    """A command that arrives in pieces is the same command."""
    world = ImapWorld()
    world.account.deliver(b"first")
    client = world.selected()
    said = b""
    for octet in b'a APPEND INBOX CATENATE (URL ";UID=1" TEXT {3+}\r\n+\0+)\r\n':
        said += client.say(bytes([octet]))
    assert said.endswith(b"a OK [APPENDUID 7 2] appended\r\n")
    assert world.account.mailboxes["INBOX"].messages[2].data == b"first+\0+"
