"""A snapshot of a damaged account: it is told, passed over when asked, and never locks anybody out."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from living_world import Living, make_living
from store_world import NAME, PASSWORD, World

from backup import restore
from backup.segment import PAGE_BYTES
from backup.soundness import wrong_keys_in, wrong_page
from backup.state import Segment
from mailstore.account import AccountPaths
from mailstore.errors import StorageFailed

EXIT_STORAGE = 6
KEYS = "the key header is damaged"
LOCK_PAGE = 262_145
PAGE = bytes(PAGE_BYTES - 1) + b"\1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Living]:
    """A fresh account."""
    yield from make_living(tmp_path)


def zero_page(paths: AccountPaths, number: int) -> None:
    """Overwrite one page of the database, as a dying disk may."""
    with paths.mail_db.open("r+b") as file:
        file.seek((number - 1) * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))


def zero_keys(paths: AccountPaths) -> None:
    """Overwrite the key header."""
    paths.keys.write_bytes(bytes(paths.keys.stat().st_size))


DAMAGES = {
    "page 1 has no authentication code": lambda paths: zero_page(paths, 1),
    "page 3 has no authentication code": lambda paths: zero_page(paths, 3),
    KEYS: zero_keys,
}


def test_a_page_without_code_is_named() -> None:
    """Also one of many that are read together; SQLite's lock page is a hole in every large database."""
    assert wrong_page(7, PAGE * 3) is None
    assert wrong_page(7, PAGE * 2 + bytes(PAGE_BYTES)) == "page 9 has no authentication code"
    assert wrong_page(LOCK_PAGE - 1, PAGE + bytes(PAGE_BYTES) + PAGE) is None
    assert wrong_page(1, b"SQLite format 3\0" + PAGE[16:]) == "the database is not encrypted"


def snapshots_around(world: Living, wrong: str) -> tuple[Segment, Segment, Segment]:
    """A sound state, the one that has this damage, and one that builds on it."""
    world.append("sound")
    sound = world.snapshot()
    world.settle()
    DAMAGES[wrong](world.paths)
    damaged = world.snapshot()
    world.mail.deliver(b"Subject: waits\r\n\r\n")
    return sound, damaged, world.snapshot()


@pytest.mark.parametrize("wrong", list(DAMAGES))
def test_a_state_that_was_damaged_when_it_was_taken_is_no_sound_one(world: Living, wrong: str) -> None:
    """--newest-sound goes back to the one before, and says why; without it, the damage is told."""
    sound, damaged, newest = snapshots_around(world, wrong)
    folder, rebuilt = world.restorer.rebuild(world.wanted(newest, newest=True), newest_sound=True)
    assert rebuilt.newest == sound.name and rebuilt.damage is None
    assert f"{damaged.name}: {wrong}" in rebuilt.passed_over
    if wrong != KEYS:  # the living ones open it
        assert world.subjects(folder) == [b"sound"]
    _, rebuilt = world.restorer.rebuild(world.wanted(newest, newest=True))
    assert rebuilt.newest == newest.name
    assert rebuilt.damage == (None if wrong == KEYS else wrong)


