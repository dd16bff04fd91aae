"""Break the program on purpose, one small change at a time, and see whether the fast tests notice.

    .venv/bin/python -m tests.mutation [--seconds 3600] [--sample N] [--seed S] [--map] [MODULE ...]

Without modules it takes those that lose mail when they are wrong. Each change runs against the fast tests
that run its line until one fails (``--map`` finds out anew which tests run which line; do that when tests
have changed). Survivors that have been looked at are explained in ``tests/mutation/survivors.toml`` and
count for nothing; prints the others, and a line per module. Ends with 1 when a module has less than 90 %
noticed, or when none of its changes was tried. What does not end in time is told apart: on a busy machine it
says nothing.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.covering import Covering, covering
from tests.mutation.mutants import Mutant, mutants, mutated
from tests.mutation.trial import Outcome, Verdict, prepare, try_out

PROJECT = Path(__file__).resolve().parents[2]
EXPLAINED = Path(__file__).with_name("survivors.toml")
MODULES = (
    "mailstore/keys/hierarchy.py",
    "mailstore/keys/pair.py",
    "mailstore/keys/slots.py",
    "mailstore/sealed.py",
    "mailstore/filing.py",
    "mailstore/wal.py",
    "mailstore/page_journal.py",
    "mailstore/uidset.py",
    "backup/segment.py",
    "backup/retention.py",
    "backup/rebuild.py",
    "backup/restore.py",
    "backup/verify.py",
    "protocols/imap/picture/view.py",
)
NOTICED_SHARE = 0.9
ONE_MUTANT_S = 240.0
MOST_TESTS = 400
"""Tests run against one mutant at most, the quickest."""

FORKED = {
    "mailstore/keys/hierarchy.py": ("tests/crash/test_power_cuts.py",),
    "mailstore/keys/pair.py": ("tests/crash/test_power_cuts.py",),
    "mailstore/keys/slots.py": ("tests/crash/test_power_cuts.py",),
    "mailstore/sealed.py": ("tests/crash/test_power_cuts.py",),
    "mailstore/filing.py": ("tests/crash/test_power_cuts.py",),
    "mailstore/wal.py": ("tests/crash/test_power_cuts_of_snapshots.py",),
    "mailstore/page_journal.py": ("tests/crash/test_power_cuts_of_snapshots.py",),
    "backup/rebuild.py": ("tests/crash/test_power_cuts_of_restores.py",),
    "backup/restore.py": ("tests/crash/test_power_cuts_of_restores.py",),
}
"""Tests that run a module in processes of their own, where coverage does not look; they come last."""


@dataclass(slots=True)
class Tally:
    """How a module did."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    explained: int = 0
    survivors: list[tuple[Mutant, Verdict]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """How many of those that are not explained, and came to an end, were noticed."""
        count = self.verdicts.total() - self.explained - self.verdicts[Verdict.TOO_SLOW]
        return self.verdicts[Verdict.NOTICED] / count if count else 1.0


def explanations() -> dict[str, dict[str, str]]:
    """For each module why some changes of it cannot be noticed, or need not be, by the change's name."""
    if not EXPLAINED.exists():
        return {}
    found: dict[str, dict[str, str]] = tomllib.loads(EXPLAINED.read_text())
    return found


def chosen(options: argparse.Namespace, choose: random.Random) -> list[Mutant]:
    """The mutants of this run, in random order, so that a run that ends early is a sample."""
    all_of_them = [
        one for module in options.modules for one in mutants(module, (PROJECT / module).read_text())
    ]
    choose.shuffle(all_of_them)
    return all_of_them[: options.sample] if options.sample else all_of_them


def verdicts(
    todo: Sequence[Mutant], known: Covering, seconds: float, jobs: int
) -> Iterator[tuple[Mutant, Outcome]]:
    """Try one after the other until the time is up."""
    end = time.monotonic() + seconds
    believed: dict[tuple[str, str], bool] = {}

    def one(mutant: Mutant) -> tuple[Mutant, Outcome] | None:
        if time.monotonic() > end:
            return None
        tests = [*known.tests_of(mutant.module, mutant.lines)[:MOST_TESTS], *FORKED.get(mutant.module, ())]
        tree = mutated((PROJECT / mutant.module).read_text(), mutant)
        while True:
            trusted = [test for test in tests if believed.get((mutant.module, test), True)]
            outcome = try_out(mutant.module, tree, trusted, ONE_MUTANT_S)
            if not outcome.by:
                return mutant, outcome
            noticed_by = mutant.module, outcome.by
            if noticed_by not in believed:
                believed[noticed_by] = passes(*noticed_by)
            if believed[noticed_by]:
                return mutant, outcome

    with ThreadPoolExecutor(jobs) as pool:
        yield from filter(None, pool.map(one, todo))


def passes(module: str, test: str) -> bool:
    """Whether a test that has noticed something is content with the unchanged module.

    Otherwise it fails for another reason, like that it is run from here, and what it says counts for nothing.
    """
    outcome = try_out(module, ast.parse((PROJECT / module).read_text()), [test], ONE_MUTANT_S)
    if outcome.verdict is Verdict.SURVIVED:
        return True
    print(f"{module}: {test} fails without a change, too, and is left out", flush=True)
    return False


def report(tallies: dict[str, Tally]) -> bool:
    """Print how each module did; whether all did well."""
    columns = f"{'tried':>6} {'noticed':>8} {'too slow':>8} {'explained':>10} {'survived':>9} {'share':>7}"
    print(f"\n{'module':32} {columns}")
    for module, tally in sorted(tallies.items()):
        noticed, tried = tally.verdicts[Verdict.NOTICED], tally.verdicts.total()
        slow, left = tally.verdicts[Verdict.TOO_SLOW], len(tally.survivors)
        print(f"{module:32} {tried:6} {noticed:8} {slow:8} {tally.explained:10} {left:9} {tally.share:7.1%}")
    return all(tally.verdicts.total() and tally.share >= NOTICED_SHARE for tally in tallies.values())


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--sample", type=int, default=0, help="how many changes to try; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--map", action="store_true", help="find out anew which tests run which line")
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE")
    options = parser.parse_args()
    known, explained = covering(options.map), explanations()
    prepare()
    todo = chosen(options, random.Random(options.seed))
    tallies = {module: Tally() for module in options.modules}
    for mutant, outcome in verdicts(todo, known, options.seconds, options.jobs):
        tally, verdict = tallies[mutant.module], outcome.verdict
        tally.verdicts[verdict] += 1
        if verdict in (Verdict.NOTICED, Verdict.TOO_SLOW):
            continue
        if mutant.name in explained.get(mutant.module, {}):
            tally.explained += 1
            continue
        tally.survivors.append((mutant, verdict))
        print(f"{mutant.module}:{mutant.lines[0]}: {verdict.value}: {mutant.name}", flush=True)
    well = report(tallies)
    tried = sum(tally.verdicts.total() for tally in tallies.values())
    print(f"\n{tried} of {len(todo)} changes tried.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
