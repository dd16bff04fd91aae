"""What the store does with mail: sessions, deliveries, filing, checkpoints."""

from __future__ import annotations

import fcntl

from backup_world import message, now
from everything import (
    BEGINNING,
    NAME,
    NOWHERE,
    Operation,
    Step,
    World,
)

from mailstore import eviction, filing, page_journal, sealed
from mailstore.account import shared_lock
from mailstore.account_database import (
    account_database,
    checkpoint,
    close_databases,
    close_kept,
    open_database,
)
from mailstore.engine import Database
from mailstore.limits import StoreLimits
from mailstore.mime import SectionSpec
from mailstore.model import FetchPlan, Flags, NewMessage, SectionRead, StoreMode, SystemFlag
from mailstore.sealed import SealedId, new_sealed_id
from mailstore.search import BodyText
from mailstore.store import Account
from mailstore.uidset import UidSet

_SIZE = r"SELECT coalesce\(sum\(size_bytes\), "
"""Read to be written down: nobody misses it."""

_CHECKPOINT = rf"\w+ .*mail\.db-checkpoints|(BEGIN|COMMIT) .*mail\.db |stat .*mail\.db(-wal 0| 2)|{_SIZE}"
"""Without its journal, or the end of a note, a snapshot takes the whole file; the others are for the size."""


def _session(world: World) -> Account:
    assert world.account is not None
    return world.account


def append_and_expunge(world: World) -> None:
    """Change the database, and leave the mailboxes as they were."""
    account = _session(world)
    now(account.append("Drafts", [NewMessage(message("draft"), Flags(SystemFlag.DELETED))]))
    _empty(world, "Drafts")


def _empty(world: World, name: str, first: int = 1) -> None:
    mailbox = now(_session(world).select(name, False))
    uids = UidSet(((first, 1 << 31),))
    now(mailbox.store_flags(uids, StoreMode.ADD, Flags(SystemFlag.DELETED), None, BEGINNING))
    now(mailbox.expunge(uids, BEGINNING))


def _with_draft(world: World) -> None:
    """A session that has selected Drafts, with a message that is marked as deleted."""
    account = world.open_session()
    now(account.append("Drafts", [NewMessage(message("draft"), Flags(SystemFlag.DELETED, ("$Work",)))]))
    now(account.create("old"))
    world.made = now(account.select("Drafts", False))


def _with_news(world: World) -> None:
    """The same, and a message that no session has been told of."""
    _with_draft(world)
    now(_session(world).append("Drafts", [NewMessage(message("news"))]))


def _tidy(world: World) -> None:
    """The mailboxes are as they were at first."""
    for name in ("Drafts", "Archive"):
        _empty(world, name)
    for name in ("old", "made", "renamed"):
        if name in now(_session(world).statuses([name])):
            now(_session(world).delete(name))
    world.close_session()


def _mailboxes(world: World) -> object:
    """What is in them, as far as somebody sees it, and what is subscribed."""
    account = _session(world)
    listed = now(account.list_mailboxes()).mailboxes
    counts = {
        name: (one.messages, one.unseen, one.deleted, one.size_bytes)
        for name, one in now(account.statuses([info.name for info in listed])).items()
    }
    notes = {name: now(account.annotations(name)) for name in counts}
    return counts, notes, [info.subscribed for info in listed]


def _index(world: World) -> None:
    """All that there is to be indexed, or to be taken out of the index, while nothing fails."""
    indexer = _session(world)._opened._rest._databases.searching._indexer
    while now(indexer.run(lambda one: one.index.work(one.mail))) == 0.0:
        pass


def _on_draft(name: str, run: Step, goes_on: str = NOWHERE, may_go_on: str = NOWHERE) -> Operation:
    return Operation(name, run, _with_draft, _tidy, _mailboxes, True, goes_on, may_go_on)


ALL = UidSet(((1, 1 << 31),))
SEEN = Flags(SystemFlag.SEEN)

