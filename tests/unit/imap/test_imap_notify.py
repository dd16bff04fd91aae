"""NOTIFY beyond its transcripts: grammar, limits, failures, and what many changes come to (RFC 5465)."""

from __future__ import annotations

import zlib

import pytest

from mailstore.errors import StorageFailed
from mailstore.mime.section import SectionKind, SectionSpec
from mailstore.model import (
    Counters,
    MailboxId,
    MailboxInfo,
    MailboxList,
    ModSeq,
    Overview,
    SectionRead,
    Uid,
    UidValidity,
)
from protocols.imap.connection import CommandReceived
from protocols.imap.grammar.fetch import FetchItem, FetchSection
from protocols.imap.grammar.notify import Event, EventGroup, Filter, Notify
from protocols.imap.grammar.table import Parsed, Unparsed, parse_command
from protocols.imap.picture.known import AccountPicture, Interest, StatusNews
from protocols.limits import ImapLimits
from tests.wire import Client, ImapWorld

MAIL = b"Subject: x\r\n\r\ntext\r\n"
BOTH = frozenset({Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE})
EVERY = b"(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)"


def parse(line: bytes, limits: ImapLimits | None = None) -> Parsed | Unparsed:
    """One command, its tag left out."""
    return parse_command(CommandReceived((b"t NOTIFY " + line,)), limits or ImapLimits(), False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"none", Notify()),
        (b"SET (PERSONAL NONE)", Notify((EventGroup(Filter.PERSONAL),))),
        (
            b"set status (selected-delayed (messagenew messageexpunge))",
            Notify((EventGroup(Filter.SELECTED_DELAYED, (), BOTH),), status=True),
        ),
        (
            b"SET (SELECTED (MessageNew (UID BODY.PEEK[HEADER]) MessageExpunge FlagChange))",
            Notify(
                (
                    EventGroup(
                        Filter.SELECTED,
                        (),
                        BOTH | {Event.FLAG_CHANGE},
                        (
                            FetchItem.UID,
                            FetchSection(
                                SectionRead(SectionSpec(kind=SectionKind.HEADER)), b"BODY[HEADER]", peek=True
                            ),
                        ),
                    ),
                )
            ),
        ),
        (
            b'SET (subtree inbox (MailboxName)) (mailboxes ("a b" &AOk-) (ServerMetadataChange))',
            Notify(
                (
                    EventGroup(Filter.SUBTREE, ("INBOX",), frozenset({Event.MAILBOX_NAME})),
                    EventGroup(Filter.MAILBOXES, ("a b", "é"), frozenset({Event.SERVER_METADATA_CHANGE})),
                )
            ),
        ),
    ],
)
def test_what_is_understood(line: bytes, expected: Notify) -> None:
    """Names have no case, lists may be single names."""
    found = parse(line)
    assert isinstance(found, Parsed)
    assert found.request == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ALL",
        b"NONE x",
        b"SET",
        b"SET STATUS",
        b"SET personal (MailboxName)",
        b"SET (personal)",
        b"SET (personal ())",
        b"SET (personal MailboxName)",
        b"SET (everybody (MailboxName))",
        b"SET (mailboxes (MailboxName))",
        b"SET (subtree () (MailboxName))",
        b"SET (personal NONE)(inboxes NONE)",
        b"SET (selected (MessageNew () MessageExpunge))",
        b"SET (selected (MessageNew (NAME) MessageExpunge))",
        b"SET (selected (MessageNew MessageExpunge (UID)))",
        b"SET (selected (MessageExpunge))",
        b"SET (personal (AnnotationChange))",
        b"SET (selected (MessageNew MessageExpunge SubscriptionChange))",
        b"SET (selected NONE) (selected NONE)",
    ],
)
def test_what_is_not(line: bytes) -> None:
    """BAD, for syntax and for events that do not go together (section 5)."""
    found = parse(line)
    assert isinstance(found, Unparsed)
    assert found.refusal.status == b"BAD"


