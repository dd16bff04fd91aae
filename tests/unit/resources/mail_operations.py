"""What the store does with mail: sessions, deliveries, filing, checkpoints."""

from __future__ import annotations

import fcntl

from backup_world import message, now
from everything import (
    BEGINNING,
    NAME,
    ONE,
    Operation,
    Step,
    World,
)

from mailstore import eviction, filing, page_journal, sealed
from mailstore.account import (
    exclusive_lock,
)
from mailstore.account_database import account_database, checkpoint, close_kept
from mailstore.engine import Database
from mailstore.errors import StoreError
from mailstore.mime import SectionSpec
from mailstore.model import FetchPlan, Flags, NewMessage, SectionRead, StoreMode, SystemFlag
from mailstore.sealed import SealedId, new_sealed_id
from mailstore.search import BodyText
from mailstore.store import Account
from mailstore.uidset import UidSet


def _session(world: World) -> Account:
    assert world.account is not None
    return world.account


def append_and_expunge(world: World) -> None:
    account = _session(world)
    now(account.append("Drafts", [NewMessage(message("draft"), Flags(SystemFlag.DELETED))]))
    drafts = now(account.select("Drafts", False))
    now(drafts.expunge(None, BEGINNING))
    assert now(account.status("Drafts")).messages == 0


def _copy_and_move(world: World) -> None:
    account = _session(world)
    inbox = now(account.select("INBOX", False))
    now(inbox.copy(ONE, "Archive", BEGINNING))
    archive = now(account.select("Archive", False))
    now(archive.move(UidSet(((1, 1 << 31),)), "Trash", BEGINNING))
    trash = now(account.select("Trash", False))
    now(trash.store_flags(UidSet(((1, 1 << 31),)), StoreMode.ADD, Flags(SystemFlag.DELETED), None, BEGINNING))
    now(trash.expunge(None, BEGINNING))


def _read(world: World) -> None:
    account = _session(world)
    inbox = now(account.select("INBOX", False))
    now(inbox.fetch([1, 2], FetchPlan(set_seen=True, envelope=True), BEGINNING))
    now(inbox.content([1, 2], [SectionRead(SectionSpec())], 10_000))
    now(inbox.search(BodyText("text"), BEGINNING))
    now(account.list_mailboxes())
    now(account.overview(0))


def _mailboxes(world: World) -> None:
    account = _session(world)
    now(account.create("made"))
    now(account.annotate("made", {"/private/comment": b"x"}))
    now(account.rename("made", "renamed"))
    now(account.delete("renamed"))


def _delete_made(world: World) -> None:
    for name in ("made", "renamed"):
        try:
            now(_session(world).delete(name))
        except StoreError:
            continue
    world.close_session()


def _file(world: World) -> None:
    account = _session(world)
    filer = world.filer()
    batch = filer.load()
    assert batch is not None
    try:
        opened = world.mail.store._open[account.account_id]
        now(opened.write(filer.insert, batch))
        filer.remove(batch)
    finally:
        batch.release()


def _nothing_lost(world: World) -> None:
    """The waiting message is in the inbox folder or in the mailbox, and not twice in it."""
    account = _session(world)
    now(account.status("INBOX"))
    opened = world.mail.store._open[account.account_id]
    subjects = (
        "SELECT count(*) FROM placed JOIN message_meta USING(message_id) WHERE sort_subject = 'WAITING'"
    )
    filed = now(opened.read(lambda txn: txn.value(subjects)))
    assert filed <= 1 and (filed or sealed.pending(world.paths.inbox))


def _with_waiting(world: World) -> None:
    world.open_session()
    sealed.deliver(world.paths.inbox, *world.blob())


def _without_waiting(world: World) -> None:
    account = _session(world)
    world.empty_inbox()
    inbox = now(account.select("INBOX", False))
    new = UidSet(((4, 1 << 31),))
    now(inbox.store_flags(new, StoreMode.ADD, Flags(SystemFlag.DELETED), None, BEGINNING))
    now(inbox.expunge(new, BEGINNING))
    world.close_session()


def _file_beside_another(world: World) -> None:
    with (world.paths.folder / filing.LOCK_NAME).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        filer = world.filer()
        assert filer.load() is None and not filer.is_free()


def _look_at_inbox(world: World) -> None:
    filer = world.filer()
    filer.is_waiting()
    filer.waiting()
    assert filer.is_free()


def _set_aside_damaged(world: World) -> None:
    batch = world.filer().load()
    assert batch is not None and batch.messages == ()
    batch.release()


def _write_damaged(world: World) -> None:
    (world.paths.inbox / f"{new_sealed_id()}.sealed").write_bytes(b"rubbish")


