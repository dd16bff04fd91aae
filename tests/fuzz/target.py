"""What a fuzz target is: bytes in, no exception out, and seeds to begin with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
FINDS = Path(__file__).parent / "finds"
"""Inputs that failed once, by target; every test run plays them again."""

_SAID = re.compile(r"^C\w*: ?(.*)$")


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` fails with any exception when the code under test does not keep what it promises."""

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    """Pieces that the grammar knows, for mutations."""


def said_in(folder: Path) -> list[bytes]:
    """What the clients of the transcripts in a folder say, one stream a transcript."""
    found = []
    for path in sorted(folder.glob("*.txt")):
        lines = (_SAID.match(line) for line in path.read_text("utf-8").splitlines())
        said = [match[1].encode("utf-8") for match in lines if match]
        if said:
            found.append(b"\r\n".join(said) + b"\r\n")
    return found


def finds_of(target: Target) -> list[Path]:
    """The inputs that failed once."""
    return sorted((FINDS / target.name).glob("*"))
