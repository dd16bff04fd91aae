"""Fuzz targets of the protocols: a whole session in memory is told any bytes, at once and in pieces.

The first octet chooses how far the session has got and how the stream is cut. The session must not fail
(``session failed`` in the log), must end when its client hangs up, and must leave no account in use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mailstore.model import Pop3Settings
from mailstore.modified_utf7 import decode, encode
from protocols.imap.connection import CommandReceived, Connection, Fatal
from protocols.imap.grammar.table import Parsed, Unparsed, parse_command
from protocols.limits import ImapLimits, LoginLimits
from protocols.sasl import SaslError, decode_response
from protocols.scram import BindingFailed, client_first
from protocols.socketmap.grammar import netstring
from tests.fuzz.target import TRANSCRIPTS, Target, said_in
from tests.unit.https.https_world import OWNER, TOKEN, HttpsWorld, answer_in
from tests.unit.lmtp.lmtp_world import Door, LmtpWorld
from tests.unit.pop3.pop3_world import Pop3World
from tests.unit.sasl.sasl_world import HELLO, SaslWorld, auth, plain
from tests.unit.socketmap.socketmap_world import SocketmapWorld
from tests.wire import Client, ImapWorld

MAX_BYTES = 4096
PIECE_BYTES = 7
STATUSES = {200, 400, 404, 405, 410, 413, 429, 431, 501}
MESSAGE = b"From: a@b.example\r\nSubject: one\r\nMessage-ID: <1@b>\r\n\r\nbody\r\n"
IMAP_LIMITS = ImapLimits()
NO_DELAYS = LoginLimits(list_scram=True, delay_max_s=0.0)


class _Failures(logging.Handler):
    """Turns what a session logs as an error into a failure of the run."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


_failures = _Failures()
logging.getLogger("sealbox").addHandler(_failures)
logging.getLogger("sealbox").propagate = False


def talk(world: Any, client: Client, data: bytes, *, in_pieces: bool) -> bytes:
    """All that the server answers to ``data``; the client hangs up in the end."""
    _failures.seen.clear()
    heard = bytearray()
    step = PIECE_BYTES if in_pieces else len(data) or 1
    for start in range(0, len(data), step):
        heard += client.say(data[start : start + step])
        _let_turns_pass(world, client, heard)
    client.hang_up()
    _let_turns_pass(world, client, heard)
    assert not _failures.seen, _failures.seen
    return bytes(heard)


def _let_turns_pass(world: Any, client: Client, heard: bytearray) -> None:
    while any(call.getTime() <= world.clock.seconds() for call in world.clock.getDelayedCalls()):
        world.clock.advance(0)
        heard += client.hear()


def imap_session(data: bytes) -> None:
    """A session before login, after it, or with a mailbox selected."""
    how, said = data[0] if data else 0, data[1 : MAX_BYTES + 1]
    heard = []
    for in_pieces in (False, True):
        world = ImapWorld(login_limits=NO_DELAYS)
        world.account.deliver(MESSAGE)
        begin: tuple[Callable[[], Client], ...] = (world.connect, world.logged_in, world.selected)
        client = begin[how % len(begin)]()
        heard.append(talk(world, client, said, in_pieces=in_pieces))
        assert all(session.released for session in world.account.sessions)
    if b"NOTIFY" not in said.upper():  # its news come between commands, and so between the pieces
        assert heard[0] == heard[1], "how the stream is cut has changed the answers"


def imap_grammar(data: bytes) -> None:
    """The receiving half and the parser alone: any bytes are events, any command is parsed or refused."""
    how, said = data[0] if data else 0, data[1 : MAX_BYTES + 1]
    connection = Connection(IMAP_LIMITS)
    connection.authenticated = bool(how & 1)
    connection.feed(said)
    while (event := connection.next_event()) is not None:
        if isinstance(event, Fatal):
            return
        if isinstance(event, CommandReceived):
            result = parse_command(event, IMAP_LIMITS, bool(how & 2))
            assert isinstance(result, Parsed | Unparsed)
            if isinstance(result, Unparsed):
                assert b"\r" not in result.refusal.text and result.refusal.text.isascii()


