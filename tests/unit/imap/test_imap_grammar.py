"""The grammar: every command to its request."""

from __future__ import annotations

from datetime import date

import pytest

from mailstore import search as key
from mailstore.mime.section import SectionKind, SectionSpec
from mailstore.model import (
    Flags,
    ModSeq,
    SectionRead,
    SortBy,
    SortKey,
    SpecialUse,
    StoreMode,
    SystemFlag,
    ThreadAlgorithm,
    UidValidity,
)
from mailstore.uidset import STAR, UidSet
from protocols.imap.grammar.append import Append, AppendMessage, Replace, Url
from protocols.imap.grammar.fetch import Fetch, FetchItem, FetchSection, SectionForm
from protocols.imap.grammar.mailbox import (
    Create,
    Delete,
    GetQuota,
    GetQuotaRoot,
    List,
    ListReturn,
    ListSelection,
    Lsub,
    Rename,
    SetQuota,
    Status,
    StatusItem,
    Subscribe,
    Unsubscribe,
)
from protocols.imap.grammar.messages import Copy, Expunge, Move, Store, UidBatches
from protocols.imap.grammar.metadata import Depth, GetMetadata, SetMetadata
from protocols.imap.grammar.notify import Notify
from protocols.imap.grammar.page import Page
from protocols.imap.grammar.rights import ChangeAcl, GetAcl, ListRights, MyRights
from protocols.imap.grammar.search import (
    CancelUpdate,
    MultiSearch,
    RefusedSearch,
    Search,
    SearchReturn,
    Source,
    Sources,
    Thread,
)
from protocols.imap.grammar.search_keys import SUGGESTED_CHARSETS
from protocols.imap.grammar.select import Close, Resync, Select, Unselect
from protocols.imap.grammar.session import (
    Authenticate,
    Capability,
    Check,
    Compress,
    Enable,
    Identify,
    Idle,
    Login,
    Logout,
    Namespace,
    Noop,
    StartTls,
    Unauthenticate,
)
from protocols.imap.grammar.table import COMMANDS, Parsed, Request, Unparsed
from tests.unit.imap.grammar_world import numbers, parse

