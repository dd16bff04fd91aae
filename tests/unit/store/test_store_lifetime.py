"""Opening, closing, checkpoints, filing and notices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from store_world import NAME, PASSWORD, TINY, World, now

from mailstore.account import NewAccount, create_account, destroy_account, exclusive_lock, shared_lock
from mailstore.databases import UNCLOSED_RETRY_S
from mailstore.engine import SQLITE_FULL, open_connection, translated
from mailstore.errors import AuthenticationFailed, DatabaseDamaged, StorageFull, TooNew
from mailstore.inbox import FILING_RETRY_S
from mailstore.limits import StoreLimits
from mailstore.model import AccessProtocol, FetchPlan, Flags, ModSeq, NewMessage, StoreMode, SystemFlag
from mailstore.schema import SCHEMA_VERSION
from mailstore.sealed import pending
from mailstore.store import Account
from mailstore.uidset import UidSet
from tests.unit.keys_world import is_unlocked

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
LIMITS = StoreLimits()


def wal(world: World) -> Path:
    """The WAL of the account."""
    return world.paths.mail_db.with_name("mail.db-wal")


def test_idle_account_closes_and_forgets_its_key(world: World) -> None:
    """After the last session and the grace, the database is closed and the key is gone."""
    account = world.login()
    account.release()
    account_id = account.account_id
    world.clock.advance(LIMITS.close_grace_s - 1)
    assert wal(world).exists()
    world.clock.advance(2)
    assert not wal(world).exists()
    assert account.unlocked.is_wiped
    assert not is_unlocked(world.store._unlocker, account_id)


def test_released_at_once_forgets_its_key(world: World) -> None:
    """UNAUTHENTICATE leaves no grace, but another session's account stays open."""
    first, second = world.login(), world.login()
    first.release_at_once()
    world.clock.advance(0)
    assert is_unlocked(world.store._unlocker, first.account_id)
    second.release_at_once()
    world.clock.advance(0)
    assert not wal(world).exists()
    assert not is_unlocked(world.store._unlocker, first.account_id)


def test_checking_a_secret_opens_no_database(world: World) -> None:
    """A program beside us that has a password checked costs no open account, and leaves no key."""
    before = sorted(path.name for path in world.paths.folder.iterdir())
    assert now(world.store.prove(NAME, PASSWORD, AccessProtocol.SMTP)) == NAME.decode()
    assert world.store._open == {}
    assert sorted(path.name for path in world.paths.folder.iterdir()) == before
    account = world.login()
    account_id = account.account_id
    now(world.store.prove(NAME, PASSWORD, AccessProtocol.SMTP))
    account.release_at_once()
    world.clock.advance(1)
    assert not is_unlocked(world.store._unlocker, account_id)


