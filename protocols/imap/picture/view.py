"""What the client knows of the selected mailbox, and what it has yet to be told. Pure.

Sequence numbers are positions in the client's picture, not in the mailbox: a message that is gone
keeps its number until EXPUNGE may be sent (RFC 3501 sections 5.5 and 7.4.1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from mailstore.model import Delta, FetchRow, MessageFlags, ModSeq, Opened, Places, Uid
from mailstore.uidset import SequenceSet, UidSet
from protocols.imap.grammar.fetch import FetchItem, FetchSection
from protocols.imap.grammar.refusal import Malformed
from protocols.imap.responses import lines

Row = TypeVar("Row", MessageFlags, FetchRow)


def uid_required() -> Malformed:
    """The answer to sequence numbers in a session without (RFC 9586 section 3)."""
    return Malformed(b"only UIDs are possible after ENABLE UIDONLY", b"UIDREQUIRED")


@dataclass(frozen=True, slots=True)
class Wording:
    """How a client hears of changes, by what it has enabled."""

    vanished: bool = False
    """VANISHED with UIDs in place of EXPUNGE (RFC 7162 section 3.2.10)."""
    recent: bool = True
    """``\\Recent`` and RECENT, which IMAP4rev2 does not have (RFC 9051 appendix E)."""
    uid_only: bool = False
    """Messages go by their UIDs everywhere (RFC 9586)."""

    @property
    def fetch(self) -> bytes:
        """What data about a message are called (RFC 9586 section 3.3)."""
        return b"UIDFETCH" if self.uid_only else b"FETCH"


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """What a client wants to hear of the selected mailbox without asking (RFC 5465 section 3.1)."""

    messages: bool = True
    """EXISTS and EXPUNGE."""
    flags: bool = True
    """Changes of flags; without ``messages`` they are not wanted either (RFC 5465 section 5)."""
    uids: bool = False
    """Whether FETCH with flags names the UID (RFC 5465 section 5.1)."""
    at_once: bool = False
    """Whether EXPUNGE may come between commands (RFC 5465 section 6.1)."""
    items: tuple[FetchItem | FetchSection, ...] = ()
    """What to tell of new messages."""


EVERYTHING = WantedEvents()
"""The default for clients that have not used NOTIFY."""
NOTHING = WantedEvents(messages=False, flags=False)


class View:
    """The picture of one session. ``modseq`` is what ``since`` of the next store call has to be."""

    def __init__(self, opened: Opened, wording: Wording | None = None) -> None:
        self.wording = wording or Wording()
        self.modseq: ModSeq = opened.status.highest_modseq
        self.recent = opened.recent if self.wording.recent else UidSet()
        self.saved = UidSet()
        """``$``: what the last SEARCH with SAVE found; of what is gone it names nothing (RFC 5182 2.1)."""
        self._read_only = opened.read_only
        self.mailbox_gone = False
        self._uids = opened.uids
        self._shares_uids = True
        """Other sessions have the same array: it is copied before the first change."""
        self._known_up_to = max(opened.status.uid_next - 1, self._uids[-1] if self._uids else 0)
        self._new: list[int] = []
        self.announced: list[int] = []
        """New messages that the client knows of, and whose data may still be told (RFC 5465 section 5.2)."""
        self._gone = UidSet()
        self._changed: dict[int, MessageFlags] = {}
        self._keywords = {keyword.lower(): keyword for keyword in opened.keywords}
        self._new_keywords = False
        self._recent_due = False
        """RECENT is to be told, since EXISTS was."""
        self._recent_open = False
        """It is being decided which of the new messages are ``\\Recent`` here."""

    @property
    def exists(self) -> int:
        """Messages the client knows of: the last EXISTS less the EXPUNGEs since."""
        return len(self._uids)

    @property
    def largest_uid(self) -> int:
        """What ``*`` means in a UID set, 0 in an empty mailbox."""
        return self._uids[-1] if self._uids else 0

    @property
    def uid_ceiling(self) -> int:
        """The largest UID that a message here can have had, as far as this session knows."""
        return self._known_up_to

    def present(self, uids: UidSet) -> UidSet:
        """Those of ``uids`` that the client knows, even if they have been expunged since."""
        return UidSet.of(self.known(uids))

    def batches(self, size: int) -> Iterator[tuple[int, int]]:
        """UID ranges from the newest message down to 1, highest end first, ``size`` messages in each.

        They leave no gap; the last one holds what is left (RFC 10022 section 3.1.3).
        """
        high = self.largest_uid
        for stop in range(len(self._uids), 0, -size):
            low = self._uids[stop - size] if stop > size else 1
            yield high, low
            high = low - 1

    def has_pending(self, wanted: WantedEvents = EVERYTHING, may_expunge: bool = True) -> bool:
        """Whether a flush would say something."""
        messages = bool(self._new or (self._gone and may_expunge))
        return (wanted.messages and messages) or (wanted.flags and bool(self._changed or self._new_keywords))

    @property
    def gone(self) -> UidSet:
        """Messages that are expunged, of which the client has yet to be told."""
        return self._gone

    @property
    def backlog(self) -> int:
        """Messages whose changed flags are still to be told."""
        return len(self._changed)

    def seq_of(self, uid: int) -> int | None:
        """The number of a message, None when the client does not know it.

        That is its sequence number, or with UIDONLY its UID.
        """
        at = bisect_left(self._uids, uid)
        if at >= len(self._uids) or self._uids[at] != uid:
            return None
        return uid if self.wording.uid_only else at + 1

    def seqs_of(self, uids: Iterable[int]) -> Iterator[int]:
        """The numbers of messages the client knows (see ``seq_of``), given in ascending order; 0 for others.

        Neighbours are found without searching, so a whole mailbox costs one step a message.
        """
        known, count, at = self._uids, len(self._uids), 0
        by_uid = self.wording.uid_only
        for uid in uids:
            if at >= count or known[at] != uid:
                at = bisect_left(known, uid, min(at, count))
                if at >= count or known[at] != uid:
                    yield 0
                    continue
            at += 1
            yield uid if by_uid else at

    def places_of(self, numbers: Sequence[int]) -> Places | None:
        """Numbers that other sessions may go by, too; None when this one has numbers of its own."""
        shares = self._shares_uids and not self.wording.uid_only
        return Places(self._uids, array("I", numbers)) if shares else None

    def goes_by(self, places: Places) -> bool:
        """Whether these are the session's sequence numbers: it began with them, and was told of no change."""
        return self._uids is places.among and not self.wording.uid_only

    def numbers(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """UIDs and numbers (see ``seq_of``) of the messages in these places, counted from 0."""
        uids = self._uids[start:stop]
        return zip(
            uids, uids if self.wording.uid_only else range(start + 1, start + 1 + len(uids)), strict=True
        )

    def _slices(self, uids: UidSet) -> Iterator[tuple[int, int]]:
        """Where the members of ``uids`` lie, as half-open index ranges in ascending order."""
        at = 0
        for low, high in uids.ranges:
            start = bisect_left(self._uids, low, at)
            at = bisect_right(self._uids, high, start)
            if start < at:
                yield start, at

    def known(self, uids: UidSet) -> list[Uid]:
        """Those of ``uids`` that the client knows, ascending."""
        return [Uid(uid) for start, stop in self._slices(uids) for uid in self._uids[start:stop]]

    def count(self, uids: UidSet) -> int:
        """How many of ``uids`` the client knows."""
        return sum(stop - start for start, stop in self._slices(uids))

    def named(self, numbers: SequenceSet, by_uid: bool) -> UidSet:
        """What a client's set names, at the cost of its ranges; unknown UIDs may be among it (section 6.4.8).

        Raises:
            Malformed: a sequence number that no message has, or any at all with UIDONLY.
        """
        if numbers.saved:
            return self.saved
        if by_uid:
            return numbers.resolve(self.largest_uid)
        named = self.numbered(numbers)
        resolved = numbers.resolve(self.exists)
        if resolved and resolved.ranges[-1][1] > self.exists:
            raise Malformed(b"no message has that sequence number")
        return named

    def resolve(self, numbers: SequenceSet, by_uid: bool) -> list[Uid]:
        """The UIDs, ascending, that a client's set names; unknown UIDs are ignored (section 6.4.8).

        Raises:
            Malformed: as ``named``.
        """
        return self.known(self.named(numbers, by_uid))

    def numbered(self, numbers: SequenceSet) -> UidSet:
        """The UIDs of sequence numbers in search criteria; those of no message find nothing.

        Clients search by numbers that were true a moment ago, and other servers take them. What is asked for
        as a range stays one, however many messages it names.

        Raises:
            Malformed: UIDONLY is enabled (RFC 9586 section 3).
        """
        if self.wording.uid_only:
            raise uid_required()
        resolved = numbers.resolve(self.exists) & UidSet(((1, self.exists),))
        return UidSet(tuple((self._uids[low - 1], self._uids[high - 1]) for low, high in resolved.ranges))

    def apply(self, delta: Delta) -> None:
        """Record what happened in the mailbox; nothing is sent."""
        self.modseq = max(self.modseq, delta.highest)
        self.mailbox_gone = self.mailbox_gone or delta.mailbox_gone
        if delta.expunged:
            self._new = [uid for uid in self._new if uid not in delta.expunged]
            for uid in [uid for uid in self._changed if uid in delta.expunged]:
                del self._changed[uid]
            self._gone |= UidSet.of(self.known(delta.expunged))
        for row in delta.changed:
            for keyword in row.flags.keywords:
                if keyword.lower() not in self._keywords:
                    self._keywords[keyword.lower()] = keyword
                    self._new_keywords = True
            if row.uid > self._known_up_to:
                self._new.append(row.uid)
            else:
                self._changed[row.uid] = row
        self._known_up_to = max(self._known_up_to, delta.uid_next - 1)
        # Messages that came and went unannounced are not counted.
        self.recent -= delta.expunged - self._gone
        if self.wording.recent:
            self.recent |= delta.recent

    def apply_unclaimed(self, delta: Delta) -> None:
        """As ``apply``, before it is known which messages are ``\\Recent``: RECENT waits for ``claimed``."""
        self._recent_open = True
        self.apply(delta)

    def claimed(self, recent: UidSet) -> None:
        """These of the new messages are ``\\Recent`` here."""
        self._recent_open = False
        if self.wording.recent:
            self.recent |= recent

    def catch_up(self, delta: Delta) -> None:
        """As ``apply``, of a delta that reaches back beyond ``modseq``: what changed earlier is no news."""
        self.apply(replace(delta, changed=tuple(row for row in delta.changed if row.modseq > self.modseq)))

    def flags_defined(self) -> list[bytes]:
        """FLAGS and PERMANENTFLAGS (RFC 3501 sections 7.2.6 and 7.1): what can be set here."""
        self._new_keywords = False
        return lines.flags_defined(tuple(self._keywords.values()), self._read_only)

    def new_keywords(self) -> list[bytes]:
        """As ``flags_defined``, when keywords have come up that the client was not told of; else nothing."""
        return self.flags_defined() if self._new_keywords else []

    def with_numbers(self, rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
        """Each of ``rows``, ascending by UID, with its number; without those the client does not know."""
        numbers = self.seqs_of(row.uid for row in rows)
        return (pair for pair in zip(numbers, rows, strict=True) if pair[0])

    def flag_lines(self, rows: Sequence[Row], uids: bool, modseqs: bool) -> Iterator[bytes]:
        """FETCH responses with FLAGS in blocks; ``rows`` as for ``with_numbers``."""
        return lines.flag_lines(self.with_numbers(rows), self.recent, uids, modseqs, self.wording.fetch)

    def flags_sent(self, rows: Iterable[MessageFlags | FetchRow]) -> None:
        """The client has just been sent these flags: forget what they make superfluous."""
        for row in rows if self._changed else ():
            pending = self._changed.get(row.uid)
            if pending is not None and pending.modseq <= row.modseq:
                del self._changed[row.uid]

    def flush(self, allow_expunge: bool, modseqs: bool, wanted: WantedEvents = EVERYTHING) -> list[bytes]:
        """Untagged responses that bring the client up to date, as far as is legal now and wanted.

        EXPUNGE comes first and from the top, then EXISTS, then FETCH. Without ``allow_expunge``
        gone messages keep their places. ``modseqs`` adds UID and MODSEQ (RFC 7162 section 3.2.4).
        """
        said = self.new_keywords() if wanted.flags else []
        if allow_expunge and self._gone:
            said += self._expunge()
        if self._new and wanted.messages:
            if self._shares_uids:
                self._uids, self._shares_uids = self._uids[:], False
            self._uids.extend(self._new)
            said.append(b"* %d EXISTS\r\n" % len(self._uids))
            self._recent_due = not self._read_only and self.wording.recent
            # The client asks for the flags of messages it has just heard of.
            for uid in self._new:
                self._changed.pop(uid, None)
            self.announced += self._new
            self._new = []
        if self._recent_due and not self._recent_open:
            self._recent_due = False
            said.append(b"* %d RECENT\r\n" % len(self.recent))
        if self._changed and wanted.flags:
            rows = [row for _, row in sorted(self._changed.items())]
            said += self.flag_lines(rows, (modseqs or wanted.uids) and not self.wording.uid_only, modseqs)
            self._changed = {}
        return said

    def flush_flags(self, most: int, modseqs: bool, wanted: WantedEvents = EVERYTHING) -> list[bytes]:
        """Tell changed flags of up to ``most`` messages, which is legal at any time; for long backlogs."""
        if not wanted.flags:
            return []
        said = self.new_keywords()
        uids = sorted(islice((uid for uid in self._changed if uid <= self.largest_uid), most))
        rows = [self._changed.pop(uid) for uid in uids]
        said += self.flag_lines(rows, (modseqs or wanted.uids) and not self.wording.uid_only, modseqs)
        return said

    def _expunge(self) -> list[bytes]:
        """Drop expunged messages in one pass, and the responses that say so."""
        kept = array(self._uids.typecode)
        seqs: list[int] = []
        before = 0
        for start, stop in self._slices(self._gone):
            kept.extend(self._uids[before:start])
            seqs.extend(range(start + 1, stop + 1))
            before = stop
        kept.extend(self._uids[before:])
        self._uids, self._shares_uids = kept, False
        self.recent -= self._gone
        gone, self._gone = self._gone, UidSet()
        if self.wording.vanished:
            return [lines.vanished_line(gone)]
        seqs.reverse()
        return lines.expunge_lines(seqs)