ONE = numbers((1, 1))
REQUESTS: dict[bytes, Request] = {
    b"CAPABILITY": Capability(),
    b"noop": Noop(),
    b"LOGOUT": Logout(),
    b"NOTIFY none": Notify(),
    b"STARTTLS": StartTls(),
    b"AUTHENTICATE plain": Authenticate(b"PLAIN"),
    b"AUTHENTICATE PLAIN AGEAYg==": Authenticate(b"PLAIN", b"AGEAYg=="),
    b"AUTHENTICATE PLAIN =": Authenticate(b"PLAIN", b""),
    b'LOGIN joe "p\\"w"': Login(b"joe", b'p"w'),
    b'LOGIN {4+}\r\na"\xe9b {1+}\r\n%': Login(b'a"\xe9b', b"%"),
    b"ID NIL": Identify(None),
    b"ID ()": Identify(()),
    b'ID ("Name" "x" "os" NIL)': Identify(((b"name", b"x"), (b"os", None))),
    b"ENABLE condstore X": Enable((b"CONDSTORE", b"X")),
    b"SELECT inbox": Select("INBOX"),
    b'SELECT "inbox/a"': Select("INBOX/a"),
    b"SELECT x (CONDSTORE)": Select("x", condstore=True),
    b"EXAMINE x (CONDSTORE QRESYNC (7 12))": Select("x", True, True, Resync(UidValidity(7), ModSeq(12))),
    b"SELECT x (QRESYNC (7 12 1:3,9 (1:2 5,9)))": Select(
        "x", False, True, Resync(UidValidity(7), ModSeq(12), UidSet.of((1, 2, 3, 9)), by_number=True)
    ),
    b"UID FETCH 1 (SAVEDATE EMAILID) (CHANGEDSINCE 5 VANISHED)": Fetch(
        ONE, (FetchItem.SAVEDATE, FetchItem.EMAILID), ModSeq(5), by_uid=True, vanished=True
    ),
    b"EXAMINE &AOk-": Select("é", read_only=True),
    b"CREATE a/b/": Create("a/b"),
    b"CREATE a (USE (\\Sent))": Create("a", (SpecialUse.SENT,)),
    b"DELETE a": Delete("a"),
    b"RENAME a b": Rename("a", "b"),
    b"SUBSCRIBE a]": Subscribe("a]"),
    b"UNSUBSCRIBE a": Unsubscribe("a"),
    b'LIST "" *': List("", ("*",)),
    b'LIST "" ""': List("", ("",)),
    b'LIST () "" (a% "b c")': List("", ("a%", "b c"), extended=True),
    b'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (CHILDREN STATUS (MESSAGES SIZE))': List(
        "",
        ("%",),
        frozenset({ListSelection.SUBSCRIBED, ListSelection.RECURSIVEMATCH}),
        frozenset({ListReturn.CHILDREN}),
        (StatusItem.MESSAGES, StatusItem.SIZE),
        extended=True,
    ),
    b'LSUB "" *': Lsub("", "*"),
    b'GETMETADATA "" /Shared/Comment': GetMetadata("", ("/shared/comment",)),
    b"GETMETADATA (DEPTH 1 MAXSIZE 9) a (/private /shared/x /private)": GetMetadata(
        "a", ("/private", "/shared/x"), Depth.CHILDREN, 9
    ),
    b"GETMETADATA a (depth infinity) (/private)": GetMetadata("a", ("/private",), Depth.ALL),
    b"SETMETADATA a (/private/x NIL /shared/y ~{2+}\r\n\0b)": SetMetadata(
        "a", {"/private/x": None, "/shared/y": b"\0b"}
    ),
    b'LIST "" * RETURN (METADATA (/private/x) MYRIGHTS)': List(
        "",
        ("*",),
        returned=frozenset({ListReturn.MYRIGHTS}),
        extended=True,
        metadata=("/private/x",),
    ),
    b"MYRIGHTS a": MyRights("a"),
    b"GETACL &AOk-": GetAcl("é"),
    b'LISTRIGHTS a "x y"': ListRights("a", b"x y"),
    b"SETACL a joe +lrs": ChangeAcl("a"),
    b'SETACL a joe ""': ChangeAcl("a"),
    b"DELETEACL a -joe": ChangeAcl("a"),
    b"UNAUTHENTICATE": Unauthenticate(),
    b"NAMESPACE": Namespace(),
    b"UIDBATCHES 500": UidBatches(500),
    b"UIDBATCHES 2000 10:20": UidBatches(2000, 10, 20),
    b"STATUS a (MESSAGES UIDNEXT messages)": Status("a", (StatusItem.MESSAGES, StatusItem.UIDNEXT)),
    b"APPEND a {2+}\r\nhi": Append("a", (AppendMessage(Flags(), None, (b"hi",)),)),
    b'APPEND a (\\Seen x) "17-Jul-1996 02:44:25 -0700" {1+}\r\n\0': Append(
        "a", (AppendMessage(Flags(SystemFlag.SEEN, ("x",)), 837596665, (b"\0",)),)
    ),
    b"REPLACE * a (\\Seen) {1+}\r\nx": Replace(
        numbers((STAR, STAR)), "a", AppendMessage(Flags(SystemFlag.SEEN), None, (b"x",))
    ),
    b"UID REPLACE 7 a {1+}\r\nx": Replace(
        numbers((7, 7)), "a", AppendMessage(Flags(), None, (b"x",)), by_uid=True
    ),
    b'APPEND a CATENATE (URL "/b/;UID=1" text {2+}\r\nhi URL x) {1+}\r\nx': Append(
        "a",
        (
            AppendMessage(Flags(), None, (Url(b"/b/;UID=1"), b"hi", Url(b"x"))),
            AppendMessage(Flags(), None, (b"x",)),
        ),
    ),
    b"APPEND a {1+}\r\nx  {1+}\r\ny": Append(
        "a", (AppendMessage(Flags(), None, (b"x",)), AppendMessage(Flags(), None, (b"y",)))
    ),
    b"APPEND a ~{1+}\r\n\0": Append("a", (AppendMessage(Flags(), None, (b"\0",)),)),
    b"APPEND a {1+}\r\nx (y) {1+}\r\nz": Append(
        "a",
        (AppendMessage(Flags(), None, (b"x",)), AppendMessage(Flags(SystemFlag.NONE, ("y",)), None, (b"z",))),
    ),
    b"CHECK": Check(),
    b"CLOSE": Close(),
    b"UNSELECT": Unselect(),
    b"EXPUNGE": Expunge(),
    b"UID EXPUNGE 1:*": Expunge(numbers((1, STAR))),
    b"FETCH 1 FLAGS": Fetch(ONE, (FetchItem.FLAGS,)),
    b"FETCH 1 binary.peek[1.2]<0.9>": Fetch(
        ONE,
        (
            FetchSection(
                SectionRead(SectionSpec((1, 2)), 0, 9, decoded=True),
                b"BINARY[1.2]<0>",
                peek=True,
                form=SectionForm.DECODED,
            ),
        ),
    ),
    b"FETCH 1 BINARY.SIZE[]": Fetch(
        ONE,
        (
            FetchSection(
                SectionRead(SectionSpec()), b"BINARY.SIZE[]", peek=True, form=SectionForm.DECODED_SIZE
            ),
        ),
    ),
    b"FETCH 1 PREVIEW (lazy)": Fetch(ONE, (FetchItem.PREVIEW,)),
    b"FETCH 1 (PREVIEW (LAZY) PREVIEW) (CHANGEDSINCE 5)": Fetch(ONE, (FetchItem.PREVIEW,), ModSeq(5)),
    b"FETCH 1 PREVIEW (CHANGEDSINCE 5)": Fetch(ONE, (FetchItem.PREVIEW,), ModSeq(5)),
    b"UID FETCH 4:2 (UID RFC822.SIZE)": Fetch(numbers((4, 2)), (FetchItem.UID, FetchItem.SIZE), by_uid=True),
    b"FETCH 1 (FLAGS) (CHANGEDSINCE 12345678901)": Fetch(ONE, (FetchItem.FLAGS,), ModSeq(12345678901)),
    b"UID FETCH 1 FLAGS (CHANGEDSINCE 1 PARTIAL -1:-9)": Fetch(
        ONE, (FetchItem.FLAGS,), ModSeq(1), by_uid=True, page=Page(-1, -9)
    ),
    b"STORE 1 +FLAGS.SILENT (\\Deleted $x)": Store(
        ONE, StoreMode.ADD, Flags(SystemFlag.DELETED, ("$x",)), silent=True
    ),
    b"STORE 1 FLAGS ()": Store(ONE, StoreMode.REPLACE, Flags()),
    b"UID STORE 1 (UNCHANGEDSINCE 5) -FLAGS a A \\Seen": Store(
        ONE, StoreMode.REMOVE, Flags(SystemFlag.SEEN, ("a",)), unchanged_since=ModSeq(5), by_uid=True
    ),
    b"ESEARCH IN (inboxes subtree (a b)) RETURN (COUNT) ALL": MultiSearch(
        (Sources(Source.INBOXES), Sources(Source.SUBTREE, ("a", "b"))),
        Search(key.All(), frozenset({SearchReturn.COUNT}), by_uid=True),
    ),
    b'CANCELUPDATE "a1" "b"': CancelUpdate((b"a1", b"b")),
    b"SORT (SIZE) utf-8 ALL": Search(key.All(), order=(SortBy(SortKey.SIZE),)),
    b"SORT RETURN (UPDATE CONTEXT PARTIAL 1:2) (TO) utf-8 ALL": Search(
        key.All(),
        frozenset({SearchReturn.UPDATE, SearchReturn.CONTEXT}),
        page=Page(1, 2),
        order=(SortBy(SortKey.TO),),
    ),
    b"UID SORT RETURN (UPDATE (UID FLAGS)) (TO) utf-8 ALL": Search(
        key.All(),
        frozenset({SearchReturn.UPDATE}),
        by_uid=True,
        order=(SortBy(SortKey.TO),),
        update_items=(FetchItem.UID, FetchItem.FLAGS),
    ),
    b"UID SORT (CC) utf-8 ALL": Search(key.All(), by_uid=True, order=(SortBy(SortKey.CC),)),
    b"THREAD references utf-8 ALL": Thread(ThreadAlgorithm.REFERENCES, key.All()),
    b"UID THREAD REFS utf-8 ALL": Thread(ThreadAlgorithm.REFS, key.All(), by_uid=True),
    b"COPY 1 a": Copy(ONE, "a"),
    b"UID COPY 1 a": Copy(ONE, "a", by_uid=True),
    b"MOVE 1 a": Move(ONE, "a"),
    b"UID MOVE 1 a": Move(ONE, "a", by_uid=True),
    b"IDLE": Idle(),
    b'GETQUOTA ""': GetQuota(b""),
    b"GETQUOTAROOT inbox": GetQuotaRoot("INBOX"),
    b'SETQUOTA "" (STORAGE 512)': SetQuota(b""),
    b"COMPRESS deflate": Compress(b"DEFLATE"),
    b"SEARCH ALL": Search(key.All()),
}


