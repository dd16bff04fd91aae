"""What snapshots cost: a change in a large mailbox, and a server on which nothing happens.

    PYTHONPATH=. .venv/bin/python tests/bench/snapshot_cost.py [--mib 1024] [--accounts 1000]

The job runs in this process; what it reads is counted by the kernel (rchar in /proc/self/io), so it
includes the job's own records. Its store is a folder.
"""

from __future__ import annotations

import argparse
import base64
import gc
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backup.catalogue import ServerFacts
from backup.job import HOUSEKEEPING_S, Job, Places
from backup.limits import DAY_S, BackupLimits
from backup.state import State
from backup.store_file import FileStore
from backup.stores import StoredObject
from backup.wall_clock import Clocks
from mailstore.account import account_paths, open_directory, read_server_key
from mailstore.engine import Database
from mailstore.keys import AccountId, load_private_key, new_private_key
from mailstore.model import INBOX, Flags
from mailstore.ops.messages import add_messages
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from tests.bench import sealbox_root

MIB = 1024 * 1024
UPLOAD_S = 600.0
ROUNDS = 100
MESSAGE_BYTES = 10_000


class CountingStore(FileStore):
    """A folder that counts what is asked of it."""

    requests = 0
    put_bytes = 0

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See ``ObjectStore``."""
        self.requests += 1
        self.put_bytes += path.stat().st_size
        super().put(name, path, sha256)

    def get(self, name: str, offset: int, size: int) -> bytes:
        """See ``ObjectStore``."""
        self.requests += 1
        return super().get(name, offset, size)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ``ObjectStore``."""
        self.requests += 1
        return super().list(prefix)

    def delete(self, names: Sequence[str]) -> None:
        """See ``ObjectStore``."""
        self.requests += 1
        super().delete(names)


