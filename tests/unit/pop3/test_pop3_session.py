"""POP3 dialogues against the memory store: exact answers, and what is left in the INBOX."""

from __future__ import annotations

import base64

import pytest
from pop3_world import AFTER_TLS, BEFORE_TLS, GREETING, Pop3World
from twisted.internet.defer import Deferred

from mailstore import errors
from mailstore.errors import StoreError
from protocols.limits import Pop3Limits
from protocols.pop3.context import refusal_of
from tests.wire import TLS, Client

ONE = b"Subject: one\r\n\r\nfirst\r\n.dot\r\n"
TWO = b"Subject: two\n\nbare\n.\nend"
PLAIN = base64.b64encode(b"\0joe\0secret")


def test_a_whole_dialogue() -> None:
    """The dialogue of RFC 1939 section 10, answer by answer."""
    world = Pop3World(ONE, TWO)
    client = world.logged_in()
    assert client.say(b"STAT\r\n") == b"+OK 2 %d\r\n" % (len(ONE) + len(TWO))
    assert client.say(b"LIST\r\n") == b"+OK 2 messages\r\n1 %d\r\n2 %d\r\n.\r\n" % (len(ONE), len(TWO))
    assert client.say(b"LIST 2\r\n") == b"+OK 2 %d\r\n" % len(TWO)
    assert client.say(b"UIDL\r\n") == b"+OK 2 messages\r\n1 M2-6553f100-1\r\n2 M3-6553f100-2\r\n.\r\n"
    assert client.say(b"UIDL 1\r\n") == b"+OK 1 M2-6553f100-1\r\n"
    assert client.say(b"RETR 1\r\n") == (
        b"+OK %d octets\r\nSubject: one\r\n\r\nfirst\r\n..dot\r\n.\r\n" % len(ONE)
    )
    assert client.say(b"DELE 1\r\n") == b"+OK marked for deletion\r\n"
    assert client.say(b"RETR 1\r\n") == b"-ERR no such message\r\n"
    assert client.say(b"DELE 1\r\n") == b"-ERR no such message\r\n"
    assert client.say(b"LIST\r\n") == b"+OK 1 messages\r\n2 %d\r\n.\r\n" % len(TWO)
    assert world.stored == [ONE, TWO]
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert client.closed and world.stored == [TWO]
    assert not world.account.sessions


def test_lines_leave_with_crlf() -> None:
    """Bare LF goes out as CRLF, dots are stuffed, the missing last CRLF is added; sizes are as stored."""
    client = Pop3World(TWO).logged_in()
    assert client.say(b"RETR 1\r\n") == (
        b"+OK %d octets\r\nSubject: two\r\n\r\nbare\r\n..\r\nend\r\n.\r\n" % len(TWO)
    )


def test_top_sends_header_and_lines() -> None:
    """TOP n 0 is the header with its empty line; more lines than there are is all."""
    client = Pop3World(ONE, b"Subject: only header").logged_in()
    assert client.say(b"TOP 1 0\r\n") == b"+OK\r\nSubject: one\r\n\r\n.\r\n"
    assert client.say(b"TOP 1 1\r\n") == b"+OK\r\nSubject: one\r\n\r\nfirst\r\n.\r\n"
    assert client.say(b"TOP 1 99\r\n") == b"+OK\r\nSubject: one\r\n\r\nfirst\r\n..dot\r\n.\r\n"
    assert client.say(b"TOP 2 0\r\n") == b"+OK\r\nSubject: only header\r\n.\r\n"


def test_rset_and_a_lost_connection_delete_nothing() -> None:
    """Only QUIT deletes (RFC 1939 section 6)."""
    world = Pop3World(ONE, TWO)
    client = world.logged_in()
    client.say(b"DELE 1\r\nDELE 2\r\n")
    assert client.say(b"RSET\r\n") == b"+OK 2 messages\r\n"
    client.say(b"DELE 1\r\n")
    client.hang_up()
    assert world.stored == [ONE, TWO] and not world.account.sessions
    client = world.logged_in()
    client.say(b"DELE 1\r\n")
    world.clock.advance(world.limits.idle_timeout_s)
    assert client.hear() == b"" and client.closed
    assert world.stored == [ONE, TWO]


def test_quit_that_fails_says_so() -> None:
    """Nothing was removed, and the client hears it (RFC 1939 section 6, RFC 3206)."""
    world = Pop3World(ONE)
    client = world.logged_in()
    client.say(b"DELE 1\r\n")
    world.account.failure = errors.StorageFull("full")
    assert client.say(b"QUIT\r\n") == b"-ERR [SYS/TEMP] no message was removed\r\n"
    assert client.closed and world.stored == [ONE]


