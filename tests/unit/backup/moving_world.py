"""An account that moves between two data roots, the directory's part of it in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backup_world import now
from job_world import LIMITS as BACKUP_LIMITS
from job_world import JobWorld, Time
from move_worlds import ModelMoves

from backup.move_source import Giver
from backup.move_target import WORK, Taker
from backup.store_file import FileStore
from backup.stores import ObjectStore
from mailstore.account import AccountPaths, account_paths, init_root
from mailstore.directory import Move, MoveId, Phase
from mailstore.limits import MoveLimits

LOOKS = 40
"""More looks of either side than any move takes."""


class MovingWorld:
    """The account of ``JobWorld`` is node a's; b has an empty data root."""

    def __init__(self, place: Path, limits: MoveLimits | None = None) -> None:
        self.a = JobWorld(place)
        self.b = place / "b"
        init_root(self.b)
        self.limits = limits or MoveLimits()
        self.clock = Time()
        """That of a's process."""

        [account] = self.a.mail.directory.accounts()
        self.account_id = account.account_id
        self.moves = ModelMoves(account)
        self.giver, self.taker = self.new_giver(), self.new_taker()

    @property
    def move(self) -> Move:
        """The one move that there is."""
        return Move(self.account_id, MoveId("0123456789abcdef" * 2), "a", "b", 1)

    @property
    def here(self) -> AccountPaths:
        """The account at a."""
        return account_paths(self.a.root, self.account_id)

    @property
    def there(self) -> AccountPaths:
        """The account at b."""
        return account_paths(self.b, self.account_id)

    def new_giver(self) -> Giver:
        """As a process that has just started."""
        return Giver(self.a.root, "a", self.a.job, self.moves, "file:///a", self.limits, self.clock)

    def new_taker(self) -> Taker:
        """The same at b."""
        return Taker(self.b, "b", self.moves, self.open_store, self.limits, BACKUP_LIMITS)

    def open_store(self, _url: str) -> ObjectStore:
        """The store of a, as b sees it."""
        return FileStore(self.a.store._folder)

    def close_account(self) -> None:
        """The last session has ended, and the grace period."""
        for opened in tuple(self.a.mail.store._open.values()):
            now(opened.close())

    def source(self) -> None:
        """One look of a."""
        self.giver.look(self.moves.all())
        self.giver.give()
        self.a.job._uploader.wait(10)
        self.giver.look(self.moves.all())
        self.giver.give()

    def target(self) -> None:
        """One look of b, to its end."""
        self.taker.look(self.moves.all())
        for work in list(self.taker._working.values()):
            assert work.done is not None
            work.done.result(60)

    def until(self, phase: Phase | None) -> None:
        """Until the move has come so far; with None until it is over, and both have looked again."""
        for _ in range(LOOKS):
            if self.phase == phase and phase is not None:
                return
            self.source()
            if self.phase == phase and phase is not None:
                return
            self.target()
        assert self.phase == phase

    @property
    def phase(self) -> Phase | None:
        """How far it is; None where there is none."""
        return None if self.moves.move is None else self.moves.move.phase

    def traces(self) -> list[Path]:
        """What a move leaves until it is over."""
        return [
            *self.a.root.glob("accounts/??/*/moving"),
            *self.b.glob("accounts/??/*/arrived"),
            *(self.b / WORK).glob("*"),
        ]

    def node(self) -> str | None:
        """Whose account it is."""
        assert self.moves.record is not None
        return self.moves.record.node

    def close(self) -> None:
        """Close everything."""
        self.taker.stop()
        self.a.job.stop()
        self.a.state.close()
        self.a.mail.close()


def give(world: MovingWorld, node: str, generation: int) -> None:
    """The directory gives the account to a node without a move, as when another was lost."""
    assert world.moves.record is not None
    world.moves.record = replace(world.moves.record, node=node, node_generation=generation)