class Time:
    """Both clocks of the job, moved by hand; seconds."""

    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Running:
    """A job over a data root, its store a folder beside it."""

    def __init__(self, root: Path, limits: BackupLimits | None = None) -> None:
        self.time = Time()
        objects = root.with_name(f"{root.name}-objects")
        objects.mkdir()
        self.store = CountingStore(objects)
        self.private_key = load_private_key(new_private_key())
        places = Places(root)
        places.make()
        self._directory = open_directory(root)
        server_key = read_server_key(root)
        self.state = State(places.folder, server_key)
        facts = ServerFacts(self._directory, server_key, "")
        self.job = Job(
            places,
            self.state,
            self.store,
            self.private_key.public,
            lambda: facts,
            limits or BackupLimits(),
            Clocks(self.time, self.time),
        )

    def store_all(self) -> None:
        """Everything that changed, at once."""
        assert self.job.run_once(UPLOAD_S) and not self.job.trouble

    def close(self) -> None:
        """Stop the job."""
        self.job.stop()
        self.state.close()
        self._directory.close()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one snapshot: bytes read by this process, bytes put into the store, seconds."""

    read: int
    put: int
    seconds: float


def cost_of_snapshot(running: Running) -> Cost:
    """What it costs to store all changes."""
    put, read, began = running.store.put_bytes, _bytes_read(), time.perf_counter()
    running.store_all()
    seconds = time.perf_counter() - began
    return Cost(_bytes_read() - read, running.store.put_bytes - put, seconds)


def _bytes_read() -> int:
    text = Path("/proc/self/io").read_text("ascii")
    return int(text.split()[1])


def random_messages(count: int, seed: int) -> Iterator[tuple[bytes, int]]:
    """Messages of 10 KB that do not compress well, with their dates."""
    rng = random.Random(seed)
    for number in range(count):
        head = f"Subject: {number}\r\nMessage-ID: <{seed}.{number}@example.org>\r\n\r\n"
        text = base64.encodebytes(rng.randbytes(MESSAGE_BYTES * 74 // 100)).replace(b"\n", b"\r\n")
        yield head.encode("ascii") + text, 1_700_000_000 + number


def add_one(database: Database, seed: int) -> None:
    """One more message of 10 KB, committed."""
    ready = [ReadyMessage(prepare(data), Flags(), date) for data, date in random_messages(1, seed)]
    database.write(0, lambda txn: add_messages(txn, require_mailbox(txn, INBOX), ready))


def costs_of_one_message(root: Path, mib: int) -> dict[str, Cost]:
    """The first snapshot of a mailbox of so many MiB, and those after one message of 10 KB was added.

    ``root`` must not exist. The account is open all the time, as it is while a client idles.
    """
    sealbox_root.make_account(root)
    sealbox_root.fill(root, random_messages(mib * MIB // MESSAGE_BYTES, seed=1))
    running, database = Running(root), sealbox_root.open_database(root)
    costs = {"everything, the first time": cost_of_snapshot(running)}
    add_one(database, seed=2)
    costs["one message"] = cost_of_snapshot(running)
    add_one(database, seed=3)
    database.checkpoint()
    costs["one message, then a checkpoint"] = cost_of_snapshot(running)
    add_one(database, seed=4)
    database.checkpoint()
    add_one(database, seed=5)
    costs["a message before and one after a checkpoint"] = cost_of_snapshot(running)
    costs["nothing"] = cost_of_snapshot(running)
    database.checkpoint()
    database.close()
    running.close()
    return costs


def many_accounts(root: Path, count: int) -> None:
    """A data root with so many accounts that nobody has ever opened: one, and copies of its folder."""
    sealbox_root.make_account(root)
    directory = open_directory(root)
    (first,) = directory.accounts()
    for number in range(1, count):
        account_id = AccountId(os.urandom(16).hex())
        shutil.copytree(account_paths(root, first.account_id).folder, account_paths(root, account_id).folder)
        directory.add_account(replace(first, account_id=account_id, name=f"user{number}@example.org"))
    directory.close()


@dataclass(frozen=True, slots=True)
class Idle:
    """A server on which nothing happens: requests in all rounds, CPU time of one in ms."""

    requests: int
    round_ms: float
    housekeeping_ms: float


def idle_cost(root: Path, accounts: int, rounds: int = ROUNDS) -> Idle:
    """Rounds over many accounts that are all stored; every tenth is one of upkeep, days pass."""
    many_accounts(root, accounts)
    running = Running(root)
    running.store_all()
    assert len(running.state.streams()) == accounts + 1
    # The server's own first chain is replaced, and deleted in its time.
    for _ in range(15):
        running.time.now_s += DAY_S
        running.store_all()
    before, plain, upkeep = running.store.requests, [], []
    gc.collect()
    for number in range(rounds):
        is_upkeep = number % 10 == 0
        running.time.now_s += 6 * HOUSEKEEPING_S if is_upkeep else BackupLimits().scan_interval_s
        began = time.process_time()
        running.job.turn()
        running.job.collect()
        (upkeep if is_upkeep else plain).append((time.process_time() - began) * 1000)
    requests = running.store.requests - before
    running.close()
    return Idle(requests, statistics.median(plain), statistics.median(upkeep))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--accounts", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as scratch:
        found = costs_of_one_message(Path(scratch) / "large", options.mib)
        print(f"| {options.mib} MiB of mail | read, KiB | put, KiB | ms |\n|---|---:|---:|---:|")
        for name, cost in found.items():
            print(f"| {name} | {cost.read / 1024:.0f} | {cost.put / 1024:.0f} | {cost.seconds * 1000:.0f} |")
        idle = idle_cost(Path(scratch) / "many", options.accounts)
        print(f"\n| {options.accounts} accounts, nothing changes | |\n|---|---:|")
        print(f"| requests in {ROUNDS} rounds | {idle.requests} |")
        print(f"| one round, ms of CPU time | {idle.round_ms:.1f} |")
        print(f"| one with upkeep, once an hour | {idle.housekeeping_ms:.1f} |")


if __name__ == "__main__":
    main()
