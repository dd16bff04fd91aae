"""The text of one message as SEARCH looks at it: which of the texts wanted its header and body contain.

A header is looked at line by line, folding taken back, so that a text may lie across field name and value
but not in two fields (RFC 9051 section 6.4.4: TEXT). The body is the text parts of the message, and the
header of every part below the message's own, MIME fields and those of enclosed messages alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache

from mailstore import mime
from mailstore.ops.content import MessageReader
from mailstore.search import KEPT_FIELDS
from mailstore.search_form import contained, search_form, search_pieces

_LINE_END = re.compile(rb"\n(?![ \t])")
_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
INDEX_SEPARATOR = "\n"
"""Between texts that are searched one by one: no form has it, so no needle reaches over it."""

_PATTERNS_KEPT = 64
_SHORT_CHARS = 500
_ADDRESS_FIELDS = {"FROM", "TO", "CC", "BCC"}
_WORD = re.compile(r"[a-z0-9]+")
_NO_WORD = bytes(code for code in range(256) if not _WORD.match(chr(code)))
_REARRANGED = (b"(", b":", b"=")
"""What an address list holds whose entries may read otherwise: comments, routes, groups, encoded words.

Quotes may stand within the ``=?`` of an encoded word.
"""


class Wanted:
    """What one search looks for: all of its texts, in their form, and what each is quickly ruled out by."""

    def __init__(self) -> None:
        self.in_body: set[str] = set()
        """All texts that ``MessageText.body_has`` will be asked for."""
        self._words: dict[str, tuple[bytes, ...] | None] = {}
        self._tokens: dict[str, tuple[bytes, ...] | None] = {}

    def words(self, needle: str) -> tuple[bytes, ...] | None:
        """What stands in a header in one piece where ``needle`` is in it; None where that is not ASCII."""
        if needle not in self._words:
            self._words[needle] = _as_bytes(needle, needle.split())
        return self._words[needle]

    def tokens(self, needle: str) -> tuple[bytes, ...] | None:
        """What stands in the letters and digits of an address list in one piece; None as above."""
        if needle not in self._tokens:
            self._tokens[needle] = _as_bytes(needle, _WORD.findall(needle))
        return self._tokens[needle]


def _as_bytes(needle: str, words: list[str]) -> tuple[bytes, ...] | None:
    return tuple(word.encode("ascii") for word in words) if needle.isascii() else None


class MessageText:
    """One message, read and decoded at most once and only as far as it is asked about."""

    def __init__(self, reader: MessageReader, wanted: Wanted) -> None:
        self._reader = reader
        self._wanted = wanted

    @cached_property
    def _header(self) -> bytes:
        reader = self._reader
        return reader.read(0, min(reader.header_bytes, mime.DEFAULT_LIMITS.max_header_bytes))

    @cached_property
    def _plain_header(self) -> bytes | None:
        return _plain(self._header)

    @cached_property
    def _header_lines(self) -> list[_Line]:
        return [_Line(line) for line in _LINE_END.split(self._header)]

    @cached_property
    def _found_in_body(self) -> set[str]:
        root = self._reader.part_tree()
        missing = set(self._wanted.in_body)
        waiting = [root]
        while waiting and missing:
            part = waiting.pop()
            if part is not root:
                missing -= self._found_in_part_header(part, missing)
            if mime.is_text(part):
                pieces = search_pieces(mime.text_pieces(part, _text_bytes(self._reader, part)))
                missing -= contained(pieces, missing)
            waiting.extend(reversed(part.children))
            if part.message is not None:
                waiting.append(part.message)
        return self._wanted.in_body - missing

    def _found_in_part_header(self, part: mime.Part, needles: set[str]) -> set[str]:
        header = _part_header(self._reader, part)
        plain = _plain(header)
        possible = {needle for needle in needles if _may_hold(plain, self._wanted.words(needle))}
        if b"*" in header:
            # What is split up or percent-encoded (RFC 2231) is not to be found in the field as it stands.
            name = search_form(mime.filename(part) or "")
            found = {needle for needle in needles if needle in name}
        else:
            found = set()
        if possible - found:
            forms = [_Line(line).form for line in _LINE_END.split(header)]
            found |= {needle for needle in possible if any(needle in form for form in forms)}
        return found

    def field_has(self, name: str, needle: str) -> bool:
        """Whether a field called ``name`` (upper case) contains ``needle``, an empty one if it is there.

        In the fields with addresses also when an entry does as the envelope tells it (RFC 3501 section
        6.4.4 on FROM): without comments, quotes, and white space within the address.
        """
        words = self._wanted.words(needle)
        if name in _ADDRESS_FIELDS:
            # What an entry holds in one piece may stand in several in the header.
            tokens = self._wanted.tokens(needle)
            return any(
                _value_has(value, needle, words) or _addresses_have(value, needle, tokens)
                for value in _values(self._header, name)
            )
        if not _may_hold(self._plain_header, words):
            return False
        return any(_value_has(value, needle, words) for value in _values(self._header, name))

    def header_has(self, needle: str) -> bool:
        """Whether a line of the message's own header contains ``needle``."""
        words = self._wanted.words(needle)
        if not _may_hold(self._plain_header, words):
            return False
        return any(_may_hold(line.plain, words) and needle in line.form for line in self._header_lines)

    def body_has(self, needle: str) -> bool:
        """Whether anything below the message's own header contains ``needle``."""
        return needle in self._found_in_body


