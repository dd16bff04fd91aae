"""Nodes as the simulation has them: workers that answer, the process that moves accounts, and operators.

Each method that yields may be interrupted for good at each ``yield``, or for as long as its machine sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mailstore.directory import moves
from mailstore.directory.interface import AccountRecord
from mailstore.directory.moves import Due, Move, MoveId, Phase, Side, Trouble, View
from mailstore.errors import Busy, DirectoryUnavailable, MoveOver, NodeIsLost, StoreError
from mailstore.keys import AccountId
from mailstore.lease import DEFAULT_MARGIN_S, Lease
from mailstore.limits import MoveLimits
from tests.bench.nodes_world import (
    Disk,
    Folder,
    Machine,
    Mail,
    NotTaken,
    PostgreSql,
    Process,
    Steps,
    World,
)

LEASE_S, RETRY_MAX_S, HEARTBEAT_S = 300.0, 10.0, 15.0
MARGIN_S = DEFAULT_MARGIN_S
LIMITS = MoveLimits()
BUSY_TURN_S, IDLE_TURN_S, SNAPSHOT_S = 3.0, 20.0, 60.0
UPLOAD_S = 4.0

Answered = Callable[["Node", AccountId, int, int], None]
"""Told of each OK: by whom, for which account, under which generation, for which message."""


class Node:
    """A server: its machine, its disk, and the processes that run now."""

    def __init__(
        self,
        name: str,
        machine: Machine,
        pg: PostgreSql,
        bucket: dict[tuple[str, AccountId], Mail],
        answered: Answered,
    ) -> None:
        self.name = name
        self.machine = machine
        self.pg = pg
        self.bucket = bucket
        self.answered = answered
        self.recovering: Operator | None = None
        self.meddle: Callable[[Move], None] = lambda _move: None
        """Called at each step of a move: what can go wrong may do so now."""

        self.asked: Callable[[], None] = lambda: None
        """Called when a worker has just asked for more of a lease."""

        self.disk = Disk()
        self.worker = Worker(self)
        self.mover = Mover(self)

    @property
    def world(self) -> World:
        """Where it is."""
        return self.machine.world

    def start_worker(self) -> None:
        """The supervisor does, if there is none."""
        if not self.worker.is_alive:
            self.worker = Worker(self)

    def start_mover(self) -> None:
        """The supervisor does, if there is none."""
        if not self.mover.is_alive:
            self.mover = Mover(self)

    def may_serve(self, account: AccountId, record: AccountRecord) -> bool:
        """The part of ``require_here`` that is not about the lease."""
        folder = self.disk.folders.get(account)
        return (
            folder is not None
            and folder.has_inbox
            and moves.may_serve(record, self.name, folder.moving, folder.generation)
        )

    def would_answer(self, account: AccountId) -> bool:
        """Whether somebody who comes now may hear OK."""
        worker = self.worker
        if not worker.is_alive or self.machine.is_asleep or not worker.lease.is_held:
            return False
        if account in worker.opened:
            return True
        known = worker.known.get(account) if self.machine.is_cut_off else self.pg.records[account]
        return known is not None and self.may_serve(account, known)


class Leased(Process):
    """A process that opens accounts, and so renews the lease for itself: the program's own lease."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.machine)
        self.node = node
        self._asked_s: float | None = None
        self._outcome: Exception | int = 0
        self.lease = Lease(
            node.name, LEASE_S, self._renewed, RETRY_MAX_S, seconds=self._seconds, margin_s=MARGIN_S
        )
        self.do(self._renewing())

    def _seconds(self) -> float:
        return self.machine.local_s() if self._asked_s is None else self._asked_s

    def _renewed(self) -> int:
        # Time has passed: before this the clock said when it asked, now it says when the answer came.
        self._asked_s = None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _renewing(self) -> Steps:
        node, pause_s = self.node, RETRY_MAX_S / 20
        while True:
            asked_s, outcome = self.machine.local_s(), 0
            node.asked()
            try:
                outcome = yield from node.pg.ask(self.machine, lambda: node.pg.renew(node.name, LEASE_S))
            except (DirectoryUnavailable, NodeIsLost) as error:
                outcome = error
            self._asked_s, self._outcome = asked_s, outcome
            if self.lease.renew():
                pause_s = RETRY_MAX_S / 20
                yield LEASE_S / 3
            else:
                yield pause_s
                pause_s = min(2 * pause_s, RETRY_MAX_S)


