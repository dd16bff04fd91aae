"""A change of the keys that ends half way: the old ones count or the new ones, and no mail is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rekey_world import MESSAGE, RekeyWorld, make_world, opened_by, staged
from store_world import PASSWORD

from mailstore import account, rekeying
from mailstore.account import destroy_account
from mailstore.account_database import account_database
from mailstore.durable import replace_file
from mailstore.errors import (
    Busy,
    HeaderTampered,
    OutcomeUnknown,
    StorageFailed,
)
from mailstore.rewriting import vacuum
from mailstore.staged_keys import is_staged, settle


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RekeyWorld]:
    """See ``RekeyWorld``."""
    yield from make_world(tmp_path)


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
