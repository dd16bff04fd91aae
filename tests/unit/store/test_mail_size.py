"""What LMTP counts against a storage limit: it follows what was deleted, and needs no key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_world import NAME, World, now

from mailstore import delivering, inbox_size, mail_size
from mailstore.errors import OverQuota
from mailstore.inbox_size import waiting_bytes
from mailstore.limits import StoreLimits
from mailstore.mail_size import GRAIN_BYTES, SIZE_FILE, used_bytes
from mailstore.model import Flags, ModSeq, NewMessage, SystemFlag
from mailstore.store import Account
from mailstore.uidset import UidSet

MESSAGES, OCTETS = 5, 200_000
LIMIT_BYTES = MESSAGES * OCTETS
LIMITS = StoreLimits()
NEW = b"Subject: new\r\n\r\nhello\r\n"


def fill(account: Account) -> None:
    """Mail that cannot be made smaller, more than ``LIMIT_BYTES`` of it on the disk."""
    for _each in range(MESSAGES):
        now(account.append("Drafts", [NewMessage(b"\r\n" + os.urandom(OCTETS), Flags(SystemFlag.DELETED))]))


def empty(account: Account) -> None:
    """All of it is deleted."""
    mailbox = now(account.select("Drafts", False))
    everything = UidSet.of(range(1, MESSAGES + 1))
    now(mailbox.expunge(everything, ModSeq(0)))


def is_full(world: World) -> bool:
    """Whether RCPT says so, which is what the socketmap says too."""
    try:
        now(world.store.recipient(NAME, len(NEW)))
    except OverQuota:
        return True
    return False


def limited(world: World) -> None:
    """The account may have ``LIMIT_BYTES``."""
    world.directory.set_quota(world.directory.accounts()[0].account_id, LIMIT_BYTES)


def files_bytes(world: World) -> int:
    """What counts where nothing is known."""
    files = (world.paths.mail_db, world.paths.wal)
    found = sum(path.stat().st_size for path in files if path.exists())
    return found + waiting_bytes(world.paths.inbox)


def test_a_user_who_has_deleted_mail_gets_mail_again_while_he_stays(world: World) -> None:
    """After the next checkpoint, though the files are as long as before."""
    account = world.login()
    fill(account)
    limited(world)
    assert is_full(world)
    empty(account)
    world.clock.advance(LIMITS.checkpoint_delay_s)
    assert files_bytes(world) > LIMIT_BYTES
    assert not is_full(world)
    world.deliver(NEW)


@pytest.mark.parametrize("end", ["sleep", "close"])
def test_he_gets_mail_after_he_has_gone(world: World, end: str) -> None:
    """Also where he is still there and his account sleeps."""
    account = world.login()
    fill(account)
    limited(world)
    empty(account)
    if end == "sleep":
        (world.paths.folder / SIZE_FILE).unlink(missing_ok=True)
        world.clock.advance(LIMITS.hibernate_after_s + LIMITS.checkpoint_delay_s)
        world.clock.advance(LIMITS.hibernate_after_s)
        assert world.store.awake_accounts == 0
    else:
        account.release_at_once()
        world.clock.advance(0)
        assert world.store.open_accounts == 0
    assert files_bytes(world) > LIMIT_BYTES
    assert not is_full(world)


def test_what_came_since_counts(world: World) -> None:
    """The file is not written at each message: what the files have grown by is added."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(NEW)]))
    world.clock.advance(LIMITS.checkpoint_delay_s)
    before = files_bytes(world)
    assert used_bytes(world.paths) == GRAIN_BYTES
    fill(account)
    limited(world)
    assert used_bytes(world.paths) == GRAIN_BYTES + files_bytes(world) - before
    assert is_full(world)


