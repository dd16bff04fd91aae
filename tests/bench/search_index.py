"""The search index without IMAP, reactor or threads: time to build, size, and searches with it and without.

    PYTHONPATH=. .venv/bin/python tests/bench/search_index.py [--messages 20000] [--root FOLDER]

Prints Markdown: medians in milliseconds. With ``--root`` the folder is filled when it is missing, and kept.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mail_sample
import sealbox_root

from mailstore import search
from mailstore.account import AccountPaths, account_paths
from mailstore.account_database import search_key
from mailstore.engine import Database, DatabaseKey
from mailstore.limits import StoreLimits
from mailstore.model import INBOX, MailboxId, ModSeq
from mailstore.ops import mailboxes
from mailstore.ops import search as search_ops
from mailstore.search_index import SearchIndex

KEYS: tuple[tuple[str, search.Key], ...] = (
    ("FROM, an address", search.HeaderText("FROM", "ada.17@garden.example")),
    ("FROM, none", search.HeaderText("FROM", "zebra")),
    ("FROM, 2 %", search.HeaderText("FROM", "garden")),
    ("SUBJECT, 1 %", search.HeaderText("SUBJECT", mail_sample.RARE_WORD)),
    ("SUBJECT, 8 %", search.HeaderText("SUBJECT", "harbour")),
    ("HEADER Message-ID, one", search.HeaderText("MESSAGE-ID", "<1234.")),
    ("HEADER List-Id, none", search.HeaderText("LIST-ID", "zebra")),
    ("BODY, none", search.BodyText("zebra")),
    ("BODY, part of two words", search.BodyText("ladder invoice harb")),
    ("BODY, in nearly all", search.BodyText("garden")),
    ("TEXT, none", search.AnyText("zebra")),
    ("TEXT, 1 %", search.AnyText(mail_sample.RARE_WORD)),
)
RUNS = 5
LONG_MS = 2_000.0
"""What takes longer is measured once."""


def place(root: Path) -> tuple[AccountPaths, DatabaseKey]:
    """The account's files and the key of its index."""
    with sealbox_root.unlocked(root) as opened:
        return account_paths(root, opened.record.account_id), search_key(opened.master)


def build(index: SearchIndex, mail: Database) -> tuple[float, float, float]:
    """Index everything: wall seconds, CPU seconds, and the longest batch in wall seconds."""
    began, cpu, longest = time.perf_counter(), time.process_time(), 0.0
    while True:
        before = time.perf_counter()
        if index.work(mail) is None:
            break
        longest = max(longest, time.perf_counter() - before)
    return time.perf_counter() - began, time.process_time() - cpu, longest


def median_ms(work: Callable[[], object]) -> float:
    """The median wall time of some runs; of one where that takes long."""
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
        if taken[0] > LONG_MS:
            break
    return statistics.median(taken)


def measure(root: Path) -> None:
    """Print all figures."""
    paths, key = place(root)
    mail = sealbox_root.open_database(root)
    limits = StoreLimits(min_free_bytes=0)
    index = SearchIndex(paths, lambda: key, limits)
    for path in paths.search_db_files:
        path.unlink(missing_ok=True)
    wall_s, cpu_s, longest_s = build(index, mail)
    index.close()
    size = mail.read(0, lambda txn: txn.value("SELECT sum(size_bytes) FROM message"))
    took = paths.search_db.stat().st_size
    print(f"built in {wall_s:.1f} s ({cpu_s:.1f} s of CPU), the longest batch {longest_s * 1000:.0f} ms")
    print(f"{took / 1e6:.1f} MB for {size / 1e6:.1f} MB of mail: {took / size:.2f} MB per MB\n")
    opened = mail.read(0, mailboxes.modseqs)
    inbox = MailboxId(mail.read(0, lambda txn: txn.value("SELECT id FROM mailbox WHERE name = ?", (INBOX,))))
    since = ModSeq(opened[inbox])
    print("| search | found | without | with the index | times |\n|---|---:|---:|---:|---:|")
    for name, wanted in KEYS:

        def with_index(wanted: search.Key = wanted) -> int:
            known = index.candidates(mail, wanted)
            return len(mail.read(0, search_ops.run, inbox, wanted, since, known).uids)

        def without(wanted: search.Key = wanted) -> int:
            return len(mail.read(0, search_ops.run, inbox, wanted, since).uids)

        count = with_index()
        assert count == without()
        slow, quick = median_ms(without), median_ms(with_index)
        print(f"| {name} | {count} | {slow:.1f} | {quick:.2f} | {slow / quick:.0f} |")
    index.close()
    mail.close()


def main() -> None:
    """Fill a root where there is none, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--root", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = chosen.root or Path(folder) / "root"
        if not root.exists():
            sealbox_root.make_account(root)
            sealbox_root.fill(root, mail_sample.messages(chosen.messages))
        measure(root)


if __name__ == "__main__":
    main()