SESSION = [
    _on_draft("append", lambda world: now(_session(world).append("Drafts", [NewMessage(message("new"))]))),
    _on_draft("expunge", lambda world: now(world.made.expunge(None, BEGINNING))),
    _on_draft("copy", lambda world: now(world.made.copy(ALL, "Archive", BEGINNING))),
    _on_draft("move", lambda world: now(world.made.move(ALL, "Archive", BEGINNING))),
    _on_draft("store", lambda world: now(world.made.store_flags(ALL, StoreMode.ADD, SEEN, None, BEGINNING))),
    # Mail can be read where nothing can be written: \\Seen and \\Recent are for another time.
    _on_draft(
        "fetch",
        lambda world: now(world.made.fetch(world.made.opened.uids, FetchPlan(set_seen=True), BEGINNING)),
        goes_on=r"(open .*write\.lock|BEGIN IMMEDIATE|UPDATE)",
        may_go_on=r"(SELECT|COMMIT|stat .*mail\.db-wal)",
    ),
    Operation(
        "select",
        lambda world: now(_session(world).select("Drafts", False)),
        _with_news,
        _tidy,
        _mailboxes,
        undone=True,
        goes_on=r"(open .*write\.lock|BEGIN IMMEDIATE|UPDATE)",
        may_go_on=r"(SELECT|COMMIT|stat .*mail\.db-wal)",
    ),
    _on_draft("examine", lambda world: now(_session(world).select("Drafts", True))),
    _on_draft(
        "content",
        lambda world: now(world.made.content(world.made.opened.uids, [SectionRead(SectionSpec())], 10_000)),
    ),
    # Nothing about the search index makes a search fail, and indexing fails nobody.
    _on_draft(
        "search",
        lambda world: now(world.made.search(BodyText("text"), BEGINNING)),
        goes_on=r".*search\.db",
        may_go_on=r"(BEGIN|SELECT|COMMIT)",
    ),
    _on_draft("index", _index, goes_on=r".*search\.db", may_go_on="."),
    _on_draft("list", lambda world: now(_session(world).list_mailboxes())),
    _on_draft("overview", lambda world: now(_session(world).overview(0))),
    _on_draft("create", lambda world: now(_session(world).create("made"))),
    _on_draft("annotate", lambda world: now(_session(world).annotate("old", {"/private/x": b"x"}))),
    _on_draft("delete", lambda world: now(_session(world).delete("old"))),
    _on_draft("rename", lambda world: now(_session(world).rename("old", "renamed"))),
]


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


def _waiting_and_filed(world: World) -> object:
    """A waiting message is in the inbox folder or in the mailbox, and not twice in it."""
    opened = world.mail.store._open[_session(world).account_id]
    count = "SELECT count(*) FROM placed JOIN mailbox ON id = mailbox_id WHERE name = 'INBOX'"
    filed = now(opened.read(lambda txn: txn.value(count))) - 3
    waits = len(sealed.pending(world.paths.inbox))
    assert filed <= 1 and filed + waits >= 1
    return "one message"


def _with_waiting(world: World) -> None:
    world.open_session()
    sealed.deliver(world.paths.inbox, *world.blob())


def _without_waiting(world: World) -> None:
    world.empty_inbox()
    _empty(world, "INBOX", 4)
    world.close_session()


def _another_files(world: World) -> None:
    world.made = (world.paths.folder / filing.LOCK_NAME).open("wb")
    fcntl.flock(world.made, fcntl.LOCK_EX)


def _file_beside_another(world: World) -> None:
    filer = world.filer()
    assert filer.load() is None and not filer.is_free()


def _look_at_inbox(world: World) -> None:
    filer = world.filer()
    filer.is_waiting()
    filer.waiting()
    assert filer.is_free()


def _mark_damaged(world: World) -> None:
    batch = world.filer().load()
    assert batch is not None and batch.messages == ()
    batch.release()


def _write_damaged(world: World) -> None:
    (world.paths.inbox / f"{new_sealed_id()}.sealed").write_bytes(b"rubbish")


def deliver(world: World) -> None:
    world.mail.deliver(message("waiting"), NAME.encode())


def _database(world: World) -> None:
    with account_database(world.paths, world.key()) as database:
        assert database.read(0, lambda txn: txn.value("SELECT count(*) FROM placed")) >= 3


def _change(database: Database) -> None:
    database.write(0, lambda txn: txn.run("UPDATE mailbox SET name = name"))


def _open_changed(world: World) -> None:
    page_journal.make_journal(world.paths.page_journal)
    world.made = open_database(world.paths, world.key(), give_up=_close_now)
    _change(world.made)


def _close_now(database: Database) -> None:
    raise AssertionError("a good disk opens it")


def _close_changed(world: World) -> None:
    close_databases(world.paths, [world.made])
    assert not world.paths.wal.exists()


def _sound(world: World) -> object:
    assert world.made.pragma("PRAGMA integrity_check") == [("ok",)]
    assert world.made.pragma("PRAGMA cipher_integrity_check") == []
    return world.made.read(0, lambda txn: txn.value("SELECT count(*) FROM placed"))


