"""A new master key: all mail is there as it was, and nothing that was readable with the old key opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rekey_world import MESSAGE, RekeyWorld, files, opened_by, staged
from store_world import NAME, PASSWORD, TINY, now

from mailstore import account, rekeying
from mailstore.account import destroy_account
from mailstore.account_database import account_database, mail_key, search_key
from mailstore.backlog import sealed_everywhere
from mailstore.durable import replace_file
from mailstore.engine import open_connection
from mailstore.errors import (
    AccountClosed,
    AuthenticationFailed,
    Busy,
    DatabaseDamaged,
    HeaderTampered,
    KeysChanged,
    NoSuchInvitation,
    OutcomeUnknown,
    SealedMessageDamaged,
    StorageFailed,
    StorageFull,
)
from mailstore.former_key import former_key_id, open_former_keys, seal_former_keys, waiting_messages
from mailstore.inbox_size import waiting_bytes
from mailstore.invitation_files import invitations
from mailstore.invitations import Place, join, withdraw
from mailstore.keyring import Keyring
from mailstore.keys import Scope, argon2id, new_private_key, read_header
from mailstore.model import AccessProtocol
from mailstore.opening import prepare
from mailstore.rekeying import KeyslotsChanged, NotThePassword
from mailstore.rewriting import NoRoomToRewrite, vacuum
from mailstore.sealed import open_sealed, pending, read_sealed
from mailstore.staged_keys import header_now, is_staged, settle
from mailstore.unlock import _prove


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RekeyWorld]:
    """See ``RekeyWorld``."""
    made = RekeyWorld(tmp_path / "root")
    made.fill()
    yield made
    made.close()


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


def test_the_old_private_key_goes_when_no_mail_needs_it_any_more(world: RekeyWorld) -> None:
    """It lies in the inbox, sealed to the new key; with the mail that waits for it, it is filed and gone."""
    world.deliver(MESSAGE % (5, 5))
    world.rekey()
    first, message = pending(world.paths.inbox)
    record = world.directory.accounts()[0]
    assert first == former_key_id(record.public_key) and first < message
    with pytest.raises(SealedMessageDamaged):
        open_former_keys(
            world.old_private_key, world.account_id, first, read_sealed(world.paths.inbox, first)
        )
    backlog = sealed_everywhere(world.root)
    assert (backlog.messages, backlog.accounts) == (1, 1) and (backlog.oldest_s or 0) > 1_000_000_000
    assert world.subjects() == ["0", "1", "2", "3", "5"]
    world.file_waiting()
    assert pending(world.paths.inbox) == [first] and waiting_messages(world.paths.inbox) == []
    world.age_former_keys()
    opened_by(world, PASSWORD)
    assert pending(world.paths.inbox) == [] and sealed_everywhere(world.root).oldest_s is None
    assert not list(world.paths.inbox.iterdir())


def test_mail_that_waits_over_two_changes_is_filed(world: RekeyWorld) -> None:
    """The second takes the private key of before the first along, and the first's copy is useless then."""
    assert waiting_bytes(world.paths.inbox) == 0  # from here on it is kept up to date
    world.deliver(MESSAGE % (5, 5))
    world.rekey()
    world.deliver(MESSAGE % (6, 6))
    world.rekey()
    world.deliver(MESSAGE % (7, 7))
    assert len(pending(world.paths.inbox)) == 4, "one file of former keys"
    sizes = [path.stat().st_size for path in world.paths.inbox.iterdir()]
    assert waiting_bytes(world.paths.inbox) == sum(sizes)
    assert world.subjects() == ["0", "1", "2", "3", "5", "6", "7"]
    world.age_former_keys()
    opened_by(world, PASSWORD)
    assert list(world.paths.inbox.iterdir()) == []


def test_sealed_keys_that_are_none_are_refused(world: RekeyWorld) -> None:
    """Empty, cut, or something else in their place."""
    with world.owned() as (owner, _):
        own, public = owner.private_key, owner.record.public_key
    sealed_id = former_key_id(public)
    for keys in ([], [b"x" * 95]):
        blob = seal_former_keys(public, world.account_id, keys)
        with pytest.raises(SealedMessageDamaged):
            open_former_keys(own, world.account_id, sealed_id, blob)
    with pytest.raises(SealedMessageDamaged):
        open_former_keys(own, world.account_id, sealed_id, b"no")
    raw = new_private_key()
    blob = seal_former_keys(public, world.account_id, [raw])
    assert open_former_keys(own, world.account_id, sealed_id, blob) == [raw]


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


