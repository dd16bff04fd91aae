"""The queue for Argon2 memory: turns of sites, owners first, a bound on all of it."""

import pytest
from keys_world import outcome
from twisted.internet.defer import CancelledError, Deferred

from mailstore.errors import AccountClosed, TooManyLogins
from mailstore.memory_gate import MemoryGate
from mailstore.model import Origin


def test_hundreds_who_leave_at_once_leave_the_gate_whole():
    """Whoever has hung up passes and leaves: one after the other, not each from inside the one before."""
    gate = MemoryGate(1, 10_000)

    async def abandoned(site):
        passed = await gate.enter(1, Origin(site))
        try:
            raise AccountClosed
        finally:
            gate.leave(passed)

    first = gate.enter(1, Origin("first"))
    crowd = [Deferred.fromCoroutine(abandoned(str(number))) for number in range(3000)]
    gate.leave(outcome(first))
    assert {type(outcome(deferred)) for deferred in crowd} == {AccountClosed}
    assert (gate.waiting, gate._free_kib) == (0, 1)


def test_gate_lets_a_giant_pass_alone():
    """A run larger than the whole budget is not stuck for ever, and order is kept."""
    gate = MemoryGate(100, 10)
    first, giant, small = (
        gate.enter(60, Origin("a")),
        gate.enter(1000, Origin("b")),
        gate.enter(10, Origin("c")),
    )
    assert (first.called, giant.called, small.called) == (True, False, False)
    gate.leave(outcome(first))
    assert (giant.called, small.called) == (True, False)
    gate.leave(outcome(giant))
    assert small.called


def test_gate_forgets_the_cancelled():
    """A cancelled wait gives its turn to the next."""
    gate = MemoryGate(10, 10)
    first, second, third = (gate.enter(10, Origin(site)) for site in ("a", "a", "b"))
    second.cancel()
    gate.leave(outcome(first))
    assert third.called
    assert isinstance(outcome(second), CancelledError)
    assert gate.waiting == 0


def test_gate_keeps_half_for_other_sites():
    """Runs under way are bounded per site: who sends many leaves room for the others."""
    gate = MemoryGate(8, 100)
    mine = [gate.enter(1, Origin("stranger")) for _ in range(20)]
    assert sum(turn.called for turn in mine) == 4
    assert all(gate.enter(1, Origin(f"honest{number}")).called for number in range(4))


def test_sites_take_turns_at_the_gate():
    """With the memory used up, one who comes late is let in before the many of another site."""
    gate = MemoryGate(1, 1000)
    running = gate.enter(1, Origin("stranger"))
    crowd = [gate.enter(1, Origin("stranger")) for _ in range(100)]
    honest = [gate.enter(1, Origin(f"honest{number}")) for number in range(3)]
    for _turn in range(4):
        gate.leave(outcome(running))
        running = next(turn for turn in (*honest, *crowd) if turn.called and turn.result)
    assert all(turn.called for turn in honest)
    assert sum(turn.called for turn in crowd) == 1


def test_full_gate_turns_away_the_site_that_fills_it():
    """A stranger's queue does not keep others out: its last place goes to who comes."""
    gate = MemoryGate(1, 10)
    gate.enter(1, Origin("stranger"))
    crowd = [gate.enter(1, Origin("stranger")) for _ in range(10)]
    with pytest.raises(TooManyLogins):
        gate.enter(1, Origin("stranger"))
    honest = [gate.enter(1, Origin(f"honest{number}")) for number in range(5)]
    assert gate.waiting == 10
    assert not any(turn.called for turn in (*honest, *crowd[:5]))
    assert [type(outcome(turn)) for turn in crowd[5:]] == [TooManyLogins] * 5


def test_owners_go_before_strangers_at_the_gate():
    """Where the account has been opened before, an attempt waits for no stranger, however many they are."""
    gate = MemoryGate(1, 300)
    running = gate.enter(1, Origin("stranger"))
    crowd = [gate.enter(1, Origin(f"stranger{number}")) for number in range(300)]
    with pytest.raises(TooManyLogins):
        gate.enter(1, Origin("nobody knows"))
    owners = [gate.enter(1, Origin(f"owner{number}", trusted=True)) for number in range(5)]
    assert gate.waiting == 300
    gate.leave(outcome(running))
    for owner in owners:
        assert owner.called
        gate.leave(outcome(owner))
    assert sum(turn.called for turn in crowd) == 5 + 1, "five have lost their places, one has its turn"


def test_owners_are_bounded_too():
    """A queue full of trusted attempts turns strangers away, and the site that fills it."""
    gate = MemoryGate(1, 4)
    gate.enter(1, Origin("a", trusted=True))
    waiting = [gate.enter(1, Origin("a", trusted=True)) for _ in range(4)]
    for origin in (Origin("b"), Origin("a", trusted=True)):
        with pytest.raises(TooManyLogins):
            gate.enter(1, origin)
    assert not gate.enter(1, Origin("c", trusted=True)).called
    assert type(outcome(waiting[-1])) is TooManyLogins
    assert gate.waiting == 4
