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
from mailstore.kept import Kept, Known, Threaded
from mailstore.limits import StoreLimits
from mailstore.mime.section import SectionKind, SectionSpec
from mailstore.model import (
    INBOX,
    FetchPlan,
    Flags,
    MailboxId,
    ModSeq,
    Opened,
    SectionRead,
    SortBy,
    SortKey,
    StoreMode,
    SystemFlag,
    ThreadAlgorithm,
    Uid,
)
from mailstore.ops import content, mailboxes, messages, sorting
from mailstore.ops import search as search_ops
from mailstore.ops.rows import delta
from mailstore.prepared import ReadyMessage, prepare
from mailstore.thread_index import arrange
from mailstore.uidset import UidSet

_TEXTS: tuple[tuple[str, search.Key], ...] = (
    ("search subject", search.HeaderText("SUBJECT", mail_sample.RARE_WORD)),
    ("search from, none match", search.HeaderText("FROM", "zebra")),
    ("search body, none match", search.BodyText("zebra")),
    ("search text, none match", search.AnyText("zebra")),
)
_NEW = b"Subject: new\r\nMessage-ID: <new@mail.example>\r\n\r\ntext\r\n"
BATCH = 1000
RUNS = 7


class Reads:
    """One open database and what a session would do with it."""

    def __init__(self, root: Path) -> None:
        self.database: Database = sealbox_root.open_database(root)
        self.mailbox_id = MailboxId(0)
        self.uids: Sequence[int] = ()
        self.kept = Kept(StoreLimits().kept_numbers)
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
        """SELECT as the first session does it."""
        self._opened(mailboxes.select_and_claim, lambda _: None)

    def select_again(self) -> None:
        """SELECT as any later session does it."""
        self._opened(mailboxes.select_and_claim, self.kept.get)

    def _opened(self, fn: Callable[..., Opened], known: Known) -> None:
        opened = self._write(fn, INBOX, known)
        self.kept.keep_opened(opened)
        self.mailbox_id, self.uids = opened.mailbox_id, opened.uids

    def sort(self, key: SortKey, known: Known) -> None:
        """SORT of all messages."""
        by = (SortBy(key),)
        args = (self.mailbox_id, search.All(), by, self.highest(), known, None)
        found, listing = self._read(sorting.sort, *args)
        assert len(found.uids) == len(self.uids)
        self.kept.keep((self.mailbox_id, by), listing)

    def thread(self, known: Threaded | None) -> Threaded:
        """THREAD REFERENCES of all messages."""
        highest = self.highest()
        asked = self._read(sorting.to_thread, self.mailbox_id, search.All(), highest, known, None)
        if asked.renewal is not None:
            made = asked.renewal.made()
        elif asked.rows is not None:
            made = arrange(asked.rows, ThreadAlgorithm.REFERENCES)
        else:
            assert known is not None
            return known
        return Threaded(asked.now.modseq, asked.now.uid_next, made.threads, made.index)

    def add_one(self) -> None:
        """One more message, which answers none."""
        self._write(messages.add_messages, self.mailbox_id, [ReadyMessage(prepare(_NEW), Flags(), 0)])
        self.select_again()

    def change_some(self) -> ModSeq:
        r"""+FLAGS or -FLAGS \Answered on one message of a hundred; what the modseq was before."""
        since = self.highest()
        self._flag_set = not self._flag_set
        self._store(UidSet.of(self.uids[7::100]), SystemFlag.ANSWERED, self._flag_set)
        return since

    def changed(self, since: ModSeq) -> None:
        """FETCH 1:* (FLAGS) (CHANGEDSINCE ...)."""
        all_changed = search.And(
            (search.Uids(UidSet(((1, self.uids[-1]),))), search.ModSeqAtLeast(ModSeq(since + 1)))
        )
        uids = self._read(search_ops.run, self.mailbox_id, all_changed, self.highest()).uids
        for at in range(0, len(uids), BATCH):
            plan = FetchPlan(changed_since=since)
            self._read(content.fetch, self.mailbox_id, uids[at : at + BATCH], plan, self.highest())

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


def median_ms(work: Callable[[], object], runs: int = RUNS) -> str:
    """Medians of wall and CPU time of ``work`` in milliseconds, as cells of the table."""
    wall, cpu = [], []
    for _ in range(runs):
        gc.collect()
        began, began_cpu = time.perf_counter(), time.thread_time()
        work()
        wall.append((time.perf_counter() - began) * 1000)
        cpu.append((time.thread_time() - began_cpu) * 1000)
    return f"{statistics.median(wall):.2f} | {statistics.median(cpu):.2f}"


def measure(root: Path) -> list[tuple[str, str]]:
    """Names and figures of everything measured."""
    before = _resident_mib()
    reads = Reads(root)
    unseen = search.Not(search.HasFlag(SystemFlag.SEEN))
    work: list[tuple[str, Callable[[], object], int]] = [
        ("select, the first of an account", reads.select, RUNS),
        ("select again", reads.select_again, 31),
        *sorting_work(reads),
        ("fetch flags, all, batches of 1000", lambda: reads.fetch(FetchPlan()), RUNS),
        ("fetch envelopes, all", lambda: reads.fetch(FetchPlan(envelope=True)), 3),
        ("store one, committed", reads.store_one, 31),
        ("delta of one change", reads.delta_of_one, 31),
        ("delta of nothing", reads.delta_of_none, 31),
        *changed_work(reads),
        ("header fields of 50 newest", reads.headers, RUNS),
        ("one whole message", reads.body, 31),
        ("search unseen", lambda: reads.search(unseen), RUNS),
        ("store all, committed", reads.store_all, 3),
    ]
    rows = [(name, median_ms(one, runs)) for name, one, runs in work]
    for name, key in _TEXTS:
        rows.append((name, median_ms(partial(reads.search, key), 1)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(("memory before, peak (MiB)", f"{before:.0f}, {peak:.0f} |"))
    reads.database.checkpoint()
    reads.database.close()
    return rows


def sorting_work(reads: Reads) -> list[tuple[str, Callable[[], object], int]]:
    """SORT and THREAD, the first time and later."""
    older = reads.thread(None)
    reads.add_one()
    made = reads.thread(None)
    return [
        ("sort by date, first", lambda: reads.sort(SortKey.DATE, lambda _: None), 3),
        ("sort by date, again", lambda: reads.sort(SortKey.DATE, reads.kept.get), 31),
        ("sort by subject, first", lambda: reads.sort(SortKey.SUBJECT, lambda _: None), 3),
        ("sort by subject, again", lambda: reads.sort(SortKey.SUBJECT, reads.kept.get), 31),
        ("thread by references, first", lambda: reads.thread(None), 3),
        ("thread by references, again", lambda: reads.thread(made), 31),
        ("thread by references, one new message", lambda: reads.thread(older), 31),
    ]


def changed_work(reads: Reads) -> list[tuple[str, Callable[[], object], int]]:
    """What FETCH with CHANGEDSINCE asks."""
    since = reads.change_some()
    return [
        ("changed since, nothing", lambda: reads.changed(reads.highest()), 31),
        ("changed since, 1 %", lambda: reads.changed(since), 31),
    ]


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
        print("| store, no IMAP | median ms | CPU |\n|---|---:|---:|")
        for name, figure in measure(root):
            print(f"| {name} | {figure} |", flush=True)


if __name__ == "__main__":
    main()
