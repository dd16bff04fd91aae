"""How an account uses POP3: its maildrop, what RETR and DELE do, how often one may log in."""

from __future__ import annotations

import logging

import pytest
from pop3_world import Pop3World

from mailstore.errors import StorageFailed, StorageFull
from mailstore.model import Pop3Settings, SystemFlag
from tests.wire import Client

ONE = b"Subject: one\r\n\r\nfirst\r\n"
TWO = b"Subject: two\r\n\r\nsecond\r\n"
LOGIN = b"USER joe\r\nPASS secret\r\n"


def world_of(*messages: bytes, settings: Pop3Settings, **limits: int) -> Pop3World:
    """A server whose account has these settings, and a Trash."""
    world = Pop3World(*messages, **limits)
    world.account.create("Trash")
    world.account.pop3 = settings
    return world


def seen(world: Pop3World, mailbox: str = "INBOX") -> list[bytes]:
    """The messages of a mailbox that are marked as read."""
    messages = world.account.mailboxes[mailbox].messages.values()
    return [one.data for one in messages if one.flags.system & SystemFlag.SEEN]


def in_trash(world: Pop3World) -> list[bytes]:
    """The messages of Trash."""
    return [one.data for one in world.account.mailboxes["Trash"].messages.values()]


def capa(client: Client) -> list[bytes]:
    """The LOGIN-DELAY lines of CAPA."""
    lines = client.say(b"CAPA\r\n").split(b"\r\n")
    return [line for line in lines if line.startswith(b"LOGIN-DELAY")]


def test_the_maildrop_is_the_mailbox_that_the_account_says() -> None:
    """POP3 sees and empties that one; INBOX stays as it is."""
    world = world_of(ONE, settings=Pop3Settings("Lists/One"))
    world.account.create("Lists/One")
    world.account.deliver(TWO, "Lists/One")
    client = world.logged_in()
    assert client.say(b"STAT\r\n") == b"+OK 1 %d\r\n" % len(TWO)
    client.say(b"DELE 1\r\nQUIT\r\n")
    assert not world.account.mailboxes["Lists/One"].messages and world.stored == [ONE]