def pop3_session(data: bytes) -> None:
    """A session before or after login, of an account that keeps as much as it can or as little."""
    how, said = data[0] if data else 0, data[1 : MAX_BYTES + 1]
    heard = []
    for in_pieces in (False, True):
        world = Pop3World(MESSAGE, MESSAGE + b".\r\n..\r\n")
        world.guard.limits = NO_DELAYS
        if how & 2:
            world.account.create("Trash")
            world.account.pop3 = Pop3Settings(retr_marks_seen=True, dele_to_trash=True)
        client = world.logged_in() if how & 1 else world.connect()
        heard.append(talk(world, client, said, in_pieces=in_pieces))
        assert all(session.released for session in world.account.sessions)
    assert heard[0] == heard[1], "how the stream is cut has changed the answers"


def lmtp_session(data: bytes) -> None:
    """A session at its beginning, or with an open transaction."""
    how, said = data[0] if data else 0, data[1 : MAX_BYTES + 1]
    heard, kept = [], []
    for in_pieces in (False, True):
        world = LmtpWorld()
        client = world.ready(b"joe@example.org", b"ann@example.org") if how & 1 else world.connect()
        heard.append(talk(world, client, said, in_pieces=in_pieces))
        kept.append([one.message for one in world.store.kept])
        assert world.budget.used_bytes == 0
    if b"STARTTLS" not in said.upper():  # what is pipelined behind it is thrown away
        assert heard[0] == heard[1], "how the stream is cut has changed the answers"
        assert kept[0] == kept[1]


def node_session(data: bytes) -> None:
    """Another node, at the door where passwords are checked, too; nobody but joe gets in."""
    heard = []
    for in_pieces in (False, True):
        world = Door()
        heard.append(talk(world, world.greeted(), data[:MAX_BYTES], in_pieces=in_pieces))
        assert all(session.released for session in world.accounts.accounts[b"joe"].sessions)
    assert heard[0] == heard[1], "how the stream is cut has changed the answers"


def sasl_session(data: bytes) -> None:
    """A client of the authentication service, before or after its handshake; nobody else gets in."""
    how, said = data[0] if data else 0, data[1 : MAX_BYTES + 1]
    heard = []
    for in_pieces in (False, True):
        world = SaslWorld(NO_DELAYS, requests_max=3 + how % 5)
        client = world.ready() if how & 1 else world.connect()
        heard.append(talk(world, client, said, in_pieces=in_pieces))
        assert all(session.released for session in world.account.sessions)
        lines = heard[-1].split(b"\n")
        assert lines.pop() == b"", "an answer without its end"
        assert all(line.split(b"\t")[0] in (b"OK", b"CONT", b"FAIL") for line in lines)
        assert all(line.endswith(b"\tuser=joe") for line in lines if line.startswith(b"OK"))
    assert heard[0] == heard[1], "how the stream is cut has changed the answers"


def https_session(data: bytes) -> None:
    """One request at the HTTPS door: whatever is answered is a whole response."""
    mode, data = (data[0] if data else 0), data[1:MAX_BYTES]
    world = HttpsWorld(NO_DELAYS)
    heard = talk(world, world.connect(), data, in_pieces=mode % 2 == 1)
    if heard:
        assert answer_in(heard.removeprefix(b"HTTP/1.1 100 \r\n\r\n")).status in STATUSES


def socketmap_session(data: bytes) -> None:
    """A mail server that asks who gets mail: each answer is a netstring of a known kind."""
    said = data[:MAX_BYTES]
    heard = []
    for in_pieces in (False, True):
        world = SocketmapWorld()
        heard.append(talk(world, world.connect(), said, in_pieces=in_pieces))
    assert heard[0] == heard[1], "how the stream is cut has changed the answers"
    rest = heard[0]
    while rest:
        length, _, rest = rest.partition(b":")
        answer, rest = rest[: int(length)], rest[int(length) :].removeprefix(b",")
        assert answer.split(b" ")[0] in (b"OK", b"NOTFOUND", b"TEMP", b"PERM")


