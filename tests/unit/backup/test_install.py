"""A restore over an account that lives: what it brings back, and what it takes away."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from backup_world import message
from living_world import MAILBOXES, RESTORE_ID, Living, killed_with_a_full_log, make_living
from store_world import World

from backup import rebuild, restore
from backup.errors import ImageUnreadable, NothingToRestore
from mailstore.errors import StorageFailed
from mailstore.inbox_size import waiting_bytes
from mailstore.sealed import pending


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Living]:
    """A fresh account."""
    yield from make_living(tmp_path)


def test_waiting_mail_of_then_that_was_filed_since_comes_back(world: Living) -> None:
    """Its row is in no database of then, so its sealed file has to be there again; what came since stays."""
    world.append("old")
    world.settle()
    world.mail.deliver(message("waited"))
    then = world.snapshot()
    world.append("new")
    assert pending(world.paths.inbox) == []
    world.settle()
    world.mail.deliver(message("waits"))
    waiting_bytes(world.paths.inbox)  # counted once, and kept from then on
    world.install(then)
    assert len(pending(world.paths.inbox)) == 2
    assert waiting_bytes(world.paths.inbox) == sum(
        path.stat().st_size for path in world.paths.inbox.iterdir()
    )
    assert world.inbox() == [b"old", b"waited", b"waits"]
    assert pending(world.paths.inbox) == []


def test_mail_that_waits_now_as_it_did_then_comes_once(world: Living) -> None:
    """The same file is in both."""
    world.mail.deliver(message("waits"))
    then = world.snapshot()
    world.install(then)
    assert world.inbox() == [b"waits"]


def test_nothing_of_the_old_database_meets_the_restored_one(world: Living) -> None:
    """Log, shared memory, notes of checkpoints and search index: also those that kill -9 has left."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    world.settle()
    assert world.paths.page_journal.stat().st_size, "the checkpoint has left its notes"
    killed_with_a_full_log(world, "newest")
    for path in world.paths.search_db_files:
        path.write_bytes(b"an index of what there is no more")
    world.install(then)
    left = {path.name for path in world.paths.folder.iterdir()}
    old = (
        world.paths.wal,
        world.paths.folder / "mail.db-shm",
        world.paths.page_journal,
        *world.paths.search_db_files,
    )
    assert left.isdisjoint(path.name for path in old)
    assert world.inbox() == [b"old"]
    world.append("after")
    assert world.inbox() == [b"after", b"old"]


@pytest.mark.parametrize("work", ["begun anew", "gone on with"])
def test_nothing_that_lies_in_scratch_comes_along(world: Living, work: str) -> None:
    """The account's folder is lost, and this one takes its place: without log or index of another state."""
    world.append("one")
    first = world.snapshot()
    world.append("two")
    then = world.snapshot()
    planted = killed_with_a_full_log(world, "future")
    world.settle()
    shutil.rmtree(world.paths.folder)
    folder = world.place / "scratch" / world.account_id
    if work == "gone on with":
        _, applied = world.restorer.rebuild(world.wanted(first))
        rebuild._note_progress(folder, applied)
    else:
        folder.mkdir()
        (folder / "mail.db").write_bytes(planted["mail.db"])
    for name in ("mail.db-wal", "mail.db-shm"):
        (folder / name).write_bytes(planted[name])
    (folder / "search.db").write_bytes(b"an index of another state")
    (folder / "inbox").mkdir(exist_ok=True)
    rebuilt_folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    assert rebuilt_folder == folder
    assert {path.name for path in folder.iterdir()} == {"mail.db", "keys", "inbox"}
    assert world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0) is None
    assert world.inbox() == [b"one", b"two"]


def test_what_is_replaced_is_kept_whole(world: Living) -> None:
    """With its log, without which kill -9 would have cost what was committed last, and with its keys."""
    world.append("old")
    then = world.snapshot()
    content = killed_with_a_full_log(world, "new")
    keys = world.paths.keys.read_bytes()
    world.settle()
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    kept = world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0)
    assert kept == world.place / "root" / "replaced" / f"{world.account_id}-{RESTORE_ID:014x}"
    found = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert found == {"keys": keys, "mail.db": content["mail.db"], "mail.db-wal": content["mail.db-wal"]}
    assert world.inbox() == [b"old"]
    assert world.subjects(kept) == [b"new", b"old"]


def test_a_state_before_the_first_login_takes_todays_database_away(world: Living) -> None:
    """It had none; the next snapshot says so, too, and is no trouble."""
    world.mail.deliver(message("waited"))
    then = world.snapshot()
    world.append("today")
    world.snapshot()
    kept = world.install(then)
    assert not world.paths.mail_db.exists()
    after = world.snapshot()
    folder, rebuilt = world.rebuild(after.name)
    assert rebuilt.pages == 0 and rebuilt.waiting_mail == 1 and not (folder / "mail.db").exists()
    assert world.inbox() == [b"waited"]
    world.settle()
    assert kept is not None and world.subjects(kept) == [b"today", b"waited"]