@pytest.mark.parametrize("event", [b"AnnotationChange", b"X-NEW", b"MessageRead"])
def test_unknown_events(event: bytes) -> None:
    """NO with the list of those that are known, not BAD (section 3.1)."""
    found = parse(b"SET (personal (MessageNew MessageExpunge %s))" % event)
    assert isinstance(found, Unparsed)
    assert found.refusal.status == b"NO"
    assert found.refusal.code.startswith(b"BADEVENT (MessageNew MessageExpunge FlagChange ")


def test_limits_of_the_command() -> None:
    """As many groups and names as the limits say, and not one more."""
    limits = ImapLimits(notify_groups_max=2, notify_names_max=3)
    for good in (b"SET (inboxes NONE) (personal NONE)", b"SET (mailboxes (a b) NONE) (subtree c NONE)"):
        assert isinstance(parse(good, limits), Parsed)
    for bad in (b"SET" + 3 * b" (inboxes NONE)", b"SET (mailboxes (a b) NONE) (subtree (c d) NONE)"):
        found = parse(bad, limits)
        assert isinstance(found, Unparsed)
        assert (found.refusal.status, found.refusal.code) == (b"NO", b"NOTIFICATIONOVERFLOW")


def watching(world: ImapWorld, groups: bytes = b"(personal %s)" % EVERY) -> Client:
    """A client that has used NOTIFY."""
    client = world.logged_in()
    assert client.say(b"n NOTIFY SET %s\r\n" % groups) == b"n OK done\r\n"
    return client


def test_octet_by_octet() -> None:
    """A command that comes in single octets does the same, and news come in between."""
    world = ImapWorld()
    client = world.logged_in()
    line = b"n NOTIFY SET STATUS (mailboxes {5+}\r\nINBOX (MessageNew MessageExpunge))\r\n"
    said = b"".join(client.say(line[at : at + 1]) for at in range(len(line)))
    assert said == b"* STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7)\r\nn OK done\r\n"
    assert client.say(b"a NO") == b""
    world.account.deliver(MAIL)
    assert client.hear() == b"* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7)\r\n"
    assert client.say(b"OP\r\n") == b"a OK done\r\n"


def test_too_many_mailboxes() -> None:
    """NOTIFY is refused when there are too many now, and ends when there are later (sections 3.1, 5.8)."""
    world = ImapWorld(ImapLimits(notify_mailboxes_max=2))
    world.account.create("a")
    client = watching(world)
    world.account.create("b")
    assert client.hear() == b"* OK [NOTIFICATIONOVERFLOW] no more notifications\r\n"
    world.account.deliver(MAIL)
    assert client.say(b"a NOOP\r\n") == b"a OK done\r\n"
    refused = b"b NO [NOTIFICATIONOVERFLOW] too many mailboxes to watch\r\n"
    assert client.say(b"b NOTIFY SET (personal %s)\r\n" % EVERY) == refused
    # Names alone cost little; the selected mailbox does not count.
    assert client.say(b"c NOTIFY SET (personal (MailboxName))\r\n") == b"c OK done\r\n"
    assert b"d OK" in client.say(b"d SELECT b\r\n")
    assert client.say(b"e NOTIFY SET (personal %s)\r\n" % EVERY) == b"e OK done\r\n"


def test_a_refused_command_leaves_the_old_one() -> None:
    """What was asked for before is still told."""
    world = ImapWorld(ImapLimits(notify_mailboxes_max=1))
    client = watching(world)
    world.account.create("a")
    assert b"OVERFLOW" in client.hear()
    client = watching(world, b"(mailboxes a %s)" % EVERY)
    assert b"a NO [NOTIFICATIONOVERFLOW]" in client.say(b"a NOTIFY SET (personal %s)\r\n" % EVERY)
    world.account.deliver(MAIL, "a")
    assert client.hear() == b"* STATUS a (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7 UNSEEN 1)\r\n"


def test_changes_that_cannot_be_read_end_notifications() -> None:
    """The client is told that it hears no more, and the session goes on."""
    world = ImapWorld()
    client = watching(world)
    world.account.failure = StorageFailed("broken")
    world.account.deliver(MAIL)
    assert client.hear() == b"* OK [NOTIFICATIONOVERFLOW] no more notifications\r\n"
    world.account.deliver(MAIL)
    assert client.say(b"a NOOP\r\n") == b"a OK done\r\n"
    assert world.account.listeners == []


