"""FETCH of content: responses formatted together are those of single messages, and memory is let go early."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mailstore.errors import StorageFailed
from mailstore.model import ContentRow, FetchPlan, FetchResult, Uid
from protocols.limits import ImapLimits
from tests.memory_mailbox import SelectedMailbox
from tests.wire import ImapWorld

KIB = 1024
LONG = b"0123456789abcde\r\n" * KIB
"""Longer than what is copied into a response."""

TEXTS = (b"one\r\n", b"", LONG, b"two %d %b\r\n", b"three\r\n" * 9, LONG * 3, LONG, b"four\r\n")


def header(number: int) -> bytes:
    """The header of message ``number``."""
    return b"Subject: %d %%s\r\nX%%d: odd\r\n\r\n" % number


def filled(limits: ImapLimits | None = None) -> ImapWorld:
    """A mailbox with ``TEXTS``."""
    world = ImapWorld(limits=limits) if limits else ImapWorld()
    for number, text in enumerate(TEXTS, 1):
        world.account.deliver(header(number) + text)
    return world


def literal(label: bytes, data: bytes) -> bytes:
    """An item that is content."""
    return b"%b {%d}\r\n%b" % (label, len(data), data)


@pytest.mark.parametrize("missing", [b"", b" BODY.PEEK[2]"], ids=["all there", "one missing"])
@pytest.mark.parametrize("batch_bytes", [1, 100, 20 * KIB, 512 * KIB])
@pytest.mark.parametrize("chunk_bytes", [1, 64, 128 * KIB])
def test_short_and_long_content_comes_in_its_order(
    missing: bytes, batch_bytes: int, chunk_bytes: int
) -> None:
    """Whatever is read at a time and formatted together; names with a percent sign included."""
    limits = ImapLimits(fetch_content_batch_bytes=batch_bytes, write_chunk_bytes=chunk_bytes)
    client = filled(limits).selected()
    asked = b'(FLAGS BODY.PEEK[HEADER.FIELDS ("X%%d" SUBJECT)] BODY.PEEK[TEXT]%b)' % missing
    expected = b""
    for number, text in enumerate(TEXTS, 1):
        fields = literal(b'BODY[HEADER.FIELDS ("X%d" SUBJECT)]', header(number))
        items = (b"FLAGS (\\Recent)", fields, literal(b"BODY[TEXT]", text), *[b"BODY[2] NIL"] * bool(missing))
        expected += b"* %d FETCH (%b)\r\n" % (number, b" ".join(items))
    assert client.say(b"a FETCH 1:* " + asked + b"\r\n") == expected + b"a OK done\r\n"


def test_content_without_other_items_comes_together() -> None:
    """Nothing precedes the first literal then."""
    client = filled().selected()
    expected = b"".join(
        b"* %d FETCH (%b)\r\n" % (number, literal(b"BODY[HEADER]", header(number)))
        for number in range(1, len(TEXTS) + 1)
    )
    assert client.say(b"a FETCH 1:* BODY.PEEK[HEADER]\r\n") == expected + b"a OK done\r\n"


def test_newly_seen_messages_are_told_between_others() -> None:
    """Only of these are flags told, in the same order (RFC 3501 section 6.4.5)."""
    client = filled().selected()
    client.say(b"a STORE 1,3:4,8 +FLAGS.SILENT (\\Seen)\r\n")
    expected = b""
    for number, text in enumerate(TEXTS, 1):
        flags = b"" if number in (1, 3, 4, 8) else b"FLAGS (\\Seen \\Recent) "
        expected += b"* %d FETCH (%b%b)\r\n" % (number, flags, literal(b"BODY[TEXT]", text))
    said = client.say(b"a FETCH 1:* BODY[TEXT]\r\n")
    assert said == expected + b"a OK done\r\n"


def test_no_more_is_formatted_together_than_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many short messages there are: a client that is slow would make the server hold all of it."""
    world = ImapWorld(limits=ImapLimits(write_chunk_bytes=KIB))
    for _ in range(50):
        world.account.deliver(b"\r\n" + bytes(400))
    client = world.selected()
    sizes: list[int] = []
    write = client.transport.write

    def counted(data: bytes) -> None:
        sizes.append(len(data))
        write(data)

    monkeypatch.setattr(client.transport, "write", counted)
    said = client.say(b"a FETCH 1:* BODY.PEEK[TEXT]\r\n")
    assert len(said) > 50 * 400
    assert max(sizes) < 2 * KIB


