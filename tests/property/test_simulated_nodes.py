"""The simulation of nodes finds no account with two owners, and would find one if a rule were missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailstore.directory import moves
from mailstore.lease import Lease
from tests.bench import nodes, nodes_actors, nodes_world

HISTORIES = 150
ADA = nodes.ACCOUNTS[0]
TELLINGS = 6
MOST = 600
"""Histories in which a missing rule has to be found."""


def test_no_history_has_two_owners_or_none_or_loses_mail() -> None:
    """A few of those that the command runs; and things do happen in them."""
    seen = nodes.Counts().seen
    for seed in range(1, HISTORIES + 1):
        seen += nodes.run(seed).seen
    assert min(seen[one] for one in ("moved", "recovered", "answered OK", "lose", "sleep", "cut_off")) > 50


def _no_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "is_held", property(lambda _self: True))


def _no_margin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodes_actors, "MARGIN_S", 0.0)


def _asked_too_late(patch: pytest.MonkeyPatch) -> None:
    """The lease counts from when the answer came."""
    patch.setattr(nodes_actors.Leased, "_seconds", lambda self: self.machine.local_s())


def _no_wait(patch: pytest.MonkeyPatch) -> None:
    """Whoever recovers a node does not wait until its lease is over."""

    def mark_lost(self: nodes_world.PostgreSql, node: str) -> None:
        self.rows[node].is_lost = True
        self.rows[node].times_lost += 1

    patch.setattr(nodes_world.PostgreSql, "mark_lost", mark_lost)


def _forgotten_loss(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "_require_never_lost", lambda _self, _times_lost: None)


def _no_mark(patch: pytest.MonkeyPatch) -> None:
    may_serve = moves.may_serve
    patch.setattr(moves, "may_serve", lambda record, me, _mark, last: may_serve(record, me, None, last))


def _any_id(patch: pytest.MonkeyPatch) -> None:
    taken, stepped = moves.taken, moves.stepped

    def _id(found: moves.Move | None, given: moves.MoveId) -> moves.MoveId:
        return given if found is None else found.move_id

    patch.setattr(moves, "taken", lambda record, found, given: taken(record, found, _id(found, given)))
    patch.setattr(
        moves, "stepped", lambda found, given, *rest, **more: stepped(found, _id(found, given), *rest, **more)
    )


RULES = {
    "the lease": _no_lease,
    "its margin": _no_margin,
    "that its end is waited for": _no_wait,
    "the mark that closes an account": _no_mark,
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_missing_rule_is_found(
    rule: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the test above would show nothing."""
    rule(monkeypatch)
    kind = list(nodes.Kind).index(nodes.Kind.LOSSES)
    with pytest.raises(nodes.Failed):
        for seed in range(kind, MOST, len(nodes.Kind)):
            nodes.run(seed)


class Story(nodes.History):
    """A history in which nothing is left to chance but how long things take: ada's account is on node a."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.a, self.b, self.c = (self._nodes[name] for name in nodes.NODES)
        self._meddling = 0.0
        for second in range(1, 1600):
            self._at(float(second), self._ask_all)

    def _at(self, when_s: float, what: Callable[[], object]) -> None:
        self.world.after(when_s, what)

    def _ask_all(self) -> None:
        for node in (self.a, self.b, self.c):
            node.worker.do(node.worker.log_in(ADA))
            node.worker.do(node.worker.command(ADA, next(self._messages)))

    def _recover(self, node: nodes.Node) -> None:
        operator = self._operator(node)
        operator.do(operator.recover("a"))

    def sleep_through_the_loss(self) -> None:
        """Node a sleeps, is lost and added again, and nobody has restarted it."""
        self._at(50.0, lambda: self.a.machine.sleep_until(1500.0))
        self._at(60.0, lambda: self._recover(self.b))
        self._at(800.0, lambda: self._pg.add("a"))
        self.world.run_until(1600.0)

    def sleep_before_the_answer(self) -> None:
        """Node a sleeps while the answer to its renewal is on its way, and is cut off when it has come."""

        def asked() -> None:
            self.a.asked = lambda: None
            self.a.mover.kill()  # which would renew it, too
            self.a.machine.sleep_until(self.world.now_s + 250.0)
            self._at(251.0, lambda: setattr(self.a.machine, "cut_until_s", 3000.0))
            self._recover(self.b)

        self._at(50.0, lambda: setattr(self.a, "asked", asked))
        self.world.run_until(1000.0)

    def sleep_through_a_second_move(self) -> None:
        """Node b sleeps before it takes the account, and wakes when the account is on its way to c."""
        step = self._pg.step

        def stepped(move: moves.Move, side: moves.Side, phase: moves.Phase, **changed: Any) -> moves.Move:
            if move.target == "c" and phase is moves.Phase.LAST:
                self.c.machine.sleep_until(self.world.now_s + 20.0)
                self.b.machine.sleep_until(self.world.now_s)
            return step(move, side, phase, **changed)

        def meddle(move: moves.Move) -> None:
            if move.phase is moves.Phase.LAST:
                self.b.meddle = lambda _move: None
                self.b.machine.sleep_until(5000.0)
                self._pg.cancel(move)
                self._at(10.0, lambda: operator.do(operator.move(ADA, iter([(moves.MoveId("n"), "c")]))))

        self._pg.step = stepped  # type: ignore[method-assign]
        self.b.meddle = meddle
        operator = self._operator(self.a)
        self._at(10.0, lambda: operator.do(operator.move(ADA, iter([(moves.MoveId("m"), "b")]))))
        self.world.run_until(500.0)
        if not any(node.would_answer(ADA) for node in (self.a, self.b, self.c)):
            raise nodes.Failed("the account has no owner")


STORIES = {
    "that a process of before a loss stays silent": (_forgotten_loss, Story.sleep_through_the_loss),
    "that a lease counts from before it was asked for": (_asked_too_late, Story.sleep_before_the_answer),
    "the ids of moves": (_any_id, Story.sleep_through_a_second_move),
}


@pytest.mark.parametrize(("rule", "story"), STORIES.values(), ids=STORIES)
def test_a_rule_is_needed_that_matters_seldom(
    rule: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[Story], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A history in which it matters would be found among many thousands; so it is told."""
    given = 0
    for seed in range(TELLINGS):
        told = Story(seed)
        story(told)
        given += told.counts.seen["recovered"] + told.counts.seen["moved"]
    assert given
    rule(monkeypatch)
    with pytest.raises(nodes.Failed):
        for seed in range(TELLINGS):
            story(Story(seed))
