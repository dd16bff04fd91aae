"""What an open account keeps of its mailboxes changes no answer, is bounded, and saves reading everything."""

from __future__ import annotations

import shutil
import tempfile
from array import array
from itertools import islice, permutations
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mailstore import search
from mailstore.engine import Txn
from mailstore.errors import NoSuchMailbox, StorageFailed
from mailstore.kept import VALUE_NUMBERS, Kept, Listing
from mailstore.limits import StoreLimits
from mailstore.mailbox import Mailbox
from mailstore.model import (
    INBOX,
    Flags,
    MailboxId,
    MailboxName,
    ModSeq,
    NewMessage,
    Opened,
    SortBy,
    SortKey,
    StoreMode,
    SystemFlag,
    ThreadAlgorithm,
    Uid,
)
from mailstore.ops import listing as listing_ops
from mailstore.ops import mailboxes, sorting
from mailstore.restored_mark import mark_restored
from mailstore.store import Account
from mailstore.threads import threads
from mailstore.uidset import UidSet
from protocols.imap.picture.view import View
from tests.unit.store.kept_world import KEYS, MAIL, MAILS, ORDERS, filled
from tests.unit.store.store_world import World, now
from tests.unit.store.vm_steps import steps

NAMES = ("INBOX", "Drafts", "Other")


WORKERS = st.integers(0, 1)
PLACES = st.sampled_from(NAMES)


def as_read(account: Account, name: str, read_only: bool = True) -> Opened:
    """A mailbox as it is selected where nothing is kept."""
    found: Opened = now(account._opened.read(mailboxes.select, name, read_only, lambda _key: None))
    return found


