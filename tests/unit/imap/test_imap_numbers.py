"""Sequence numbers that no message has, in a client's set and in our answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.memory_mailbox import SelectedMailbox
from tests.wire import Client, ImapWorld

REFUSED = b" BAD no message has that sequence number\r\n"


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that has selected a mailbox of five messages."""
    world = ImapWorld()
    for _ in range(5):
        world.account.deliver(b"Subject: x\r\n\r\nbody\r\n")
    yield world.selected()


@pytest.mark.parametrize("numbers", [b"5", b"1:5", b"5:3", b"*", b"3:*", b"1,2,5"])
@pytest.mark.parametrize("command", [b"FETCH %b (UID)", b"STORE %b +FLAGS (x)", b"COPY %b Archive"])
def test_numbers_that_messages_have(client: Client, command: bytes, numbers: bytes) -> None:
    """The last message's is one of them."""
    client.say(b"c CREATE Archive\r\n")
    assert b"a OK" in client.say(b"a " + command % numbers + b"\r\n")


@pytest.mark.parametrize("numbers", [b"6", b"3:9", b"9:3", b"5:6", b"1,6", b"7:9"])
@pytest.mark.parametrize("command", [b"FETCH %b (UID)", b"STORE %b +FLAGS (x)", b"COPY %b Archive"])
def test_numbers_that_no_message_has(client: Client, command: bytes, numbers: bytes) -> None:
    """Also where a range begins inside the mailbox: nothing is done (RFC 3501 section 9, seq-number)."""
    assert client.say(b"a " + command % numbers + b"\r\n") == b"a" + REFUSED


@pytest.mark.parametrize("enable", [b"QRESYNC", b"QRESYNC UIDONLY"])
def test_mail_that_arrives_while_a_mailbox_is_selected_has_no_number_yet(
    enable: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SELECT says of changes leaves it out; it is told as any other new message is."""
    world = ImapWorld()
    world.account.deliver(b"Subject: x\r\n\r\nbody\r\n")
    client = world.logged_in()
    assert client.say(b"e ENABLE " + enable + b"\r\n").endswith(b"e OK done\r\n")
    sync = SelectedMailbox.sync
    arriving = [b"Subject: y\r\n\r\nbody\r\n"]

    async def late(self: SelectedMailbox, since: int) -> object:
        while arriving:
            world.account.deliver(arriving.pop())
        return await sync(self, since)

    monkeypatch.setattr(SelectedMailbox, "sync", late)
    said = client.say(b"s SELECT INBOX (QRESYNC (7 1 1:100))\r\n")
    assert not arriving and b"s OK [READ-WRITE]" in said
    assert b"* 0 " not in said and said.count(b"FETCH (") == 1
    assert said.count(b"UID 1 FLAGS") + said.count(b"* 1 UIDFETCH") == 1
    assert b"* 2 EXISTS" in said + client.say(b"n NOOP\r\n")
