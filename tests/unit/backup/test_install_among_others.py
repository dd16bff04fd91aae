"""A restore over an account that others use: whom it waits for, and who finishes one that was interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from backup_world import message
from commands_world import CommandsWorld
from living_world import RESTORE_ID, SOMEBODY_INSIDE, Living, inode, killed_with_a_full_log, make_living
from store_world import NAME, World, now

from backup import restore
from backup.errors import AccountInUse
from backup.rebuild import Rebuilt
from backup.segment import PAGE_BYTES
from mailstore import eviction
from mailstore.account import AccountPaths, exclusive_lock, keys_lock, shared_lock
from mailstore.errors import Busy, DatabaseDamaged, StorageFailed
from mailstore.eviction import asked_to_leave, evicted


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Living]:
    """A fresh account."""
    yield from make_living(tmp_path)


def test_the_exchange_waits_for_a_snapshot_under_way(world: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """It copies the files that would be exchanged; when it takes too long, nothing has happened."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    world.settle()
    database = inode(world.paths.mail_db)
    with monkeypatch.context() as patch, shared_lock(world.paths):
        patch.setattr(eviction, "exclusive_lock", partial(exclusive_lock, timeout_s=0.0))
        with pytest.raises(AccountInUse):
            world.install(then)
    assert inode(world.paths.mail_db) == database and not world.paths.restored.exists()
    assert world.inbox() == [b"new", b"old"]
    world.install(then)
    assert world.inbox() == [b"old"]


def test_nobody_comes_in_while_files_are_exchanged(world: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a session nor a snapshot; afterwards both."""
    world.append("old")
    then = world.snapshot()
    seen: list[str] = []

    def watched(function: Callable[..., object], paths: AccountPaths, *others: object) -> object:
        assert asked_to_leave(paths)
        with pytest.raises(Busy), shared_lock(paths, 0.0):
            pass
        with pytest.raises(Busy), keys_lock(paths, 0.0):
            pass  # a password changed at that moment would undo the exchange of the key header
        seen.append(function.__name__)
        return function(paths, *others)

    for name in ("_keep", "_exchange"):
        monkeypatch.setattr(restore, name, partial(watched, getattr(restore, name)))
    world.install(then)
    assert seen == ["_keep", "_exchange"]
    assert not asked_to_leave(world.paths) and not world.paths.leave.exists()
    with keys_lock(world.paths, 0.0), shared_lock(world.paths, 0.0):
        pass


@pytest.mark.parametrize("manner", ["leaves", "stays"])
def test_whoever_is_inside_is_asked_to_leave(world: Living, manner: str) -> None:
    """Another process has the database open: it goes, or nothing happens and it is told to nobody again."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    world.settle()
    database = inode(world.paths.mail_db)
    with subprocess.Popen(
        [sys.executable, "-c", SOMEBODY_INSIDE, str(world.paths.folder), manner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as inside:
        assert inside.stdout is not None and inside.stdout.readline() == b"inside\n"
        if manner == "stays":
            with pytest.raises(AccountInUse):
                world.install(then)
            assert inode(world.paths.mail_db) == database and not world.paths.restored.exists()
        else:
            assert world.install(then, patience_s=60.0) is not None
        assert not world.paths.leave.exists()
        inside.communicate(b"go\n")
    assert world.inbox() == ([b"old"] if manner == "leaves" else [b"new", b"old"])


def test_who_is_inside_an_account_that_lost_its_keys_is_asked_to_leave(world: Living) -> None:
    """A worker may have its database open still."""
    world.append("old")
    then = world.snapshot()
    world.settle()
    database = inode(world.paths.mail_db)
    world.paths.keys.unlink()
    with subprocess.Popen(
        [sys.executable, "-c", SOMEBODY_INSIDE, str(world.paths.folder), "stays"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as inside:
        assert inside.stdout is not None and inside.stdout.readline() == b"inside\n"
        with pytest.raises(AccountInUse):
            world.install(then)
        inside.communicate(b"go\n")
    assert inode(world.paths.mail_db) == database and not world.paths.restored.exists()


def test_an_interrupted_exchange_is_finished_by_the_next(
    world: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept the first time is what was there before any of it."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    world.settle()
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    again = shutil.copytree(folder, world.place / "again")

    def killed(_paths: AccountPaths, fresh: AccountPaths, _rebuilt: Rebuilt) -> None:
        fresh.mail_db.rename(world.paths.mail_db)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(restore, "_exchange", killed)
        world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0)
    kept = world.restorer.install(world.account_id, Path(again), rebuilt, RESTORE_ID, 0.0)
    assert world.inbox() == [b"old"]
    world.settle()
    assert kept is not None and world.subjects(kept) == [b"new", b"old"]


@pytest.mark.parametrize("mark", ["made", "never made"])
@pytest.mark.parametrize("step", ["make_folder", "changing"])
def test_nobody_opens_what_an_interrupted_exchange_has_left(
    world: Living, monkeypatch: pytest.MonkeyPatch, step: str, mark: str
) -> None:
    """It would be the old state without its log, and the next attempt take away what is filed into it."""
    world.append("old")
    then = world.snapshot()
    killed_with_a_full_log(world, "newest")
    if mark == "never made":
        world.paths.made.unlink()  # accounts of earlier versions have none
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))

    def killed(path: Path) -> NoReturn:
        assert path == world.paths.inbox
        raise KeyboardInterrupt

    make_folder = restore.make_folder
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            restore, step, lambda path: killed(path) if path == world.paths.inbox else make_folder(path)
        )
        world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0)
    world.mail.deliver(message("waits"))
    with pytest.raises(DatabaseDamaged):
        world.mail.login()
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    kept = world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID + 1, 0.0)
    assert world.inbox() == [b"old", b"waits"]
    world.settle()
    assert kept is not None and world.subjects(kept) == [b"newest", b"old"]


def test_a_restore_that_was_interrupted_is_finished_without_being_told_to_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that the account is there already while nobody can open it."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    world.append("old")
    world.run("backup", "run")

    def killed(_inbox: Path) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restore, "changing", killed)
        assert world.run("restore", NAME.decode(), "--replace")[0]
    mail = World(world.root)
    mail.deliver(message("waits"))
    mail.close()
    (restored,) = world.answer("restore", NAME.decode())["restored"]
    assert restored["trouble"] is None and not restored["skipped"]
    mail = World(world.root)
    assert now(mail.login().status("INBOX")).messages == 2
    mail.close()


@pytest.mark.parametrize("lost", ["the folder", "the database", "a page", "after the wait"])
def test_what_is_not_whole_in_scratch_replaces_nothing(
    world: Living, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Whoever took it away: the living database is taken away only by a state that had none."""
    world.append("old")
    then = world.snapshot()
    world.append("new")
    world.settle()
    database = inode(world.paths.mail_db)
    folder, rebuilt = world.restorer.rebuild(world.wanted(then))
    match lost:
        case "the folder":
            shutil.rmtree(folder)
        case "the database":
            (folder / "mail.db").unlink()
        case "a page":
            os.truncate(folder / "mail.db", (rebuilt.pages - 1) * PAGE_BYTES)
        case _:

            def waited(paths: AccountPaths, timeout_s: float) -> AbstractContextManager[None]:
                (folder / "mail.db").unlink()
                return evicted(paths, timeout_s)

            monkeypatch.setattr(restore, "evicted", waited)
    with pytest.raises(StorageFailed):
        world.restorer.install(world.account_id, folder, rebuilt, RESTORE_ID, 0.0)
    assert inode(world.paths.mail_db) == database and not world.paths.restored.exists()
    assert world.inbox() == [b"new", b"old"]
