"""Search criteria (RFC 3501 section 6.4.4, RFC 5032, RFC 5182, RFC 7162 section 3.1.5). Pure.

Nesting and the number of keys are bounded; every recursion passes ``Cursor.descend``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from mailstore import search
from mailstore.mime.charsets import codec_of
from mailstore.model import SystemFlag
from mailstore.uidset import MAX_NUMBER, SequenceSet, UidSet
from protocols.imap.grammar.cursor import MAX_NUMBER_64, Cursor
from protocols.imap.grammar.refusal import Disallowed, Malformed

_NUMBERS = re.compile(rb"[0-9*$]")
SUGGESTED_CHARSETS = (
    b"US-ASCII UTF-8 ISO-8859-1 ISO-8859-2 ISO-8859-5 ISO-8859-7 ISO-8859-9 ISO-8859-15 WINDOWS-1250"
    b" WINDOWS-1251 WINDOWS-1252 KOI8-R KOI8-U ISO-2022-JP SHIFT_JIS EUC-JP EUC-KR GB2312 GB18030 BIG5"
)
"""Some of the charsets we know, for the code of a refusal (RFC 3501 section 7.1)."""
_BADCHARSET = b"BADCHARSET (" + SUGGESTED_CHARSETS + b")"
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
_ENTRY_TYPES = {b"ALL", b"PRIV", b"SHARED"}


def _flag(flag: SystemFlag) -> search.Key:
    return search.HasFlag(flag)


def _no_flag(flag: SystemFlag) -> search.Key:
    return search.Not(search.HasFlag(flag))


_PLAIN: dict[bytes, search.Key] = {
    b"ALL": search.All(),
    b"ANSWERED": _flag(SystemFlag.ANSWERED),
    b"DELETED": _flag(SystemFlag.DELETED),
    b"DRAFT": _flag(SystemFlag.DRAFT),
    b"FLAGGED": _flag(SystemFlag.FLAGGED),
    # RFC 8514 section 4.3: all messages where save dates are kept, and here they are everywhere.
    b"SAVEDATESUPPORTED": search.All(),
    b"SEEN": _flag(SystemFlag.SEEN),
    b"UNANSWERED": _no_flag(SystemFlag.ANSWERED),
    b"UNDELETED": _no_flag(SystemFlag.DELETED),
    b"UNDRAFT": _no_flag(SystemFlag.DRAFT),
    b"UNFLAGGED": _no_flag(SystemFlag.FLAGGED),
    b"UNSEEN": _no_flag(SystemFlag.SEEN),
    b"NEW": search.And((search.Recent(), _no_flag(SystemFlag.SEEN))),
    b"OLD": search.Not(search.Recent()),
    b"RECENT": search.Recent(),
}


def _next_day(day: date) -> date | None:
    return None if day == date.max else day + timedelta(days=1)


class SearchParser:
    """One SEARCH program; the charset holds for all of its strings."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        # RFC 3501 would have US-ASCII here; RFC 9051 section 6.4.4 has its superset UTF-8.
        self.charset = "utf-8"
        self.keys = 0
        self.ranges = 0
        self.uses_modseq = False
        self.uses_fuzzy = False

    def program(self) -> search.Key:
        """``search-key *(SP search-key)`` up to the end of the command."""
        keys = [self.key()]
        while self.cursor.more():
            keys.append(self.key())
        self.cursor.end()
        return keys[0] if len(keys) == 1 else search.And(tuple(keys))

    def text(self) -> str:
        """A string to search for.

        Raises:
            Refused: NO [BADCHARSET] when ASCII was promised, BAD when the charset's rules are broken.
        """
        raw = self.cursor.astring(b"search string")
        try:
            text = raw.decode(self.charset)
            # UTF-7 can spell surrogates, which are no characters.
            text.encode()
            return text
        except UnicodeError:
            if self.charset == "ascii":
                raise Disallowed(b"search string needs a charset", _BADCHARSET) from None
            raise self.cursor.failure(b"search string in its charset") from None

    def key(self) -> search.Key:
        """``search-key``."""
        cursor = self.cursor
        self.keys += 1
        if self.keys > cursor.limits.search_keys_max:
            raise Malformed(b"too many search keys", b"LIMIT")
        if cursor.peek() == b"(":
            keys = cursor.parenthesised(self.key)
            return keys[0] if len(keys) == 1 else search.And(keys)
        if cursor.looking_at(_NUMBERS):
            numbers = self.numbers()
            return search.SavedResult() if numbers.saved else search.SeqNums(numbers)
        name = cursor.word(b"search key")
        plain = _PLAIN.get(name)
        if plain is not None:
            return plain
        parse = _ARGUMENTS.get(name)
        if parse is None:
            raise cursor.failure(b"known search key")
        cursor.space()
        cursor.descend()
        key = parse(self)
        cursor.ascend()
        return key

    def either(self) -> search.Key:
        """The two keys of OR."""
        left = self.key()
        self.cursor.space()
        return search.Or(left, self.key())

    def header(self) -> search.Key:
        """HEADER's field name and string."""
        name = self.cursor.astring(b"header field name")
        self.cursor.space()
        try:
            return search.HeaderText(name.decode("ascii").upper(), self.text())
        except UnicodeDecodeError:
            raise self.cursor.failure(b"header field name in ASCII") from None

    def uids(self) -> search.Key:
        """UID's set, which may be ``$`` (RFC 5182 section 3)."""
        numbers = self.numbers()
        return search.SavedResult() if numbers.saved else search.UidNumbers(numbers)

    def numbers(self) -> SequenceSet:
        """``sequence-set``; how many ranges all sets of a command have together is bounded."""
        numbers = self.cursor.sequence_set()
        self.ranges += len(numbers.ranges)
        if self.ranges > self.cursor.limits.search_ranges_max:
            raise Malformed(b"too many ranges in search keys", b"LIMIT")
        return numbers

    def uid(self) -> int:
        """``uniqueid``."""
        number = self.cursor.number(b"UID")
        if number == 0:
            raise self.cursor.failure(b"UID above 0")
        return number

    def uids_between(self, low: int, high: int) -> search.Key:
        """UIDAFTER and UIDBEFORE (RFC 9738 section 3.2); there may be no such UID."""
        return search.Uids(UidSet(((low, high),)) if low <= high else UidSet())

    def keyword(self) -> search.Key:
        """``flag-keyword``."""
        return search.HasKeyword(self.cursor.atom(b"keyword").decode("ascii"))

    def fuzzy(self) -> search.Key:
        """FUZZY's key (RFC 6203 section 3)."""
        self.uses_fuzzy = True
        return search.Fuzzy(self.key())

    def object_id(self) -> str:
        """``objectid`` (RFC 8474 section 7)."""
        return self.cursor.token(_OBJECT_ID, b"object identifier").decode("ascii")

    def interval(self) -> int:
        """Seconds before now; OLDER and YOUNGER both take in that very age (RFC 5032 section 3)."""
        seconds = self.cursor.number(b"interval")
        if seconds == 0:
            raise self.cursor.failure(b"interval above 0")
        return seconds

    def modseq(self) -> search.Key:
        """``[SP entry-name SP entry-type-req] SP mod-sequence-value``; one modseq counts for all entries."""
        cursor = self.cursor
        if cursor.peek() == b'"':
            cursor.string(b"entry name")
            cursor.space()
            if cursor.word(b"entry type") not in _ENTRY_TYPES:
                raise cursor.failure(b"entry type")
            cursor.space()
        self.uses_modseq = True
        return search.ModSeqAtLeast(cursor.modseq())


