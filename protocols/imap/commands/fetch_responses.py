"""FETCH responses (RFC 3501 section 7.4.2): stored answers and content as octets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailstore.model import FetchRow, SectionData
from mailstore.uidset import UidSet
from protocols.imap.grammar.fetch import FetchItem, FetchSection, SectionForm
from protocols.imap.output import Output
from protocols.imap.picture.view import View
from protocols.imap.responses import lines

SHORT_BYTES = 16 * 1024
"""Literals up to this size are copied into their response rather than sent by themselves."""
FORMATS: dict[FetchItem, bytes] = {
    FetchItem.UID: b"UID %d",
    FetchItem.FLAGS: b"FLAGS (%b)",
    FetchItem.INTERNALDATE: b"INTERNALDATE %b",
    FetchItem.SIZE: b"RFC822.SIZE %d",
    FetchItem.ENVELOPE: b"ENVELOPE %b",
    FetchItem.BODY: b"BODY %b",
    FetchItem.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    FetchItem.MODSEQ: b"MODSEQ (%d)",
    FetchItem.EMAILID: b"EMAILID %b",
    FetchItem.THREADID: b"THREADID %b",
    FetchItem.SAVEDATE: b"SAVEDATE %b",
    FetchItem.PREVIEW: b"PREVIEW %b",
}


def values_of(items: Sequence[FetchItem], recent: UidSet) -> list[Callable[[FetchRow], int | bytes]]:
    """What goes into the ``FORMATS`` of these items; ``recent`` are the messages that are ``\\Recent``."""
    getters: dict[FetchItem, Callable[[FetchRow], int | bytes]] = {
        FetchItem.UID: lambda row: row.uid,
        FetchItem.FLAGS: lambda row: lines.flags(row.flags, bool(recent) and row.uid in recent),
        FetchItem.INTERNALDATE: lambda row: lines.internal_date(row.internal_date),
        FetchItem.SIZE: lambda row: row.size_bytes,
        FetchItem.ENVELOPE: lambda row: row.envelope or b"NIL",
        FetchItem.BODY: lambda row: row.body or b"NIL",
        FetchItem.BODYSTRUCTURE: lambda row: row.bodystructure or b"NIL",
        FetchItem.MODSEQ: lambda row: row.modseq,
        FetchItem.EMAILID: lambda row: lines.object_id(row.email_id),
        FetchItem.THREADID: lambda row: lines.object_id(row.thread_id),
        FetchItem.SAVEDATE: lambda row: lines.save_date(row.save_date),
        # RFC 8970 section 3.2: always UTF-8; "" where a message has no text.
        FetchItem.PREVIEW: lambda row: lines.quoted((row.preview or "").encode()),
    }
    return [getters[item] for item in items]


@dataclass(slots=True)
class Outcome:
    """The result of sending: messages sent with content; whether any was missing, unreadable, not decoded."""

    sent: int = 0
    missing: bool = False
    unreadable: bool = False
    unknown_encoding: bool = False


class Response:
    """A FETCH response built item by item; without items nothing is sent."""

    def __init__(self, output: Output, said: bytes, has_items: bool) -> None:
        """``said`` is how it begins, with items in it or without."""
        self._output = output
        self._parts = [said]
        self._has_items = has_items
        self.is_begun = False
        """Whether some of it has been sent, so that all of it has to be."""

    def put(self, item: bytes) -> None:
        """One more item."""
        if self._has_items:
            self._parts.append(b" ")
        self._parts.append(item)
        self._has_items = True

    def flush(self) -> None:
        """Send what there is so far, because a long literal follows."""
        self.is_begun = True
        self._output.put(b"".join(self._parts))
        self._parts.clear()

    def finish(self) -> None:
        """No more items."""
        if self._has_items:
            self._parts.append(b")\r\n")
            self.flush()


def put_short(response: Response, section: FetchSection, data: SectionData, outcome: Outcome) -> bool:
    """Add one item whose content is short and complete; False if it is not.

    One whose encoding is not known is left out (RFC 3516 section 4.3).
    """
    if data.unknown_encoding:
        outcome.unknown_encoding = True
    elif section.form is SectionForm.DECODED_SIZE:
        response.put(b"%b %d" % (section.label, data.total or 0))
    elif data.total is None:
        response.put(section.label + b" NIL")
    elif len(data.data) == data.total <= SHORT_BYTES:
        # RFC 3516 section 4.2: with a NUL it has to be a literal8.
        binary = section.form is SectionForm.DECODED and b"\0" in data.data
        response.put(b"%b %b{%d}\r\n%b" % (section.label, b"~" if binary else b"", data.total, data.data))
    else:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of a response that precedes content, prepared once for many messages."""

    template: bytes
    values: tuple[Callable[[FetchRow], int | bytes], ...]

    @classmethod
    def of(cls, items: Sequence[FetchItem], view: View) -> Shape:
        """The shape of responses with these items."""
        cells = b" ".join(FORMATS[item] for item in items)
        return cls(b"* %d " + view.wording.fetch + b" (" + cells, tuple(values_of(items, view.recent)))

    def begun(self, output: Output, seq: int, row: FetchRow) -> Response:
        """A response about one message."""
        said = self.template % (seq, *[value(row) for value in self.values])
        return Response(output, said, bool(self.values))

    def whole(self, sections: Sequence[FetchSection]) -> bytes:
        """The template of a response with its content, which takes size and octets of each section."""
        cells = [section.label.replace(b"%", b"%%") + b" {%d}\r\n%b" for section in sections]
        return self.template + b" " * bool(self.values) + b" ".join(cells) + b")\r\n"


class Together:
    """Responses with short content that are formatted together, which is most of their cost."""

    def __init__(self, output: Output, shape: Shape, sections: Sequence[FetchSection], most: int) -> None:
        """``most`` octets of content are formatted at a time, and one message more."""
        self._output = output
        self._template = shape.whole(sections)
        self._values = shape.values
        self._as_stored = all(section.form is SectionForm.AS_STORED for section in sections)
        self._most = most
        self._cells: list[int | bytes] = []
        self._count = self._size = 0

    def takes(self, seq: int, row: FetchRow, sections: Sequence[SectionData]) -> bool:
        """Add a response; False where it is not of this kind, and has not been added."""
        if not self._as_stored:
            return False
        content: list[int | bytes] = []
        size = 0
        for data in sections:
            total, octets = data.total, data.data
            if total is None or len(octets) != total or total > SHORT_BYTES:
                return False
            content += (total, octets)
            size += total
        self._cells += (seq, *[value(row) for value in self._values], *content)
        self._count += 1
        self._size += size
        return True

    async def drain(self) -> None:
        """Send if enough has been added."""
        if self._size >= self._most:
            await self.finish()

    async def finish(self) -> None:
        """Send what has been added: another kind of response follows, or none."""
        if self._cells:
            self._output.put(self._template * self._count % tuple(self._cells))
            self._cells.clear()
            self._count = self._size = 0
            await self._output.drain()
