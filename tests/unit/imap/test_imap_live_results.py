"""What is expunged leaves live results by the numbers that the client knows (RFC 5267 section 4.3.4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailstore import search
from mailstore.errors import AccountClosed
from mailstore.model import SystemFlag
from mailstore.uidset import UidSet
from protocols.imap.picture.live_texts import REMEMBERED_TEXTS, LiveTexts
from tests import memory_mailbox
from tests.wire import Client, ImapWorld

MAIL = b"Subject: %s\r\n\r\ntext\r\n"
STRANGE = b"Subject: z\r\nContent-Transfer-Encoding: x-strange\r\n\r\ntext\r\n"
SEARCH = b"u SEARCH RETURN (UPDATE) UNFLAGGED\r\n"
SORT = b"s SORT RETURN (UPDATE) (REVERSE SUBJECT) UTF-8 UNFLAGGED\r\n"


def listening(command: bytes) -> tuple[ImapWorld, Client, Client]:
    """Four messages, a client that keeps a result of them up to date, and another client."""
    world = ImapWorld()
    for subject in b"abc":
        world.account.deliver(MAIL % bytes([subject]))
    world.account.deliver(STRANGE)
    client, other = world.selected(), world.selected()
    assert b" OK" in client.say(command)
    return world, client, other


def expunge(client: Client, uid: int) -> None:
    """A client expunges one message."""
    client.say(b"o UID STORE %d +FLAGS.SILENT (\\Deleted)\r\n" % uid)
    assert b"o OK" in client.say(b"o UID EXPUNGE %d\r\n" % uid)


def before_looking(world: ImapWorld, *happenings: Callable[[], object]) -> None:
    """What happens just before each of the next searches."""
    world.account.mailboxes["INBOX"].before_search += happenings


@pytest.mark.parametrize(
    ("command", "removed"),
    [
        (SEARCH, b'* ESEARCH (TAG "u") REMOVEFROM (0 2)'),
        (SORT, b'* ESEARCH (TAG "s") REMOVEFROM (3 2)'),
    ],
)
def test_a_refused_command_says_what_leaves_results_before_expunge(command: bytes, removed: bytes) -> None:
    """A command that fails may tell of EXPUNGE as well; behind it the message has no number any more."""
    _, client, other = listening(command)
    expunge(other, 2)
    assert client.say(b"f UID FETCH 4 BINARY.PEEK[1]\r\n").splitlines() == [
        b"* 4 FETCH (UID 4)",
        removed,
        b"* 2 EXPUNGE",
        b"f NO [UNKNOWN-CTE] the transfer encoding of a part is not known",
    ]
    assert client.say(b"n NOOP\r\n") == b"n OK done\r\n"


@pytest.mark.parametrize(
    ("command", "removed"),
    [
        (SEARCH, [b'* ESEARCH (TAG "u") REMOVEFROM (0 2)', b'* ESEARCH (TAG "u") REMOVEFROM (0 1)']),
        (SORT, [b'* ESEARCH (TAG "s") REMOVEFROM (3 2)', b'* ESEARCH (TAG "s") REMOVEFROM (3 1)']),
    ],
)
def test_what_is_expunged_while_results_are_looked_at_leaves_them_before_expunge(
    command: bytes, removed: list[bytes]
) -> None:
    """Between the look at what has changed and the search among it, whatever else leaves the result."""
    world, client, other = listening(command)
    other.say(b"o UID STORE 1 +FLAGS (\\Flagged)\r\n")
    before_looking(world, lambda: expunge(other, 2))
    assert client.say(b"n NOOP\r\n").splitlines() == [
        removed[0],
        b"* 2 EXPUNGE",
        b"* 1 FETCH (FLAGS (\\Flagged \\Recent))",
        removed[1],
        b"n OK done",
    ]
    assert client.say(b"n NOOP\r\n") == b"n OK done\r\n"


def test_a_message_that_changes_and_is_expunged_at_once_leaves_results_once() -> None:
    """It no longer matches, and it is gone: one REMOVEFROM, by the number it has had."""
    world, client, other = listening(SEARCH)
    client.say(SORT)
    other.say(b"o UID STORE 3 +FLAGS (\\Flagged)\r\n")
    # When the second result is looked at, what has changed the first is known.
    before_looking(world, lambda: None, lambda: expunge(other, 3))
    assert client.say(b"n NOOP\r\n").splitlines() == [
        b'* ESEARCH (TAG "s") REMOVEFROM (2 3)',
        b'* ESEARCH (TAG "u") REMOVEFROM (0 3)',
        b"* 3 EXPUNGE",
        b"n OK done",
    ]
    assert client.say(b"n NOOP\r\n") == b"n OK done\r\n"


def test_a_place_counts_what_is_left_when_it_is_told() -> None:
    """A message comes to a sorted result, and one before its place is expunged while that is looked for."""
    world, client, other = listening(SORT)
    world.account.deliver(MAIL % b"aa")
    # The first look is at what matches, the second at where it belongs.
    before_looking(world, lambda: None, lambda: expunge(other, 3))
    assert client.say(b"n NOOP\r\n").splitlines() == [
        b'* ESEARCH (TAG "s") REMOVEFROM (2 3)',
        b"* 3 EXPUNGE",
        b"* 4 EXISTS",
        b"* 4 RECENT",
        b'* ESEARCH (TAG "s") ADDTO (3 4)',
        b"n OK done",
    ]


def test_a_session_that_is_ended_does_not_say_that_updates_are() -> None:
    """While results are looked at again the account is closed: that ends the session, not only the result."""
    world, client, other = listening(SEARCH)
    other.say(b"o UID STORE 1 +FLAGS (\\Flagged)\r\n")

    def close() -> None:
        raise AccountClosed("closed")

    before_looking(world, close)
    assert client.say(b"n NOOP\r\n").splitlines() == [
        b"* 1 FETCH (FLAGS (\\Flagged \\Recent))",
        b"n NO [UNAVAILABLE] this session has been ended, please log in again",
        b"* BYE this session has been ended, please log in again",
    ]
    assert client.closed


def texts_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, search.Key]]:
    """Grows by each message whose text is looked at, with the key that asks for it."""
    read: list[tuple[int, search.Key]] = []
    original = memory_mailbox.matches

    def noted(message: memory_mailbox.StoredMessage, key: search.Key) -> bool:
        for one in key.keys if isinstance(key, search.And) else (key,):
            if not original(message, one):
                return False
            if search.reads_text(one):
                read.append((message.uid, one))
        return True

    monkeypatch.setattr(memory_mailbox, "matches", noted)
    return read


def test_a_text_is_not_looked_for_again_when_flags_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot have changed: ten such searches would read all messages ten times before the next answer."""
    _, client, other = listening(b"u SEARCH RETURN (UPDATE) TEXT text NOT SUBJECT b\r\n")
    read = texts_read(monkeypatch)
    for sign in b"+-":
        other.say(b"o STORE 1:4 %cFLAGS (\\Seen)\r\n" % sign)
        client.say(b"n NOOP\r\n")
    assert not read