def deliver(world: World) -> None:
    world.mail.deliver(message("waiting"), NAME.encode())


def _delivered_or_nothing(world: World) -> None:
    assert [path for path in world.paths.inbox.iterdir() if path.suffix != ".sealed"] == []


def _database(world: World) -> None:
    with account_database(world.paths, world.key()) as database:
        assert database.read(0, lambda txn: txn.value("SELECT count(*) FROM placed")) >= 3


def _change(database: Database) -> None:
    database.write(0, lambda txn: txn.run("UPDATE mailbox SET name = name"))


def _checkpoint(world: World) -> None:
    database = world.made
    assert checkpoint(world.paths, database)


def _open_changed(world: World) -> None:
    manager = account_database(world.paths, world.key())
    world.made = manager.__enter__()
    world.account = None
    world.spare.joinpath("manager").touch()
    world._manager = manager  # type: ignore[attr-defined]
    _change(world.made)


def _close_changed(world: World) -> None:
    world._manager.__exit__(None, None, None)  # type: ignore[attr-defined]
    page_journal.make_journal(world.paths.page_journal)
    assert not world.paths.wal.exists()


def _sound(world: World) -> None:
    assert world.made.pragma("PRAGMA integrity_check") == [("ok",)]
    assert world.made.pragma("PRAGMA cipher_integrity_check") == []


def _long_journal(world: World) -> None:
    _open_changed(world)
    with world.paths.page_journal.open("ab") as file:
        file.truncate(page_journal.MAX_JOURNAL_BYTES)


def _close_beside_a_snapshot(world: World) -> None:
    with exclusive_lock(world.paths):
        with account_database(world.paths, world.key(), wait_s=0.0) as database:
            _change(database)
        assert not close_kept()
    assert close_kept()


def _evict(world: World) -> None:
    with eviction.evicted(world.paths, 0.0):
        assert eviction.asked_to_leave(world.paths)


def _whole_session(world: World) -> None:
    account = world.mail.login()
    try:
        now(account.status("INBOX"))
    finally:
        account.release()
        world.settle()


WITH_SESSION: dict[str, Step] = {
    "prepare": lambda world: world.open_session(),
    "undo": lambda world: world.close_session(),
}

MAIL = [
    Operation("a session from login to the end", _whole_session),
    Operation("append and expunge", append_and_expunge, **WITH_SESSION),
    Operation("copy and move", _copy_and_move, **WITH_SESSION),
    Operation("read", _read, **WITH_SESSION),
    Operation("mailboxes", _mailboxes, prepare=WITH_SESSION["prepare"], undo=_delete_made),
    Operation("deliver", deliver, undo=lambda world: world.empty_inbox(), check=_delivered_or_nothing),
    Operation("file", _file, prepare=_with_waiting, undo=_without_waiting, check=_nothing_lost),
    Operation("file beside another process", _file_beside_another),
    Operation("look at the inbox", _look_at_inbox),
    Operation(
        "set a damaged message aside",
        _set_aside_damaged,
        prepare=_write_damaged,
        undo=lambda world: world.empty_inbox(),
    ),
    Operation(
        "read a sealed message",
        lambda world: [
            (sealed.sealed_size(world.paths.inbox, one), sealed.read_sealed(world.paths.inbox, one))
            for one in sealed.pending(world.paths.inbox)
        ],
        prepare=deliver,
        undo=lambda world: world.empty_inbox(),
    ),
    Operation(
        "remove a sealed message",
        lambda world: sealed.remove(world.paths.inbox, world.made),
        prepare=lambda world: setattr(world, "made", _delivered(world)),
        undo=lambda world: world.empty_inbox(),
    ),
    Operation(
        "clean_leftovers",
        lambda world: sealed.clean_leftovers(world.paths.inbox, now=1e12),
        prepare=lambda world: (world.paths.inbox / f".{new_sealed_id()}.tmp").write_bytes(b"x"),
        undo=lambda world: world.empty_inbox(),
    ),
    Operation("open and close a database", _database),
    Operation("checkpoint", _checkpoint, prepare=_open_changed, undo=_close_changed, check=_sound),
    Operation(
        "checkpoint with a journal that is full",
        _checkpoint,
        prepare=_long_journal,
        undo=_close_changed,
        check=_sound,
    ),
    Operation("close beside a snapshot", _close_beside_a_snapshot),
    Operation("evict", _evict),
]


def _delivered(world: World) -> SealedId:
    sealed_id, blob = world.blob()
    sealed.deliver(world.paths.inbox, sealed_id, blob)
    return sealed_id
