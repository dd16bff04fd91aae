"""The grammar: every mistake to a fixed text naming the place, floods included."""

from __future__ import annotations

import pytest

from protocols.imap.grammar.search_keys import SUGGESTED_CHARSETS
from protocols.imap.grammar.table import Unparsed
from tests.unit.imap.grammar_world import parse

MISTAKES: dict[bytes, tuple[bytes, bytes]] = {
    b"": (b"command expected at position 3", b""),
    b"XYZZY": (b"unknown command", b""),
    b"UID NOOP": (b"unknown command", b""),
    b"NOOP x": (b"end of command expected at position 8", b""),
    b"NOOP\0": (b"end of command expected at position 7", b""),
    b"LOGIN joe": (b"space expected at position 12", b""),
    b'LOGIN "a\0b" c': (b"user name without NUL expected at position 14", b""),
    b'LOGIN "abc': (b"well-formed quoted string expected at position 9", b""),
    b'LOGIN "a\\c" d': (b"well-formed quoted string expected at position 9", b""),
    b"LOGIN {1+}\r\n\0 b": (b"user name without NUL expected at position 9", b""),
    b"AUTHENTICATE PLAIN !": (b"initial response in base64 expected at position 22", b""),
    b"SELECT &A- (": (b"parameter expected at position 15", b""),
    b"SELECT a (QRESYNC (0 1))": (b"numbers above 0 expected at position 25", b""),
    b"SELECT a (QRESYNC (1 1 1:*))": (b"UID set without * expected at position 29", b""),
    b"UID FETCH 1 FLAGS (VANISHED)": (b"VANISHED needs UID FETCH and CHANGEDSINCE", b""),
    b"UIDBATCHES 500 2:1": (b"batch numbers out of order", b"CLIENTBUG"),
    b"UIDBATCHES 500 0:1": (b"batch numbers out of order", b"CLIENTBUG"),
    b"UIDBATCHES 500 1": (b"colon expected at position 19", b""),
    b"UIDBATCHES all": (b"batch size expected at position 14", b""),
    b"CREATE a (USE (\\Foo))": (b"special-use attribute not supported", b"USEATTR"),
    b'LIST (RECURSIVEMATCH) "" *': (b"RECURSIVEMATCH needs another selection option", b""),
    b"STATUS a ()": (b"status item expected at position 13", b""),
    b"FETCH 0 FLAGS": (b"sequence set expected at position 10", b""),
    b"FETCH 1: FLAGS": (b"sequence set expected at position 11", b""),
    b"FETCH 4294967296 FLAGS": (b"sequence set within range expected at position 19", b""),
    b"FETCH 1 BODY[MIME]": (b"section text expected at position 20", b""),
    b"FETCH 1 BODY[]<0.0>": (b"length above 0 expected at position 21", b""),
    b"FETCH 1 (ALL)": (b"known data item expected at position 15", b""),
    b"FETCH 1 ()": (b"data item expected at position 12", b""),
    b"STORE 1 FLAGS (\\Recent)": (b"settable system flag expected at position 25", b""),
    b'APPEND a "99-Jul-1996 02:44:25 -0700" {1+}\r\nx': (b"date-time expected at position 12", b""),
    b"APPEND a UTF8 (~{1+}\r\nx)": (b"UTF8 needs ENABLE UTF8=ACCEPT", b""),
    b"GETMETADATA a (MAXSIZE 1 SIZE 2) /private/x": (b"known option expected at position 32", b""),
    b"APPEND a CATENATE (PART x)": (b"URL or TEXT expected at position 22", b""),
    b"APPEND a CATENATE ()": (b"URL or TEXT expected at position 22", b""),
    b"REPLACE 1:2 a {1+}\r\nx": (b"one message expected at position 14", b""),
    b"UID REPLACE 1,2 a {1+}\r\nx": (b"one message expected at position 18", b""),
    b"GETMETADATA a (DEPTH 2) /private/x": (b"0, 1 or infinity expected at position 25", b""),
    b"GETMETADATA a /vendor/x": (b"entry name below /private or /shared expected at position 26", b""),
    b"GETMETADATA a /private//x": (b"entry name below /private or /shared expected at position 28", b""),
    b"GETMETADATA a /private/x/": (b"entry name below /private or /shared expected at position 28", b""),
    b'GETMETADATA a "/private/*"': (b"entry name below /private or /shared expected at position 29", b""),
    b"SETMETADATA a (/private NIL)": (b"entry name below /private or /shared expected at position 26", b""),
    b"SETMETADATA a (/private/x {1+}\r\n\0)": (b"value without NUL expected at position 29", b""),
    b"SEARCH CHARSET klingon ALL": (b"unknown charset", b"BADCHARSET (%s)" % SUGGESTED_CHARSETS),
    b"SEARCH CHARSET {2+}\r\n\xc3\xa9 ALL": (b"unknown charset", b"BADCHARSET (%s)" % SUGGESTED_CHARSETS),
    b"SEARCH CHARSET idna ALL": (b"unknown charset", b"BADCHARSET (%s)" % SUGGESTED_CHARSETS),
    b"SEARCH CHARSET US-ASCII TEXT {1+}\r\n\xe9": (
        b"search string needs a charset",
        b"BADCHARSET (%s)" % SUGGESTED_CHARSETS,
    ),
    b"SEARCH TEXT {1+}\r\n\xe9": (b"search string in its charset expected at position 15", b""),
    b"SEARCH CHARSET utf-7 TEXT +2AA-": (b"search string in its charset expected at position 34", b""),
    b"SEARCH RETURN (RELEVANCY) TEXT a": (b"RELEVANCY needs FUZZY", b""),
    b"SORT (RELEVANCY) utf-8 TEXT a": (b"RELEVANCY needs FUZZY", b""),
    b"SEARCH FUZZY": (b"space expected at position 15", b""),
    b"ESEARCH IN () ALL": (b"source expected at position 15", b""),
    b"ESEARCH IN (mars) ALL": (b"known source expected at position 19", b""),
    b"ESEARCH IN (mailboxes) ALL": (b"space expected at position 24", b""),
    b"CANCELUPDATE": (b"space expected at position 15", b""),
    b"CANCELUPDATE a1": (b"tag expected at position 16", b""),
    b"SORT () utf-8 ALL": (b"sort criterion expected at position 9", b""),
    b"SORT (REVERSE) utf-8 ALL": (b"space expected at position 16", b""),
    b"SORT (SPAM) utf-8 ALL": (b"known sort criterion expected at position 13", b""),
    b"SORT (DATE) ALL": (b"unknown charset", b"BADCHARSET (%s)" % SUGGESTED_CHARSETS),
    b"THREAD JWZ utf-8 ALL": (b"known threading algorithm expected at position 13", b""),
    b"SEARCH RETURN (PARTIAL 1:2 ALL) ALL": (b"PARTIAL and ALL exclude each other", b""),
    b"SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL": (b"one PARTIAL only expected at position 38", b""),
    b"SEARCH RETURN (PARTIAL 0:2) ALL": (b"range of results expected at position 26", b""),
    b"SEARCH RETURN (PARTIAL 1:-2) ALL": (b"range of results expected at position 26", b""),
    b"SEARCH RETURN (PARTIAL 1:4294967296) ALL": (
        b"range of results within bounds expected at position 38",
        b"",
    ),
    b"FETCH 1 FLAGS (PARTIAL 1:2)": (b"PARTIAL needs UID FETCH", b""),
    b"UID FETCH 1 FLAGS (PARTIAL 1)": (b"range of results expected at position 30", b""),
    b"SEARCH $:3": (b"end of command expected at position 11", b""),
    b"FETCH 1,$ FLAGS": (b"sequence set expected at position 11", b""),
    b"SEARCH NOT": (b"space expected at position 13", b""),
    b"SEARCH FOO": (b"known search key expected at position 13", b""),
    b"SEARCH ON 31-Feb-2020": (b"date expected at position 13", b""),
    b"ID x": (b"parameter list expected at position 6", b""),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_have_fixed_texts(line: bytes) -> None:
    """Each mistake is refused with its text and response code."""
    result = parse(line)
    assert isinstance(result, Unparsed)
    assert (result.refusal.text, result.refusal.code) == MISTAKES[line]


@pytest.mark.parametrize(
    "line",
    [
        b"SEARCH " + b"(" * 5000 + b"ALL" + b")" * 5000,
        b"SEARCH " + b"NOT " * 5000 + b"ALL",
        b"SEARCH " + b"OR ALL " * 5000 + b"ALL",
        b"SEARCH " + b"ALL " * 5000 + b"ALL",
        b"FETCH " + b"1," * 20000 + b"1 FLAGS",
        b"STORE 1 FLAGS (" + b"a " * 5000 + b"a)",
        b"STORE 1 FLAGS " + b"a " * 5000 + b"a",
        b"FETCH 1 BODY[" + b"1." * 5000 + b"1]",
        b"ENABLE" + b" x" * 5000,
        b"SELECT " + b"x" * 5000,
        b"ID (" + b'"a" "b" ' * 31 + b'"a" "b")',
    ],
)
def test_floods_are_refused(line: bytes) -> None:
    """Depth and number of everything are bounded (targets 3 and 4)."""
    assert isinstance(parse(line), Unparsed)
