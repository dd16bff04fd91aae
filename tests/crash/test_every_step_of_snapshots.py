"""kill -9 before every single step of taking, storing, pruning and restoring snapshots: see ``stepper``."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from store_world import NAME, PASSWORD, TINY, World, now

from backup.errors import ObjectExists
from backup.limits import DAY_S, BackupLimits
from backup.rebuild import Rebuilder
from backup.restore import Restorer, is_half_restored, list_store, target
from backup.restore_accounts import by_state
from backup.retention import chains, expired
from backup.segment import Kind, SegmentName
from backup.signing import Signer
from backup.snapshot import Snapshotter
from backup.source import Source
from backup.staging import staged_name
from backup.state import State
from backup.store_file import FileStore
from backup.verify import Verifier, expected_by_state
from mailstore.account import AccountPaths
from mailstore.errors import DatabaseDamaged
from mailstore.keys import AccountId, load_private_key, new_private_key
from mailstore.limits import StoreLimits
from mailstore.mime import SectionSpec
from mailstore.model import NewMessage, SectionRead
from mailstore.opening import open_as_owner
from mailstore.staged_keys import accept_header

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

WHOLE = SectionRead(SectionSpec())
KEY = load_private_key(new_private_key())
SERVER_KEY = b"a key of the server, for testing"
LIMITS = BackupLimits()
FIRST, SECOND, WAITING, LAST = (
    b"Subject: " + name + b"\r\n\r\nbody\r\n" * 200 for name in (b"1st", b"2nd", b"waits", b"last")
)
CLOSED_S = StoreLimits().close_grace_s + 1


class Snapshots:
    """The snapshot job's things over a root; the object store lies in it, so that it is copied along."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("backup", "staging", "objects", "scratch"):
            (root / name).mkdir(exist_ok=True)
        self.state = State(root / "backup", SERVER_KEY)
        self.store = FileStore(root / "objects")
        self.snapshotter = Snapshotter(
            root, self.state, root / "staging", KEY.public, Signer(bytes(32)), LIMITS
        )

    def take_and_store(self, account: AccountId, *, merge: bool = False) -> None:
        """One snapshot, and everything that waits into the store."""
        self.snapshotter.take(account, merge=merge)
        for segment in self.state.waiting():
            path = self.root / "staging" / staged_name(segment.name)
            try:
                self.store.put(str(segment.name), path, segment.sha256)
            except ObjectExists:
                pass  # an earlier life came as far as the store
            self.state.stored(segment.name)
            path.unlink(missing_ok=True)

    def prune(self, account: AccountId, now_ms: int) -> list[SegmentName]:
        """Delete what is past its time."""
        stream = self.state.stream(account)
        assert stream is not None
        stored = [one.name for one in self.state.segments(stream.stream) if one.stored]
        doomed = expired(stored, now_ms, None, LIMITS)
        self.store.delete([str(name) for name in doomed])
        self.state.pruned(doomed)
        return doomed


def account_of(root: Path) -> AccountId:
    """The only account."""
    return AccountId(next((root / "accounts").glob("??/*")).name)


def login_and_append(root: Path, message: bytes) -> None:
    """One message more, and the account closed again."""
    world = World(root)
    account = world.login()
    now(account.append("INBOX", [NewMessage(message)]))
    account.release()
    world.clock.advance(CLOSED_S)
    world.close()


def inbox_of(root: Path) -> Counter[bytes]:
    """All messages of INBOX after a login."""
    with closing(World(root)) as world:
        account = world.login()
        mailbox = now(account.select("INBOX", False))
        rows = now(mailbox.content(list(mailbox.opened.uids), [WHOLE], 10_000_000))
        found = Counter(row.sections[0].data for row in rows)
        mailbox.close()
        account.release()
        world.clock.advance(CLOSED_S)
    return found


