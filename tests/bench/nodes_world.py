"""The world of the simulation of nodes: time, PostgreSQL, disks and the bucket; who decides is the program.

Everything here is a model. What it models it says; the rules of moves (``mailstore.directory.moves``) and the
arithmetic of the lease (``mailstore.lease``) are the program's own.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from mailstore.directory import moves
from mailstore.directory.interface import AccountRecord
from mailstore.directory.moves import Move, MoveId, Phase, Seen, Side, View
from mailstore.errors import DirectoryUnavailable, NodeIsLost
from mailstore.keys import AccountId, PublicKey

Steps = Generator[float, None, Any]
"""What somebody does: it yields for how many seconds it waits, and anything may happen meanwhile."""

LATE, LATE_S = 0.03, 10.0
"""This part of all questions takes up to so long on its way to PostgreSQL, or back."""

TIMEOUT_S = 5.0
"""Nobody waits for an answer longer than this; what was asked for may have been done all the same."""


class NotTaken(Exception):
    """PostgreSQL says no: to recovering a node that may still serve, or an account that is not its own."""


class World:
    """True time, and what happens when. ``random`` decides everything that is left to chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._queue, (self.now_s + seconds, next(self._numbers), what))

    def run_until(self, until_s: float) -> None:
        """Let everything happen that is due by then."""
        while self._queue and self._queue[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._queue)
            what()
        self.now_s = until_s

    def between(self, low: float, high: float) -> float:
        """Some number of seconds."""
        return low + (high - low) * self.random.random()


class Machine:
    """Hardware: a clock with a rate of its own, which goes on while the machine is suspended."""

    def __init__(self, world: World, rate: float) -> None:
        self.world = world
        self.rate = rate
        self.asleep_until_s = 0.0
        self.cut_until_s = 0.0
        self.waiting: list[Callable[[], None]] = []

    @property
    def is_asleep(self) -> bool:
        """Whether it is suspended: nothing runs, no answer leaves."""
        return self.world.now_s < self.asleep_until_s

    @property
    def is_cut_off(self) -> bool:
        """Whether it does not reach PostgreSQL."""
        return self.world.now_s < self.cut_until_s

    def sleep_until(self, when_s: float) -> None:
        """Suspend it until then, or wake it earlier than it would have."""
        self.asleep_until_s = when_s
        self.world.after(when_s - self.world.now_s, self._wake)

    def _wake(self) -> None:
        if not self.is_asleep:
            waiting, self.waiting = self.waiting, []
            for what in waiting:
                self.world.after(self.world.between(0.0, 0.05), what)

    def local_s(self) -> float:
        """What its clock says."""
        return 1000.0 + self.world.now_s * self.rate


class Process:
    """A program on a machine; what it does ends with it, at any step."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.is_alive = True

    def kill(self) -> None:
        """kill -9."""
        self.is_alive = False

    def do(self, steps: Steps, after_s: float = 0.0) -> None:
        """Begin something, beside what else it does."""
        self.machine.world.after(after_s, lambda: self._go_on(steps))

    def _go_on(self, steps: Steps) -> None:
        world = self.machine.world
        if not self.is_alive:
            steps.close()
        elif self.machine.is_asleep:
            self.machine.waiting.append(lambda: self._go_on(steps))
        else:
            try:
                pause_s = next(steps)
            except StopIteration:
                return
            world.after(pause_s, lambda: self._go_on(steps))


@dataclass
class Row:
    """What PostgreSQL knows of a node's lease."""

    leased_until_s: float | None = None
    is_lost: bool = False
    times_lost: int = 0


