"""An account that goes there and back while all threads of both nodes are at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any

import pytest
from backup_world import now
from job_world import LIMITS as BACKUP_LIMITS
from job_world import JobWorld
from move_worlds import ModelMoves

from backup.move_source import Giver
from backup.move_target import WORK, Taker
from backup.store_file import FileStore
from backup.stores import ObjectStore
from mailstore.account import account_paths
from mailstore.directory import AccountRecord, Move, MoveId
from mailstore.limits import MoveLimits

JOURNEYS = 6
DEADLINE_S = 120.0


class Locked(ModelMoves):
    """As a directory: one transaction after the other."""

    def __init__(self, account: AccountRecord) -> None:
        super().__init__(account)
        self._lock = RLock()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("all", "view", "begin", "step", "finish", "cancel"):
            return found

        def locked(*arguments: Any, **more: Any) -> Any:
            with self._lock:
                return found(*arguments, **more)

        return locked


@dataclass
class Node:
    """One of the two. Looks and copies have threads; snapshots are taken in that of the test."""

    name: str
    world: JobWorld
    giver: Giver
    taker: Taker


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[dict[str, Node], Locked]]:
    """The first has the account."""
    worlds: dict[str, JobWorld] = {}
    for name in "ab":
        (tmp_path / name).mkdir()
        worlds[name] = JobWorld(tmp_path / name)
    worlds["a"].append("one", "two")
    for opened in tuple(worlds["a"].mail.store._open.values()):
        now(opened.close())
    [account] = worlds["a"].mail.directory.accounts()
    moves = Locked(account)

    def open_store(url: str) -> ObjectStore:
        return FileStore(worlds[url].store._folder)

    found = {
        name: Node(
            name,
            world,
            Giver(world.root, name, world.job, moves, name, MoveLimits()),
            Taker(world.root, name, moves, open_store, MoveLimits(), BACKUP_LIMITS),
        )
        for name, world in worlds.items()
    }
    yield found, moves
    for node in found.values():
        node.taker.stop()
        node.world.job.stop()
        node.world.state.close()
        node.world.mail.close()


def contents(folder: Path) -> dict[str, bytes]:
    """All that matters."""
    found = [folder / "mail.db", folder / "keys", *(folder / "inbox").glob("*.sealed")]
    return {path.name: path.read_bytes() for path in found}


def left(nodes: dict[str, Node]) -> list[Path]:
    """What moves leave until they are over."""
    found: list[Path] = []
    for node in nodes.values():
        for pattern in ("accounts/??/*/moving", "accounts/??/*/arrived", f"{WORK}/*"):
            found += node.world.root.glob(pattern)
    return found


def test_an_account_goes_there_and_back_and_loses_nothing(nodes: tuple[dict[str, Node], Locked]) -> None:
    """The next move begins at once, while both nodes still clear up after the one before."""
    both, moves = nodes
    assert moves.record is not None
    account_id = moves.record.account_id
    before = contents(account_paths(both["a"].world.root, account_id).folder)
    ending = Event()

    def look(node: Node) -> None:
        while not ending.is_set():
            seen = moves.all()
            node.giver.look(seen)
            node.taker.look(seen)

    threads = [Thread(target=look, args=(node,)) for node in both.values()]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + DEADLINE_S
    try:
        for number in range(JOURNEYS):
            source, target = ("a", "b") if number % 2 == 0 else ("b", "a")
            move = Move(account_id, MoveId(f"{number:032x}"), source, target, number + 1)
            moves.begin(move)
            while moves.record.node != target:
                assert time.monotonic() < until_s, moves.move
                both[source].giver.give()
        while left(both):
            assert time.monotonic() < until_s, left(both)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert contents(account_paths(both["a"].world.root, account_id).folder) == before
    assert not account_paths(both["b"].world.root, account_id).keys.exists()
