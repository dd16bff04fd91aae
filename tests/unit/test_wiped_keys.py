"""No buffer that has held a master key still holds it when it is not needed any more, however that came."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keys_world import NAME, NOW, PASSWORD, TINY, Later, World, at_once, make_world, outcome
from test_scram_slots import prove
from twisted.internet.defer import CancelledError, Deferred

from backup import drill_login, restore_messages
from deploy import first_run
from deploy.cli.main import main
from mailstore import account, opening, rekeying, unlock
from mailstore.account_database import copied_mail_key
from mailstore.errors import (
    AccountDisabled,
    AccountExists,
    AuthenticationFailed,
    HeaderTampered,
    ScopeDenied,
    StorageFailed,
)
from mailstore.keys import Argon2Params, Scope
from mailstore.model import AccessProtocol
from mailstore.unlock import Unlocked, Unlocker, UnlockLimits

IMAP, POP3 = AccessProtocol.IMAP, AccessProtocol.POP3
STRONGER = Argon2Params(2, 128, 1)


class Held:
    """Every buffer that a master key has been put into. It shows nothing of them when a test fails."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []

    def __repr__(self) -> str:
        return f"<{len(self)} buffers, {self.keys} with keys>"

    def __len__(self) -> int:
        return len(self._buffers)

    def note(self, buffer: bytearray) -> bytearray:
        """A key has just been put into this one."""
        assert any(buffer)
        self._buffers.append(buffer)
        return buffer

    def forget(self, start: int = 0) -> None:
        """Those from here on belong to the test itself."""
        del self._buffers[start:]

    @property
    def keys(self) -> int:
        """How many of them have a key in them."""
        return sum(any(one) for one in self._buffers)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A root with one account."""
    yield from make_world(tmp_path)


@pytest.fixture
def held(world: World, monkeypatch: pytest.MonkeyPatch) -> Held:
    """The buffers since the world was made."""
    found = Held()

    def noting(function: Callable[..., Any], key_of: Callable[[Any], bytearray]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            found.note(key_of(result))
            return result

        return call

    # Out of a keyslot, out of a SCRAM wrap, out of randomness; then whatever is copied from there.
    monkeypatch.setattr(opening, "open_slot", noting(opening.open_slot, lambda master: master))
    monkeypatch.setattr(opening, "open_scram_wrap", noting(opening.open_scram_wrap, lambda door: door.master))
    monkeypatch.setattr(account, "new_master", noting(account.new_master, lambda master: master))
    monkeypatch.setattr(rekeying, "new_master", noting(rekeying.new_master, lambda master: master))
    monkeypatch.setattr(unlock, "bytearray", lambda value: found.note(bytearray(value)), raising=False)
    return found


def unlocker(world: World, run: Any = at_once, params: Argon2Params = TINY) -> Unlocker:
    """An Unlocker with a stopped clock."""
    limits = UnlockLimits(params=params)
    return Unlocker(world.root, world.directory, run, limits=limits, argon2=world.argon2, clock=lambda: NOW)


def login(unlock: Unlocker, secret: bytes = PASSWORD, protocol: AccessProtocol | None = IMAP) -> Any:
    """Start a login."""
    return Deferred.fromCoroutine(unlock.unlock(NAME, secret, protocol))


def app_password(world: World, scope: Scope | None = None) -> str:
    """A new app password; the buffers that this took are the keyring's caller's."""
    return world.keyring().add_app_password("phone", scope or Scope()).printed.text()


def test_a_session_has_one_copy_and_the_account_another(world: World, held: Held) -> None:
    """The one that came out of the keyslot is overwritten as soon as the login is done."""
    unlock = unlocker(world)
    first, second = outcome(login(unlock)), outcome(login(unlock))
    assert isinstance(first, Unlocked) and len(held) == 4
    assert held.keys == 3
    first.wipe()
    assert held.keys == 2
    second.wipe()
    assert held.keys == 0


@pytest.mark.parametrize("protocol", [IMAP, None])
def test_a_login_that_is_refused_leaves_no_key(
    world: World, held: Held, protocol: AccessProtocol | None
) -> None:
    """The secret was right, but not for this."""
    secret = app_password(world, Scope(frozenset({POP3}))).encode()
    held.forget()
    assert type(outcome(login(unlocker(world), secret, protocol))) is ScopeDenied
    assert len(held) == 1 and held.keys == 0


def test_a_login_that_nobody_waits_for_any_more_leaves_no_key(world: World, held: Held) -> None:
    """Its client hung up while Argon2 was running."""
    later = Later()
    waiting = login(unlocker(world, later))
    later.run()
    assert len(later.jobs) == 1
    waiting.cancel()
    later.run_all()
    assert type(outcome(waiting)) is CancelledError
    assert len(held) == 1 and held.keys == 0


@pytest.mark.parametrize("works", [True, False])
def test_a_slot_made_stronger_leaves_no_key(world: World, held: Held, works: bool) -> None:
    """The key is needed a little longer for it, and no longer than that."""
    if not works:
        world.paths.keys_lock.unlink()
        world.paths.keys_lock.mkdir()
    session = outcome(login(unlocker(world, params=STRONGER)))
    assert (world.keyring().slots()[0].params == STRONGER) is works
    session.wipe()
    held.forget(3)  # those of the look at the slots
    assert len(held) == 3 and held.keys == 0


def test_a_login_by_scram_leaves_no_key(world: World, held: Held) -> None:
    """As by a password: the session's copy and the account's are all there is."""
    text = app_password(world)
    unlock = unlocker(world)
    exchange, _ = prove(text, outcome(Deferred.fromCoroutine(unlock.scram_setup(NAME))))
    held.forget()
    session, _ = outcome(Deferred.fromCoroutine(unlock.unlock_by_scram(NAME, exchange, IMAP)))
    assert len(held) == 3 and held.keys == 2
    session.wipe()
    assert held.keys == 0


def test_a_login_by_scram_that_is_refused_leaves_no_key(world: World, held: Held) -> None:
    """The proof was right, but not for this."""
    text = app_password(world, Scope(frozenset({POP3})))
    unlock = unlocker(world)
    exchange, _ = prove(text, outcome(Deferred.fromCoroutine(unlock.scram_setup(NAME))))
    held.forget()
    refused = outcome(Deferred.fromCoroutine(unlock.unlock_by_scram(NAME, exchange, IMAP)))
    assert type(refused) is ScopeDenied
    assert len(held) == 1 and held.keys == 0


@pytest.mark.parametrize("by_scram", [False, True])
@pytest.mark.parametrize("error", [AuthenticationFailed, HeaderTampered, StorageFailed])
def test_an_account_that_changes_during_the_login_leaves_no_key(
    world: World,
    held: Held,
    monkeypatch: pytest.MonkeyPatch,
    by_scram: bool,
    error: type[Exception],
) -> None:
    """Deleted, exchanged or unreadable between the keyslot and the look at what counts now."""
    text = app_password(world)
    unlock = unlocker(world)
    exchange, _ = prove(text, outcome(Deferred.fromCoroutine(unlock.scram_setup(NAME))))
    held.forget()

    def gone(*_args: object) -> None:
        raise error

    monkeypatch.setattr("mailstore.unlock.current", gone)
    scram = unlock.unlock_by_scram(NAME, exchange, IMAP) if by_scram else None
    done = login(unlock) if scram is None else Deferred.fromCoroutine(scram)
    assert type(outcome(done)) is error
    assert len(held) == 1 and held.keys == 0


def test_a_header_that_is_not_authentic_leaves_no_key(world: World, held: Held) -> None:
    """The secret opens the keyslot, and then the header turns out to be somebody else's work."""
    raw = world.paths.keys.read_bytes()
    world.paths.keys.write_bytes(raw.replace(b'"generation": 1', b'"generation": 2'))
    assert type(outcome(login(unlocker(world)))) is HeaderTampered
    assert len(held) == 1 and held.keys == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_look_at_a_running_session_leaves_no_key(
    world: World, held: Held, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The copy that is made for the thread goes when the thread is done."""
    unlock = unlocker(world)
    session = outcome(login(unlock))
    if fails:
        monkeypatch.setattr(type(world.directory), "account", lambda *_args: None)
    answer = outcome(Deferred.fromCoroutine(unlock.recheck(session)))
    assert (type(answer) is AuthenticationFailed) is fails
    assert len(held) == 4 and held.keys == 2
    session.wipe()
    assert held.keys == 0


def test_an_exchanged_master_key_replaces_the_old_one(world: World, held: Held) -> None:
    """While older sessions run, the account's copy is overwritten by the new key, not kept beside it."""
    unlock = unlocker(world)
    old = outcome(login(unlock))
    fresh = bytearray(range(32))
    new = unlock._new_hold(old.record, old.slot_id, old.scope, IMAP, fresh, old.private_key)
    is_replaced = unlock._live[old.account_id].master == fresh
    assert is_replaced
    old.wipe()
    new.wipe()
    assert held.keys == 0


@pytest.mark.parametrize("taken", [False, True])
def test_a_new_account_leaves_no_key(world: World, held: Held, taken: bool) -> None:
    """Whether it could be made or not."""
    wanted = account.NewAccount("ann@example.org", b"another password")
    if taken:
        world.directory.add_account = _refuse  # type: ignore[method-assign]
    try:
        account.create_account(world.root, world.directory, wanted, params=TINY)
    except AccountExists:
        assert taken
    assert len(held) == 1 and held.keys == 0


def _refuse(*_args: object) -> None:
    raise AccountExists


def test_an_owner_who_is_not_let_in_leaves_no_key(world: World, held: Held) -> None:
    """The password was right, and the account is disabled."""
    world.directory.set_disabled(world.record.account_id, True)
    with pytest.raises(AccountDisabled):
        world.open()
    assert len(held) == 1 and held.keys == 0


@pytest.mark.parametrize("secret", [PASSWORD, b"\0"])
def test_a_command_leaves_no_key(world: World, held: Held, secret: bytes) -> None:
    """Also when what it was to do is refused."""
    arguments = ["--data", str(world.root), "account", "passwd", NAME, "--password-stdin"]
    done = CliRunner().invoke(main, arguments, input=io.BytesIO(PASSWORD + b"\n" + secret + b"x\n"))
    assert (done.exit_code == 0) is (secret == PASSWORD)
    assert held and held.keys == 0


@pytest.mark.parametrize("fails", [None, "_new_keys", "_stage", "_exchange"])
def test_a_new_master_key_leaves_neither_it_nor_the_old_one(
    world: World, held: Held, monkeypatch: pytest.MonkeyPatch, fails: str | None
) -> None:
    """Wherever it ends."""
    if fails is not None:
        monkeypatch.setattr(rekeying, fails, _raising)
    with pytest.raises(StorageFailed) if fails is not None else nullcontext():
        rekeying.rekey_account(world.root, world.directory, world.record, PASSWORD, TINY, 0.0)
    assert len(held) >= 2 and held.keys == 0


def _raising(*_arguments: object) -> None:
    raise StorageFailed


def test_a_copied_header_leaves_no_key(world: World, held: Held) -> None:
    """Only the database's key is wanted of it, by the secret of its time."""
    folder = account.account_paths(world.root, world.record.account_id).folder
    copied_mail_key(folder, world.record.account_id, PASSWORD)
    with pytest.raises(AuthenticationFailed):
        copied_mail_key(folder, world.record.account_id, b"\0")
    assert len(held) == 1 and held.keys == 0


def test_the_quick_start_leaves_no_key(tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the account it makes nor of its recovery key."""
    data = tmp_path / "quick"
    account.init_root(data)
    monkeypatch.setattr(first_run, "create_account", _with(account.create_account, params=TINY))
    first_run._make_account(data)
    assert len(held) == 2 and held.keys == 0


def test_restoring_a_mailbox_leaves_no_key(world: World, held: Held) -> None:
    """The master key is gone before the snapshot is fetched."""
    restore_messages.opened_key(world.root, NAME, PASSWORD, TINY)
    assert len(held) == 1 and held.keys == 0


def test_a_drill_leaves_no_key(world: World, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master key is gone before the databases are compared."""
    secret = world.root / "drill"
    secret.write_bytes(PASSWORD + b"\n")
    opens = drill_login.opener(world.root, world.directory, NAME, secret, TINY)
    left: list[int] = []
    monkeypatch.setattr(drill_login, "_differs", lambda *_args: left.append(held.keys))
    assert opens(world.record.account_id, world.root) is None
    assert len(held) == 1 and left == [0]


def _with(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda *args: function(*args, **fixed)