class Histories(RuleBasedStateMachine):
    """Two workers with the same account open, each with sessions; everything happens in any order."""

    @initialize()
    def begin(self) -> None:
        """An account with a little mail."""
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "root"
        self.saved: Path | None = None
        self.restores = 0
        self.opened: list[tuple[Opened, list[int]]] = []
        self.start()
        now(self.accounts[0].create("Other"))
        self.append(0, "INBOX", [NewMessage(MAIL)] * 3)

    def start(self) -> None:
        """Both workers open the account."""
        self.worlds = [World(self.root, StoreLimits(kept_numbers=4 * VALUE_NUMBERS)) for _ in range(2)]
        self.accounts = [world.login() for world in self.worlds]

    def stop(self) -> None:
        """Both close it."""
        for world in self.worlds:
            world.close()

    @rule(worker=WORKERS, name=PLACES, mails=st.lists(MAILS, min_size=1, max_size=4))
    def append(self, worker: int, name: str, mails: list[NewMessage]) -> None:
        """New mail."""
        try:
            now(self.accounts[worker].append(name, mails))
        except NoSuchMailbox:
            assert name == "Other"

    @rule(worker=WORKERS)
    def deliver(self, worker: int) -> None:
        """Mail that arrives; whoever looks first files it."""
        self.worlds[worker].deliver(MAIL)

    @rule(worker=WORKERS, name=PLACES, uids=st.sets(st.integers(1, 12), min_size=1))
    def flag(self, worker: int, name: str, uids: set[int]) -> None:
        r"""\Deleted or \Seen."""
        self.in_mailbox(worker, name, StoreMode.ADD, UidSet.of(uids))

    @rule(worker=WORKERS, name=PLACES)
    def expunge(self, worker: int, name: str) -> None:
        r"""All that is \Deleted."""
        if (mailbox := self.select(worker, name, False)) is not None:
            now(mailbox.expunge(None, mailbox.opened.status.highest_modseq))

    @rule(worker=WORKERS, name=PLACES, uids=st.sets(st.integers(1, 12)), to=PLACES, move=st.booleans())
    def carry(self, worker: int, name: str, uids: set[int], to: str, move: bool) -> None:
        """COPY and MOVE."""
        if (mailbox := self.select(worker, name, False)) is None:
            return
        try:
            carry = mailbox.move if move else mailbox.copy
            now(carry(UidSet.of(uids), MailboxName(to), mailbox.opened.status.highest_modseq))
        except NoSuchMailbox:
            assert to == "Other"

    @rule(worker=WORKERS)
    def rename(self, worker: int) -> None:
        """Of an ordinary mailbox; its old name may be created again."""
        try:
            now(self.accounts[worker].rename("Other", "Renamed"))
        except NoSuchMailbox:
            now(self.accounts[worker].create("Other"))
        else:
            now(self.accounts[worker].delete("Renamed"))

    @rule(worker=WORKERS)
    def rename_inbox(self, worker: int) -> None:
        """Its messages move away."""
        now(self.accounts[worker].rename("INBOX", "Emptied"))
        now(self.accounts[worker].delete("Emptied"))

    @rule()
    def save(self) -> None:
        """The state that a restore brings back."""
        self.stop()
        self.saved = Path(self.folder.name) / "saved"
        shutil.copy(self.worlds[0].paths.mail_db, self.saved)
        self.start()

    @rule()
    def restore(self) -> None:
        """An older state, with other UIDVALIDITYs."""
        if self.saved is None:
            return
        self.stop()
        paths = self.worlds[0].paths
        shutil.copy(self.saved, paths.mail_db)
        self.restores += 1
        mark_restored(paths, self.restores)
        self.start()

    @rule(worker=WORKERS, name=PLACES, read_only=st.booleans())
    def look(self, worker: int, name: str, read_only: bool) -> None:
        """SELECT and EXAMINE."""
        self.select(worker, name, read_only)

    def select(self, worker: int, name: str, read_only: bool) -> Mailbox | None:
        """What a session is given is what is there, and what its neighbours were given stays."""
        account = self.accounts[worker]
        if name == "INBOX":
            now(account.status(name))  # files what waits
        try:
            expected = as_read(account, name, read_only)
        except NoSuchMailbox:
            with pytest.raises(NoSuchMailbox):
                now(account.select(name, read_only))
            return None
        mailbox: Mailbox = now(account.select(name, read_only))
        assert mailbox.opened == expected
        self.opened.append((mailbox.opened, list(expected.uids)))
        view = View(mailbox.opened)
        view.apply(now(mailbox.sync(ModSeq(0))))
        view.flush(True, False)
        return mailbox

    @rule(worker=WORKERS, name=PLACES, key=KEYS, order=ORDERS, twice=st.booleans())
    def sort(self, worker: int, name: str, key: search.Key, order: list[SortBy], twice: bool) -> None:
        """SORT answers as if nothing had been kept, the first time and later."""
        mailbox = self.select(worker, name, True)
        for _ in range(1 + twice):
            if mailbox is not None:
                asked = (mailbox.opened.mailbox_id, key, order, ModSeq(0), lambda _key: None, None)
                expected, _ = now(self.accounts[worker]._opened.read(sorting.sort, *asked))
                assert now(mailbox.sort(key, order, ModSeq(0))) == expected

    @rule(worker=WORKERS, name=PLACES, key=KEYS, algorithm=st.sampled_from(ThreadAlgorithm))
    def thread(self, worker: int, name: str, key: search.Key, algorithm: ThreadAlgorithm) -> None:
        """So does THREAD."""
        if (mailbox := self.select(worker, name, True)) is not None:
            opened, mailbox_id = self.accounts[worker]._opened, mailbox.opened.mailbox_id
            expected = now(opened.read(sorting.to_thread, mailbox_id, key, ModSeq(0), None, None))
            found, delta = now(mailbox.threads(key, algorithm, ModSeq(0)))
            assert tuple(found) == threads(expected.rows, algorithm)
            assert delta == expected.delta

    def in_mailbox(self, worker: int, name: str, mode: StoreMode, uids: UidSet) -> None:
        """STORE."""
        if (mailbox := self.select(worker, name, False)) is not None:
            flags = Flags(SystemFlag.DELETED | SystemFlag.SEEN)
            now(mailbox.store_flags(uids, mode, flags, None, mailbox.opened.status.highest_modseq))

    @invariant()
    def nothing_changes_what_was_given(self) -> None:
        """Values are shared, and so have to stay as they are."""
        for opened, uids in getattr(self, "opened", ()):
            assert list(opened.uids) == uids

    def teardown(self) -> None:
        """All mailboxes once more."""
        if hasattr(self, "worlds"):
            for worker in range(2):
                for name in NAMES:
                    self.sort(worker, name, search.All(), [SortBy(SortKey.DATE)], False)
                    self.thread(worker, name, search.All(), ThreadAlgorithm.REFERENCES)
            self.stop()
            self.folder.cleanup()


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
TestHistories = Histories.TestCase


def select_steps(account: Account, name: str = INBOX) -> int:
    """What a SELECT costs, in instructions of SQLite's virtual machine."""
    return steps(account._opened, mailboxes.select, name, True, account._opened.kept.get)


def test_a_mailbox_is_selected_again_without_reading_it(tmp_path: Path) -> None:
    """However many messages there are; also when flags have changed, and some messages came or went."""
    costs = []
    for count in (60, 240):
        world = World(tmp_path / str(count))
        account = filled(world, count)
        unchanged = select_steps(account)
        mailbox = now(account.select("INBOX", False))
        since = mailbox.opened.status.highest_modseq
        for flags in (SystemFlag.SEEN, SystemFlag.DELETED):
            now(mailbox.store_flags(UidSet.of([5, 9]), StoreMode.ADD, Flags(flags), None, since))
        now(mailbox.expunge(None, since))
        now(account.append("INBOX", [NewMessage(MAIL)]))
        changed = select_steps(account)
        assert changed < select_steps_without(account)
        costs.append((unchanged, changed))
        world.close()
    assert costs[0] == costs[1]


