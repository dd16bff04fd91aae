"""The commands of a document: what is in its ``sh`` blocks, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

_HERE = "<<'"


def commands(document: Path) -> Iterator[str]:
    """Each command, with the text that it reads (a here-document) where there is one.

    Raises:
        ValueError: a block or a here-document does not end.
    """
    lines = iter(document.read_text().splitlines())
    for line in lines:
        if line == "```sh":
            yield from _block(_until(lines, "```"))


def _block(lines: Iterable[str]) -> Iterator[str]:
    waiting = iter(lines)
    for line in waiting:
        command = [line]
        if _HERE in line:
            end = line.partition(_HERE)[2].partition("'")[0]
            command += [*_until(waiting, end), end]
        if line.strip():
            yield "\n".join(command)


def _until(lines: Iterator[str], end: str) -> list[str]:
    found = []
    for line in lines:
        if line == end:
            return found
        found.append(line)
    raise ValueError(f"a block that should end with {end!r} does not")