def _dates(field: str, kind: str) -> Callable[[SearchParser], search.Key]:
    def parse(parser: SearchParser) -> search.Key:
        day = parser.cursor.date()
        match kind:
            case "before":
                return search.DateRange(field, None, day)
            case "on":
                return search.DateRange(field, day, _next_day(day))
            case _:
                return search.DateRange(field, day, None)

    return parse


def _header_named(name: str) -> Callable[[SearchParser], search.Key]:
    return lambda parser: search.HeaderText(name, parser.text())


_ARGUMENTS: dict[bytes, Callable[[SearchParser], search.Key]] = {
    b"BCC": _header_named("BCC"),
    b"BEFORE": _dates("internal", "before"),
    b"BODY": lambda parser: search.BodyText(parser.text()),
    b"CC": _header_named("CC"),
    b"EMAILID": lambda parser: search.EmailIdIs(parser.object_id()),
    b"FUZZY": SearchParser.fuzzy,
    b"FROM": _header_named("FROM"),
    b"HEADER": SearchParser.header,
    b"KEYWORD": SearchParser.keyword,
    b"LARGER": lambda parser: search.Larger(parser.cursor.number(b"size", MAX_NUMBER_64)),
    b"MODSEQ": SearchParser.modseq,
    b"NOT": lambda parser: search.Not(parser.key()),
    b"OLDER": lambda parser: search.Not(search.WithinSeconds(parser.interval() - 1)),
    b"ON": _dates("internal", "on"),
    b"OR": SearchParser.either,
    b"SAVEDBEFORE": _dates("saved", "before"),
    b"SAVEDON": _dates("saved", "on"),
    b"SAVEDSINCE": _dates("saved", "since"),
    b"SENTBEFORE": _dates("sent", "before"),
    b"SENTON": _dates("sent", "on"),
    b"SENTSINCE": _dates("sent", "since"),
    b"SINCE": _dates("internal", "since"),
    b"SMALLER": lambda parser: search.Smaller(parser.cursor.number(b"size", MAX_NUMBER_64)),
    b"SUBJECT": _header_named("SUBJECT"),
    b"TEXT": lambda parser: search.AnyText(parser.text()),
    b"THREADID": lambda parser: search.ThreadIdIs(parser.object_id()),
    b"TO": _header_named("TO"),
    b"UID": SearchParser.uids,
    b"UIDAFTER": lambda parser: parser.uids_between(parser.uid() + 1, MAX_NUMBER),
    b"UIDBEFORE": lambda parser: parser.uids_between(1, parser.uid() - 1),
    b"UNKEYWORD": lambda parser: search.Not(parser.keyword()),
    b"YOUNGER": lambda parser: search.WithinSeconds(parser.interval()),
}


def read_charset(cursor: Cursor) -> str:
    """``charset`` as a codec. Raises Disallowed with the charsets to use instead."""
    name = cursor.astring(b"charset")
    codec = codec_of(name.decode("ascii")) if name.isascii() else None
    if codec is None:
        raise Disallowed(b"unknown charset", _BADCHARSET)
    return codec
