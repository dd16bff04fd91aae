"""The search form: what it makes of every character, and what it costs whatever is written."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore.search_form import CHUNK_CHARS, contained, search_form, search_pieces
from tests.growth import LINEAR_AT_MOST, growth

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
TEXTS = st.text(st.sampled_from("abÀe\u0301\u0323 \n\u00a0\u200bİßﷺ가ﾞ1️⃣"), max_size=40)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Müller", "muller"),
        ("MU\u0308LLER", "muller"),
        ("vé", "ve"),
        ("Straße STRASSE", "strasse strasse"),
        ("ﬁne ½ ㎒ №", "fine 1⁄2 mhz no"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("ﾊﾟﾝ パン", "ハン ハン"),
        ("a\t\r\n b\u00a0\u2003c", "a b c"),
        (" a ", " a "),
        ("so\u00adft z\u200dw\u200cj \ufeff❤\ufe0f 1\ufe0f\u20e3", "soft zwj ❤ 1"),
        ("İstanbul ıtır", "istanbul ıtır"),
        ("Ελλάς ΕΛΛΑΣ", "ελλασ ελλασ"),
        ("שָׁלוֹם مُحَمَّد", "שלום محمد"),
        ("กิน กาน", "กิน กาน"),
        ("हिन्दी", "हिनदी"),
        ("각", "\u1100\u1161\u11a8"),
        ("\u0301\u0327", ""),
        ("", ""),
    ],
)
def test_form(text: str, form: str) -> None:
    """Case, diacritics and typography go; letters stay, vowel signs that are written as marks among them."""
    assert search_form(text) == form


def test_every_character_has_a_form_of_its_own() -> None:
    """No form changes again, nothing is left that normalising would move, and growth has a bound."""
    for char in CHARACTERS:
        form = search_form(char)
        assert search_form(form) == form
        assert len(form) <= 18
        assert not any(map(unicodedata.combining, form))
        assert not any(unicodedata.category(one) == "Me" for one in form)


@given(before=TEXTS, after=TEXTS)
def test_characters_do_not_depend_on_each_other(before: str, after: str) -> None:
    """The form of a text is that of its parts, but that white space meets: text can be cut anywhere."""
    joined = search_form(before) + search_form(after)
    assert search_form(before + after) == joined.replace("  ", " ")
    assert "".join(search_pieces((before, after))) == search_form(before + after)


def test_long_text_has_the_form_of_short_text() -> None:
    """Where a chunk ends is not to be seen, and no piece is longer than a chunk may become."""
    rng = random.Random(5)
    for _ in range(5):
        text = "".join(rng.choices("abcÀe\u0301\u0323 \n\u00a0İß가", k=3 * CHUNK_CHARS + rng.randrange(50)))
        pieces = list(search_pieces((text,)))
        assert len(pieces) > 1
        assert all(0 < len(piece) <= 18 * 2 * CHUNK_CHARS for piece in pieces)
        # The same by parts that are smaller than a chunk.
        assert "".join(pieces) == "".join(search_pieces(text[at : at + 37] for at in range(0, len(text), 37)))


@given(
    pieces=st.lists(st.text("ab ", min_size=1, max_size=9), max_size=8),
    needles=st.sets(st.text("ab ", max_size=12), max_size=5),
)
def test_contained_is_what_the_whole_text_contains(pieces: list[str], needles: set[str]) -> None:
    """A needle may begin in one piece and end in any later one."""
    assert contained(iter(pieces), needles) == {needle for needle in needles if needle in "".join(pieces)}


RUNS = [
    "\u0301",
    "\u0327\u0301",
    "\u0301\u0327\u0316",
    "a\u0301\u0327",
    "\uff9e\u0301",
    "\ufdfa",
    "각",
    "é",
    "\u034f\u0301",
]


@pytest.mark.parametrize("unit", RUNS, ids=ascii)
def test_cost_grows_with_the_text(unit: str) -> None:
    """A long run of combining characters costs what other text costs, not the square of its length."""

    def work(size: int) -> Callable[[], object]:
        text = unit * (size // len(unit))
        return lambda: search_form(text)

    assert growth(work, 40_000) < LINEAR_AT_MOST


def test_looking_for_a_long_text_costs_what_both_are_long() -> None:
    """Needle and text together decide; a needle longer than a piece is not looked for with every piece."""

    def work(size: int) -> Callable[[], object]:
        pieces = ["ab" * 50] * (size // 100)
        return lambda: contained(pieces, {"ab" * (size // 4) + "c"})

    assert growth(work, 200_000) < LINEAR_AT_MOST
