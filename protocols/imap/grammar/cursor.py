"""Reading the tokens of one complete command (RFC 3501 section 9). Pure; linear in the command's size.

Errors name the place and what was expected there, never what stood there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TypeVar

from mailstore.model import Flags, MailboxName, ModSeq, SystemFlag, Uid
from mailstore.uidset import MAX_NUMBER, STAR, Range, SequenceSet, UidSet
from protocols.imap.connection import Literal, Piece
from protocols.imap.grammar.refusal import IMPOSSIBLE_NAME, Disallowed, Malformed, Refused
from protocols.imap.grammar.utf7 import mailbox_from_wire
from protocols.limits import ImapLimits

T = TypeVar("T")

TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+")
ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
ASTRING_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")
LIST_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){\"\\]+")
WORD = re.compile(rb"[A-Za-z0-9.=/+-]+")
_QUOTED = re.compile(rb'"((?:[^\r\n"\\]++|\\["\\])*+)"')
_UNQUOTE = re.compile(rb"\\(.)")
_BLANKS = re.compile(rb" *")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_SEQUENCE_SET = re.compile(rb"[0-9*:,]+")
_SEQUENCE_RANGE = re.compile(rb"([1-9][0-9]{0,9}|\*)(?::([1-9][0-9]{0,9}|\*))?\Z")
_DATE = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
_DATE_TIME = re.compile(
    rb'"( [0-9]|[0-9]{2})-([A-Za-z]{3})-([0-9]{4}) '
    rb'([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV", b"DEC"), 1
    )
}
_SYSTEM_FLAGS = {
    b"SEEN": SystemFlag.SEEN,
    b"ANSWERED": SystemFlag.ANSWERED,
    b"FLAGGED": SystemFlag.FLAGGED,
    b"DELETED": SystemFlag.DELETED,
    b"DRAFT": SystemFlag.DRAFT,
}
MAX_NUMBER_64 = 2**63 - 1
"""``mod-sequence-value`` and ``number64`` are 63-bit (RFC 7162 section 7, RFC 9051 section 9)."""


class Cursor:
    """A place in a command; every method reads one construct of the grammar or raises ``Malformed``."""

    def __init__(
        self, pieces: Sequence[Piece], limits: ImapLimits, utf8: bool = False, rev2: bool = False
    ) -> None:
        self.limits = limits
        self.utf8 = utf8
        self.respelled: dict[str, str] = {}
        """Mailbox names that the client wrote otherwise than in NFC, as it wrote them."""
        self._impossible: Refused | None = None
        self._utf8_names = utf8 or rev2
        self._pieces = pieces
        self._index = 0
        first = pieces[0]
        assert isinstance(first, bytes)
        self._text = first
        self._at = 0
        self._before = 0
        self._depth = 0

    def failure(self, expected: bytes) -> Malformed:
        """The error for this place; positions count the command's octets outside literals from 1."""
        return Malformed(b"%s expected at position %d" % (expected, self._before + self._at + 1))

    def at_end(self) -> bool:
        """Whether the command is used up."""
        return self._at == len(self._text) and self._index == len(self._pieces) - 1

    def end(self) -> None:
        """Nothing may follow but blanks.

        Raises:
            Refused: BAD when something does, NO when a name before it can be no mailbox's.
        """
        self.blanks()
        if not self.at_end():
            raise self.failure(b"end of command")
        self.require_possible_names()

    def require_possible_names(self) -> None:
        """Raises Refused, NO, when a name before can be no mailbox's."""
        if self._impossible is not None:
            raise self._impossible

    def peek(self) -> bytes:
        """The next octet of text, ``b""`` before a literal or at the end."""
        return self._text[self._at : self._at + 1]

    def skip(self, text: bytes) -> bool:
        """Pass over ``text`` when it is next."""
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def expect(self, text: bytes, what: bytes) -> None:
        """``text`` must be next."""
        if not self.skip(text):
            raise self.failure(what)

    def blanks(self) -> None:
        """Skip spaces that the grammar does not allow here but every server accepts."""
        self.token(_BLANKS, b"")

    def space(self) -> None:
        """``SP``; several are accepted."""
        self.expect(b" ", b"space")
        self.blanks()

    def more(self) -> bool:
        """Whether a space and something of this list or command follow; the space is passed over."""
        if not self.skip(b" "):
            return False
        self.blanks()
        return not self.at_end() and self.peek() != b")"

    def open(self, what: bytes = b"opening parenthesis") -> None:
        """``(``."""
        self.expect(b"(", what)
        self.blanks()

    def close(self) -> None:
        """``)``."""
        self.blanks()
        self.expect(b")", b"closing parenthesis")

    def token(self, pattern: re.Pattern[bytes], what: bytes) -> bytes:
        """What ``pattern`` matches here."""
        matched = pattern.match(self._text, self._at)
        if matched is None:
            raise self.failure(what)
        self._at = matched.end()
        return matched.group()

    def looking_at(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether ``pattern`` matches here."""
        return pattern.match(self._text, self._at) is not None

    def word(self, what: bytes) -> bytes:
        """A name of the protocol, in capitals."""
        return self.token(WORD, what).upper()

    def skip_word(self, name: bytes) -> bool:
        """Pass over ``name``, in any case, when it is the next word."""
        matched = WORD.match(self._text, self._at)
        if matched is None or matched.group().upper() != name:
            return False
        self._at = matched.end()
        return True

    def atom(self, what: bytes) -> bytes:
        """``atom``."""
        return self.token(ATOM, what)

    def literal(self, what: bytes) -> Literal:
        """A literal of either kind."""
        if self._at != len(self._text) or self._index == len(self._pieces) - 1:
            raise self.failure(what)
        piece = self._pieces[self._index + 1]
        following = self._pieces[self._index + 2]
        assert isinstance(piece, Literal)
        assert isinstance(following, bytes)
        self._before += len(self._text)
        self._index += 2
        self._text, self._at = following, 0
        return piece

    def string(self, what: bytes) -> bytes:
        """``string``: quoted or literal. Octets above 127 are left for the caller to decode."""
        octets = self._octets(what)
        if b"\0" in octets:
            raise self.failure(what + b" without NUL")
        return octets

    def _octets(self, what: bytes) -> bytes:
        """A string that may have a NUL in it."""
        if self.peek() == b'"':
            matched = _QUOTED.match(self._text, self._at)
            if matched is None:
                raise self.failure(b"well-formed quoted string")
            self._at = matched.end()
            body = matched.group(1)
            return _UNQUOTE.sub(rb"\1", body) if b"\\" in body else body
        piece = self.literal(what)
        if piece.binary:
            raise self.failure(what + b" without NUL")
        return piece.data

    def astring(self, what: bytes) -> bytes:
        """``astring``."""
        matched = ASTRING_ATOM.match(self._text, self._at)
        if matched is None:
            return self.string(what)
        self._at = matched.end()
        return matched.group()

    def nstring(self, what: bytes) -> bytes | None:
        """``nstring``; None for NIL."""
        matched = ATOM.match(self._text, self._at)
        if matched is not None and matched.group().upper() == b"NIL":
            self._at = matched.end()
            return None
        return self.string(what)

    def number(self, what: bytes, largest: int = MAX_NUMBER) -> int:
        """``number`` or, with a larger ``largest``, ``number64``."""
        value = int(self.token(_NUMBER, what))
        if value > largest:
            raise self.failure(what + b" within range")
        return value

    def modseq(self) -> ModSeq:
        """``mod-sequence-value`` (RFC 7162 section 7)."""
        return ModSeq(self.number(b"mod-sequence", MAX_NUMBER_64))

    def sequence_set(self) -> SequenceSet:
        """``sequence-set`` of sequence numbers or UIDs, or ``$`` (RFC 5182 section 3)."""
        if self.skip(b"$"):
            return SequenceSet((), saved=True)
        text = self.token(_SEQUENCE_SET, b"sequence set")
        parts = text.split(b",", self.limits.sequence_ranges_max + 1)
        if len(parts) > self.limits.sequence_ranges_max:
            raise self.failure(b"sequence set with fewer ranges")
        ranges: list[Range] = []
        for part in parts:
            matched = _SEQUENCE_RANGE.match(part)
            if matched is None:
                raise self.failure(b"sequence set")
            first = STAR if matched.group(1) == b"*" else int(matched.group(1))
            last = (
                first
                if matched.group(2) is None
                else STAR
                if matched.group(2) == b"*"
                else int(matched.group(2))
            )
            if first > MAX_NUMBER or last > MAX_NUMBER:
                raise self.failure(b"sequence set within range")
            ranges.append((first, last))
        return SequenceSet(tuple(ranges))

    def uid_set(self) -> UidSet:
        """``uid-set`` without ``*`` (RFC 4315 section 4)."""
        numbers = self.sequence_set()
        if numbers.saved or any(STAR in pair for pair in numbers.ranges):
            raise self.failure(b"UID set without *")
        return UidSet.from_ranges((Uid(min(pair)), Uid(max(pair))) for pair in numbers.ranges)

    def mailbox(self) -> MailboxName:
        """``mailbox``, decoded."""
        return self._mailbox_name(ASTRING_ATOM, b"mailbox name")

    def list_mailbox(self) -> MailboxName:
        """``list-mailbox``: a pattern, decoded."""
        return self._mailbox_name(LIST_ATOM, b"mailbox pattern")

    def _mailbox_name(self, atom: re.Pattern[bytes], what: bytes) -> MailboxName:
        """A mailbox name, empty when it is impossible.

        Then ``end`` answers NO and not BAD, because programs probe names.
        """
        wire = self.token(atom, what) if self.looking_at(atom) else self._octets(what)
        try:
            if len(wire) > self.limits.mailbox_name_max_bytes or b"\0" in wire:
                raise ValueError("too long, or with a NUL")
            name = mailbox_from_wire(wire, self._utf8_names)
            if self._utf8_names and not unicodedata.is_normalized("NFC", spelled := wire.decode("utf-8")):
                self.respelled[name] = spelled
            return name
        except ValueError:
            self._impossible = Disallowed(*IMPOSSIBLE_NAME)
            return MailboxName("")

    def flag(self) -> SystemFlag | str:
        """``flag``: a stored system flag or a keyword. ``\\Recent`` cannot be set (section 2.3.2)."""
        if self.skip(b"\\"):
            name = self.atom(b"system flag").upper()
            if name not in _SYSTEM_FLAGS:
                raise self.failure(b"settable system flag")
            return _SYSTEM_FLAGS[name]
        keyword = self.atom(b"flag")
        if len(keyword) > self.limits.keyword_max_bytes:
            raise self.failure(b"shorter keyword")
        return keyword.decode("ascii")

    def flags(self, items: Sequence[SystemFlag | str]) -> Flags:
        """``items`` as one value; a keyword named twice, in whatever case, counts once."""
        system = SystemFlag.NONE
        keywords: dict[str, str] = {}
        for item in items:
            if isinstance(item, SystemFlag):
                system |= item
            else:
                keywords.setdefault(item.lower(), item)
        return Flags(system, tuple(keywords.values()))

    def flag_list(self) -> Flags:
        """``flag-list``."""
        return self.flags(self.parenthesised(self.flag, may_be_empty=True))

    def date(self) -> date:
        """``date``, quoted or not."""
        quoted = self.skip(b'"')
        matched = _DATE.match(self._text, self._at)
        if matched is None:
            raise self.failure(b"date")
        month = _MONTHS.get(matched.group(2).upper())
        try:
            day = date(int(matched.group(3)), month or 0, int(matched.group(1)))
        except ValueError:
            raise self.failure(b"date") from None
        self._at = matched.end()
        if quoted:
            self.expect(b'"', b"closing quote")
        return day

    def date_time(self) -> int:
        """``date-time`` as seconds since the epoch."""
        matched = _DATE_TIME.match(self._text, self._at)
        if matched is None:
            raise self.failure(b"date-time")
        day, month, year, hour, minute, second, sign, zone_h, zone_m = matched.groups()
        offset = timedelta(hours=int(zone_h), minutes=int(zone_m))
        try:
            moment = datetime(
                int(year),
                _MONTHS.get(month.upper(), 0),
                int(day),
                int(hour),
                int(minute),
                min(int(second), 59),
                tzinfo=timezone(-offset if sign == b"-" else offset),
            )
            seconds = int(moment.astimezone(UTC).timestamp())
        except (ValueError, OverflowError):
            raise self.failure(b"date-time") from None
        self._at = matched.end()
        return seconds

    def parenthesised(self, item: Callable[[], T], may_be_empty: bool = False) -> tuple[T, ...]:
        """``"(" item *(SP item) ")"``."""
        self.open()
        if may_be_empty and self.skip(b")"):
            return ()
        self.descend()
        items = [item()]
        while self.more():
            if len(items) >= self.limits.list_items_max:
                raise self.failure(b"shorter list")
            items.append(item())
        self.close()
        self.ascend()
        return tuple(items)

    def descend(self) -> None:
        """One construct inside another; bounded, so that no input controls our stack."""
        self._depth += 1
        if self._depth > self.limits.nesting_max_depth:
            raise self.failure(b"less nesting")

    def ascend(self) -> None:
        """The inner construct is over."""
        self._depth -= 1
