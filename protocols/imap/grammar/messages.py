"""Commands on messages but FETCH (RFC 3501 section 6.4, RFC 6851, RFC 7162, RFC 10022). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailstore.model import Flags, MailboxName, ModSeq, StoreMode
from mailstore.uidset import SequenceSet
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.refusal import Malformed


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE (section 6.4.3); with UIDs it is UID EXPUNGE (RFC 4315 section 2.1)."""

    uids: SequenceSet | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """STORE (section 6.4.6) with UNCHANGEDSINCE (RFC 7162 section 3.1.3)."""

    numbers: SequenceSet
    mode: StoreMode
    flags: Flags
    silent: bool = False
    unchanged_since: ModSeq | None = None
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class UidBatches:
    """UIDBATCHES (RFC 10022): messages in a batch, and which batches; last None means all further ones."""

    size: int
    first: int = 1
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY (section 6.4.7)."""

    numbers: SequenceSet
    mailbox: MailboxName
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """MOVE (RFC 6851)."""

    numbers: SequenceSet
    mailbox: MailboxName
    by_uid: bool = False


_STORE_MODES = {
    b"FLAGS": (StoreMode.REPLACE, False),
    b"FLAGS.SILENT": (StoreMode.REPLACE, True),
    b"+FLAGS": (StoreMode.ADD, False),
    b"+FLAGS.SILENT": (StoreMode.ADD, True),
    b"-FLAGS": (StoreMode.REMOVE, False),
    b"-FLAGS.SILENT": (StoreMode.REMOVE, True),
}


def parse_store(cursor: Cursor, by_uid: bool) -> Store:
    """``store`` behind its name."""
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    unchanged_since: ModSeq | None = None
    if cursor.peek() == b"(":
        cursor.open()
        if cursor.word(b"modifier") != b"UNCHANGEDSINCE":
            raise cursor.failure(b"UNCHANGEDSINCE")
        cursor.space()
        unchanged_since = cursor.modseq()
        cursor.close()
        cursor.space()
    mode_and_silence = _STORE_MODES.get(cursor.word(b"FLAGS"))
    if mode_and_silence is None:
        raise cursor.failure(b"FLAGS")
    cursor.space()
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
    else:
        items = [cursor.flag()]
        while cursor.more():
            if len(items) >= cursor.limits.list_items_max:
                raise cursor.failure(b"shorter list")
            items.append(cursor.flag())
        flags = cursor.flags(items)
    cursor.end()
    return Store(numbers, mode_and_silence[0], flags, mode_and_silence[1], unchanged_since, by_uid)


def parse_uid_batches(cursor: Cursor) -> UidBatches:
    """``uidbatches`` behind its name: a size, and which batches, counted from the newest."""
    cursor.space()
    size = cursor.number(b"batch size")
    first, last = 1, None
    if cursor.more():
        first = cursor.number(b"batch number")
        cursor.expect(b":", b"colon")
        last = cursor.number(b"batch number")
        if not 1 <= first <= last:
            raise Malformed(b"batch numbers out of order", b"CLIENTBUG")
    cursor.end()
    return UidBatches(size, first, last)


def numbers_and_mailbox(build: Callable[..., Copy | Move]) -> Callable[[Cursor, bool], Copy | Move]:
    """What parses the arguments of COPY or MOVE into what ``build`` makes of them."""

    def parse(cursor: Cursor, by_uid: bool) -> Copy | Move:
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        mailbox = cursor.mailbox()
        cursor.end()
        return build(numbers, mailbox, by_uid)

    return parse


def parse_uid_expunge(cursor: Cursor) -> Expunge:
    """``uid expunge`` behind its name (RFC 4315 section 2.1)."""
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.end()
    return Expunge(numbers)