class PostgreSql:
    """The directory. Its transactions happen one after the other; its clock has a rate of its own, too."""

    def __init__(
        self,
        world: World,
        rate: float,
        nodes: tuple[str, ...],
        given: Callable[[AccountId, str, str], None],
        recovered: Callable[[AccountId, str, str], None],
    ) -> None:
        """``given`` and ``recovered`` are told who had an account, and who has it now."""
        self.world = world
        self.rate = rate
        self._given = given
        self._recovered = recovered
        self.records: dict[AccountId, AccountRecord] = {}
        self.rows = {node: Row() for node in nodes}
        self._moves: dict[AccountId, tuple[Move, float]] = {}

    def clock_s(self) -> float:
        """Its own clock."""
        return self.world.now_s * self.rate

    def ask(self, machine: Machine, work: Callable[[], Any]) -> Steps:
        """One transaction. Raises what ``work`` does, and DirectoryUnavailable: then it may have happened.

        It locks what all changes lock before it is told to end, so none is carried out after a later one.
        """
        world, answers = self.world, list[tuple[Any, Exception | None]]()
        if machine.is_cut_off:
            yield TIMEOUT_S * world.random.random()
            raise DirectoryUnavailable
        there_s, back_s = (world.between(0, LATE_S) if world.random.random() < LATE else 0.002 for _ in "ab")

        def carry_out() -> None:
            try:
                answers.append((work(), None))
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                answers.append((None, error))

        if there_s <= TIMEOUT_S:
            world.after(there_s, carry_out)
        yield min(there_s + back_s, TIMEOUT_S)
        if machine.is_cut_off or there_s + back_s > TIMEOUT_S:
            raise DirectoryUnavailable
        answer, error = answers[0]
        if error is not None:
            raise error
        return answer

    # -- leases, as mailstore/directory/pg_lease.py and pg_rows.py have them --------------------------

    def renew(self, node: str, lease_s: float) -> int:
        """How often the node was lost. Raises NodeIsLost."""
        row = self.rows[node]
        if row.is_lost:
            raise NodeIsLost
        row.leased_until_s = max(row.leased_until_s or 0.0, self.clock_s() + lease_s)
        return row.times_lost

    def mark_lost(self, node: str) -> None:
        """Raises NotTaken: its lease is not over."""
        row = self.rows[node]
        if row.leased_until_s is not None and self.clock_s() <= row.leased_until_s:
            raise NotTaken
        row.is_lost = True
        row.times_lost += 1

    def add(self, node: str) -> None:
        """Its operator says that it may serve again."""
        self.rows[node].is_lost = False

    def take_from_lost(self, account: AccountId, lost: str, node: str) -> None:
        """Raises NotTaken."""
        record = self.records[account]
        if not self.rows[lost].is_lost or record.node != lost:
            raise NotTaken
        self.records[account] = replace(record, node=node, node_generation=record.node_generation + 1)
        self._recovered(account, lost, node)

    # -- moves, as mailstore/directory/pg_moves.py has them -------------------------------------------

    def view(self, account: AccountId) -> View:
        """Account and move."""
        return View(self.records[account], self._seen(account))

    def _seen(self, account: AccountId) -> Seen | None:
        found = self._moves.get(account)
        return None if found is None else Seen(found[0], self.clock_s() - found[1])

    def under_way(self, account: AccountId) -> Move | None:
        """The move of an account, over or not."""
        return self._moves[account][0] if account in self._moves else None

    def concerns(self, node: str) -> set[AccountId]:
        """The accounts that come to a node or go from it."""
        return {one for one, (move, _) in self._moves.items() if node in (move.source, move.target)}

    def begin(self, move: Move) -> None:
        """Raises what ``require_beginning`` does."""
        record = self.records[move.account_id]
        moves.require_beginning(record, self.under_way(move.account_id), move)
        self._moves[move.account_id] = move, self.clock_s()

    def step(self, move: Move, side: Side, phase: Phase, **changed: Any) -> Move:
        """Raises MoveOver."""
        after = moves.stepped(self.under_way(move.account_id), move.move_id, side, phase, **changed)
        if phase is moves.Phase.FAILED:
            self._give_back(move)
        self._moves[move.account_id] = after, self.clock_s()
        return after

    def finish(self, move: Move) -> None:
        """Raises MoveOver."""
        found, record = self.under_way(move.account_id), self.records[move.account_id]
        self.records[move.account_id] = moves.taken(record, found, move.move_id)
        del self._moves[move.account_id]
        self._given(move.account_id, move.source, move.target)

    def cancel(self, move: Move) -> bool:
        """Whoever asked for it gives up, or has read why it failed; whether it was there."""
        found = self.under_way(move.account_id)
        if found is None or found.move_id != move.move_id:
            return False
        self._give_back(move)
        del self._moves[move.account_id]
        return True

    def _give_back(self, move: Move) -> None:
        record = self.records[move.account_id]
        after = moves.given_back(record, self.under_way(move.account_id), move.move_id)
        self.records[move.account_id] = after or record


Mail = frozenset[int]


@dataclass
class Folder:
    """An account's folder: its mail, the generation it was opened under, and the marks of moves."""

    mail: Mail
    generation: int
    has_inbox: bool = True
    moving: MoveId | None = None
    arrived: MoveId | None = None


@dataclass
class Disk:
    """What a node keeps when it is killed: everything but what is under way."""

    folders: dict[AccountId, Folder] = field(default_factory=dict)
    scratch: dict[AccountId, tuple[MoveId, Mail]] = field(default_factory=dict)
    aside: dict[AccountId, Mail] = field(default_factory=dict)
    """Put away and kept; nothing of it is served."""

    def put_aside(self, account: AccountId) -> None:
        """Keep the mail elsewhere; the folder stays, and knows its generation and marks."""
        folder = self.folders[account]
        self.aside[account] = self.aside.get(account, frozenset()) | folder.mail
        folder.mail, folder.has_inbox = frozenset(), False


def new_record(account: AccountId, node: str) -> AccountRecord:
    """An account as it is made."""
    return AccountRecord(
        account, str(account), PublicKey(b""), 1, None, 0, disabled=False, node=node, node_generation=1
    )