class Worker(Leased):
    """Answers clients. It knows records of before, for as long as PostgreSQL is away."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.known: dict[AccountId, AccountRecord] = {}
        self.opened: dict[AccountId, int] = {}
        self.at_work: dict[AccountId, int] = {}
        self.do(self._watching_the_lease())
        self.do(self._listening())

    def _watching_the_lease(self) -> Steps:
        while True:
            left_s = self.lease.left_s
            if not left_s:
                self.opened.clear()
            yield max(left_s, 1.0) / self.machine.rate

    def _listening(self) -> Steps:
        """As the listener: a change that was missed is noticed with the next heartbeat."""
        seen: dict[AccountId, AccountRecord] = {}
        while True:
            if not self.machine.is_cut_off:
                now = dict(self.node.pg.records)
                for account in [one for one, record in now.items() if seen.get(one) != record]:
                    self.known.pop(account, None)
                    if account in self.opened and not self.node.may_serve(account, now[account]):
                        self.opened.pop(account)
                seen = now
            yield self.node.world.between(0.0, HEARTBEAT_S)

    def is_closed(self, account: AccountId) -> bool:
        """Whether nobody has the account open here."""
        return account not in self.opened and not self.at_work.get(account)

    def _record(self, account: AccountId) -> Steps:
        """Raises DirectoryUnavailable."""
        pg = self.node.pg
        try:
            record: AccountRecord = yield from pg.ask(self.machine, lambda: pg.records[account])
        except DirectoryUnavailable:
            if account not in self.known:
                raise
            return self.known[account]
        self.known[account] = record
        return record

    def _may_serve(self, account: AccountId, record: AccountRecord) -> bool:
        return self.lease.is_held and self.node.may_serve(account, record)

    def deliver(self, account: AccountId, message: int) -> Steps:
        """As ``deliver_sealed``: the directory is asked before and after."""
        folders, world = self.node.disk.folders, self.node.world
        try:
            record = yield from self._record(account)
            if not self._may_serve(account, record):
                return
            yield world.between(0.0, 0.3)
            folder = folders.get(account)
            if folder is None or not folder.has_inbox:
                return
            folder.mail |= {message}
            yield world.between(0.0, 0.1)
            try:
                record = yield from self._record(account)
            except DirectoryUnavailable:
                record = None
            if record is None or not self._may_serve(account, record):
                folder.mail -= {message}
                return
        except DirectoryUnavailable:
            return
        self.node.answered(self.node, account, record.node_generation, message)

    def log_in(self, account: AccountId) -> Steps:
        """Open the account for a session."""
        try:
            record = yield from self._record(account)
        except DirectoryUnavailable:
            return
        if not self._may_serve(account, record):
            return
        yield self.node.world.between(0.05, 0.5)
        # Marks are looked at under the account's lock, which is held from here on.
        if self._may_serve(account, record):
            folder = self.node.disk.folders[account]
            folder.generation = max(folder.generation, record.node_generation)
            self.opened[account] = record.node_generation

    def command(self, account: AccountId, message: int) -> Steps:
        """APPEND: one transaction in a thread, then OK if the session is still there."""
        if account not in self.opened or not self.lease.is_held:
            return
        generation = self.opened[account]
        self.at_work[account] = self.at_work.get(account, 0) + 1
        yield self.node.world.between(0.0, 1.0)
        self.node.disk.folders[account].mail |= {message}
        self.at_work[account] -= 1
        if account in self.opened and self.lease.is_held:
            self.node.answered(self.node, account, generation, message)

    def see_out(self, account: AccountId) -> Steps:
        """A mark has been seen: the sessions end."""
        yield self.node.world.between(0.0, 1.0)
        self.opened.pop(account, None)


class Mover(Leased):
    """The snapshot process: it takes snapshots, and does what is due of moves, as its two halves do."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.do(self._turns())
        self.do(self._snapshots())

    def _snapshots(self) -> Steps:
        node = self.node
        while True:
            for account, folder in list(node.disk.folders.items()):
                if self.lease.is_held and node.pg.records[account].node == node.name:
                    yield from self._upload(account, folder)
            yield node.world.between(SNAPSHOT_S / 2, SNAPSHOT_S)

    def _upload(self, account: AccountId, folder: Folder) -> Steps:
        """A snapshot of now, once it is stored."""
        mail, node = folder.mail, self.node
        yield node.world.between(0.0, UPLOAD_S)
        node.bucket[node.name, account] = mail
        return mail

    def _turns(self) -> Steps:
        node = self.node
        while True:
            try:
                found = yield from node.pg.ask(self.machine, lambda: node.pg.concerns(node.name))
            except DirectoryUnavailable:
                found = set()
            marked = {one for one, folder in node.disk.folders.items() if folder.moving or folder.arrived}
            for account in sorted(found | marked | set(node.disk.scratch)):
                for side in (self._give, self._take):
                    try:
                        view = yield from node.pg.ask(self.machine, lambda one=account: node.pg.view(one))
                        yield from side(account, view)
                    except StoreError:
                        continue  # the next look says what that means
            yield BUSY_TURN_S if found or marked else node.world.between(BUSY_TURN_S, IDLE_TURN_S)

    def _moment(self, move: Move) -> Steps:
        """Between two steps."""
        self.node.meddle(move)
        yield 0.01

    def _step(self, move: Move, side: Side, phase: Phase, **changed: Any) -> Steps:
        pg = self.node.pg
        yield from self._moment(move)
        yield from pg.ask(self.machine, lambda: pg.step(move, side, phase, **changed))

    # -- the node that gives ---------------------------------------------------------------------

    def _give(self, account: AccountId, view: View) -> Steps:
        node, folder = self.node, self.node.disk.folders.get(account)
        mark = None if folder is None else folder.moving
        due = moves.source_due(view, node.name, mark, LIMITS)
        if folder is None or due is Due.NOTHING:
            return
        if due is Due.REOPEN:
            folder.moving = None
        elif due is Due.FORGET:
            assert view.seen is not None, "it has failed"
            node.pg.cancel(view.seen.move)
        elif due is Due.SET_ASIDE:
            assert view.record is not None, "it is another node's"
            folder.generation = view.record.node_generation
            yield 0.01
            node.disk.put_aside(account)
            yield 0.01
            folder.moving = None
        else:
            assert view.seen is not None, "there is a move"
            yield from self._offer_or_close(due, view.seen.move, folder)

    def _offer_or_close(self, due: Due, move: Move, folder: Folder) -> Steps:
        if due is Due.GIVE_UP:
            yield from self._step(
                move, Side.SOURCE, Phase.FAILED, failed=Side.TARGET, trouble=Trouble.SILENCE
            )
            return
        if due is Due.CLOSE:
            if folder.moving is None:
                folder.moving = move.move_id
                self.node.worker.do(self.node.worker.see_out(move.account_id))
                yield from self._moment(move)
            if not self.node.worker.is_closed(move.account_id):
                return
        mail = yield from self._upload(move.account_id, folder)
        phase = Phase.COPYING if due is Due.OFFER else Phase.LAST
        yield from self._step(move, Side.SOURCE, phase, ticket={"mail": mail})

    # -- the node that takes ---------------------------------------------------------------------

    def _take(self, account: AccountId, view: View) -> Steps:
        disk = self.node.disk
        folder = disk.folders.get(account)
        arrived = None if folder is None else folder.arrived
        due = moves.target_due(view, self.node.name, arrived, account in disk.scratch)
        move = None if view.seen is None else view.seen.move
        if due is Due.COPY and move is not None:
            yield from self._built(move)
            yield from self._step(move, Side.TARGET, Phase.COPIED)
        elif due is Due.TAKE and move is not None:
            yield from self._put_in_place(move, arrived)
            yield from self._moment(move)
            yield from self.node.pg.ask(self.machine, lambda: self.node.pg.finish(move))
        elif due is Due.SETTLE:
            disk.scratch.pop(account, None)
            if folder is not None:
                folder.arrived = None
        elif due is Due.THROW_AWAY:
            if folder is not None and folder.arrived is not None:
                if view.record is not None and view.record.node_generation >= folder.generation:
                    disk.put_aside(account)
                del disk.folders[account]
            yield 0.01
            disk.scratch.pop(account, None)

    def _built(self, move: Move) -> Steps:
        yield self.node.world.between(0.1, 30.0 if move.phase is Phase.COPYING else 3.0)
        assert move.ticket is not None, "the source has written it"
        self.node.disk.scratch[move.account_id] = move.move_id, move.ticket["mail"]

    def _put_in_place(self, move: Move, arrived: MoveId | None) -> Steps:
        if arrived == move.move_id:
            return
        yield from self._built(move)
        disk, account, pg = self.node.disk, move.account_id, self.node.pg
        now = yield from pg.ask(self.machine, lambda: pg.view(account))
        if now.seen is None or now.seen.move.move_id != move.move_id:
            raise MoveOver
        if account in disk.folders:
            disk.put_aside(account)
        _, mail = disk.scratch.pop(account)
        disk.folders[account] = Folder(mail, move.generation + 1, arrived=move.move_id)