def header_forms(reader: MessageReader) -> Iterator[str]:
    """All that ``field_has`` and ``header_has`` compare with, in its form, each with ``INDEX_SEPARATOR``."""
    header = reader.read(0, min(reader.header_bytes, mime.DEFAULT_LIMITS.max_header_bytes))
    for raw in _LINE_END.split(header):
        yield _Line(raw).form + INDEX_SEPARATOR
        for other in _other_forms(raw):
            yield other + INDEX_SEPARATOR


def _other_forms(raw: bytes) -> Iterator[str]:
    """How the value of a field may read otherwise than as the end of its line."""
    name, colon, rest = raw.partition(b":")
    if not colon:
        return
    value = mime.unfold(rest)
    if b"=?" in name:
        yield search_form(mime.decode_words(value))  # an encoded word may begin in the name
    if name.strip().upper().decode("latin-1") in _ADDRESS_FIELDS:
        for address in mime.addresses(value):
            yield search_form(_entry(address))


def field_forms(reader: MessageReader) -> Iterator[tuple[str, str]]:
    """All that ``field_has`` compares for each of ``KEPT_FIELDS`` that is there; see ``header_forms``."""
    header = reader.read(0, min(reader.header_bytes, mime.DEFAULT_LIMITS.max_header_bytes))
    for name in KEPT_FIELDS:
        if values := _values(header, name):
            yield name, INDEX_SEPARATOR.join(dict.fromkeys(_field_forms(name, values)))


def _field_forms(name: str, values: Iterable[bytes]) -> Iterator[str]:
    for value in values:
        form = search_form(mime.decode_words(value))
        yield form
        if name in _ADDRESS_FIELDS:
            for address in mime.addresses(value):
                entry = search_form(_entry(address))
                # Most entries stand there as they read; a long list is not searched for each of them.
                if len(form) > _SHORT_CHARS or entry not in form:
                    yield entry


def body_forms(reader: MessageReader) -> Iterator[str]:
    """All that ``body_has`` compares with, in its form and in pieces; between texts ``INDEX_SEPARATOR``."""
    root = reader.part_tree()
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part is not root:
            header = _part_header(reader, part)
            yield from (_Line(line).form + INDEX_SEPARATOR for line in _LINE_END.split(header))
            if b"*" in header:
                yield search_form(mime.filename(part) or "") + INDEX_SEPARATOR
        if mime.is_text(part):
            yield from search_pieces(mime.text_pieces(part, _text_bytes(reader, part)))
            yield INDEX_SEPARATOR
        waiting.extend(reversed(part.children))
        if part.message is not None:
            waiting.append(part.message)


def _part_header(reader: MessageReader, part: mime.Part) -> bytes:
    end = min(part.body_start, part.header_start + mime.DEFAULT_LIMITS.max_header_bytes)
    return reader.read(part.header_start, end)


def _text_bytes(reader: MessageReader, part: mime.Part) -> bytes:
    return reader.read(part.body_start, part.body_start + mime.encoded_bytes(part))


class _Line:
    """A line of a header, folding included, whose form is made when it is needed."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.plain = _plain(raw)

    @cached_property
    def form(self) -> str:
        return search_form(mime.decode_words(mime.unfold(self._raw)))


def _plain(header: bytes) -> bytes | None:
    """The header in lower case when that and white space is all its form changes; None otherwise."""
    return header.lower() if header.isascii() and b"=?" not in header else None


def _may_hold(plain: bytes | None, words: tuple[bytes, ...] | None) -> bool:
    """False when a header of which ``plain`` is known cannot contain all words; most messages end here."""
    if plain is None:
        return True
    return words is not None and all(word in plain for word in words)


@lru_cache(maxsize=_PATTERNS_KEPT)
def _pattern(name: str) -> re.Pattern[bytes] | None:
    """None for what cannot be a field's name."""
    return mime.field_pattern(re.escape(name.lower()).encode("ascii")) if _FIELD_NAME.match(name) else None


def _values(header: bytes, name: str) -> list[bytes]:
    pattern = _pattern(name)
    found = {} if pattern is None else mime.collect(header, pattern)
    return found.get(name.lower().encode("ascii"), [])


def _value_has(value: bytes, needle: str, words: tuple[bytes, ...] | None) -> bool:
    return _may_hold(_plain(value), words) and needle in search_form(mime.decode_words(value))


def _addresses_have(value: bytes, needle: str, tokens: tuple[bytes, ...] | None) -> bool:
    if not _may_hold(_letters(value), tokens):
        return False
    return any(needle in search_form(_entry(one)) for one in mime.addresses(value))


def _letters(value: bytes) -> bytes | None:
    """The letters and digits of an address list, in lower case; None where an entry may have others.

    Quotes, blanks and escapes divide words that are one in an entry, and an entry has signs that the list
    does not have.
    """
    if not value.isascii() or any(sign in value for sign in _REARRANGED):
        return None
    return value.lower().translate(None, _NO_WORD)


def _entry(address: mime.Address) -> str:
    """An address or the name of a group, as people write it."""
    mailbox = mime.decode_words(address.mailbox or b"")
    host = mime.decode_words(address.host or b"")
    written = f"{mailbox}@{host}" if host else mailbox
    return f"{mime.decode_words(address.name)} <{written}>" if address.name else written
