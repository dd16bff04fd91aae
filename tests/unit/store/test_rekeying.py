"""A new master key: all mail is there as it was, and nothing that was readable with the old key opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rekey_world import MESSAGE, RekeyWorld, files, make_world, opened_by, staged
from store_world import NAME, PASSWORD, TINY, now

from mailstore import rekeying
from mailstore.account_database import account_database, mail_key, search_key
from mailstore.engine import open_connection
from mailstore.errors import (
    AccountClosed,
    AuthenticationFailed,
    DatabaseDamaged,
    HeaderTampered,
    KeysChanged,
    NoSuchInvitation,
    SealedMessageDamaged,
    StorageFailed,
    StorageFull,
)
from mailstore.former_key import waiting_messages
from mailstore.invitation_files import invitations
from mailstore.invitations import Place, join, withdraw
from mailstore.keyring import Keyring
from mailstore.keys import Scope, argon2id, read_header
from mailstore.model import AccessProtocol
from mailstore.opening import prepare
from mailstore.rekeying import KeyslotsChanged, NotThePassword
from mailstore.rewriting import NoRoomToRewrite, vacuum
from mailstore.sealed import open_sealed, read_sealed
from mailstore.staged_keys import header_now
from mailstore.unlock import _prove


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RekeyWorld]:
    """See ``RekeyWorld``."""
    yield from make_world(tmp_path)


def test_everything_is_as_it_was_and_the_password_opens_it(world: RekeyWorld) -> None:
    """Mail, UIDs, flags, annotations, numbers of rows; UIDVALIDITY too, so no client fetches all again."""
    before = world.contents()
    assert world.paths.search_db.exists()
    done = world.rekey()
    assert not any(path.exists() for path in world.paths.search_db_files), "it is under the old key"
    assert world.contents() == before
    assert done.is_finished and done.size_bytes == world.paths.mail_db.stat().st_size
    assert world.paths.mail_db.stat().st_mode & 0o777 == 0o600
    assert not staged(world.paths) and not world.paths.leave.exists()
    assert len(world.subjects()) == 4


def test_every_other_secret_is_refused_afterwards(world: RekeyWorld) -> None:
    """App passwords, the recovery key, links: what is revoked is named, and a new recovery key made."""
    done = world.rekey()
    assert (done.revoked, done.invitations) == (("phone",), 1)
    for secret in (world.app_password, world.recovery_key):
        with pytest.raises(AuthenticationFailed):
            opened_by(world, secret)
    assert not invitations(world.root)
    with pytest.raises(AuthenticationFailed):
        join(Place(world.root, world.directory), world.link)
    with pytest.raises(NoSuchInvitation):
        withdraw(world.root, world.link.id)
    assert done.recovery_key is not None
    opened_by(world, done.recovery_key.text().encode())


def test_an_account_without_a_recovery_key_gets_none(tmp_path: Path) -> None:
    """Nor one without a database, which nobody has logged in to yet, a database."""
    fresh = RekeyWorld(tmp_path / "root")
    fresh.deliver(MESSAGE % (1, 1))
    done = fresh.rekey()
    assert (done.recovery_key, done.revoked, done.size_bytes) == (None, (), 0)
    assert not fresh.paths.mail_db.exists()
    assert fresh.subjects() == ["1"]
    fresh.close()


def test_the_old_master_key_opens_nothing_that_is_on_the_disk(world: RekeyWorld) -> None:
    """Whoever has copied the memory, or a laptop with an app password in it, reads nothing from now on."""
    world.deliver(MESSAGE % (5, 5))  # waits, sealed to the old key
    old = read_header(world.paths.folder).header
    world.rekey()
    new = read_header(world.paths.folder).header
    assert old.scram.salt != new.scram.salt and old.public_key != new.public_key
    world.file_waiting()
    world.deliver(MESSAGE % (6, 6))
    session = world.login()
    world.settle()
    world.deliver(MESSAGE % (7, 7))
    master, private_key = world.old_master, world.old_private_key
    looked_at = 0
    for path in world.root.rglob("*"):
        if not path.is_file() or path.suffix in (".lock",):
            continue
        looked_at += 1
        raw = path.read_bytes()
        for key in (mail_key(master), search_key(master)):
            assert not raw.startswith(key.salt), path.name
        assert world.app_password not in raw
        if path.name.startswith("keys"):
            with pytest.raises(HeaderTampered):
                read_header(path.parent, name=path.name).verify(master)
    for sealed_id in waiting_messages(world.paths.inbox):
        with pytest.raises(SealedMessageDamaged):
            open_sealed(private_key, world.account_id, sealed_id, read_sealed(world.paths.inbox, sealed_id))
    assert looked_at > 5
    copy = world.root / "copy.db"
    copy.write_bytes(world.paths.mail_db.read_bytes())
    with pytest.raises(DatabaseDamaged):
        open_connection(copy, mail_key(master))
    session.release()


def test_a_wrong_secret_and_the_recovery_key_change_nothing(world: RekeyWorld) -> None:
    """Neither a file nor the directory."""
    before, record = files(world.root), world.directory.accounts()[0]
    for secret, error in (
        (b"wrong", AuthenticationFailed),
        (world.app_password, AuthenticationFailed),
        (world.recovery_key, NotThePassword),
    ):
        with pytest.raises(error):
            world.rekey(secret)
    assert files(world.root) == before and world.directory.accounts()[0] == record


@pytest.mark.parametrize("step", ["no room", "another copy", "a log", "the key", "the header", "directory"])
def test_what_fails_on_the_way_leaves_the_old_keys(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """And nothing beside them: not a copy of the mail, nor a key."""
    before, header = world.contents(), world.paths.keys.read_bytes()

    def full(*_arguments: object, **_more: object) -> None:
        raise StorageFull

    def no_room(_paths: object) -> None:
        raise NoRoomToRewrite(5)

    def differs(*_databases: object) -> None:
        raise StorageFailed

    match step:
        case "no room":
            monkeypatch.setattr(rekeying, "require_room_for_a_copy", no_room)
        case "another copy":
            monkeypatch.setattr(rekeying, "require_equal", differs)
        case "a log":
            monkeypatch.setattr(rekeying, "log_bytes", lambda _path: 1)
        case "the key":
            monkeypatch.setattr(rekeying, "replace_file", full)
        case "the header":
            monkeypatch.setattr(rekeying, "write_header", full)
        case "directory":
            monkeypatch.setattr(type(world.directory), "set_header", full)
    with pytest.raises((NoRoomToRewrite, StorageFailed, StorageFull)):
        world.rekey()
    assert world.paths.keys.read_bytes() == header and not staged(world.paths)
    assert world.contents() == before
    opened_by(world, world.app_password)


def test_a_damaged_database_keeps_its_keys(world: RekeyWorld) -> None:
    """What is left might be taken for all."""
    whole = bytearray(world.paths.mail_db.read_bytes())
    for page in range(20, len(whole) // 4096, 3):
        whole[page * 4096 + 100] ^= 1
    world.paths.mail_db.write_bytes(whole)
    header = world.paths.keys.read_bytes()
    with pytest.raises(DatabaseDamaged):
        world.rekey()
    assert world.paths.mail_db.read_bytes() == whole and world.paths.keys.read_bytes() == header
    assert not staged(world.paths)
    world.paths.mail_db.unlink()
    with pytest.raises(DatabaseDamaged):
        world.rekey()


def test_of_two_at_once_one_is_told_to_try_again(world: RekeyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the lock meanwhile finds other keys than those it was let in by."""
    make = rekeying._new_keys
    won: list[object] = []

    def overtaken(*arguments):
        if not won:
            won.append(None)
            won.append(world.rekey())
        return make(*arguments)

    monkeypatch.setattr(rekeying, "_new_keys", overtaken)
    with pytest.raises(KeysChanged):
        world.rekey()
    assert not staged(world.paths)
    opened_by(world, won[1].recovery_key.text().encode())


