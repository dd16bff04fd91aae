"""The form in which text is searched: without case, diacritics and differences of typography. Pure.

FORMAT.md section 12 describes it. Text and needle are both brought into it, and one contains the other
or not. An index keeps text in this form, so what ``search_form`` returns for any text must not change
without a new ``SEARCH_FORM_VERSION``.

Every character is replaced on its own, whatever stands beside it. So the time is linear, and text can be
handled in pieces: no single call into C code gets more than ``CHUNK_CHARS`` characters, since it blocks other
threads.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cache

SEARCH_FORM_VERSION = 1
"""Incremented whenever we change the form of any text. Unicode's own version may also change it, but only for
characters that it did not have before (``unicodedata.unidata_version``)."""

CHUNK_CHARS = 8 * 1024
"""Characters handled in one call."""

# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties: what is not shown, such as soft hyphens,
# joiners, variation selectors. Python's database does not have it.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
)
_IGNORABLE_BEYOND_BMP = "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
# Halfwidth katakana sound marks: letters by their category that decompose into a mark and nothing else.
_MARKS_IN_DISGUISE = "\uff9e\uff9f"
_BMP = range(0x10000)
_SECOND_PLANE = range(0x10000, 0x20000)
"""The last plane that has marks."""


def _marks(codes: Iterable[int]) -> str:
    return "".join(
        char for char in map(chr, codes) if unicodedata.combining(char) or unicodedata.category(char) == "Me"
    )


@cache
def _dropped() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What the form leaves out, in the BMP and beyond: a pattern for the BMP alone is a table, and quick.

    Built when first needed: most mail is ASCII, and scanning all of Unicode takes a moment.
    """
    beyond = _marks(_SECOND_PLANE) + _IGNORABLE_BEYOND_BMP
    return re.compile(f"[{_marks(_BMP)}{_IGNORABLE}{_MARKS_IN_DISGUISE}]"), re.compile(f"[{beyond}]")


def _without_dropped(chunk: str) -> str:
    in_bmp, beyond = _dropped()
    chunk = in_bmp.sub("", chunk)
    # Only characters beyond the BMP take two units.
    if len(chunk.encode("utf-16-le", "surrogatepass")) > 2 * len(chunk):
        chunk = beyond.sub("", chunk)
    return chunk


def _reduced(chunk: str) -> str:
    """Everything but white space in its form."""
    if chunk.isascii():
        return chunk.lower()
    # Without marks there is nothing to reorder, which is what takes so long in a run of them.
    plain = _without_dropped(chunk)
    decomposed = unicodedata.normalize("NFKD", plain)
    if decomposed != plain:
        decomposed = _without_dropped(decomposed)
    return decomposed.casefold()


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """The text of ``texts`` in chunks of a bounded size: small ones put together, long ones cut."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= CHUNK_CHARS:
            joined = "".join(waiting)
            for at in range(0, size, CHUNK_CHARS):
                yield joined[at : at + CHUNK_CHARS]
            waiting.clear()
            size = 0
    if size:
        yield "".join(waiting)


def _spaced(reduced: str, after_blank: bool) -> str:
    """Runs of white space as one space; none at the beginning behind one."""
    piece = " ".join(reduced.split())
    if not piece:
        return " " if reduced and not after_blank else ""
    if reduced[0].isspace() and not after_blank:
        piece = " " + piece
    return piece + " " if reduced[-1].isspace() else piece


def search_pieces(texts: Iterable[str]) -> Iterator[str]:
    """The form of ``texts``, one behind the other, in pieces of a bounded size, none of them empty."""
    after_blank = False
    for chunk in _chunks(texts):
        piece = _spaced(_reduced(chunk), after_blank)
        if piece:
            after_blank = piece[-1] == " "
            yield piece


def search_form(text: str) -> str:
    """``text`` as it is searched; ``search_form(search_form(x)) == search_form(x)``.

    Each character by its compatibility decomposition, without combining marks, case-folded; each run of
    white space is one space. A character may become up to 18.
    """
    if len(text) <= CHUNK_CHARS:
        return _spaced(_reduced(text), after_blank=False)
    return "".join(search_pieces((text,)))


def contained(pieces: Iterable[str], needles: Collection[str]) -> set[str]:
    """Those of ``needles`` (in their form) that a text given by ``search_pieces`` contains.

    In memory there are two longest needles at most, or one piece.
    """
    missing = set(needles)
    overlap = max(map(len, missing), default=1) - 1
    window, fresh = "", 0
    waiting: list[str] = []
    for piece in pieces:
        waiting.append(piece)
        fresh += len(piece)
        # What is looked at twice is never more than what is looked at for the first time.
        if fresh > overlap:
            window = "".join((window, *waiting))
            missing -= {needle for needle in missing if needle in window}
            if not missing:
                break
            window, fresh = window[len(window) - overlap :], 0
            waiting.clear()
    else:
        window = "".join((window, *waiting))
        missing -= {needle for needle in missing if needle in window}
    return set(needles) - missing
