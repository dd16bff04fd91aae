"""Every bound on what a client may send: what just fits is taken, one more is refused, nothing is harmed."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass

import pytest

from protocols.imap.compress import CompressedChannel
from protocols.limits import ImapLimits, LoginLimits
from tests.wire import Client, ImapWorld

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@dataclass(frozen=True)
class Case:
    """``fits`` and ``beyond`` are the arguments of one command; ``answer`` begins what ``beyond`` is told."""

    limit: str
    most: int
    command: bytes
    fits: bytes
    beyond: bytes
    answer: bytes
    fitting: bytes = b"OK"
    before_login: bool = False

    def __str__(self) -> str:
        return f"{self.limit} {self.command.decode().split('%')[0]}"


def literals(*sizes: int) -> bytes:
    """As many strings in non-synchronizing literals."""
    return b" ".join(b"{%d+}\r\n%b" % (size, b"x" * size) for size in sizes)


LIMIT = b"BAD [LIMIT] "
ENTRY = b"/private/comment"

CASES = [
    # A line counts up to its LF.
    Case("line_max_bytes", 100, b"SEARCH SUBJECT %b", b"x" * 82, b"x" * 83, b"BAD "),
    Case(
        "line_before_login_max_bytes", 100, b"LOGIN joe %b", b"x" * 87, b"x" * 88, b"BAD ", b"NO [AUTH", True
    ),
    Case("literal_max_bytes", 10, b"SEARCH SUBJECT %b", literals(10), literals(11), b"NO "),
    Case(
        "literal_before_login_max_bytes",
        10,
        b"LOGIN joe %b",
        literals(10),
        literals(11),
        b"NO ",
        b"NO [AUTH",
        True,
    ),
    Case(
        "literals_total_max_bytes", 20, b"RENAME %b", literals(9, 11), literals(10, 11), b"NO ", b"NO [NONEX"
    ),
    Case(
        "literals_total_before_login_max_bytes",
        20,
        b"LOGIN %b",
        literals(9, 11),
        literals(10, 11),
        b"NO ",
        b"NO [AUTH",
        True,
    ),
    Case(
        "literals_per_command_max",
        2,
        b"SEARCH %b",
        b"SUBJECT {1+}\r\nx BODY {1+}\r\nx",
        b"SUBJECT {1+}\r\nx BODY {1+}\r\nx BODY {1+}\r\nx",
        b"NO ",
    ),
    Case("append_max_bytes", 20, b"APPEND INBOX %b", literals(20), literals(21), b"NO "),
    Case(
        "append_messages_max",
        2,
        b"APPEND INBOX %b",
        literals(5, 5),
        literals(5, 5, 5),
        b"NO [MESSAGELIMIT 2] ",
    ),
    Case("nesting_max_depth", 3, b"SEARCH %b", b"(((ALL)))", b"((((ALL))))", b"BAD "),
    Case("nesting_max_depth", 3, b"SEARCH %b", b"NOT NOT NOT ALL", b"NOT NOT NOT NOT ALL", b"BAD "),
    Case("nesting_max_depth", 3, b"SEARCH %b", b"OR OR OR 1 1 1 1", b"OR OR OR OR 1 1 1 1 1", b"BAD "),
    Case("nesting_max_depth", 2, b"SEARCH %b", b"(ALL) NOT ALL (NOT ALL) (ALL)", b"(NOT (ALL))", b"BAD "),
    Case("search_keys_max", 3, b"SEARCH %b", b"ALL SEEN OLD", b"ALL SEEN OLD NEW", LIMIT),
    Case("search_ranges_max", 3, b"SEARCH %b", b"1,2 UID 3", b"1,2 UID 3:4,5", LIMIT),
    Case("search_names_max", 2, b"ESEARCH IN (mailboxes %b) ALL", b"(a b)", b"(a b c)", LIMIT),
    Case("sequence_ranges_max", 3, b"FETCH %b UID", b"1,1,1", b"1,1,1,1", b"BAD "),
    Case("list_items_max", 3, b"STORE 1 FLAGS (%b)", b"a b c", b"a b c d", b"BAD "),
    Case("list_items_max", 3, b"STORE 1 FLAGS %b", b"a b c", b"a b c d", b"BAD "),
    Case("list_items_max", 3, b"FETCH 1 (%b)", b"UID FLAGS UID", b"UID FLAGS UID UID", b"BAD "),
    Case("list_items_max", 3, b"FETCH 1 BODY.PEEK[HEADER.FIELDS (%b)]", b"a b c", b"a b c d", b"BAD "),
    Case("list_items_max", 3, b"ENABLE %b", b"X1 X2 X3", b"X1 X2 X3 X4", b"BAD "),
    Case("list_items_max", 3, b"CANCELUPDATE %b", b'"x" "y" "z"', b'"x" "y" "z" "u"', b"BAD "),
    Case(
        "list_items_max",
        3,
        b"STATUS INBOX (%b)",
        b"UNSEEN UIDNEXT UNSEEN",
        b"UNSEEN UIDNEXT UNSEEN UNSEEN",
        b"BAD ",
    ),
    Case("list_patterns_max_chars", 5, b'LIST "" %b', b"abcd*", b"abcde*", b"NO [LIMIT] "),
    Case("list_patterns_max_chars", 5, b'LIST "" (%b)', b"a* bc*", b"ab* bc*", b"NO [LIMIT] "),
    Case("list_patterns_max_chars", 5, b"LIST %b", b"ab cd*", b"abc cd*", b"NO [LIMIT] "),
    Case(
        "notify_groups_max",
        1,
        b"NOTIFY SET %b",
        b"(inboxes NONE)",
        b"(inboxes NONE) (personal NONE)",
        b"NO [NOTIF",
    ),
    Case(
        "notify_names_max",
        2,
        b"NOTIFY SET %b",
        b"(mailboxes a NONE) (mailboxes b NONE)",
        b"(mailboxes (a c) NONE) (mailboxes b NONE)",
        b"NO [NOTIFICATIONOVERFLOW] ",
    ),
    Case(
        "url_max_bytes",
        9,
        b"APPEND INBOX CATENATE (URL %b)",
        b"/x;UID=12",
        b"/x;UID=123",
        b"BAD ",
        b"NO [BADURL",
    ),
    Case(
        "binary_items_max",
        2,
        b"FETCH 1 (%b)",
        b"BINARY.SIZE[1] BINARY.PEEK[1]",
        b"BINARY.SIZE[1] BINARY.PEEK[1] BINARY[1]",
        b"BAD ",
    ),
    Case("metadata_entry_max_bytes", 16, b"GETMETADATA INBOX %b", ENTRY, ENTRY + b"s", b"BAD "),
    Case(
        "metadata_value_max_bytes",
        5,
        b"SETMETADATA INBOX (/private/comment %b)",
        b'"12345"',
        b'"123456"',
        b"NO [METADATA MAXSIZE 5] ",
    ),
    Case("mailbox_name_max_bytes", 5, b"CREATE %b", b"abcde", b"abcdef", b"NO [CANNOT] "),
    Case("mailbox_name_max_bytes", 5, b'LIST "" %b', b"abcd*", b"abcde*", b"NO [CANNOT] "),
    Case("keyword_max_bytes", 5, b"STORE 1 +FLAGS %b", b"abcde", b"abcdef", b"BAD "),
    Case("id_fields_max", 2, b"ID (%b)", b'"a" "1" "b" NIL', b'"a" "1" "b" "2" "c" NIL', b"BAD "),
    Case("id_value_max_bytes", 3, b"ID (%b)", b'"name" "abc"', b'"name" "abcd"', b"BAD "),
]


def limited(limit: str, most: int) -> ImapWorld:
    """A world in which everything but one thing is as always."""
    world = ImapWorld(dataclasses.replace(ImapLimits(), **{limit: most}))
    for _ in range(5):
        world.account.deliver(MESSAGE)
    return world


def begun(world: ImapWorld, case: Case) -> Client:
    """A client that may give the command."""
    return world.connect() if case.before_login else world.selected()


def answer(client: Client, line: bytes) -> bytes:
    """What is said to a command in the end, without its tag."""
    said = client.say(b"a " + line + b"\r\n")
    return said[said.rindex(b"\r\na ", 0) + 4 :] if b"\r\na " in said else said.removeprefix(b"a ")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_just_fits_is_taken_and_one_more_is_not(case: Case) -> None:
    """And what was refused harms nothing: the next command is answered."""
    world = limited(case.limit, case.most)
    client = begun(world, case)
    assert answer(client, case.command.replace(b"%b", case.fits)).startswith(case.fitting)
    refused = answer(client, case.command.replace(b"%b", case.beyond))
    assert refused.startswith(case.answer) and not refused.startswith(case.fitting)
    assert client.say(b"n NOOP\r\n").endswith(b"n OK done\r\n")


def test_all_messages_of_one_append_have_a_bound_together() -> None:
    """Each of them may be as large as any."""
    limits = ImapLimits(append_max_bytes=20, append_total_max_bytes=30, literals_total_max_bytes=0)
    client = ImapWorld(limits).logged_in()
    assert answer(client, b"APPEND INBOX " + literals(20, 10)).startswith(b"OK ")
    assert answer(client, b"APPEND INBOX " + literals(20, 11)).startswith(b"NO ")


def test_as_many_searches_are_kept_up_to_date() -> None:
    """One more is done, and its client told that it is not kept (RFC 5267 section 4.3.1)."""
    client = limited("live_searches_max", 2).selected()
    asked = (
        b"SEARCH RETURN (UPDATE) ALL",
        b"SORT RETURN (UPDATE) (TO) UTF-8 ALL",
        b"SEARCH RETURN (UPDATE) ALL",
    )
    said = [client.say(b"%d %b\r\n" % pair) for pair in enumerate(asked)]
    assert [b"NOUPDATE" in one for one in said] == [False, False, True]
    assert b"NOUPDATE" in client.say(b"3 UID SORT RETURN (UPDATE) (TO) UTF-8 ALL\r\n")
    assert all(b" OK " in one for one in said)


@pytest.mark.parametrize(
    ("limit", "bad"),
    [
        ("bad_commands_max", b"a NONSENSE\r\n"),
        ("bad_commands_before_login_max", b"a NONSENSE\r\n"),
        ("long_lines_max", b"a NOOP " + b"x" * 70_000 + b"\r\n"),
    ],
)
def test_the_last_mistake_ends_the_connection(limit: str, bad: bytes) -> None:
    """Not one before: BAD answers count where they come in a row, over-long lines all of them."""
    world = limited(limit, 3)
    client = world.connect() if "before" in limit else world.logged_in()
    tolerated = 3 if limit == "long_lines_max" else 2
    for _ in range(tolerated):
        client.say(bad)
    assert not client.closed
    if limit != "long_lines_max":
        client.say(b"n NOOP\r\n")
        for _ in range(tolerated):
            client.say(bad)
        assert not client.closed
    assert b"* BYE " in client.say(bad)
    assert client.closed


def test_the_last_wrong_password_ends_the_connection() -> None:
    """Not one before."""
    client = ImapWorld(login_limits=LoginLimits(attempts_per_connection_max=2, free_failures=9)).connect()
    assert client.say(b"a LOGIN joe wrong\r\n").startswith(b"a NO ")
    assert not client.closed
    assert b"* BYE " in client.say(b"b LOGIN joe wrong\r\n")
    assert client.closed


def test_refused_input_is_swallowed_to_a_bound() -> None:
    """So that the session stays in step; who sends more is cut off."""
    for size, closed in ((30, False), (31, True)):
        world = ImapWorld(ImapLimits(literal_max_bytes=10, swallow_max_bytes=30))
        client = world.logged_in()
        client.say(b"a SEARCH SUBJECT {%d+}\r\n" % size + b"x" * size + b"\r\n")
        assert client.closed is closed


def test_decompressed_input_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small it was on the wire, no more than one piece of it is in memory at a time."""
    client = limited("inflate_chunk_bytes", 100).logged_in()
    assert b"OK" in client.say(b"c COMPRESS DEFLATE\r\n")
    pieces: list[int] = []
    read = CompressedChannel.read

    async def noted(self: CompressedChannel, timeout_s: float) -> bytes | None:
        piece = await read(self, timeout_s)
        pieces.append(len(piece or b""))
        return piece

    monkeypatch.setattr(CompressedChannel, "read", noted)
    deflate = zlib.compressobj(wbits=-15)
    client.say(deflate.compress(b"a NOOP\r\n" * 100) + deflate.flush(zlib.Z_SYNC_FLUSH))
    assert max(pieces) == 100 and len(pieces) >= 7