def test_deleting_the_account_destroys_new_keys_that_wait(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They open the account as well."""
    interrupt(world, monkeypatch, "settle_alone")
    seen: list[str] = []
    shred = account.shred
    monkeypatch.setattr(account, "shred", lambda path: (seen.append(path.name), shred(path)))
    destroy_account(world.root, world.directory, world.account_id)
    assert seen == ["keys-new", "keys"]


class Killed(BaseException):
    """The process ends here."""


def interrupt(world: RekeyWorld, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Begin, and end right before a step that is called so."""

    def killed(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if before == "set_header":
            patch.setattr(type(world.directory), before, killed)
        else:
            real, calls = getattr(rekeying, before), []
            # The first call is about what an earlier run may have left.
            patch.setattr(rekeying, before, lambda *one: killed() if calls else (calls.append(1), real(*one)))
        with pytest.raises(Killed):
            world.rekey()
    assert is_staged(world.paths)


@pytest.mark.parametrize(("before", "is_new"), [("set_header", False), ("settle_alone", True)])
def test_the_next_login_finishes_or_undoes_what_was_interrupted(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch, before: str, is_new: bool
) -> None:
    """As the directory says: it is told in one step, and before that nothing counts."""
    contents = world.contents()
    world.deliver(MESSAGE % (5, 5))
    interrupt(world, monkeypatch, before)
    world.deliver(MESSAGE % (6, 6))
    assert world.subjects() == ["0", "1", "2", "3", "5", "6"]
    assert not staged(world.paths)
    with world.owned() as (owner, keyring):
        assert (bytes(owner.master) != world.old_master) is is_new
        assert len(keyring.slots()) == (2 if is_new else 3)
    assert {name: one for name, one in world.contents().items() if name == "annotation"} == {
        "annotation": contents["annotation"]
    }
    assert world.rekey().is_finished


def test_nobody_opens_or_throws_away_a_database_whose_new_keys_wait(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the copy lacks would be lost, and so would the copy."""
    old_key = world.key()
    interrupt(world, monkeypatch, "settle_alone")
    assert world.paths.rewritten.exists()
    with pytest.raises(Busy):
        vacuum(world.paths, old_key, 0.0)
    with pytest.raises(Busy), account_database(world.paths, old_key):
        pass
    assert world.paths.rewritten.exists()
    settle(world.root, world.directory, world.account_id, 0.0)
    assert not staged(world.paths) and len(world.subjects()) == 4


def test_a_new_header_that_is_damaged_is_thrown_away_while_the_old_keys_count(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has lost a block of it."""
    interrupt(world, monkeypatch, "set_header")
    replace_file(world.paths.folder / "keys-new", b"damaged")
    assert len(world.subjects()) == 4 and not staged(world.paths)


def test_nothing_is_thrown_away_that_may_be_the_only_copy(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is one of before, and the database is under the new key already: a human has to look."""
    record = world.directory.accounts()[0]
    interrupt(world, monkeypatch, "settle_alone")
    world.paths.rewritten.rename(world.paths.mail_db)
    world.directory.set_header(world.account_id, record.public_key, record.header_generation)
    with pytest.raises(HeaderTampered):
        opened_by(world, PASSWORD)
    assert (world.paths.folder / "keys-new").exists()


def test_a_commit_that_only_looked_like_a_failure_counts(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory has the new key although the disk complained: undoing it would lose the account."""
    real = type(world.directory).set_header

    def done_and_failed(*arguments: object) -> None:
        real(*arguments)
        raise StorageFailed

    monkeypatch.setattr(type(world.directory), "set_header", done_and_failed)
    done = world.rekey()
    assert done.is_finished and done.recovery_key is not None
    opened_by(world, done.recovery_key.text().encode())


def test_new_keys_stay_while_nobody_knows_whether_they_count(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to PostgreSQL is lost in the COMMIT, which ends after everybody has looked."""
    kind, under_way = type(world.directory), []

    def lost(*arguments: object) -> None:
        under_way.append(arguments)
        raise OutcomeUnknown

    def locked(*_arguments: object) -> None:
        if under_way:
            raise Busy

    real = kind.set_header
    with monkeypatch.context() as patch:
        patch.setattr(kind, "set_header", lost)
        patch.setattr(kind, "settled_account", locked)
        with pytest.raises(OutcomeUnknown):
            world.rekey()
        with pytest.raises(Busy):
            settle(world.root, world.directory, world.account_id, 0.0)
        assert staged(world.paths) == {"keys-new", "former-key", "mail.db-new"}
    real(*under_way[0])
    assert world.subjects() == ["0", "1", "2", "3"]
    assert not staged(world.paths)


@pytest.mark.parametrize("happened", [True, False])
def test_an_answer_that_was_lost_is_asked_for_again(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """If the new keys count, the command shows the new recovery key: nobody else will ever know it."""
    kind = type(world.directory)
    real = kind.set_header

    def lost(*arguments: object) -> None:
        if happened:
            real(*arguments)
        raise OutcomeUnknown

    with monkeypatch.context() as patch:
        patch.setattr(kind, "set_header", lost)
        if happened:
            done = world.rekey()
            assert done.is_finished and done.recovery_key is not None
        else:
            with pytest.raises(OutcomeUnknown):
                world.rekey()
    assert not staged(world.paths) and world.subjects() == ["0", "1", "2", "3"]


def test_a_failure_after_the_commit_is_no_failure(world: RekeyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new recovery key is shown all the same: nobody else will ever know it."""
    real, calls = rekeying.settle_alone, []

    def fails_at_last(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise StorageFailed
        real(*arguments)

    monkeypatch.setattr(rekeying, "settle_alone", fails_at_last)
    done = world.rekey()
    assert not done.is_finished and done.recovery_key is not None
    opened_by(world, done.recovery_key.text().encode())
    assert not staged(world.paths)
