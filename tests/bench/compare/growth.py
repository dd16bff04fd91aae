"""The growing rows in mailboxes of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.compare.play import play
from tests.bench.compare.report import Grown, Line, lines_of
from tests.bench.compare.rows import all_rows
from tests.bench.compare.site import Say, Site, all_users
from tests.bench.compare.size import Size

SIZES = (1_000, 10_000, 100_000)
PAIRS = 3


def measure(
    folder: Path, kinds: Sequence[str], sizes: Sequence[int], wanted: set[str], say: Say
) -> list[Grown]:
    """Play the growing rows, or those of them that are wanted, with servers of their own for every size."""
    found: dict[str, Grown] = {}
    for messages in sizes:
        size = Size(messages, PAIRS, large=1)
        with Site(folder / f"growth-{messages}", kinds) as site:
            site.start(all_users(size))
            site.fill_inbox(size, say)
            for row in all_rows(size):
                if not row.grows or (wanted and row.key not in wanted):
                    continue
                for line in lines_of(play(row, site.peers, size)):
                    one = found.setdefault(line.name, _nothing_yet(line, kinds))
                    for kind in kinds:
                        one.values[kind][messages] = line.values[kind]
                        one.cpu_ms[kind][messages] = line.cpu_ms[kind]
                say(f"{messages:,} messages: {row.key}")
        say(f"{messages:,} messages measured")
    return list(found.values())


def _nothing_yet(line: Line, kinds: Sequence[str]) -> Grown:
    return Grown(line.name, line.unit, {kind: {} for kind in kinds}, {kind: {} for kind in kinds})
