"""Readable text out of HTML, for search and previews. Not for display: nothing here is sanitized."""

import html
import re

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
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r" ?\n[ \n]*")


def html_to_text(source: str, max_chars: int = 8 << 20) -> str:
    """The visible text of ``source``, block elements on lines of their own.

    Only the first ``max_chars`` characters are read. Linear time; broken markup gives what can be
    made of it, and an element that is never closed hides at most itself if it is invisible.
    """
    source = source[:max_chars]
    kept: list[str] = []
    position, end = 0, len(source)
    while position < end:
        start = source.find("<", position)
        if start < 0:
            break
        kept.append(source[position:start])
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
    return _tidy("".join(kept))


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
    if "&" in text:
        text = html.unescape(_LONG_REFERENCE.sub("\ufffd", text))
    return _BLANK_LINES.sub("\n", _BLANKS.sub(" ", text.replace("\r", " "))).strip()
