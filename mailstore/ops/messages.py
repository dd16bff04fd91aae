"""Messages: file, copy, move, expunge, change flags. Each is one unit inside one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailstore.engine import Row, Txn, Value
from mailstore.errors import LimitExceeded, NoSuchMessage
from mailstore.model import (
    CopyResult,
    Delta,
    Flags,
    MailboxId,
    MessageId,
    ModSeq,
    QuotaLimits,
    StoreMode,
    StoreResult,
    SystemFlag,
    Uid,
    UidValidity,
)
from mailstore.ops.quota import check_quota
from mailstore.ops.rows import (
    CHOSEN,
    as_json,
    bump_modseq,
    delta,
    flags_of,
    keywords_column,
    keywords_of,
    message_flags,
)
from mailstore.prepared import PreparedMessage, ReadyMessage
from mailstore.schema import new_object_id
from mailstore.uidset import UidSet

FRAME_BITS = 16
"""``content.id`` is ``message_id << FRAME_BITS | frame number``."""

MAX_KEYWORDS = 250
"""Most different keywords in one mailbox."""

_META = "INSERT INTO message_meta VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PLACE = (
    "INSERT INTO placed(mailbox_id, uid, modseq, flags, keywords, message_id, size_bytes, internal_date,"
    " save_date) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def known_keywords(
    txn: Txn, mailbox_id: MailboxId, wanted: Iterable[str], *, add: bool = True
) -> tuple[str, ...]:
    """The keywords in the spelling the mailbox knows them by, sorted, no repeats.

    New ones are added to the mailbox, or left out of the answer when ``add`` is false.

    Raises:
        LimitExceeded: the mailbox would have more than ``MAX_KEYWORDS``.
    """
    spelled: set[str] = set()
    for keyword in wanted:
        row = txn.one("SELECT name FROM keyword WHERE mailbox_id = ? AND name = ?", (mailbox_id, keyword))
        if row is None:
            if not add:
                continue
            if txn.value("SELECT count(*) FROM keyword WHERE mailbox_id = ?", (mailbox_id,)) >= MAX_KEYWORDS:
                raise LimitExceeded("too many keywords in the mailbox")
            txn.run("INSERT INTO keyword VALUES(?, ?)", (mailbox_id, keyword))
        spelled.add(row[0] if row else keyword)
    return tuple(sorted(spelled))


def thread_of(txn: Txn, hashes: Sequence[bytes]) -> str:
    """The thread that a message with these reference hashes belongs to; remembers the hashes."""
    thread: str | None = None
    for one in hashes:
        thread = txn.value("SELECT thread_id FROM reference WHERE hash = ?", (one,))
        if thread is not None:
            break
    thread = thread or new_object_id("T")
    txn.many("INSERT OR IGNORE INTO reference VALUES(?, ?)", [(one, thread) for one in hashes])
    return thread


def meta_values(message_id: int, prepared: PreparedMessage) -> tuple[Value, ...]:
    """The row of ``message_meta`` of a message."""
    keys = prepared.sort_keys
    return (
        message_id,
        prepared.envelope,
        prepared.body,
        prepared.bodystructure,
        prepared.parts,
        keys.date,
        keys.sent_day,
        keys.subject,
        keys.sender,
        keys.to,
        keys.cc,
        keys.display_from,
        keys.display_to,
        keys.is_reply,
        prepared.own_hash,
        b"".join(prepared.reference_hashes),
        prepared.preview,
    )


def insert_meta(txn: Txn, message_id: int, prepared: PreparedMessage) -> None:
    """Keep ready what is answered about a message, and sorted and threaded by."""
    txn.run(_META, meta_values(message_id, prepared))
    if prepared.kept_fields is not None:
        txn.run("INSERT INTO kept_fields VALUES(?, ?, ?)", (message_id, *prepared.kept_fields))


def _insert_message(txn: Txn, prepared: PreparedMessage) -> int:
    message_id = txn.insert(
        "INSERT INTO message(object_id, thread_id, size_bytes, header_bytes) VALUES(?, ?, ?, ?)",
        (
            new_object_id("M"),
            thread_of(txn, prepared.thread_hashes),
            prepared.size_bytes,
            prepared.header_bytes,
        ),
    )
    insert_meta(txn, message_id, prepared)
    txn.many(
        "INSERT INTO content VALUES(?, ?)",
        [(message_id << FRAME_BITS | number, frame) for number, frame in enumerate(prepared.frames)],
    )
    return message_id


def take_uids(txn: Txn, mailbox_id: MailboxId, count: int) -> tuple[Uid, UidValidity]:
    """Allocate ``count`` UIDs; the first of them and the mailbox's UIDVALIDITY."""
    row = txn.one(
        "UPDATE mailbox SET uid_next = uid_next + ? WHERE id = ? RETURNING uid_next, uid_validity",
        (count, mailbox_id),
    )
    assert row is not None
    return Uid(row[0] - count), UidValidity(row[1])


