"""A power cut at any moment of a checkpoint, a snapshot, storing and pruning: see ``power``.

After each the job goes on where the disk says it was. What it then has in the store must come back as exactly
the database that is there, octet for octet, and again after the next change and its snapshot: a page that was
left out would show.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from power import cuts, each_cut, recorded_numbers
from recorder import record
from steps import Begin, Say
from store_world import World, now
from test_every_step import assert_intact
from test_every_step_of_snapshots import (
    CLOSED_S,
    FIRST,
    KEY,
    LIMITS,
    SECOND,
    WAITING,
    Snapshots,
    account_of,
    inbox_of,
    login_and_append,
)
from test_power_cuts import paths_of

from backup.image import image_of
from backup.limits import DAY_S
from backup.rebuild import Rebuilder
from backup.restore import list_store
from backup.retention import chains
from backup.segment import Kind
from backup.snapshot import fingerprint
from backup.source import Source
from backup.verify import Verifier, expected_by_state
from mailstore import page_journal
from mailstore.account import shared_lock
from mailstore.engine import Txn
from mailstore.limits import StoreLimits
from mailstore.model import ModSeq, NewMessage

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

THIRD, LATER = (b"Subject: " + name + b"\r\n\r\nbody\r\n" * 200 for name in (b"3rd", b"later"))
LONG_AGO_NS = 1_700_000_000 * 10**9


def make_known(root: Path) -> Path:
    """A root with one message, all of it checkpointed, and two snapshots stored: checkpoints leave notes."""
    World(root).close()
    login_and_append(root, FIRST)
    # Long ago, so that it does not depend on the clock's steps whether a checkpoint changes the time.
    os.utime(paths_of(root).mail_db, ns=(LONG_AGO_NS, LONG_AGO_NS))
    take_if_changed(root)
    take_if_changed(root)
    return root


def take_if_changed(root: Path) -> None:
    """What the job does about the account: nothing where the four looks show no change."""
    snapshots = Snapshots(root)
    snapshots.snapshotter.clean()
    account = account_of(root)
    stream = snapshots.state.stream(account)
    if stream is None or stream.fingerprint != fingerprint(paths_of(root)) or snapshots.state.waiting():
        snapshots.take_and_store(account)
    snapshots.state.close()


def take(root: Path, begin: Begin, *, merge: bool = False) -> None:
    """One snapshot into the store; what is recorded begins with the look at the account."""
    snapshots = Snapshots(root)
    begin()
    snapshots.take_and_store(account_of(root), merge=merge)


def assert_restores(root: Path) -> None:
    """The store is in order, and its newest state is the account as it is now."""
    snapshots = Snapshots(root)
    assert list((root / "staging").iterdir()) == []
    listing = list_store(snapshots.store)
    verifier = Verifier(snapshots.store, listing, lambda _name: KEY, root / "scratch", deep=True)
    assert verifier.verify(expected_by_state(snapshots.state)).findings == []
    snapshots.state.close()
    names = chains(next(iter(listing.streams.values())))[-1].segments
    folder = root / "rebuilt"
    shutil.rmtree(folder, ignore_errors=True)
    source = Source(snapshots.store, lambda _name: KEY, listing.sizes)
    Rebuilder(source, root / "scratch", 1).rebuild(names, folder)
    assert_as_it_is(root, folder)


def assert_as_it_is(root: Path, folder: Path) -> None:
    """What was rebuilt is the account as it is now, octet for octet."""
    paths = paths_of(root)
    with shared_lock(paths), image_of(paths, None, keep_notes=False) as image:
        assert image is not None
        # Compared by page: a failure must not print what is in them.
        there = b"".join(image.content(((1, image.pages),)))
        restored = (folder / "mail.db").read_bytes()
        size = page_size(there, restored)
        assert [n for n in range(0, size, 4096) if there[n : n + 4096] != restored[n : n + 4096]] == []
    assert (folder / "keys").read_bytes() == paths.keys.read_bytes()
    waiting = {path.name for path in paths.inbox.glob("*.sealed")}
    assert {path.name for path in (folder / "inbox").iterdir()} == waiting


def page_size(one: bytes, other: bytes) -> int:
    """Octets of both; they have to be the same."""
    assert len(one) == len(other)
    return len(one)


def check_snapshots(root: Path) -> Counter[bytes]:
    """Snapshots go on, now and after the next change; what is in the inbox."""
    take_if_changed(root)
    assert_restores(root)
    login_and_append(root, LATER)
    take_if_changed(root)
    assert_restores(root)
    found = inbox_of(root)
    assert_intact(root)
    assert found.pop(LATER) == 1
    return found


def append_and_close(root: Path, say: Say, begin: Begin) -> None:
    """A message more, a checkpoint, another change, and the close, which checkpoints too."""
    world = World(root)
    account = world.login()
    begin()
    now(account.append("INBOX", [NewMessage(SECOND)]))
    say(b"2")
    world.clock.advance(StoreLimits().checkpoint_delay_s + 1)
    now(account.append("INBOX", [NewMessage(THIRD)]))
    say(b"3")
    account.release()
    world.clock.advance(CLOSED_S)
    world.close()


def check_appended(root: Path, said: bytes) -> None:
    """Snapshots go on, and what was answered is there."""
    found = check_snapshots(root)
    assert found.pop(FIRST) == 1
    for number, message in ((b"2", SECOND), (b"3", THIRD)):
        assert (number in said) <= found.pop(message, 0) <= 1
    assert not found


def test_power_cut_in_a_checkpoint_with_notes(place: Path) -> None:
    """No page that a checkpoint has written is missing in the next snapshot."""
    root = make_known(place / "root")
    made, _ = record(root, lambda say, begin: append_and_close(root, say, begin))
    assert each_cut(made, place, check_appended) > 50


def test_power_cut_that_takes_nothing_costs_no_full_snapshot(place: Path) -> None:
    """Otherwise the tests here would see no page that is left out, because every snapshot would hold all."""
    root = make_known(place / "root")
    made, _ = record(root, lambda say, begin: append_and_close(root, say, begin))
    whole = [cut.state for cut in cuts(made) if cut.how.endswith("all of it kept")]
    assert len(whole) > 5
    for number, state in enumerate(whole):
        folder = place / f"whole{number}"
        with recorded_numbers(state.build(folder)):
            take_if_changed(folder)
        snapshots = Snapshots(folder)
        (stream,) = snapshots.state.streams()
        kinds = [one.name.kind for one in snapshots.state.segments(stream.stream)]
        assert kinds in ([Kind.FULL], [Kind.FULL, Kind.CHANGES])
        snapshots.state.close()
    assert len(kinds) == 2


def test_power_cut_in_a_checkpoint_that_cannot_be_noted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that is removed because it is full does not come back without its last note."""
    root = make_known(place / "root")
    with monkeypatch.context() as patch:
        patch.setattr(page_journal, "MAX_JOURNAL_BYTES", 1)
        made, _ = record(root, lambda say, begin: append_and_close(root, say, begin))
    assert each_cut(made, place, check_appended) > 50


