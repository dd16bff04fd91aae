"""Sessions: large content, things that go wrong in the middle, endings, what the logs say."""

from __future__ import annotations

import dataclasses
import json
import logging
import zlib
from collections.abc import Awaitable, Callable

import pytest
from twisted.internet.defer import Deferred

from mailstore import errors
from mailstore.model import Delta, Flags, ModSeq, SystemFlag
from protocols.errors import MEANINGS
from protocols.imap.commands.handlers import HANDLERS
from protocols.imap.grammar.table import COMMANDS, Request
from protocols.imap.responses.failures import refusal_of
from protocols.limits import ImapLimits
from tests.memory_mailbox import SelectedMailbox
from tests.wire import Client, ImapWorld

SMALL_BATCHES = dataclasses.replace(
    ImapLimits(), fetch_batch_rows=3, fetch_content_batch_bytes=1000, write_chunk_bytes=500
)


def all_kinds(root: type[errors.StoreError]) -> set[type[errors.StoreError]]:
    """A class and everything below it."""
    return {root}.union(*(all_kinds(kind) for kind in root.__subclasses__()))


def test_every_store_error_has_a_meaning_and_words() -> None:
    """No StoreError is left to chance, and none tells the client more than fixed text."""
    for kind in all_kinds(errors.StoreError):
        assert kind in MEANINGS
        refusal = refusal_of(kind("secret detail"))
        assert refusal.status == b"NO"
        assert refusal.code
        assert b"secret" not in refusal.text


def test_every_request_has_a_handler() -> None:
    """The grammar yields nothing that no handler takes."""
    assert set(HANDLERS) == set(Request.__args__)
    assert COMMANDS


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_large_literals_arrive_whole(size: int) -> None:
    """A message larger than one read comes in pieces that make up exactly the promised length."""
    world = ImapWorld(limits=SMALL_BATCHES)
    data = b"Subject: x\r\n\r\n" + b"a" * size
    for _ in range(4):
        world.account.deliver(data)
    client = world.selected()
    said = client.say(b"a FETCH 1:* BODY.PEEK[]\r\n")
    one = b"FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(data), data)
    assert said == b"".join(b"* %d %b" % (seq, one) for seq in range(1, 5)) + b"a OK done\r\n"


def test_several_sections_of_a_large_message() -> None:
    """Sections that do not fit into one read follow each other in the order asked for."""
    world = ImapWorld(limits=SMALL_BATCHES)
    header, body = b"Subject: x\r\n\r\n", b"b" * 3000
    world.account.deliver(header + body)
    client = world.selected()
    said = client.say(b"a FETCH 1 (BODY.PEEK[TEXT] BODY.PEEK[HEADER] BODY.PEEK[TEXT]<2990.100>)\r\n")
    assert said == (
        b"* 1 FETCH (BODY[TEXT] {3000}\r\n%b BODY[HEADER] {14}\r\n%b"
        b" BODY[TEXT]<2990> {10}\r\nbbbbbbbbbb)\r\na OK done\r\n" % (body, header)
    )


def test_writing_waits_for_a_slow_reader() -> None:
    """While the transport is full nothing more is read from the store."""
    world = ImapWorld(limits=SMALL_BATCHES)
    world.account.deliver(b"Subject: x\r\n\r\n" + b"a" * 100_000)
    client = world.selected()
    client.protocol.pauseProducing()
    said = client.say(b"a FETCH 1 BODY.PEEK[]\r\n")
    assert len(said) < 2000
    for _ in range(200):
        client.protocol.resumeProducing()
        client.protocol.pauseProducing()
        said += client.hear()
        if said.endswith(b"a OK done\r\n"):
            break
    assert said.endswith(b")\r\na OK done\r\n")
    assert len(said) > 100_000


def test_reader_that_takes_nothing_is_cut_off() -> None:
    """A stalled peer does not hold its session for ever."""
    world = ImapWorld()
    client = world.selected()
    client.protocol.pauseProducing()
    client.say(b"a NOOP\r\n")
    world.clock.advance(301)
    assert client.closed
    assert not world.account.sessions


def test_message_that_vanishes_inside_a_literal() -> None:
    """The promised length cannot be kept, so the connection ends without another octet."""
    world = ImapWorld(limits=SMALL_BATCHES)
    world.account.deliver(b"Subject: x\r\n\r\n" + b"a" * 10_000)
    client = world.selected()
    client.protocol.pauseProducing()
    said = client.say(b"a FETCH 1 BODY.PEEK[]\r\n")
    world.account.mailboxes["INBOX"].messages.clear()
    client.protocol.resumeProducing()
    said += client.hear()
    assert client.closed
    assert b"a OK" not in said
    assert b"a NO" not in said
    assert b"BYE" not in said