def test_numbers_stay_while_others_work() -> None:
    """New mail is not seen, expunged mail answers -ERR, numbers stay."""
    world = Pop3World(ONE, TWO)
    client = world.logged_in()
    box = world.account.mailboxes["INBOX"]
    world.account.deliver(b"new\r\n")
    box.remove([1], box.bump())
    assert client.say(b"STAT\r\n") == b"+OK 2 %d\r\n" % (len(ONE) + len(TWO))
    assert client.say(b"RETR 1\r\n") == b"-ERR the message is gone\r\n"
    assert client.say(b"UIDL 2\r\n") == b"+OK 2 M3-6553f100-2\r\n"
    client.say(b"DELE 1\r\nDELE 2\r\n")
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert world.stored == [b"new\r\n"]


def test_large_messages_are_sent_piece_by_piece() -> None:
    """Chunk borders inside CRLF and dots do not show; a reader that stalls stops the reading."""
    message = b"Subject: x\r\n\r\n" + b"\r\n..\n.\r" * 40
    whole = Pop3World(message).logged_in().say(b"RETR 1\r\n")
    for size in (1, 2, 3, 7):
        world = Pop3World(message, retr_chunk_bytes=size, write_chunk_bytes=16)
        assert world.logged_in().say(b"RETR 1\r\n") == whole
    world = Pop3World(message, retr_chunk_bytes=8, write_chunk_bytes=16)
    client = world.logged_in()
    client.protocol.pauseProducing()
    first = client.say(b"RETR 1\r\n")
    assert 0 < len(first) <= 64 and whole.startswith(first)
    client.protocol.resumeProducing()
    assert first + client.hear() == whole


def test_a_message_that_vanishes_half_way_ends_the_connection() -> None:
    """The end of data is never sent behind half a message."""
    world = Pop3World(ONE * 20, retr_chunk_bytes=8, write_chunk_bytes=16)
    client = world.logged_in()
    client.protocol.pauseProducing()
    client.say(b"RETR 1\r\n")
    box = world.account.mailboxes["INBOX"]
    box.remove([1], box.bump())
    client.protocol.resumeProducing()
    assert b"\r\n.\r\n" not in client.hear() and client.closed


def test_capabilities_in_every_state() -> None:
    """CAPA lists what works: STLS before TLS, USER and SASL only behind it."""
    plain = Pop3World(implicit_tls=False).connect()
    assert plain.say(b"CAPA\r\n") == BEFORE_TLS
    assert plain.say(b"STLS\r\n") == b"+OK begin TLS now\r\n"
    assert plain.say(b"CAPA\r\n") == AFTER_TLS
    assert Pop3World().logged_in().say(b"CAPA\r\n") == AFTER_TLS


def test_nothing_but_stls_before_tls() -> None:
    """No name or secret is taken in clear."""
    world = Pop3World(implicit_tls=False, bad_commands_before_login_max=50)
    client = world.connect()
    for line in (b"USER joe", b"PASS secret", b"AUTH PLAIN " + PLAIN, b"STAT", b"NOOP", b"UTF8", b"LANG"):
        assert client.say(line + b"\r\n") == b"-ERR use STLS first\r\n"
    assert world.store.logins == 0
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n" and client.closed


def test_stls_throws_away_what_was_pipelined() -> None:
    """Plaintext behind STLS is gone (RFC 2595 section 4, CVE-2021-33515)."""
    world = Pop3World(implicit_tls=False)
    client = world.connect()
    assert client.say(b"STLS\r\nUSER joe\r\nPASS secret\r\n") == b"+OK begin TLS now\r\n"
    assert client.transport.tls is TLS
    assert client.say(b"PASS secret\r\n") == b"-ERR USER first\r\n"
    assert client.say(b"STLS\r\n") == b"-ERR TLS is active already\r\n"


