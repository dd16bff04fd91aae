"""Whoever follows ADDTO and REMOVEFROM position by position has what SORT says (CONTEXT=SORT, RFC 5267)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstore.model import SortBy, SortKey, Uid
from mailstore.uidset import UidSet
from protocols.imap.picture import places
from protocols.imap.picture.live import InSortOrder
from protocols.imap.picture.places import Places
from tests.growth import LINEAR_AT_MOST, growth
from tests.wire import Client, ImapWorld, numbers

LINES = re.compile(
    rb'\* (\d+) (EXISTS|EXPUNGE)\r\n|\* ESEARCH \(TAG "\w+"\) (UID )?(ADDTO|REMOVEFROM) \(([0-9:, ]+)\)\r\n'
)
BY_SUBJECT = (SortBy(SortKey.SUBJECT),)


@pytest.fixture(autouse=True)
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that results of a few messages are compared in two steps, as those of many are."""
    monkeypatch.setattr(places, "SAMPLE", 2)


def follow(results: list[object], change: bytes, pairs: bytes, named: Sequence[object]) -> None:
    """What a client does with one ADDTO or REMOVEFROM (sections 4.3.3 and 4.3.4)."""
    members = iter(named)
    words = pairs.split(b" ")
    for position, listed in zip(map(int, words[::2]), words[1::2], strict=True):
        at, some = position - 1, [next(members) for _ in numbers(listed)]
        if change == b"ADDTO":
            assert 0 <= at <= len(results)
            assert not any(one in results for one in some)
            results[at:at] = some
        else:
            assert results[at : at + len(some)] == some
            del results[at : at + len(some)]


