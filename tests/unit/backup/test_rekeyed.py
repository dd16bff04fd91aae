"""``sealbox account rekey`` between snapshots: states of before open with the secrets of then, and say so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, TINY, World, now

from backup import job, restore_accounts, snapshot
from mailstore import opened_account, rekeying, rewriting, set_aside
from mailstore.account import AccountPaths, account_paths, open_directory
from mailstore.account_usage import disk_use
from mailstore.errors import (
    AuthenticationFailed,
    Busy,
    DatabaseDamaged,
    HeaderTampered,
    KeysChanged,
    StorageFull,
)
from mailstore.rekeying import KeyslotsChanged, rekey_account
from mailstore.rewriting import NoRoomToRewrite
from mailstore.sealed import damaged_messages, pending

ADDRESS = NAME.decode()
OLD = PASSWORD.decode()
NEW = "another secret altogether"


class Rekeyed(CommandsWorld):
    """An account with a snapshot, a new master key since, and another snapshot; an app password of before."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.objects.mkdir()
        self.append("before")
        added = ("app-password", "add", ADDRESS, "--label", "old phone", "--password-stdin")
        self.app_password = self.answer(*added, stdin=f"{OLD}\n")["app_password"]
        self.recovery_key = self.answer("recovery-key", ADDRESS, "--password-stdin", stdin=f"{OLD}\n")[
            "recovery_key"
        ]
        self.then = self.snapshot()
        self.done = self.answer("account", "rekey", ADDRESS, "--password-stdin", stdin=f"{OLD}\n")
        self.append("after")
        self.now = self.snapshot()

    def snapshot(self) -> str:
        """Take one; its time."""
        assert self.answer("backup", "run")["stored"]
        return str(self.answer("backup", "list", ADDRESS)["points"][-1]["time"])

    def change_password(self) -> None:
        """The password of now is another one than that of then."""
        self.answer("account", "passwd", ADDRESS, "--password-stdin", stdin=f"{OLD}\n{NEW}\n")

    def subjects(self, secret: str = OLD) -> int:
        """How many messages INBOX has."""
        return inbox(self, secret)


def inbox(world: CommandsWorld, secret: str = OLD) -> int:
    """How many messages INBOX has."""
    mail = World(world.root)
    try:
        account = mail.login(secret.encode())
        count = int(now(account.status("INBOX")).messages)
        account.release()
        return count
    finally:
        mail.close()


@pytest.fixture
def world(tmp_path: Path) -> Rekeyed:
    """See ``Rekeyed``."""
    return Rekeyed(tmp_path)


def test_what_was_done_is_said(world: Rekeyed) -> None:
    """What stops working is named before and after; the new recovery key is shown once."""
    assert world.done["revoked_app_passwords"] == ["old phone"] and world.done["finished"]
    assert world.done["recovery_key"] != world.recovery_key and world.done["size_bytes"] > 0
    added = ("app-password", "add", ADDRESS, "--label", "tablet", "--password-stdin")
    world.answer(*added, stdin=f"{OLD}\n")
    code, out, err = world.run("account", "rekey", ADDRESS, "--password-stdin", stdin=f"{OLD}\n")
    assert code == 0
    assert "app passwords stop working: tablet" in err and "recovery key stops working" in err
    assert "app passwords revoked: tablet" in out
    assert (
        "new recovery key, shown only now: sbrk-" in out and "open with the old key until they expire" in err
    )


def test_the_snapshot_of_afterwards_is_whole_and_comes_back(world: Rekeyed) -> None:
    """It has header and database of the new key, and builds on nothing of before."""
    said = world.run("backup", "check", ADDRESS, "--password-stdin", stdin=f"{OLD}\n")
    assert said[0] == 0 and "every page is authentic" in said[1]
    assert world.answer("backup", "drill")["drilled"][0]["trouble"] is None
    (restored,) = world.answer("restore", ADDRESS, "--at", world.now, "--replace")["restored"]
    assert restored["keyslots"] == "now" and not restored["old_master_key"]
    assert world.subjects() == 2


