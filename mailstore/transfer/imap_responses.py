"""What an IMAP server says, as far as an import has to understand it (RFC 3501 section 9). Pure.

``imaplib`` gives responses in pieces: text that ends with ``{n}``, then the literal, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mailstore.mime import sent_date
from mailstore.model import Flags, SpecialUse, SystemFlag
from mailstore.modified_utf7 import decode
from mailstore.transfer.keywords import usable_keywords

Token = bytes | None | list["Token"]
"""An atom, string or literal; NIL; a parenthesised list."""

_TOKEN = re.compile(rb'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|((?:\[[^\]]*\]|[^\s()"{\[])+))', re.DOTALL)
_LITERAL = re.compile(rb"~?\{\d+\}\Z")
_MOST_DEPTH = 20
_SYSTEM_FLAGS = {
    b"\\seen": SystemFlag.SEEN,
    b"\\answered": SystemFlag.ANSWERED,
    b"\\flagged": SystemFlag.FLAGGED,
    b"\\deleted": SystemFlag.DELETED,
    b"\\draft": SystemFlag.DRAFT,
}
_USES = {use.value.lower().encode("ascii"): use for use in SpecialUse}
_VIEWS = frozenset({b"\\all", b"\\flagged", b"\\important"})
_NO_MAILBOX = frozenset({b"\\noselect", b"\\nonexistent"})
Pieces = Sequence[bytes]
"""Text, literal, text, literal ... text."""


class Malformed(Exception):
    """The server has said something that IMAP does not allow."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A mailbox of LIST. ``wire`` is its name as the server writes it; ``is_view`` shows others' messages."""

    wire: bytes = field(repr=False)
    levels: tuple[str, ...] = field(repr=False)
    special_use: SpecialUse | None
    is_view: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a message without reading it; ``internal_date`` in seconds since the epoch."""

    uid: int
    size_bytes: int
    internal_date: int
    flags: Flags = field(repr=False)


def responses(data: Iterable[object]) -> Iterator[Pieces]:
    """The pieces of each response in what ``imaplib`` returns."""
    pieces: list[bytes] = []
    for one in data:
        if isinstance(one, tuple):
            pieces += one
        elif isinstance(one, bytes):
            yield [*pieces, one]
            pieces = []
    if pieces:
        yield [*pieces, b""]


def tokens(pieces: Pieces) -> list[Token]:
    """A response, read. Raises Malformed."""
    stack: list[list[Token]] = [[]]
    for number, piece in enumerate(pieces):
        if number % 2:
            stack[-1].append(piece)
            continue
        text = (_LITERAL.sub(b"", piece.rstrip()) if number + 1 < len(pieces) else piece).rstrip()
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or len(stack) > _MOST_DEPTH:
                raise Malformed
            at = found.end()
            if found[1]:
                stack.append([])
            elif found[2]:
                if len(stack) == 1:
                    raise Malformed
                inner = stack.pop()
                stack[-1].append(inner)
            elif found[3] is not None:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", found[3], flags=re.DOTALL))
            else:
                stack[-1].append(None if found[4].upper() == b"NIL" else found[4])
    if len(stack) != 1:
        raise Malformed
    return stack[0]


def fetched(pieces: Pieces) -> dict[bytes, Token]:
    """The items of a FETCH response by their names in capitals. Raises Malformed."""
    found = tokens(pieces)
    if len(found) != 2 or not isinstance(found[1], list) or len(found[1]) % 2:
        raise Malformed
    names, values = found[1][::2], found[1][1::2]
    return {name.upper(): value for name, value in zip(names, values, strict=True) if isinstance(name, bytes)}


def facts_of(items: dict[bytes, Token]) -> Facts | None:
    """UID, size, internal date and flags; None for a response that was not asked for. Raises Malformed."""
    uid, size, date, flags = (items.get(name) for name in (b"UID", b"RFC822.SIZE", b"INTERNALDATE", b"FLAGS"))
    if size is None or date is None:
        return None
    if not (isinstance(uid, bytes) and isinstance(size, bytes) and uid.isdigit() and size.isdigit()):
        raise Malformed
    words = [one for one in flags if isinstance(one, bytes)] if isinstance(flags, list) else []
    return Facts(int(uid), int(size), _date(date), flags_of(words))


def _date(value: Token) -> int:
    found = sent_date(value.strip().replace(b"-", b" ", 2)) if isinstance(value, bytes) else None
    return max(found[0], 0) if found else 0


def flags_of(words: Iterable[bytes]) -> Flags:
    """System flags and keywords; other flags that begin with a backslash are the server's own."""
    system, keywords = SystemFlag.NONE, []
    for word in words:
        if word.startswith(b"\\"):
            system |= _SYSTEM_FLAGS.get(word.lower(), SystemFlag.NONE)
        else:
            keywords.append(word.decode("utf-8", "replace"))
    return Flags(system, usable_keywords(keywords))


def listed(pieces: Pieces, prefix: str) -> Listed | None:
    """A mailbox in a LIST response, without the namespace's ``prefix``; None for one that is a name alone.

    Raises Malformed.
    """
    found = tokens(pieces)
    if len(found) < 3 or not isinstance(found[0], list) or not isinstance(found[2], bytes):
        raise Malformed
    attributes = {one.lower() for one in found[0] if isinstance(one, bytes)}
    if attributes & _NO_MAILBOX:
        return None
    delimiter = found[1].decode("utf-8", "replace") if isinstance(found[1], bytes) else ""
    name = readable(found[2])
    short = name.removeprefix(prefix) or name
    levels = tuple(filter(None, short.split(delimiter))) if delimiter else (short,)
    uses = [_USES[one] for one in sorted(attributes & _USES.keys())]
    is_view = bool(attributes & _VIEWS)
    return Listed(found[2], levels or (short,), uses[0] if uses and not is_view else None, is_view)


def readable(wire: bytes) -> str:
    """A mailbox name as text: modified UTF-7 (RFC 3501 section 5.1.3), else what may have been meant."""
    try:
        return decode(wire)
    except ValueError:
        return wire.decode("utf-8", "replace")


def namespace_prefix(pieces: Pieces) -> str:
    """The prefix of the first personal namespace (RFC 2342), such as ``INBOX.``; mostly empty."""
    try:
        found = tokens(pieces)
    except Malformed:
        return ""
    personal = found[0] if found else None
    first = personal[0] if isinstance(personal, list) and personal else None
    prefix = first[0] if isinstance(first, list) and first else None
    return readable(prefix) if isinstance(prefix, bytes) else ""