def test_connection_lost_while_the_store_works() -> None:
    """A client that goes away during a command leaves a released account behind."""
    world = ImapWorld()
    client = world.selected()
    gate = world.hold()
    client.say(b"a NOOP\r\n")
    session = world.account.sessions[0]
    client.hang_up()
    assert session.released
    world.account.hold = None
    gate.callback(None)
    assert not world.account.sessions


def test_internal_error_is_named_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets an id; the log gets the same id and no text of the exception."""
    world = ImapWorld()
    client = world.selected()
    world.account.failure = ValueError("the subject was: hush")
    with caplog.at_level(logging.ERROR):
        said = client.say(b"a NOOP\r\n")
    assert said.startswith(b"a NO [SERVERBUG] internal error (")
    incident = said.rpartition(b"(")[2].rstrip(b")\r\n").decode()
    assert incident in caplog.text
    assert "ValueError" in caplog.text
    assert "hush" not in caplog.text
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"


@pytest.mark.parametrize(
    "error", [errors.StorageFailed("hush"), errors.HeaderTampered("hush"), errors.TooNew("hush")]
)
def test_what_the_operator_has_to_repair_is_said_and_logged(
    error: errors.StoreError, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9051 section 7.1: CONTACTADMIN; the id is in the log, the text of the error is not."""
    world = ImapWorld()
    client = world.selected()
    world.account.failure = error
    with caplog.at_level(logging.ERROR):
        said = client.say(b"a NOOP\r\n")
    assert said.startswith(b"a NO [CONTACTADMIN] server problem; contact the administrator (")
    incident = said.rpartition(b"(")[2].rstrip(b")\r\n").decode()
    assert f"NOOP failed, id {incident}, account {world.account.sessions[0].account_id}: " in caplog.text
    assert "hush" not in caplog.text
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"