def test_checkpoint_waits_for_a_snapshot(world: World) -> None:
    """While a snapshot holds the lock the WAL only grows; afterwards it is emptied."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE)]))
    main = world.paths.mail_db.read_bytes()
    with shared_lock(world.paths):
        for _ in range(5):
            now(account.append("Drafts", [NewMessage(MESSAGE)]))
            world.clock.advance(LIMITS.checkpoint_delay_s + 1)
        assert world.paths.mail_db.read_bytes() == main
        assert wal(world).stat().st_size > 0
    world.clock.advance(LIMITS.checkpoint_delay_s + 1)
    assert wal(world).stat().st_size == 0


@pytest.mark.parametrize("change", ["a write", "a note", "filing"])
def test_the_log_is_emptied_after_each_kind_of_change(world: World, change: str) -> None:
    """However the WAL has grown, nobody needs to change anything else for it to be copied back."""
    account = world.login()
    mailbox = now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    world.clock.advance(LIMITS.checkpoint_delay_s + 1)
    assert wal(world).stat().st_size == 0
    match change:
        case "a write":
            now(account.append("INBOX", [NewMessage(MESSAGE)]))
        case "a note":  # the session that is told of new mail first has it as \Recent
            assert now(mailbox.news(mailbox.opened.status.highest_modseq)).recent
        case _:
            world.deliver(MESSAGE)
            assert now(account.status("INBOX")).messages == 2
    assert wal(world).stat().st_size > 0
    world.clock.advance(LIMITS.checkpoint_delay_s + 1)
    assert wal(world).stat().st_size == 0


def test_delivered_mail_is_filed_at_login_and_while_open(world: World) -> None:
    """Mail waits sealed while nobody is in, and is filed at once while somebody is."""
    world.deliver(MESSAGE)
    assert len(pending(world.paths.inbox)) == 1
    assert not world.paths.mail_db.exists()
    account = world.login()
    assert pending(world.paths.inbox) == []
    assert now(account.status("INBOX")).messages == 1
    world.deliver(MESSAGE)
    world.store.watcher.callbacks[world.paths.inbox](frozenset({"x.sealed"}))  # type: ignore[attr-defined]
    assert now(account.status("INBOX")).messages == 2


def test_first_batch_is_there_at_login(tmp_path: Path) -> None:
    """A login after a long absence waits for one batch only; the rest follows."""
    world = World(tmp_path / "root", StoreLimits(filing_batch_messages=2))
    for _ in range(5):
        world.deliver(MESSAGE)
    account = world.login()
    assert now(account.status("INBOX")).messages == 5
    assert pending(world.paths.inbox) == []
    world.close()


def test_filing_the_same_message_again_files_nothing(world: World) -> None:
    """A sealed file that reappears (restore, power cut before the unlink) is not filed twice."""
    world.deliver(MESSAGE)
    sealed = next(world.paths.inbox.glob("*.sealed"))
    copy = sealed.read_bytes()
    account = world.login()
    sealed.write_bytes(copy)
    world.store.watcher.callbacks[world.paths.inbox](frozenset({sealed.name}))  # type: ignore[attr-defined]
    assert now(account.status("INBOX")).messages == 1
    assert not sealed.exists()


def test_damaged_sealed_message_is_kept_aside(world: World) -> None:
    """What cannot be opened stops nobody and is not thrown away."""
    world.deliver(MESSAGE)
    sealed = next(world.paths.inbox.glob("*.sealed"))
    blob = bytearray(sealed.read_bytes())
    blob[-1] ^= 1
    sealed.write_bytes(blob)
    world.deliver(MESSAGE)
    assert now(world.login().status("INBOX")).messages == 1
    assert [path.suffix for path in world.paths.inbox.iterdir()] == [".damaged"]


def test_other_sessions_hear_of_changes(world: World) -> None:
    """A listener is called when its mailbox changed, and only then."""
    first, second = world.login(), world.login()
    heard: list[str] = []
    mailbox = now(first.select("Drafts", True))
    mailbox.on_change(lambda: heard.append("drafts"))
    folder = world.store.watcher.callbacks[world.paths.folder]  # type: ignore[attr-defined]
    now(second.append("Sent", [NewMessage(MESSAGE)]))
    folder(frozenset({"write.lock"}))
    assert heard == []
    now(second.append("Drafts", [NewMessage(MESSAGE)]))
    folder(frozenset({"write.lock"}))
    assert heard == ["drafts"]
    delta = now(mailbox.sync(mailbox.opened.status.highest_modseq))
    assert [one.uid for one in delta.changed] == [1]
    mailbox.close()
    now(second.append("Drafts", [NewMessage(MESSAGE)]))
    folder(frozenset({"write.lock"}))
    assert heard == ["drafts"]


def test_a_keyword_for_no_message_is_not_kept(world: World) -> None:
    """STORE that names no message, or in a mailbox that somebody has deleted, adds none and is no error."""
    first, second = world.login(), world.login()
    mailbox = now(first.select("Drafts", False))
    since, new = mailbox.opened.status.highest_modseq, Flags(SystemFlag.NONE, ("new",))
    for gone in (False, True):
        if gone:
            now(second.delete("Drafts"))
        done = now(mailbox.store_flags(UidSet.of([1]), StoreMode.ADD, new, None, since))
        assert (done.updated, done.missing, done.delta.mailbox_gone) == ((), UidSet.of([1]), gone)
        if not gone:
            assert now(second.select("Drafts", True)).opened.keywords == ()


def test_newer_database_is_refused(world: World) -> None:
    """A database of a newer program is not touched."""
    account = world.login()
    opened = world.store._open[account.account_id]
    key = opened._rest._databases.connections.key()
    account.release()
    world.clock.advance(LIMITS.close_grace_s + 1)
    database = open_connection(world.paths.mail_db, key)
    database.pragma(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with exclusive_lock(world.paths):
        database.close()
    with pytest.raises(TooNew):
        world.login()


def test_database_needs_the_right_key(world: World) -> None:
    """Another key opens nothing, and the error says nothing."""
    account = world.login()
    key = world.store._open[account.account_id]._rest._databases.connections.key()
    account.release()
    world.clock.advance(LIMITS.close_grace_s + 1)
    wrong = type(key)(bytes(32), key.salt)
    with pytest.raises(DatabaseDamaged, match=r"^the database is damaged$"):
        open_connection(world.paths.mail_db, wrong)
    assert PASSWORD.decode() not in repr(key)


def test_stop_tells_every_session(world: World) -> None:
    """Shutting down ends sessions through their callback and leaves no WAL behind."""
    account = world.login()
    told: list[bool] = []
    account.on_closed(lambda: told.append(True))
    now(world.store.stop())
    assert told == [True]
    assert not wal(world).exists()


def test_a_session_may_be_released_after_its_account_has_closed(world: World) -> None:
    """Also where the account was to close earlier, and a login came in time."""
    world.login().release()
    account = world.login()
    now(world.store.stop())
    account.release()
    assert not wal(world).exists()


def test_delta_of_a_deleted_mailbox(world: World) -> None:
    """A session in a mailbox that another one deletes learns that it is gone."""
    account = world.login()
    now(account.create("short-lived"))
    mailbox = now(account.select("short-lived", False))
    now(account.delete("short-lived"))
    assert now(mailbox.sync(ModSeq(0))).mailbox_gone


def test_integrity_after_work(world: World) -> None:
    """After filing, flagging and expunging, both integrity checks are clean and counters agree."""
    for number in range(20):
        world.deliver(MESSAGE + b"x" * number)
    account = world.login()
    database = now(world.store._open[account.account_id]._rest._databases.writer.run(lambda one: one))
    assert database.pragma("PRAGMA integrity_check") == [("ok",)]
    assert database.pragma("PRAGMA cipher_integrity_check") == []
    assert NAME.decode() not in str(translated) and SQLITE_FULL == 13


def test_filing_is_tried_again_after_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the mail stays in the inbox and is filed once there is room."""
    account = world.login()
    opened = world.store._open[account.account_id]
    insert = opened._filer.insert

    def full(*_args: object) -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(opened._filer, "insert", full)
    world.deliver(MESSAGE)
    opened._inbox.file_soon()
    assert len(pending(world.paths.inbox)) == 1
    monkeypatch.setattr(opened._filer, "insert", insert)
    world.clock.advance(FILING_RETRY_S + 1)
    assert now(account.status("INBOX")).messages == 1
    assert pending(world.paths.inbox) == []


