"""kill -9 of a writer before every step of its commit, while another process has the database open.

Between the last octet of a transaction in the log and the moment when others see it the disk is waited for.
What is killed there leaves a transaction that whoever reads the file takes for committed, and that the others
do not know (backup/FORMAT.md section 1).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import snapshot_actors as actors
import stepper
from steps import MOST_STEPS, Begin, Say

from backup.rebuild import Rebuilder
from backup.restore import list_store
from backup.retention import chains
from backup.signing import Signer
from backup.snapshot import Snapshotter
from backup.source import Source
from backup.staging import staged_name
from backup.state import State
from backup.store_file import FileStore
from mailstore.account import account_paths
from mailstore.engine import open_connection
from mailstore.keys import load_private_key, new_private_key

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

KEY = load_private_key(new_private_key())


class Second:
    """The other process; it goes on after the death of the first, one place after the other."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, actors.__file__, "second", ".", "0"],
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, what: str, place: Path) -> str:
        """What the database holds for this process after it has done something."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(what, place, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        """It ends with its input."""
        self._process.communicate()


@pytest.fixture(scope="module")
def other() -> Iterator[Second]:
    """See ``Second``."""
    made = Second()
    yield made
    made.end()


def snapshot(place: Path) -> str:
    """What the newest snapshot holds, after one more has been taken."""
    state, store = State(place / "backup", actors.SERVER_KEY), FileStore(place / "objects")
    try:
        signer = Signer(bytes(32))
        job = Snapshotter(place / "root", state, place / "staging", KEY.public, signer, actors.LIMITS)
        job.take(actors.ACCOUNT)
        for segment in state.waiting():
            path = place / "staging" / staged_name(segment.name)
            store.put(str(segment.name), path, segment.sha256)
            state.stored(segment.name)
            path.unlink()
    finally:
        state.close()
    listing = list_store(store)
    chain = chains(next(iter(listing.streams.values())))[-1].segments
    folder = place / f"restored{len(list(place.glob('restored*')))}"
    Rebuilder(Source(store, lambda _name: KEY, listing.sizes), place / "scratch", 1).rebuild(chain, folder)
    database = open_connection(folder / "mail.db", actors.KEY)
    try:
        assert database.pragma("PRAGMA integrity_check") == [("ok",)]
        assert database.pragma("PRAGMA cipher_integrity_check") == []
        return actors.digest(database)
    finally:
        database.close()


@pytest.mark.parametrize("then", ["write", "checkpoint"])
def test_snapshots_follow_those_who_live(tmp_path: Path, other: Second, then: str) -> None:
    """One snapshot may hold what the dead one did not finish; the next one holds what the living see."""
    ahead = 0
    for step in range(1, MOST_STEPS):
        place = tmp_path / str(step)
        place.mkdir()
        actors.make(place)
        assert snapshot(place) == other.do("look", place)
        other.do("write", place)

        def commit(_say: Say, begin: Begin, place: Path = place) -> None:
            database = open_connection(account_paths(place / "root", actors.ACCOUNT).mail_db, actors.KEY)
            begin()
            database.write(0, actors.advance)

        outcome = stepper.run(commit, step)
        seen = other.do("look", place)
        ahead += snapshot(place) != seen
        for what in (then, "write", "checkpoint"):
            seen = other.do(what, place)
            assert snapshot(place) == seen, f"killed before step {step}"
        assert other.do("close", place) == "closed"
        if not outcome.killed:
            assert step > 5
            break
    assert ahead, "no step was the one between writing and showing"