def words(data: bytes) -> None:
    """Base64 of SASL, SCRAM's first message, and mailbox names on the wire."""
    try:
        client_first(decode_response(data), b"SCRAM-SHA-256", False)
    except (SaslError, BindingFailed):
        pass
    try:
        client_first(data, b"SCRAM-SHA-256-PLUS", True)
    except (SaslError, BindingFailed):
        pass
    try:
        name = decode(data)
    except ValueError:
        return
    assert decode(encode(name)) == name


def _modes(streams: list[bytes], modes: tuple[int, ...]) -> list[bytes]:
    return [bytes((mode,)) + stream for stream in streams for mode in modes]


_IMAP_WORDS = (
    *(
        b"a NOOP\r\n",
        b"a FETCH 1:* (",
        b"BODY.PEEK[",
        b"HEADER.FIELDS (",
        b"]<0.1>",
        b"SEARCH ",
        b"OR ",
        b"NOT ",
    ),
    *(b"UID ", b"RETURN (", b"APPEND INBOX ", b"{3+}\r\nabc", b"~{2+}\r\nab", b"LIST ", b"STORE 1 +FLAGS ("),
    *(b"\\Seen", b"NOTIFY SET (", b"SELECT INBOX", b"THREAD REFS UTF-8 ", b"SORT (", b"IDLE\r\nDONE\r\n"),
    *(b"COMPRESS DEFLATE\r\n", b"CATENATE (URL ", b"METADATA ", b'"', b"(", b")", b"*", b"%", b"&-", b"\r\n"),
    *(b"LITERAL", b"ENABLE ", b"ID (", b"REPLACE 1 ", b"MOVE 1 "),
)
_POP_WORDS = (
    *(
        b"RETR 1\r\n",
        b"TOP 1 ",
        b"LIST\r\n",
        b"UIDL",
        b"DELE 1\r\n",
        b"RSET\r\n",
        b"AUTH PLAIN ",
        b"QUIT\r\n",
    ),
    *(
        b"CAPA\r\n",
        b"USER joe\r\n",
        b"PASS secret\r\n",
        b"LANG",
        b"UTF8",
        b"AUTH\r\n",
        b"AUTH LOGIN am9l\r\n",
    ),
    *(
        b"AUTH SCRAM-SHA-256 biwsbj1qb2Uscj1hYmM=\r\n",
        b"AUTH SCRAM-SHA-256-PLUS =\r\n",
        b"*\r\n",
        b"UIDL 1\r\n",
    ),
)
_LMTP_WORDS = (
    *(b"LHLO x\r\n", b"MAIL FROM:<", b"RCPT TO:<joe@example.org>\r\n", b"DATA\r\n", b"BDAT 3\r\nabc"),
    *(b"BDAT 0 LAST\r\n", b"\r\n.\r\n", b"RSET\r\n", b"SIZE=", b"BODY=8BITMIME", b"SMTPUTF8", b"> "),
    *(b"\n.\r\n", b"\r.\r\n", b"NOOP\r\n", b"VRFY ", b"STARTTLS\r\n", b"QUIT\r\n"),
)

_NODE_WORDS = (
    *(b"AUTH PLAIN ", b"AUTH LOGIN\r\n", plain() + b"\r\n", b"am9l\r\n", b"c2VjcmV0\r\n", b"*\r\n", b"=\r\n"),
    *(b"XCLIENT ADDR=", b"192.0.2.1\r\n", b"IPV6:::1\r\n", b"[UNAVAILABLE]\r\n", b"LHLO x\r\n", b"RSET\r\n"),
    *(b"MAIL FROM:<>\r\n", b"NOOP\r\n", b"QUIT\r\n"),
)
_NODE_SEEDS = [
    b"XCLIENT ADDR=192.0.2.1\r\nLHLO x\r\nAUTH PLAIN " + plain() + b"\r\nMAIL FROM:<>\r\n",
    b"AUTH LOGIN\r\nam9l\r\nc2VjcmV0\r\nAUTH PLAIN\r\n*\r\nXCLIENT ADDR=IPV6:::1\r\n",
]

