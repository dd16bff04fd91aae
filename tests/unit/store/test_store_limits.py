"""Every bound on an account: what just fits is kept, one more is refused and changes nothing."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from store_world import NAME, PASSWORD, World, now
from twisted.internet.defer import Deferred

from mailstore.errors import LimitExceeded, MailboxNameInvalid, MessageTooLarge, OverQuota, StoreError
from mailstore.filing import FEW_BYTES, FEW_MESSAGES, LOCK_NAME, Batch
from mailstore.limits import LARGEST_MESSAGE_BYTES, StoreLimits
from mailstore.model import AccessProtocol, Flags, ModSeq, NewMessage, StoreMode, SystemFlag
from mailstore.names import MAX_DEPTH, MAX_NAME_BYTES
from mailstore.ops.messages import MAX_KEYWORDS
from mailstore.schema import DEFAULT_MAILBOXES
from mailstore.sealed import DEFAULT_LIMITS, padded_size
from mailstore.store import Account
from mailstore.uidset import UidSet

MADE = len(DEFAULT_MAILBOXES)
BEGINNING = ModSeq(0)


@contextmanager
def limited(root: Path, limits: StoreLimits) -> Iterator[World]:
    """A world in which something is bounded closely."""
    world = World(root, limits)
    try:
        yield world
    finally:
        world.close()


def message(size: int) -> NewMessage:
    """A message of so many octets."""
    return NewMessage(b"\r\n".ljust(size, b"x"))


def keywords(first: int, last: int) -> Flags:
    """Different keywords, by number."""
    return Flags(SystemFlag(0), tuple(f"k{number}" for number in range(first, last)))


def store(account: Account, flags: Flags) -> Any:
    """STORE +FLAGS on the first message of Drafts."""
    mailbox = now(account.select("Drafts", False))
    return mailbox.store_flags(UidSet.of([1]), StoreMode.ADD, flags, None, BEGINNING)


@dataclass(frozen=True)
class Case:
    """``fits`` are done in turn, each within the bound; ``beyond`` would each pass it."""

    what: str
    limits: StoreLimits
    fits: tuple[Callable[[Account], Any], ...]
    beyond: tuple[Callable[[Account], Any], ...]
    error: type[StoreError]
    quota_bytes: int | None = None

    def __str__(self) -> str:
        return self.what


DEFAULTS = StoreLimits()
NAME_1000, NAME_1001 = "x" * MAX_NAME_BYTES, "x" * (MAX_NAME_BYTES + 1)
DEEP, DEEPER = "/".join("x" * MAX_DEPTH), "/".join("x" * (MAX_DEPTH + 1))

CASES = [
    Case(
        "max_mailboxes",
        StoreLimits(max_mailboxes=MADE + 3),
        (lambda account: account.create("a"), lambda account: account.create("b/c")),
        (
            lambda account: account.create("d"),
            lambda account: account.rename("a", "e/f"),
            lambda account: account.rename("INBOX", "g"),
        ),
        LimitExceeded,
    ),
    Case(
        "max_mailboxes with superiors",
        StoreLimits(max_mailboxes=MADE + 3),
        (lambda account: account.create("a"),),
        (lambda account: account.create("b/c/d"),),
        LimitExceeded,
    ),
    Case(
        "max_subscriptions",
        StoreLimits(max_subscriptions=MADE + 2),
        (lambda account: account.subscribe("a"), lambda account: account.subscribe("b")),
        (lambda account: account.subscribe("c"),),
        LimitExceeded,
    ),
    Case(
        "max_annotations",
        StoreLimits(max_annotations=2),
        (
            lambda account: account.annotate(None, {"/private/a": b"1", "/private/b": b"1"}),
            lambda account: account.annotate("Sent", {"/private/a": b"1", "/private/b": b"1"}),
        ),
        (
            lambda account: account.annotate(None, {"/private/c": b"1"}),
            lambda account: account.annotate("Sent", {"/private/a": b"2", "/private/c": b"1"}),
        ),
        LimitExceeded,
    ),
    Case(
        "max_annotation_bytes",
        StoreLimits(max_annotation_bytes=40),
        (
            lambda account: account.annotate(None, {"/private/a": b"1234567890"}),
            lambda account: account.annotate("Sent", {"/private/a": b"1234567890"}),
        ),
        (
            lambda account: account.annotate(None, {"/private/a": b"12345678901"}),
            lambda account: account.annotate("Drafts", {"/private/b": b""}),
        ),
        LimitExceeded,
    ),
    Case(
        "quota with annotations",
        StoreLimits(),
        (
            lambda account: account.append("Drafts", [message(1000)]),
            lambda account: account.annotate("Sent", {"/private/a": bytes(490)}),
            lambda account: account.annotate(None, {"/private/a": bytes(490)}),
        ),
        (
            lambda account: account.annotate(None, {"/private/b": b""}),
            lambda account: account.annotate("Sent", {"/private/a": bytes(491)}),
            lambda account: account.append("Drafts", [message(9)]),
            lambda account: copy(account, 1),
        ),
        OverQuota,
        quota_bytes=2000,
    ),
    Case(
        "max_messages",
        StoreLimits(max_messages=3),
        (
            lambda account: account.append("Drafts", [message(9), message(9)]),
            lambda account: copy(account, 1),
        ),
        (lambda account: account.append("Drafts", [message(9)]), lambda account: copy(account, 1)),
        OverQuota,
    ),
    Case(
        "max_message_bytes",
        StoreLimits(max_message_bytes=100),
        (lambda account: account.append("Drafts", [message(100)]),),
        (lambda account: account.append("Drafts", [message(9), message(101)]),),
        MessageTooLarge,
    ),
    Case(
        "quota",
        DEFAULTS,
        (lambda account: account.append("Drafts", [message(500)]), lambda account: copy(account, 1)),
        (lambda account: account.append("Drafts", [message(2)]), lambda account: copy(account, 1)),
        OverQuota,
        1000,
    ),
    Case(
        "keywords of a mailbox",
        DEFAULTS,
        (
            lambda account: account.append("Drafts", [NewMessage(b"", keywords(0, 100))]),
            lambda account: store(account, keywords(50, MAX_KEYWORDS)),
            lambda account: store(account, keywords(0, 5)),
        ),
        (
            lambda account: store(account, keywords(MAX_KEYWORDS, MAX_KEYWORDS + 1)),
            lambda account: account.append("Drafts", [NewMessage(b"", keywords(0, MAX_KEYWORDS + 1))]),
        ),
        LimitExceeded,
    ),
    Case(
        "length of a name",
        DEFAULTS,
        (lambda account: account.create(NAME_1000), lambda account: account.create("\u00e4" * 500)),
        (lambda account: account.create(NAME_1001), lambda account: account.create("\u00e4" * 500 + "x")),
        MailboxNameInvalid,
    ),
    Case(
        "depth of a name",
        DEFAULTS,
        (lambda account: account.create(DEEP),),
        (lambda account: account.create(DEEPER), lambda account: account.rename("Sent", DEEPER)),
        MailboxNameInvalid,
    ),
]


def copy(account: Account, uid: int) -> Any:
    """COPY from Drafts to Archive."""
    return now(account.select("Drafts", True)).copy(UidSet.of([uid]), "Archive", BEGINNING)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_just_fits_is_kept_and_one_more_is_not(tmp_path: Path, case: Case) -> None:
    """And what was refused has changed nothing, not even a part of it."""
    with limited(tmp_path / "root", case.limits) as world:
        if case.quota_bytes is not None:
            world.directory.set_quota(world.directory.accounts()[0].account_id, case.quota_bytes)
        account = world.login()
        for fits in case.fits:
            now(fits(account))
        before = now(account.overview(0))
        for beyond in case.beyond:
            with pytest.raises(case.error):
                now(beyond(account))
            assert now(account.overview(0)) == before


def test_a_name_that_is_subscribed_already_needs_no_room(tmp_path: Path) -> None:
    """SUBSCRIBE says OK to it also where no other name would fit (RFC 3501 section 6.3.6)."""
    with limited(tmp_path / "root", StoreLimits(max_subscriptions=MADE)) as world:
        account = world.login()
        now(account.subscribe("Sent"))
        assert len(now(account.list_mailboxes()).mailboxes) == MADE


def test_deliveries_at_their_bounds(tmp_path: Path) -> None:
    """A message of the largest size is taken; the quota is compared with what lies on the disk."""
    with limited(tmp_path / "root", StoreLimits(max_message_bytes=1000)) as world:
        world.deliver(bytes(1000))
        with pytest.raises(MessageTooLarge):
            world.deliver(bytes(1001))
        used = sum(path.stat().st_size for path in world.paths.inbox.iterdir())
        world.directory.set_quota(world.directory.accounts()[0].account_id, used + 500)
        world.deliver(bytes(500))
        with pytest.raises(OverQuota):
            world.deliver(b"")
        assert len(list(world.paths.inbox.iterdir())) == 2


def sizes(world: World, limits: StoreLimits, few: bool) -> tuple[int, bool]:
    """How many messages a batch takes of what waits, and whether it leaves any."""
    world.store.limits = limits
    account = world.login()
    filer = world.store._open[account.account_id]._filer
    filer._limits = limits
    filer.relist()
    batch: Batch | None = filer.load(few=few)
    assert batch is not None
    batch.release()
    return len(batch.messages), batch.more


def waiting(world: World, *contents: int) -> list[int]:
    """Have messages wait for an account that is open and does not look; how large they are sealed."""
    for size in contents:
        world.deliver(bytes(size))
    return [path.stat().st_size for path in sorted(world.paths.inbox.iterdir())]


@pytest.mark.parametrize("most", [2, 3, 4])
def test_a_filing_batch_has_so_many_messages(tmp_path: Path, most: int) -> None:
    """Not one more; the last batch says that nothing is left."""
    with limited(tmp_path / "root", StoreLimits(filing_batch_messages=most)) as world:
        world.login()
        waiting(world, 10, 10, 10)
        assert sizes(world, world.store.limits, False) == (min(most, 3), most < 3)


def test_a_filing_batch_ends_with_the_message_that_makes_it_full(tmp_path: Path) -> None:
    """One octet more of room, and another message has a place."""
    with limited(tmp_path / "root", DEFAULTS) as world:
        world.login()
        first, *_ = waiting(world, 10_000, 10_000, 10_000)
        for room, count in ((1, 1), (first, 1), (first + 1, 2), (2 * first + 1, 3)):
            assert sizes(world, StoreLimits(filing_batch_bytes=room), False) == (count, count < 3)


def test_a_few_messages_are_so_many(tmp_path: Path) -> None:
    """What is filed in the writer's own turn has a bound of its own."""
    with limited(tmp_path / "root", DEFAULTS) as world:
        world.login()
        waiting(world, *[10] * (FEW_MESSAGES + 1))
        assert sizes(world, DEFAULTS, True) == (FEW_MESSAGES, True)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_few_messages_are_so_large(tmp_path: Path, beyond: int) -> None:
    """The octet that is too many leaves its message for a batch that is made outside the writer's turn."""
    with limited(tmp_path / "root", DEFAULTS) as world:
        world.login()
        (small,) = waiting(world, 10)
        # Rubbish of that size: who takes it up sets it aside.
        large = world.paths.inbox / f"{'f' * 16}-{'0' * 16}.sealed"
        large.write_bytes(bytes(FEW_BYTES - small + beyond))
        assert sizes(world, DEFAULTS, True) == (1, bool(beyond))
        assert large.exists() is bool(beyond)


