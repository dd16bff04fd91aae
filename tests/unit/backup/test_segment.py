"""The envelope and the header of a segment: whatever is changed is noticed, whatever is written is read."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import SegmentDamaged
from backup.reading import open_file
from backup.sealing import (
    CHUNK_BYTES,
    PREFIX_BYTES,
    SIGNATURE_BYTES,
    TAG_BYTES,
    Damaged,
    Opener,
    Sealer,
    info_for,
    open_box,
)
from backup.segment import (
    DatabasePart,
    Header,
    Kind,
    Malformed,
    SegmentName,
    StreamId,
    decode_header,
    pages_of,
    parse_name,
    runs_of,
)
from backup.signing import Signer
from backup.staging import staged_name, write_segment
from mailstore.keys import load_private_key, new_private_key

KEY = load_private_key(new_private_key())
SIGNER = Signer(bytes(32))
NAME = SegmentName(StreamId("ab" * 16), 2, 1_800_000_000_000, Kind.CHANGES)
INFO = info_for(NAME.stream, NAME.sequence)


def sealed(content: bytes, pieces: int = 7_000) -> tuple[bytes, bytes]:
    """An envelope around ``content``, written in pieces, and its content key."""
    sink = io.BytesIO()
    sealer = Sealer(sink, KEY.public, INFO, lambda digest: digest + digest)
    for start in range(0, len(content), pieces):
        sealer.write(content[start : start + pieces])
    sealer.finish()
    chunks = -(-len(content) // CHUNK_BYTES)
    size = PREFIX_BYTES + len(content) + chunks * TAG_BYTES + SIGNATURE_BYTES
    assert sealer.size_bytes == len(sink.getvalue()) == size
    return sink.getvalue(), sealer.content_key


def opened(data: bytes, key: bytes) -> Opener:
    """The envelope over bytes."""
    return Opener(lambda offset, size: data[offset : offset + size], len(data), key)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_any_range_comes_back(size: int) -> None:
    """Also where chunks end; and nothing behind the end."""
    content = bytes(index * 31 % 251 for index in range(size))
    data, key = sealed(content)
    assert open_box(data[:PREFIX_BYTES], KEY, INFO) == key
    envelope = opened(data, key)
    assert envelope.content_bytes == size
    for start in {0, 1, size // 2, max(size - 3, 0), max(CHUNK_BYTES - 1, 0) % size}:
        assert envelope.read(start, size - start) == content[start:]
    with pytest.raises(Damaged):
        envelope.read(size, 1)


def test_every_flipped_octet_is_noticed() -> None:
    """In the magic, the box, any chunk or its tag; the content key alone does not hide a changed box."""
    content = b"x" * (CHUNK_BYTES + 500)
    data, key = sealed(content)
    end = len(data) - SIGNATURE_BYTES  # that one is checked where the server's key is known
    for at in (*range(0, PREFIX_BYTES, 41), *range(PREFIX_BYTES, end, 1_009), end - 1):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(Damaged):
            opened(bytes(broken), key).read(0, len(content))


@pytest.mark.parametrize("cut", [1, TAG_BYTES, 500 + TAG_BYTES, CHUNK_BYTES, CHUNK_BYTES + 600])
def test_a_cut_is_noticed(cut: int) -> None:
    """Also one at the end of a chunk: the last one is marked."""
    content = b"x" * (2 * CHUNK_BYTES + 500)
    data, key = sealed(content)
    with pytest.raises(Damaged):
        envelope = opened(data[:-cut], key)
        envelope.read(0, envelope.content_bytes)


def test_chunks_cannot_change_places_or_go_into_another_envelope() -> None:
    """Number, key and box belong together."""
    content = b"x" * (2 * CHUNK_BYTES + 500)
    data, key = sealed(content)
    step = CHUNK_BYTES + TAG_BYTES
    first, second = (data[PREFIX_BYTES + n * step : PREFIX_BYTES + (n + 1) * step] for n in (0, 1))
    swapped = data[:PREFIX_BYTES] + second + first + data[PREFIX_BYTES + 2 * step :]
    with pytest.raises(Damaged):
        opened(swapped, key).read(0, 10)
    other, other_key = sealed(content)
    for mixed in (other[:PREFIX_BYTES] + data[PREFIX_BYTES:], data[:PREFIX_BYTES] + other[PREFIX_BYTES:]):
        for one in (key, other_key):
            with pytest.raises(Damaged):
                opened(mixed, one).read(0, 10)


@pytest.mark.parametrize(("stream", "sequence"), [("cd" * 16, 2), ("ab" * 16, 3)])
def test_a_box_opens_in_its_own_place_only(stream: str, sequence: int) -> None:
    """Not in another stream and not under another number; and not with another key."""
    data, _ = sealed(b"x")
    with pytest.raises(Damaged):
        open_box(data[:PREFIX_BYTES], KEY, info_for(stream, sequence))
    with pytest.raises(Damaged):
        open_box(data[:PREFIX_BYTES], load_private_key(new_private_key()), INFO)


def header(**fields: object) -> Header:
    """A header of a changes segment."""
    plain: dict[str, object] = {
        "name": NAME,
        "account": "12" * 16,
        "previous": bytes(32),
        "database": DatabasePart(9, ((1, 2), (5, 1))),
        "files": (("keys", 3), ("inbox/0000000000000001-0000000000000002.sealed", 4)),
        "removed": ("inbox/0000000000000001-0000000000000003.sealed",),
    }
    return Header(**{**plain, **fields})  # type: ignore[arg-type]


def test_a_segment_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Pages, files, padding, name."""
    pages = [bytes([number]) * 4096 for number in (1, 2, 5)]
    write_segment(tmp_path, header(), [*pages, b"key", b"mail"], KEY.public, SIGNER)
    with open_file(tmp_path / staged_name(NAME), NAME, KEY) as segment:
        assert segment.header == header()
        found = b"".join(data for _, data in segment.pages())
        assert found == b"".join(pages)
        assert [(name, b"".join(pieces)) for name, pieces in segment.files()] == [
            ("keys", b"key"),
            ("inbox/0000000000000001-0000000000000002.sealed", b"mail"),
        ]
        segment.check()
    elsewhere = SegmentName(NAME.stream, NAME.sequence, NAME.taken_ms + 1, NAME.kind)
    with pytest.raises(SegmentDamaged), open_file(tmp_path / staged_name(NAME), elsewhere, KEY):
        pass