def inbox_unless_half_restored(root: Path) -> Counter[bytes] | None:
    """The same; None where a restore was interrupted while it exchanged files, and nobody is let in."""
    try:
        return inbox_of(root)
    except DatabaseDamaged:
        (folder,) = root.glob("accounts/*/*")
        assert is_half_restored(AccountPaths(folder))
        return None


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one stored snapshot, and changes since: a message more, and one that waits."""
    root = tmp_path_factory.mktemp("changed") / "root"
    world = World(root)
    world.close()
    login_and_append(root, FIRST)
    snapshots = Snapshots(root)
    snapshots.take_and_store(account_of(root))
    snapshots.state.close()
    login_and_append(root, SECOND)
    world = World(root)
    world.deliver(WAITING)
    world.close()
    return root


def after_death(root: Path) -> None:
    """The next job goes on, everything in the store is in order, and the newest state is all there is."""
    snapshots = Snapshots(root)
    snapshots.snapshotter.clean()
    snapshots.take_and_store(account_of(root))
    assert list((root / "staging").iterdir()) == []
    listing = list_store(snapshots.store)
    verifier = Verifier(snapshots.store, listing, lambda _name: KEY, root / "scratch", deep=True)
    assert verifier.verify(expected_by_state(snapshots.state)).findings == []
    names = chains(next(iter(listing.streams.values())))[-1].segments
    folder = root / "rebuilt"
    source = Source(snapshots.store, lambda _name: KEY, listing.sizes)
    rebuilt = Rebuilder(source, root / "scratch", 1).rebuild(names, folder)
    snapshots.state.close()
    assert rebuilt.waiting_mail == 1
    assert (folder / "keys").read_bytes() == next(root.glob("accounts/??/*/keys")).read_bytes()
    live = next(root.glob("accounts/??/*/mail.db"))
    assert (folder / "mail.db").read_bytes() == live.read_bytes()


def take(root: Path, _say: Say, begin: Begin) -> None:
    """One snapshot, from the look at the account to the last unlink."""
    snapshots = Snapshots(root)
    begin()
    snapshots.take_and_store(account_of(root))


def test_killed_at_every_step_of_a_snapshot(changed: Path, tmp_path: Path) -> None:
    """Whatever was reached, the next job ends with a store in order and the newest state in it."""
    assert each_step(changed, tmp_path, take, lambda root, _said: after_death(root)) > 15


def test_killed_at_every_step_of_a_merged_snapshot(changed: Path, tmp_path: Path) -> None:
    """The same where it takes the place of one that waits."""
    template = tmp_path / "template"
    shutil.copytree(changed, template)
    snapshots = Snapshots(template)
    snapshots.snapshotter.take(account_of(template))
    snapshots.state.close()
    login_and_append(template, FIRST + b"again\r\n")
    world = World(template)
    world.deliver(WAITING)
    world.close()

    def merge(root: Path, _say: Say, begin: Begin) -> None:
        snapshots = Snapshots(root)
        begin()
        snapshots.take_and_store(account_of(root), merge=True)

    place = tmp_path / "place"
    place.mkdir()
    assert each_step(template, place, merge, lambda root, _said: after_death(root)) > 15


def test_killed_at_every_step_of_pruning(changed: Path, tmp_path: Path) -> None:
    """What is kept can be restored at every moment."""
    template = tmp_path / "template"
    shutil.copytree(changed, template)
    snapshots = Snapshots(template)
    account = account_of(template)
    snapshots.take_and_store(account)
    snapshots.state.close()
    login_and_append(template, FIRST + b"again\r\n")
    world = World(template)
    world.deliver(WAITING)
    # Nobody knows what changed: the next snapshot begins a new chain.
    world.paths.page_journal.unlink()
    world.close()
    snapshots = Snapshots(template)
    snapshots.take_and_store(account)
    stream = snapshots.state.stream(account)
    assert stream is not None
    full = snapshots.state.segments(stream.stream)[-1]
    assert full.name.kind is Kind.FULL and full.name.sequence == 3
    snapshots.state.close()
    later_ms = full.name.taken_ms + int(LIMITS.retention_days + 1) * DAY_S * 1000

    def prune(root: Path, say: Say, begin: Begin) -> None:
        snapshots = Snapshots(root)
        begin()
        if snapshots.prune(account, later_ms):
            say(b"pruned")

    def check(root: Path, said: bytes) -> None:
        snapshots = Snapshots(root)
        snapshots.prune(account, later_ms)
        assert len(list(snapshots.store.list())) == 1
        snapshots.state.close()
        after_death(root)
        assert said in (b"", b"pruned")

    place = tmp_path / "place"
    place.mkdir()
    assert each_step(template, place, prune, check) > 5


def restore(root: Path, _say: Say, begin: Begin) -> None:
    """Put the first snapshot back in place, over an account that has changed since."""
    begin()
    restore_first(root)


def restore_first(root: Path) -> None:
    """See ``restore``."""
    snapshots = Snapshots(root)
    listing = list_store(snapshots.store)
    sources = by_state(snapshots.store, listing, snapshots.state)
    account = account_of(root)
    first_ms = min(name.taken_ms for name in listing.sizes)
    wanted = target(listing, account, sources.heads[account], first_ms)
    restorer = Restorer(root, sources.source, root / "scratch", 1)
    folder, rebuilt = restorer.rebuild(wanted)
    restorer.install(account, folder, rebuilt, 7, 1.0)
    world = World(root)
    accept_header(root, world.directory, account)
    world.close()
    snapshots.state.close()


def test_killed_at_every_step_of_a_restore(changed: Path, tmp_path: Path) -> None:
    """The account is as it was or as it is restored, or opens for nobody; doing it again finishes it."""

    def check(root: Path, _said: bytes) -> None:
        again = root.with_name(root.name + "-again")
        shutil.copytree(root, again)
        found = inbox_unless_half_restored(root)
        assert found in (Counter([FIRST, SECOND, WAITING]), Counter([FIRST, WAITING]), None)
        restore_first(again)
        assert inbox_of(again) == Counter([FIRST, WAITING])
        shutil.rmtree(again)

    assert each_step(changed, tmp_path, restore, check) > 25


def killed_with_a_full_log(root: Path) -> None:
    """Another message, after which the worker is killed: nothing of it has been copied back."""
    world = World(root)
    account = world.login()
    world.clock.advance(StoreLimits().checkpoint_delay_s + 1)
    now(account.append("INBOX", [NewMessage(LAST)]))
    files = [world.paths.mail_db, world.paths.wal, world.paths.folder / "mail.db-shm"]
    content = {path: path.read_bytes() for path in files}
    assert len(content[world.paths.wal]) > 4096
    account.release()
    world.clock.advance(CLOSED_S)
    world.close()
    for path, data in content.items():
        path.write_bytes(data)


def test_killed_at_every_step_of_a_restore_over_a_full_log(changed: Path, tmp_path: Path) -> None:
    """The log never meets the restored database, nor is the old one ever opened without it."""
    template = tmp_path / "template"
    shutil.copytree(changed, template)
    killed_with_a_full_log(template)
    today, then = Counter([FIRST, SECOND, WAITING, LAST]), Counter([FIRST])
    reached: list[Counter[bytes] | None] = []

    def check(root: Path, _said: bytes) -> None:
        again = root.with_name(root.name + "-again")
        shutil.copytree(root, again)
        kept = [path.read_bytes() for path in root.glob("replaced/*/mail.db-wal")]
        found = inbox_unless_half_restored(root)
        assert found in (today, then, None)
        assert found == today or kept == [template_log]
        reached.append(found)
        restore_first(again)
        assert inbox_of(again) == then
        shutil.rmtree(again)

    template_log = next(template.glob("accounts/??/*/mail.db-wal")).read_bytes()
    place = tmp_path / "place"
    place.mkdir()
    assert each_step(template, place, restore, check) > 25
    assert reached[0] == today and reached[-1] == then and None in reached


def test_what_these_tests_open_is_the_accounts_own(changed: Path) -> None:
    """The owner's secret opens the account that the snapshots are of."""
    world = World(changed)
    opened = open_as_owner(changed, world.directory, NAME.decode(), PASSWORD, now=0, params=TINY)
    assert opened.record.account_id == account_of(changed)
    world.close()
