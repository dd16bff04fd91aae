"""Header fields that are kept ready to send: whatever is asked, they answer as the header does."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstore.mime import (
    KEPT_FIELDS,
    MimeLimits,
    header_fields,
    headers,
    kept_choice,
    kept_fields,
    scan,
)

LINES = (
    *(b"Subject: one\r\n", b"subject: two\r\n", b"SuBjEcT\t : bare\n", b"From: a@x\r\n\tfolded\r\n"),
    *(
        b"To:\n \n still To\n",
        b"List-Id: <l>\r\n",
        b"X-Other: no\r\n",
        b"X-Subject: no\r\n",
        b"Subject:Cc: x\r\n",
    ),
    *(b"no field\r\n", b" at the start\r\n", b"\r", b"\rFrom: behind a CR\r\n", b"Cc: bare\rCR\r\n", b"\n"),
    *(
        b"Date: \0\r\n",
        b"Bcc: \xff\xfe\xe9\r\n",
        b"\r\n",
        b"Lines: last",
        b"Cc: last\r",
        b":\r\n",
        b"From\r\n",
    ),
)
HEADERS = st.one_of(
    st.lists(st.sampled_from(LINES), max_size=12).map(b"".join),
    st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=3)), max_size=12).map(b"".join),
)
NAMES = st.lists(
    st.sampled_from(KEPT_FIELDS).flatmap(lambda name: st.sampled_from((name, name.upper(), name.title()))),
    max_size=6,
).map(tuple)


@pytest.mark.parametrize("quick_bytes", [64 * 1024, 0], ids=["with a pattern", "one by one"])
@settings(max_examples=400, deadline=None)
@given(message=HEADERS, names=NAMES, data=st.data())
def test_kept_fields_answer_as_the_header_does(
    quick_bytes: int, message: bytes, names: tuple[bytes, ...], data: st.DataObject
) -> None:
    """Octet for octet, for every choice among the names that are kept, however the header is read."""
    header = message[: scan(message).body_start]
    if data.draw(st.booleans()):
        names = (*names, *KEPT_FIELDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "_QUICK_BYTES", quick_bytes)
        expected = header_fields(header, names)
        kept = kept_fields(header)
    assert kept is not None
    choice = kept_choice(names)
    assert choice is not None
    assert choice.of(*kept) == expected


@settings(max_examples=400, deadline=None)
@given(message=HEADERS, names=NAMES)
@example(message=b"Subject: x\nTo:Subject: x", names=(b"subject",))
def test_a_header_is_read_the_same_with_a_pattern_and_one_by_one(
    message: bytes, names: tuple[bytes, ...]
) -> None:
    """The quick way for small headers is only quicker."""
    header = message[: scan(message).body_start]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "_QUICK_BYTES", 0)
        expected = header_fields(header, names)
    assert header_fields(header, names) == expected


def test_names_that_are_not_kept_cannot_be_chosen() -> None:
    """One such name among others is enough: the header has to be read."""
    assert kept_choice((b"from", b"x-spam-status")) is None
    assert kept_choice((b"from:",)) is None
    assert kept_choice(()) is not None


def test_every_kept_name_has_a_bit_of_its_own() -> None:
    """They are part of the file format, with their order; all of them fit in what SQLite stores."""
    made = [kept_fields(name + b": x\r\n\r\n") for name in KEPT_FIELDS]
    assert [one and one.present for one in made] == [1 << place for place in range(len(KEPT_FIELDS))]
    assert len(made) < 63
    assert all(name == name.lower() for name in KEPT_FIELDS)
    assert KEPT_FIELDS[:14] == (
        *(b"from", b"to", b"cc", b"bcc", b"subject", b"date", b"message-id", b"priority", b"x-priority"),
        *(b"references", b"newsgroups", b"in-reply-to", b"content-type", b"reply-to"),
    )


def test_more_than_the_bound_is_not_kept() -> None:
    """A header full of recipients is not written twice; the bound itself still is."""
    header = b"To: a@example.org\r\nX-Other: not counted\r\n\r\n"
    size = len(b"To: a@example.org\r\n\r\n")
    assert kept_fields(header, MimeLimits(max_kept_fields_bytes=size)) == (2, b"To: a@example.org\r\n\r\n")
    assert kept_fields(header, MimeLimits(max_kept_fields_bytes=size - 1)) is None