def test_logins() -> None:
    """PLAIN with and without initial response, and aborted (RFC 5034)."""
    world = Pop3World(ONE)
    assert world.connect().say(b"AUTH PLAIN " + PLAIN + b"\r\n") == b"+OK 1 messages\r\n"
    client = world.connect()
    assert client.say(b"AUTH PLAIN\r\n") == b"+ \r\n"
    assert client.say(PLAIN + b"\r\n") == b"+OK 1 messages\r\n"
    client = world.connect()
    client.say(b"AUTH PLAIN\r\n")
    assert client.say(b"*\r\n") == b"-ERR authentication aborted\r\n"
    assert client.say(b"AUTH PLAIN !\r\n") == b"-ERR SASL response is not base64\r\n"
    assert client.say(b"AUTH CRAM-MD5\r\n") == b"-ERR mechanism not supported\r\n"
    assert client.say(b"AUTH PLAIN =\r\n") == b"-ERR malformed PLAIN response\r\n"
    assert client.say(b"AUTH PLAIN\r\n" + PLAIN + b"\r\nSTAT\r\n") == (
        b"+ \r\n+OK 1 messages\r\n+OK 1 %d\r\n" % len(ONE)
    )


def test_all_failed_logins_look_the_same() -> None:
    """Unknown name and wrong secret get one answer; too many end the connection."""
    world = Pop3World()
    client = world.connect()
    failed = b"-ERR [AUTH] wrong name or secret\r\n"
    assert client.say(b"USER nobody\r\nPASS secret\r\n") == b"+OK send PASS\r\n" + failed
    assert client.say(b"USER joe\r\nPASS wrong\r\n") == b"+OK send PASS\r\n" + failed
    assert client.say(b"PASS secret\r\n") == b"-ERR USER first\r\n"
    for _ in range(3):
        client.say(b"USER joe\r\nPASS wrong\r\n")
        world.clock.advance(60)
    assert client.closed


def test_a_maildrop_that_cannot_be_opened_releases_the_account() -> None:
    """The failure is temporary and no session stays behind."""
    world = Pop3World()
    client = world.connect()
    world.account.failure = errors.Busy("busy")
    assert (
        client.say(b"AUTH PLAIN " + PLAIN + b"\r\n") == b"-ERR [IN-USE] the maildrop is in use, try again\r\n"
    )
    assert not world.account.sessions
    assert client.say(b"AUTH PLAIN " + PLAIN + b"\r\n") == b"+OK 0 messages\r\n"


