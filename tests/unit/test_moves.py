"""The rules of moves, without a database: never two nodes that may serve an account, never none for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from directory_worlds import JOE, record
from hypothesis import given, settings
from hypothesis import strategies as st
from move_worlds import WAY, ModelMoves, move, steps_to

from mailstore.directory.moves import (
    FORGOTTEN_S,
    Due,
    MoveId,
    Phase,
    Seen,
    Side,
    View,
    may_serve,
    require_beginning,
    source_due,
    stepped,
    taken,
    target_due,
)
from mailstore.errors import AlreadyThere, MoveOver, MoveUnderWay, OnAnotherNode
from mailstore.limits import MoveLimits

LIMITS = MoveLimits()
HERE = replace(record(), node="a", node_generation=1)
GONE = replace(HERE, node="b", node_generation=2)


@dataclass
class Node:
    """What one of the two has on its disk."""

    name: str
    mark: MoveId | None = None
    generation: int = 0
    mail: int | None = None
    """How many messages its folder has; None: there is no folder."""

    scratch: int | None = None
    work: Iterator[None] | None = field(default=None, repr=False)
    """What its process is doing; a crash is its end."""


class World:
    """Nodes a and b and the directory. The mail that was answered 250 is counted in ``answered``."""

    def __init__(self) -> None:
        self.moves = ModelMoves()
        self.a, self.b = Node("a", generation=1, mail=0), Node("b")
        self.answered = 0
        self.offered = 0
        """What the newest snapshot in the store has."""

        self.begun = 0

    def serving(self) -> list[Node]:
        """Who may open the account."""
        record = self.moves.record
        assert record is not None
        # The mark of the target does not keep it from serving, that of the source does.
        nodes = ((self.a, self.a.mark), (self.b, None))
        return [
            node
            for node, mark in nodes
            if node.mail is not None and may_serve(record, node.name, mark, node.generation)
        ]

    def deliver(self) -> None:
        """Mail comes in at whoever serves."""
        for node in self.serving():
            assert node.mail is not None
            node.mail += 1
            self.answered += 1

    def begin(self) -> None:
        """The command."""
        self.begun += 1
        try:
            self.moves.begin(move(f"m{self.begun}"))
        except (MoveUnderWay, OnAnotherNode):
            return

    def cancel(self) -> None:
        """The command is interrupted."""
        if self.moves.move is not None:
            self.moves.cancel(self.moves.move)

    def time(self) -> None:
        """Passes."""
        self.moves.silent_s += LIMITS.silence_max_s + 1

    def run(self, node: Node) -> None:
        """The node's process does one thing more, after which it may be killed."""
        if node.work is None:
            node.work = self.source() if node is self.a else self.target()
        try:
            next(node.work)
        except (StopIteration, MoveOver):
            node.work = None

    def kill(self, node: Node) -> None:
        """The process ends; another one begins by looking."""
        node.work = None

    def source(self) -> Iterator[None]:
        """What a does: between two yields one thing that is there or not."""
        view, node = self.moves.view(JOE), self.a
        due = source_due(view, "a", node.mark, LIMITS)
        yield
        match due:
            case Due.REOPEN:
                node.mark = None
            case Due.SET_ASIDE:
                node.generation, node.mail = 2, None
                yield
                node.mark = None
            case Due.GIVE_UP if view.seen is not None:
                self.moves.step(view.seen.move, Side.SOURCE, Phase.FAILED)
            case Due.OFFER if view.seen is not None and node.mail is not None:
                self.offered = node.mail
                yield
                self.moves.step(view.seen.move, Side.SOURCE, Phase.COPYING)
            case Due.CLOSE if view.seen is not None:
                node.mark = view.seen.move.move_id
                yield
                assert node.mail is not None
                self.offered = node.mail
                yield
                self.moves.step(view.seen.move, Side.SOURCE, Phase.LAST)

    def target(self) -> Iterator[None]:
        """What b does."""
        view, node = self.moves.view(JOE), self.b
        due = target_due(view, "b", node.mark, node.scratch is not None)
        yield
        match due:
            case Due.COPY if view.seen is not None:
                node.scratch = self.offered
                yield
                self.moves.step(view.seen.move, Side.TARGET, Phase.COPIED)
            case Due.TAKE if view.seen is not None:
                node.scratch = self.offered
                yield
                node.mail, node.generation = node.scratch, view.seen.move.generation + 1
                node.mark, node.scratch = view.seen.move.move_id, None
                yield
                self.moves.finish(view.seen.move)
            case Due.SETTLE:
                node.mark = node.scratch = None
            case Due.THROW_AWAY:
                node.mail = node.mark = node.scratch = None
                node.generation = 0