def _long_journal(world: World) -> None:
    _open_changed(world)
    with world.paths.page_journal.open("ab") as file:
        file.truncate(page_journal.MAX_JOURNAL_BYTES)


def _close_beside_a_snapshot(world: World) -> None:
    with shared_lock(world.paths):
        with account_database(world.paths, world.key(), wait_s=0.0) as database:
            _change(database)
        close_kept()


def _all_closed(_world: World) -> None:
    assert close_kept()


def _evict(world: World) -> None:
    with eviction.evicted(world.paths, 0.0):
        assert eviction.asked_to_leave(world.paths)


def _end_session(world: World) -> None:
    world.close_session()


def _sleep_and_wake(world: World) -> None:
    world.mail.clock.advance(StoreLimits().hibernate_after_s + 1)
    assert not world.mail.store._open[_session(world).account_id].is_awake
    assert now(_session(world).status("INBOX")).messages == 3


def _set_made(step: Step) -> Step:
    def made(world: World) -> None:
        world.made = step(world)

    return made


def _delivered(world: World) -> SealedId:
    sealed_id, blob = world.blob()
    sealed.deliver(world.paths.inbox, sealed_id, blob)
    return sealed_id


def _read_sealed(world: World) -> None:
    for one in sealed.pending(world.paths.inbox):
        blob = sealed.read_sealed(world.paths.inbox, one)
        assert sealed.sealed_file(world.paths.inbox, one).size_bytes == len(blob)


def _empty_inbox(world: World) -> None:
    world.empty_inbox()


def _open_session(world: World) -> None:
    world.open_session()


MAIL = [
    # The login goes on where the inbox cannot be read: its mail waits for another try.
    Operation(
        "log in",
        _open_session,
        undo=_end_session,
        goes_on=r"(open .*filing\.lock|listdir .*inbox)",
        may_go_on=r"stat .*mail\.db-wal",  # also asked before mail is filed, which waits then
    ),
    # Nobody waits for it: what could not be closed or checkpointed is tried again, the log stays until then.
    Operation("close the account", _end_session, prepare=_open_session, undo=_all_closed, goes_on="."),
    # While it falls asleep nobody waits for it; who wakes it is told what fails.
    Operation("sleep and wake", _sleep_and_wake, prepare=_open_session, undo=_end_session, may_go_on="."),
    *SESSION,
    Operation("deliver", deliver, undo=_empty_inbox, undone=True),
    Operation("file", _file, prepare=_with_waiting, undo=_without_waiting, state=_waiting_and_filed),
    Operation(
        "file beside another process",
        _file_beside_another,
        prepare=_another_files,
        undo=lambda world: world.made.close(),
    ),
    Operation("look at the inbox", _look_at_inbox),
    Operation("mark a damaged message", _mark_damaged, prepare=_write_damaged, undo=_empty_inbox),
    Operation("read a sealed message", _read_sealed, prepare=deliver, undo=_empty_inbox),
    Operation(
        "remove a sealed message",
        lambda world: sealed.remove(world.paths.inbox, world.made),
        prepare=_set_made(_delivered),
        undo=_empty_inbox,
    ),
    Operation(
        "clean_leftovers",
        lambda world: sealed.clean_leftovers(world.paths.inbox, now=1e12),
        prepare=lambda world: (world.paths.inbox / f".{new_sealed_id()}.tmp").write_bytes(b"x"),
        undo=_empty_inbox,
    ),
    # The second transaction is for the size that is written down.
    Operation(
        "open and close a database",
        _database,
        undo=_all_closed,
        may_go_on=rf"(BEGIN|COMMIT) .*mail\.db 1|stat .*mail\.db(-wal 1| 3)|{_SIZE}",
    ),
    Operation(
        "checkpoint",
        lambda world: checkpoint(world.paths, world.made),
        prepare=_open_changed,
        undo=_close_changed,
        state=_sound,
        may_go_on=_CHECKPOINT,
    ),
    Operation(
        "checkpoint with a journal that is full",
        lambda world: checkpoint(world.paths, world.made),
        prepare=_long_journal,
        undo=_close_changed,
        state=_sound,
        may_go_on=_CHECKPOINT,
    ),
    Operation(
        "close beside a snapshot", _close_beside_a_snapshot, undo=_all_closed, may_go_on="(stat|open) "
    ),
    Operation("asked_to_leave", lambda world: eviction.asked_to_leave(world.paths)),
    Operation("evict", _evict),
]
