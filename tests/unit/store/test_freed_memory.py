"""What sleeping accounts had in memory goes back to the system."""

from __future__ import annotations

import pytest
from store_world import World

from mailstore import freed_memory
from mailstore.freed_memory import AFTER_S, give_back
from mailstore.limits import StoreLimits


def test_memory_is_given_back_once_for_all_accounts_that_fall_asleep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks through all heaps, which is too much for each of thousands of accounts."""
    given: list[float] = []
    monkeypatch.setattr(freed_memory, "give_back", lambda: given.append(world.clock.seconds()))
    world.login()
    world.clock.advance(StoreLimits().hibernate_after_s - 1)
    given.clear()
    world.clock.advance(2)
    for _ in range(3):
        world.store.freed_memory.soon()
    assert given == []
    world.clock.advance(AFTER_S + 1)
    assert len(given) == 1
    world.clock.advance(AFTER_S + 1)
    assert len(given) == 1


def test_memory_that_logins_took_is_given_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or thousands of sessions that idle would keep it."""
    given: list[float] = []
    monkeypatch.setattr(freed_memory, "give_back", lambda: given.append(world.clock.seconds()))
    for _ in range(3):
        world.login()
    world.clock.advance(AFTER_S)
    assert given == [AFTER_S]


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other C libraries have no such call."""
    monkeypatch.setattr(freed_memory, "_libc", object())
    give_back()