def test_keyslots_that_came_meanwhile_are_not_lost_silently(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody adds an app password between the password and the lock: they would not be named."""
    make = rekeying._new_keys

    def late(*arguments):
        with world.owned() as (_, keyring):
            keyring.add_app_password("late", keyring.slots()[0].scope)
        return make(*arguments)

    monkeypatch.setattr(rekeying, "_new_keys", late)
    with pytest.raises(KeyslotsChanged):
        world.rekey()


def test_who_has_opened_the_account_before_is_to_try_again(
    world: RekeyWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Commands that were let in by the old key: neither header nor database is said to be damaged."""
    record, old_key = world.directory.accounts()[0], world.key()
    old = Keyring(
        *(world.root, world.directory, record.account_id, bytearray(world.old_master), TINY),
        public_key=record.public_key,
    )
    world.rekey()
    with pytest.raises(KeysChanged):
        old.add_app_password("late", Scope())
    with pytest.raises(KeysChanged):
        vacuum(world.paths, old_key, 0.0, record.public_key)
    with pytest.raises(KeysChanged), account_database(world.paths, old_key, public_key=record.public_key):
        pass
    assert "damaged" not in caplog.text


def test_a_login_that_was_under_way_is_to_try_again(world: RekeyWorld) -> None:
    """It has proven the old keyslot: the header is not damaged, and nobody is told so."""
    attempt = prepare(world.root, world.directory, NAME, PASSWORD, TINY)
    world.rekey()
    with pytest.raises(KeysChanged):
        _prove(world.root, world.directory, attempt, argon2id)


def test_a_record_that_is_older_than_the_header_is_read_again(world: RekeyWorld) -> None:
    """Between the two everything may have been exchanged."""
    old = world.directory.accounts()[0]
    world.rekey()
    record, signed = header_now(world.root, world.directory, old)
    assert record.public_key == signed.header.public_key != old.public_key


def test_a_sleeping_session_ends_instead_of_calling_the_database_damaged(
    world: RekeyWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the old key in memory, and no file open that would have been waited for."""
    session = world.login()
    ended: list[None] = []
    session.on_closed(lambda: ended.append(None))
    for _ in range(4):
        world.clock.advance(world.store.limits.hibernate_after_s / 2)
    assert world.store.awake_accounts == 0
    world.rekey()
    with pytest.raises(AccountClosed):
        now(session.list_mailboxes())
    assert ended and "damaged" not in caplog.text
    assert len(world.subjects()) == 4


def test_whoever_was_let_in_before_finds_a_busy_account(world: RekeyWorld) -> None:
    """Not a damaged one, and not an empty one."""
    unlocked = now(world.store._unlocker.unlock(NAME, PASSWORD, AccessProtocol.IMAP))
    world.rekey()
    with pytest.raises(KeysChanged):
        now(world.store._session(unlocked))
    assert len(world.subjects()) == 4