class Operator(Process):
    """Somebody at a node, who runs commands there."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.machine)
        self.node = node

    def move(self, account: AccountId, tries: Iterator[tuple[MoveId, str]]) -> Steps:
        """``sealbox account move``, again and again: begin, wait, and give up when it takes too long."""
        node = self.node
        for move_id, target in tries:
            try:
                record = yield from node.pg.ask(self.machine, lambda: node.pg.records[account])
                if record.node != node.name:
                    return
                wanted = Move(account, move_id, node.name, target, record.node_generation)
                yield from node.pg.ask(self.machine, lambda one=wanted: node.pg.begin(one))
                yield 10.0 ** node.world.between(0.0, 2.5)
                yield from node.pg.ask(self.machine, lambda one=wanted: node.pg.cancel(one))
            except StoreError:
                yield node.world.between(0.0, 10.0)

    def recover(self, lost: str) -> Steps:
        """``sealbox node recover``: wait for the lease's end, then take one account after the other.

        One at a time on a node: it puts folders in their places before they are the node's.
        """
        node = self.node
        while node.recovering is not None and node.recovering.is_alive:
            yield 5.0
        node.recovering = self
        while True:
            try:
                yield from node.pg.ask(self.machine, lambda: node.pg.mark_lost(lost))
                break
            except (NotTaken, DirectoryUnavailable):
                yield node.world.between(0.0, 2.0)
        for account in list(node.pg.records):
            while True:
                try:
                    yield from self._recover_one(account, lost)
                    break
                except NotTaken:
                    break
                except (DirectoryUnavailable, Busy):
                    yield 5.0
        node.recovering = None

    def _recover_one(self, account: AccountId, lost: str) -> Steps:
        """Raises NotTaken, DirectoryUnavailable, Busy: its move has everything, or has just ended."""
        node, pg = self.node, self.node.pg
        record = yield from self._lost_record(account, lost)
        if record is None or (lost, account) not in node.bucket:
            return
        mail = node.bucket[lost, account]
        yield node.world.between(0.1, 10.0)
        # Inside a lock, where moves put folders in their places, too.
        now = yield from self._lost_record(account, lost)
        if now != record:
            return
        folder = node.disk.folders.get(account)
        if folder is not None and folder.arrived is not None:
            raise Busy
        if folder is not None:
            node.disk.put_aside(account)
        node.disk.folders[account] = Folder(mail, record.node_generation + 1)
        yield 0.01
        yield from pg.ask(self.machine, lambda: pg.take_from_lost(account, lost, node.name))

    def _lost_record(self, account: AccountId, lost: str) -> Steps:
        """The account if the lost node still has it; a move of it is over then."""
        pg = self.node.pg
        view = yield from pg.ask(self.machine, lambda: pg.view(account))
        if view.record.node != lost:
            return None
        if view.seen is not None:
            if view.seen.move.phase is Phase.LAST and view.seen.silent_s < LIMITS.closed_max_s:
                raise Busy
            if not (yield from pg.ask(self.machine, lambda: pg.cancel(view.seen.move))):
                raise Busy
        return view.record
