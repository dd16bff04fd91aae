"""FETCH with CHANGEDSINCE costs what has changed, and answers as if all messages had been looked at."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailstore.model import FetchPlan, FetchResult, ModSeq, Uid
from mailstore.uidset import UidSet
from protocols.imap.picture.view import View
from protocols.limits import ImapLimits
from tests.memory_mailbox import SelectedMailbox
from tests.wire import ImapWorld

MAIL = b"Subject: one\r\n\r\ntext\r\n"

SETS = st.sampled_from([b"1:*", b"*", b"2:4", b"4:2", b"1,3,5", b"9:*", b"6:9", b"2,6:*", b"$"])
MODIFIERS = st.sampled_from(
    [b"", b" VANISHED", b" PARTIAL 1:2", b" PARTIAL -1:-3", b" PARTIAL 2:3 VANISHED", b" PARTIAL 5:9"]
)
ITEMS = st.sampled_from([b"FLAGS", b"(UID MODSEQ)", b"(FLAGS BODY.PEEK[HEADER])", b"(INTERNALDATE)"])


def case(before: set[int], late: set[int], since: int, numbers: bytes, **others: Any) -> dict[str, Any]:
    """What mattered once."""
    usual = {"gone": set(), "command": b"UID FETCH", "items": b"FLAGS", "modifiers": b"", "limit": 0}
    return {"before": before, "late": late, "since": since, "numbers": numbers, **usual, **others}


@example(**case({1}, set(), 8, b"1:*", limit=3))
@example(**case({6, 7}, set(), 8, b"2:4", modifiers=b" VANISHED"))
@example(**case(set(), {2}, 8, b"6:9"))
@given(
    before=st.sets(st.integers(1, 7)),
    gone=st.sets(st.integers(1, 7), max_size=3),
    late=st.sets(st.integers(1, 7), max_size=3),
    since=st.integers(1, 14),
    command=st.sampled_from([b"FETCH", b"UID FETCH"]),
    numbers=SETS,
    items=ITEMS,
    modifiers=MODIFIERS,
    limit=st.sampled_from([0, 0, 3]),
)
def test_looking_for_the_changes_answers_like_looking_at_all_messages(
    before: set[int],
    gone: set[int],
    late: set[int],
    since: int,
    command: bytes,
    numbers: bytes,
    items: bytes,
    modifiers: bytes,
    limit: int,
) -> None:
    """Whatever is asked for, whoever changes what, and however many messages a command may be about."""
    if b"VANISHED" in modifiers and command == b"FETCH":
        command = b"UID FETCH"
    answers: list[list[bytes]] = []
    for batch in (1, 1000):
        limits = ImapLimits(fetch_batch_rows=batch, message_limit=limit, message_limit_enforced=limit)
        world = ImapWorld(limits)
        for _ in range(7):
            world.account.deliver(MAIL)
        other, client = world.selected(), world.logged_in()
        client.say(b"e ENABLE QRESYNC\r\n")
        client.say(b"s SELECT INBOX\r\n")
        client.say(b"$ SEARCH RETURN (SAVE) UID 3:5\r\n")
        for uid in sorted(before):
            other.say(b"o UID STORE %d +FLAGS (\\Flagged)\r\n" % uid)
        client.say(b"n NOOP\r\n")
        for uid in sorted(gone):
            other.say(b"o UID STORE %d +FLAGS (\\Deleted)\r\n" % uid)
        other.say(b"o EXPUNGE\r\n")
        for uid in sorted(late - gone):
            other.say(b"o UID STORE %d +FLAGS (\\Answered)\r\n" % uid)
        world.account.deliver(MAIL)
        asked = b"%s %s %s (CHANGEDSINCE %d%s)" % (command, numbers, items, since, modifiers)
        said = client.say(b"f %s\r\nn NOOP\r\nl FETCH 1:* FLAGS\r\n" % asked).splitlines()
        # Of a command that is cut short the last batch comes first, so the order depends on their size.
        answers.append(sorted(said) if limit else said)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("modifiers", [b"", b" VANISHED"])
@pytest.mark.parametrize("changed", [0, 3])
def test_only_what_has_changed_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, modifiers: bytes, changed: int
) -> None:
    """Neither the store nor the picture goes through a mailbox of which little has changed."""
    fetched: list[Uid] = []
    listed: list[Uid] = []
    fetch, known = SelectedMailbox.fetch, View.known

    async def noted(self: SelectedMailbox, uids: list[Uid], plan: FetchPlan, since: ModSeq) -> FetchResult:
        fetched.extend(uids)
        return await fetch(self, uids, plan, since)

    def counted(self: View, uids: UidSet) -> list[Uid]:
        found = known(self, uids)
        listed.extend(found)
        return found

    monkeypatch.setattr(SelectedMailbox, "fetch", noted)
    monkeypatch.setattr(View, "known", counted)
    world = ImapWorld(ImapLimits(fetch_batch_rows=10))
    for _ in range(50):
        world.account.deliver(MAIL)
    client, other = world.logged_in(), world.selected()
    client.say(b"e ENABLE QRESYNC\r\n")
    since = int(client.say(b"s SELECT INBOX\r\n").partition(b"HIGHESTMODSEQ ")[2].partition(b"]")[0])
    if changed:
        other.say(b"o STORE 7:%d +FLAGS (\\Flagged)\r\n" % (6 + changed))
    fetched.clear()
    listed.clear()
    said = client.say(b"f UID FETCH 1:* FLAGS (CHANGEDSINCE %d%s)\r\n" % (since, modifiers))
    assert said.count(b" FETCH ") == changed
    assert fetched == list(range(7, 7 + changed))
    assert len(listed) <= 2 * changed


def test_a_page_of_what_has_changed_counts_only_that() -> None:
    """Also where VANISHED has shown more, because the client names a change it has not been told of."""
    world = ImapWorld()
    for _ in range(4):
        world.account.deliver(MAIL)
    client, other = world.logged_in(), world.selected()
    client.say(b"e ENABLE QRESYNC\r\n")
    since = int(client.say(b"s SELECT INBOX\r\n").partition(b"HIGHESTMODSEQ ")[2].partition(b"]")[0])
    for uid in (2, 3):
        other.say(b"o UID STORE %d +FLAGS (\\Answered)\r\n" % uid)
    for modifiers in (b"", b" VANISHED"):
        asked = b"(INTERNALDATE) (CHANGEDSINCE %d PARTIAL 1:1%s)" % (since + 1, modifiers)
        said = client.say(b"f UID FETCH 1:* %s\r\n" % asked)
        assert b"* 3 FETCH (UID 3 INTERNALDATE" in said