def test_an_account_that_somebody_has_hold_of(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 9051 section 7.1: INUSE; nobody has to look at it, so nothing is logged."""
    world = ImapWorld()
    client = world.selected()
    world.account.failure = errors.Busy("busy")
    with caplog.at_level(logging.ERROR):
        assert client.say(b"a NOOP\r\n") == b"a NO [INUSE] the account is in use, try again\r\n"
    assert caplog.text == ""


def test_account_closed_under_a_command() -> None:
    """A session whose account was closed says so and ends."""
    world = ImapWorld()
    client = world.selected()
    world.account.failure = errors.AccountClosed("closed")
    said = client.say(b"a NOOP\r\nb NOOP\r\n")
    text = b"this session has been ended, please log in again"
    assert said == b"a NO [UNAVAILABLE] %b\r\n* BYE %b\r\n" % (text, text)
    assert client.closed


@pytest.mark.parametrize("notify", [b"", b"n NOTIFY SET (selected (MessageNew MessageExpunge))\r\n"])
def test_idle_files_waiting_mail_once_and_then_looks_without_filing(
    monkeypatch: pytest.MonkeyPatch, notify: bytes
) -> None:
    """When it begins, mail may wait that nobody has told of; whoever wakes it has filed what it tells of."""
    looks: list[str] = []

    def noted(name: str) -> Callable[[SelectedMailbox, ModSeq], Awaitable[Delta]]:
        look = getattr(SelectedMailbox, name)

        def noting(mailbox: SelectedMailbox, since: ModSeq) -> Awaitable[Delta]:
            looks.append(name)
            result: Awaitable[Delta] = look(mailbox, since)
            return result

        return noting

    world = ImapWorld()
    client = world.selected()
    if notify:
        assert b"n OK" in client.say(notify)
    for name in ("sync", "news"):
        monkeypatch.setattr(SelectedMailbox, name, noted(name))
    for _ in range(2):  # each IDLE has a beginning
        looks.clear()
        assert client.say(b"a IDLE\r\n").startswith(b"+ idling\r\n")
        assert looks == ["sync"]
        for woken in (1, 2):
            world.account.deliver(b"Subject: x\r\n\r\n")
            assert b" EXISTS\r\n" in client.hear()
            assert looks == ["sync"] + ["news"] * woken
        assert client.say(b"DONE\r\n") == b"a OK done\r\n"


def test_idle_tells_of_new_mail_before_it_is_known_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """To which session a message is ``\\Recent`` takes a transaction, which EXISTS does not wait for."""
    monkeypatch.setattr(SelectedMailbox, "fresh", lambda mailbox, since: mailbox._box.delta(since))
    world = ImapWorld()
    client = world.selected()
    client.say(b"a IDLE\r\n")
    for count in (1, 2):
        decided = world.hold()
        world.account.deliver(b"Subject: x\r\n\r\n")
        assert client.hear() == b"* %d EXISTS\r\n" % count
        world.account.hold = None
        decided.callback(None)
        assert client.hear() == b"* %d RECENT\r\n" % count
    assert client.say(b"DONE\r\n") == b"a OK done\r\n"
    assert b"FLAGS (\\Recent)" in client.say(b"b FETCH 2 FLAGS\r\n")


def test_drain_says_goodbye_to_everyone() -> None:
    """Idle and working sessions get BYE; those that do not finish are cut off at the deadline."""
    world = ImapWorld()
    fresh, idle, stuck = world.connect(), world.selected(), world.selected()
    idle.say(b"a IDLE\r\n")
    world.hold()
    stuck.say(b"b NOOP\r\n")
    done = Deferred.fromCoroutine(world.factory.drain(5))
    bye = b"* BYE server shutting down\r\n"
    assert fresh.hear() == bye
    assert idle.hear() == bye
    logged = world.access_log.entries[-1]
    assert (logged.command, logged.result, logged.failed) == ("IMAP IDLE", "BYE", False)
    assert not stuck.closed
    assert not done.called
    world.clock.advance(5)
    assert stuck.closed
    assert done.called
    assert world.factory.connections == 0
    assert not world.account.sessions


def test_deleted_mailbox_ends_the_session_that_has_it_selected() -> None:
    """RFC 2180 section 3: the other session hears BYE."""
    world = ImapWorld()
    world.account.create("x")
    client, other = world.selected(b"x"), world.logged_in()
    assert other.say(b"a DELETE x\r\n") == b"a OK done\r\n"
    assert client.say(b"a NOOP\r\n").endswith(b"* BYE the selected mailbox was deleted\r\n")
    assert client.closed


def test_access_log_has_its_fields_and_no_arguments() -> None:
    """Each command is one entry; names, secrets and search texts are not in it."""
    world = ImapWorld()
    client = world.logged_in()
    client.say(b'b ID ("name" "mutt" "version" "2.2" "os" "hush")\r\n')
    client.say(b"c SEARCH hush\r\nd SELECT hush\r\ne XHUSH hush\r\n")
    client.say(b"f LOGIN {5000+}\r\n")
    entries = world.access_log.entries
    assert [(one.command, one.result, one.failed) for one in entries] == [
        ("IMAP LOGIN", "OK", False),
        ("IMAP ID", "OK", False),
        ("IMAP SEARCH", "BAD", True),
        ("IMAP SELECT", "NO NONEXISTENT", False),
        ("IMAP ?", "BAD", True),
    ]
    assert {one.user_agent for one in entries[1:]} == {"mutt 2.2"}
    assert entries[3].bytes == len(b"d NO [NONEXISTENT] no such mailbox\r\n")
    assert "hush" not in json.dumps([dataclasses.asdict(one) for one in entries])


def test_the_error_log_has_no_everyday_refusals() -> None:
    """What clients are told every day is nothing for the operator to look at; trouble and mistakes are."""
    world = ImapWorld()
    client = world.connect()
    client.say(
        b"a LOGIN joe wrong\r\nb LOGIN joe secret\r\nc CREATE INBOX\r\nd DELETE INBOX\r\ne CREATE &\r\n"
    )
    client.say(b"f SELECT x\r\ng COPY\r\n")
    world.account.failure = errors.OverQuota("full")
    client.say(b"h SELECT INBOX\r\n")
    world.account.failure = errors.StorageFailed("disk")
    client.say(b"i SELECT INBOX\r\n")
    assert [one.result for one in world.access_log.entries if one.failed] == [
        "NO AUTHENTICATIONFAILED",
        "BAD",
        "NO OVERQUOTA",
        "NO CONTACTADMIN",
    ]
    assert len(world.access_log.entries) == 9


class DeflateClient:
    """A client that has started COMPRESS."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._out = zlib.compressobj(wbits=-15)
        self._in = zlib.decompressobj(-15)

    def say(self, data: bytes) -> bytes:
        """Send ``data`` deflated and return what comes back, inflated."""
        return self.raw(self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH))

    def raw(self, data: bytes) -> bytes:
        """Send octets as they are."""
        return self._in.decompress(self._client.say(data))