@pytest.mark.parametrize("line", REQUESTS)
def test_command_becomes_its_request(line: bytes) -> None:
    """Each command parses to exactly one value."""
    parsed = parse(line)
    assert isinstance(parsed, Parsed)
    assert parsed.tag == b"t"
    assert parsed.request == REQUESTS[line]


def test_every_command_of_the_table_is_covered() -> None:
    """No row of the table lacks a case here."""
    names = {
        parsed.spec.name for line in [*REQUESTS, b"UID SEARCH 1"] if isinstance(parsed := parse(line), Parsed)
    }
    assert names == set(COMMANDS)


SECTIONS: dict[bytes, tuple[SectionRead, bytes, bool]] = {
    b"BODY[]": (SectionRead(SectionSpec()), b"BODY[]", False),
    b"body.peek[]<0.10>": (SectionRead(SectionSpec(), 0, 10), b"BODY[]<0>", True),
    b"BODY[1.2.text]": (SectionRead(SectionSpec((1, 2), SectionKind.TEXT)), b"BODY[1.2.TEXT]", False),
    b"BODY[3.MIME]": (SectionRead(SectionSpec((3,), SectionKind.MIME)), b"BODY[3.MIME]", False),
    b'BODY.PEEK[HEADER.FIELDS (To "x-[a]" From)]': (
        SectionRead(SectionSpec((), SectionKind.HEADER_FIELDS, (b"To", b"x-[a]", b"From"))),
        b'BODY[HEADER.FIELDS (To "x-[a]" From)]',
        True,
    ),
    b"RFC822": (SectionRead(SectionSpec()), b"RFC822", False),
    b"RFC822.HEADER": (SectionRead(SectionSpec((), SectionKind.HEADER)), b"RFC822.HEADER", True),
    b"RFC822.TEXT": (SectionRead(SectionSpec((), SectionKind.TEXT)), b"RFC822.TEXT", False),
}


