"""Load of every kind while workers are killed at random: nothing answered for is lost, nothing grows.

    .venv/bin/python -m tests.soak [--seconds 1800] [--idle 500] [--kill-every 20] [--seed N]

A server of its own with two workers and snapshots to a folder, on free ports of 127.0.0.1, in a temporary
folder. Deliveries over LMTP, APPEND and MOVE, synchronising clients, searches, POP3 clients that download
and delete, and clients in IDLE; every ``--kill-every`` seconds a worker dies by kill -9. In the end every
message answered 250 or OK has to be there once (or to have been downloaded), every client has to have come
back, the processes that live on must not have grown, and what the bucket holds has to verify. Prints a
table; ends with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.soak.actors import Actors, everything_in
from tests.soak.idlers import Idlers
from tests.soak.ledger import Account, Ledger
from tests.soak.site import WORKERS, Site

LOOK_EVERY_S = 1.0
GROWTH_MIB = 30.0
"""What a process may take more in the last quarter of its life than in the second, whatever it does."""
WORKER_MIB = 600.0


def load(actors: Actors) -> list[threading.Thread]:
    """The actors' threads, started."""
    steps = [
        *(("LMTP x10", actors.deliver, 0.5) for _ in range(2)),
        *(("APPEND x5", actors.append, 1.0) for _ in range(2)),
        *(("synchronise", actors.synchronise, 1.0) for _ in range(3)),
        ("TEXT search", actors.search, 2.0),
        *(("POP3 session", actors.pop, 1.0) for _ in range(2)),
    ]
    threads = [
        threading.Thread(target=actors.repeat, args=(what, step, f"{what} {number}", pause_s))
        for number, (what, step, pause_s) in enumerate(steps)
    ]
    for thread in threads:
        thread.start()
    return threads


def disturb(site: Site, seconds: float, kill_every_s: float, choose: random.Random) -> int:
    """Kill workers at random until the time is up; how many."""
    end = time.monotonic() + seconds
    next_kill, kills = time.monotonic() + kill_every_s, 0
    while (now := time.monotonic()) < end:
        site.look()
        if now >= next_kill and (workers := site.workers()):
            site.kill(choose.choice(workers))
            kills += 1
            next_kill += kill_every_s
        time.sleep(min(LOOK_EVERY_S, max(end - now, 0.0)))
    return kills


def grown(site: Site, ledger: Ledger) -> list[str]:
    """A line for each process that lived long, and one for the largest worker."""
    lines = []
    for memory in site.memory.values():
        seen = memory.seen
        if memory.role == "worker" or len(seen) < 8:
            continue
        quarter = len(seen) // 4
        before, after = statistics.median(seen[quarter : 2 * quarter]), statistics.median(seen[-quarter:])
        lines.append(f"{memory.role}: {before:.0f} MiB in the second quarter, {after:.0f} in the last")
        if after - before > GROWTH_MIB:
            ledger.is_wrong(f"the {memory.role} grows: {lines[-1]}")
    peak = max((max(one.seen) for one in site.memory.values() if one.role == "worker"), default=0.0)
    lines.append(f"largest worker: {peak:.0f} MiB")
    if peak > WORKER_MIB:
        ledger.is_wrong(lines[-1])
    return lines


def report(ledger: Ledger, kills: int, lines: list[str], idlers: Idlers) -> None:
    """Print what was done and how long it took."""
    print(
        f"\n| {'what':14} | {'done':>7} | broken | p50 ms | p99 ms | max ms |\n|---|---:|---:|---:|---:|---:|"
    )
    for what, taken in sorted(ledger.taken_s.items()):
        ms = sorted(1000 * one for one in taken)
        figures = (statistics.median(ms), ms[min(len(ms) * 99 // 100, len(ms) - 1)], ms[-1])
        shown = " | ".join(f"{one:6.0f}" for one in figures)
        print(f"| {what:14} | {len(ms):7,} | {ledger.broken[what]:6} | {shown} |")
    for how, count in ledger.how.most_common(12):
        print(f"broken {count} times: {how}")
    answered = sum(len(one.answered) for one in ledger.accounts)
    print(
        f"\n{kills} workers killed; {answered:,} messages answered for; {idlers.told:,} times EXISTS in IDLE"
    )
    print(*lines, sep="\n")
    for text in ledger.wrong[:20]:
        print(f"WRONG: {text}")
    print("all is well" if not ledger.wrong else f"{len(ledger.wrong)} things are wrong")


def soak(folder: Path, options: argparse.Namespace) -> int:
    """The whole of it; the exit code."""
    accounts = [Account(f"user{number}@example.org", kept=number % 3 != 2) for number in range(9)]
    ledger = Ledger(accounts)
    site = Site(folder, accounts)
    site.start()
    try:
        kills, idlers = under_load(site, ledger, options)
        for account in accounts:
            ledger.check(account, Counter(everything_in(site, account)))
        if len(site.workers()) != WORKERS:
            ledger.is_wrong(f"{len(site.workers())} workers in the end")
        site.drill()
    finally:
        code = site.stop()
    if code != 0:
        ledger.is_wrong("the server does not end cleanly")
    for traceback in site.tracebacks():
        ledger.is_wrong(f"there is a traceback in the log:\n{traceback}")
    report(ledger, kills, grown(site, ledger), idlers)
    return int(bool(ledger.wrong))


def under_load(site: Site, ledger: Ledger, options: argparse.Namespace) -> tuple[int, Idlers]:
    """Load and kills until the time is up, and until everybody is back in."""
    over = threading.Event()
    idlers = Idlers(site, ledger, options.idle, options.back_within, over)
    idlers.start()
    threads = load(Actors(site, ledger, over))
    try:
        kills = disturb(site, options.seconds, options.kill_every, random.Random(options.seed))
        deadline = time.monotonic() + 2 * options.back_within
        while idlers.idle < options.idle and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        if idlers.idle < options.idle:
            ledger.is_wrong(f"only {idlers.idle} of {options.idle} idle clients are back in")
    finally:
        over.set()
        for thread in threads:
            thread.join()
        idlers.join()
    return kills, idlers


def main(arguments: list[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--kill-every", type=float, default=20.0)
    parser.add_argument("--back-within", type=float, default=60.0, help="seconds until idle clients are back")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4 * options.idle + 1000), hard), hard))
    with tempfile.TemporaryDirectory(prefix="sealbox-soak-") as folder:
        return soak(Path(folder), options)


if __name__ == "__main__":
    sys.exit(main())