def compressed(world: ImapWorld) -> tuple[Client, DeflateClient]:
    """A connection behind COMPRESS."""
    client = world.logged_in()
    assert client.say(b"a COMPRESS DEFLATE\r\n") == b"a OK DEFLATE active\r\n"
    return client, DeflateClient(client)


def test_compress_both_ways() -> None:
    """After COMPRESS everything is deflated, and the capability is gone (RFC 4978 section 3)."""
    world = ImapWorld()
    for _ in range(300):
        world.account.deliver(b"Subject: x\r\n\r\n" + b"hello " * 200)
    _, deflate = compressed(world)
    assert b"COMPRESS" not in deflate.say(b"b CAPABILITY\r\n")
    assert (
        deflate.say(b"c COMPRESS DEFLATE\r\n")
        == b"c NO [COMPRESSIONACTIVE] compression is active already\r\n"
    )
    deflate.say(b"d SELECT INBOX\r\n")
    said = deflate.say(b"e FETCH 1:* BODY[]\r\n")
    assert said.count(b"hello ") == 60_000
    assert said.endswith(b"e OK done\r\n")


def test_compress_byte_by_byte() -> None:
    """The deflate stream may be cut anywhere."""
    _, deflate = compressed(ImapWorld())
    stream = zlib.compressobj(wbits=-15)
    octets = stream.compress(b"b NOOP\r\nc NOOP\r\n") + stream.flush(zlib.Z_SYNC_FLUSH)
    assert (
        b"".join(deflate.raw(octets[at : at + 1]) for at in range(len(octets)))
        == b"b OK done\r\nc OK done\r\n"
    )


def test_row_17_bomb_through_compress() -> None:
    """A few kilobytes that inflate to hundreds of megabytes meet the limit of a line."""
    client, deflate = compressed(ImapWorld())
    stream = zlib.compressobj(9, wbits=-15)
    octets = b"".join(stream.compress(b"x" * 1_000_000) for _ in range(200)) + stream.flush()
    assert len(octets) < 250_000
    said = deflate.raw(octets)
    assert said == b"* BAD line too long\r\n* BYE too many over-long lines\r\n"
    assert client.closed


def test_broken_deflate_stream_ends_the_connection() -> None:
    """What cannot be inflated cannot be understood."""
    client, deflate = compressed(ImapWorld())
    deflate.raw(b"\xff\xff\xff\xff")
    assert client.closed


def test_condstore_seen_is_told_with_modseq() -> None:
    """A \\Seen set by BODY[] is told in the same response (RFC 7162 section 3.2.4)."""
    world = ImapWorld()
    world.account.deliver(b"Subject: x\r\n\r\nhello")
    client = world.selected()
    client.say(b"a ENABLE CONDSTORE\r\n")
    said = client.say(b"b UID FETCH 1 BODY[TEXT]\r\n")
    assert said == (
        b"* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent) MODSEQ (3) BODY[TEXT] {5}\r\nhello)\r\nb OK done\r\n"
    )


def test_large_mailbox_flags() -> None:
    """Ten thousand FLAGS come in order and complete."""
    world = ImapWorld()
    box = world.account.mailboxes["INBOX"]
    for number in range(10_000):
        flags = Flags(SystemFlag(number % 32), ("$a",) if number % 3 else ())
        box.add(world.account.next_id(), b"", flags, 0, box.modseq)  # type: ignore[arg-type]  # plain ids do
    client = world.selected()
    lines = client.say(b"a UID FETCH 1:* (FLAGS)\r\n").splitlines()
    assert len(lines) == 10_001
    assert lines[9_999] == b"* 10000 FETCH (UID 10000 FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Recent))"


@pytest.mark.parametrize("form", [b'"%b"', b"{%d+}\r\n%b"])
def test_id_of_the_size_that_its_rfc_allows_is_taken_before_login(form: bytes) -> None:
    """30 fields with names of 30 octets and values of 1,024 (RFC 2971 section 3.3), quoted or as literals."""

    def string(octets: bytes) -> bytes:
        return form % ((octets,) if form.startswith(b'"') else (len(octets), octets))

    value = b"\\" * 1024
    if form.startswith(b'"'):
        value = value.replace(b"\\", b"\\\\")
    fields = b" ".join(string(b"field-%024d" % at) + b" " + string(value) for at in range(30))
    client = ImapWorld().connect()
    assert client.say(b"a ID (" + fields + b")\r\n").endswith(b"a OK done\r\n")
    # One more is too many, and no reason to hang up.
    said = client.say(b"b ID (" + fields.replace(b"field-%024d" % 29, b"x") + b" x NIL)\r\n")
    assert said.startswith(b"b BAD ")
    assert not client.closed
