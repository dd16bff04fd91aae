"""kill -9 before every single step of moving an account, at either node: see ``stepper``.

Both nodes and the directory's row of the move are in one folder, which is what survives. Afterwards both
nodes start anew: the account is at one of them, with all of its mail.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import stepper
from directory_worlds import record as any_record
from move_worlds import ModelMoves
from steps import Begin, Say, each_step
from store_world import World
from test_every_step_of_snapshots import LIMITS, Snapshots, account_of, login_and_append

from backup import move_target
from backup.job import Job
from backup.move_source import Giver
from backup.move_target import WORK, Taker
from backup.state import Segment
from mailstore.account import AccountPaths, account_paths, open_directory
from mailstore.directory import Move, MoveId
from mailstore.directory.moves import may_serve
from mailstore.directory.pg_moves import move_of, move_value
from mailstore.durable import replace_file
from mailstore.keys import AccountId
from mailstore.limits import MoveLimits
from mailstore.move_mark import mark_at

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

MOVE_ID = MoveId("0123456789abcdef" * 2)
LOOKS = 20


class Kept(ModelMoves):
    """The directory, in a file that changes in one step."""

    def __init__(self, path: Path, account_id: AccountId) -> None:
        super().__init__(replace(any_record(), account_id=account_id))
        self._path = path
        assert self.record is not None
        if path.exists():
            node, generation, move = json.loads(path.read_text())
            self.record = replace(self.record, node=node, node_generation=generation)
            self.move = None if move is None else move_of(move)

    def _put(self, move: Move | None) -> None:
        super()._put(move)
        assert self.record is not None
        value = None if move is None else move_value(move)
        text = json.dumps([self.record.node, self.record.node_generation, value])
        replace_file(self._path, text.encode())


class OneAccount(Snapshots):
    """What a move asks of the snapshot job."""

    urgent = alone = frozenset[str]()
    can_upload = True

    def trouble_of(self, _account_id: AccountId) -> str | None:
        """None ever."""
        return None

    def snapshot(self, account_id: AccountId) -> None:
        """Take and store it."""
        self.take_and_store(account_id)

    def segments(self, account_id: AccountId) -> list[Segment]:
        """All that were taken."""
        stream = self.state.stream(account_id)
        return [] if stream is None else self.state.segments(stream.stream)

    def collect(self) -> None:
        """Everything is stored at once."""


class Nodes:
    """Both, as they are after a start."""

    def __init__(self, root: Path) -> None:
        self.a, self.b = root / "a", root / "b"
        self.account_id = account_of(self.a if list(self.a.glob("accounts/??/*")) else self.b)
        self.moves = Kept(root / "directory.json", self.account_id)
        self.job = OneAccount(self.a)
        self.job.snapshotter.clean()
        limits = MoveLimits()
        self.giver = Giver(self.a, "a", cast(Job, self.job), self.moves, "file:///a", limits)
        self.taker = Taker(self.b, "b", self.moves, lambda _url: self.job.store, limits, LIMITS)
        self.taker._pool = cast(Any, AtOnce())

    def look(self) -> None:
        """Each once."""
        self.giver.look(self.moves.all())
        self.giver.give()
        self.taker.look(self.moves.all())

    def serving(self) -> list[AccountPaths]:
        """Where the account may be opened."""
        found = []
        for name, root in (("a", self.a), ("b", self.b)):
            paths = account_paths(root, self.account_id)
            generation = int(paths.node.read_bytes()) if paths.node.exists() else 0
            mark = mark_at(paths.moving)
            assert self.moves.record is not None
            if paths.keys.exists() and may_serve(self.moves.record, name, mark, generation):
                found.append(paths)
        return found


class AtOnce:
    """Stands for threads, which nobody could kill step by step."""

    def submit(self, fn: Callable[..., None], *args: Any) -> AtOnce:
        """Do it now."""
        fn(*args)
        return self

    def done(self) -> bool:
        """It is."""
        return True


def contents(folder: Path) -> dict[str, bytes]:
    """Database, keys and waiting mail."""
    found = [folder / "mail.db", folder / "keys", *(folder / "inbox").glob("*.sealed")]
    return {path.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An account at a, of which there is a snapshot and some changes since; b has none."""
    root = tmp_path_factory.mktemp("moves") / "root"
    for name in "ab":
        (root / name).mkdir(parents=True)
        World(root / name).close()
    [other] = (root / "b").glob("accounts/??/*")
    directory = open_directory(root / "b")
    directory.remove_account(AccountId(other.name))
    directory.close()
    shutil.rmtree(root / "b" / "accounts")
    login_and_append(root / "a", b"Subject: first\r\n\r\nbody\r\n")
    snapshots = Snapshots(root / "a")
    snapshots.take_and_store(account_of(root / "a"))
    snapshots.state.close()
    login_and_append(root / "a", b"Subject: second\r\n\r\nbody\r\n")
    world = World(root / "a")
    world.deliver(b"Subject: waits\r\n\r\nbody\r\n")
    world.close()
    return root


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["goes on", "is cancelled"])
def test_a_move_that_is_killed_at_any_step_leaves_the_account_at_one_node(
    template: Path, place: Path, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """With all of its mail, also at the moment of death; and nothing else is left in the end."""
    before = contents(next((template / "a").glob("accounts/??/*")))
    monkeypatch.setattr(move_target, "BEAT_S", 3600.0)

    def move(root: Path, _say: Say, begin: Begin) -> None:
        nodes = Nodes(root)
        begin()
        nodes.moves.begin(Move(nodes.account_id, MOVE_ID, "a", "b", 1))
        for _ in range(LOOKS):
            nodes.look()
            if not nodes.moves.all():
                break
        nodes.look()

    def check(root: Path, _said: bytes) -> None:
        nodes = Nodes(root)
        assert len(nodes.serving()) <= 1
        if is_cancelled and nodes.moves.move is not None:
            nodes.moves.cancel(nodes.moves.move)
        for _ in range(LOOKS):
            nodes.look()
        [paths] = nodes.serving()
        assert contents(paths.folder) == before
        assert not nodes.moves.all()
        [keys] = root.glob("?/accounts/??/*/keys")
        assert keys == paths.keys
        for left in ("a/accounts/??/*/moving", "b/accounts/??/*/arrived", f"b/{WORK}/*/*"):
            assert not list(root.glob(left)), left
        nodes.job.state.close()

    assert each_step(template, place, move, check) > 50
