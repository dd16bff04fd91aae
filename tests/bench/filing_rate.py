"""What one message of 10 KB costs on its way in: sealed and made durable, later opened and filed.

    PYTHONPATH=. .venv/bin/python tests/bench/filing_rate.py [--messages 2000] [--profile]

One thread, no server. Steps overlap nowhere, so they add up. ``--profile`` adds where filing spends
its time, by cProfile (which makes Python look slower than it is).
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import mail_sample
import sealbox_root

from mailstore.account import account_paths
from mailstore.engine import Database
from mailstore.filing import Filer
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.opening import Proven
from mailstore.prepared import prepare
from mailstore.sealed import Facts, deliver, new_sealed_id, open_sealed, pending, read_sealed, seal

T = TypeVar("T")

KINDS: dict[str, Callable[[int], bytes]] = {
    "text": mail_sample.plain_10k,
    "with attachment": mail_sample.attachment_10k,
}


@dataclass
class Steps:
    """Seconds spent in each step, over ``count`` messages."""

    count: int
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, step: str, work: Callable[..., T], *args: Any) -> T:
        """Run ``work`` and add its time to ``step``."""
        began = time.perf_counter()
        result = work(*args)
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began
        return result

    def us(self, *steps: str) -> float:
        """Microseconds a message in all of these steps."""
        return sum(self.seconds[step] for step in steps) / self.count * 1e6


def deliver_all(steps: Steps, opened: Proven, inbox: Path, mail: list[bytes]) -> None:
    """Seal and store every message, as LMTP does."""
    record = opened.record
    facts = Facts(1_700_000_000, b"sender@example.net", b"user@example.org")
    for message in mail:
        sealed_id = new_sealed_id()
        blob = steps.timed("seal", seal, record.public_key, record.account_id, sealed_id, message, facts)
        steps.timed("durable", deliver, inbox, sealed_id, blob)


def open_all(opened: Proven, inbox: Path) -> None:
    """Read and open every sealed message."""
    for sealed_id in pending(inbox):
        open_sealed(opened.private_key, opened.record.account_id, sealed_id, read_sealed(inbox, sealed_id))


def file_all(steps: Steps, database: Database, filer: Filer) -> None:
    """File every sealed message, as the worker does."""
    more = True
    while more:
        batch = filer.load()
        assert batch is not None
        steps.timed("insert", database.write, int(time.time()), filer.insert, batch)
        steps.timed("remove", filer.remove, batch)
        batch.release()
        more = batch.more


def measure(folder: Path, mail: list[bytes], profile: cProfile.Profile | None) -> list[tuple[str, str]]:
    """Deliver and file ``mail``; names and figures."""
    sealbox_root.make_account(folder)
    database = sealbox_root.open_database(folder)
    database.checkpoint()
    steps = Steps(len(mail))
    with sealbox_root.unlocked(folder) as opened:
        paths = account_paths(folder, opened.record.account_id)
        deliver_all(steps, opened, paths.inbox, mail)
        sealed_bytes = sum(path.stat().st_size for path in paths.inbox.iterdir())
        # These two for themselves, to know their share: the filer does both in one go.
        steps.timed("open", open_all, opened, paths.inbox)
        steps.timed("prepare", lambda: [prepare(message) for message in mail])
        before = paths.mail_db.stat().st_size
        filer = Filer(paths, opened.record.account_id, opened.private_key, StoreLimits(), MimeLimits())
        if profile is None:
            file_all(steps, database, filer)
        else:
            profile.runcall(file_all, steps, database, filer)
        steps.timed("checkpoint", database.checkpoint)
        grown = paths.mail_db.stat().st_size - before
    database.close()
    size = sum(map(len, mail))
    delivery, filing = ("seal", "durable"), ("open", "prepare", "insert", "remove", "checkpoint")
    return [
        ("delivery, messages/s", f"{1e6 / steps.us(*delivery):.0f}"),
        ("- seal, µs", f"{steps.us('seal'):.0f}"),
        ("- write, fsync, rename, fsync the folder, µs", f"{steps.us('durable'):.0f}"),
        ("filing, messages/s", f"{1e6 / steps.us(*filing):.0f}"),
        ("- read and open, µs", f"{steps.us('open'):.0f}"),
        ("- prepare (scan, compress, hash), µs", f"{steps.us('prepare'):.0f}"),
        ("- insert, 100 a transaction, commit with fsync, µs", f"{steps.us('insert'):.0f}"),
        ("- unlink, µs", f"{steps.us('remove'):.0f}"),
        ("- share of a checkpoint at the end, µs", f"{steps.us('checkpoint'):.0f}"),
        ("message, bytes", f"{size / len(mail):.0f}"),
        ("sealed file, bytes a message", f"{sealed_bytes / len(mail):.0f}"),
        ("database, bytes a message", f"{grown / len(mail):.0f}"),
    ]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    profile = cProfile.Profile() if options.profile else None
    columns = []
    for make in KINDS.values():
        with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as scratch:
            mail = [make(number) for number in range(options.messages)]
            columns.append(measure(Path(scratch) / "root", mail, profile))
    print("| one message of 10 KB | " + " | ".join(KINDS) + " |\n|---|" + "---:|" * len(KINDS))
    for rows in zip(*columns, strict=True):
        print(f"| {rows[0][0]} | " + " | ".join(figure for _, figure in rows) + " |")
    if profile is not None:
        pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
