"""Commands about many messages work in batches, with other sessions' turns in between."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mailstore.errors import StorageFull
from protocols.limits import ImapLimits
from tests.wire import ImapWorld

MAIL = b"Subject: one\r\n\r\ntext\r\n"
COUNT = 7
AT_ONCE = ImapLimits()
STORED_IN_BATCHES = ImapLimits(store_batch_rows=2)
IN_TURNS = ImapLimits(store_batch_rows=2, lines_batch_rows=2, write_chunk_bytes=1)


def world_of(limits: ImapLimits, count: int = COUNT) -> ImapWorld:
    """A server whose INBOX has ``count`` messages."""
    world = ImapWorld(limits)
    for _ in range(count):
        world.account.deliver(MAIL)
    return world


@given(
    numbers=st.sets(st.integers(1, COUNT), min_size=1),
    change=st.sampled_from([b"+FLAGS", b"-FLAGS", b"FLAGS", b"+FLAGS.SILENT", b"FLAGS.SILENT"]),
    touched=st.sets(st.integers(1, COUNT)),
    by_uid=st.booleans(),
)
def test_store_in_batches_is_the_same_store(
    numbers: set[int], change: bytes, touched: set[int], by_uid: bool
) -> None:
    """RFC 7162 section 3.1.3: which messages are changed, refused and told of does not depend on batches."""
    said: list[list[bytes]] = []
    for limits in (AT_ONCE, STORED_IN_BATCHES):
        world = world_of(limits)
        client, other = world.selected(), world.selected()
        named = b",".join(b"%d" % one for one in sorted(numbers))
        for one in sorted(touched):
            other.say(b"o STORE %d +FLAGS ($Touched)\r\n" % one)
        client.say(b"n NOOP\r\n")
        word = b"UID STORE" if by_uid else b"STORE"
        lines = client.say(b"u %s %s (UNCHANGEDSINCE 8) +FLAGS ($B)\r\n" % (word, named)).splitlines()
        lines += client.say(b"t %s %s %s ($A \\Seen)\r\n" % (word, named, change)).splitlines()
        lines += client.say(b"f FETCH 1:* (UID FLAGS)\r\n").splitlines()
        said.append([re.sub(rb"MODSEQ [(]?\d+[)]?", b"MODSEQ", line) for line in lines])
    assert said[0] == said[1]


def test_what_silence_hid_is_told_when_a_later_batch_fails() -> None:
    """A client that hears NO believes that nothing was changed, unless it is told."""
    world = world_of(IN_TURNS, 4)
    client = world.selected()
    first = world.hold()
    assert client.say(b"a STORE 1:4 +FLAGS.SILENT (\\Answered)\r\n") == b""
    second = world.hold()
    first.callback(None)
    world.account.failure = StorageFull("disk")
    world.account.hold = None
    second.callback(None)
    assert client.hear().splitlines() == [
        b"* 1 FETCH (FLAGS (\\Answered \\Recent))",
        b"* 2 FETCH (FLAGS (\\Answered \\Recent))",
        b"a NO [UNAVAILABLE] try again later",
    ]


def test_others_are_served_while_changes_are_told() -> None:
    """Two messages are told of, then another session has its turn."""
    world = world_of(IN_TURNS)
    client, other = world.selected(), world.selected()
    other.say(b"o UID STORE 1:* +FLAGS (\\Flagged)\r\n")
    assert client.say(b"n NOOP\r\n").count(b" FETCH ") == 2
    assert other.say(b"p NOOP\r\n") == b"p OK done\r\n"
    world.clock.advance(0)
    assert client.hear().splitlines() == [
        b"* %d FETCH (FLAGS (\\Flagged \\Recent))" % number for number in range(3, COUNT + 1)
    ] + [b"n OK done"]


def test_others_are_served_while_results_are_numbered() -> None:
    """A SEARCH that finds much is numbered in batches, and changes come before its result."""
    world = world_of(IN_TURNS)
    client, other = world.selected(), world.selected()
    other.say(b"o STORE 3 +FLAGS (\\Flagged)\r\n")
    assert client.say(b"s SEARCH ALL\r\n") == b""
    assert other.say(b"p NOOP\r\n") == b"p OK done\r\n"
    world.clock.advance(0)
    assert client.hear().splitlines() == [
        b"* 3 FETCH (FLAGS (\\Flagged \\Recent))",
        b"* SEARCH 1 2 3 4 5 6 7",
        b"s OK done",
    ]


def test_a_session_may_end_while_it_waits_for_its_turn() -> None:
    """Hanging up in the middle leaves nothing behind."""
    world = world_of(IN_TURNS)
    client, other = world.selected(), world.selected()
    other.say(b"o UID STORE 1:* +FLAGS (\\Flagged)\r\n")
    client.say(b"n NOOP\r\n")
    client.hang_up()
    world.clock.advance(0)
    assert other.say(b"p NOOP\r\n") == b"p OK done\r\n"


def test_flags_that_are_not_wanted_are_not_told_in_turns_either() -> None:
    """A client that asked NOTIFY for messages alone hears of no changed flags, however many there are."""
    world = world_of(IN_TURNS)
    client, other = world.selected(), world.selected()
    assert b"n OK" in client.say(b"n NOTIFY SET (selected (MessageNew MessageExpunge))\r\n")
    other.say(b"o UID STORE 1:* +FLAGS (\\Flagged)\r\n")
    assert client.say(b"a NOOP\r\n") == b"a OK done\r\n"


def test_what_is_told_in_turns_has_the_words_that_were_enabled() -> None:
    """UIDONLY names messages by UID and has no UID item (RFC 9586), else CONDSTORE brings it."""
    for enabled, line in (
        (b"UIDONLY CONDSTORE", rb"\* \d UIDFETCH \(FLAGS \(\\Flagged\) MODSEQ \(\d+\)\)"),
        (b"CONDSTORE", rb"\* \d FETCH \(UID \d FLAGS \(\\Flagged\) MODSEQ \(\d+\)\)"),
    ):
        world = world_of(IN_TURNS)
        client, other = world.logged_in(), world.selected()
        client.say(b"e ENABLE %s\r\n" % enabled)
        client.say(b"s SELECT INBOX\r\n")
        other.say(b"o UID STORE 1:* +FLAGS (\\Flagged)\r\n")
        told = client.say(b"a NOOP\r\n")
        world.clock.advance(0)
        *told_lines, _ok = (told + client.hear()).splitlines()
        assert len(told_lines) == COUNT
        assert all(re.fullmatch(line, one) for one in told_lines), told_lines
