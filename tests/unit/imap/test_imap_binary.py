"""BINARY octet by octet: what a transcript cannot show (RFC 3516)."""

from __future__ import annotations

import base64

import pytest

from protocols.imap.connection import CommandReceived
from protocols.imap.grammar.table import Unparsed, parse_command
from protocols.limits import ImapLimits
from tests.wire import ImapWorld

EVERY_OCTET = bytes(range(256))
MESSAGE = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(EVERY_OCTET)


@pytest.fixture
def world() -> ImapWorld:
    """A mailbox with one message of all octets there are."""
    found = ImapWorld()
    found.account.deliver(MESSAGE)
    return found


def test_every_octet_survives_decoding(world: ImapWorld) -> None:
    """With a NUL the answer is a literal8 of exactly the octets that were encoded (section 4.2)."""
    said = world.selected().say(b"a FETCH 1 BINARY.PEEK[1]\r\n")
    assert said == b"* 1 FETCH (BINARY[1] ~{256}\r\n" + EVERY_OCTET + b")\r\na OK done\r\n"


def test_partials_without_nul_are_literals(world: ImapWorld) -> None:
    """Each partial is judged by itself."""
    client = world.selected()
    for offset in range(0, 256, 32):
        said = client.say(b"a FETCH 1 BINARY.PEEK[1]<%d.32>\r\n" % offset)
        mark = b"~" if offset == 0 else b""
        data = EVERY_OCTET[offset : offset + 32]
        assert said == b"* 1 FETCH (BINARY[1]<%d> %b{32}\r\n%b)\r\na OK done\r\n" % (offset, mark, data)


def test_literal8_octet_by_octet() -> None:
    """A literal8 that arrives in pieces is the message that was sent (section 4.4)."""
    world = ImapWorld()
    client = world.logged_in()
    said = b""
    for octet in b"a APPEND INBOX ~{256+}\r\n" + EVERY_OCTET + b"\r\n":
        said += client.say(bytes([octet]))
    assert said == b"a OK [APPENDUID 7 1] appended\r\n"
    assert world.account.mailboxes["INBOX"].messages[1].data == EVERY_OCTET


def test_number_of_decoded_parts_is_bounded() -> None:
    """Each BINARY item decodes a part, so one command may ask for so many only."""
    limits = ImapLimits(binary_items_max=2)
    items = [b"BINARY.SIZE[%d]" % number for number in (1, 2, 3)]
    for count, refused in ((2, False), (3, True)):
        text = b"t FETCH 1 (" + b" ".join(items[:count]) + b")"
        assert isinstance(parse_command(CommandReceived((text,)), limits, False), Unparsed) is refused