def test_filed_mail_is_remembered_for_so_long(tmp_path: Path) -> None:
    """To the second: until then a sealed message that comes back is not filed twice."""
    with limited(tmp_path / "root", DEFAULTS) as world:
        account = world.login()
        opened = world.store._open[account.account_id]
        world.deliver(b"x")
        now(account.status("INBOX"))
        database = now(opened._rest._databases.writer.run(lambda database: database))
        nothing = Batch((), more=False, lock=None)
        filed_at = database.read(0, lambda txn: txn.value("SELECT filed_at FROM filed"))
        for age_s, count in ((DEFAULTS.filed_memory_s, 1), (DEFAULTS.filed_memory_s + 1, 0)):
            opened._filer._forgot = 0  # it does so now and then
            database.write(filed_at + age_s, opened._filer.insert, nothing)
            assert database.read(0, lambda txn: txn.value("SELECT count(*) FROM filed")) == count


@pytest.mark.parametrize("kills", [1, 2])
def test_what_a_killed_worker_did_not_unlink_is_filed_once_however_late_the_next_login_is(
    tmp_path: Path, kills: int
) -> None:
    """Its ids are past their time by then, in every batch of the pass, and again after another kill."""
    with limited(tmp_path / "root", DEFAULTS) as world:
        account = world.login()
        opened = world.store._open[account.account_id]
        with (world.paths.folder / LOCK_NAME).open("r+b") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            waiting(world, *[10] * (2 * FEW_MESSAGES + 1))
            unlinked = {path: path.read_bytes() for path in world.paths.inbox.iterdir()}
        opened._filer._limits = StoreLimits(filing_batch_messages=FEW_MESSAGES)
        database = now(opened._rest._databases.writer.run(lambda database: database))
        for age_s in range(0, (kills + 1) * (DEFAULTS.filed_memory_s + 1), DEFAULTS.filed_memory_s + 1):
            for path, content in unlinked.items():
                path.write_bytes(content)
            opened._filer.relist()
            few = more = True
            while more:
                batch = opened._filer.load(few=few)
                assert batch is not None
                database.write(1_800_000_000 + age_s, opened._filer.insert, batch)
                batch.release()
                few, more = False, batch.more
        assert database.read(0, lambda txn: txn.value("SELECT count(*) FROM placed")) == len(unlinked)


