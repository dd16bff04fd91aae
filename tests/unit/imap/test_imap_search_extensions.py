"""Searching beyond SEARCH: octet by octet, pages, deep threads, and failures in the middle."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mailstore import search
from mailstore.errors import StorageFailed
from mailstore.model import (
    INBOX,
    Delta,
    Flags,
    MailboxId,
    MailboxStatus,
    MessageFlags,
    ModSeq,
    Opened,
    SystemFlag,
    ThreadNode,
    Uid,
    UidValidity,
)
from mailstore.threads import Threads
from mailstore.uidset import STAR, SequenceSet, UidSet
from protocols.imap.grammar.page import Page
from protocols.imap.picture.fuzzy import Degree, scores
from protocols.imap.picture.view import View, Wording
from protocols.imap.responses.search_results import BLOCK_NODES, on_page, thread_template
from protocols.limits import ImapLimits
from protocols.transport import StreamConnection
from tests import memory_mailbox
from tests.memory_mailbox import SelectedMailbox
from tests.wire import ImapWorld

MAIL = b"From: a@x\r\nSubject: one two\r\n\r\ntext\r\n"
COMMANDS = (
    b"SEARCH YOUNGER 10 OLDER 20\r\n",
    b"UID SEARCH RETURN (SAVE PARTIAL -1:-2 COUNT) CHARSET koi8-r SUBJECT {1+}\r\n\xc0\r\n",
    b"FETCH $ UID\r\n",
    b"UID FETCH 1:* (UID) (PARTIAL 2:3 CHANGEDSINCE 1)\r\n",
    b"SORT RETURN (ALL MIN RELEVANCY) (REVERSE RELEVANCY DATE) utf-8 FUZZY SUBJECT {3+}\r\ntwo\r\n",
    b"UID THREAD REFERENCES utf-8 ALL\r\n",
    b"ESEARCH IN (selected subtree (INBOX {1+}\r\na)) RETURN (COUNT) UID 1:*\r\n",
    b"SEARCH RETURN (UPDATE ALL) UNSEEN\r\n",
    b"UID STORE 2 +FLAGS.SILENT (\\Seen)\r\n",
    b'CANCELUPDATE "t7"\r\n',
    b"SORT (SPAM) utf-8 ALL\r\n",
)


def test_octet_by_octet() -> None:
    """Commands that come in single octets are answered like those that come at once."""
    answers: list[list[bytes]] = []
    for split in (False, True):
        world = ImapWorld()
        for _ in range(4):
            world.account.deliver(MAIL)
        client = world.selected()
        said: list[bytes] = []
        for number, command in enumerate(COMMANDS):
            whole = b"t%d " % number + command
            pieces = [whole[at : at + 1] for at in range(len(whole))] if split else [whole]
            said.append(b"".join(client.say(piece) for piece in pieces))
        answers.append(said)
    assert answers[0] == answers[1]
    assert [re.search(rb"^t\d+ (\w+)", one, re.MULTILINE) is not None for one in answers[0]] == [True] * 11
    assert answers[0][-1].startswith(b"t10 BAD")


@given(count=st.integers(0, 30), first=st.integers(1, 40), last=st.integers(1, 40), end=st.booleans())
def test_pages(count: int, first: int, last: int, end: bool) -> None:
    """A page from the end is the page from the beginning of the reversed results (RFC 9394 section 3.1)."""
    results = list(range(count))
    low, high = sorted((first, last))
    if end:
        assert list(on_page(results, Page(-first, -last))) == results[::-1][low - 1 : high][::-1]
    else:
        assert list(on_page(results, Page(first, last))) == results[low - 1 : high]


def test_scores_are_within_bounds() -> None:
    """RFC 6203 section 4: 1 to 100."""
    assert all(1 <= degree.value <= 100 for degree in Degree)
    assert scores([], ()) == []


def test_deeply_nested_threads_are_written() -> None:
    """Ten thousand levels, each with a sibling: no recursion, and every parenthesis is closed."""

    def written(levels: int) -> tuple[bytes, float]:
        nodes = [ThreadNode(Uid(1), None)]
        for level in range(levels):
            parent = 2 * level
            nodes += [ThreadNode(Uid(2 * level + 2), parent), ThreadNode(Uid(2 * level + 3), parent)]
        began = time.thread_time()
        steps = thread_template(Threads(nodes))
        pauses = 0
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                template = finished.value
                break
            pauses += 1
        # Once for each 200 nodes read, and written.
        assert pauses == 2 * -(-len(nodes) // BLOCK_NODES)
        return template.line(template.uids), time.thread_time() - began

    line, _ = written(10_000)
    # In proportion to the levels: four times as many take four times as long, not sixteen times.
    few, many = (min(written(levels)[1] for _ in range(3)) for levels in (2_500, 10_000))
    assert many < 10 * few
    assert line.count(b"(") == line.count(b")")
    assert sorted(map(int, re.findall(rb"\d+", line))) == list(range(1, 20_002))


def test_flags_of_new_mail_wait_until_the_client_asks() -> None:
    """It was flagged before the client heard of it; EXISTS makes the client ask, so no FETCH tells of it."""
    uids = array("I", (1, 2))
    status = MailboxStatus(MailboxId(1), 2, 0, 0, 0, 0, Uid(3), UidValidity(1), ModSeq(1), "m")
    view = View(Opened(MailboxId(1), "x", False, status, uids, None, (), UidSet()))
    view.apply(Delta(ModSeq(1), ModSeq(2), Uid(4), (MessageFlags(Uid(3), ModSeq(2), Flags()),)))
    flagged = (MessageFlags(Uid(uid), ModSeq(3), Flags(SystemFlag.FLAGGED)) for uid in (1, 3))
    view.apply(Delta(ModSeq(2), ModSeq(3), Uid(4), tuple(flagged)))
    assert view.flush(True, modseqs=False) == [
        b"* 3 EXISTS\r\n",
        b"* 0 RECENT\r\n",
        b"* 1 FETCH (FLAGS (\\Flagged))\r\n",
    ]
    assert view.flush(True, modseqs=False) == []


def test_numbers_become_ranges_of_uids() -> None:
    """However many messages a range names, and however many keys have it, each becomes one range of UIDs."""
    uids = array("I", (*range(10, 50_010), *range(60_000, 60_005)))
    counted = (len(uids), 0, 0, 0, 0)
    status = MailboxStatus(MailboxId(1), *counted, Uid(60_010), UidValidity(1), ModSeq(1), "m")
    view = View(Opened(MailboxId(1), "x", False, status, uids, None, (), UidSet()))

    def numbered(*ranges: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        return view.numbered(SequenceSet(ranges)).ranges

    assert numbered((1, STAR)) == ((10, 60_004),)
    assert numbered((3, 1), (5, 5), (50_001, 90_000)) == ((10, 12), (14, 14), (60_000, 60_004))
    assert numbered((STAR, STAR), (90_000, 90_001)) == ((60_004, 60_004),)
    assert numbered((90_000, 90_001)) == ()


def test_too_many_ranges_in_a_search_are_refused() -> None:
    """What counts is all sets of numbers and UIDs of the command together."""
    limits = ImapLimits(search_ranges_max=5)
    world = ImapWorld(limits=limits)
    world.account.deliver(MAIL)
    client = world.selected()
    assert b"a OK" in client.say(b"a SEARCH 1,3,5 NOT UID 1:2,4\r\n")
    refused = client.say(b"b SEARCH 1,3,5 OR UID 1,3,5 ALL\r\n")
    assert refused == b"b BAD [LIMIT] too many ranges in search keys\r\n"
    assert b"c OK" in client.say(b"c SEARCH 1,3,5\r\n")


def test_updates_end_when_the_store_fails() -> None:
    """RFC 5267 section 4.3.1: what can no longer be kept up to date is said, and the command stands."""
    world = ImapWorld()
    world.account.deliver(MAIL)
    client, other = world.selected(), world.selected()
    client.say(b"u SEARCH RETURN (UPDATE) UNSEEN\r\n")
    other.say(b"o STORE 1 +FLAGS (\\Seen)\r\n")
    looks = world.hold()
    assert client.say(b"n NOOP\r\n") == b""
    looks_again = world.hold()
    looks.callback(None)
    world.account.failure = StorageFailed("disk")
    world.account.hold = None
    looks_again.callback(None)
    assert client.hear().splitlines() == [
        b'* NO [NOUPDATE "u"] updates are not possible now',
        b"* 1 FETCH (FLAGS (\\Seen \\Recent))",
        b"n OK done",
    ]
    assert client.say(b"m NOOP\r\n") == b"m OK done\r\n"
    other.say(b"o STORE 1 -FLAGS (\\Seen)\r\n")
    assert b"ESEARCH" not in client.say(b"m NOOP\r\n")


def test_a_message_that_is_not_announced_comes_to_no_result() -> None:
    """RFC 5267 section 4.3.3: ADDTO stands behind EXISTS, however late NOTIFY lets that be said."""
    world = ImapWorld()
    client = world.selected()
    client.say(b"n NOTIFY NONE\r\n")
    world.account.deliver(MAIL)
    # One that is there before the search, and one that comes behind it.
    assert client.say(b"s SEARCH RETURN (UPDATE) ALL\r\n") == b'* ESEARCH (TAG "s")\r\ns OK done\r\n'
    world.account.deliver(MAIL)
    assert client.say(b"a NOOP\r\n") == b"a OK done\r\n"
    said = client.say(b"b NOTIFY SET (SELECTED (MessageNew MessageExpunge))\r\n")
    assert said.splitlines() == [
        b"* 2 EXISTS",
        b"* 2 RECENT",
        b'* ESEARCH (TAG "s") ADDTO (0 1:2)',
        b"b OK done",
    ]


def test_a_change_while_a_search_is_answered_is_not_lost() -> None:
    """The result is kept up to date from the search on, not from what was asked behind it (RFC 4731)."""
    world = ImapWorld()
    world.account.deliver(MAIL)
    world.account.deliver(MAIL)
    client, other = world.selected(), world.selected()
    world.account.hold = search = Deferred()
    client.say(b"s UID SEARCH RETURN (MIN UPDATE) MODSEQ 1 UNFLAGGED\r\n")
    world.account.hold = ends = Deferred()
    search.callback(None)
    world.account.hold = None
    other.say(b"o STORE 2 +FLAGS (\\Flagged)\r\n")
    ends.callback(None)
    said = client.hear() + client.say(b"n NOOP\r\n")
    assert b'* ESEARCH (TAG "s") UID MIN 1' in said
    assert b'* ESEARCH (TAG "s") UID REMOVEFROM (0 2)\r\n' in said


def counted(name: str, method: Callable[..., Any], into: list[str]) -> Callable[..., Any]:
    """The method, which notes that it was called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        into.append(name)
        return method(*args, **kwargs)

    return call