def add_messages(
    txn: Txn, mailbox_id: MailboxId, messages: Sequence[ReadyMessage]
) -> tuple[UidValidity, tuple[Uid, ...]]:
    """File messages into a mailbox, in order.

    Raises:
        NoSuchMailbox: the mailbox was deleted meanwhile.
        LimitExceeded: too many keywords.
    """
    modseq = bump_modseq(txn, mailbox_id)
    first, validity = take_uids(txn, mailbox_id, len(messages))
    for offset, new in enumerate(messages):
        keywords = known_keywords(txn, mailbox_id, new.flags.keywords)
        message_id = _insert_message(txn, new.prepared)
        txn.run(
            _PLACE,
            (
                mailbox_id,
                first + offset,
                modseq,
                int(new.flags.system),
                keywords_column(keywords),
                message_id,
                new.prepared.size_bytes,
                new.internal_date,
                txn.now,
            ),
        )
    return validity, tuple(Uid(first + offset) for offset in range(len(messages)))


def place_again(
    txn: Txn, mailbox_id: MailboxId, message_id: int, size_bytes: int, internal_date: int
) -> None:
    """Put a message that lies in no mailbox into one, without flags."""
    modseq = bump_modseq(txn, mailbox_id)
    uid, _ = take_uids(txn, mailbox_id, 1)
    txn.run(_PLACE, (mailbox_id, uid, modseq, 0, None, message_id, size_bytes, internal_date, txn.now))


class PlacedMessage(NamedTuple):
    """A message as it lies in a mailbox; ``internal_date`` in seconds since the epoch."""

    message_id: MessageId
    flags: Flags
    internal_date: int
    size_bytes: int


def placed_messages(txn: Txn, mailbox_id: MailboxId) -> list[PlacedMessage]:
    """All messages of a mailbox by ascending UID."""
    rows = txn.rows(
        "SELECT message_id, flags, keywords, internal_date, size_bytes FROM placed"
        " WHERE mailbox_id = ? ORDER BY uid",
        (mailbox_id,),
    )
    return [PlacedMessage(one, flags_of(flags, words), date, size) for one, flags, words, date, size in rows]


def _chosen_rows(txn: Txn, mailbox_id: MailboxId, uids: UidSet) -> list[Row]:
    """UID, size and keywords of the chosen messages, by ascending UID."""
    return txn.rows("SELECT p.uid, p.size_bytes, p.keywords FROM " + CHOSEN, (as_json(uids), mailbox_id))


def _place_copies(
    txn: Txn, source: MailboxId, rows: Sequence[Row], destination: MailboxId
) -> tuple[UidValidity, tuple[Uid, ...], ModSeq]:
    modseq = bump_modseq(txn, destination)
    first, validity = take_uids(txn, destination, len(rows))
    last = first + len(rows) - 1
    # One statement for all: row by row through Python takes twice as long, and the interpreter's lock.
    txn.run(
        "INSERT INTO placed(mailbox_id, uid, modseq, flags, keywords, message_id, size_bytes, internal_date,"
        " save_date) SELECT ?, ? + row_number() OVER (ORDER BY p.uid), ?, p.flags, p.keywords, p.message_id,"
        " p.size_bytes, p.internal_date, ? FROM " + CHOSEN,
        (destination, first - 1, modseq, txn.now, as_json(UidSet.of(row[0] for row in rows)), source),
    )
    for column in {row[2] for row in rows} - {None}:
        spelled = keywords_column(known_keywords(txn, destination, keywords_of(column)))
        if spelled != column:
            txn.run(
                "UPDATE placed SET keywords = ?"
                " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND keywords = ?",
                (spelled, destination, first, last, column),
            )
    return validity, tuple(Uid(uid) for uid in range(first, last + 1)), modseq


def copy(
    txn: Txn,
    source: MailboxId,
    uids: UidSet,
    destination: MailboxId,
    since: ModSeq,
    limits: QuotaLimits,
) -> CopyResult:
    """COPY (RFC 3501 section 6.4.7): the copies share the message row. All or none.

    Raises:
        OverQuota: the copies would pass the account's limits (bytes, messages).
    """
    rows = _chosen_rows(txn, source, uids)
    validity = UidValidity(txn.value("SELECT uid_validity FROM mailbox WHERE id = ?", (destination,)))
    placed: tuple[Uid, ...] = ()
    if rows:
        check_quota(txn, sum(row[1] for row in rows), len(rows), limits)
        validity, placed, _ = _place_copies(txn, source, rows, destination)
    return CopyResult(validity, tuple(Uid(row[0]) for row in rows), placed, delta(txn, source, since))