def test_a_burst_is_told_once() -> None:
    """Whatever happens while the session is busy is one look and one answer for a mailbox."""
    world = ImapWorld()
    client = watching(world)
    gate = world.hold()
    client.say(b"a STATUS INBOX (MESSAGES)\r\n")
    for _ in range(50):
        world.account.deliver(MAIL)
    world.account.hold = None
    gate.callback(None)
    told = client.hear()
    assert told.count(b"* STATUS INBOX (MESSAGES 50 UIDNEXT 51 ") == 1
    assert told.endswith(b"a OK done\r\n")
    assert told.count(b"\r\n") == 3


def test_looks_that_take_long_are_rare() -> None:
    """After a look that took a second there are nine without one; the news are told all the same."""
    world = ImapWorld()
    client = watching(world)
    gate = world.hold()
    world.account.deliver(MAIL)
    world.clock.advance(1)
    world.account.hold = None
    gate.callback(None)
    world.clock.advance(0)
    assert client.hear().startswith(b"* STATUS INBOX (MESSAGES 1 ")
    world.account.deliver(MAIL)
    assert client.say(b"a NOOP\r\n") == b"a OK done\r\n"
    world.clock.advance(8.9)
    assert client.hear() == b""
    world.clock.advance(0.1)
    assert client.hear().startswith(b"* STATUS INBOX (MESSAGES 2 ")
    world.account.deliver(MAIL)
    assert client.hear().startswith(b"* STATUS INBOX (MESSAGES 3 ")


def test_another_mailbox_of_the_same_name() -> None:
    """Whoever wants to hear of flags hears of a new UIDVALIDITY, without MailboxName, too (section 5.1)."""
    world = ImapWorld()
    world.account.create("a")
    client = watching(world, b"(mailboxes a (MessageNew MessageExpunge FlagChange))")
    other = world.logged_in()
    other.say(b"x DELETE a\r\n")
    assert client.hear() == b""
    other.say(b"x CREATE a\r\n")
    assert client.hear() == b"* STATUS a (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7 UNSEEN 0)\r\n"


def test_sessions_that_end_stop_listening() -> None:
    """LOGOUT, UNAUTHENTICATE, NONE and a new NOTIFY leave nothing behind."""
    world = ImapWorld()
    clients = [watching(world) for _ in range(4)]
    assert len(world.account.listeners) == 4
    clients[0].say(b"a LOGOUT\r\n")
    clients[1].say(b"a UNAUTHENTICATE\r\n")
    clients[2].say(b"a NOTIFY NONE\r\n")
    clients[3].say(b"a NOTIFY SET (personal (MailboxName))\r\n")
    assert len(world.account.listeners) == 1
    clients[3].hang_up()
    assert world.account.listeners == []


def test_a_new_user_of_the_connection_begins_afresh() -> None:
    """After UNAUTHENTICATE nothing is left of NONE (RFC 8437 section 4.1)."""
    world = ImapWorld()
    client = world.logged_in()
    client.say(b"a NOTIFY NONE\r\nb UNAUTHENTICATE\r\nc LOGIN joe secret\r\nd SELECT INBOX\r\n")
    world.account.deliver(MAIL)
    assert client.say(b"e NOOP\r\n") == b"* 1 EXISTS\r\n* 1 RECENT\r\ne OK done\r\n"


def test_content_that_is_pushed_is_not_read_by_anybody() -> None:
    """BODY[] for new messages does not set \\Seen: nobody has looked at them (section 5.2)."""
    world = ImapWorld()
    client = world.selected()
    client.say(b"a NOTIFY SET (selected (MessageNew (BODY[TEXT]) MessageExpunge))\r\n")
    world.account.deliver(MAIL)
    expected = b"* 1 EXISTS\r\n* 1 RECENT\r\n* 1 FETCH (UID 1 BODY[TEXT] {6}\r\ntext\r\n)\r\n"
    assert client.hear() == expected
    assert world.account.mailboxes["INBOX"].status().unseen == 1


