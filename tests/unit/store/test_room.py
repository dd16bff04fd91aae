"""What still happens the less room there is: new mail stops first, then writing, then opening."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from store_world import NAME, World, now

from mailstore import room
from mailstore.damage import TELL_AGAIN_S, DamagedDatabase
from mailstore.engine import SQLITE_IOERR, driver, translated
from mailstore.errors import StorageFailed, StorageFull
from mailstore.inbox import FILING_RETRY_S
from mailstore.limits import StoreLimits
from mailstore.margin import Margin
from mailstore.model import NewMessage
from mailstore.sealed import pending

BLOCK_BYTES = 4096
HUGE_BYTES = 1 << 40
MARGIN_BYTES = StoreLimits().min_free_bytes
MESSAGE = b"Subject: x\r\n\r\n" + os.urandom(20_000).hex().encode() + b"\r\n"


class Volume:
    """What the file system says about itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size_bytes, self.free_bytes = HUGE_BYTES, HUGE_BYTES
        monkeypatch.setattr(room.os, "statvfs", self._statvfs)

    def _statvfs(self, _path: Path) -> SimpleNamespace:
        blocks, free = self.size_bytes // BLOCK_BYTES, self.free_bytes // BLOCK_BYTES
        return SimpleNamespace(f_blocks=blocks, f_bavail=free, f_frsize=BLOCK_BYTES)


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> Volume:
    """A volume with room for everything at first."""
    return Volume(monkeypatch)


def full_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines about a full disk; none has an address."""
    assert NAME.decode() not in caplog.text
    return [one for one in (record.getMessage() for record in caplog.records) if "the disk is full (" in one]


def test_new_mail_leaves_the_margin_free(
    world: World, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    """Deliveries and APPENDs stop; creating, deleting and filing go on."""
    account = world.login()
    world.deliver(MESSAGE)
    volume.free_bytes = MARGIN_BYTES + len(MESSAGE) // 2
    for _ in range(2):
        with pytest.raises(StorageFull):
            world.deliver(MESSAGE)
    with pytest.raises(StorageFull):
        now(account.append("INBOX", [NewMessage(MESSAGE)]))
    now(account.create("a"))
    now(account.delete("a"))
    assert now(account.status("INBOX")).messages == 1
    assert len(full_lines(caplog)) == 1, "a sender who tries again and again writes no line each time"
    assert f"account {world.paths.folder.name}: new mail is refused: the disk is full" in caplog.text


def test_a_refusal_is_told_again_after_a_minute(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And when the file system itself has no room, as for a quota of the operating system."""
    clock = [1000.0]
    monkeypatch.setattr("mailstore.margin.time.monotonic", lambda: clock[0])
    margin = Margin(tmp_path)
    for moment in (0.0, 1.0, TELL_AGAIN_S - 1, TELL_AGAIN_S):
        clock[0] = 1000.0 + moment
        with pytest.raises(StorageFull), margin.kept("0" * 32, 0, 0):
            raise StorageFull
    assert len(full_lines(caplog)) == 2


def test_a_small_volume_keeps_a_sixteenth(volume: Volume, tmp_path: Path) -> None:
    """The margin for large disks would be all of it."""
    volume.size_bytes = 16 * 1024 * 1024
    volume.free_bytes = volume.size_bytes // 16 + 8192
    room.require_margin(tmp_path, MARGIN_BYTES, 8192)
    with pytest.raises(StorageFull):
        room.require_margin(tmp_path, MARGIN_BYTES, 8193)


def test_a_volume_that_does_not_say_is_not_taken_for_full(volume: Volume, tmp_path: Path) -> None:
    """Some file systems in user space answer zeros."""
    volume.size_bytes = volume.free_bytes = 0
    room.require_margin(tmp_path, MARGIN_BYTES, 1)
    room.require_room(tmp_path, 1)
    assert not room.is_full(tmp_path)


def test_writing_stops_before_logins_do(
    world: World, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    """Below the room for writing, closed accounts are opened and read; the line names the account once."""
    first = world.login()
    first.release_at_once()
    world.clock.advance(0)
    world.deliver(MESSAGE)
    volume.free_bytes = room.ROOM_TO_WRITE_BYTES - BLOCK_BYTES
    account = world.login()
    assert len(now(account.list_mailboxes()).mailboxes) > 0
    for _ in range(3):
        with pytest.raises(StorageFull):
            now(account.create("a"))
    assert len(pending(world.paths.inbox)) == 1, "it waits"
    assert len(full_lines(caplog)) == 1
    assert f"account {world.paths.folder.name}: mail.db: the disk is full" in caplog.text


def test_filing_does_not_take_the_room_for_logins(
    world: World, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many messages are filed at once as fit, in the log and in the main file."""
    for _ in range(3):
        world.deliver(MESSAGE)
    sealed_bytes = next(world.paths.inbox.glob("*.sealed")).stat().st_size
    volume.free_bytes = room.ROOM_TO_FILE_BYTES + 2 * sealed_bytes - BLOCK_BYTES
    account = world.login()
    assert now(account.status("INBOX")).messages == 0
    wal_bytes = world.paths.wal.stat().st_size
    volume.free_bytes = room.ROOM_TO_FILE_BYTES + wal_bytes + 4 * sealed_bytes + BLOCK_BYTES
    filer = account._opened._filer
    filer.relist()
    batch = filer.load()
    assert batch is not None and batch.more and len(batch.messages) == 2
    batch.release()
    for room_bytes, fit in ((2 * sealed_bytes, 2), (2 * sealed_bytes - 1, 1)):
        with monkeypatch.context() as exactly:
            exactly.setattr(filer, "_room_bytes", lambda: room_bytes)  # noqa: B023  # called in this turn
            filer.relist()
            batch = filer.load()
        assert batch is not None and len(batch.messages) == fit
        batch.release()
    with monkeypatch.context() as exactly:
        exactly.setattr(filer, "_room_bytes", lambda: 2 * sealed_bytes)
        world.clock.advance(FILING_RETRY_S)
        assert now(account.status("INBOX")).messages == 3


def test_writing_leaves_room_for_the_checkpoint_of_what_is_written(world: World, volume: Volume) -> None:
    """A log that does not fit into the main file could never be copied back, and closes nothing."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    wal_bytes = world.paths.wal.stat().st_size
    assert wal_bytes > len(MESSAGE) // 2
    volume.free_bytes = room.ROOM_TO_WRITE_BYTES + wal_bytes - BLOCK_BYTES
    with pytest.raises(StorageFull):
        now(account.create("a"))
    volume.free_bytes += 2 * BLOCK_BYTES
    now(account.create("a"))


def test_a_closed_account_is_not_opened_without_room_for_its_index(world: World, volume: Volume) -> None:
    """The next connection to an open one needs none."""
    world.login().release_at_once()
    world.clock.advance(0)
    volume.free_bytes = 0
    with pytest.raises(StorageFull):
        world.login()
    volume.free_bytes = HUGE_BYTES
    account = world.login()
    volume.free_bytes = 0
    assert now(account.status("INBOX")).messages == 0


def test_an_error_of_input_and_output_on_a_full_disk_is_a_full_disk(volume: Volume, world: World) -> None:
    """SQLite says SQLITE_IOERR where it cannot lengthen the index; with room it is what it says."""

    def fail() -> None:
        error = driver.OperationalError("disk I/O error")
        error.sqlite_errorcode = SQLITE_IOERR
        with translated(DamagedDatabase(world.paths.mail_db)):
            raise error

    with pytest.raises(StorageFailed):
        fail()
    volume.free_bytes = 0
    with pytest.raises(StorageFull):
        fail()