LIVE = (b"u UID SEARCH RETURN (UPDATE) UNFLAGGED", b"s SORT RETURN (UPDATE) (SUBJECT) UTF-8 UNFLAGGED")


def test_results_are_looked_at_again_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that keeps results up to date asks the store no more than others while nothing happens."""
    asked: list[str] = []
    for name in ("sync", "search", "sort"):
        monkeypatch.setattr(SelectedMailbox, name, counted(name, getattr(SelectedMailbox, name), asked))
    world = ImapWorld()
    world.account.deliver(MAIL)
    client, other = world.selected(), world.selected()
    for command in LIVE:
        client.say(command + b"\r\n")
    other.say(b"o STORE 1 +FLAGS (\\Flagged)\r\n")
    assert client.say(b"n NOOP\r\n").count(b"REMOVEFROM") == 2
    asked.clear()
    assert client.say(b"n NOOP\r\n") == b"n OK done\r\n"
    assert asked == ["sync"]
    other.say(b"o STORE 1 -FLAGS (\\Flagged)\r\n")
    asked.clear()
    assert client.say(b"n NOOP\r\n").count(b"ADDTO") == 2
    assert (asked.count("sync"), asked.count("sort")) == (2, 1)


def test_many_results_give_way_to_other_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between one result and the next, when they are looked at, changed and told, after long work."""
    world = ImapWorld()
    world.account.deliver(MAIL)
    client, other = world.selected(), world.selected()
    for number in range(5):
        client.say(b"%d SEARCH RETURN (UPDATE) UNFLAGGED\r\n" % number)
    other.say(b"o STORE 1 +FLAGS (\\Flagged)\r\n")
    turns: list[None] = []

    async def turn(_channel: object) -> None:
        turns.append(None)

    monkeypatch.setattr(StreamConnection, "turn_is_over", True)
    monkeypatch.setattr(StreamConnection, "turn", turn)

    def turns_of(word: bytes, count: int) -> int:
        turns.clear()
        assert client.say(b"n NOOP\r\n").count(word) == count
        return len(turns)

    removing = turns_of(b"REMOVEFROM", 5)
    nothing = turns_of(b"ESEARCH", 0)
    other.say(b"o STORE 1 -FLAGS (\\Flagged)\r\n")
    assert (removing - nothing, turns_of(b"ADDTO", 5) - nothing) == (15, 10)