def test_a_mailbox_left_as_it_is_known_is_not_told() -> None:
    """What the client saw while it was selected needs no STATUS when it is left, what it did not does."""
    world = ImapWorld()
    world.account.create("a")
    client = world.selected()
    client.say(b"n NOTIFY SET (selected (MessageNew MessageExpunge)) (personal %s)\r\n" % EVERY)
    world.account.deliver(MAIL)
    client.say(b"a STORE 1 +FLAGS (\\Seen)\r\n")
    assert b"STATUS" not in client.say(b"b SELECT a\r\n") + client.say(b"c NOOP\r\n")
    world.account.create("b")
    assert b"STATUS INBOX" not in client.hear()
    # Here a change of flags is pending that was not wanted while the mailbox was selected.
    other = world.selected(b"a")
    world.account.deliver(MAIL, "a")
    client.hear()
    other.say(b"a NOOP\r\nb STORE 1 +FLAGS.SILENT (\\Flagged)\r\n")
    told = b"* STATUS a (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7 UNSEEN 1)\r\n"
    assert client.say(b"d UNSELECT\r\n") == told + b"d OK done\r\n"


def test_what_is_known_of_a_mailbox_that_was_selected() -> None:
    """Up to the modseq at which it was left; an older modseq counts for nothing later."""
    group = EventGroup(Filter.PERSONAL, (), BOTH)
    box = MailboxId(1)

    def at(messages: int, modseq: int) -> Overview:
        info = MailboxInfo(box, "INBOX", None, False, False, "F1")
        counters = Counters(messages, 0, Uid(9), UidValidity(7), ModSeq(modseq))
        return Overview(MailboxList((info,), ()), {box: counters}, 0)

    picture = AccountPicture(Interest([group]), at(5, 1), None, 10)
    picture.left(box, ModSeq(2))
    assert list(picture.news(at(4, 2), None, False)) == []
    picture.left(box, ModSeq(3))
    (news,) = picture.news(at(3, 4), None, False)
    assert isinstance(news, StatusNews) and news.counters.messages == 3
    assert list(picture.news(at(3, 4), box, False)) == []
    picture.left(box, None)
    assert len(picture.news(at(3, 4), None, False)) == 1
    picture.left(box, ModSeq(4))
    assert list(picture.news(at(3, 4), box, False)) == []
    picture.left(box, None)
    assert len(picture.news(at(3, 4), None, False)) == 1


def test_more_of_new_messages_that_a_search_finds() -> None:
    """UPDATE with data items (section 7): one FETCH for a message, whoever wants it, and before ADDTO."""
    world = ImapWorld()
    client = world.selected()
    client.say(b"a UID SEARCH RETURN (UPDATE (UID ENVELOPE)) SUBJECT boss\r\n")
    client.say(b"b SEARCH RETURN (COUNT UPDATE(RFC822.SIZE)) SUBJECT boss\r\n")
    world.account.deliver(MAIL)
    world.account.deliver(b"Subject: boss\r\n\r\n")
    said = client.say(b"c NOOP\r\n").split(b"\r\n")
    assert said[:2] == [b"* 2 EXISTS", b"* 2 RECENT"]
    assert said[2].startswith(b"* 2 FETCH (UID 2 ENVELOPE (NIL ")
    assert said[2].endswith(b") RFC822.SIZE 17)")
    assert said[3] == b'* ESEARCH (TAG "a") UID ADDTO (0 2)'
    assert said[4] == b'* ESEARCH (TAG "b") ADDTO (0 2)'
    assert said[5:] == [b"c OK done", b""]
    # The client's own message it knows, and one that only comes to match is no new one.
    said = client.say(b"o APPEND INBOX {17+}\r\nSubject: boss\r\n\r\n\r\n")
    assert b"EXISTS" in said and b"ADDTO" in said and b"FETCH" not in said
    client.say(b"d SEARCH RETURN (UPDATE (UID)) FLAGGED\r\n")
    said = client.say(b"e STORE 1 +FLAGS.SILENT (\\Flagged)\r\n").split(b"\r\n")
    assert said == [b'* ESEARCH (TAG "d") ADDTO (0 1)', b"e OK done", b""]
    # With NOTIFY both lists are put together, behind ADDTO (section 5.2).
    client.say(b"f NOTIFY SET (selected (MessageNew (UID) MessageExpunge))\r\n")
    world.account.deliver(b"Subject: boss\r\n\r\n")
    said = client.hear().split(b"\r\n")
    assert said[:2] == [b"* 4 EXISTS", b"* 4 RECENT"]
    assert said[2:4] == [b'* ESEARCH (TAG "a") UID ADDTO (0 4)', b'* ESEARCH (TAG "b") ADDTO (0 4)']
    assert said[4].startswith(b"* 4 FETCH (UID 4 ENVELOPE (")
    assert said[5:] == [b""]


