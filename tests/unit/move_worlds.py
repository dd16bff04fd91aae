"""Moves of accounts in memory, by the same rules as in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from directory_worlds import JOE, record

from mailstore.directory import AccountRecord
from mailstore.directory.moves import (
    Move,
    MoveId,
    Phase,
    Seen,
    Side,
    View,
    require_beginning,
    stepped,
    taken,
)
from mailstore.errors import MoveOver
from mailstore.keys import AccountId


def move(move_id: str = "m", phase: Phase = Phase.BEGUN) -> Move:
    """From a to b."""
    return Move(JOE, MoveId(move_id), "a", "b", 1, phase)


class ModelMoves:
    """Stands for a directory with one account, which is a's. See :class:`mailstore.directory.moves.Moves`."""

    def __init__(self, account: AccountRecord | None = None) -> None:
        self.record: AccountRecord | None = replace(account or record(), node="a", node_generation=1)
        self.move: Move | None = None
        self.silent_s = 0.0

    def all(self) -> list[Seen]:
        """See there."""
        return [] if self.move is None else [Seen(self.move, self.silent_s)]

    def view(self, account_id: AccountId) -> View:
        """See there."""
        is_known = self.record is not None and self.record.account_id == account_id
        return View(self.record if is_known else None, next(iter(self.all()), None))

    def begin(self, move: Move) -> None:
        """See there."""
        assert self.record is not None
        require_beginning(self.record, self.move, move)
        self._put(move)

    def step(self, move: Move, side: Side, phase: Phase, **changed: Any) -> Move:
        """See there."""
        after = stepped(self.move, move.move_id, side, phase, **changed)
        self._put(after)
        return after

    def finish(self, move: Move) -> AccountRecord:
        """See there."""
        self.record = taken(self.record, self.move, move.move_id)
        self._put(None)
        return self.record

    def cancel(self, move: Move) -> bool:
        """See there."""
        if self.move is None or self.move.move_id != move.move_id:
            return False
        self._put(None)
        return True

    def _put(self, move: Move | None) -> None:
        self.move, self.silent_s = move, 0.0


def steps_to(moves: Any, wanted: Move, *phases: Phase) -> Move:
    """Take a move that has begun to the last of ``phases``."""
    sides = {Phase.COPYING: Side.SOURCE, Phase.COPIED: Side.TARGET, Phase.LAST: Side.SOURCE}
    for phase in phases:
        wanted = moves.step(wanted, sides[phase], phase)
    return wanted


WAY = (Phase.COPYING, Phase.COPIED, Phase.LAST)
__all__ = ["JOE", "WAY", "ModelMoves", "MoveOver", "move", "steps_to"]
