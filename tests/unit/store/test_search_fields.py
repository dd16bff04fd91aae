"""A field answers the same whether it is read for the search, or was read before and kept for it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstore.ops import search_text
from mailstore.search import KEPT_FIELDS
from mailstore.search_form import search_form

TOKENS = [
    *(b"a", b"b", b"john", b"\\h", b'"', b"(", b")", b"<", b">", b"@", b",", b";", b":", b" ", b"\r\n "),
    *(b"\t", b"=?utf-8?q?caf=C3=A9?=", b"=?utf-8?b?w6k=?=", b"=?x?q?y?=", b"\xc3\xa9", b".", b"x.org"),
    *(b'\\"', b"\\\\", b"?", b"=", b"[", b"]", b"\0", b"group", b"J"),
]
NAMES = [b"From", b"to ", b"Cc", b"Bcc", b"Subject", b"Message-ID", b"Received"]
VALUES = st.lists(st.sampled_from(TOKENS), max_size=10).map(b"".join)
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), min_size=1, max_size=3)


class Whole:
    """Reads a message that is nothing but a header."""

    def __init__(self, header: bytes) -> None:
        self.header = header
        self.header_bytes = self.size_bytes = len(header)

    def read(self, start: int, stop: int) -> bytes:
        """The octets in between."""
        return self.header[start:stop]


def reader(fields: list[tuple[bytes, bytes]]) -> Whole:
    """A header of these fields."""
    return Whole(b"".join(b"%b:%b\r\n" % field for field in fields) + b"\r\n")


def scanned(header: Whole, name: str, needle: str) -> bool:
    """What a search says that reads the message."""
    return search_text.MessageText(header, search_text.Wanted()).field_has(name, needle)  # type: ignore[arg-type]  # reads as one


def kept(header: Whole) -> dict[str, str]:
    """What the index keeps of it."""
    return dict(search_text.field_forms(header))  # type: ignore[arg-type]  # reads as one


@settings(max_examples=400, deadline=None)
@example([(b"From", b'"Jo\\hn Doe" <a@b.org>')], 0, 8)
@example([(b"From", b"AA .  _")], 0, 20)
@given(FIELDS, st.integers(0, 60), st.integers(1, 8))
def test_a_field_holds_what_is_kept_of_it_and_nothing_else(
    fields: list[tuple[bytes, bytes]], at: int, length: int
) -> None:
    """Texts to search for are cut out of what is kept, which also is none of what other fields hold."""
    header = reader(fields)
    forms = kept(header)
    for form in forms.values():
        needle = search_form(form[at % (len(form) + 1) :][:length].split("\n")[0])
        for name in KEPT_FIELDS:
            assert scanned(header, name, needle) == (name in forms and needle in forms[name])


@pytest.mark.parametrize(
    ("value", "needle"),
    [
        (b'"Jo\\hn Doe" <a@b.org>', "john"),
        (b'Jo"hn" <a@b.org>', "john"),
        (b"john<", "hn <>"),
        (b"a@b.org, john<", "hn <>"),
        (b"AA .  _", "<"),
        (b'"=\\?utf-8?q?caf=C3=A9?=" <a@b.org>', "cafe"),
        (b'"="?utf-8?q?caf=C3=A9?= <a@b.org>', "cafe"),
        (b'(a comment) Jo"hn" <a@b.org>', "john"),
    ],
)
def test_an_address_is_found_however_it_is_quoted(value: bytes, needle: str) -> None:
    """Nothing rules it out early that is not in the field as it stands."""
    header = reader([(b"From", value)])
    assert (needle in kept(header)["FROM"]) == scanned(header, "FROM", needle)