def test_a_text_beside_flags_is_looked_for_once_in_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only in messages that could match by everything else."""
    world, client, other = listening(b"u SEARCH RETURN (UPDATE) UNFLAGGED TEXT text\r\n")
    read = texts_read(monkeypatch)

    def change(command: bytes) -> list[bytes]:
        read.clear()
        other.say(command)
        said: bytes = client.say(b"n NOOP\r\n")
        return [line for line in said.splitlines() if b"ESEARCH" in line]

    assert change(b"o UID STORE 1:2 +FLAGS (\\Flagged)\r\n") == [b'* ESEARCH (TAG "u") REMOVEFROM (0 1:2)']
    assert not read
    assert change(b"o UID STORE 1:4 -FLAGS (\\Flagged)\r\n") == [b'* ESEARCH (TAG "u") ADDTO (0 1:2)']
    assert sorted(uid for uid, _ in read) == [1, 2]
    assert change(b"o UID STORE 1:2 +FLAGS (\\Flagged)\r\n") == [b'* ESEARCH (TAG "u") REMOVEFROM (0 1:2)']
    assert change(b"o UID STORE 1:2 -FLAGS (\\Flagged)\r\n") == [b'* ESEARCH (TAG "u") ADDTO (0 1:2)']
    assert not read
    world.account.deliver(MAIL % b"d")
    assert change(b"o NOOP\r\n") == [b'* ESEARCH (TAG "u") ADDTO (0 5)']
    assert [uid for uid, _ in read] == [5]


def test_parts_that_never_change_are_remembered_and_others_are_not() -> None:
    """Texts that all have to match are one; what a flag, the hour or ``*`` decides is asked each time."""
    a, b, c = (search.AnyText(text) for text in "abc")
    seen, young = search.HasFlag(SystemFlag.SEEN), search.WithinSeconds(60)
    texts = LiveTexts(search.And((a, seen, b, search.Larger(3))))
    assert texts.parts == [search.And((a, b))]
    texts.learn(0, UidSet.of([1, 2]), UidSet.of([2]))
    assert texts.decided() == search.And((seen, search.Larger(3), search.Uids(UidSet.of([2]))))
    assert texts.undecided(UidSet.of([2, 3])) == UidSet.of([3])
    assert LiveTexts(search.Or(a, search.And((b, c)))).parts == [search.Or(a, search.And((b, c)))]
    assert LiveTexts(search.Fuzzy(a)).parts == [search.Fuzzy(a)]
    mixed = LiveTexts(search.Or(search.And((a, young)), search.And((search.Not(b), seen))))
    assert mixed.parts == [a, search.Not(b)]
    inverted = LiveTexts(search.Not(search.And((seen, a)))).possible()
    assert inverted == search.Not(search.And((seen, search.Uids(UidSet()))))


def test_the_texts_of_a_search_are_remembered_up_to_a_bound() -> None:
    """One session could have the store of a thousand sets of messages kept for it."""
    key: search.Key = search.All()
    for number in range(50):
        flag = search.HasKeyword(f"k{number}")
        key = search.Or(search.And((search.AnyText(f"text {number}"), flag)), key)
    assert len(LiveTexts(key).parts) == REMEMBERED_TEXTS