def move(txn: Txn, source: MailboxId, uids: UidSet, destination: MailboxId, since: ModSeq) -> CopyResult:
    """MOVE (RFC 6851): messages that are gone already are not an error. All or none."""
    rows = _chosen_rows(txn, source, uids)
    validity = UidValidity(txn.value("SELECT uid_validity FROM mailbox WHERE id = ?", (destination,)))
    placed: tuple[Uid, ...] = ()
    if rows:
        validity, placed, modseq = _place_copies(txn, source, rows, destination)
        if source != destination:
            modseq = bump_modseq(txn, source)
        _forget(txn, source, [row[0] for row in rows], modseq)
    return CopyResult(validity, tuple(Uid(row[0]) for row in rows), placed, delta(txn, source, since))


def move_all(txn: Txn, source: MailboxId, destination: MailboxId) -> None:
    """Move every message (RENAME of INBOX)."""
    move(txn, source, UidSet(((1, 4294967295),)), destination, ModSeq(0))


def _forget(txn: Txn, mailbox_id: MailboxId, uids: Sequence[int], modseq: ModSeq) -> None:
    """Take messages out of a mailbox and remember that they were expunged."""
    chosen = UidSet.of(uids)
    txn.run(
        "INSERT INTO expunged SELECT p.mailbox_id, ?, p.uid FROM " + CHOSEN,
        (modseq, as_json(chosen), mailbox_id),
    )
    txn.many(
        "DELETE FROM placed WHERE mailbox_id = ? AND uid BETWEEN ? AND ?",
        [(mailbox_id, *ends) for ends in chosen.ranges],
    )


def _drop_unplaced(txn: Txn, message_ids: Iterable[int]) -> None:
    """Delete the content of messages that lie in no mailbox any more; secure_delete overwrites it."""
    unplaced = txn.rows(
        "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM placed WHERE message_id = value)",
        (json.dumps(list(message_ids)),),
    )
    for (message_id,) in unplaced:
        low = message_id << FRAME_BITS
        txn.run("DELETE FROM content WHERE id BETWEEN ? AND ?", (low, low | (1 << FRAME_BITS) - 1))
        thread_id = txn.value("DELETE FROM message WHERE id = ? RETURNING thread_id", (message_id,))
        if not txn.value("SELECT 1 FROM message WHERE thread_id = ? LIMIT 1", (thread_id,)):
            txn.run("DELETE FROM reference WHERE thread_id = ?", (thread_id,))


def remove_all(txn: Txn, mailbox_id: MailboxId) -> None:
    """Delete every message of a mailbox that is about to be deleted."""
    ids = {one for (one,) in txn.rows("SELECT message_id FROM placed WHERE mailbox_id = ?", (mailbox_id,))}
    txn.run("DELETE FROM placed WHERE mailbox_id = ?", (mailbox_id,))
    _drop_unplaced(txn, ids)


def expunge(txn: Txn, mailbox_id: MailboxId, uids: UidSet | None, since: ModSeq) -> Delta:
    """Remove messages with ``\\Deleted``, only those in ``uids`` when given (RFC 4315 section 2.1)."""
    rows = txn.rows(
        "SELECT uid, message_id FROM placed INDEXED BY placed_deleted"
        " WHERE mailbox_id = ? AND flags & 8 = 8 ORDER BY uid",
        (mailbox_id,),
    )
    _expunge_rows(txn, mailbox_id, [row for row in rows if uids is None or row[0] in uids])
    return delta(txn, mailbox_id, since)


def replace(
    txn: Txn,
    source: MailboxId,
    uid: Uid,
    destination: MailboxId,
    new: ReadyMessage,
    since: ModSeq,
) -> tuple[UidValidity, Uid, Delta]:
    """REPLACE (RFC 8508): add a message and take the old one away, both or neither.

    Raises:
        NoSuchMessage: the message to replace is gone already; nothing was added.
    """
    rows = txn.rows("SELECT uid, message_id FROM placed WHERE mailbox_id = ? AND uid = ?", (source, uid))
    if not rows:
        raise NoSuchMessage("the message was expunged")
    validity, placed = add_messages(txn, destination, [new])
    _expunge_rows(txn, source, rows)
    return validity, placed[0], delta(txn, source, since)


