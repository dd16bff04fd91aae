"""Nodes, PostgreSQL and their machines through random trouble: does an account ever have two owners?

    .venv/bin/python -m tests.bench.nodes [--histories N] [--seed S] [--processes P]

Each history is an hour in the life of three nodes with two accounts: mail and sessions everywhere, while
processes are killed, machines sleep and come back, clocks run at different rates, PostgreSQL cannot be
reached from one node or from all, accounts move, nodes are lost, recovered by others and added again, all
of it at random and at any step. Then everything is well again for some minutes. A history fails

- when an account is given to a node, or a node answers OK for it, while another one would answer, too, or
  after another one has under a later generation;
- when a message that was answered OK is neither where its account is, nor was lost with a node, which is
  counted;
- when an account has no owner although everything has been well for the length of a lease and the time in
  which moves are given up, or when it could not be moved then.

Rules and arithmetic are the program's: ``mailstore.directory.moves`` and ``mailstore.lease``. What is
around them is a model (``nodes_world``, ``nodes_actors``), in which a last look at the lease and the
answer after it are one step: a machine that is suspended for minutes exactly between the two is left out.
A history that fails is repeated by its seed.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from multiprocessing import Pool

from mailstore.directory.moves import Move, MoveId
from mailstore.errors import MoveUnderWay
from mailstore.keys import AccountId
from tests.bench.nodes_actors import LEASE_S, LIMITS, Node, Operator
from tests.bench.nodes_world import Folder, Machine, Mail, PostgreSql, World, new_record

NODES = ("a", "b", "c")
ACCOUNTS = (AccountId("ada"), AccountId("bob"))
TROUBLE_S = 3600.0
CALM_S = LEASE_S + LIMITS.silence_max_s + LIMITS.closed_max_s + 120.0
"""Until every account has an owner again: a lease, what moves wait for, and the turns of those who look."""

RATES = (0.97, 1.03)
"""How much slower or faster a clock runs than another: ten times what is wrong with any that is in use."""

DELIVERIES, LOGINS, COMMANDS, MOVES, TROUBLES = 250, 60, 200, 12, 30

TRIES = 4
"""How often somebody begins a move again that was given up."""


class Failed(Exception):
    """A history in which something happened that must not."""


class Kind(Enum):
    """What a history has more of than the others."""

    NOTHING = auto()
    MOVES = auto()
    LOSSES = auto()


@dataclass
class Counts:
    """What happened, so that a history in which nothing does is seen."""

    seen: Counter[str] = field(default_factory=Counter)
    oldest_lost_s: float = 0.0
    """Of the mail that was lost with a node: the longest time between its answer and the loss."""


class History:
    """One of them, from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.counts = Counts()
        self._kind = list(Kind)[seed % len(Kind)]
        self._meddling = 0.15 if self._kind is Kind.MOVES else 0.03
        """With this probability something goes wrong at a step of a move, besides what does at any time."""

        self._pg = PostgreSql(self.world, self.world.between(*RATES), NODES, self._given, self._recovered)
        bucket: dict[tuple[str, AccountId], Mail] = {}
        self._nodes = {
            name: Node(
                name, Machine(self.world, self.world.between(*RATES)), self._pg, bucket, self._answered
            )
            for name in NODES
        }
        self._answers: dict[AccountId, dict[int, float]] = {one: {} for one in ACCOUNTS}
        self._lost: dict[AccountId, set[int]] = {one: set() for one in ACCOUNTS}
        self._generation = Counter[AccountId]()
        self._messages = itertools.count(1)
        self._move_ids = itertools.count(1)
        self._operators: list[Operator] = []
        for name, node in self._nodes.items():
            node.meddle = partial(self._meddle, name)
        for account, name in zip(ACCOUNTS, NODES, strict=False):
            self._pg.records[account] = new_record(account, name)
            self._nodes[name].disk.folders[account] = Folder(frozenset(), 1)
            bucket[name, account] = frozenset()

    def run(self) -> Counts:
        """All of it. Raises Failed."""
        kinds: tuple[tuple[int, Callable[[], None]], ...] = (
            (DELIVERIES, self._deliver),
            (LOGINS, self._log_in),
            (COMMANDS, self._command),
            (MOVES * (4 if self._kind is Kind.MOVES else 1), self._move),
            (TROUBLES, self._trouble),
        )
        for count, what in kinds:
            for _ in range(count):
                self.world.after(self.world.between(0.0, TROUBLE_S), what)
        self.world.run_until(TROUBLE_S)
        self._mend()
        self.world.run_until(TROUBLE_S + CALM_S)
        self._look_at_the_end()
        return self.counts

    # -- what clients do ---------------------------------------------------------------------------

    def _deliver(self) -> None:
        worker = self._some_node().worker
        worker.do(worker.deliver(self._some_account(), next(self._messages)))

    def _log_in(self) -> None:
        worker = self._some_node().worker
        worker.do(worker.log_in(self._some_account()))

    def _command(self) -> None:
        account = self._some_account()
        for node in self._nodes.values():
            node.worker.do(node.worker.command(account, next(self._messages)))

    def _some_node(self) -> Node:
        return self._nodes[self.world.random.choice(NODES)]

    def _some_account(self) -> AccountId:
        return self.world.random.choice(ACCOUNTS)

    # -- what operators do, and what goes wrong ----------------------------------------------------

    def _move(self) -> None:
        account = self._some_account()
        source = self._nodes[self._pg.records[account].node or "a"]
        operator = self._operator(source)
        tries = ((MoveId(f"m{next(self._move_ids)}"), self._some_node().name) for _ in range(TRIES))
        operator.do(operator.move(account, tries))

    def _operator(self, node: Node) -> Operator:
        found = Operator(node)
        self._operators.append(found)
        return found

    def _trouble(self) -> None:
        kinds = (self._kill_worker, self._kill_mover, self._sleep, self._cut_off, self._outage, self._lose)
        what = self.world.random.choices(kinds, (4, 8, 4, 4, 2, 6 if self._kind is Kind.LOSSES else 1))[0]
        self.counts.seen[what.__name__.strip("_")] += 1
        what()

    def _meddle(self, name: str, move: Move) -> None:
        """At a step of a move, where it hurts most."""
        if self.world.random.random() > self._meddling or self.world.now_s > TROUBLE_S:
            return
        node, machine = self._nodes[name], self._nodes[name].machine
        what = self.world.random.choices(("kill", "sleep", "cut", "lose"), (8, 6, 4, 3))[0]
        self.counts.seen[f"{what} at a step of a move"] += 1
        match what:
            case "kill":
                self._kill_mover(node)
            case "cut":
                machine.cut_until_s = self.world.now_s + self._some_while()
            case _:
                machine.sleep_until(self.world.now_s + self._some_while())
                if what == "lose" and name == move.target:
                    self._lose(move.source)

    def _kill_worker(self, node: Node | None = None, away_s: float = 20.0) -> None:
        node = node or self._some_node()
        node.worker.kill()
        self.world.after(self.world.between(0.5, away_s), node.start_worker)

    def _kill_mover(self, node: Node | None = None, away_s: float = 20.0) -> None:
        node = node or self._some_node()
        node.mover.kill()
        self.world.after(self.world.between(0.5, away_s), node.start_mover)

    def _sleep(self) -> None:
        self._some_node().machine.sleep_until(self.world.now_s + self._some_while())

    def _cut_off(self) -> None:
        self._some_node().machine.cut_until_s = self.world.now_s + self._some_while()

    def _outage(self) -> None:
        until_s = self.world.now_s + self._some_while()
        for node in self._nodes.values():
            node.machine.cut_until_s = until_s

    def _some_while(self) -> float:
        return 10.0 ** self.world.between(0.0, 3.0)

    def _lose(self, lost: str = "") -> None:
        """A node is silent; another one takes its accounts, and perhaps it comes back."""
        lost = lost or self._some_node().name
        world, node = self.world, self._nodes[lost]
        silent_s = world.between(LEASE_S, TROUBLE_S / 2)
        match world.random.choices(("sleeps", "sleeps when it has asked", "is cut off", "is dead"))[0]:
            case "sleeps":  # it wakes with everything in memory
                node.machine.sleep_until(world.now_s + silent_s)
            case "sleeps when it has asked":
                node.asked = partial(self._sleep_once, node, silent_s)
            case "is cut off":
                node.machine.cut_until_s = world.now_s + silent_s
            case _:
                node.machine.sleep_until(world.now_s + silent_s)
                self._kill_worker(node, silent_s)
                self._kill_mover(node, silent_s)
        other = world.random.choice([name for name in NODES if name != lost])
        operator = self._operator(self._nodes[other])
        operator.do(operator.recover(lost), world.between(0.0, LEASE_S))
        world.after(world.between(LEASE_S, TROUBLE_S / 2), lambda: self._add(lost))

    def _sleep_once(self, node: Node, seconds: float) -> None:
        """Before the answer comes."""
        node.asked = lambda: None
        node.machine.sleep_until(self.world.now_s + seconds)

    def _add(self, name: str) -> None:
        """The operator says that it may serve again, and perhaps forgets to restart it."""
        if self.world.now_s > TROUBLE_S:
            return  # all is well already
        self._pg.add(name)
        if self.world.random.random() < 0.5:
            self._restart(name)

    def _restart(self, name: str) -> None:
        node = self._nodes[name]
        self._pg.add(name)
        for process in (node.worker, node.mover):
            process.kill()
        node.start_worker()
        node.start_mover()

    def _mend(self) -> None:
        """From now on all is well: machines run, PostgreSQL answers, servers have been restarted."""
        for operator in self._operators:
            operator.kill()
        for node in self._nodes.values():
            node.asked = lambda: None
            node.machine.sleep_until(self.world.now_s)
            node.machine.cut_until_s = self.world.now_s
            self._restart(node.name)

    # -- what must be ------------------------------------------------------------------------------

    def _answered(self, node: Node, account: AccountId, generation: int, message: int) -> None:
        self.counts.seen["answered OK"] += 1
        if generation < self._generation[account]:
            raise self._failed(f"{node.name} answers for {account} after a later owner has")
        self._generation[account] = generation
        self._require_one_owner(account, node.name)
        self._answers[account][message] = self.world.now_s

    def _given(self, account: AccountId, _before: str, now: str) -> None:
        self.counts.seen["moved"] += 1
        self._require_one_owner(account, now)

    def _require_one_owner(self, account: AccountId, name: str) -> None:
        for other in self._nodes.values():
            if other.name != name and other.would_answer(account):
                raise self._failed(f"{name} has {account}, and {other.name} answers for it, too")

    def _recovered(self, account: AccountId, lost: str, node: str) -> None:
        """What is not in the snapshots of a lost node is lost with it."""
        self.counts.seen["recovered"] += 1
        self._require_one_owner(account, node)
        answers, kept = self._answers[account], self._nodes[node].disk.folders[account].mail
        had = (
            self._nodes[lost].disk.folders[account].mail
            if account in self._nodes[lost].disk.folders
            else kept
        )
        gone = {one for one in had & answers.keys() if one not in kept}
        self.counts.seen["lost with a node"] += len(gone - self._lost[account])
        for one in gone:
            self.counts.oldest_lost_s = max(self.counts.oldest_lost_s, self.world.now_s - answers[one])
        self._lost[account] |= gone

    def _look_at_the_end(self) -> None:
        self.counts.seen["moved or recovered"] += sum(
            one.node_generation - 1 for one in self._pg.records.values()
        )
        for account in ACCOUNTS:
            owners = [node for node in self._nodes.values() if node.would_answer(account)]
            if len(owners) != 1:
                raise self._failed(f"{account} has {len(owners)} owners although all is well")
            missing = (
                self._answers[account].keys() - owners[0].disk.folders[account].mail - self._lost[account]
            )
            if missing:
                raise self._failed(f"{account} has lost {len(missing)} messages that were answered OK")
            self._look_whether_it_moves(account, owners[0].name)

    def _look_whether_it_moves(self, account: AccountId, owner: str) -> None:
        other = next(name for name in NODES if name != owner)
        generation = self._pg.records[account].node_generation
        try:
            self._pg.begin(Move(account, MoveId("last"), owner, other, generation))
        except MoveUnderWay:
            raise self._failed(f"{account} cannot move any more") from None

    def _failed(self, what: str) -> Failed:
        return Failed(f"history {self.seed}, second {self.world.now_s:.1f}: {what}")


def run(seed: int) -> Counts:
    """One history. Raises Failed."""
    logging.getLogger("sealbox.nodes").disabled = True
    return History(seed).run()


def _outcome(seed: int) -> Counts | str:
    try:
        return run(seed)
    except Failed as failed:
        return str(failed)


def main() -> int:
    """The command. 1 if a history failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first history; the others follow")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    began_s, total, failed = time.monotonic(), Counts(), list[str]()
    with Pool(given.processes) as pool:
        seeds = range(given.seed, given.seed + given.histories)
        for outcome in pool.imap_unordered(_outcome, seeds, chunksize=20):
            if isinstance(outcome, str):
                failed.append(outcome)
                continue
            total.seen += outcome.seen
            total.oldest_lost_s = max(total.oldest_lost_s, outcome.oldest_lost_s)
    print(f"{given.histories} histories in {time.monotonic() - began_s:.0f} s, {len(failed)} failed")
    for line in failed[:10]:
        print(f"  {line}")
    for what, count in sorted(total.seen.items()):
        print(f"  {what}: {count}")
    print(
        f"  oldest mail that was lost with a node: answered {total.oldest_lost_s:.0f} s before the recovery"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
