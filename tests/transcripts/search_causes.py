"""Why Dovecot finds other messages than ours: the causes that DIFFERENCES.md explains. Pure.

A cause is as narrow as its explanation: what none of them covers is a difference nobody has looked at. Each
asks whether the message would be found by the other server's rules but for the one that the cause is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from mailstore import mime
from mailstore.mime.collation import unicode_casemap
from mailstore.search_form import search_form
from tests.transcripts.searches import ADDRESSES, Unlike

_LINE = re.compile(rb"\n(?![ \t])")
_BLANKS = re.compile(r"\s+")


class _Places:
    """Where a text can stand in a message."""

    def __init__(self, message: bytes) -> None:
        self.root = mime.scan(message)
        self.header = message[: self.root.body_start]
        self.own_lines = _lines(self.header)
        self.part_lines: list[str] = []
        self.file_names: list[str] = []
        self.plain: list[str] = []
        self.visible: list[str] = []
        """What HTML shows."""
        self.source: list[str] = []
        """HTML as it is written."""
        waiting = [self.root]
        while waiting:
            part = waiting.pop()
            waiting += [*part.children, *([part.message] if part.message else [])]
            raw = message[part.body_start : part.body_end]
            if part is not self.root:
                self.part_lines += _lines(message[part.header_start : part.body_start])
                self.file_names.append(mime.filename(part) or "")
            if part.content.subtype == b"html":
                self.visible.append("".join(mime.text_pieces(part, raw)))
                self.source.append(mime.decode_body(part, raw).decode("utf-8", "replace"))
            else:
                self.plain.append("".join(mime.text_pieces(part, raw)))

    def values(self, name: str) -> list[str]:
        """The decoded values of the fields of a name."""
        raw = [
            mime.unfold(self.header[one.value_start : one.value_end])
            for one in mime.fields(self.header)
            if one.name.decode("ascii").upper() == name
        ]
        return [mime.decode_words(value) for value in raw]


def _lines(header: bytes) -> list[str]:
    return [mime.decode_words(mime.unfold(line)) for line in _LINE.split(header)]


def _collapsed(text: str) -> str:
    return _BLANKS.sub(" ", unicode_casemap(text))


def _holds(places: Iterable[str], needle: str, form: Callable[[str], str]) -> bool:
    return any(form(needle) in form(place) for place in places)


def _field(one: Unlike) -> str | None:
    """The field's name where the key is about one."""
    key = one.search.key.removeprefix("HEADER ").upper()
    return None if key in ("BODY", "TEXT") else key


def _searched(message: bytes, one: Unlike) -> tuple[list[str], list[str]]:
    """What ours looks at, and what Dovecot does."""
    places = _Places(message)
    field = _field(one)
    if field is not None:
        return places.values(field), places.values(field)
    ours = [*places.part_lines, *places.file_names, *places.plain, *places.visible]
    theirs = [*places.plain, *places.source]
    if one.search.key == "TEXT":
        return [*places.own_lines, *ours], [*places.own_lines, *places.part_lines, *theirs]
    return ours, theirs


def _no_date(message: bytes, one: Unlike) -> bool:
    places = _Places(message)
    dates = [mime.sent_date(value.encode()) for value in places.values("DATE")]
    return one.search.key == "SENTBEFORE" and not one.ours and dates in ([], [None])


def _diacritics(message: bytes, one: Unlike) -> bool:
    ours, theirs = _searched(message, one)
    needle = one.search.text
    elsewhere = [*theirs, *_Places(message).visible] if _field(one) is None else theirs
    return one.ours and _holds(ours, needle, search_form) and not _holds(elsewhere, needle, _collapsed)


def _fields_of_parts(message: bytes, one: Unlike) -> bool:
    places = _Places(message)
    inside = (*places.plain, *places.visible)
    needle = one.search.text
    return (
        one.search.key == "BODY"
        and one.ours
        and _holds((*places.part_lines, *places.file_names), needle, search_form)
        and not _holds(inside, needle, search_form)
    )


def _file_name(message: bytes, one: Unlike) -> bool:
    places = _Places(message)
    others = (*places.own_lines, *places.part_lines, *places.plain, *places.visible)
    needle = one.search.text
    in_name = _holds(places.file_names, needle, search_form)
    return one.search.key == "TEXT" and one.ours and in_name and not _holds(others, needle, search_form)


def _markup(message: bytes, one: Unlike) -> bool:
    places = _Places(message)
    needle = one.search.text
    shown, written = (_holds(html, needle, _collapsed) for html in (places.visible, places.source))
    if one.ours:
        return shown and not _holds(_searched(message, one)[1], needle, _collapsed)
    return written and not shown


def _white_space(message: bytes, one: Unlike) -> bool:
    _, theirs = _searched(message, one)
    needle = one.search.text
    as_written = _holds(theirs, needle, unicode_casemap)
    return one.ours and _holds(theirs, needle, _collapsed) and not as_written


def _quoted_name(message: bytes, one: Unlike) -> bool:
    field = _field(one)
    if field not in ADDRESSES or not one.ours:
        return False
    names = [name or b"" for value in _Places(message).values(field) for name in _names(value)]
    return any(b"'" in name and b"," in name for name in names)


def _names(value: str) -> list[bytes | None]:
    return [address.name for address in mime.addresses(value.encode())]


CAUSES: dict[str, Callable[[bytes, Unlike], bool]] = {
    "no date": _no_date,
    "fields of parts": _fields_of_parts,
    "encoded file names": _file_name,
    "diacritics": _diacritics,
    "markup": _markup,
    "white space": _white_space,
    "escaped names": _quoted_name,
}


def cause(message: bytes, one: Unlike) -> str | None:
    """The first cause that covers a message that only one of the two finds; None when none does."""
    return next((name for name, covers in CAUSES.items() if covers(message, one)), None)