def test_the_earlier_search_of_a_tag_ends_with_the_next_one() -> None:
    """Also when that one is not kept up to date: the client could not tell whose changes it is told."""
    world = ImapWorld()
    client = world.selected()
    client.say(b"t SORT RETURN (UPDATE) (SUBJECT) UTF-8 ALL\r\n")
    assert b"NOUPDATE" in client.say(b"t SORT RETURN (UPDATE) (RELEVANCY) UTF-8 FUZZY SUBJECT x\r\n")
    world.account.deliver(MAIL)
    assert b"ADDTO" not in client.say(b"n NOOP\r\n")


@pytest.mark.parametrize(
    "command",
    [
        b"SEARCH RETURN (RELEVANCY ALL)",
        b"SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8",
        b"SORT RETURN (RELEVANCY ALL) (ARRIVAL) UTF-8",
        b"ESEARCH IN (mailboxes INBOX) RETURN (RELEVANCY ALL)",
    ],
)
def test_relevancy_is_asked_of_what_was_found_only(monkeypatch: pytest.MonkeyPatch, command: bytes) -> None:
    """Each degree is one more search for texts, which has to read none of all the other messages."""
    world = ImapWorld()
    for subject in (b"IMAP breaking", b"Breaking news on imap", b"imap breakfast", b"Other", b"Other"):
        world.account.deliver(b"Subject: %b\r\n\r\n" % subject)
    client = world.selected()
    asked: list[UidSet] = []
    original = memory_mailbox.matches

    def noted(message: memory_mailbox.StoredMessage, key: search.Key) -> bool:
        if message.uid == 1 and search.reads_text(key):
            uids = next((one.uids for one in getattr(key, "keys", ()) if isinstance(one, search.Uids)), None)
            asked.append(UidSet.of(range(1, 6)) if uids is None else uids)
        return original(message, key)

    monkeypatch.setattr(memory_mailbox, "matches", noted)
    said = client.say(b'b %b FUZZY SUBJECT "IMAP breaking"\r\n' % command)
    assert b"ALL 1:3 RELEVANCY (100 70 40)" in said
    assert asked == [UidSet.of(range(1, 6)), UidSet.of([1, 2, 3]), UidSet.of([2, 3])]


