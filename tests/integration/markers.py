"""Markers that must not be found in any file, and the search for them in every form they may have."""

from __future__ import annotations

import base64
import random
import string
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZLIB_STARTS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b\x08")
INFLATE_MAX_BYTES = 1024 * 1024
MARKER_CHARS = 12


def make_markers(count: int, seed: int) -> tuple[str, ...]:
    """Random words that stand in no dictionary and in no program; letters first, then a digit."""
    rng = random.Random(seed)
    return tuple(
        "".join(rng.choices(string.ascii_letters, k=MARKER_CHARS)) + rng.choice(string.digits)
        for _ in range(count)
    )


def _base64_cores(data: bytes) -> Iterator[bytes]:
    """What base64 makes of ``data`` at each of the three alignments, without the borders."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data)
        first = (shift * 8 + 5) // 6
        yield encoded[first : (shift + len(data)) * 8 // 6]


def forms(marker: str) -> frozenset[bytes]:
    """The marker as it might lie in a file: raw, UTF-16, base64, modified UTF-7, quoted-printable, hex."""
    found: set[bytes] = set()
    encodings = [marker.encode(), marker.encode("utf-16-le"), marker.encode("utf-16-be")]
    # A search index may keep text folded.
    for text in (marker, marker.lower(), marker.upper()):
        raw = text.encode()
        found |= {raw, text.encode("utf-16-le"), text.encode("utf-16-be")}
        found |= {raw.hex().encode(), raw.hex().upper().encode(), raw[::-1]}
        found.add(b"".join(b"=%02X" % octet for octet in raw))
    for data in encodings:
        for core in _base64_cores(data):
            # RFC 3501 section 5.1.3 writes "," for "/", RFC 4648 section 5 "-_" for "+/".
            found |= {core, core.replace(b"/", b","), core.translate(bytes.maketrans(b"+/", b"-_"))}
    return frozenset(found)


def _offsets(data: bytes, start: bytes) -> Iterator[int]:
    at = data.find(start)
    while at >= 0:
        yield at
        at = data.find(start, at + 1)


def inflated(data: bytes) -> Iterator[bytes]:
    """What every place that looks like a zstd, zlib or gzip frame decompresses to."""
    for at in _offsets(data, ZSTD_MAGIC):
        try:
            text = zstandard.ZstdDecompressor().decompressobj().decompress(data[at : at + INFLATE_MAX_BYTES])
        except zstandard.ZstdError:
            continue
        yield text
    for start in ZLIB_STARTS:
        for at in _offsets(data, start):
            try:
                text = zlib.decompressobj(47).decompress(data[at : at + INFLATE_MAX_BYTES], INFLATE_MAX_BYTES)
            except zlib.error:
                continue
            yield text


def hits(data: bytes, needles: Iterable[tuple[int, bytes]]) -> set[int]:
    """The numbers of the markers that are in ``data``, compressed or not."""
    views = [data, *inflated(data)]
    return {number for number, needle in needles if any(needle in view for view in views)}


def found_below(folder: Path, markers: Iterable[str]) -> dict[str, set[int]]:
    """Files below ``folder``, by path, with the numbers of the markers in them or in their names.

    A file that vanishes meanwhile is no hit: what it said has gone into another or is gone.
    """
    needles = [(number, form) for number, marker in enumerate(markers) for form in forms(marker)]
    found: dict[str, set[int]] = {}
    for path in folder.rglob("*"):
        where = hits(bytes(path.relative_to(folder)), needles)
        if path.is_file():
            try:
                where |= hits(path.read_bytes(), needles)
            except FileNotFoundError:
                pass
        if where:
            found[str(path.relative_to(folder))] = where
    return found