def test_a_maildrop_that_does_not_exist_is_named_to_client_and_operator(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client hears what is wrong, the log names account and setting; it is no failed login."""
    world = world_of(settings=Pop3Settings("Private things"))
    client = world.connect()
    with caplog.at_level(logging.ERROR):
        for _ in range(6):
            assert client.say(LOGIN) == (
                b"+OK send PASS\r\n"
                b"-ERR [SYS/PERM] the mailbox set as maildrop of this account does not exist\r\n"
            )
    assert caplog.messages == ["account joe: the mailbox that pop3_maildrop names is not there"] * 6
    assert not world.account.sessions and not client.closed
    world.account.create("Private things")
    assert client.say(LOGIN).endswith(b"+OK 0 messages\r\n")


def test_retr_marks_as_read_only_where_the_account_wants_it() -> None:
    """At QUIT, what was sent whole; TOP and LIST read nothing."""
    world = world_of(ONE, TWO, settings=Pop3Settings())
    world.logged_in().say(b"RETR 1\r\nQUIT\r\n")
    assert seen(world) == []
    world.account.pop3 = Pop3Settings(retr_marks_seen=True)
    client = world.logged_in()
    client.say(b"RETR 2\r\nTOP 1 99\r\nLIST\r\n")
    assert seen(world) == []
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert seen(world) == [TWO]


def test_what_was_read_is_marked_in_batches() -> None:
    """A client that is cut off loses less than a batch of marks, and none is a write of its own."""
    world = world_of(ONE, TWO, ONE, settings=Pop3Settings(retr_marks_seen=True), seen_batch_max=2)
    modseq = world.account.mailboxes["INBOX"].modseq
    client = world.logged_in()
    client.say(b"RETR 1\r\n")
    assert seen(world) == []
    client.say(b"RETR 2\r\n")
    assert seen(world) == [ONE, TWO]
    client.say(b"RETR 3\r\n")
    client.hang_up()
    assert seen(world) == [ONE, TWO]
    assert world.account.mailboxes["INBOX"].modseq == modseq + 1


def test_half_a_message_is_not_read() -> None:
    """A transfer that breaks off leaves the message unread."""
    settings = Pop3Settings(retr_marks_seen=True)
    world = world_of(ONE * 50, settings=settings, retr_chunk_bytes=16, write_chunk_bytes=16)
    client = world.logged_in()
    client.protocol.pauseProducing()
    client.say(b"RETR 1\r\n")
    client.hang_up()
    assert seen(world) == []


def test_a_read_only_secret_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Not even that a message was read; it is not tried either."""
    world = world_of(ONE, settings=Pop3Settings(retr_marks_seen=True, dele_to_trash=True), seen_batch_max=1)
    world.account.read_only = True
    client = world.logged_in()
    client.say(b"RETR 1\r\n")
    assert client.say(b"DELE 1\r\n") == b"-ERR only reading is allowed\r\n"
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert seen(world) == [] and in_trash(world) == [] and world.stored == [ONE]
    assert not caplog.records


@pytest.mark.parametrize("failure", [StorageFull("full"), StorageFailed("failed")])
def test_marks_that_cannot_be_written_cost_nothing_else(failure: Exception) -> None:
    """The message was sent and the others are removed."""
    world = world_of(ONE, TWO, settings=Pop3Settings(retr_marks_seen=True))
    client = world.logged_in()
    client.say(b"RETR 1\r\nDELE 2\r\n")
    world.account.failure = failure
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert world.stored == [ONE] and seen(world) == []


def test_dele_moves_to_trash_at_quit_and_not_before() -> None:
    """What was read is read there too; a session that does not come to QUIT moves nothing."""
    world = world_of(ONE, TWO, settings=Pop3Settings(retr_marks_seen=True, dele_to_trash=True))
    client = world.logged_in()
    client.say(b"DELE 1\r\n")
    client.hang_up()
    assert world.stored == [ONE, TWO] and in_trash(world) == []
    client = world.logged_in()
    assert client.say(b"RETR 1\r\nDELE 1\r\nQUIT\r\n").endswith(b"+OK goodbye\r\n")
    assert world.stored == [TWO] and in_trash(world) == [ONE] and seen(world, "Trash") == [ONE]


def test_a_move_that_fails_says_that_nothing_was_removed() -> None:
    """All or nothing, as with removing."""
    world = world_of(ONE, TWO, settings=Pop3Settings(dele_to_trash=True))
    client = world.logged_in()
    client.say(b"DELE 1\r\nDELE 2\r\n")
    world.account.failure = StorageFull("full")
    assert client.say(b"QUIT\r\n") == b"-ERR [SYS/TEMP] no message was removed\r\n"
    assert world.stored == [ONE, TWO] and in_trash(world) == []


def test_login_delay_is_told_and_kept() -> None:
    """RFC 2449 sections 6.5 and 8.1.1: the right secret comes too early, and may come again in time."""
    world = world_of(settings=Pop3Settings(login_delay_s=60))
    world.logged_in().say(b"QUIT\r\n")
    early = b"+OK send PASS\r\n-ERR [LOGIN-DELAY] the last login was less than 60 s ago\r\n"
    client = world.connect()
    for _ in range(6):
        assert client.say(LOGIN) == early
    assert not client.closed and not world.account.sessions
    world.clock.advance(59)
    assert client.say(LOGIN) == early
    world.clock.advance(1)
    assert client.say(LOGIN).endswith(b"+OK 0 messages\r\n")
    assert [entry.failed for entry in world.access_log.entries] == [False] * len(world.access_log.entries)


def test_login_delay_says_nothing_to_a_wrong_secret() -> None:
    """A guesser does not learn that somebody has logged in."""
    world = world_of(settings=Pop3Settings(login_delay_s=60))
    world.logged_in()
    assert world.connect().say(b"USER joe\r\nPASS wrong\r\n") == (
        b"+OK send PASS\r\n-ERR [AUTH] wrong name or secret\r\n"
    )


def test_capa_announces_the_delay_as_it_applies() -> None:
    """Before login the largest of any account with USER, after it the account's own."""
    world = world_of(settings=Pop3Settings())
    assert capa(world.connect()) == capa(world.logged_in()) == []
    world = world_of(settings=Pop3Settings(), login_delay_s=30)
    assert capa(world.connect()) == [b"LOGIN-DELAY 30 USER"]
    assert capa(world.logged_in()) == [b"LOGIN-DELAY 30"]
    world = world_of(settings=Pop3Settings(login_delay_s=0), login_delay_s=30)
    world.store.add_account(b"ann").pop3 = Pop3Settings(login_delay_s=900)
    assert capa(world.connect()) == [b"LOGIN-DELAY 900 USER"]
    assert capa(world.logged_in()) == []
    assert world.connect().say(LOGIN).endswith(b"+OK 0 messages\r\n")
