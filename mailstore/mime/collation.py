"""The collation ``i;unicode-casemap`` (RFC 5051): how SORT and THREAD compare text (RFC 5256)."""

import unicodedata
from functools import lru_cache

_CHARACTERS_KEPT = 4_096


@lru_cache(maxsize=_CHARACTERS_KEPT)
def _prepared(char: str) -> str:
    """One character by its titlecase, then by its decomposition, until neither changes anything."""
    title = char.title()
    # RFC 5051 section 2 goes by UnicodeData.txt, where no character becomes several by its case.
    if len(title) == 1:
        char = title
    # "<compat> 0066 0069": a tag where the decomposition is one of compatibility.
    decomposition = [code for code in unicodedata.decomposition(char).split() if not code.startswith("<")]
    if not decomposition:
        return char
    return "".join([_prepared(chr(int(code, 16))) for code in decomposition])


def unicode_casemap(text: str) -> str:
    """``text`` in the form whose UTF-8 octets are compared: titlecased and decomposed (RFC 5051 section 2).

    Nothing is put in another order, each character is replaced on its own, so the time is linear. A character
    may become up to 18.
    """
    if text.isascii():
        return text.upper()
    return "".join([char.upper() if char <= "\x7f" else _prepared(char) for char in text])