def select_steps_without(account: Account) -> int:
    """What it costs where nothing is kept."""
    return steps(account._opened, mailboxes.select, INBOX, True, lambda _key: None)


def test_sessions_share_the_list_of_messages(world: World) -> None:
    """One array for all, until a session's own picture changes."""
    filled(world, 5)
    first, second = (now(world.login().select("INBOX", False)) for _ in range(2))
    assert first.opened.uids is second.opened.uids
    view, other = View(first.opened), View(second.opened)
    now(first.store_flags(UidSet.of([2]), StoreMode.ADD, Flags(SystemFlag.DELETED), None, view.modseq))
    view.apply(now(first.expunge(None, view.modseq)))
    view.flush(True, False)
    now(world.login().append("INBOX", [NewMessage(MAIL)]))
    other.apply(now(second.sync(other.modseq)))
    other.flush(False, False)
    assert (view.exists, other.exists) == (4, 6)
    assert list(first.opened.uids) == [1, 2, 3, 4, 5]


def test_nothing_is_kept_of_a_select_that_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a change may have been looked at by then."""
    account = filled(world, 3)
    kept = account._opened.kept
    before = kept.get((MailboxId(1), ()))
    now(account.append("INBOX", [NewMessage(MAIL)]))

    def fail(_txn: Txn, *_args: object) -> UidSet:
        raise StorageFailed("as the test wants")

    with monkeypatch.context() as patch:
        patch.setattr(listing_ops, "expunged_since", fail)
        with pytest.raises(StorageFailed):
            now(account.select("INBOX", False))
    assert before is not None
    assert kept.get((MailboxId(1), ())) is before
    assert list(now(account.select("INBOX", False)).opened.uids) == [1, 2, 3, 4]


def test_what_is_kept_goes_with_the_account(world: World) -> None:
    """It is closed some time after its last session."""
    account = filled(world, 3)
    opened = account._opened
    account.release()
    world.clock.advance(StoreLimits().close_grace_s + 1)
    assert opened.kept.get((MailboxId(1), ())) is None


def of(count: int, modseq: int = 1) -> Listing:
    """A list of so many messages."""
    return Listing(ModSeq(modseq), Uid(count + 1), array("I", range(1, count + 1)))


def test_what_is_kept_is_bounded_and_the_last_used_stays() -> None:
    """By the numbers in all of it; what is too large by itself is not kept at all."""
    kept = Kept(2 * VALUE_NUMBERS + 10)
    first, second, third, fourth = ((MailboxId(number), ()) for number in range(1, 5))
    kept.keep(first, of(4))
    kept.keep(second, of(4))
    kept.keep(first, of(5))
    kept.keep(third, of(5))
    assert [kept.get(key) is not None for key in (first, second, third)] == [True, False, True]
    too_many = VALUE_NUMBERS + 11
    kept.keep(fourth, of(too_many))
    kept.keep(third, of(too_many, modseq=2))
    assert [kept.get(key) is not None for key in (first, third, fourth)] == [True, False, False]
    kept.keep(second, of(5))
    assert [kept.get(key) is not None for key in (first, second)] == [True, True]


def test_nothing_is_kept_of_an_account_that_closes(world: World) -> None:
    """A command that is still under way brings its result after all has been forgotten."""
    account = filled(world, 3)
    kept, key = account._opened.kept, (MailboxId(1), ())
    late = kept.get(key)
    assert late is not None
    world.close()
    assert kept.get(key) is None
    kept.keep(key, late)
    assert kept.get(key) is None


def test_many_orders_of_nothing_are_bounded_too() -> None:
    """Each has its key and its place, and a client can ask for hundreds of thousands of them."""
    kept = Kept(10 * VALUE_NUMBERS)
    orders = [(MailboxId(1), tuple(map(SortBy, keys))) for keys in islice(permutations(SortKey, 3), 40)]
    for order in orders:
        kept.keep(order, of(0))
    assert [kept.get(order) is not None for order in orders] == [False] * 30 + [True] * 10


def test_a_late_reader_does_not_put_back_what_was_before() -> None:
    """Two transactions may end in another order than they began."""
    kept, key = Kept(2 * VALUE_NUMBERS), (MailboxId(1), ())
    newer = of(3, modseq=5)
    kept.keep(key, newer)
    kept.keep(key, of(2, modseq=4))
    assert kept.get(key) is newer