def test_a_state_of_before_comes_back_with_the_secrets_of_then(world: Rekeyed) -> None:
    """Today's header would not open it; the answer says what that means, and mail that waits is kept."""
    mail = World(world.root)
    mail.deliver(b"Subject: waits\r\n\r\nsealed to the new key\r\n")
    paths = mail.paths
    mail.close()
    code, out, _ = world.run("restore", ADDRESS, "--at", world.then, "--replace")
    assert (
        code == 0 and "IT IS FROM BEFORE A NEW MASTER KEY" in out and "'sealbox account rekey' again" in out
    )
    assert world.subjects() == 1 and world.subjects(world.app_password) == 1
    with pytest.raises(AuthenticationFailed):
        world.subjects(world.done["recovery_key"])
    (kept,) = damaged_messages(paths.inbox)
    # Back to the newest state, the message that was put aside is opened by its key again.
    (restored,) = world.answer("restore", ADDRESS, "--at", world.now, "--replace")["restored"]
    assert restored["old_master_key"]
    kept.rename(kept.with_suffix(".sealed"))
    assert world.subjects() == 3
    with pytest.raises(AuthenticationFailed):
        world.subjects(world.app_password)


def test_a_state_of_before_is_proven_by_the_password_of_then(world: Rekeyed) -> None:
    """The one of today is tried first, because most people keep theirs; otherwise both are given."""
    check = ("backup", "check", ADDRESS, "--at", world.then, "--password-stdin")
    assert world.answer(*check, stdin=f"{OLD}\n")["wrong"] is None
    world.change_password()
    assert world.answer(*check, stdin=f"{NEW}\n{OLD}\n")["wrong"] is None
    assert world.answer(*check, stdin=f"{NEW}\n{world.recovery_key}\n")["wrong"] is None
    code, _, said = world.run(*check, stdin=f"{NEW}\n")
    assert code == 4 and "password or recovery key of then as a second line" in said
    code, _, said = world.run(*check, stdin=f"{NEW}\n{world.app_password}\n")
    assert code == 4 and "it opens with the password or the recovery key of then" in said
    assert world.run(*check, stdin=f"{OLD}\n")[0] == 4, "today's opens the account, and nothing else"


def test_single_mailboxes_of_before_come_back(world: Rekeyed) -> None:
    """Out of a database under the old key into one under the new."""
    world.change_password()
    restore = ("restore", ADDRESS, "--messages", "INBOX", "--at", world.then, "--password-stdin")
    assert world.answer(*restore, stdin=f"{NEW}\n{OLD}\n")["messages"] == 1
    assert world.subjects(NEW) == 2


