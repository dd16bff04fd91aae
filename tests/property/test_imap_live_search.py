"""A client that follows ADDTO and REMOVEFROM always knows what the search would find (RFC 5267)."""

from __future__ import annotations

import re
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire import Client, ImapWorld, numbers

MAIL = b"Subject: x\r\n\r\ntext\r\n"
STRANGE = b"Content-Transfer-Encoding: x-strange\r\n\r\ntext\r\n"
UPDATES = re.compile(rb'\* ESEARCH \(TAG "(\w+)"\) (UID )?(ADDTO|REMOVEFROM) \(0 ([0-9:,]+)\)\r\n')
LINES = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE)\r\n|" + UPDATES.pattern)


class Follower:
    """A client's picture, from untagged lines alone; a place stands for a message, whose number changes."""

    def __init__(self, client: Client, count: int) -> None:
        self.client = client
        self.places = [object() for _ in range(count)]
        self.uids: set[int] = set()
        self.found: set[object] = set()

    def say(self, line: bytes) -> bytes:
        """Send a command and follow what it causes."""
        said = self.client.say(line)
        for match in LINES.finditer(said):
            number, word, _, by_uid, change, listed = match.groups()
            if word == b"EXISTS":
                self.places += [object() for _ in range(int(number) - len(self.places))]
            elif word == b"EXPUNGE":
                gone = self.places.pop(int(number) - 1)
                assert gone not in self.found
            elif by_uid:
                members = set(numbers(listed))
                assert members.isdisjoint(self.uids) if change == b"ADDTO" else members <= self.uids
                self.uids ^= members
            else:
                places = {self.places[number - 1] for number in numbers(listed)}
                assert places.isdisjoint(self.found) if change == b"ADDTO" else places <= self.found
                self.found ^= places
        return said


def expunge(client: Client, uid: int) -> None:
    """A client expunges one message, if it is there."""
    client.say(b"e UID STORE %d +FLAGS (\\Deleted)\r\n" % uid)
    assert b"e OK" in client.say(b"e EXPUNGE\r\n")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["own", "other"]), st.integers(1, 6), st.sampled_from("+-")),
        st.just(("deliver", 0, "")),
        st.tuples(st.sampled_from(["expunge", "move"]), st.integers(1, 6), st.just("")),
        st.just(("fetch", 0, "")),
        st.tuples(st.sampled_from(["refused", "late"]), st.integers(1, 9), st.just("")),
    ),
    max_size=12,
)


KEYS = (b"FLAGGED", b"OR (TEXT x-strange FLAGGED) (NOT TEXT x-strange NOT FLAGGED)", b"TEXT x-strange")


def expected(follower: Follower, key: bytes) -> tuple[set[int], set[object]]:
    """What SEARCH says of the key by UID, and of its contrary by number, as places."""
    found = re.search(rb"\* SEARCH([ 0-9]*)\r\n", follower.say(b"q UID SEARCH %s\r\n" % key))
    others = re.search(rb"\* SEARCH([ 0-9]*)\r\n", follower.say(b"q SEARCH NOT (%s)\r\n" % key))
    assert found and others
    return set(map(int, found[1].split())), {follower.places[int(n) - 1] for n in others[1].split()}


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, key=st.sampled_from(KEYS))
def test_followers_agree(steps: list[tuple[str, int, str]], key: bytes) -> None:
    """Whatever this session and another one do, both live searches are what SEARCH says."""
    world = ImapWorld()
    world.account.create("Other")
    for message in (MAIL, STRANGE, MAIL):
        world.account.deliver(message)
    late = world.account.mailboxes["INBOX"].before_search
    other, follower = world.selected(), Follower(world.selected(), 3)
    follower.say(b"u1 UID SEARCH RETURN (UPDATE) %s\r\n" % key)
    follower.say(b"s1 SEARCH RETURN (UPDATE) NOT (%s)\r\n" % key)
    follower.uids, follower.found = expected(follower, key)
    for kind, number, sign in steps:
        late_ones = len(late)
        match kind:
            case "own":
                follower.say(b"o UID STORE %d %sFLAGS.SILENT (\\Flagged)\r\n" % (number, sign.encode()))
            case "other":
                other.say(b"o UID STORE %d %sFLAGS (\\Flagged)\r\n" % (number, sign.encode()))
            case "deliver":
                world.account.deliver(MAIL)
            case "expunge":
                expunge(other, number)
            case "late":
                # With the next change, while results are looked at again.
                late.append(partial(expunge, other, number))
                continue
            case "refused":
                expunge(other, number)
                follower.say(b"f UID FETCH 1:* BINARY.PEEK[1]\r\n")
            case "move":
                follower.say(b"m UID MOVE %d Other\r\n" % number)
            case _:
                # Nothing may be expunged while numbers are in use, but results may change.
                follower.say(b"f FETCH 1:* FLAGS\r\n" if follower.places else b"f NOOP\r\n")
        said = follower.say(b"n NOOP\r\n")
        assert b"n OK" in said
        if late_ones:
            # What happens so late may be told the next time.
            late.clear()
            follower.say(b"m NOOP\r\n")
        assert (follower.uids, follower.found) == expected(follower, key)
