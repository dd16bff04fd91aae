"""MESSAGELIMIT and SAVELIMIT (RFC 9738): what is allowed, what is refused, and that clients get it all."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailstore.model import Uid
from protocols.imap.commands.message_limit import Allowed, allowed
from protocols.imap.grammar.table import State
from protocols.imap.responses.capabilities import capabilities
from protocols.limits import ImapLimits
from tests.wire import ImapWorld

MAIL = b"Subject: one\r\n\r\ntext\r\n"
CODE = re.compile(rb"\[MESSAGELIMIT (\d+) (\d+)\]")


@given(count=st.integers(0, 30), most=st.integers(1, 40), size=st.integers(1, 10))
def test_the_highest_uids_are_allowed(count: int, most: int, size: int) -> None:
    """What is left out is all below the UID that is told (section 3.1)."""
    uids = [Uid(3 * number) for number in range(1, count + 1)]
    part = allowed(uids, ImapLimits(message_limit=most, message_limit_enforced=most))
    assert list(part.uids) == uids[-most:]
    assert part.code == (b"MESSAGELIMIT %d %d" % (most, uids[-most]) if count > most else b"")
    batches = list(part.batches(size))
    assert sorted(uid for batch in batches for uid in batch) == list(part.uids)
    if part.code:
        assert all(min(high) > max(low) for high, low in pairwise(batches))


def test_nothing_is_enforced_below_what_is_announced() -> None:
    """A limit that is enforced and not told would be a trap."""
    limits = ImapLimits(message_limit=5, message_limit_enforced=2)
    assert allowed([Uid(uid) for uid in range(1, 6)], limits) == Allowed([Uid(uid) for uid in range(1, 6)])


def test_without_an_announcement_nothing_is_limited() -> None:
    """0 switches the extension off."""
    limits = ImapLimits(message_limit=0, message_limit_enforced=2)
    uids = [Uid(uid) for uid in range(1, 9)]
    assert allowed(uids, limits) == Allowed(uids)
    assert b"LIMIT=" not in capabilities(State.AUTHENTICATED, limits, False).replace(b"APPENDLIMIT", b"")


def test_one_of_both_words_is_announced() -> None:
    """SAVELIMIT stands in place of MESSAGELIMIT, never beside it (section 3)."""
    both = capabilities(State.AUTHENTICATED, ImapLimits(save_limit=7), False)
    saving = capabilities(State.AUTHENTICATED, ImapLimits(message_limit=0, save_limit=7), False)
    assert b" MESSAGELIMIT=100000 " in both and b"SAVELIMIT" not in both
    assert b" SAVELIMIT=7 " in saving and b"MESSAGELIMIT" not in saving


@given(
    enforced=st.integers(1, 8),
    batch=st.integers(1, 4),
    command=st.sampled_from([b"FETCH %b (UID)", b"STORE %b +FLAGS (\\Seen)", b"SEARCH UID %b"]),
)
def test_a_client_that_goes_on_gets_everything(enforced: int, batch: int, command: bytes) -> None:
    """Asking again for what is below the UID in the code misses nothing and repeats nothing."""
    limits = ImapLimits(
        message_limit=enforced,
        message_limit_enforced=enforced,
        fetch_batch_rows=batch,
        store_batch_rows=batch,
    )
    world = ImapWorld(limits)
    for _ in range(11):
        world.account.deliver(MAIL)
    client = world.selected()
    heard: list[int] = []
    numbers: bytes | None = b"1:11"
    while numbers:
        said = client.say(b"t UID %b\r\n" % (command % numbers))
        heard += map(int, re.findall(rb"UID (\d+)", said))
        heard += [int(one) for line in re.findall(rb"\* SEARCH(.*)\r", said) for one in line.split()]
        code = CODE.search(said)
        numbers = b"1:%d" % (int(code[2]) - 1) if code else None
    assert sorted(heard) == list(range(1, 12))


def test_keys_beyond_the_top_level_do_not_narrow() -> None:
    """Only sets that every match has to be in say how many messages are searched."""
    world = ImapWorld(ImapLimits(message_limit=2, message_limit_enforced=2))
    for _ in range(5):
        world.account.deliver(MAIL)
    client = world.selected()
    assert b"[MESSAGELIMIT 2 4]" in client.say(b"a SEARCH OR UID 1 UID 2\r\n")
    assert b"b OK done" in client.say(b"b SEARCH UNSEEN (UIDBEFORE 3 ALL)\r\n")