def test_a_header_is_spelt_in_one_way_only() -> None:
    """Spaces, other order, unknown fields, other versions are refused."""
    text = header().encode()[4:]
    assert decode_header(text) == header()
    tree = json.loads(text)
    for wrong in (
        json.dumps(tree).encode(),
        json.dumps(dict(reversed(tree.items())), separators=(",", ":")).encode(),
        json.dumps({**tree, "more": 1}, separators=(",", ":")).encode(),
        json.dumps({**tree, "version": 3}, separators=(",", ":")).encode(),
        json.dumps({**tree, "generation": 0}, separators=(",", ":")).encode(),
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
    ):
        with pytest.raises(Malformed):
            decode_header(wrong)


def test_a_header_says_that_the_account_was_on_another_node() -> None:
    """And nothing of it where it was not, so that earlier versions read what they can."""
    made = header(generation=3)
    assert decode_header(made.encode()[4:]).generation == 3
    assert b"generation" not in header().encode()


def test_a_header_may_be_of_one_page() -> None:
    """The smallest database, and the smallest change."""
    for database in (DatabasePart(1, ((1, 1),)), DatabasePart(9, ((9, 1),))):
        made = header(database=database)
        assert decode_header(made.encode()[4:]) == made


@pytest.mark.parametrize(
    "fields",
    [
        {"files": (("../keys", 1),)},
        {"files": (("inbox/x.sealed", 1),)},
        {"files": (("keys", -1),)},
        {"generation": -1},
        {"generation": True},
        {"files": (("keys", 1), ("keys", 1))},
        {"removed": ("/etc/passwd",)},
        {"account": "Server"},
        {"database": DatabasePart(0, ())},
        {"database": DatabasePart(9, ((0, 1),))},
        {"database": DatabasePart(9, ((5, 2), (6, 1)))},
        {"database": DatabasePart(9, ((8, 3),))},
        {"name": SegmentName(NAME.stream, 2, NAME.taken_ms, Kind.FULL)},
        {"name": SegmentName(StreamId("zz" * 16), 2, NAME.taken_ms, Kind.CHANGES)},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    """Names that lead elsewhere, pages that are not there, a full segment with gaps."""
    with pytest.raises(Malformed):
        decode_header(header(**fields).encode()[4:])


def test_names_are_read_in_one_way_only() -> None:
    """What is not spelt as we spell it is somebody else's."""
    assert parse_name(str(NAME)) == NAME
    for wrong in (
        str(NAME) + "x",
        str(NAME).upper(),
        str(NAME).replace("/0", "/00"),
        "",
        "a/b",
        str(NAME)[1:],
    ):
        assert parse_name(wrong) is None


@given(st.frozensets(st.integers(1, 200)))
@settings(max_examples=200)
def test_runs_hold_exactly_their_pages(pages: frozenset[int]) -> None:
    """And are ascending and apart, as the format wants them."""
    runs = runs_of(pages)
    assert list(pages_of(runs)) == sorted(pages)
    assert all(first + count < following for (first, count), (following, _) in pairwise(runs))
