"""Snapshots under live writers, with kill -9 of writers and of the job: every one is a committed state.

Two writers commit, checkpoint (disturbed by readers, too), close and open; the job takes, merges and stores
snapshots; all of them are killed again and again. Then every stored snapshot is restored and opened.
``SEALBOX_SNAPSHOTS`` sets how many are to be taken (default 200), ``SEALBOX_SEED`` what happens.

A writer that is killed between the last octet of its transaction and the moment when others see it leaves a
transaction that the job reads and the other writer does not know (backup/FORMAT.md section 1): the snapshot
after that one may be one transaction older, once for each such death.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
import snapshot_actors as actors
from kept import kept_when_failing

from backup.rebuild import Rebuilder
from backup.restore import list_store
from backup.retention import chains
from backup.segment import Kind, SegmentName, parse_name
from backup.source import Source
from backup.store_file import FileStore
from mailstore.engine import open_connection
from mailstore.keys import PrivateKey, load_private_key, new_private_key

pytestmark = pytest.mark.crash

WANTED = int(os.environ.get("SEALBOX_SNAPSHOTS", "200"))
SEED = int(os.environ.get("SEALBOX_SEED", "1"))
DEATHS = 4
"""How often each of the processes is killed at least, before the end."""

BETWEEN_MAX = 8
"""At most so many snapshots are stored between two deaths."""

HANGS_S = 3600.0
"""Seconds after which processes that do nothing are given up; nothing is said of how fast they are."""


class Actor:
    """One process that is killed and comes again."""

    def __init__(self, role: str, place: Path, chance: random.Random) -> None:
        self._role, self._place, self._chance = role, place, chance
        self.deaths = 0
        self.alive_at_the_end = False
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parents[2]
        return subprocess.Popen(
            [sys.executable, actors.__file__, self._role, self._place, str(self._chance.randrange(10**9))],
            env={**os.environ, "PYTHONPATH": str(root)},
        )

    def kill(self) -> None:
        """kill -9; it has to have been alive, because these processes end for no other reason."""
        assert self._process.poll() is None, f"a {self._role} ended by itself"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.deaths += 1

    def end(self) -> None:
        """kill -9 for good, whether it is alive or not: the others are to be ended, too."""
        self.alive_at_the_end = self._process.poll() is None
        self._process.kill()
        self._process.wait()

    def again(self) -> None:
        """Start the next one."""
        self._process = self._start()


def names_in(store: FileStore) -> list[SegmentName]:
    """The stored segments."""
    return sorted(name for one in store.list() if (name := parse_name(one.name)) is not None)


def test_every_snapshot_is_a_state_that_was_committed(tmp_path: Path) -> None:
    """Sound by both checks, with the rows of the model, and not older than the one before (see above)."""
    with kept_when_failing(tmp_path):
        raw = new_private_key()
        (tmp_path / "private").write_bytes(raw)
        actors.make(tmp_path)
        store = FileStore(tmp_path / "objects")
        deaths_of_writers = act(tmp_path, store)
        numbers = restored_numbers(tmp_path, store, load_private_key(raw))
        assert len(numbers) >= WANTED * 0.9
        older = [before - after for before, after in pairwise(numbers) if after < before]
        assert len(older) <= deaths_of_writers and set(older) <= {1}
        assert numbers[-1] > WANTED


def act(place: Path, store: FileStore) -> int:
    """Let all of them work until there are snapshots enough; how often writers were killed."""
    chance = random.Random(SEED)
    cast = [Actor(role, place, chance) for role in ("writer", "writer", "job")]
    until = time.monotonic() + HANGS_S
    try:
        while len(names_in(store)) < WANTED or min(actor.deaths for actor in cast) < DEATHS:
            more = len(names_in(store)) + chance.randint(1, BETWEEN_MAX)
            while len(names_in(store)) < more:
                assert time.monotonic() < until, "no snapshot is stored any more"
                # Of any length: it moves the deaths to other steps, and everybody else works meanwhile.
                time.sleep(chance.uniform(0.01, 0.2))
            actor = chance.choice(cast)
            actor.kill()
            actor.again()
    finally:
        for actor in cast:
            actor.end()
    assert all(actor.alive_at_the_end for actor in cast), "one of them ended by itself"
    names = names_in(store)
    assert len(names) >= WANTED
    assert min(actor.deaths for actor in cast) >= DEATHS
    assert {name.kind for name in names} == {Kind.FULL, Kind.CHANGES}
    return sum(actor.deaths + 1 for actor in cast[:2])


def restored_numbers(place: Path, store: FileStore, private: PrivateKey) -> list[int]:
    """The number of the state of every snapshot, in order; each is right."""
    source = Source(store, lambda _name: private, list_store(store).sizes)
    rebuilder = Rebuilder(source, place / "scratch", 2)
    numbers: list[int] = []
    model = actors.Model()
    for chain in chains(names_in(store)):
        for end in range(1, len(chain.segments) + 1):
            folder = place / f"restored{len(numbers)}"
            rebuilder.rebuild(chain.segments[:end], folder)
            numbers.append(check(folder / "mail.db", model))
    return numbers


def test_files_of_a_failed_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails once in thousands of runs has to be looked at then."""
    place, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    (place / "file").write_bytes(b"x")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    with kept_when_failing(place):
        assert not list(elsewhere.iterdir())
    with pytest.raises(AssertionError) as caught, kept_when_failing(place):
        raise AssertionError
    (kept,) = elsewhere.iterdir()
    assert caught.value.__notes__ == [f"the files are kept in {kept}"]
    assert (kept / "file").read_bytes() == b"x"


def check(path: Path, model: actors.Model) -> int:
    """The number of the state that a restored database is in, which it has to be entirely."""
    database = open_connection(path, actors.KEY)
    try:
        assert database.pragma("PRAGMA integrity_check") == [("ok",)]
        assert database.pragma("PRAGMA cipher_integrity_check") == []
        number, rows = database.read(
            0, lambda txn: (int(txn.value("SELECT number FROM n")), dict(txn.rows("SELECT id, x FROM t")))
        )
    finally:
        database.close()
    assert {row: bytes(data) for row, data in rows.items()} == model.rows(number)
    return number