@pytest.mark.parametrize("command", [b"SORT (REVERSE DATE) UTF-8", b"THREAD REFS UTF-8"])
@pytest.mark.parametrize("found", [b"ALL", b"UID 3", b"UID 2:9"])
def test_results_are_numbered_alike_whether_they_are_few_or_many(command: bytes, found: bytes) -> None:
    """Also while an EXPUNGE has yet to be told, and for messages that the client does not know by then."""
    world = ImapWorld(ImapLimits(lines_batch_rows=3))
    for day in range(1, 10):
        world.account.deliver(b"Date: %d Jan 2026 12:00:00 +0000\r\n\r\n" % day)
    client, other = world.selected(), world.selected()
    other.say(b"o STORE 5 +FLAGS (\\Deleted)\r\n")
    other.say(b"o EXPUNGE\r\n")
    world.account.deliver(b"Date: 10 Jan 2026 12:00:00 +0000\r\n\r\n")
    said = client.say(b"a %s %s\r\nb UID %s %s\r\n" % (command, found, command, found))
    for _ in range(20):  # the turns of other sessions
        world.clock.advance(0)
        said += client.hear()
    lines = [line for line in said.splitlines() if line.startswith((b"* SORT", b"* THREAD"))]
    by_number, by_uid = (list(map(int, re.findall(rb"\d+", line))) for line in lines)
    # The numbers are those that the UIDs had before anything was expunged.
    assert by_number == by_uid
    named = {b"ALL": range(1, 11), b"UID 3": [3], b"UID 2:9": range(2, 10)}[found]
    assert sorted(by_uid) == [uid for uid in named if uid != 5]


