"""The store's read path with one large mailbox, without IMAP, reactor or threads.

    PYTHONPATH=. .venv/bin/python tests/bench/store_reads.py [--messages 100000] [--root FOLDER]

Prints a Markdown table: medians in milliseconds, and the process's memory. With ``--root`` the
folder is filled when it is missing, and kept.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mail_sample
import sealbox_root

from mailstore import search
from mailstore.engine import Database
from mailstore.mime.section import SectionKind, SectionSpec
from mailstore.model import (
    INBOX,
    FetchPlan,
    Flags,
    MailboxId,
    ModSeq,
    SectionRead,
    StoreMode,
    SystemFlag,
    Uid,
)
from mailstore.ops import content, mailboxes, messages
from mailstore.ops import search as search_ops
from mailstore.ops.rows import delta
from mailstore.uidset import UidSet

_TEXTS: tuple[tuple[str, search.Key], ...] = (
    ("search subject", search.HeaderText("SUBJECT", mail_sample.RARE_WORD)),
    ("search from, none match", search.HeaderText("FROM", "zebra")),
    ("search body, none match", search.BodyText("zebra")),
    ("search text, none match", search.AnyText("zebra")),
)
BATCH = 1000
RUNS = 7


class Reads:
    """One open database and what a session would do with it."""

    def __init__(self, root: Path) -> None:
        self.database: Database = sealbox_root.open_database(root)
        self.mailbox_id = MailboxId(0)
        self.uids: Sequence[int] = ()
        self._flag_set = False
        self.select()

    def _read(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.database.read(int(time.time()), fn, *args)

    def _write(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.database.write(int(time.time()), fn, *args)

    def highest(self) -> ModSeq:
        """The mailbox's modification sequence now."""
        return ModSeq(self._read(mailboxes.modseqs)[self.mailbox_id])

    def select(self) -> None:
        """SELECT as a session does it."""
        opened = self._write(mailboxes.select, INBOX, False)
        self.mailbox_id, self.uids = opened.mailbox_id, opened.uids

    def fetch(self, plan: FetchPlan) -> None:
        """All messages in batches, each result dropped as a session drops it."""
        since = self.highest()
        for at in range(0, len(self.uids), BATCH):
            batch = [Uid(uid) for uid in self.uids[at : at + BATCH]]
            found = self._read(content.fetch, self.mailbox_id, batch, plan, since)
            assert len(found.rows) == len(batch)

    def store_one(self) -> None:
        r"""+FLAGS or -FLAGS \Flagged on one message, committed."""
        self._flag_set = not self._flag_set
        self._store(UidSet.of([self.uids[len(self.uids) // 2]]), SystemFlag.FLAGGED, self._flag_set)

    def store_all(self) -> None:
        r"""+FLAGS or -FLAGS \Seen on every message, committed."""
        self._flag_set = not self._flag_set
        self._store(UidSet(((1, self.uids[-1]),)), SystemFlag.SEEN, self._flag_set)

    def _store(self, uids: UidSet, flag: SystemFlag, add: bool) -> None:
        mode = StoreMode.ADD if add else StoreMode.REMOVE
        result = self._write(
            messages.store_flags, self.mailbox_id, uids, mode, Flags(flag), None, self.highest()
        )
        assert len(result.updated) == len(uids)

    def delta_of_one(self) -> None:
        """What one change looks like to another session."""
        assert len(self._read(delta, self.mailbox_id, ModSeq(self.highest() - 1)).changed) == 1

    def delta_of_none(self) -> None:
        """NOOP."""
        self._read(delta, self.mailbox_id, self.highest())

    def headers(self) -> None:
        """The header fields of the 50 newest messages, as a client lists them."""
        names = (b"FROM", b"TO", b"CC", b"SUBJECT", b"DATE", b"MESSAGE-ID", b"REFERENCES", b"IN-REPLY-TO")
        read = SectionRead(SectionSpec((), SectionKind.HEADER_FIELDS, names))
        newest = [Uid(uid) for uid in self.uids[-50:]]
        assert len(self._read(content.content, self.mailbox_id, newest, (read,), 1 << 20)) == 50

    def body(self) -> None:
        """One whole message."""
        one = [Uid(self.uids[len(self.uids) // 3])]
        self._read(content.content, self.mailbox_id, one, (SectionRead(SectionSpec()),), 1 << 20)

    def search(self, key: search.Key) -> None:
        """One search."""
        self._read(search_ops.run, self.mailbox_id, key, self.highest())


def median_ms(work: Callable[[], object], runs: int = RUNS) -> float:
    """The median wall time of ``work`` in milliseconds."""
    taken = []
    for _ in range(runs):
        gc.collect()
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def measure(root: Path) -> list[tuple[str, str]]:
    """Names and figures of everything measured."""
    before = _resident_mib()
    reads = Reads(root)
    unseen = search.Not(search.HasFlag(SystemFlag.SEEN))
    work: list[tuple[str, Callable[[], object], int]] = [
        ("select", reads.select, RUNS),
        ("fetch flags, all, batches of 1000", lambda: reads.fetch(FetchPlan()), RUNS),
        ("fetch envelopes, all", lambda: reads.fetch(FetchPlan(envelope=True)), 3),
        ("store one, committed", reads.store_one, 31),
        ("delta of one change", reads.delta_of_one, 31),
        ("delta of nothing", reads.delta_of_none, 31),
        ("header fields of 50 newest", reads.headers, RUNS),
        ("one whole message", reads.body, 31),
        ("search unseen", lambda: reads.search(unseen), RUNS),
        ("store all, committed", reads.store_all, 3),
    ]
    rows = [(name, f"{median_ms(one, runs):.2f}") for name, one, runs in work]
    for name, key in _TEXTS:
        rows.append((name, f"{median_ms(partial(reads.search, key), 1):.0f}"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(("memory before, peak (MiB)", f"{before:.0f}, {peak:.0f}"))
    reads.database.checkpoint()
    reads.database.close()
    return rows


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as scratch:
        root = options.root or Path(scratch) / "root"
        if not root.exists():
            sealbox_root.make_account(root)
            sealbox_root.fill(root, mail_sample.messages(options.messages))
        print("| store, no IMAP | median ms |\n|---|---|")
        for name, figure in measure(root):
            print(f"| {name} | {figure} |", flush=True)


if __name__ == "__main__":
    main()
