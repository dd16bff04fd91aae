"""The rows of ``sealbox_move``: how far accounts are on their way from one node to another.

A step is no change of the directory: nobody is told, so that hundreds of moves wake nobody up. It locks what
changes lock, and so each is wholly before or after every other. The times are PostgreSQL's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from mailstore.directory import pg_rows
from mailstore.directory.interface import AccountRecord
from mailstore.directory.moves import (
    Move,
    MoveId,
    Phase,
    Seen,
    Side,
    Trouble,
    View,
    given_back,
    require_beginning,
    stepped,
    taken,
)
from mailstore.directory.pg_connection import Database, Row, Txn
from mailstore.directory.pg_rows import Change
from mailstore.directory.sealing import Sealer
from mailstore.errors import DatabaseDamaged, MoveOver, NoSuchAccount
from mailstore.keys import AccountId

T = TypeVar("T")

MOVE = "move"
_SILENT = "CASE WHEN isfinite(touched) THEN abs(extract(epoch FROM clock_timestamp() - touched))::float8 END"
"""Times are not sealed. One that no step can have left counts as very long ago, so that it ends the move."""

_MOVES = f"SELECT account, key_id, changed, sealed, {_SILENT} FROM sealbox_move"  # noqa: S608 - text of ours


class PostgresMoves:
    """See :class:`mailstore.directory.moves.Moves`, also for its methods."""

    def __init__(self, database: Database, sealer: Callable[[], Sealer]) -> None:
        """``sealer`` is asked inside a transaction, when the directory has been opened."""
        self._database = database
        self._sealer = sealer

    def all(self) -> list[Seen]:
        """See :class:`Moves`."""
        found: list[Seen] = self._database.ask(lambda txn: _Rows(txn, self._sealer(), 0).all())
        return found

    def view(self, account_id: AccountId) -> View:
        """See :class:`Moves`."""
        found: View = self._database.read(lambda txn: _Rows(txn, self._sealer(), 0).view(account_id))
        return found

    def begin(self, move: Move) -> None:
        """See :class:`Moves`."""
        self._quietly(_Rows.begin, move)

    def step(self, move: Move, side: Side, phase: Phase, **changed: Any) -> Move:
        """See :class:`Moves`."""
        if phase is Phase.FAILED:
            return self._ended(lambda rows: rows.step(move, side, phase, changed), move)
        found: Move = self._quietly(_Rows.step, move, side, phase, changed)
        return found

    def finish(self, move: Move) -> AccountRecord:
        """See :class:`Moves`."""
        found: AccountRecord = self._database.write(
            lambda txn: pg_rows.change(txn, self._sealer(), _finish, txn, self._sealer(), move)
        )
        return found

    def cancel(self, move: Move) -> bool:
        """See :class:`Moves`."""
        return self._ended(lambda rows: rows.remove(move), move)

    def _ended(self, fn: Callable[[_Rows], T], move: Move) -> T:
        """``fn(rows)``, which ends the move and leaves the account where it is.

        Whoever can write the database, and has kept the row of before, could let it be taken all the same,
        without what has come since: so the account's generation grows, and the row is of the past.
        """

        def work(change: Change, txn: Txn) -> T:
            rows = _Rows(txn, self._sealer(), change.number)
            view = rows.view(move.account_id)
            after = given_back(view.record, None if view.seen is None else view.seen.move, move.move_id)
            if after is not None and after.node is not None:
                change.set_node(move.account_id, after.node, after.node_generation)
            change.whose = pg_rows.account_row(self._sealer(), move.account_id)
            return fn(rows)

        found: T = self._database.write(lambda txn: pg_rows.change(txn, self._sealer(), work, txn))
        return found

    def _quietly(self, fn: Callable[..., Any], *args: Any) -> Any:
        """``fn(rows, *args)`` alone among all nodes, without a number and without news."""

        def work(txn: Txn) -> Any:
            [(changes,)] = txn.rows("SELECT changes FROM sealbox_directory FOR UPDATE")
            return fn(_Rows(txn, self._sealer(), int(changes)), *args)

        return self._database.write(work)


class _Rows(Change):
    """Questions and steps, inside a transaction."""

    def all(self) -> list[Seen]:
        """Every move that can be read."""
        return [seen for row in self._txn.rows(_MOVES) if (seen := self._seen(row)) is not None]

    def view(self, account_id: AccountId) -> View:
        """Account and move."""
        return View(self.by_id(account_id), self.seen(account_id))

    def seen(self, account_id: AccountId) -> Seen | None:
        """The move of an account."""
        row = self._txn.one(f"{_MOVES} WHERE account = %s", (pg_rows.account_row(self._sealer, account_id),))
        return None if row is None else self._seen(row)

    def _seen(self, row: Row) -> Seen | None:
        """None for a row that is not what was written there: as if it were gone, so its move is over."""
        *sealed, silent_s = row
        try:
            move = move_of(self._opened(MOVE, sealed))
        except DatabaseDamaged:
            return None
        if pg_rows.account_row(self._sealer, move.account_id) != bytes(row[0]):
            self._damaged(MOVE, row[0])
            return None
        return Seen(move, math.inf if silent_s is None else float(silent_s))

    def under_way(self, account_id: AccountId) -> Move | None:
        """The move of an account, over or not."""
        found = self.seen(account_id)
        return None if found is None else found.move

    def begin(self, move: Move) -> None:
        """See :class:`Moves`."""
        record = self.by_id(move.account_id)
        if record is None:
            raise NoSuchAccount
        self.require_not_lost(move.target)
        require_beginning(record, self.under_way(move.account_id), move)
        self._put(move)

    def step(self, move: Move, side: Side, phase: Phase, changed: dict[str, Any]) -> Move:
        """See :class:`Moves`."""
        after = stepped(self.under_way(move.account_id), move.move_id, side, phase, **changed)
        self._put(after)
        return after

    def remove(self, move: Move) -> bool:
        """Whether it was there."""
        found = self.under_way(move.account_id)
        if found is None or found.move_id != move.move_id:
            return False
        row = pg_rows.account_row(self._sealer, move.account_id)
        return self._txn.run("DELETE FROM sealbox_move WHERE account = %s", (row,)) > 0

    def _put(self, move: Move) -> None:
        row = pg_rows.account_row(self._sealer, move.account_id)
        sealed = self._sealed(MOVE, row, move_value(move))
        self._txn.run("DELETE FROM sealbox_move WHERE account = %s", (row,))
        insert = "INSERT INTO sealbox_move (account, key_id, changed, sealed) VALUES (%s, %s, %s, %s)"
        self._txn.run(insert, (row, *sealed))


def _finish(change: Change, txn: Txn, sealer: Sealer, move: Move) -> AccountRecord:
    rows = _Rows(txn, sealer, change.number)
    after = taken(rows.by_id(move.account_id), rows.under_way(move.account_id), move.move_id)
    assert after.node is not None, "it is the target's"
    change.require_not_lost(after.node)
    change.set_node(move.account_id, after.node, after.node_generation)
    if not rows.remove(move):
        raise MoveOver
    return after


def move_value(move: Move) -> dict[str, Any]:
    """A move as it is sealed."""
    return {
        "account": str(move.account_id),
        "id": str(move.move_id),
        "source": move.source,
        "target": move.target,
        "generation": move.generation,
        "phase": move.phase.value,
        "ticket": None if move.ticket is None else dict(move.ticket),
        "copied_bytes": move.copied_bytes,
        "is_closed": move.is_closed,
        "failed": None if move.failed is None else move.failed.value,
        "trouble": move.trouble.value,
    }


def move_of(value: dict[str, Any]) -> Move:
    """The move that :func:`move_value` describes."""
    return Move(
        AccountId(str(value["account"])),
        MoveId(str(value["id"])),
        str(value["source"]),
        str(value["target"]),
        int(value["generation"]),
        Phase(value["phase"]),
        value["ticket"],
        int(value["copied_bytes"]),
        bool(value["is_closed"]),
        None if value["failed"] is None else Side(value["failed"]),
        Trouble(value["trouble"]),
    )
