"""Fuzz everything that strangers can reach, for a time of your choice.

    .venv/bin/python -m tests.fuzz [--seconds 600] [--jobs 1] [TARGET ...]

The seconds are shared by the targets. With atheris (``pip install atheris``) mutations follow coverage, and
what was worth keeping lies in ``.fuzz/TARGET`` for the next time; without it seeds are mutated at random.
Prints a line per target: executions, edges covered (atheris) and finds. A find is written to
``tests/fuzz/finds/TARGET``, where every later test run plays it again; the command then ends with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutation import inputs
from tests.fuzz.target import FINDS, Target
from tests.fuzz.targets import TARGETS

PROJECT = Path(__file__).resolve().parents[2]
CORPUS = PROJECT / ".fuzz"
MEMORY_MIB = 2048
ONE_INPUT_S = 20
_PROGRESS = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target; ``edges`` is None without atheris."""

    name: str
    executions: int
    edges: int | None
    finds: tuple[Path, ...]
    said: str = ""


def guided(target: Target, seconds: int) -> Outcome:
    """Fuzz with atheris in a process of its own."""
    corpus, finds = CORPUS / target.name, FINDS / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    finds.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = CORPUS / f"{target.name}.dict"
    words.write_text(
        "".join('"{}"\n'.format("".join(f"\\x{octet:02x}" for octet in word)) for word in target.words)
    )
    before = set(finds.iterdir())
    arguments = [
        str(corpus),
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={ONE_INPUT_S}",
        f"-artifact_prefix={finds}/",
        *([f"-dict={words}"] if target.words else []),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", target.name, *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    seen = _PROGRESS.findall(done.stderr)
    executions, edges = (int(seen[-1][0]), max(int(one[1]) for one in seen)) if seen else (0, 0)
    new = tuple(sorted(set(finds.iterdir()) - before))
    if not new and not any(finds.iterdir()):
        finds.rmdir()
    said = done.stderr[-3000:] if done.returncode else ""
    return Outcome(target.name, executions, edges, new, said)


def unguided(target: Target, seconds: int) -> Outcome:
    """Mutate the seeds at random in this process."""
    end, count = time.monotonic() + seconds, 0
    for data in inputs(target, time.time_ns()):
        if time.monotonic() > end:
            break
        count += 1
        try:
            target.run(data)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a find
            path = FINDS / target.name / hashlib.sha256(data).hexdigest()[:16]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return Outcome(target.name, count, None, (path,), f"{type(error).__name__}")
    return Outcome(target.name, count, None, ())


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args(arguments)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = [TARGETS[name] for name in options.targets or TARGETS]
    seconds = max(1, options.seconds * options.jobs // len(chosen))
    has_atheris = importlib.util.find_spec("atheris") is not None
    one = guided if has_atheris else unguided
    print(f"{len(chosen)} targets, {seconds} s each, {'atheris' if has_atheris else 'random mutations'}")
    failed = False
    print(f"{'target':16} {'executions':>12} {'edges':>8}  finds", flush=True)
    with ThreadPoolExecutor(options.jobs if has_atheris else 1) as pool:
        for outcome in pool.map(lambda target: one(target, seconds), chosen):
            edges = "-" if outcome.edges is None else str(outcome.edges)
            finds = ", ".join(str(path.relative_to(PROJECT)) for path in outcome.finds) or "none"
            print(f"{outcome.name:16} {outcome.executions:12,} {edges:>8}  {finds}", flush=True)
            if outcome.finds or outcome.said:
                failed = True
                print(outcome.said, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