@pytest.mark.parametrize("wrong", list(DAMAGES))
def test_what_a_plain_restore_has_begun_is_not_taken_for_sound(
    world: Living, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was interrupted after the damaged segment, which it had checked less; the sound state is found."""
    sound, damaged, newest = snapshots_around(world, wrong)
    with monkeypatch.context() as cut:
        cut.setattr(Path, "unlink", _no_unlink_of("restoring"))
        with pytest.raises(StorageFailed):
            world.restorer.rebuild(world.wanted(newest, newest=True))
    folder, rebuilt = world.restorer.rebuild(world.wanted(newest, newest=True), newest_sound=True)
    assert rebuilt.newest == sound.name and rebuilt.damage is None
    assert f"{damaged.name}: {wrong}" in rebuilt.passed_over
    assert wrong_keys_in(folder, world.account_id) is None


def test_a_state_that_looks_wrong_read_anew_is_told_and_not_read_forever(
    world: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it, no check of a segment has found."""
    world.append("sound")
    newest = world.snapshot()
    looked: list[Path] = []

    def wrong(database: Path, pages: int) -> str:
        looked.append(database)
        assert len(looked) < 10
        return "strange"

    monkeypatch.setattr(restore, "wrong_database", wrong)
    _, rebuilt = world.restorer.rebuild(world.wanted(newest, newest=True), newest_sound=True)
    assert (rebuilt.newest, rebuilt.damage) == (newest.name, "strange")
    assert len(looked) == 2


def _no_unlink_of(name: str) -> Callable[..., None]:
    """A disk that fails when a file of that name is removed."""
    unlink = Path.unlink

    def fails(path: Path, missing_ok: bool = False) -> None:
        if path.name == name and path.exists():
            raise OSError(errno.EIO, "")
        unlink(path, missing_ok)

    return fails


@pytest.mark.parametrize("wrong", list(DAMAGES))
def test_the_job_says_that_what_it_copies_is_damaged(
    world: Living, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """It is the first to read all pages again; the snapshot is taken, with the mail that waits."""
    world.append("sound")
    world.snapshot()
    world.settle()
    DAMAGES[wrong](world.paths)
    with caplog.at_level(logging.ERROR):
        assert world.take() is not None
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"account {world.account_id}: snapshot taken, but {wrong}: see deploy/OPERATIONS.md,"
        ' "An account is damaged"'
    ]


@pytest.fixture
def commands(tmp_path: Path) -> CommandsWorld:
    """An account with mail and a sound snapshot, damaged afterwards and stored again."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    made.append("sound")
    assert made.answer("backup", "run")["stored"]
    return made


def damaged(commands: CommandsWorld, wrong: str) -> AccountPaths:
    """Do the damage and store it."""
    mail = World(commands.root)
    paths = mail.paths
    mail.close()
    DAMAGES[wrong](paths)
    assert commands.answer("backup", "run")["stored"]
    return paths


@pytest.mark.parametrize("wrong", list(DAMAGES))
def test_a_drill_of_a_damaged_account_proves_nothing(commands: CommandsWorld, wrong: str) -> None:
    """Whichever of its files it is."""
    damaged(commands, wrong)
    (drilled,) = commands.answer("backup", "drill", codes=(EXIT_STORAGE,))["drilled"]
    assert drilled["trouble"] == wrong


def test_a_restore_says_that_what_it_has_put_in_place_is_damaged(commands: CommandsWorld) -> None:
    """It may be all there is, so it is done; the answer has the next step, and the exit code is not 0."""
    damaged(commands, "page 1 has no authentication code")
    code, out, _err = commands.run("restore", NAME.decode(), "--replace")
    assert code == EXIT_STORAGE
    assert "restored as of" in out
    assert "BUT DAMAGED: page 1 has no authentication code" in out
    code, out, err = commands.run("restore", NAME.decode(), "--replace", "--newest-sound")
    assert code == 0 and "DAMAGED" not in out, out
    assert "page 1 has no authentication code" in err
    mail = World(commands.root)
    mail.login().release()
    mail.close()


def test_a_damaged_key_header_never_replaces_a_sound_one(commands: CommandsWorld) -> None:
    """The living header stays; where there is none either, nothing is touched, and it is said what to do."""
    mail = World(commands.root)
    sound = mail.paths.keys.read_bytes()
    mail.close()
    paths = damaged(commands, KEYS)
    code, out, _err = commands.run("restore", NAME.decode(), "--replace")
    assert code == EXIT_STORAGE
    assert "NOT restored: the snapshot's key header is damaged, and there is no newer one: " in out
    assert not paths.restored.exists()
    paths.keys.write_bytes(sound)
    code, out, _err = commands.run("restore", NAME.decode(), "--replace", "--keyslots", "then")
    assert code == EXIT_STORAGE and "NOT restored: the snapshot's key header is damaged: " in out
    commands.run("restore", NAME.decode(), "--replace")
    assert paths.keys.read_bytes() == sound
    mail = World(commands.root)
    mail.login(PASSWORD).release()
    mail.close()


def test_newest_sound_brings_back_a_key_header_whose_damage_was_stored(commands: CommandsWorld) -> None:
    """The living one opens nothing, nor does the newest snapshot's: the one before it does."""
    damaged(commands, KEYS)
    code, out, err = commands.run("restore", NAME.decode(), "--replace", "--newest-sound")
    assert code == 0 and KEYS in err, out
    mail = World(commands.root)
    mail.login(PASSWORD).release()
    mail.close()
