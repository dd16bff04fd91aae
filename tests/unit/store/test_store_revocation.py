"""A secret that is revoked, disabled or at its end opens nothing and keeps nothing open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_world import NAME, TINY, World

from mailstore.directory import AccountRecord
from mailstore.errors import AccountDisabled, AuthenticationFailed, Busy, ScopeDenied, StorageFailed
from mailstore.keyring import Keyring
from mailstore.keys import AccountId, Scope
from mailstore.keyslot_watch import RECHECK_RETRY_S
from mailstore.opening import open_as_owner
from mailstore.store import Account
from mailstore.unlock import Unlocker


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A store with one account."""
    world = World(tmp_path)
    yield world
    world.close()


def keyring(world: World, secret: bytes = b"correct horse battery staple") -> Keyring:
    """The account's keyslots."""
    opened = open_as_owner(world.root, world.directory, NAME.decode(), secret, now=time.time(), params=TINY)
    return Keyring(world.root, world.directory, opened.record.account_id, opened.master, TINY)


def closing(account: Account) -> list[Account]:
    """Collects the account when its session is ended."""
    told: list[Account] = []
    account.on_closed(lambda: told.append(account))
    return told


def test_a_session_that_has_ended_before_anybody_listens_says_so(world: World) -> None:
    """A login goes on for a while after the account is open; what closes it then is not lost."""
    account = world.login()
    account.closed_by_store()
    assert closing(account) == [account]
    account.release()


def look_again(world: World) -> None:
    """Somebody has touched the directory: all sessions are checked."""
    world.store.watcher.callbacks[world.root](frozenset({"directory.db"}))  # type: ignore[attr-defined]


def test_a_check_in_the_middle_of_a_key_change_ends_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header is newer than the directory knows, or both change just before or behind a look at one."""
    account, ring = world.login(), keyring(world)
    told = closing(account)
    advance, read = world.directory.advance_header_generation, world.directory.account

    def between(account_id: AccountId, generation: int) -> None:
        look_again(world)
        advance(account_id, generation)
        look_again(world)

    with monkeypatch.context() as patch:
        patch.setattr(world.directory, "advance_header_generation", between)
        ring.add_app_password("phone", Scope())

    def changed_twice(account_id: AccountId) -> AccountRecord | None:
        monkeypatch.setattr(world.directory, "account", read)
        ring.add_app_password("tablet", Scope())
        found = read(account_id)
        ring.add_app_password("watch", Scope())
        return found

    monkeypatch.setattr(world.directory, "account", changed_twice)
    look_again(world)
    assert len(ring.slots()) == 4
    assert told == []
    account.release()


@pytest.mark.parametrize("harm", ["revoked", "disabled"])
def test_revoked_while_the_login_is_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """What changes between the check of a secret and the beginning of its session ends the session."""
    ring = keyring(world)
    made = ring.add_app_password("phone", Scope())
    opened = world.store._opened

    async def change_meanwhile(unlocked: Any) -> Any:
        found = await opened(unlocked)
        if harm == "revoked":
            ring.revoke(made.slot.id)
        else:
            world.directory.set_disabled(unlocked.account_id, True)
        return found

    monkeypatch.setattr(world.store, "_opened", change_meanwhile)
    with pytest.raises(AuthenticationFailed if harm == "revoked" else AccountDisabled):
        world.login(made.printed.text().encode())
    assert all(not one.keyslots.sessions for one in world.store._open.values())


def test_an_app_password_ends_its_sessions_on_its_last_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end date holds for sessions that run, and for those alone that use the secret."""
    end = int(time.time()) + 3 * 3600
    text = keyring(world).add_app_password("guest", Scope(not_after=end)).printed.text().encode()
    owner, guest = world.login(), world.login(text)
    told, others = closing(guest), closing(owner)
    world.clock.advance(3 * 3600 + 10)
    assert told == [], "the clock of the scheduler is not the clock on the wall"
    clock: Callable[[], float] = lambda: end + 2.0  # noqa: E731  # replaces time.time
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(world.store._unlocker, "_clock", clock)
    world.clock.advance(3601)
    assert told == [guest]
    assert others == []
    with pytest.raises(ScopeDenied):
        world.login(text)


@pytest.mark.parametrize("error", [Busy, StorageFailed])
def test_a_session_that_cannot_be_checked_spares_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """One failing look at the keyslots leaves none of the others unchecked, and is made up for."""
    ring = keyring(world)
    made = [ring.add_app_password(f"device {number}", Scope()) for number in range(5)]
    accounts = [world.login(one.printed.text().encode()) for one in made]
    told = [closing(account) for account in accounts]
    for one in made:
        ring.revoke(one.slot.id)
    recheck = Unlocker.recheck
    failed: list[str] = []

    async def failing_once(self: Unlocker, unlocked: Any) -> None:
        if not failed:
            failed.append(unlocked.slot_id)
            raise error
        await recheck(self, unlocked)

    monkeypatch.setattr(Unlocker, "recheck", failing_once)
    world.store.watcher.callbacks[world.paths.folder](frozenset({"keys"}))  # type: ignore[attr-defined]
    assert sum(map(len, told)) == 4
    world.clock.advance(2)
    assert sum(map(len, told)) == 5


def test_a_login_does_not_put_off_the_check_that_is_made_up_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expiring secret is looked at again in an hour; a revoked one that could not be read, in a second."""
    ring = keyring(world)
    revoked = ring.add_app_password("phone", Scope())
    expiring = ring.add_app_password("guest", Scope(not_after=int(time.time()) + 3 * 3600))
    told = closing(world.login(revoked.printed.text().encode()))
    ring.revoke(revoked.slot.id)

    async def busy(_self: Unlocker, _unlocked: Any) -> None:
        raise Busy

    with monkeypatch.context() as patch:
        patch.setattr(Unlocker, "recheck", busy)
        look_again(world)
    world.login(expiring.printed.text().encode())
    assert told == []
    world.clock.advance(RECHECK_RETRY_S)
    assert len(told) == 1
