"""What docs/scaling.md multiplies: a day of one account's snapshots, and a directory of many accounts.

    .venv/bin/python -m tests.bench.scale [--accounts N] [--mail N] [--days N]

The first are days by a clock that is moved by hand: an account with 500 messages of 10 KB gets some more at
even intervals, and is read three times a day. Counted is what is put into the store, the server's own stream
included, and what lies there in the end. The second is a directory in PostgreSQL at a Unix socket: its
size, and how many questions for an address are answered in a second, one after the other.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from backup.store_file import FileStore
from mailstore.directory.interface import AccountRecord
from mailstore.directory.postgresql import PostgresDirectory, make_in
from mailstore.keys import AccountId, PublicKey
from mailstore.keys.pair import PUBLIC_KEY_BYTES
from mailstore.limits import DirectoryLimits
from mailstore.sealed import Facts
from tests.integration.snapshot_world import SnapshotWorld, message
from tests.postgresql import PostgreSql
from tests.unit.store.store_world import NAME, now

DAY_S, STEP_S = 86_400, 240.0
QUESTIONS = 3000
MESSAGE_BYTES = 10_000


class CountingStore(FileStore):
    """A folder that counts what is put into it."""

    puts = 0
    put_bytes = 0

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See :class:`FileStore`."""
        self.puts += 1
        self.put_bytes += path.stat().st_size
        super().put(name, path, sha256)


def some_message(number: int) -> bytes:
    """A message that hardly compresses."""
    return message(
        f"number {number}", random.Random(number).randbytes(MESSAGE_BYTES // 2).hex().encode("ascii")
    )


def days(mail: int, count: int) -> None:
    """Days of an account after its first snapshot; prints puts and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "store").mkdir()
        store = CountingStore(Path(folder) / "store")
        world = SnapshotWorld(Path(folder), store)
        for number in range(500):
            world.append(some_message(number))
        world.pass_time(600.0)
        print(f"the first snapshot: {store.puts} puts, {store.put_bytes / 1024:.0f} KiB")
        before = store.puts, store.put_bytes
        for number in range(mail * count):
            recipient = now(world.mail.store.recipient(NAME, MESSAGE_BYTES))
            now(world.mail.store.deliver(recipient, some_message(1000 + number), Facts(1)))
            if number % max(mail // 3, 1) == 0:
                world.mail.login().release()
            world.pass_time(DAY_S / mail, STEP_S)
        puts, put_bytes = (store.puts - before[0]) / count, (store.put_bytes - before[1]) / count / 1024
        stored = sum(path.stat().st_size for path in (Path(folder) / "store").rglob("*") if path.is_file())
        print(f"a day with {mail} messages of 10 KB: {puts:.1f} puts, {put_bytes:.0f} KiB")
        print(f"in the store after {count} days: {stored / 1024:.0f} KiB")
        world.close()


def directory(accounts: int) -> None:
    """A directory in PostgreSQL; prints its size and how fast it answers."""
    database = PostgreSql()
    try:
        url = database.start().new_place()
        key = os.urandom(32)
        make_in(url, key, DirectoryLimits())
        found = PostgresDirectory(url, key, DirectoryLimits(cached_records=0))
        found.add_domain("example.org")
        began_s = time.monotonic()
        for number in range(accounts):
            found.add_account(_record(number))
        print(
            f"{accounts} accounts added in {time.monotonic() - began_s:.0f} s, one after the other, no fsync"
        )
        [(size,)] = database.sql_at(
            url,
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace",
        )
        print(f"size: {int(str(size)) / accounts:.0f} bytes an account, indexes included")
        chosen = random.Random(1)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        for _ in range(QUESTIONS):
            found.resolve(_name(chosen.randrange(accounts)))
        seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        each_ms = cpu_s / QUESTIONS * 1000
        print(f"{QUESTIONS / seconds:.0f} addresses a second, one after the other, {each_ms:.2f} ms CPU each")
        found.close()
    finally:
        database.stop()


def _name(number: int) -> str:
    return f"somebody.{number}@example.org"


def _record(number: int) -> AccountRecord:
    key = PublicKey(random.Random(number).randbytes(PUBLIC_KEY_BYTES))
    return AccountRecord(AccountId(f"{number:032x}"), _name(number), key, 1, None, 1, disabled=False)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=5000)
    parser.add_argument("--mail", type=int, default=20, help="messages a day")
    parser.add_argument("--days", type=int, default=14)
    given = parser.parse_args()
    days(given.mail, given.days)
    directory(given.accounts)


if __name__ == "__main__":
    main()