_SASL_WORDS = (
    *(
        HELLO,
        b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=",
        b"\tsecured",
        b"\tservice=smtp",
        b"\tresp=",
        b"\n",
    ),
    *(plain() + b"\n", b"CONT\t1\t", b"CANCEL\t1\n", b"AUTH\t2\tLOGIN\tservice=smtp\tsecured\n", b"=", b"\t"),
    *(b"CONT\t2\tam9l\n", b"CONT\t2\tc2VjcmV0\n", b"\trip=::1\tlip=::1", b"4294967295", b"\0", b"\r\n"),
)
_SASL_SEEDS = [
    HELLO + auth(1, initial=plain()) + auth(2) + b"CONT\t2\t" + plain() + b"\n",
    auth(1, initial=plain()) + auth(2, mechanism=b"LOGIN") + b"CONT\t2\tam9l\nCONT\t2\tc2VjcmV0\nCANCEL\t2\n",
    b"".join(auth(number) for number in range(9)) + auth(3, initial=plain(secret=b"guess")),
]
_SOCKETMAP_WORDS = (
    *(
        netstring(b"recipients joe@example.org"),
        netstring(b"quota x@example.org"),
        b"senders ",
        b"recipients ",
    ),
    *(b",", b":", b"0:,", b"26:", b"4096:", b"joe@example.org", b" ", b"+x@"),
)

_HTTPS_WORDS = (
    *(b"GET ", b"POST ", b"HEAD ", b" HTTP/1.1\r\n", b"Host: example.org\r\n", b"\r\n\r\n", b"\r\n", b"%40"),
    *(b"/invite/", b"/welcome/", TOKEN.encode(), OWNER.encode(), b"/.well-known/mta-sts.txt", b"as=apple"),
    *(b"/mail/config-v1.1.xml?emailaddress=joe%40example.org", b"/Autodiscover/Autodiscover.xml", b"&again="),
    *(b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"password="),
    *(b"<EMailAddress>joe@example.org</EMailAddress>", b"X-Forwarded-For: 192.0.2.1\r\n", b"5\r\nas=ap\r\n"),
)
_HTTPS_SEEDS = [
    b"GET /mail/config-v1.1.xml HTTP/1.1\r\nHost: autoconfig.example.org\r\n\r\n",
    b"POST /invite/%b HTTP/1.1\r\nHost: example.org\r\nContent-Length: 8\r\n\r\nas=apple" % TOKEN.encode(),
    b"POST /welcome/%b HTTP/1.1\r\nHost: example.org\r\nContent-Length: 34\r\n\r\n"
    b"password=longenough&again=longenough" % OWNER.encode(),
    b"POST /autodiscover/autodiscover.xml HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2c\r\n<EMailAddress>joe@example.org</EMailAddress>\r\n0\r\n\r\n",
]

WIRE_TARGETS = (
    Target("imap_session", imap_session, lambda: _modes(said_in(TRANSCRIPTS), (0, 2)), _IMAP_WORDS),
    Target("imap_grammar", imap_grammar, lambda: _modes(said_in(TRANSCRIPTS), (1, 3)), _IMAP_WORDS),
    Target(
        "pop3_session", pop3_session, lambda: _modes(said_in(TRANSCRIPTS / "pop3"), (0, 1, 3)), _POP_WORDS
    ),
    Target("lmtp_session", lmtp_session, lambda: _modes(said_in(TRANSCRIPTS / "lmtp"), (0, 1)), _LMTP_WORDS),
    Target("node_session", node_session, lambda: _NODE_SEEDS, _NODE_WORDS),
    Target("sasl_session", sasl_session, lambda: _modes(_SASL_SEEDS, (0, 1)), _SASL_WORDS),
    Target(
        "socketmap_session", socketmap_session, lambda: [b"".join(_SOCKETMAP_WORDS[:2])], _SOCKETMAP_WORDS
    ),
    Target("https_session", https_session, lambda: _modes(_HTTPS_SEEDS, (0, 1)), _HTTPS_WORDS),
    Target("words", words, lambda: [b"biwsbj1qb2Uscj1hYmM=", b"n,,n=joe,r=abc", b"Entw&APw-rfe", b"&AOQ-&"]),
)