@pytest.mark.parametrize("item", SECTIONS)
def test_sections(item: bytes) -> None:
    """A section becomes what to read and how to name it in the response."""
    parsed = parse(b"FETCH 1 (" + item + b")")
    assert isinstance(parsed, Parsed)
    assert isinstance(parsed.request, Fetch)
    assert parsed.request.items == (FetchSection(*SECTIONS[item]),)


SEEN = key.HasFlag(SystemFlag.SEEN)
SEARCHES: dict[bytes, key.Key] = {
    b"UNSEEN": key.Not(SEEN),
    b"NEW": key.And((key.Recent(), key.Not(SEEN))),
    b"OLD": key.Not(key.Recent()),
    b"1:3,* SEEN": key.And((key.SeqNums(numbers((1, 3), (STAR, STAR))), SEEN)),
    b"UID 7": key.UidNumbers(numbers((7, 7))),
    b"OR SEEN (NOT SEEN ALL)": key.Or(SEEN, key.And((key.Not(SEEN), key.All()))),
    b"BEFORE 1-Feb-2020": key.DateRange("internal", None, date(2020, 2, 1)),
    b'SENTON "01-Feb-2020"': key.DateRange("sent", date(2020, 2, 1), date(2020, 2, 2)),
    b"SINCE 31-dec-9999": key.DateRange("internal", date(9999, 12, 31), None),
    b"ON 31-Dec-9999": key.DateRange("internal", date(9999, 12, 31), None),
    b"CHARSET UTF-8 SUBJECT {2+}\r\n\xc3\xa9": key.HeaderText("SUBJECT", "é"),
    b"CHARSET KOI8-R SUBJECT {1+}\r\n\xc0": key.HeaderText("SUBJECT", "ю"),
    b"CHARSET iso-2022-jp BODY {8+}\r\n\x1b$BF|\x1b(B": key.BodyText("日"),
    b"FUZZY (SUBJECT a SEEN)": key.Fuzzy(key.And((key.HeaderText("SUBJECT", "a"), SEEN))),
    b"$ UID $": key.And((key.SavedResult(), key.SavedResult())),
    b"OLDER 60 YOUNGER 1": key.And((key.Not(key.WithinSeconds(59)), key.WithinSeconds(1))),
    b'HEADER x-y ""': key.HeaderText("X-Y", ""),
    b"BODY a TEXT b": key.And((key.BodyText("a"), key.AnyText("b"))),
    b"UNKEYWORD $Junk": key.Not(key.HasKeyword("$Junk")),
    b"LARGER 10 SMALLER 20": key.And((key.Larger(10), key.Smaller(20))),
    b'MODSEQ "/flags/\\\\draft" all 620': key.ModSeqAtLeast(ModSeq(620)),
    b"MODSEQ 620": key.ModSeqAtLeast(ModSeq(620)),
}