def test_a_read_only_secret_cannot_delete() -> None:
    """DELE is refused at once, not only at QUIT."""
    world = Pop3World(ONE)
    world.account.read_only = True
    client = world.logged_in()
    assert client.say(b"DELE 1\r\n") == b"-ERR only reading is allowed\r\n"
    assert client.say(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert world.stored == [ONE]


def test_a_closed_account_ends_the_session_in_silence() -> None:
    """A revoked key: no word, no deletion."""
    world = Pop3World(ONE)
    client = world.logged_in()
    client.say(b"DELE 1\r\n")
    world.account.close_sessions()
    assert client.hear() == b"" and client.closed
    assert world.stored == [ONE]


def test_a_dialogue_byte_by_byte() -> None:
    """The answers do not depend on how the octets arrive; a bare LF ends a line too."""
    script = b"USER joe\nPASS secret\r\nUIDL\r\nTOP 1 0\r\nDELE 1\r\nQUIT\r\n"
    whole = Pop3World(ONE).connect().say(script)
    client = Pop3World(ONE).connect()
    assert b"".join(client.say(bytes([one])) for one in script) == whole
    assert whole.endswith(b"+OK marked for deletion\r\n+OK goodbye\r\n")


def test_languages() -> None:
    """LANG and UTF8 (RFC 6856): English is all there is."""
    client = Pop3World().connect()
    assert client.say(b"UTF8\r\n") == b"+OK UTF8\r\n"
    assert client.say(b"LANG\r\n") == b"+OK languages\r\nen English\r\n.\r\n"
    assert client.say(b"LANG en-GB\r\n") == b"+OK en English selected\r\n"
    assert client.say(b"LANG de\r\n") == b"-ERR no such language\r\n"


def test_bad_commands_in_a_row_end_the_connection() -> None:
    """Few before login, more behind it; a good command starts the count afresh."""
    client = Pop3World(bad_commands_before_login_max=3).connect()
    client.say(b"FOO\r\nSTAT\r\nCAPA\r\nAPOP joe x\r\nUSER\r\n")
    assert not client.closed
    assert client.say(b"\r\n") == b"-ERR unknown command\r\n" and client.closed


def test_long_lines_and_foreign_protocols() -> None:
    """An over-long line is refused and skipped; HTTP and TLS end the connection."""
    world = Pop3World()
    client = world.logged_in()
    assert client.say(b"NOOP " + b"x" * 600) == b"-ERR line too long\r\n"
    assert client.say(b"xx" * 600) == b""
    assert client.say(b"xx\r\nNOOP\r\n") == b"+OK done\r\n"
    for hello in (b"GET / HTTP/1.1\r\nQUIT\r\n", b"\x16\x03\x01\x00", b"EHLO x\r\n"):
        client = world.connect()
        assert client.say(hello) == b"-ERR this is a POP3 server\r\n" and client.closed


def test_time_before_login_is_limited() -> None:
    """Trickling octets do not move the deadline."""
    world = Pop3World()
    client = world.connect()
    world.clock.advance(world.limits.login_timeout_s - 1)
    client.say(b"C")
    world.clock.advance(1)
    assert client.closed and client.hear() == b""


def test_a_flood_before_login_does_not_move_the_deadline() -> None:
    """Commands that never leave the server waiting count as little as trickling octets."""
    world = Pop3World()
    client = world.connect()
    client.protocol.pauseProducing()
    client.say(b"CAPA\r\n")
    client.say(b"CAPA\r\n")
    world.clock.advance(world.limits.login_timeout_s + 1)
    client.protocol.resumeProducing()
    assert client.hear() == b"" and client.closed


def test_crowds_are_turned_away() -> None:
    """One connection too many is told to come back."""
    world = Pop3World(connections_max=1)
    world.connect()
    second = Client(world.factory)
    assert second.hear() == b"-ERR [SYS/TEMP] too many connections, try again later\r\n" and second.closed


def test_draining_lets_the_running_command_finish() -> None:
    """A QUIT that removes mail is answered before the connection ends."""
    world = Pop3World(ONE)
    client = world.logged_in()
    client.say(b"DELE 1\r\n")
    world.account.hold = Deferred()
    assert client.say(b"QUIT\r\n") == b""
    drained = Deferred.fromCoroutine(world.factory.drain(5.0))
    world.account.hold.callback(None)
    assert client.hear() == b"+OK goodbye\r\n" and client.closed and drained.called
    assert world.stored == []


def test_a_bug_is_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown exception becomes a fixed text, and the session goes on; the log names the account."""
    world = Pop3World(ONE)
    client = world.logged_in()
    world.account.failure = ValueError("secret text")
    assert client.say(b"RETR 1\r\n") == b"-ERR [SYS/PERM] internal error\r\n"
    assert client.say(b"NOOP\r\n") == b"+OK done\r\n"
    assert f", account {world.account.sessions[0].account_id}: ValueError at " in caplog.text
    assert "secret text" not in caplog.text


def test_the_access_log_has_commands_and_no_arguments() -> None:
    """Time, address, command, bytes and result only."""
    world = Pop3World(ONE)
    client = world.connect()
    client.say(
        b"USER joe\r\nPASS wrong\r\nUSER joe\r\nPASS secret\r\nRETR 1\r\nRETR 2\r\nFOO bar\r\nQUIT\r\n"
    )
    said = [(one.command, one.result, one.failed) for one in world.access_log.entries]
    assert said == [
        ("POP3 USER", "+OK", False),
        ("POP3 PASS", "-ERR AUTH", True),
        ("POP3 USER", "+OK", False),
        ("POP3 PASS", "+OK", False),
        ("POP3 RETR", "+OK", False),
        ("POP3 RETR", "-ERR", False),
        ("POP3 ?", "-ERR", True),
        ("POP3 QUIT", "+OK", False),
    ]
    assert world.access_log.entries[4].bytes > len(ONE)
    assert "joe" not in repr(world.access_log.entries)


def all_errors(kind: type[StoreError] = StoreError) -> list[type[StoreError]]:
    """The whole tree."""
    return [kind, *(one for below in kind.__subclasses__() for one in all_errors(below))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_store_error_has_an_answer(kind: type[StoreError]) -> None:
    """The texts are fixed; failed logins are [AUTH] and nothing else is."""
    refusal = refusal_of(kind("secret text"))
    assert b"secret text" not in refusal.wire
    login = issubclass(kind, errors.AuthenticationFailed | errors.NoSuchAccount)
    assert (refusal.code == b"AUTH") == login


def test_limits_follow_the_rfcs() -> None:
    """RFC 2449 section 4: 255 octets a line; RFC 1939 section 3: ten minutes at least."""
    limits = Pop3Limits()
    assert limits.line_max_bytes >= 255 and limits.idle_timeout_s >= 600
    assert GREETING.startswith(b"+OK")
