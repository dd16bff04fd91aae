"""Sealbox beside Dovecot, row by row: which is faster, what it costs, and how it grows.

    .venv/bin/python -m tests.bench.compare [--messages N] [--quick] [--rows NAME,...] [--peers plain,crypt]
    .venv/bin/python -m tests.bench.compare --growth [--million]

Starts Dovecot as it comes (``plain``), Dovecot with mail_crypt and zstd (``crypt``) and Sealbox, all with
equal durability (Dovecot: ``mail_fsync = always``), on 127.0.0.1 over TLS, in a temporary folder; fills them
with the same generated mail; and plays every row in turn, ours, plain, crypt, ours, ..., with a client that
reads and does not parse. Installs nothing: needs Debian's dovecot-imapd, dovecot-pop3d and dovecot-lmtpd,
without which Sealbox is measured alone, and for the charts matplotlib (``pip install -e .[bench]``).

The table and the chart go into tests/bench/RESULTS.md, unless only a part was asked for (``--quick``,
``--rows``), or into the folder that ``--results`` names; ``--json`` writes all figures to a file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.compare import growth, memory, report, results
from tests.bench.compare.peers import CRYPT, OURS, PLAIN, missing
from tests.bench.compare.play import Figure, Row, Unit, play
from tests.bench.compare.rows import all_rows
from tests.bench.compare.site import Site, all_users
from tests.bench.compare.size import Size, quick, smallest
from tests.bench.process_figures import machine

RESULTS = Path(__file__).resolve().parents[1]
PEAK = "peak"
MIXED = "mixed"


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


def compare(
    folder: Path, kinds: Sequence[str], size: Size, wanted: set[str]
) -> tuple[list[report.Line], float]:
    """Play the wanted rows, all where none are named; their lines, and how long our index took."""
    lines: list[report.Line] = []
    rows = _chosen(wanted, size)
    indexed_s = 0.0
    if rows:
        with Site(folder / "site", kinds) as site:
            site.start(all_users(size))
            indexed_s = site.fill_inbox(size, say)
            if any(row.key == MIXED for row in rows):
                site.fill_load(size)
            for row in rows:
                began = time.monotonic()
                lines += report.lines_of(play(row, site.peers, size))
                say(f"{row.key}: {time.monotonic() - began:.1f} s")
            peaks = {peer.kind: memory.MemoryFound({PEAK: peer.peak_mib}) for peer in site.peers}
        if not wanted or PEAK in wanted:
            figure = Figure("memory: most while these rows were played", Unit.MIB, at_most=350)
            lines += report.memory_lines({PEAK: figure}, peaks, PEAK)
    if not wanted or memory.KEY in wanted:
        lines += report.memory_lines(memory.figures(size), memory.measure(folder, kinds, size), memory.KEY)
        say("memory measured")
    return lines, indexed_s


def _chosen(wanted: set[str], size: Size) -> list[Row]:
    return [row for row in all_rows(size) if not wanted or row.key in wanted]


def _size(options: argparse.Namespace) -> Size:
    size = quick() if options.quick else smallest(20) if options.smallest else Size(20_000, 5)
    if options.messages:
        size = replace(size, messages=options.messages)
    return replace(size, pairs=options.pairs) if options.pairs else size


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, help="in the inbox; 20,000, with --quick 1,000")
    parser.add_argument("--pairs", type=int, help="turns of each row that count; 5, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="the same rows in two minutes")
    parser.add_argument("--smallest", action="store_true", help="the same rows once, to see that they run")
    parser.add_argument("--rows", default="", help="only these, by the names that progress shows")
    parser.add_argument("--peers", help=f"whom to compare with: {PLAIN},{CRYPT}; with --growth {PLAIN}")
    parser.add_argument(
        "--growth", action="store_true", help="growing rows at 1,000, 10,000, 100,000 messages"
    )
    parser.add_argument("--million", action="store_true", help="with --growth: at 1,000,000 too (hours)")
    parser.add_argument("--sizes", default="", help="with --growth: other sizes")
    parser.add_argument("--results", type=Path, help="folder of RESULTS.md and the charts")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    known = {row.key for row in all_rows(quick())} | {PEAK, memory.KEY}
    options.wanted = set(filter(None, options.rows.split(",")))
    if unknown := options.wanted - known:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    if options.growth and not any(row.grows for row in _chosen(options.wanted, quick())):
        parser.error("none of these rows grows with the mailbox")
    if options.peers is None:
        options.peers = PLAIN if options.growth else f"{PLAIN},{CRYPT}"
    options.kinds = [OURS, *filter(None, options.peers.split(","))]
    if unknown := set(options.kinds) - {OURS, PLAIN, CRYPT}:
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    """See the module's docstring."""
    options = _options()
    if len(options.kinds) > 1 and (lacking := missing()):
        say(f"{lacking} Until then Sealbox is measured alone.")
        options.kinds = [OURS]
    size = _size(options)
    run = results.Run(machine(), options.kinds, size)
    with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        if options.growth:
            sizes = [int(one) for one in options.sizes.split(",") if one] or list(growth.SIZES)
            sizes += [1_000_000] if options.million else []
            run.grown = growth.measure(folder, options.kinds, sizes, options.wanted, say)
            print(report.growth_table(run.grown))
        else:
            run.lines, run.indexed_s = compare(folder, options.kinds, size, options.wanted)
            print(report.table(run.lines))
    if options.json:
        options.json.write_text(results.as_json(run), "utf-8")
    is_part = options.quick or options.smallest or options.wanted or options.sizes
    if place := options.results or (None if is_part else RESULTS):
        say(results.write(run, place))


if __name__ == "__main__":
    main()