STEPS: dict[str, Callable[[World], None]] = {
    "a": lambda world: world.run(world.a),
    "b": lambda world: world.run(world.b),
    "a is killed": lambda world: world.kill(world.a),
    "b is killed": lambda world: world.kill(world.b),
    "begin": World.begin,
    "cancel": World.cancel,
    "time": World.time,
    "mail": World.deliver,
}
OFTEN = ["a", "b", "a", "b", "mail", *STEPS]


@settings(max_examples=1_000)
@given(st.lists(st.sampled_from(OFTEN), max_size=120))
def test_whatever_happens_one_node_has_the_account_with_all_its_mail(steps: list[str]) -> None:
    """At no moment two; and one again as soon as both nodes have looked."""
    world = World()
    world.begin()
    for step in steps:
        STEPS[step](world)
        assert len(world.serving()) <= 1
        assert all(node.mail == world.answered for node in world.serving())
    world.time()
    for _ in range(30):
        world.run(world.a)
        world.run(world.b)
    [node] = world.serving()
    assert node.mail == world.answered
    assert world.moves.record is not None and world.moves.record.node == node.name
    assert node.mark is None


def test_undisturbed_it_comes_to_its_end() -> None:
    """In a few looks of either side."""
    world = World()
    world.begin()
    for _ in range(20):
        world.deliver()
        world.run(world.a)
        world.run(world.b)
    assert world.serving() == [world.b] and world.a.mail is None


@pytest.mark.parametrize(
    ("side", "before", "after"),
    [
        (Side.TARGET, Phase.BEGUN, Phase.COPYING),
        (Side.SOURCE, Phase.COPYING, Phase.LAST),
        (Side.TARGET, Phase.COPIED, Phase.LAST),
        (Side.SOURCE, Phase.LAST, Phase.COPYING),
        (Side.SOURCE, Phase.FAILED, Phase.COPYING),
        (Side.TARGET, Phase.FAILED, Phase.FAILED),
    ],
)
def test_no_side_takes_the_steps_of_the_other_or_goes_back(side: Side, before: Phase, after: Phase) -> None:
    """Nor from one that has failed."""
    with pytest.raises(MoveOver):
        stepped(move(phase=before), move().move_id, side, after)


def test_a_move_that_is_another_one_by_now_is_over() -> None:
    """Whoever was delayed does nothing to it."""
    with pytest.raises(MoveOver):
        stepped(move("n"), move("m").move_id, Side.SOURCE, Phase.COPYING)
    with pytest.raises(MoveOver):
        taken(HERE, move("n", Phase.LAST), move("m").move_id)


@pytest.mark.parametrize(
    "record",
    [None, replace(HERE, node_generation=2), replace(GONE, node_generation=1)],
    ids=["deleted", "given away and back", "recovered by another"],
)
def test_an_account_that_is_not_as_it_was_is_not_taken(record) -> None:
    """The generation is what it was begun with."""
    with pytest.raises(MoveOver):
        taken(record, move(phase=Phase.LAST), move().move_id)