def test_annotations_count_as_mail_does(world: World) -> None:
    """Who fills his account with METADATA gets no more mail than who fills it with messages."""
    account = world.login()
    for name in ("Sent", "Drafts"):
        now(account.annotate(name, {"/private/comment": os.urandom(LIMIT_BYTES // 2)}))
    limited(world)
    world.clock.advance(LIMITS.checkpoint_delay_s)
    assert is_full(world)
    now(account.annotate("Sent", {"/private/comment": None}))
    world.clock.advance(LIMITS.checkpoint_delay_s)
    assert not is_full(world)


def test_deliveries_at_once_do_not_pass_the_limit_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was let in when the other had not come yet. What is refused leaves nothing, and the sum known."""
    world.deliver(b"\r\n")
    world.directory.set_quota(
        world.directory.accounts()[0].account_id, waiting_bytes(world.paths.inbox) + 1500
    )
    real, between = delivering.seal, [lambda: world.deliver(bytes(1000))]

    def slow(*arguments: object) -> bytes:
        if between:
            between.pop()()
        return real(*arguments)

    monkeypatch.setattr(delivering, "seal", slow)
    with pytest.raises(OverQuota):
        world.deliver(bytes(1000))
    assert len(list(world.paths.inbox.iterdir())) == 2
    monkeypatch.setattr(inbox_size, "_counted", lambda _inbox: pytest.fail("counted again"))
    waiting = waiting_bytes(world.paths.inbox)
    assert waiting == sum(path.stat().st_size for path in world.paths.inbox.iterdir())


def _restored(world: World) -> None:
    new = world.paths.folder / "new"
    new.write_bytes(world.paths.mail_db.read_bytes())
    new.rename(world.paths.mail_db)


def _is_no_file(world: World) -> None:
    path = world.paths.folder / SIZE_FILE
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "change",
    [
        lambda world: (world.paths.folder / SIZE_FILE).unlink(),
        lambda world: (world.paths.folder / SIZE_FILE).write_bytes(b"\0" * 63),
        lambda world: (world.paths.folder / SIZE_FILE).write_bytes(b"1 2 3\n"),
        _is_no_file,
        _restored,
    ],
    ids=["missing", "lost in a power cut", "not ours", "no file", "of another database"],
)
def test_without_a_size_that_can_be_believed_the_files_count(
    world: World, change: Callable[[World], object]
) -> None:
    """As they always did; and the next who has the account open writes it again."""
    account = world.login()
    fill(account)
    empty(account)
    world.close()
    assert used_bytes(world.paths) < LIMIT_BYTES < files_bytes(world)
    change(world)
    assert used_bytes(world.paths) == files_bytes(world)
    if (world.paths.folder / SIZE_FILE).is_dir():
        return
    again = World(world.root)
    again.login()
    again.close()
    assert used_bytes(world.paths) < LIMIT_BYTES


def test_mail_counts_as_long_as_it_is(world: World) -> None:
    """Mail that can be made small fills an account for senders as it does for its mail programs."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"\r\n" + b"x" * (1 << 20))]))
    world.close()
    assert files_bytes(world) < 1 << 20 < used_bytes(world.paths)


def test_the_size_says_nothing_of_a_single_message(world: World) -> None:
    """It is rounded up, and readable by its owner alone."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"\r\n" + os.urandom(70_001))]))
    world.close()
    path = world.paths.folder / SIZE_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert int(path.read_bytes().split()[2]) == 2 * GRAIN_BYTES


def test_deliveries_pay_for_a_size_at_checkpoints_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages are filed between two of them."""
    written: list[Path] = []
    note = mail_size.note_mail_size

    def counting(paths: mail_size.AccountPaths, size_bytes: int | None) -> None:
        written.append(paths.folder)
        note(paths, size_bytes)

    monkeypatch.setattr("mailstore.account_database.note_mail_size", counting)
    account = world.login()
    for _each in range(20):
        world.deliver(NEW)
        now(account.status("INBOX"))
    assert written == []
    world.clock.advance(LIMITS.checkpoint_delay_s)
    assert len(written) == 1
