"""Reading stored answers and message bytes: FETCH's side of the database."""

from __future__ import annotations

from collections.abc import Sequence

from mailstore import mime
from mailstore.engine import Row, Txn
from mailstore.errors import NoSuchMessage, StorageFailed
from mailstore.model import (
    ContentRow,
    FetchPlan,
    FetchResult,
    FetchRow,
    MailboxId,
    MessageId,
    ModSeq,
    SectionData,
    SectionRead,
    Uid,
)
from mailstore.ops.messages import FRAME_BITS, mark_seen
from mailstore.ops.rows import CHOSEN, as_json, delta, flags_of, message_flags
from mailstore.prepared import FRAME_BYTES, decompress, header_frames
from mailstore.uidset import UidSet

_NARROW = "p.uid, p.modseq, p.flags, p.keywords, p.size_bytes, p.internal_date, p.message_id, p.save_date"
SMALL_HEADER_BYTES = 16 * 1024
"""Headers up to this size are read along with the rows of a batch."""

_HEADER_KINDS = (
    mime.SectionKind.HEADER,
    mime.SectionKind.HEADER_FIELDS,
    mime.SectionKind.HEADER_FIELDS_NOT,
)
_KNOWN_ENCODINGS = (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable")
_KEPT = " LEFT JOIN kept_fields AS k ON k.message_id = p.message_id"
_STORED = ("m.envelope", "m.body", "m.bodystructure", "m.preview", "x.object_id", "x.thread_id")


def fetch(
    txn: Txn, mailbox_id: MailboxId, uids: Sequence[Uid], plan: FetchPlan, since: ModSeq
) -> FetchResult:
    """Stored answers for a batch of messages; in a write transaction when ``plan.set_seen``.

    Content comes along only where nothing is written: others wait for a writer.
    """
    wanted = UidSet.of(uids)
    if plan.flags_only:
        return _flags(txn, mailbox_id, wanted, plan.changed_since, since)
    seen_now = mark_seen(txn, mailbox_id, wanted) if plan.set_seen else UidSet()
    from_meta = (plan.envelope, plan.body, plan.bodystructure, plan.preview)
    asked = (*from_meta, plan.object_ids, plan.object_ids)
    columns = _NARROW + "".join(
        f", {name}" if wish else ", NULL" for name, wish in zip(_STORED, asked, strict=True)
    )
    tables = CHOSEN
    if any(from_meta):
        tables += " JOIN message_meta AS m ON m.message_id = p.message_id"
    if plan.object_ids:
        tables += " JOIN message AS x ON x.id = p.message_id"
    kept = () if plan.set_seen else _kept_reads(plan.sections)
    columns += ", k.present, k.octets" if kept else ", NULL, NULL"
    tables += _KEPT if kept else ""
    condition = _changed_after(plan.changed_since)
    # Column names come from the fixed list above, never from a client.
    rows = txn.rows(f"SELECT {columns} FROM {tables}{condition}", (as_json(wanted), mailbox_id))
    found = tuple(
        FetchRow(
            uid, modseq, flags_of(flags, keywords), size, date, message_id,
            envelope, body, tree, preview, email_id, thread_id, saved,
        )
        for (
            uid, modseq, flags, keywords, size, date, message_id, saved,
            envelope, body, tree, preview, email_id, thread_id, _, _,
        ) in rows
    )  # fmt: skip
    news = delta(txn, mailbox_id, since)
    if plan.set_seen or not (plan.sections and found):
        return FetchResult(found, news, seen_now)
    if kept:
        came = [(row[0], row[6], row[-2], row[-1]) for row in rows]
        return FetchResult(found, news, seen_now, _from_kept(txn, mailbox_id, came, kept, plan.max_bytes))
    uids = [row.uid for row in found]
    return FetchResult(found, news, seen_now, content(txn, mailbox_id, uids, plan.sections, plan.max_bytes))


def _changed_after(modseq: ModSeq | None) -> str:
    return "" if modseq is None else f" WHERE p.modseq > {int(modseq)}"


def _flags(
    txn: Txn, mailbox_id: MailboxId, uids: UidSet, changed_since: ModSeq | None, since: ModSeq
) -> FetchResult:
    """As ``fetch``, in a third of the time: most of it goes into columns and what holds them."""
    rows = txn.rows(
        f"SELECT p.uid, p.modseq, p.flags, p.keywords FROM {CHOSEN}{_changed_after(changed_since)}",
        (as_json(uids), mailbox_id),
    )
    return FetchResult((), delta(txn, mailbox_id, since), flags=tuple(map(message_flags, rows)))


class MessageReader:
    """Reads spans of one message, decompressing only the frames they touch."""

    __slots__ = (
        "_base",
        "_cached",
        "_first_frame",
        "_header_frames",
        "_txn",
        "header_bytes",
        "message_id",
        "size_bytes",
    )

    def __init__(
        self,
        txn: Txn,
        message_id: MessageId,
        size_bytes: int,
        header_bytes: int,
        first_frame: bytes | None = None,
    ) -> None:
        """The columns of the same names of table ``message``, and frame 0 when it has been read already."""
        self.message_id, self.size_bytes, self.header_bytes = message_id, size_bytes, header_bytes
        self._txn = txn
        self._base = message_id << FRAME_BITS
        self._header_frames = header_frames(header_bytes)
        self._first_frame = first_frame
        self._cached: tuple[int, bytes] = (-1, b"")

    def _stored(self, number: int) -> bytes:
        if number == 0 and self._first_frame is not None:
            return self._first_frame
        stored: bytes | None = self._txn.value(
            "SELECT frame FROM content WHERE id = ?", (self._base | number,)
        )
        if stored is None:
            raise StorageFailed("a content frame is missing")
        return stored

    def _frame(self, number: int) -> bytes:
        if self._cached[0] != number:
            try:
                self._cached = (number, decompress(self._stored(number)))
            except ValueError:
                raise StorageFailed("a content frame is damaged") from None
        return self._cached[1]

    def header(self) -> bytes:
        """The header, its blank line included."""
        return self.read(0, self.header_bytes)

    def part_tree(self) -> mime.Part:
        """The tree of the message's parts."""
        return mime.load(
            self._txn.value("SELECT parts FROM message_meta WHERE message_id = ?", (self.message_id,))
        )

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``, cut at the end of the message.

        Raises StorageFailed where the stored content is damaged.
        """
        end = min(end, self.size_bytes)
        pieces: list[bytes] = []
        while start < end:
            if start < self.header_bytes:
                number, inside = divmod(start, FRAME_BYTES)
                limit = min(self.header_bytes - number * FRAME_BYTES, FRAME_BYTES)
            else:
                number, inside = divmod(start - self.header_bytes, FRAME_BYTES)
                number += self._header_frames
                limit = FRAME_BYTES
            take = min(limit - inside, end - start)
            piece = self._frame(number)[inside : inside + take]
            if len(piece) != take:
                raise StorageFailed("a content frame is short")
            pieces.append(piece)
            start += take
        return b"".join(pieces)


def small_header(message: str) -> str:
    """SQL for frame 0 of a message if that is all of its header, and small; NULL otherwise.

    Reading it along with a batch of rows takes a third of the time of a query for each.
    ``message`` is the name that table ``message`` has in the query.
    """
    return (
        f"CASE WHEN {message}.header_bytes BETWEEN 1 AND {SMALL_HEADER_BYTES}"
        f" THEN (SELECT frame FROM content WHERE id = {message}.id << {FRAME_BITS}) END"
    )


def _window(start: int, end: int, section: SectionRead) -> tuple[int, int]:
    """The part of a span that a partial asks for (RFC 3501 section 6.4.5)."""
    if section.offset is None:
        return start, end
    low = min(start + section.offset, end)
    return low, end if section.length is None else min(low + section.length, end)


def _read_section(reader: MessageReader, root: mime.Part, section: SectionRead, budget: int) -> SectionData:
    spec = section.spec
    if spec.kind is mime.SectionKind.HEADER_FIELDS and not spec.part:
        # The message's own header is asked for far more often than anything else.
        return _filtered(reader.header(), spec.fields, False, section)
    found = mime.resolve(root, spec)
    if found is None:
        return SectionData(None)
    if isinstance(found, mime.HeaderFilter):
        header = reader.read(found.span.start, found.span.end)
        return _filtered(header, found.fields, found.invert, section)
    if section.decoded:
        return _decoded(reader, root, section, found)
    low, high = _window(found.start, found.end, section)
    stop = min(high, low + max(budget, 1))
    return SectionData(high - low, reader.read(low, stop), stop)


def _filtered(header: bytes, fields: tuple[bytes, ...], invert: bool, section: SectionRead) -> SectionData:
    text = mime.header_fields(header, fields, invert=invert)
    low, high = _window(0, len(text), section)
    return SectionData(high - low, text[low:high], 0)


def _decoded(reader: MessageReader, root: mime.Part, section: SectionRead, span: mime.Span) -> SectionData:
    """A part without its transfer encoding (BINARY); whole parts only, so it comes in one piece."""
    part = mime.find_part(root, section.spec.part)
    raw = reader.read(span.start, span.end)
    if part is None or not section.spec.part:
        data = raw
    elif part.content.encoding in _KNOWN_ENCODINGS:
        data = mime.decode_body(part, raw)
    else:
        return SectionData(0, unknown_encoding=True)
    low, high = _window(0, len(data), section)
    return SectionData(high - low, data[low:high], 0)


def _is_in_header(spec: mime.SectionSpec) -> bool:
    return not spec.part and spec.kind in _HEADER_KINDS


def _kept_reads(sections: Sequence[SectionRead]) -> tuple[tuple[SectionRead, mime.KeptChoice], ...]:
    """The sections with their choices of names, if ``kept_fields`` has all that they ask for; else none."""
    kept: list[tuple[SectionRead, mime.KeptChoice]] = []
    for section in sections:
        spec = section.spec
        is_kept = spec.kind is mime.SectionKind.HEADER_FIELDS and not spec.part
        choice = mime.kept_choice(spec.fields) if is_kept else None
        if choice is None:
            return ()
        kept.append((section, choice))
    return tuple(kept)


def content(
    txn: Txn,
    mailbox_id: MailboxId,
    uids: Sequence[Uid],
    sections: Sequence[SectionRead],
    max_bytes: int,
) -> tuple[ContentRow, ...]:
    """Sections of as many messages, in order, as fit in ``max_bytes``, at least one that exists.

    Only the first message may be truncated; ``Mailbox.read_span`` reads the rest.
    """
    kept = _kept_reads(sections)
    if not kept:
        return _from_frames(txn, mailbox_id, uids, sections, max_bytes)
    rows = txn.rows(
        f"SELECT p.uid, p.message_id, k.present, k.octets FROM {CHOSEN}{_KEPT}",
        (as_json(UidSet.of(uids)), mailbox_id),
    )
    return _from_kept(txn, mailbox_id, rows, kept, max_bytes)


def _from_kept(
    txn: Txn,
    mailbox_id: MailboxId,
    rows: Sequence[Row],
    kept: Sequence[tuple[SectionRead, mime.KeptChoice]],
    max_bytes: int,
) -> tuple[ContentRow, ...]:
    """As ``content``, from rows of UID, message id and the columns of ``kept_fields``.

    Nothing is kept of messages that were filed by earlier versions, or have too much to keep.
    """
    others: dict[Uid, ContentRow] | None = None
    out: list[ContentRow] = []
    left = max_bytes
    for uid, message_id, present, octets in rows:
        if octets is not None:
            one = ContentRow(uid, message_id, _sections_of_kept(present, octets, kept))
        else:
            if others is None:
                uids = [row[0] for row in rows if row[3] is None]
                read = _from_frames(txn, mailbox_id, uids, [section for section, _ in kept], left)
                others = {row.uid: row for row in read}
            if uid not in others:
                continue  # without its row in ``message`` it is not there
            one = others[uid]
        out.append(one)
        for section in one.sections:
            left -= len(section.data)
        if left <= 0:
            break
    return tuple(out)


def _sections_of_kept(
    present: int, octets: bytes, kept: Sequence[tuple[SectionRead, mime.KeptChoice]]
) -> tuple[SectionData, ...]:
    data: list[SectionData] = []
    for section, choice in kept:
        text = choice.of(present, octets)
        if section.offset is not None:
            low, high = _window(0, len(text), section)
            text = text[low:high]
        data.append(SectionData(len(text), text))
    return tuple(data)


def _from_frames(
    txn: Txn,
    mailbox_id: MailboxId,
    uids: Sequence[Uid],
    sections: Sequence[SectionRead],
    max_bytes: int,
) -> tuple[ContentRow, ...]:
    """As ``content``, from the messages themselves."""
    in_header = all(_is_in_header(section.spec) for section in sections)
    frame = small_header("s") if in_header else "NULL"
    rows = txn.rows(
        f"SELECT p.uid, s.id, s.size_bytes, s.header_bytes, {frame} FROM {CHOSEN}"
        " JOIN message AS s ON s.id = p.message_id",
        (as_json(UidSet.of(uids)), mailbox_id),
    )
    by_part = any(section.spec.part for section in sections)
    out: list[ContentRow] = []
    left = max_bytes
    for uid, *message in rows:
        reader = MessageReader(txn, *message)
        # Without part numbers only the root's offsets matter, and they are known.
        root = (
            reader.part_tree()
            if by_part
            else mime.Part(0, reader.header_bytes, reader.size_bytes, mime.Content())
        )
        data: list[SectionData] = []
        for section in sections:
            data.append(_read_section(reader, root, section, left))
            left -= len(data[-1].data)
        cut = any(one.total is not None and len(one.data) < one.total for one in data)
        if cut and out:
            break
        out.append(ContentRow(uid, reader.message_id, tuple(data)))
        if left <= 0:
            break
    return tuple(out)


def read_span(txn: Txn, message_id: MessageId, offset: int, length: int) -> bytes:
    """Bytes of a message from ``offset``.

    Raises:
        NoSuchMessage: it was expunged meanwhile. StorageFailed: the stored content is damaged.
    """
    row = txn.one("SELECT id, size_bytes, header_bytes FROM message WHERE id = ?", (message_id,))
    if row is None:
        raise NoSuchMessage("the message was expunged")
    return MessageReader(txn, *row).read(offset, offset + length)


def read_section(
    txn: Txn, mailbox_id: MailboxId, uid_validity: int, uid: Uid, section: SectionRead
) -> bytes | None:
    """One section of a message in any mailbox (CATENATE's URLs, RFC 4469), None when there is none."""
    row = txn.one(
        "SELECT s.id, s.size_bytes, s.header_bytes FROM placed AS p JOIN message AS s ON s.id = p.message_id"
        " JOIN mailbox AS b ON b.id = p.mailbox_id"
        " WHERE p.mailbox_id = ? AND p.uid = ? AND b.uid_validity = ?",
        (mailbox_id, uid, uid_validity),
    )
    if row is None:
        return None
    reader = MessageReader(txn, *row)
    found = _read_section(reader, reader.part_tree(), section, reader.size_bytes)
    return None if found.total is None else found.data