def test_a_drill_of_a_state_of_before_opens_it(tmp_path: Path) -> None:
    """No snapshot has been taken since: it is the newest, and opens with its own header."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    world.append("before")
    assert world.answer("backup", "run")["stored"]
    world.answer("account", "rekey", ADDRESS, "--password-stdin", stdin=f"{OLD}\n")
    secret = tmp_path / "drill"
    secret.write_text(OLD)
    text = world.config.read_text()
    lines = f'[backup]\ndrill_account = "{ADDRESS}"\ndrill_password = "{secret}"\n'
    world.config.write_text(text.replace("[backup]\n", lines))
    (drilled,) = world.answer("backup", "drill")["drilled"]
    assert drilled["opened"] and drilled["trouble"] is None
    world.answer("account", "passwd", ADDRESS, "--password-stdin", stdin=f"{OLD}\n{NEW}\n")
    secret.write_text(NEW)
    (drilled,) = world.answer("backup", "drill", codes=(6,))["drilled"]
    assert "from before the account got a new master key" in drilled["trouble"]


def test_on_a_new_machine_each_state_has_the_header_of_its_time(world: Rekeyed, tmp_path: Path) -> None:
    """Also when the private key is all there is."""
    for at, count in ((world.then, 1), (world.now, 2)):
        root = tmp_path / f"new{count}"
        key = ("--private-key", world.private_key_file, "--at", at)
        (restored,) = world.answer("restore", "--all", "--into", root, *key)["restored"]
        assert restored["trouble"] is None and restored["old_master_key"] is (count == 1)
        mail = World(root)
        account = mail.login()
        assert now(account.status("INBOX")).messages == count
        account.release()
        mail.close()


def test_mail_that_was_copied_before_the_change_is_copied_again_with_what_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot copies the inbox before it has the account's lock, and keys may change in between."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    world.append("before")
    mail = World(world.root)
    mail.deliver(b"Subject: waits\r\n\r\nsealed to the key of before\r\n")
    spooled, changed = snapshot._spooled, []

    def overtaken(*arguments):
        found = spooled(*arguments)
        if not changed:
            record = mail.directory.accounts()[0]
            changed.append(rekey_account(world.root, mail.directory, record, PASSWORD, TINY, 0.0))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_spooled", overtaken)
        assert world.answer("backup", "run")["stored"]
    assert changed
    for path in mail.paths.inbox.iterdir():
        path.unlink()  # all that is left is the snapshot
    mail.close()
    (restored,) = world.answer("restore", ADDRESS, "--replace")["restored"]
    assert restored["trouble"] is None and inbox(world) == 2


def interrupted(world: CommandsWorld, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool) -> AccountPaths:
    """Kill the command right before the new keys count, or right after; the account's files."""

    class Killed(BaseException):
        pass

    directory = open_directory(world.root)
    paths = account_paths(world.root, directory.accounts()[0].account_id)
    real = type(directory).set_header

    def killed(*arguments: Any) -> None:
        if is_committed:
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(directory), "set_header", killed)
        with pytest.raises(Killed):
            world.run("account", "rekey", ADDRESS, "--password-stdin", stdin=f"{OLD}\n")
    directory.close()
    assert (paths.folder / "keys-new").exists()
    return paths


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_snapshot_settles_an_interrupted_change_first(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """Nobody may log in for years: header and database of the snapshot have to belong together."""

    paths = interrupted(world, monkeypatch, is_committed=is_committed)
    mail = World(world.root)
    mail.deliver(b"Subject: waits\r\n\r\nsealed to one or the other\r\n")
    mail.close()
    assert world.answer("backup", "run")["stored"]
    assert not (paths.folder / "keys-new").exists()
    (restored,) = world.answer("restore", ADDRESS, "--replace")["restored"]
    assert restored["trouble"] is None
    assert world.subjects() == 3


def test_no_snapshot_is_taken_of_keys_that_are_half_exchanged(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever settles them may be killed as well, or come later."""
    paths = interrupted(world, monkeypatch, is_committed=True)
    paths.rewritten.rename(paths.mail_db)  # the first of the last two steps
    with monkeypatch.context() as patch:
        patch.setattr(job, "settle", lambda *_arguments: None)
        world.run("backup", "run")
    assert world.answer("backup", "list", ADDRESS)["points"][-1]["time"] == world.now
    assert world.answer("backup", "run")["stored"]
    assert world.subjects() == 2


def test_a_restore_settles_an_interrupted_change_first(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The living account has new keys already, so the newest snapshot is one of before, and is said to be."""
    paths = interrupted(world, monkeypatch, is_committed=True)
    (restored,) = world.answer("restore", ADDRESS, "--replace")["restored"]
    assert restored["old_master_key"] and not (paths.folder / "keys-new").exists()
    assert world.subjects() == 2


def test_a_restore_replaces_what_cannot_be_settled(world: Rekeyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is one of before the change, and the database is under the new key."""
    directory = open_directory(world.root)
    (record,) = directory.accounts()
    paths = interrupted(world, monkeypatch, is_committed=True)
    paths.rewritten.rename(paths.mail_db)
    directory.set_header(record.account_id, record.public_key, record.header_generation)
    directory.close()
    with pytest.raises(HeaderTampered):
        world.subjects()
    only_copy = (paths.folder / "keys-new").read_bytes()
    (restored,) = world.answer("restore", ADDRESS, "--replace")["restored"]
    assert not restored["trouble"]
    assert world.subjects() == 2 and not (paths.folder / "keys-new").exists()
    kept = Path(restored["kept"])
    assert (kept / "keys-new").read_bytes() == only_copy and (kept / "former-key").exists()
    destroyed: list[str] = []
    shred = set_aside.shred
    monkeypatch.setattr(set_aside, "shred", lambda path: (destroyed.append(path.name), shred(path)))
    set_aside.remove_expired(world.root, time.time() + 10, -100.0)
    assert not kept.exists() and "keys-new" in destroyed


def overtaken(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch, changes: Callable[[], object]
) -> dict[str, Any]:
    """Restore in place, and do something when the keys of the restored account have been chosen."""
    choose = restore_accounts.choose_keys

    def late(*arguments: Any) -> Any:
        found = choose(*arguments)
        changes()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(restore_accounts, "choose_keys", late)
        (restored,) = world.answer("restore", ADDRESS, "--replace", codes=(5,))["restored"]
    return dict(restored)


def test_a_restore_that_new_keys_overtake_replaces_nothing(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header that it would leave in place opens the database of before no more."""
    rekey = ("account", "rekey", ADDRESS, "--password-stdin")
    restored = overtaken(world, monkeypatch, lambda: world.answer(*rekey, stdin=f"{OLD}\n"))
    assert "its keys were changed meanwhile" in restored["trouble"] and "run it again" in restored["trouble"]
    assert world.subjects() == 2
    assert world.answer("restore", ADDRESS, "--replace")["restored"][0]["trouble"] is None
    assert world.subjects() == 2


def test_a_password_that_is_changed_during_a_restore_stays_changed(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master key is the same, so nothing has to be done again."""
    choose = restore_accounts.choose_keys

    def late(*arguments: Any) -> Any:
        found = choose(*arguments)
        world.change_password()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(restore_accounts, "choose_keys", late)
        assert world.answer("restore", ADDRESS, "--replace")["restored"][0]["trouble"] is None
    assert world.subjects(NEW) == 2


def test_a_restore_finishes_new_keys_that_count_and_lie_unfinished(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail is sealed to them already, and nothing else opens it."""
    opened: list[AccountPaths] = []

    def killed() -> None:
        opened.append(interrupted(world, monkeypatch, is_committed=True))
        mail = World(world.root)
        mail.deliver(b"Subject: waits\r\n\r\nsealed to the new key\r\n")
        mail.close()

    restored = overtaken(world, monkeypatch, killed)
    assert "its keys were changed meanwhile" in restored["trouble"]
    assert world.subjects() == 3 and damaged_messages(opened[0].inbox) == []


def test_the_directory_is_told_no_keys_that_have_been_replaced(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes them between the exchange of the files and the last step of the restore."""
    accept = restore_accounts.accept_header
    mail = World(world.root)

    def late(*arguments: Any) -> None:
        interrupted(world, monkeypatch, is_committed=True)
        mail.deliver(b"Subject: waits\r\n\r\nsealed to the new key\r\n")
        accept(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(restore_accounts, "accept_header", late)
        assert world.answer("restore", ADDRESS, "--replace")["restored"][0]["trouble"] is None
    assert world.subjects() == 3 and damaged_messages(mail.paths.inbox) == []
    mail.close()


def test_what_is_refused_changes_nothing(world: Rekeyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret, the recovery key, no room, a session that stays, damage: a sentence and a code."""
    rekey = ("account", "rekey", ADDRESS, "--password-stdin")
    assert world.run(*rekey, stdin="wrong\n")[0] == 4
    code, _, said = world.run(*rekey, stdin=f"{world.done['recovery_key']}\n")
    assert code == 4 and "'sealbox account passwd' first" in said
    for error, expected, words in (
        (NoRoomToRewrite(5 * 2**30), 6, "a copy of the account needs 5.00 GiB"),
        (Busy(), 5, "did not end in time"),
        (KeyslotsChanged(), 5, "other keyslots meanwhile: run it again"),
        (KeysChanged(), 5, "has got a new master key meanwhile: run it again"),
        (DatabaseDamaged(), 6, "the database is damaged, nothing was changed"),
        (StorageFull(), 6, "the disk is full"),
    ):

        def refuses(*_arguments: object, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(rekeying, "evicted", refuses)
            code, _, said = world.run(*rekey, stdin=f"{OLD}\n")
        assert (code, words in said) == (expected, True), said
    assert world.subjects() == 2


def test_an_account_without_a_database_gets_none_under_keys_that_have_been_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import was let in by the old key: it would file mail that waits where nobody can read it."""
    world = CommandsWorld(tmp_path)
    mail = World(world.root)
    mail.deliver(b"Subject: waits\r\n\r\nsealed to the old key\r\n")
    proven = opened_account._proven

    def late(wanted: opened_account.Wanted) -> Any:
        found = proven(wanted)
        record = mail.directory.accounts()[0]
        rekey_account(world.root, mail.directory, record, PASSWORD, TINY, 0.0)
        return found

    messages = tmp_path / "messages"
    messages.mkdir()
    (messages / "1.eml").write_bytes(b"Subject: imported\r\n\r\nimported\r\n")
    command = ("import", ADDRESS, "--from", f"eml:{messages}", "--password-stdin")
    with monkeypatch.context() as patch:
        patch.setattr(opened_account, "_proven", late)
        code, _, said = world.run(*command, stdin=f"{OLD}\n")
    assert code == 5 and "new master key meanwhile: run it again" in said
    assert not mail.paths.mail_db.exists() and disk_use(mail.paths).waiting_messages == 1
    assert world.run(*command, stdin=f"{OLD}\n")[0] == 0 and inbox(world) == 1
    mail.close()


@pytest.mark.parametrize(
    "command",
    [("account", "vacuum"), ("account", "check"), ("account", "check", "--repair"), ("account", "usage")],
    ids=" ".join,
)
def test_a_command_that_new_keys_overtake_is_to_be_run_again(
    world: Rekeyed, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Nothing is damaged, and nothing is said to be."""
    changed: list[object] = []

    def overtake(module: Any, name: str) -> None:
        real = getattr(module, name)

        def late(*arguments: Any) -> Any:
            found = real(*arguments)
            if not changed:
                directory = open_directory(world.root)
                changed.append(
                    rekey_account(world.root, directory, directory.accounts()[0], PASSWORD, TINY, 0.0)
                )
                directory.close()
            return found

        monkeypatch.setattr(module, name, late)

    overtake(opened_account, "_proven")
    overtake(rewriting, "owners_mail_key")
    code, _, said = world.run(*command[:2], ADDRESS, *command[2:], "--password-stdin", stdin=f"{OLD}\n")
    assert changed and code == 5 and "new master key meanwhile: run it again" in said
    assert "damaged" not in said


def test_a_former_key_is_no_waiting_mail(world: Rekeyed) -> None:
    """It lies in the inbox for a day, and over several changes of the keys there is one."""
    directory = open_directory(world.root)
    record = directory.accounts()[0]
    paths = account_paths(world.root, record.account_id)
    for _ in range(2):
        rekey_account(world.root, directory, record, PASSWORD, TINY, 0.0)
    directory.close()
    assert len(pending(paths.inbox)) == 1
    use = disk_use(paths)
    assert (use.waiting_messages, use.damaged_messages) == (0, 0)
    assert world.subjects() == 2 and disk_use(paths).damaged_messages == 0