def test_a_database_that_vanishes_after_a_restore_is_not_taken_for_restored_away(world: Living) -> None:
    """Nobody has logged in since, but the restore brought one: a snapshot without it would be no good."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    world.install(then)
    world.snapshot()
    world.settle()
    world.paths.mail_db.unlink()
    with pytest.raises(ImageUnreadable, match="gone"):
        world.take()


def test_every_mailbox_gets_a_new_uidvalidity_once(world: Living) -> None:
    """No client may trust a UID that it saw in the lost future."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    before = world.validities()
    world.install(then)
    assert world.paths.restored.exists()
    after = world.validities()
    assert all(after[name] > before[name] for name in MAILBOXES)
    assert not world.paths.restored.exists()
    world.settle()
    assert world.validities() == after


def test_an_account_that_lost_its_keys_loses_no_mail(world: Living) -> None:
    """Its database and the log, which hold what no snapshot has, are kept; what waits is filed."""
    world.append("old")
    then = world.snapshot()
    content = killed_with_a_full_log(world, "newest")
    world.mail.deliver(message("waits"))
    world.paths.keys.unlink()
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    kept = world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0)
    assert kept is not None
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        name: content[name] for name in ("mail.db", "mail.db-wal")
    }
    assert world.inbox() == [b"old", b"waits"]
    assert world.subjects(kept) == [b"newest", b"old"]


def test_half_of_a_deleted_account_is_no_obstacle(world: Living) -> None:
    """Whatever is left of it: its inbox may be gone, too, and there may be nothing to keep."""
    world.append("old")
    then = world.snapshot()
    world.settle()
    for path in (world.paths.keys, world.paths.mail_db, world.paths.lock):
        path.unlink()
    world.paths.inbox.rmdir()
    assert world.install(then) is None
    assert not (world.place / "root" / "replaced").exists()
    assert world.inbox() == [b"old"]
    world.settle()
    world.mail.deliver(message("after"))
    assert world.inbox() == [b"after", b"old"]


def test_what_comes_back_is_its_owners_alone(world: Living) -> None:
    """Whatever the umask of whoever restores."""
    world.append("one")
    then = world.snapshot()
    before = os.umask(0)
    try:
        world.install(then)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in world.paths.folder.iterdir()}
    assert modes["mail.db"] == modes["keys"] == 0o600
    assert not any(mode & 0o077 for mode in modes.values())


def test_a_disk_that_fails_where_there_was_no_account_is_named(
    world: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there was one; nothing stays behind but what the next try goes on with."""
    world.append("one")
    then = world.snapshot()
    world.settle()
    shutil.rmtree(world.paths.folder)

    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if target == world.paths.folder:
            raise OSError(errno.EIO, "")
        return rename(path, target)

    with monkeypatch.context() as failing:
        failing.setattr(Path, "rename", fails)
        with pytest.raises(StorageFailed):
            world.install(then)
    world.install(then)
    assert world.subjects(world.paths.folder) == [b"one"]


def test_a_disk_that_fails_while_one_looks_for_a_restore(
    world: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the store's name for it."""

    def fails(_: Path) -> NoReturn:
        raise OSError(errno.EIO, "")

    with monkeypatch.context() as failing:
        failing.setattr(Path, "exists", fails)
        with pytest.raises(StorageFailed):
            restore.is_half_restored(world.paths)


def test_scratch_is_empty_afterwards(world: Living) -> None:
    """After rebuilding the account alone is there, no object any more; after installing nothing."""
    world.append("one")
    world.snapshot()
    world.append("two")
    then = world.snapshot()
    world.settle()
    scratch = world.place / "scratch"
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    assert list(scratch.iterdir()) == [folder]
    world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("segments", [1, 3])
def test_no_sound_state_is_said_to_be_none(world: Living, segments: int) -> None:
    """However many there are, when nothing of any can be used."""
    for number in range(segments):
        world.append(f"m{number}")
        then = world.snapshot()
    for path in (world.place / "objects").glob("*/*"):
        path.write_bytes(b"damaged".ljust(path.stat().st_size))
    with pytest.raises(NothingToRestore, match="no state of this account is sound"):
        world.restorer.rebuild(world.wanted(then, newest=True), newest_sound=True)


def test_the_worlds_account_can_be_opened_by_the_next_server(world: Living) -> None:
    """After a restore nothing but the folder is needed."""
    world.append("old")
    then = world.snapshot()
    world.install(then)
    world.mail.close()
    world.mail = World(world.place / "root")
    assert world.inbox() == [b"old"]
