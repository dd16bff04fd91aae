"""A power cut at any moment of a restore: see ``power``."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from power import each_cut
from recorder import Immediate, record
from steps import Begin, Say
from store_world import World, now
from test_every_step import assert_intact
from test_every_step_of_snapshots import (
    FIRST,
    SECOND,
    WAITING,
    Snapshots,
    account_of,
    inbox_of,
    inbox_unless_half_restored,
    login_and_append,
)
from test_power_cuts import paths_of
from test_power_cuts_of_snapshots import take_if_changed

import backup.source
from backup.restore import Restorer, list_store, target
from backup.restore_accounts import by_state
from mailstore.errors import AuthenticationFailed, StoreError
from mailstore.keys import AccountId
from mailstore.model import NewMessage
from mailstore.set_aside import REPLACED
from mailstore.staged_keys import accept_header

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

THIRD = b"Subject: 3rd\r\n\r\n" + random.Random(3).randbytes(20_000).hex().encode() + b"\r\n"
"""Large: a log that does not hold its pages does not fit to a database without it."""

FOURTH = b"Subject: 4th\r\n\r\nbody\r\n" * 200
PIECE_BYTES = 40 * 1024
"""Objects are fetched in pieces as small as this, so that there are several."""

THEN = Counter([FIRST, SECOND, WAITING])
"""What the newest snapshot holds."""

SINCE = Counter([FIRST, SECOND, WAITING, THIRD, FOURTH])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """See ``PIECE_BYTES``."""
    monkeypatch.setattr(backup.source, "GET_BYTES", PIECE_BYTES)


def make_changed(root: Path) -> Path:
    """A chain of two snapshots, the second with mail that waits; then that mail is filed, and more comes.

    The last process to have the account open was killed: its log is full, and belongs to another state of
    the database than the snapshot's.
    """
    World(root).close()
    login_and_append(root, FIRST)
    take_if_changed(root)
    login_and_append(root, SECOND)
    world = World(root)
    world.deliver(WAITING)
    world.close()
    take_if_changed(root)

    login_and_append(root, THIRD)

    def append(_say: Say, begin: Begin) -> None:
        account = World(root).login()
        begin()
        now(account.append("INBOX", [NewMessage(FOURTH)]))

    record(root, append)
    assert paths_of(root).wal.stat().st_size > 0
    return root


def restore_newest(root: Path, account: AccountId, restore_id: int) -> None:
    """Put the newest snapshot in place."""
    snapshots, world = Snapshots(root), World(root)
    restore(snapshots, world, account, restore_id)
    world.close()
    snapshots.state.close()


def restore(snapshots: Snapshots, world: World, account: AccountId, restore_id: int) -> None:
    """The same, with what is open already."""
    listing = list_store(snapshots.store)
    sources = by_state(snapshots.store, listing, snapshots.state)
    wanted = target(listing, account, sources.heads[account], None)
    restorer = Restorer(world.root, sources.source, world.root / "scratch", 1)
    folder, rebuilt = restorer.rebuild(wanted)
    restorer.install(account, folder, rebuilt, restore_id, 1.0)
    accept_header(world.root, world.directory, account)


def restored_in_child(root: Path, account: AccountId) -> Callable[[Say, Begin], None]:
    """The restore that is recorded."""

    def work(say: Say, begin: Begin) -> None:
        backup.source.ThreadPoolExecutor = Immediate  # type: ignore[assignment,misc]  # in the child alone
        snapshots, world = Snapshots(root), World(root)
        begin()
        restore(snapshots, world, account, 7)
        say(b"restored")

    return work


def test_power_cut_in_a_restore_over_an_account(place: Path) -> None:
    """The account is as it was or as it is restored, or opens for nobody until it is restored again."""
    root = make_changed(place / "root")
    account, paths = account_of(root), paths_of(root)
    before = {path.name: path.read_bytes() for path in (paths.mail_db, paths.wal, paths.keys)}
    made, _ = record(root, restored_in_child(root, account))

    def check(root: Path, said: bytes) -> None:
        again = root.with_name(root.name + "-again")
        shutil.copytree(root, again)
        kept = {
            name: (folder / name).exists() and (folder / name).read_bytes() == content
            for name, content in before.items()
            for folder in (root / REPLACED).glob("*")
        }
        # Never as at the last checkpoint, without what the log held.
        found = inbox_unless_half_restored(root)
        assert found in ((THEN,) if said else (SINCE, THEN, None))
        if found is not None:
            assert_intact(root)
        assert found == SINCE or (len(kept) == 3 and all(kept.values()))
        restore_newest(again, account, 8)
        assert inbox_of(again) == THEN
        assert_intact(again)
        shutil.rmtree(again)

    assert each_cut(made, place, check) > 50


def test_power_cut_in_a_restore_of_a_lost_account(place: Path) -> None:
    """Once it was reported it is there; before, doing it again finishes it."""
    root = make_changed(place / "root")
    account = account_of(root)
    shutil.rmtree(paths_of(root).folder)
    made, _ = record(root, restored_in_child(root, account))

    def check(root: Path, said: bytes) -> None:
        if not said:
            try:
                assert inbox_of(root) == THEN
            except (StoreError, AuthenticationFailed):
                pass
            restore_newest(root, account, 8)
        assert inbox_of(root) == THEN
        assert_intact(root)

    assert each_cut(made, place, check) > 50


def uid_validity(root: Path) -> int:
    """INBOX's, as a login is told it."""
    world = World(root)
    account = world.login()
    found: int = now(account.status("INBOX")).uid_validity
    account.release()
    world.close()
    return found


def test_power_cut_in_the_first_login_after_a_restore(place: Path) -> None:
    """No client is told the UIDVALIDITY of before, and what one was told stays."""
    root = make_changed(place / "root")
    before = uid_validity(root)
    record(root, restored_in_child(root, account_of(root)))

    def login(say: Say, begin: Begin) -> None:
        begin()
        say(b"%d" % uid_validity(root))

    def check(root: Path, said: bytes) -> None:
        found = uid_validity(root)
        assert found != before
        assert said in (b"", b"%d" % found)

    made, _ = record(root, login)
    assert each_cut(made, place, check) > 30