def test_with_uidonly_a_message_goes_by_its_uid_in_every_result() -> None:
    """RFC 9586 section 3: also where numbers are looked up in a table."""
    world = ImapWorld()
    for _ in range(3):
        world.account.deliver(b"\r\n")
    world.account.mailboxes["INBOX"].remove([1], ModSeq(9))
    client = world.logged_in()
    client.say(b"e ENABLE UIDONLY\r\n")
    client.say(b"s SELECT INBOX\r\n")
    assert b"* SORT 2 3\r\n" in client.say(b"a UID SORT (ARRIVAL) UTF-8 ALL\r\n")
    assert b"* THREAD (2)(3)\r\n" in client.say(b"a UID THREAD REFS UTF-8 ALL\r\n")


@pytest.mark.parametrize(("uid_only", "numbers"), [(False, [1, 2, 3]), (True, [10, 20, 30])])
def test_the_table_of_numbers_is_that_of_single_ones(uid_only: bool, numbers: list[int]) -> None:
    """In pieces of any size."""
    status = MailboxStatus(MailboxId(1), 3, 0, 0, 0, 0, Uid(31), UidValidity(1), ModSeq(1), "F1")
    opened = Opened(MailboxId(1), INBOX, True, status, array("I", (10, 20, 30)), None, (), UidSet())
    view = View(opened, Wording(uid_only=uid_only))
    table = dict([*view.numbers(0, 2), *view.numbers(2, 4)])
    assert table == {uid: view.seq_of(uid) for uid in (10, 20, 30)}
    assert list(table.values()) == numbers


def test_threads_that_sessions_share_are_numbered_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """One still counts what is gone; two began with the same messages, and are numbered once."""
    lists: dict[bytes, array[int]] = {}
    begin, numbers = SelectedMailbox.__init__, View.numbers
    numbered: list[View] = []

    def begin_alike(self: SelectedMailbox, *args: Any) -> None:
        begin(self, *args)
        uids = lists.setdefault(self.opened.uids.tobytes(), self.opened.uids)
        self.opened = replace(self.opened, uids=uids)

    def noted(self: View, *args: int) -> Any:
        numbered.append(self)
        return numbers(self, *args)

    monkeypatch.setattr(SelectedMailbox, "__init__", begin_alike)
    monkeypatch.setattr(View, "numbers", noted)
    world = ImapWorld()
    for _ in range(3):
        world.account.deliver(b"\r\n")
    earlier, other = world.selected(), world.selected()
    other.say(b"o STORE 1 +FLAGS (\\Deleted)\r\no EXPUNGE\r\n")
    later, last = world.selected(), world.selected()
    shared = Threads([ThreadNode(Uid(3), None), ThreadNode(Uid(2), 0)])

    async def threads(self: SelectedMailbox, *_: object) -> tuple[Threads, Delta]:
        return shared, Delta(ModSeq(0), ModSeq(0), Uid(4))

    monkeypatch.setattr(SelectedMailbox, "threads", threads)
    for _ in range(2):
        for session, line in (
            (later, b"* THREAD 2 1\r\n"),
            (last, b"* THREAD 2 1\r\n"),
            (earlier, b"* THREAD 3 2\r\n"),
        ):
            assert line in session.say(b"t THREAD REFS UTF-8 ALL\r\n").replace(b"(", b"").replace(b")", b"")
    # Those of the last session are kept, which are of no use to one that began otherwise.
    assert len(numbered) == 4
