"""Rendering of everything the server says (RFC 3501 sections 7 and 9). Pure.

Lines end with CRLF. Functions that render many rows do it with one ``%`` per block of rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from mailstore.model import (
    FetchRow,
    Flags,
    MailboxStatus,
    MessageFlags,
    ModSeq,
    Quota,
    SystemFlag,
    Uid,
)
from mailstore.uidset import UidSet
from protocols.imap.grammar.mailbox import StatusItem
from protocols.imap.grammar.utf7 import mailbox_to_wire

BLOCK_ROWS = 500
"""Rows formatted at a time: enough to amortise, small enough to keep the reactor free."""

_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")
_QUOTABLE = re.compile(rb"[^\x00\r\n\x80-\xff]{0,1000}\Z")
_TO_ESCAPE = re.compile(rb'["\\]')
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_SYSTEM_NAMES = (
    (SystemFlag.ANSWERED, b"\\Answered"),
    (SystemFlag.FLAGGED, b"\\Flagged"),
    (SystemFlag.DELETED, b"\\Deleted"),
    (SystemFlag.SEEN, b"\\Seen"),
    (SystemFlag.DRAFT, b"\\Draft"),
)
SYSTEM_FLAGS = b" ".join(name for _, name in _SYSTEM_NAMES)
_SYSTEM_TEXT = tuple(b" ".join(name for flag, name in _SYSTEM_NAMES if bits & flag) for bits in range(32))


def tagged(tag: bytes, status: bytes, text: bytes, code: bytes = b"") -> bytes:
    """A tagged status response (section 7.1); with tag ``*`` an untagged one."""
    if code:
        return b"%s %s [%s] %s\r\n" % (tag, status, code, text)
    return b"%s %s %s\r\n" % (tag, status, text)


def untagged(text: bytes) -> bytes:
    """``* text``."""
    return b"* %s\r\n" % text


def quoted(text: bytes) -> bytes:
    """``quoted`` when the octets allow, else a literal."""
    if _QUOTABLE.match(text):
        return b'"' + _TO_ESCAPE.sub(rb"\\\g<0>", text) + b'"'
    return literal(text)


def literal(data: bytes) -> bytes:
    """``literal``."""
    return b"{%d}\r\n%s" % (len(data), data)


def nstring(text: bytes | None) -> bytes:
    """``nstring``: NIL or a string."""
    return b"NIL" if text is None else quoted(text)


def astring(text: bytes) -> bytes:
    """``astring``: an atom when possible. NIL is quoted, because some clients read it as no value."""
    if _ATOM.match(text) and text.upper() != b"NIL":
        return text
    return quoted(text)


def mailbox(name: str, utf8: bool) -> bytes:
    """A mailbox name; with UTF8=ACCEPT the quoted string is UTF-8 (RFC 9755 section 3)."""
    wire = mailbox_to_wire(name, utf8)
    if utf8 and not wire.isascii() and not {0, 10, 13} & set(wire):
        return b'"' + _TO_ESCAPE.sub(rb"\\\g<0>", wire) + b'"'
    return astring(wire)


def flags(value: Flags, recent: bool = False) -> bytes:
    """``flag-list`` without its parentheses."""
    text = _SYSTEM_TEXT[value.system]
    if value.keywords:
        names = " ".join(value.keywords).encode("ascii")
        text = b"%s %s" % (text, names) if text else names
    if recent:
        text = b"%s \\Recent" % text if text else b"\\Recent"
    return text


def flags_defined(keywords: Sequence[str], read_only: bool) -> list[bytes]:
    """FLAGS and PERMANENTFLAGS of a mailbox (sections 7.2.6 and 7.1)."""
    text = SYSTEM_FLAGS + b"".join(b" " + keyword.encode("ascii") for keyword in keywords)
    permanent = b"" if read_only else text + b" \\*"
    code = b"PERMANENTFLAGS (%s)" % permanent
    return [b"* FLAGS (%s)\r\n" % text, tagged(b"*", b"OK", b"flags that can be changed", code)]


def internal_date(seconds: int) -> bytes:
    """``date-time`` in UTC."""
    moment = time.gmtime(seconds)
    return b'"%2d-%s-%04d %02d:%02d:%02d +0000"' % (
        moment.tm_mday,
        _MONTHS[moment.tm_mon - 1],
        moment.tm_year,
        moment.tm_hour,
        moment.tm_min,
        moment.tm_sec,
    )


def save_date(seconds: int | None) -> bytes:
    """SAVEDATE, NIL when it is not known (RFC 8514 section 4.2)."""
    return b"NIL" if seconds is None else internal_date(seconds)


def number_lines(template: bytes, numbers: Sequence[int]) -> list[bytes]:
    """``template``, which takes one number, for each of ``numbers``, in blocks."""
    return [
        template * len(block) % tuple(block)
        for block in (numbers[at : at + BLOCK_ROWS] for at in range(0, len(numbers), BLOCK_ROWS))
    ]


def expunge_lines(seqs: Sequence[int]) -> list[bytes]:
    """EXPUNGE responses (section 7.4.1); highest first, so that none moves another."""
    return number_lines(b"* %d EXPUNGE\r\n", seqs)


def vanished_line(uids: UidSet, earlier: bool = False) -> bytes:
    """VANISHED (RFC 7162 section 3.2.10); ``earlier`` tells of what went before the mailbox was selected."""
    return b"* VANISHED %b%b\r\n" % (b"(EARLIER) " if earlier else b"", uids.to_bytes())


def flag_lines(
    rows: Iterable[tuple[int, MessageFlags | FetchRow]],
    recent: UidSet,
    uids: bool,
    modseqs: bool,
    fetch: bytes = b"FETCH",
) -> Iterator[bytes]:
    """FETCH responses with FLAGS for rows of number and state, UID and MODSEQ on request, in blocks.

    ``fetch`` is what the response is called (see ``Wording``).
    """
    items = (b"UID %d " if uids else b"") + b"FLAGS (%b)" + (b" MODSEQ (%d)" if modseqs else b"")
    template = b"* %d " + fetch + b" (" + items + b")\r\n"
    some_recent = bool(recent)
    waiting = iter(rows)
    while block := list(islice(waiting, BLOCK_ROWS)):
        values: list[int | bytes] = []
        for seq, row in block:
            text = flags(row.flags, some_recent and row.uid in recent)
            if uids and modseqs:
                values += (seq, row.uid, text, row.modseq)
            elif uids:
                values += (seq, row.uid, text)
            elif modseqs:
                values += (seq, text, row.modseq)
            else:
                values += (seq, text)
        yield template * len(block) % tuple(values)


def modseq_lines(rows: Iterable[tuple[int, Uid, ModSeq]], uids: bool, fetch: bytes = b"FETCH") -> list[bytes]:
    """FETCH responses with MODSEQ alone, for STORE with .SILENT (RFC 7162 section 3.1.3)."""
    if uids:
        return [b"* %d %b (UID %d MODSEQ (%d))\r\n" % (seq, fetch, uid, modseq) for seq, uid, modseq in rows]
    return [b"* %d %b (MODSEQ (%d))\r\n" % (seq, fetch, modseq) for seq, _, modseq in rows]


def list_line(
    attributes: Sequence[bytes],
    name: str,
    utf8: bool,
    child_info: bool = False,
    command: bytes = b"LIST",
    old_name: str | None = None,
) -> bytes:
    """LIST or LSUB (section 7.2.2).

    ``child_info`` adds CHILDINFO (RFC 5258 section 3.5), ``old_name`` OLDNAME (RFC 9051 section 6.3.9.7).
    """
    extra = b' ("CHILDINFO" ("SUBSCRIBED"))' if child_info else b""
    if old_name is not None:
        extra = b' ("OLDNAME" (%s))' % mailbox(old_name, utf8)
    return b'* %s (%s) "/" %s%s\r\n' % (command, b" ".join(attributes), mailbox(name, utf8), extra)


def object_id(value: str | None) -> bytes:
    """An object identifier in its parentheses, NIL for none (RFC 8474 section 7)."""
    return b"NIL" if value is None else b"(%s)" % value.encode("ascii")


def deleted_storage(status: MailboxStatus) -> int:
    """DELETED-STORAGE (RFC 9208 section 4.1.4), which may be an estimate: the deleted messages' share."""
    return status.size_bytes * status.deleted // status.messages if status.messages else 0


