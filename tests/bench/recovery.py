"""How long a node takes to recover the accounts of another one, by ``sealbox node recover``.

    PYTHONPATH=. .venv/bin/python tests/bench/recovery.py [--accounts 1000] [--messages 20] [--r2]

A real PostgreSQL; the snapshots lie in a folder, with --r2 in a local R2. What is waited for until the lost
node's lease is over is not counted: the database is told that the time has passed.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.config_directory import put_directory_by
from deploy.config_node import call_node_by
from deploy.first_run import make_certificate
from mailstore.account import NewAccount, account_paths, create_account, init_root, open_directory
from mailstore.account_database import mail_key
from mailstore.directory import Directory
from mailstore.engine import open_connection
from mailstore.keys import Argon2Params
from mailstore.lease import forget_lease
from mailstore.model import INBOX, Flags
from mailstore.opening import open_as_owner
from mailstore.ops.messages import add_messages
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from mailstore.schema import migrate
from tests.bench.mail_sample import messages
from tests.postgresql import PostgreSql
from tests.r2_server import ACCESS_KEY_ID, BUCKETS, SECRET_ACCESS_KEY, R2Server

TINY = Argon2Params(1, 64, 1)
PASSWORD = b"correct-horse-battery-staple"  # the password of generated mail
DATE_S = 1_700_000_000


class Node:
    """One of the two servers; neither serves."""

    def __init__(self, place: Path, name: str, url: str, store: str, more: str) -> None:
        self.name, self.root, self.config = name, place / name, place / f"{name}.toml"
        self.directory = {"url": url, "key_file": str(place / "directory.key")}
        self.config.write_text(
            f'data = "{self.root}"\nallow_unencrypted_volume = true\n[listen]\nimaps = []\n'
            f'lmtp = ["unix:{place}/{name}.sock"]\n'
            f'[tls]\ncertificate = "{place}/c.pem"\nprivate_key = "{place}/k.pem"\n'
            f'[backup]\nstore = "{store}/{name}"\npublic_key = "{place}/public"\n{more}'
            f'[directory]\nurl = "{url}"\nkey_file = "{place}/directory.key"\n[node]\nname = "{name}"\n'
        )
        init_root(self.root)

    def run(self, *words: object) -> dict[str, Any]:
        """A command's answer."""
        line = [sys.executable, "-m", "deploy", *map(str, words), "--config", str(self.config), "--json"]
        done = subprocess.run(line, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr.decode()
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def fill(root: Path, directory: Directory, name: str, count: int) -> None:
    """An account with so many messages in its inbox."""
    create_account(root, directory, NewAccount(name, PASSWORD), params=TINY)
    opened = open_as_owner(root, directory, name, PASSWORD, now=time.time(), params=TINY)
    database = open_connection(
        account_paths(root, opened.record.account_id).mail_db, mail_key(opened.master), cache_kib=1024
    )
    try:
        migrate(database, DATE_S)
        ready = [ReadyMessage(prepare(data), Flags(), date) for data, date in messages(count)]
        database.write(DATE_S, lambda txn: add_messages(txn, require_mailbox(txn, INBOX), ready))
        database.checkpoint()
    finally:
        database.close()
        opened.wipe()


def lost(node: Node, accounts: int, count: int) -> int:
    """Make the accounts and their snapshots; bytes of all databases."""
    put_directory_by(node.root, node.directory)
    call_node_by(node.root, {"name": node.name})
    directory = open_directory(node.root)
    for number in range(accounts):
        fill(node.root, directory, f"user{number}@example.org", count)
    directory.close()
    forget_lease(node.root)
    node.run("backup", "run")
    return sum(path.stat().st_size for path in node.root.glob("accounts/??/*/mail.db"))


def measured(place: Path, postgresql: PostgreSql, store: str, more: str, accounts: int, count: int) -> None:
    """Lose one node, recover it on the other, and print how long that took."""
    url = postgresql.new_place()
    (place / "directory.key").write_text("77" * 32 + "\n")
    make_certificate(place / "c.pem", place / "k.pem")
    a, b = (Node(place, name, url, store, more) for name in "ab")
    a.run("backup", "keygen", "--private", place / "private", "--public", place / "public")
    a.run("domain", "add", "example.org")
    for node in (a, b):
        a.run("node", "add", node.name, "127.0.0.1:1")
    size_bytes = lost(b, accounts, count)
    postgresql.sql_at(url, "UPDATE sealbox_node SET leased_until = now() - interval '1 s'")
    began_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = a.run("node", "recover", "b", "--private-key", place / "private")
    took_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(answer["accounts"]) == accounts, "all of them"
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{accounts} accounts, {size_bytes / 2**20:.0f} MiB of databases: {took_s:.1f} s, CPU {cpu_s:.1f} s,"
        f" {accounts / took_s:.1f} accounts/s, most memory {after.ru_maxrss / 1024:.0f} MiB"
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--r2", action="store_true")
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sealbox-recovery-"))
    postgresql = PostgreSql()
    r2 = R2Server(place / "r2") if chosen.r2 else None
    store, more = f"file://{place}/objects", ""
    if r2 is None:
        for name in "ab":
            (place / "objects" / name).mkdir(parents=True)
    else:
        store = f"s3://{BUCKETS[0]}"
        keys = f'access_key_id = "{ACCESS_KEY_ID}"\nsecret_access_key = "{SECRET_ACCESS_KEY}"\n'
        (place / "s3.toml").write_text(keys)
        more = f'endpoint = "{r2.endpoint}"\ncredentials = "{place}/s3.toml"\n'
    try:
        measured(place, postgresql.start(), store, more, chosen.accounts, chosen.messages)
    finally:
        postgresql.stop()
        if r2 is not None:
            r2.stop()
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