def test_a_pop3_login_waits_for_filing_for_so_long(tmp_path: Path) -> None:
    """And then shows what there is."""
    limits = StoreLimits(maildrop_filing_wait_s=7.0, filing_wait_s=1.0)
    with limited(tmp_path / "root", limits) as world:
        world.login()
        with (world.paths.folder / LOCK_NAME).open("r+b") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            world.deliver(b"x")
            login = Deferred.fromCoroutine(world.store.login(NAME, PASSWORD, AccessProtocol.POP3))
            world.clock.pump([0.1] * 69)
            assert not login.called
            world.clock.pump([0.1] * 2)
            assert login.called
        world.clock.advance(1.0)


def test_connections_of_an_account(tmp_path: Path) -> None:
    """Readers and searchers have as many as they may, each with its share of memory, the writer one."""
    limits = StoreLimits(reader_connections=3, search_connections=2, cache_kib=123)
    with limited(tmp_path / "root", limits) as world:
        opened = world.store._open[world.login().account_id]
        lanes = (
            opened._rest._databases.writer,
            opened._rest._databases.readers,
            opened._rest._databases.searching._searchers,
        )
        assert [lane._unopened + len(lane._idle) for lane in lanes] == [1, 3, 2]
        for lane in lanes:
            database = now(lane.run(lambda resource: getattr(resource, "mail", resource)))
            assert database.pragma("PRAGMA cache_size") == [(-123,)]


def test_the_largest_message_that_may_be_allowed_can_be_opened_when_it_is_sealed() -> None:
    """With far more than delivery adds to it, and padded; one octet more is refused as a setting."""
    added = 1024 * 1024
    sealed = padded_size(LARGEST_MESSAGE_BYTES + added) + 1024
    assert sealed <= DEFAULT_LIMITS.blob_bytes
    StoreLimits(max_message_bytes=LARGEST_MESSAGE_BYTES)
    with pytest.raises(ValueError, match="max_message_bytes can be 262144000 at most"):
        StoreLimits(max_message_bytes=LARGEST_MESSAGE_BYTES + 1)