def status_line(
    name: str, status: MailboxStatus, items: Sequence[StatusItem], append_limit: int, utf8: bool
) -> bytes:
    """STATUS (section 7.2.4)."""
    values: Mapping[StatusItem, int | bytes] = {
        StatusItem.MESSAGES: status.messages,
        StatusItem.RECENT: status.recent,
        StatusItem.UIDNEXT: status.uid_next,
        StatusItem.UIDVALIDITY: status.uid_validity,
        StatusItem.UNSEEN: status.unseen,
        StatusItem.SIZE: status.size_bytes,
        StatusItem.HIGHESTMODSEQ: status.highest_modseq,
        StatusItem.APPENDLIMIT: append_limit,
        StatusItem.DELETED: status.deleted,
        StatusItem.DELETED_STORAGE: deleted_storage(status),
        StatusItem.MAILBOXID: object_id(status.object_id),
    }
    return status_values_line(name, {item: values[item] for item in items}, utf8)


def status_values_line(name: str, values: Mapping[StatusItem, int | bytes], utf8: bool) -> bytes:
    """STATUS of these items, in this order."""
    text = b" ".join(
        b"%s %b" % (item.value, value if isinstance(value, bytes) else b"%d" % value)
        for item, value in values.items()
    )
    return b"* STATUS %s (%s)\r\n" % (mailbox(name, utf8), text)


def quota_line(quota: Quota) -> bytes:
    """QUOTA of the root ``""`` (RFC 9208 section 4.2.1); STORAGE in units of 1024 octets."""
    resources: list[bytes] = []
    if quota.limit_bytes is not None:
        resources.append(b"STORAGE %d %d" % (-(-quota.used_bytes // 1024), quota.limit_bytes // 1024))
    if quota.limit_messages is not None:
        resources.append(b"MESSAGE %d %d" % (quota.used_messages, quota.limit_messages))
    return b'* QUOTA "" (%s)\r\n' % b" ".join(resources)


def ordered_set(numbers: Sequence[int]) -> bytes:
    """``uid-set`` that keeps the order of ``numbers``: COPYUID pairs both sides (RFC 4315 section 3)."""
    parts: list[bytes] = []
    at = 0
    while at < len(numbers):
        stop = at
        while stop + 1 < len(numbers) and numbers[stop + 1] == numbers[stop] + 1:
            stop += 1
        parts.append(b"%d" % numbers[at] if at == stop else b"%d:%d" % (numbers[at], numbers[stop]))
        at = stop + 1
    return b",".join(parts)


def search_line(numbers: Sequence[int], modseq: ModSeq | None) -> bytes:
    """SEARCH (section 7.2.5), with MODSEQ when that was searched (RFC 7162 section 3.1.5)."""
    text = b"".join(number_lines(b" %d", numbers))
    if modseq is not None and numbers:
        text += b" (MODSEQ %d)" % modseq
    return b"* SEARCH%s\r\n" % text