@pytest.mark.parametrize("phase", Phase)
def test_a_move_of_an_account_that_was_given_away_beside_it_leads_nowhere(phase: Phase) -> None:
    """As when the source was lost: the target keeps its hands off what the account has become, and another
    move may begin."""
    now = replace(HERE, node="b", node_generation=2)
    stale = Seen(move(phase=phase), 0.0)
    assert target_due(View(now, stale), "b", None, has_scratch=False) is Due.NOTHING
    assert target_due(View(now, stale), "b", None, has_scratch=True) is Due.SETTLE
    assert source_due(View(now, stale), "a", move().move_id, LIMITS) is Due.SET_ASIDE
    elsewhere = replace(now, node="c")
    assert target_due(View(elsewhere, stale), "b", move().move_id, has_scratch=True) is Due.THROW_AWAY
    require_beginning(now, stale.move, replace(move("n"), source="b", target="a", generation=2))


@pytest.mark.parametrize("phase", [one for one in Phase if one is not Phase.LAST])
def test_an_account_that_is_not_closed_is_not_taken(phase: Phase) -> None:
    """Nor one that is open again because somebody has given up."""
    assert taken(HERE, move(phase=Phase.LAST), move().move_id) == GONE
    with pytest.raises(MoveOver):
        taken(HERE, move(phase=phase), move().move_id)


def test_a_move_begins_where_the_account_is_and_once() -> None:
    """A failed one is no hindrance."""
    moves = ModelMoves()
    for wanted, why in (
        (replace(move(), source="b", target="c"), OnAnotherNode),
        (replace(move(), generation=2), OnAnotherNode),
        (replace(move(), target="a"), AlreadyThere),
    ):
        with pytest.raises(why):
            moves.begin(wanted)
    moves.begin(move())
    with pytest.raises(MoveUnderWay):
        moves.begin(move("n"))
    moves.step(move(), Side.TARGET, Phase.FAILED)
    moves.begin(move("n"))
    assert not moves.cancel(move()) and moves.cancel(move("n")) and not moves.all()


@pytest.mark.parametrize("phase", [Phase.BEGUN, *WAY])
def test_a_silent_target_is_given_up(phase: Phase) -> None:
    """Not before its time is over."""
    found = Seen(move(phase=phase), 60.0)
    mark = move().move_id if phase is Phase.LAST else None
    limits = MoveLimits(silence_max_s=60.0, closed_max_s=60.0)
    assert source_due(View(HERE, found), "a", mark, limits) is not Due.GIVE_UP
    assert source_due(View(HERE, replace(found, silent_s=60.1)), "a", mark, limits) is Due.GIVE_UP


def test_what_is_closed_without_a_mark_is_not_given_away() -> None:
    """Somebody has removed it: sessions may have come in."""
    assert source_due(View(HERE, Seen(move(phase=Phase.LAST), 0.0)), "a", None, LIMITS) is Due.GIVE_UP


def test_a_mark_of_a_move_that_is_over_means_what_the_directory_says() -> None:
    """Open again, or gone."""
    mark, other = move("m").move_id, Seen(move("n", Phase.COPIED), 0.0)
    for seen in (None, other, Seen(move(phase=Phase.FAILED), 0.0)):
        assert source_due(View(HERE, seen), "a", mark, LIMITS) is Due.REOPEN
    assert source_due(View(GONE, None), "a", mark, LIMITS) is Due.SET_ASIDE
    assert source_due(View(None, None), "a", mark, LIMITS) is Due.NOTHING


def test_why_a_move_has_failed_is_remembered_for_a_time() -> None:
    """Nobody may have waited for it; the mark goes first."""
    failed = Seen(move(phase=Phase.FAILED), FORGOTTEN_S)
    assert source_due(View(HERE, failed), "a", None, LIMITS) is Due.NOTHING
    late = View(HERE, replace(failed, silent_s=FORGOTTEN_S + 1))
    assert source_due(late, "a", None, LIMITS) is Due.FORGET
    assert source_due(late, "a", move().move_id, LIMITS) is Due.REOPEN


def test_steps_lead_from_the_beginning_to_the_end() -> None:
    """And the account is the target's, one generation later."""
    moves = ModelMoves()
    moves.begin(move())
    steps_to(moves, move(), *WAY)
    assert moves.finish(move()) == GONE
    with pytest.raises(MoveOver):
        moves.finish(move())
