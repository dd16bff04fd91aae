"""The files in which workers count: what stays of a dead worker, what does not, and room on the disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from metrics_world import merged, worker

from deploy.metrics import folder as places
from deploy.metrics.folder import SIZES, folder_for, forget, make_empty, slot_name
from deploy.metrics.meters import COMMANDS_MAX, RESULTS
from mailstore.errors import StorageFull
from mailstore.model import AccessProtocol
from protocols.access_log import Entry
from protocols.imap.grammar.table import COMMANDS as IMAP_COMMANDS
from protocols.pop3.commands import COMMANDS as POP3_COMMANDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = folder_for(tmp_path, {})
    make_empty(folder, 1, 0)
    return folder


def test_numbers_of_all_workers_are_added_up(folder: Path) -> None:
    """One answers for all."""
    for number in range(3):
        with worker(folder, slot_name(number)) as meters:
            meters.login(AccessProtocol.IMAP, "ok", 0.1)
            meters.sessions.labels("imaps").set(2)
            meters.lag_s.set(number)
    assert merged(folder, "sealbox_logins_total", protocol="imap", result="ok") == 3
    assert merged(folder, "sealbox_login_seconds_count", protocol="imap") == 3
    assert merged(folder, "sealbox_sessions", service="imaps") == 6
    assert merged(folder, "sealbox_reactor_lag_seconds") == 2


def test_a_worker_that_replaces_a_dead_one_goes_on_counting(folder: Path) -> None:
    """However often they die: totals never fall, what was open is gone, and there are no more files."""
    for _ in range(4):
        with worker(folder, slot_name(0)) as meters:
            meters.login(AccessProtocol.POP3, "wrong", 1.0)
            meters.sessions.labels("pop3s").set(5)
        assert merged(folder, "sealbox_sessions", service="pop3s") == 5
        forget(folder, slot_name(0))
        assert merged(folder, "sealbox_sessions", service="pop3s") is None
    assert merged(folder, "sealbox_logins_total", protocol="pop3", result="wrong") == 4
    with worker(folder, slot_name(0)):
        pass
    assert len(list(folder.iterdir())) == len(SIZES)


def test_only_one_worker_is_forgotten(folder: Path) -> None:
    """Worker 1 is not worker 10 or 11."""
    for number in (1, 10, 11):
        with worker(folder, slot_name(number)) as meters:
            meters.workers.set(1)
    forget(folder, slot_name(1))
    assert merged(folder, "sealbox_workers") == 2


def test_what_another_start_has_left_is_not_counted(folder: Path) -> None:
    """The folder is emptied, and for its owner alone."""
    with worker(folder, slot_name(7)) as meters:
        meters.login(AccessProtocol.IMAP, "ok", 0.1)
    make_empty(folder, 1, 0)
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_disk_that_is_nearly_full_is_left_to_mail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is reserved then, and no folder is there in which a worker could try."""
    with worker(folder, slot_name(0)):
        pass
    free = sum(SIZES.values()) * 2 + 1000
    found = os.statvfs_result((1, 1, 1 << 40, free, free, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    make_empty(folder, 2, 1000)
    with pytest.raises(StorageFull):
        make_empty(folder, 2, 1001)
    assert not folder.exists()
    with pytest.raises(FileNotFoundError), worker(folder, slot_name(0)):
        pass


def test_a_dead_worker_keeps_its_place_on_the_disk(folder: Path) -> None:
    """Whoever replaces it needs no room, which there may not be by then."""
    with worker(folder, slot_name(0)) as meters:
        meters.workers.set(1)
    before = {path.name: (path.stat().st_ino, path.stat().st_blocks) for path in folder.iterdir()}
    forget(folder, slot_name(0))
    assert {path.name: (path.stat().st_ino, path.stat().st_blocks) for path in folder.iterdir()} == before
    with worker(folder, slot_name(0)) as meters:
        meters.workers.set(1)
        assert merged(folder, "sealbox_workers") == 1


def test_memory_of_systemd_is_used_where_there_is_some(tmp_path: Path) -> None:
    """RuntimeDirectory= of the unit; else the data root."""
    assert folder_for(tmp_path, {"RUNTIME_DIRECTORY": "/run/sealbox:/run/other"}) == Path(
        "/run/sealbox/metrics"
    )
    assert folder_for(tmp_path, {}) == tmp_path / "metrics"


def test_no_file_has_to_grow(folder: Path) -> None:
    """A full disk would kill the worker then: whatever is ever counted has its place at the start."""
    names = [f"IMAP {one.decode()}" for one in IMAP_COMMANDS] + [
        f"POP3 {one.decode()}" for one in POP3_COMMANDS
    ]
    names += [f"LMTP {word}" for word in ("MAIL", "RCPT", "DATA", "BDAT", "VRFY", "STARTTLS")]
    assert len(names) + 5 <= COMMANDS_MAX
    names += [f"IMAP LONGEST{number:08d}" for number in range(COMMANDS_MAX - len(names))]
    with worker(folder, slot_name(255)) as meters:
        for name in names:
            for result in ("OK", "NO", "BAD"):
                meters.command(Entry("", "", name, 0, result, result == "BAD", took_s=0.1))
        assert len(RESULTS) == 3
    found = {path.name.rpartition("_")[0]: path.stat() for path in folder.iterdir()}
    assert {kind: size.st_size for kind, size in found.items()} == SIZES
    # Blocks, not only a length: a file with holes would have to find room when it is written to.
    assert all(size.st_blocks * 512 >= size.st_size for size in found.values())


def test_a_full_disk_is_an_error_before_anything_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a signal while mail is served."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(places.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"), worker(folder, slot_name(0)):
        pass


def test_commands_that_nobody_knows_are_one(folder: Path) -> None:
    """Whatever a client sends as a command gives no label."""
    with worker(folder, slot_name(0)) as meters:
        meters.command(Entry("", "", "IMAP IDLE", 0, "OK", False, took_s=1000.0))
        for number in range(1, COMMANDS_MAX + 50):
            meters.command(Entry("", "", f"IMAP WORD{number}", 0, "OK", False, took_s=0.0))
        meters.command(Entry("", "", "IMAP ?", 0, "BAD", True, took_s=0.0))
    assert merged(folder, "sealbox_commands_total", protocol="imap", command="unknown", result="ok") == 50
    assert merged(folder, "sealbox_commands_total", protocol="imap", command="unknown", result="failed") == 1
    # It lasts as long as the client likes.
    assert merged(folder, "sealbox_commands_total", protocol="imap", command="IDLE", result="ok") == 1
    assert merged(folder, "sealbox_command_seconds_count", protocol="imap", command="IDLE") is None


@pytest.mark.parametrize(
    ("entry", "result"),
    [
        (Entry("", "", "IMAP NOOP", 0, "OK", False), "ok"),
        (Entry("", "", "POP3 STAT", 0, "+OK", False), "ok"),
        (Entry("", "", "LMTP DATA", 0, "250", False), "ok"),
        (Entry("", "", "IMAP SELECT", 0, "NO NONEXISTENT", False), "refused"),
        (Entry("", "", "LMTP RCPT", 0, "550", False), "refused"),
        (Entry("", "", "IMAP ?", 0, "BAD", True), "failed"),
        (Entry("", "", "POP3 PASS", 0, "-ERR AUTH", True), "failed"),
        (Entry("", "", "SASL AUTH", 0, "OK", False), "ok"),
    ],
)
def test_results_are_three(folder: Path, entry: Entry, result: str) -> None:
    """Whatever the protocol calls them."""
    protocol, _, command = entry.command.partition(" ")
    named = "unknown" if command == "?" else command
    with worker(folder, slot_name(0)) as meters:
        meters.command(entry)
    labels = {"protocol": protocol.lower(), "command": named, "result": result}
    assert merged(folder, "sealbox_commands_total", **labels) == 1
