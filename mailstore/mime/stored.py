"""The part tree in the form in which it is stored: sections are served without scanning again.

A version byte, then JSON without blanks: for each part a list of header start, body start, body
end, lines, the Content fields (type, subtype, parameters, encoding, id, description, MD5,
disposition, languages, location), children, held message. Strings are bytes taken as Latin-1.
Trailing items that have their default are left out of a list.
"""

import json
from typing import Final

from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.part import Content, Disposition, Parameters, Part

_VERSION: Final = b"1"
_DEFAULTS: Final[tuple[object, ...]] = (
    0,
    "text",
    "plain",
    [],
    "7bit",
    None,
    None,
    None,
    None,
    [],
    None,
    [],
    None,
)


class PartTreeDamaged(ValueError):
    """Stored bytes are no part tree of a version that this program knows."""


def dump(part: Part) -> bytes:
    """``part`` and all below it as bytes for ``load``."""
    text = json.dumps(_item(part), separators=(",", ":"), ensure_ascii=False)
    return _VERSION + text.encode("utf-8")


def load(stored: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> Part:
    """The tree that ``dump`` wrote.

    Raises PartTreeDamaged if the bytes are anything else, if offsets do not lie inside those of the
    part around them, or if parts lie deeper than ``max_depth``.
    """
    if stored[:1] != _VERSION:
        raise PartTreeDamaged("unknown version")
    try:
        item = json.loads(stored[1:].decode("utf-8"))
    except (ValueError, RecursionError):
        raise PartTreeDamaged("not readable") from None
    if not isinstance(item, list) or not item:
        raise PartTreeDamaged("not a part")
    return _part(item, 0, 1 << 62, limits.max_depth)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _pairs(params: Parameters) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in params]


def _item(part: Part) -> list[object]:
    content, disposition = part.content, part.content.disposition
    item: list[object] = [
        part.lines,
        _text(content.type),
        _text(content.subtype),
        _pairs(content.params),
        _text(content.encoding),
        _text(content.content_id),
        _text(content.description),
        _text(content.md5),
        None if disposition is None else [_text(disposition.kind), _pairs(disposition.params)],
        [_text(tag) for tag in content.language],
        _text(content.location),
        [_item(child) for child in part.children],
        None if part.message is None else _item(part.message),
    ]
    while item and item[-1] == _DEFAULTS[len(item) - 1]:
        item.pop()
    return [part.header_start, part.body_start, part.body_end, *item]


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise PartTreeDamaged("not a number")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise PartTreeDamaged("not a string")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise PartTreeDamaged("not a byte string") from None


def _optional(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise PartTreeDamaged("not a list")
    return value


def _two(value: object) -> tuple[object, object]:
    items = _list(value)
    if len(items) != 2:
        raise PartTreeDamaged("not a pair")
    return items[0], items[1]


def _parameters(value: object) -> Parameters:
    found = []
    for pair in _list(value):
        name, content = _two(pair)
        found.append((_bytes(name), _bytes(content)))
    return tuple(found)


def _disposition(value: object) -> Disposition | None:
    if value is None:
        return None
    kind, params = _two(value)
    return Disposition(_bytes(kind), _parameters(params))


def _part(item: list[object], low: int, high: int, depth: int) -> Part:
    if depth == 0 or not 3 <= len(item) <= 3 + len(_DEFAULTS):
        raise PartTreeDamaged("too deep or not a part")
    header_start, body_start, body_end = (_number(value) for value in item[:3])
    if not low <= header_start <= body_start <= body_end <= high:
        raise PartTreeDamaged("offsets out of order")
    values = [*item[3:], *_DEFAULTS[len(item) - 3 :]]
    content = Content(
        _bytes(values[1]),
        _bytes(values[2]),
        _parameters(values[3]),
        _bytes(values[4]),
        _optional(values[5]),
        _optional(values[6]),
        _optional(values[7]),
        _disposition(values[8]),
        tuple([_bytes(tag) for tag in _list(values[9])]),
        _optional(values[10]),
    )
    children: list[Part] = []
    start = body_start
    for child in _list(values[11]):
        children.append(_part(_list(child), start, body_end, depth - 1))
        start = children[-1].body_end
    inner = values[12]
    message = None if inner is None else _part(_list(inner), body_start, body_end, depth - 1)
    return Part(header_start, body_start, body_end, content, _number(values[0]), tuple(children), message)
