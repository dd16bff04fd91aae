"""A Sealbox data root with one account and generated mail, filled without a server; the server on it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mailstore.account import NewAccount, account_paths, create_account, init_root, open_directory
from mailstore.account_database import mail_key
from mailstore.engine import Database, open_connection
from mailstore.keys import Argon2Params
from mailstore.model import INBOX, Flags
from mailstore.opening import Proven, open_as_owner
from mailstore.ops.messages import add_messages
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from mailstore.schema import migrate

USER = "user@example.org"
PASSWORD = "correct-horse-battery-staple"  # the password of generated mail
TINY = Argon2Params(1, 64, 1)
BATCH = 1000
PROJECT = Path(__file__).resolve().parents[2]


@contextmanager
def unlocked(root: Path) -> Iterator[Proven]:
    """The account, opened by its password."""
    directory = open_directory(root)
    try:
        opened = open_as_owner(root, directory, USER, PASSWORD.encode(), now=time.time(), params=TINY)
        try:
            yield opened
        finally:
            opened.wipe()
    finally:
        directory.close()


def open_database(root: Path, *, cache_kib: int = 4096) -> Database:
    """The account's database, migrated; the caller closes it."""
    with unlocked(root) as opened:
        key = mail_key(opened.master)
        path = account_paths(root, opened.record.account_id).mail_db
    database = open_connection(path, key, cache_kib=cache_kib)
    migrate(database, int(time.time()))
    return database


def make_account(root: Path, names: Iterable[str] = (USER,), params: Argon2Params = TINY) -> None:
    """A data root with accounts, their keyslots as cheap as can be unless ``params`` says otherwise."""
    init_root(root)
    directory = open_directory(root)
    try:
        for name in names:
            create_account(root, directory, NewAccount(name, PASSWORD.encode()), params=params)
    finally:
        directory.close()


def fill(root: Path, mail: Iterable[tuple[bytes, int]]) -> None:
    """File messages into the inbox, one transaction a batch."""
    database = open_database(root)
    waiting = iter(mail)
    try:
        while batch := list(itertools.islice(waiting, BATCH)):
            ready = [ReadyMessage(prepare(data), Flags(), date) for data, date in batch]
            database.write(
                int(time.time()),
                lambda txn, ready=ready: add_messages(txn, require_mailbox(txn, INBOX), ready),
            )
            database.checkpoint()
    finally:
        database.close()


def start(
    root: Path,
    folder: Path,
    listen: dict[str, str],
    certificate: Path,
    private_key: Path,
    workers: int = 0,
    params: Argon2Params = TINY,
    more: str = "",
) -> subprocess.Popen[bytes]:
    """Start Sealbox on a data root as our own child; its configuration and logs lie in ``folder``.

    ``listen`` has the address of each service; without one for LMTP it is a socket in ``folder``, without one
    for another it is off. ``workers`` is the setting of that name: 0 for one per core. ``more`` are further
    sections.
    """
    places = {"imaps": "", "pop3s": "", "lmtp": f"unix:{folder / 'lmtp.sock'}", **listen}
    config = folder / "sealbox.toml"
    config.write_text(
        "\n".join(
            (
                f"data = {json.dumps(str(root))}",
                'hostname = "localhost"',
                f"workers = {workers}",
                "allow_unencrypted_volume = true",
                "[tls]",
                f"certificate = {json.dumps(str(certificate))}",
                f"private_key = {json.dumps(str(private_key))}",
                "[listen]",
                *(f"{service} = {json.dumps([place] if place else [])}" for service, place in places.items()),
                "[argon2]",
                f"time_cost = {params.time_cost}",
                f"memory_kib = {params.memory_kib}",
                f"parallelism = {params.parallelism}",
                "[stream]",
                "connections_per_address_max = 5000",
                more,
                "",
            )
        )
    )
    with (folder / "sealbox.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy", "serve", "--config", str(config)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stderr=output,
        )
