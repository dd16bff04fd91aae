"""A working day of each mail program against a real, fresh server, step by step.

    .venv/bin/python tests/clients/run.py                    # every program that is installed
    .venv/bin/python tests/clients/run.py mutt thunderbird   # only these
    .venv/bin/python tests/clients/run.py --keep DIR ...     # leave server data and wire logs in DIR

Ends with 1 when an evening is not what the day should have led to, when the server answered NO or BAD
without an explanation in the script, when its error log is not empty, or when a named program is missing.
Debian's packages: isync, offlineimap3, mutt, neomutt; for Thunderbird: thunderbird, xvfb, xauth.
What was observed is in OBSERVED.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "integration"), str(_HERE.parents[1])]

import day_mbsync  # noqa: E402
import day_mutt  # noqa: E402
import day_offlineimap  # noqa: E402
import day_thunderbird  # noqa: E402
from day import Day, DayFailed, spend  # noqa: E402

DAYS: dict[str, tuple[tuple[str, ...], Callable[[Day], None]]] = {
    "mbsync": (day_mbsync.NEEDS, day_mbsync.work),
    "offlineimap": (day_offlineimap.NEEDS, day_offlineimap.work),
    "mutt": (day_mutt.NEEDS_MUTT, day_mutt.mutt),
    "neomutt": (day_mutt.NEEDS_NEOMUTT, day_mutt.neomutt),
    "thunderbird": (day_thunderbird.NEEDS, day_thunderbird.work),
}


def missing(name: str) -> list[str]:
    """The programs that a day needs and that are not installed."""
    return [program for program in DAYS[name][0] if shutil.which(program) is None]


def main(arguments: list[str]) -> int:
    """Run the days; the exit code."""
    parser = argparse.ArgumentParser(description="A working day of each mail program.")
    parser.add_argument("clients", nargs="*", metavar="client", help=", ".join(DAYS))
    parser.add_argument("--keep", type=Path, help="folder that keeps what the days have written")
    options = parser.parse_args(arguments)
    unknown = set(options.clients) - set(DAYS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failures = 0
    for name in options.clients or DAYS:
        print(name, flush=True)
        if absent := missing(name):
            print(f"  not installed: {', '.join(absent)}", flush=True)
            failures += name in options.clients
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.keep / name if options.keep else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                spend(name, DAYS[name][1], folder)
            except DayFailed as error:
                failures += 1
                print(f"  FAILED: {error}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