@pytest.mark.parametrize("unread", [{1}, {5}, {8}, {2, 3, 7}, set(range(1, 9))], ids=str)
@pytest.mark.parametrize("item", [b"BODY.PEEK[TEXT]", b"BODY[TEXT]"])
def test_messages_that_cannot_be_read_keep_no_others_back(
    unread: set[int], item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others come in their order, then it is said that not all have come; what was set is set."""
    client = filled(ImapLimits(fetch_content_batch_bytes=20 * KIB)).selected()
    original = SelectedMailbox.content

    async def reads(mailbox: SelectedMailbox, uids: Sequence[Uid], *arguments: Any) -> Any:
        if unread.intersection(uids):
            raise StorageFailed("an unreadable sector")
        return await original(mailbox, uids, *arguments)

    monkeypatch.setattr(SelectedMailbox, "content", reads)
    fetch = SelectedMailbox.fetch

    async def fetches(mailbox: SelectedMailbox, uids: Sequence[Uid], plan: FetchPlan, *arguments: Any) -> Any:
        if plan.sections and not plan.set_seen and unread.intersection(uids):
            raise StorageFailed("an unreadable sector")
        return await fetch(mailbox, uids, plan, *arguments)

    monkeypatch.setattr(SelectedMailbox, "fetch", fetches)
    said = client.say(b"a FETCH 1:* %b\r\n" % item)
    seen = b"FLAGS (\\Seen \\Recent) " if b"PEEK" not in item else b""
    others = b"".join(
        b"* %d FETCH (%b%b)\r\n" % (number, seen, literal(b"BODY[TEXT]", text))
        for number, text in enumerate(TEXTS, 1)
        if number not in unread
    )
    flags = b"".join(b"* %d FETCH (%b)\r\n" % (number, seen.strip()) for number in sorted(unread) if seen)
    before, no, after = said.partition(b"a NO ")
    assert (before, no, after.count(b"\r\n")) == (others + flags, b"a NO ", 1)


@pytest.mark.parametrize("unread", [1, 30, 64])
def test_one_that_cannot_be_read_is_found_in_few_steps(unread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by reading one message after the other of all that come together."""
    world = ImapWorld()
    for _ in range(64):
        world.account.deliver(b"\r\ntext")
    client = world.selected()
    original, asked = SelectedMailbox.content, []

    async def reads(mailbox: SelectedMailbox, uids: Sequence[Uid], *arguments: Any) -> Any:
        asked.append(uids)
        if unread in uids:
            raise StorageFailed("an unreadable sector")
        return await original(mailbox, uids, *arguments)

    monkeypatch.setattr(SelectedMailbox, "content", reads)
    assert client.say(b"a FETCH 1:* BODY[TEXT]\r\n").count(b"BODY[TEXT]") == 63
    assert len(asked) < 25


def test_a_response_that_cannot_be_completed_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tagged NO in the middle of it would be read as a part of it."""
    client = filled(ImapLimits(write_chunk_bytes=1)).selected()
    original, left = SelectedMailbox.content, [1]

    async def fails_later(mailbox: SelectedMailbox, *arguments: Any) -> Any:
        if not left:
            raise StorageFailed("the disk")
        left.pop()
        return await original(mailbox, *arguments)

    monkeypatch.setattr(SelectedMailbox, "content", fails_later)
    said = client.say(b"a FETCH 6 (BINARY.PEEK[1] BINARY.PEEK[1]<9.60000>)\r\n")
    assert said == b"* 6 FETCH (" + literal(b"BINARY[1]", LONG * 3)
    assert client.closed


def test_a_response_that_has_not_begun_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the client is told."""
    client = filled().selected()

    async def fails(*_: object) -> Any:
        raise StorageFailed("the disk")

    monkeypatch.setattr(SelectedMailbox, "content", fails)
    said = client.say(b"a FETCH 6 (BINARY.PEEK[1] BINARY.PEEK[1]<9.60000>)\r\n")
    assert said.startswith(b"a NO ") and said.count(b"\r\n") == 1 and not client.closed


class Held:
    """Which of the octets that the store has given are held by somebody else as well."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.most_bytes = 0
        self._given: list[bytes] = []
        self._wrap(patch, "fetch", lambda found: self._note(found.content))
        self._wrap(patch, "content", self._note)
        self._wrap(patch, "read_span", lambda piece: self._given.append(piece))

    def _wrap(self, patch: pytest.MonkeyPatch, name: str, note: Callable[[Any], None]) -> None:
        original = getattr(SelectedMailbox, name)

        async def call(mailbox: SelectedMailbox, *arguments: Any) -> object:
            # The list, the loop's variable and the argument hold it here.
            held = sum(len(one) for one in self._given if sys.getrefcount(one) > 3)
            self.most_bytes = max(self.most_bytes, held)
            found: FetchResult | Sequence[ContentRow] | bytes = await original(mailbox, *arguments)
            note(found)
            return found

        patch.setattr(SelectedMailbox, name, call)

    def _note(self, rows: Sequence[ContentRow]) -> None:
        self._given += [data.data for row in rows for data in row.sections]


@pytest.mark.parametrize(
    "asked",
    [
        b"BODY.PEEK[TEXT]",
        b"(BODY.PEEK[HEADER] BODY.PEEK[TEXT])",
        b"(BINARY.PEEK[1] BINARY.PEEK[1]<9.60000>)",
    ],
)
def test_what_is_sent_is_not_held_while_more_is_read(asked: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each session that downloads would hold another batch of content, for as long as its client is slow."""
    limits = ImapLimits(fetch_content_batch_bytes=16 * KIB, write_chunk_bytes=1)
    client = filled(limits).selected()
    held = Held(monkeypatch)
    said = client.say(b"a FETCH 3:* %b\r\n" % asked)
    assert len(said) > sum(map(len, TEXTS[2:]))
    assert held.most_bytes < KIB
