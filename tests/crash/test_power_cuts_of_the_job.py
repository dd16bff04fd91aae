"""A power cut at any moment of a round of the snapshot job, with the server's own stream: see ``power``."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from power import each_cut
from recorder import Immediate, record
from steps import Begin, Say
from store_world import World
from test_every_step_of_snapshots import (
    FIRST,
    KEY,
    LIMITS,
    SECOND,
    WAITING,
    account_of,
    inbox_of,
    login_and_append,
)
from test_power_cuts import paths_of
from test_power_cuts_of_snapshots import LONG_AGO_NS, assert_as_it_is

import backup.source
import backup.upload
from backup.catalogue import ServerFacts
from backup.job import Job, Places
from backup.restore import Restorer, list_store, target
from backup.server_stream import read_server
from backup.signing import Signer, Trust
from backup.source import Source
from backup.state import State
from backup.store_file import FileStore
from mailstore.account import read_server_key

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads and downloads in the thread that is recorded."""
    monkeypatch.setattr(backup.upload, "ThreadPoolExecutor", Immediate)
    monkeypatch.setattr(backup.source, "ThreadPoolExecutor", Immediate)


def do_round(root: Path, begin: Begin = lambda: None) -> None:
    """All that is due, stored, by a job that has just started."""
    places, world = Places(root), World(root)
    places.make()
    (root / "objects").mkdir(exist_ok=True)
    state = State(places.folder, read_server_key(root))
    facts = ServerFacts(world.directory, read_server_key(root), "")
    begin()
    job = Job(places, state, FileStore(root / "objects"), KEY.public, lambda: facts, LIMITS)
    assert job.run_once()
    job.stop()
    state.close()
    world.close()


def assert_a_new_machine_has_it(root: Path) -> None:
    """Store and private key alone give the account as it is now."""
    store, account = FileStore(root / "objects"), account_of(root)
    listing = list_store(store)
    scratch = root / "elsewhere"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    source = Source(store, lambda _name: KEY, listing.sizes, Trust(Signer(read_server_key(root)).public))
    read = read_server(source, listing, KEY, scratch)
    assert read.passed_over == []
    assert [one.account_id for one in read.server.accounts.values()] == [account]
    wanted = target(listing, account, read.server.heads[account], None)
    folder, rebuilt = Restorer(root, source, scratch, 1).rebuild(wanted)
    assert rebuilt.passed_over == ()
    assert_as_it_is(root, folder)
    assert list((root / "backup" / "staging").iterdir()) == []


def make_new(root: Path) -> Path:
    """A root with one message that no job has looked at."""
    World(root).close()
    login_and_append(root, FIRST)
    os.utime(paths_of(root).mail_db, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return root


def make_known(root: Path) -> Path:
    """The same after two rounds."""
    make_new(root)
    do_round(root)
    do_round(root)
    return root


@pytest.mark.parametrize("make", [make_new, make_known])
def test_power_cut_in_a_round(place: Path, make: Callable[[Path], Path]) -> None:
    """The next round goes on; afterwards store and private key give back the account as it is."""
    root = make(place / "root")
    login_and_append(root, SECOND)
    world = World(root)
    world.deliver(WAITING)
    world.close()

    def work(say: Say, begin: Begin) -> None:
        do_round(root, begin)
        say(b"done")

    def check(root: Path, _said: bytes) -> None:
        do_round(root)
        assert_a_new_machine_has_it(root)
        assert inbox_of(root) == Counter([FIRST, SECOND, WAITING])

    made, _ = record(root, work)
    assert each_cut(made, place, check) > 50
