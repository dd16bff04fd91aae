"""Snapshots without the key: what is taken, what is put together again, what a crash leaves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_world import BackupWorld, NewMessage, SegmentName, message, now

from backup.errors import ImageUnreadable
from backup.limits import BackupLimits
from backup.segment import Kind
from backup.staging import staged_name
from mailstore.errors import NoSuchAccount
from mailstore.limits import StoreLimits
from mailstore.model import ModSeq
from mailstore.sealed import pending
from mailstore.uidset import UidSet


@pytest.fixture
def world(tmp_path: Path) -> Iterator[BackupWorld]:
    """A fresh account and job."""
    made = BackupWorld(tmp_path)
    yield made
    made.close()


def append(world: BackupWorld, *subjects: str, size: int = 500) -> None:
    """Append to INBOX in one transaction; the account stays open, its log unchecked."""
    account = world.mail.login()
    now(account.append("INBOX", [NewMessage(message(subject, size)) for subject in subjects]))
    account.release()


def settle(world: BackupWorld) -> None:
    """Checkpoint and close the account."""
    world.mail.clock.advance(StoreLimits().close_grace_s + 1)


def test_an_account_nobody_has_opened_yet(world: BackupWorld) -> None:
    """Keys and waiting mail are all there is, and all of it comes back."""
    world.mail.deliver(message("one"))
    segment = world.take()
    assert segment is not None and segment.name.kind is Kind.FULL and segment.name.sequence == 1
    world.upload()
    folder, rebuilt = world.rebuild()
    assert rebuilt.pages == 0 and rebuilt.waiting_mail == 1
    assert (folder / "keys").read_bytes() == world.mail.paths.keys.read_bytes()
    assert pending(folder / "inbox") == pending(world.mail.paths.inbox)
    assert world.take() is None


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("stays", [False, True])
def test_a_waiting_message_that_comes_back_is_in_the_next_snapshot(
    world: BackupWorld, merge: bool, stays: bool
) -> None:
    """As a restore brings it back, while the snapshot without it still waits for the object store."""
    world.mail.deliver(message("one"))
    assert world.take() is not None
    world.upload()
    (file,) = world.mail.paths.inbox.iterdir()
    content = file.read_bytes()
    file.unlink()
    assert world.take() is not None
    file.write_bytes(content)
    assert world.take(merge=merge) is not None
    if not stays:
        file.unlink()
        assert world.take() is not None
    world.upload()
    folder, _ = world.rebuild()
    assert pending(folder / "inbox") == pending(world.mail.paths.inbox)
    assert world.take() is None


def test_full_then_changes_then_nothing(world: BackupWorld) -> None:
    """The second snapshot is small, the third does not exist; both states open and are sound."""
    append(world, *(f"old {number}" for number in range(50)), size=5_000)
    first = world.take()
    append(world, "new")
    settle(world)
    second = world.take()
    assert first is not None and second is not None
    assert (first.name.kind, second.name.kind) == (Kind.FULL, Kind.CHANGES)
    assert second.size_bytes < first.size_bytes / 2
    assert world.take() is None
    settle(world)
    assert world.take() is None
    world.upload()
    before, _ = world.rebuild(first.name)
    after, _ = world.rebuild()
    old = sorted(b"old %d" % number for number in range(50))
    assert world.subjects(before) == old
    assert world.subjects(after) == [b"new", *old]


def test_a_checkpoint_after_the_snapshot_is_no_change(world: BackupWorld) -> None:
    """What was read from the log is not taken again when it has been copied to the main file."""
    append(world, "one")
    assert world.take() is not None
    settle(world)
    assert world.take() is None
    append(world, "two")
    assert world.take() is not None
    settle(world)
    assert world.take() is None


def test_filed_mail_leaves_the_inbox_of_the_snapshot(world: BackupWorld) -> None:
    """Waiting mail comes and goes; a message is in the inbox or in the database of every state."""
    world.take()
    for subject in ("one", "two"):
        world.mail.deliver(message(subject))
    waiting = world.take()
    append(world, "three")
    filed = world.take()
    assert waiting is not None and filed is not None
    world.upload()
    folder, rebuilt = world.rebuild(waiting.name)
    assert rebuilt.waiting_mail == 2
    folder, rebuilt = world.rebuild(filed.name)
    assert rebuilt.waiting_mail == 0
    assert world.subjects(folder) == [b"one", b"three", b"two"]


def test_a_lost_journal_means_a_full_snapshot(world: BackupWorld) -> None:
    """When nobody knows what checkpoints wrote, everything is taken."""
    append(world, "one")
    settle(world)
    world.take()
    world.mail.paths.page_journal.unlink()
    append(world, "two")
    settle(world)
    segment = world.take()
    assert segment is not None and segment.name.kind is Kind.FULL
    world.upload()
    assert world.subjects(world.rebuild()[0]) == [b"one", b"two"]


def test_waiting_snapshots_can_be_merged(world: BackupWorld) -> None:
    """While the store is away, one segment takes the place of several and holds what they held."""
    append(world, *(f"old {number}" for number in range(50)), size=5_000)
    world.take()
    world.upload()
    world.mail.deliver(message("waiting"))
    for number in range(5):
        append(world, f"new {number}")
        world.take()
        settle(world)
    assert len(world.state.waiting()) == 5
    append(world, "last")
    merged = world.take(merge=True)
    assert merged is not None and merged.name.sequence == 2 and merged.name.kind is Kind.CHANGES
    assert [one.name for one in world.state.waiting()] == [merged.name]
    append(world, "after")
    world.take()
    world.upload()
    assert not list((world.place / "staging").iterdir())
    expected = [
        b"after",
        b"last",
        *(b"new %d" % n for n in range(5)),
        *sorted(b"old %d" % n for n in range(50)),
    ]
    assert world.subjects(world.rebuild()[0]) == [*expected, b"waiting"]


def test_a_deleted_account_is_said_to_be_gone(world: BackupWorld) -> None:
    """No empty snapshot of it is made."""
    world.take()
    paths = world.mail.paths
    paths.folder.rename(paths.folder.with_name("elsewhere"))
    with pytest.raises(NoSuchAccount):
        world.take()


@pytest.mark.parametrize("due", ["changes", "full", "full, as a waiting one was lost"])
def test_a_vanished_database_is_no_good_snapshot(tmp_path: Path, due: str) -> None:
    """Not even where a full one is due, which would outlive those that have it. Nothing is recorded."""
    world = BackupWorld(tmp_path, BackupLimits(chain_max_segments=2 if due == "full" else 1_000))
    append(world, "one")
    world.take()
    append(world, "two")
    settle(world)
    assert world.take() is not None
    world.upload()
    if "lost" in due:
        append(world, "three")
        settle(world)
        lost = world.take()
        assert lost is not None and world.state.lost(lost.name) == [lost.name]
        world.snapshotter.clean()
    before, database = world.names(), world.mail.paths.mail_db
    database.rename(database.with_name("elsewhere"))
    world.mail.deliver(message("waits"))
    for _ in range(2):
        with pytest.raises(ImageUnreadable, match="the database is gone"):
            world.take()
    assert world.state.waiting() == [] and list((tmp_path / "staging").iterdir()) == []
    database.with_name("elsewhere").rename(database)
    segment = world.take()
    assert segment is not None and segment.name.sequence == before[-1].sequence + 1
    assert segment.name.kind is (Kind.CHANGES if due == "changes" else Kind.FULL)
    world.upload()
    folder, rebuilt = world.rebuild()
    subjects = [b"one", b"three", b"two"] if "lost" in due else [b"one", b"two"]
    assert world.subjects(folder) == subjects and rebuilt.waiting_mail == 1
    world.close()


def test_what_a_crash_left_in_the_staging_folder_is_removed(world: BackupWorld) -> None:
    """Half a segment, mail put aside: everything but what is recorded and waits for the store."""
    world.take()
    (waiting,) = world.state.waiting()
    staging = world.place / "staging"
    kept = {staged_name(waiting.name)}
    other = SegmentName(waiting.name.stream, 2, waiting.name.taken_ms + 1, Kind.CHANGES)
    for name in (staged_name(other), f"{waiting.name.stream}.spool"):
        (staging / name).write_bytes(b"half of it")
    world.snapshotter.clean()
    assert {path.name for path in staging.iterdir()} == kept
    world.upload()
    assert world.rebuild()[1].newest == waiting.name


@pytest.mark.parametrize("seed", range(12))
def test_every_snapshot_is_a_committed_state(tmp_path: Path, seed: int) -> None:
    """Random work, checkpoints, merges and losses of the journal: each snapshot is what was there then."""
    chance = random.Random(seed)
    world = BackupWorld(tmp_path)
    account = world.mail.login()
    expected: dict[int, tuple[list[bytes], int]] = {}
    subjects: list[bytes] = []
    waiting: list[bytes] = []
    for step in range(40):
        name = f"s{step}"
        match chance.randrange(9):
            case 0 | 1:
                now(account.append("INBOX", [NewMessage(message(name, chance.choice((100, 90_000))))]))
                subjects.append(name.encode())
            case 2:
                account.release()
                settle(world)
                world.mail.deliver(message(name))
                waiting.append(name.encode())
                account = world.mail.login()
                subjects += waiting
                waiting.clear()
            case 3 if subjects:
                box = now(account.select("INBOX", False))
                uid = chance.choice(box.opened.uids)
                now(box.copy(UidSet.of([uid]), "Archive", ModSeq(0)))
                box.close()
                subjects = world.subjects(world.mail.paths.folder)
            case 4:
                account.release()
                settle(world)
                account = world.mail.login()
            case 5 if chance.random() < 0.2:
                world.mail.paths.page_journal.unlink(missing_ok=True)
            case _:
                segment = world.take(merge=chance.random() < 0.3)
                if segment is not None:
                    expected = {key: value for key, value in expected.items() if key < segment.name.sequence}
                    expected[segment.name.sequence] = (sorted(subjects), len(waiting))
                if chance.random() < 0.4:
                    world.upload()
    account.release()
    world.upload()
    for segment in world.names():
        if segment.sequence in expected:
            folder, rebuilt = world.rebuild(segment)
            assert (world.subjects(folder), rebuilt.waiting_mail) == expected[segment.sequence]
    world.close()