@pytest.mark.parametrize("line", SEARCHES)
def test_search_keys(line: bytes) -> None:
    """Each search program becomes its tree."""
    parsed = parse(b"UID SEARCH " + line)
    assert isinstance(parsed, Parsed)
    assert parsed.request == Search(SEARCHES[line], None, b"MODSEQ" in line, by_uid=True)


def test_partial() -> None:
    """A page may be counted from either end, and does not go with ALL (RFC 9394 section 3.1)."""
    first, last = parse(b"SEARCH RETURN (PARTIAL 1:5 COUNT) ALL"), parse(b"SEARCH RETURN (PARTIAL -1:-5) ALL")
    assert isinstance(first, Parsed)
    assert isinstance(last, Parsed)
    assert first.request == Search(key.All(), frozenset({SearchReturn.COUNT}), page=Page(1, 5))
    assert last.request == Search(key.All(), frozenset(), page=Page(-1, -5))


def test_sort_and_thread() -> None:
    """RFC 5256 section 5; a criterion that comes again is left out."""
    sort, thread = (
        parse(b"SORT (reverse DATE DISPLAYFROM date) utf-8 ALL"),
        parse(b"UID THREAD refs utf-8 ALL"),
    )
    assert isinstance(sort, Parsed)
    assert isinstance(thread, Parsed)
    order = (SortBy(SortKey.DATE, reverse=True), SortBy(SortKey.DISPLAY_FROM))
    assert sort.request == Search(key.All(), order=order)
    assert thread.request == Thread(ThreadAlgorithm.REFS, key.All(), by_uid=True)


def test_suggested_charsets_are_known() -> None:
    """What BADCHARSET names can be used; odd bytes in any of them are refused, never an error of ours."""
    for name in SUGGESTED_CHARSETS.split():
        assert isinstance(parse(b"SEARCH CHARSET " + name + b" TEXT x"), Parsed)
        odd = parse(b"SEARCH CHARSET " + name + b" TEXT {3+}\r\n\x81\xff\xfe")
        assert isinstance(odd, Parsed | Unparsed)


def test_refused_search_with_save_reaches_the_session() -> None:
    """RFC 5182 section 2.1: NO empties the saved result, so somebody has to do it."""
    refused = parse(b"SEARCH RETURN (SAVE) CHARSET klingon ALL")
    assert isinstance(refused, Parsed)
    assert isinstance(refused.request, RefusedSearch)
    assert isinstance(parse(b"SEARCH RETURN (SAVE) FOO"), Unparsed)


def test_search_return_options() -> None:
    """An empty RETURN means ALL (RFC 4731 section 3.1)."""
    empty, some = parse(b"SEARCH RETURN () ALL"), parse(b"SEARCH RETURN (MIN count) CHARSET utf-8 ALL")
    assert isinstance(empty, Parsed)
    assert isinstance(some, Parsed)
    assert empty.request == Search(key.All(), frozenset({SearchReturn.ALL}))
    assert some.request == Search(key.All(), frozenset({SearchReturn.MIN, SearchReturn.COUNT}))


def test_utf8_mode() -> None:
    """After ENABLE UTF8=ACCEPT names are UTF-8, APPEND has its UTF8 form, CHARSET is refused (RFC 9755)."""
    select = parse('SELECT "é&"'.encode(), utf8=True)
    append = parse(b"APPEND a UTF8 (~{2+}\r\nhi)", utf8=True)
    assert isinstance(select, Parsed)
    assert select.request == Select("é&")
    assert isinstance(append, Parsed)
    assert append.request == Append("a", (AppendMessage(Flags(), None, (b"hi",)),))
    assert isinstance(parse(b"SEARCH CHARSET UTF-8 ALL", utf8=True), Unparsed)


def test_secrets_are_not_in_reprs() -> None:
    """A request that reaches a traceback shows neither password nor message nor search text."""
    for line in (
        b"LOGIN joe hush",
        b"AUTHENTICATE PLAIN aHVzaA==",
        b"APPEND a {4+}\r\nhush",
        b"SEARCH TEXT hush",
    ):
        parsed = parse(line)
        assert isinstance(parsed, Parsed)
        assert "hush" not in repr(parsed.request)
        assert "aHVzaA" not in repr(parsed.request)