def expunge_unconditionally(txn: Txn, mailbox_id: MailboxId, uids: UidSet) -> None:
    """Remove messages whatever their flags (POP3's UPDATE state); missing ones are no error."""
    rows = txn.rows("SELECT p.uid, p.message_id FROM " + CHOSEN, (as_json(uids), mailbox_id))
    _expunge_rows(txn, mailbox_id, rows)


def _expunge_rows(txn: Txn, mailbox_id: MailboxId, rows: Sequence[Row]) -> None:
    if rows:
        _forget(txn, mailbox_id, [row[0] for row in rows], bump_modseq(txn, mailbox_id))
        _drop_unplaced(txn, {row[1] for row in rows})


def _changed(flags: int, column: str | None, mode: StoreMode, change: Flags) -> tuple[int, str | None]:
    """The columns ``flags`` and ``keywords`` after a change."""
    keywords, named = frozenset(keywords_of(column)), frozenset(change.keywords)
    match mode:
        case StoreMode.REPLACE:
            flags, keywords = int(change.system), named
        case StoreMode.ADD:
            flags, keywords = flags | int(change.system), keywords | named
        case StoreMode.REMOVE:
            flags, keywords = flags & ~int(change.system), keywords - named
    return flags, keywords_column(tuple(sorted(keywords)))


def _write_flags(
    txn: Txn, mailbox_id: MailboxId, rows: Iterable[Row], mode: StoreMode, change: Flags
) -> UidSet:
    """Change the flags of the given rows (uid, modseq, flags, keywords) where that makes a difference.

    Returns:
        The messages that it was made on.
    """
    outcomes: dict[tuple[int, str | None], tuple[int, str | None]] = {}
    writes: dict[tuple[int, str | None], list[int]] = {}
    for uid, _, flags, column in rows:
        before = (flags, column)
        # A mailbox has few combinations of flags, however many messages.
        after = outcomes.get(before)
        if after is None:
            after = outcomes[before] = _changed(flags, column, mode, change)
        if after != before:
            writes.setdefault(after, []).append(uid)
    if not writes:
        return UidSet()
    modseq = bump_modseq(txn, mailbox_id)
    for (system, keywords), uids in writes.items():
        txn.many(
            "UPDATE placed SET flags = ?, keywords = ?, modseq = ?"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ?",
            [(system, keywords, modseq, mailbox_id, *ends) for ends in UidSet.of(uids).ranges],
        )
    return UidSet.of(uid for uids in writes.values() for uid in uids)


def store_flags(
    txn: Txn,
    mailbox_id: MailboxId,
    uids: UidSet,
    mode: StoreMode,
    change: Flags,
    unchanged_since: ModSeq | None,
    since: ModSeq,
) -> StoreResult:
    """STORE (RFC 3501 section 6.4.6) with UNCHANGEDSINCE (RFC 7162 section 3.1.3).

    Messages whose flags already are as wanted keep their modseq. ``since`` is at most the mailbox's
    highest modseq.

    Raises:
        LimitExceeded: too many keywords in the mailbox.
    """
    rows = txn.rows("SELECT p.uid, p.modseq, p.flags, p.keywords FROM " + CHOSEN, (as_json(uids), mailbox_id))
    present = UidSet.of(row[0] for row in rows)
    refused = UidSet()
    if unchanged_since is not None:
        refused = UidSet.of(row[0] for row in rows if row[1] > unchanged_since)
        rows = [row for row in rows if row[0] not in refused]
    # Without a message to carry it, a keyword is not added: the mailbox may even be gone.
    is_new = bool(rows) and mode is not StoreMode.REMOVE
    change = Flags(change.system, known_keywords(txn, mailbox_id, change.keywords, add=is_new))
    written = _write_flags(txn, mailbox_id, rows, mode, change)
    # What was written is above ``since``, so the delta has it; the other rows are as they were.
    found = delta(txn, mailbox_id, since)
    fresh = {one.uid: one for one in found.changed}
    updated = tuple(fresh.get(row[0]) or message_flags(row) for row in rows)
    return StoreResult(updated, refused, uids - present, found, written)


def mark_seen(txn: Txn, mailbox_id: MailboxId, uids: UidSet) -> UidSet:
    """Set ``\\Seen`` where it is missing (FETCH of BODY[]); the messages it was set on."""
    unseen = txn.rows(
        "SELECT p.uid, p.modseq, p.flags, p.keywords FROM " + CHOSEN + " WHERE p.flags & 1 = 0",
        (as_json(uids), mailbox_id),
    )
    _write_flags(txn, mailbox_id, unseen, StoreMode.ADD, Flags(SystemFlag.SEEN))
    return UidSet.of(row[0] for row in unseen)
