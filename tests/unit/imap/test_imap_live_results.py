"""What is expunged leaves live results by the numbers that the client knows (RFC 5267 section 4.3.4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailstore.errors import AccountClosed
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
