"""Mutations for machines without a coverage-guided fuzzer, and for the short run of every test run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.fuzz.target import Target

MAX_BYTES = 4096
_ODD = (
    b"\0",
    b"\xff",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x80",
    b"{",
    b"}",
    b"0",
    b"4294967296",
    b"-1",
    b"\xcc\x81" * 40,
)


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """The seeds as they are, then mutations of them without end; the same ones for the same ``seed``."""
    seeds = target.seeds()
    yield from seeds
    choose = random.Random(f"{target.name} {seed}")
    while True:
        data = choose.choice(seeds)
        for _ in range(choose.randint(1, 6)):
            data = _mutated(data, seeds, target.words, choose)
        yield data[:MAX_BYTES]


def _mutated(data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], choose: random.Random) -> bytes:
    at = choose.randint(0, len(data))
    end = min(len(data), at + choose.randint(0, 30))
    match choose.randint(0, 5):
        case 0:
            return data[:at] + data[end:]
        case 1:
            return data[:at] + data[at:end] * choose.randint(2, 20) + data[end:]
        case 2:
            return data[:at] + bytes((choose.randrange(256),)) + data[at + 1 :]
        case 3:
            return data[:at] + choose.choice(_ODD) + data[at:]
        case 4 if words:
            return data[:at] + choose.choice(words) + data[end:]
        case _:
            other = choose.choice(seeds)
            start = choose.randint(0, len(other))
            return data[:at] + other[start : start + choose.randint(1, 200)] + data[end:]