def test_nothing_that_is_not_wanted_slips_into_answers() -> None:
    """After NONE the mailbox is as it was, to searches, threads and copies, too (section 5)."""
    world = ImapWorld()
    for _ in range(2):
        world.account.deliver(MAIL)
    client, other = world.selected(), world.selected()
    client.say(b"a ENABLE QRESYNC\r\nb NOTIFY NONE\r\n")
    world.account.deliver(MAIL)
    other.say(b"a STORE 1 +FLAGS.SILENT (\\Deleted)\r\nb EXPUNGE\r\n")
    world.account.deliver(MAIL)
    assert client.say(b"c UID SEARCH ALL\r\n") == b"* SEARCH 2\r\nc OK done\r\n"
    assert client.say(b"d SORT (ARRIVAL) utf-8 ALL\r\n") == b"* SORT 2\r\nd OK done\r\n"
    assert client.say(b"e THREAD REFERENCES utf-8 ALL\r\n") == b"* THREAD (2)\r\ne OK done\r\n"
    assert client.say(b"f UID FETCH 1:* UID\r\n") == b"* 2 FETCH (UID 2)\r\nf OK done\r\n"
    # What was expunged has to be told now; but up to date the client is not.
    client.say(b"g UID STORE 2 +FLAGS.SILENT (\\Deleted)\r\n")
    assert client.say(b"h EXPUNGE\r\n") == b"* VANISHED 1:2\r\nh OK done\r\n"
    assert client.say(b"i UID THREAD REFERENCES utf-8 ALL\r\n") == b"* THREAD\r\ni OK done\r\n"
    # The other session heard of the first one before, so that is not \Recent here.
    said = client.say(b"j NOTIFY SET (selected (MessageNew MessageExpunge))\r\n")
    assert said == b"* 2 EXISTS\r\n* 1 RECENT\r\nj OK done\r\n"


def test_reading_only() -> None:
    """A secret that allows reading only may watch all the same."""
    world = ImapWorld()
    world.account.read_only = True
    client = watching(world)
    world.account.deliver(MAIL)
    assert client.hear().startswith(b"* STATUS INBOX (MESSAGES 1 ")


def test_a_client_that_does_not_read() -> None:
    """While its buffer is full nothing gathers for it; then it is told how things are (section 9)."""
    world = ImapWorld()
    client = watching(world)
    client.protocol.pauseProducing()
    for _ in range(100):
        world.account.deliver(MAIL)
    assert client.hear().count(b"\r\n") == 1
    client.protocol.resumeProducing()
    assert client.hear() == b"* STATUS INBOX (MESSAGES 100 UIDNEXT 101 UIDVALIDITY 7 UNSEEN 100)\r\n"


def test_compressed_connections_are_told_too() -> None:
    """What comes between commands goes through the compressor like everything else (RFC 4978)."""
    world = ImapWorld()
    client = watching(world)
    assert b"c OK" in client.say(b"c COMPRESS DEFLATE\r\n")
    world.account.deliver(MAIL)
    said = zlib.decompressobj(-15).decompress(client.hear())
    assert said == b"* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7 UNSEEN 1)\r\n"