class Follower:
    """A client's picture, from untagged lines alone; a place stands for a message, whose number changes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.places: list[object] = []
        self.uids: list[object] = []
        self.found: list[object] = []

    def hear(self, said: bytes) -> bytes:
        """Follow what was said."""
        for match in LINES.finditer(said):
            number, word, by_uid, change, pairs = match.groups()
            if word == b"EXISTS":
                self.places += [object() for _ in range(int(number) - len(self.places))]
            elif word == b"EXPUNGE":
                gone = self.places.pop(int(number) - 1)
                assert gone not in self.found
            else:
                listed = [one for part in pairs.split(b" ")[1::2] for one in numbers(part)]
                if by_uid:
                    follow(self.uids, change, pairs, listed)
                else:
                    follow(self.found, change, pairs, [self.places[one - 1] for one in listed])
        return said

    def say(self, line: bytes) -> bytes:
        """Send a command and follow what it causes."""
        return self.hear(self.client.say(line))


def mail(subject: str, size: int) -> bytes:
    """A message to sort."""
    encoding = b"x-strange" if subject == "c" else b"8bit"
    return b"Subject: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n" % (
        subject.encode(),
        encoding,
        b"x" * size,
    )


SUBJECTS = st.tuples(st.sampled_from("abcdef"), st.integers(0, 3))
CHANGES = st.one_of(
    st.tuples(st.just("deliver"), SUBJECTS),
    st.tuples(st.sampled_from(["flag", "unflag", "delete"]), st.integers(1, 12)),
    st.tuples(st.sampled_from(["expunge", "copy"]), st.integers(1, 12)),
)
REFUSED = b"UID FETCH 1:* BINARY.PEEK[1]"
OWN = st.sampled_from(
    [b"NOOP", REFUSED, b"FETCH 1:* FLAGS", b"IDLE", b"UID STORE 1:4 -FLAGS.SILENT (\\Flagged)"]
)
ORDERS = st.sampled_from([b"SUBJECT", b"REVERSE SUBJECT", b"SIZE REVERSE SUBJECT", b"ARRIVAL", b"FROM SIZE"])


Changes = list[tuple[str, tuple[str, int] | int]]


def change(world: ImapWorld, other: Client, kind: str, detail: tuple[str, int] | int) -> None:
    """What somebody else does to the mailbox."""
    if isinstance(detail, tuple):
        world.account.deliver(mail(*detail))
        return
    lines = {
        "flag": b"UID STORE %d +FLAGS (\\Flagged)",
        "unflag": b"UID STORE %d -FLAGS (\\Flagged)",
        "delete": b"UID STORE %d:* +FLAGS (\\Deleted)",
        "expunge": b"UID EXPUNGE 1:%d",
        "copy": b"UID COPY %d INBOX",
    }
    assert b" OK" in other.say(b"o " + lines[kind] % detail + b"\r\n")


@settings(max_examples=150, deadline=None)
@given(
    first=st.lists(SUBJECTS, max_size=8),
    orders=st.tuples(ORDERS, ORDERS),
    bursts=st.lists(st.tuples(st.lists(CHANGES, max_size=6), OWN, st.lists(CHANGES, max_size=3)), max_size=6),
)
def test_whoever_follows_positions_has_the_sorted_result(
    first: list[tuple[str, int]],
    orders: tuple[bytes, bytes],
    bursts: list[tuple[Changes, bytes, Changes]],
) -> None:
    """However many changes come at once, of whatever kind, and in whatever command they are told.

    The last of each burst come one by one, each before a search that looks at the earlier ones.
    """
    world = ImapWorld()
    late = world.account.mailboxes["INBOX"].before_search
    for subject in first:
        world.account.deliver(mail(*subject))
    other, follower = world.selected(), Follower(world.selected())
    follower.places = [object() for _ in first]
    by_uid = b"(%s) UTF-8 UNFLAGGED" % orders[0]
    by_number = b"(%s) UTF-8 ALL" % orders[1]
    follower.uids = list(sorted_now(follower, b"UID SORT " + by_uid))
    follower.found = [follower.places[one - 1] for one in sorted_now(follower, b"SORT " + by_number)]
    follower.say(b"u UID SORT RETURN (UPDATE) " + by_uid + b"\r\n")
    follower.say(b"s SORT RETURN (COUNT UPDATE PARTIAL 1:2) " + by_number + b"\r\n")
    for changes, own, later in bursts:
        for kind, detail in changes:
            change(world, other, kind, detail)
        late += [partial(change, world, other, kind, detail) for kind, detail in later]
        follower.say(b"f " + (own if follower.places or own == b"IDLE" else b"NOOP") + b"\r\n")
        if own == b"IDLE":
            follower.say(b"DONE\r\n")
        assert b"n OK" in follower.say(b"n NOOP\r\n")
        if later:
            # What happens so late may be told the next time.
            late.clear()
            follower.say(b"m NOOP\r\n")
        assert follower.uids == list(sorted_now(follower, b"UID SORT " + by_uid))
        assert follower.found == [
            follower.places[one - 1] for one in sorted_now(follower, b"SORT " + by_number)
        ]


def sorted_now(follower: Follower, command: bytes) -> Iterator[int]:
    """What the server says to SORT, which looks at all messages."""
    said = re.search(rb"\* SORT([ 0-9]*)\r\n", follower.say(b"q " + command + b"\r\n"))
    assert said
    return map(int, said.group(1).split())


@settings(max_examples=200, deadline=None)
@given(
    keys=st.lists(st.integers(0, 30), max_size=60),
    come=st.sets(st.integers(0, 59), max_size=10),
    gone=st.sets(st.integers(0, 59), max_size=10),
    late=st.sets(st.integers(0, 59), max_size=10),
)
def test_places_are_those_of_a_whole_sort(
    keys: list[int], come: set[int], gone: set[int], late: set[int]
) -> None:
    """Also when messages go between one question and the next, or leave the result after both (``late``)."""

    def by_key(uids: Sequence[int]) -> list[Uid]:
        return [Uid(uid) for uid in sorted(uids, key=lambda uid: (keys[uid - 1], uid))]

    new = [Uid(at + 1) for at in sorted(come) if at < len(keys)]
    known = by_key([at + 1 for at in range(len(keys)) if at not in come])
    search = Places(known, by_key(new))
    for asked in (search.sample, search.rest):
        if uids := asked():
            search.learn(by_key([uid for uid in uids if uid - 1 not in gone]))
    result = InSortOrder(BY_SUBJECT, known)
    result.remove(result.members & UidSet.of(at + 1 for at in late))
    found = search.found(result.without(UidSet()))
    assert all(one <= two for one, two in pairwise(found.values()))
    if found:
        result.add(found)
    left = [uid for uid in result.without(UidSet()) if uid - 1 not in gone]
    assert left == by_key(left)
    assert set(found) >= {uid for uid in new if uid - 1 not in gone}


def test_few_messages_are_sorted_to_place_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be sorted grows with what comes, not with the result."""
    monkeypatch.setattr(places, "SAMPLE", 1000)
    known = range(2, 400_001, 2)
    search = Places(known, [Uid(1), Uid(200_001), Uid(399_999)])
    first = search.sample()
    search.learn([Uid(uid) for uid in first])
    rest = search.rest()
    search.learn([Uid(uid) for uid in rest])
    assert len(first) < 2100 and len(rest) < 3 * 210
    assert search.found(known) == {1: 0, 200_001: 100_000, 399_999: 199_999}


def test_a_change_of_a_result_costs_a_pass_over_it() -> None:
    """However many runs leave or come: half of a large result, every other message."""

    def leave_and_come(count: int) -> Callable[[], object]:
        half = UidSet.of(range(1, count + 1, 2))
        places = {Uid(uid): at for at, uid in enumerate(half)}

        def work() -> None:
            result = InSortOrder(BY_SUBJECT, [Uid(uid) for uid in range(1, count + 1)])
            assert len(result.remove(half)) == count // 2
            assert len(result.add(places)) == count // 2
            assert list(result.without(UidSet())) == list(range(1, count + 1))

        return work

    assert growth(leave_and_come, 5_000) < LINEAR_AT_MOST