def test_disabled_account_ends_its_sessions(world: World) -> None:
    """The operator's lock acts at once, also on those who are in."""
    account = world.login()
    told: list[bool] = []
    account.on_closed(lambda: told.append(True))
    world.directory.set_disabled(account.account_id, True)
    world.store.watcher.callbacks[world.root](frozenset({"directory.db"}))  # type: ignore[attr-defined]
    assert told == [True]
    with pytest.raises(AuthenticationFailed):
        world.login()


def test_a_session_that_ends_while_keyslots_are_checked_spares_no_other(world: World) -> None:
    """Whoever may no longer be there is told, also when others leave in the middle of the check."""
    accounts = [world.login() for _ in range(12)]
    told: list[Account] = []

    def closed(account: Account) -> None:
        told.append(account)
        if len(told) == 1:
            for other in [one for one in accounts if one is not account][:-1]:
                other.release()

    for account in accounts:
        account.on_closed(partial(closed, account))
    world.directory.set_disabled(accounts[0].account_id, True)
    world.store.watcher.callbacks[world.root](frozenset({"directory.db"}))  # type: ignore[attr-defined]
    assert len(told) == 2


def test_deleted_account_closes_and_can_be_made_anew(world: World) -> None:
    """When the key header vanishes, sessions end and nothing of the open account stays behind."""
    account = world.login()
    told: list[bool] = []
    account.on_closed(lambda: told.append(True))
    folder = world.paths.folder
    callback = world.store.watcher.callbacks[folder]  # type: ignore[attr-defined]
    destroy_account(world.root, world.directory, account.account_id)
    callback(frozenset({"keys"}))
    assert told == [True]
    assert account.account_id not in world.store._open
    assert not folder.exists()
    create_account(world.root, world.directory, NewAccount(NAME.decode(), PASSWORD), params=TINY)
    assert now(world.login().status("INBOX")).messages == 0


def test_threads_are_forgotten_with_their_messages(world: World) -> None:
    """Hashes of message ids do not outlive the last message of their thread."""
    account = world.login()
    threaded = b"Message-ID: <a@b>\r\nReferences: <c@d>\r\n\r\nx\r\n"
    now(account.append("Drafts", [NewMessage(threaded, Flags(SystemFlag.DELETED))]))
    opened = world.store._open[account.account_id]
    counted = "SELECT count(*) FROM reference"
    assert now(opened.read(lambda txn: txn.value(counted))) == 2
    now(now(account.select("Drafts", False)).expunge(None, ModSeq(0)))
    assert now(opened.read(lambda txn: txn.value(counted))) == 0


def test_a_full_disk_stops_no_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """FETCH of content answers although ``\\Seen`` cannot be written."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE)]))
    mailbox = now(account.select("Drafts", False))
    opened = world.store._open[account.account_id]

    async def full(*_args: object) -> None:
        raise StorageFull("the disk is full")

    for name in ("write", "write_on_the_way"):
        monkeypatch.setattr(opened, name, full)
    result = now(mailbox.fetch([1], FetchPlan(set_seen=True), ModSeq(0)))
    assert [row.uid for row in result.rows] == [1]
    assert not result.seen_now


def test_a_lock_that_is_held_too_long_delays_closing_and_no_more(world: World) -> None:
    """The account is gone for its sessions; its databases are closed, and checkpointed, at a later try."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(b"Subject: one\r\n\r\n")]))
    world.store.limits = replace(world.store.limits, checkpoint_lock_wait_s=0.0)

    with shared_lock(world.paths):
        account.release()
        world.clock.advance(world.store.limits.close_grace_s + 1)
        assert wal(world).stat().st_size > 0
        again = world.login()
        again.release()
        world.clock.advance(world.store.limits.close_grace_s + 1)
    world.clock.advance(UNCLOSED_RETRY_S + 1)
    assert not wal(world).exists()