def test_power_cut_after_a_snapshot_of_changes_that_waited_for_no_disk(place: Path) -> None:
    """Frames that a snapshot has read and the cut has taken make room for others, and those are new."""
    root = make_known(place / "root")

    def work(root: Path, say: Say, begin: Begin) -> None:
        world = World(root)
        account = world.login()
        mailbox = now(account.select("INBOX", False))
        begin()
        now(account.append("INBOX", [NewMessage(SECOND)]))
        say(b"2")
        now(mailbox.news(ModSeq(0)))  # claims \Recent without waiting for the disk
        take_if_changed(root)
        say(b"snapshot")

    made, _ = record(root, lambda say, begin: work(root, say, begin))
    assert each_cut(made, place, check_appended) > 50


def check_later(root: Path, said: bytes) -> None:
    """As ``check_appended``, where somebody logs in and writes before the job comes round."""
    login_and_append(root, LATER)
    take_if_changed(root)
    assert_restores(root)
    found = inbox_of(root)
    assert_intact(root)
    assert found.pop(LATER) == found.pop(FIRST) == 1
    assert (b"2" in said) <= found.pop(SECOND, 0) <= 1
    assert not found


def test_power_cut_after_a_checkpoint_that_a_reader_kept_from_all_copying(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite syncs no log then. What the note tells of must be on the disk before the note is."""
    monkeypatch.setattr("mailstore.engine.CHECKPOINT_PATIENCE_MS", 1)
    root = make_known(place / "root")

    def work(root: Path, say: Say, begin: Begin) -> None:
        world = World(root)
        account = world.login()
        opened = world.store._open[account.account_id]

        def many_pages(txn: Txn) -> None:
            # More than a claim on \Recent: what takes their place is not written again at once.
            txn.run("INSERT INTO annotation VALUES(NULL, '/private/comment', randomblob(30000))")

        def write_beside(txn: Txn) -> None:
            txn.value("SELECT count(*) FROM mailbox")
            begin()
            now(account.append("INBOX", [NewMessage(SECOND)]))
            say(b"2")
            now(opened.read_and_note(lambda database: (database.note(0, many_pages), True)))
            take_if_changed(root)
            world.clock.advance(StoreLimits().checkpoint_delay_s + 1)
            say(b"checkpoint")

        opened._rest._databases.connections.another().read(0, write_beside)

    made, _ = record(root, lambda say, begin: work(root, say, begin))
    assert each_cut(made, place, check_later) > 50


def make_new(root: Path) -> Path:
    """A root with one message that the job has not looked at yet."""
    World(root).close()
    login_and_append(root, FIRST)
    Snapshots(root).state.close()
    return root


@pytest.mark.parametrize("make", [make_new, make_known])
def test_power_cut_in_a_snapshot(place: Path, make: Callable[[Path], Path]) -> None:
    """The first one and one of changes, from the look at the account until the store has it."""
    root = make(place / "root")
    login_and_append(root, SECOND)
    world = World(root)
    world.deliver(WAITING)
    world.close()

    def check(root: Path, _said: bytes) -> None:
        assert check_snapshots(root) == Counter([FIRST, SECOND, WAITING])

    made, _ = record(root, lambda _say, begin: take(root, begin))
    assert each_cut(made, place, check) > 50


def test_power_cut_in_a_merged_snapshot(place: Path) -> None:
    """Where a snapshot takes the place of one that waits."""
    root = make_known(place / "root")
    login_and_append(root, SECOND)
    snapshots = Snapshots(root)
    snapshots.snapshotter.take(account_of(root))
    snapshots.state.close()
    login_and_append(root, THIRD)
    made, _ = record(root, lambda _say, begin: take(root, begin, merge=True))
    assert each_cut(made, place, lambda root, _said: check_appended(root, b"23")) > 30


def test_power_cut_in_pruning(place: Path) -> None:
    """What is kept restores, and what was deleted does not come back to stay."""
    root = make_known(place / "root")
    login_and_append(root, SECOND)
    paths_of(root).page_journal.unlink()  # the next snapshot begins a new chain
    take_if_changed(root)
    snapshots = Snapshots(root)
    account = account_of(root)
    stream = snapshots.state.stream(account)
    assert stream is not None
    full = snapshots.state.segments(stream.stream)[-1].name
    assert full.kind is Kind.FULL and full.sequence > 1
    snapshots.state.close()
    later_ms = full.taken_ms + int(LIMITS.retention_days + 1) * DAY_S * 1000

    def prune(_say: Say, begin: Begin) -> None:
        snapshots = Snapshots(root)
        begin()
        assert snapshots.prune(account, later_ms)

    def check(root: Path, _said: bytes) -> None:
        snapshots = Snapshots(root)
        snapshots.prune(account, later_ms)
        assert [one.name for one in snapshots.store.list()] == [str(full)]
        snapshots.state.close()
        check_appended(root, b"2")

    made, _ = record(root, prune)
    assert each_cut(made, place, check) >= 10
