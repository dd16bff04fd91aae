"""Readable text out of HTML, for search and previews. Not for display: nothing here is sanitized."""

import html
import re
from collections.abc import Iterator

_INVISIBLE_END = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.I)
    for name in ("head", "script", "style", "template", "title")
}
_INVISIBLE_END["head"] = re.compile(r"</head(?=[\s/>])|<body(?=[\s/>])", re.I)
_BLOCK = re.compile(
    r"address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|header|hr"
    r"|li|main|nav|ol|p|pre|section|table|tr|ul"
)
_TAG_NAME = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)")
# Longer than any character number, and Python refuses to convert very long ones.
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{8,};?")
_KEPT_TOGETHER = 500
_PIECE_CHARS = 16 * 1024
_REFERENCE_CHARS = 40
"""No character reference that has a name is longer."""
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r" ?\n[ \n]*")


def html_to_text(source: str, max_chars: int = 8 << 20) -> str:
    """The visible text of ``source``, block elements on lines of their own.

    Only the first ``max_chars`` characters are read. Linear time; broken markup gives what can be
    made of it, and an element that is never closed hides at most itself if it is invisible.
    """
    return _tidy("".join(visible_pieces(source, max_chars)))


def visible_pieces(source: str, max_chars: int = 8 << 20) -> Iterator[str]:
    """As ``html_to_text``, in pieces so that other threads get a turn, and with unchanged white space."""
    for text in _between_tags(source[:max_chars]):
        position = 0
        while position < len(text):
            stop = _piece_end(text, position)
            piece = text[position:stop]
            yield html.unescape(_LONG_REFERENCE.sub("\ufffd", piece)) if "&" in piece else piece
            position = stop


def _piece_end(text: str, start: int) -> int:
    """Where to cut, not within a character reference."""
    stop = start + _PIECE_CHARS
    if stop >= len(text):
        return len(text)
    reference = text.rfind("&", stop - _REFERENCE_CHARS, stop)
    return stop if reference < 0 else reference


def _between_tags(source: str) -> Iterator[str]:
    """What is visible, character references as they stand; some hundred tags at a time."""
    kept: list[str] = []
    position, end = 0, len(source)
    while position < end:
        start = source.find("<", position)
        if start < 0:
            break
        kept.append(source[position:start])
        if len(kept) >= _KEPT_TOGETHER:
            yield "".join(kept)
            kept.clear()
        if source.startswith("<!--", start):
            stop = source.find("-->", start + 4)
            position = end if stop < 0 else stop + 3
            continue
        name = _TAG_NAME.match(source, start + 1)
        if name is None and source[start + 1 : start + 2] not in ("!", "?"):
            kept.append("<")
            position = start + 1
            continue
        stop = source.find(">", start)
        if stop < 0:
            # A tag cut off at the end of the text.
            position = end
            break
        position = stop + 1
        if name is not None:
            position = _after_tag(source, name, position, kept)
    kept.append(source[position:])
    yield "".join(kept)


def _after_tag(source: str, name: re.Match[str], position: int, kept: list[str]) -> int:
    """Note what the tag means for the text; returns where visible text goes on."""
    element = name[1].lower()
    if _BLOCK.fullmatch(element):
        kept.append("\n")
    elif element in ("td", "th"):
        kept.append(" ")
    closing = _INVISIBLE_END.get(element)
    if closing is None or name[0].startswith("/") or source.startswith("/>", position - 2):
        return position
    found = closing.search(source, position)
    return found.start() if found else len(source)


def _tidy(text: str) -> str:
    return _BLANK_LINES.sub("\n", _BLANKS.sub(" ", text.replace("\r", " "))).strip()
