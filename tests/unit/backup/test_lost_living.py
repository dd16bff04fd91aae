"""Commands that open the living database make none in place of a lost one, and migrate one of older times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, TINY, World, now

from deploy.cli.root import EXIT_STORAGE
from mailstore.account import AccountPaths, open_directory
from mailstore.account_database import account_database, owners_mail_key
from mailstore.engine import DatabaseKey
from mailstore.errors import DatabaseDamaged
from mailstore.mime import SectionKind, SectionSpec
from mailstore.model import SectionRead
from mailstore.schema import DEFAULT_MAILBOXES, SCHEMA_VERSION, version

SECRET = PASSWORD.decode() + "\n"
NEW = {name for name, _ in DEFAULT_MAILBOXES}
MESSAGES = ("restore", NAME.decode(), "--messages", "INBOX", "--password-stdin")


class Commands(CommandsWorld):
    """One message, with a snapshot, and a drill that logs in."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        (place / "secret").write_text(SECRET)
        drill = f'drill_account = "{NAME.decode()}"\ndrill_password = "{place}/secret"\n'
        text = self.config.read_text().replace("[argon2]", drill + "[argon2]")
        self.config.write_text(text)
        self.objects.mkdir()
        self.prepare()
        self.run("backup", "run")

    def prepare(self) -> None:
        """What is in the snapshot."""
        self.append("first")

    @property
    def paths(self) -> AccountPaths:
        """The account's files."""
        (folder,) = (self.root / "accounts").glob("*/*")
        return AccountPaths(folder)

    def key(self) -> DatabaseKey:
        """Of the account's database."""
        directory = open_directory(self.root)
        try:
            return owners_mail_key(self.root, directory, directory.accounts()[0], PASSWORD, TINY)
        finally:
            directory.close()

    def drilled(self) -> tuple[int, str, str]:
        """A drill that opens the account with its password."""
        return self.run("backup", "drill")

    def restored(self) -> tuple[int, str, str]:
        """INBOX of the snapshot beside today's."""
        return self.run(*MESSAGES, stdin=SECRET)


def make_older(commands: Commands, key: DatabaseKey, older: int) -> None:
    """Turn the database into one of an older version."""
    with account_database(commands.paths, key) as database:
        database.write(0, lambda txn: txn.run("DROP TABLE kept_fields"))
        database.pragma(f"PRAGMA user_version={older}")


class OfVersion2(Commands):
    """A snapshot that was taken before header fields were kept."""

    def prepare(self) -> None:
        """One message, in an older database."""
        super().prepare()
        make_older(self, self.key(), 2)


class BeforeTheFirstLogin(Commands):
    """A snapshot of an account that has no database yet."""

    def prepare(self) -> None:
        """Nobody has logged in."""


@pytest.mark.parametrize("command", [Commands.drilled, Commands.restored], ids=["drill", "messages"])
@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_no_command_makes_a_database_in_place_of_a_lost_one(
    tmp_path: Path,
    command: Callable[[Commands], tuple[int, str, str]],
    empty: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Otherwise the next login would find an empty mailbox, and the next snapshot would keep that."""
    commands = Commands(tmp_path)
    paths = commands.paths
    paths.mail_db.write_bytes(b"") if empty else paths.mail_db.unlink()
    code, _, _ = command(commands)
    assert code
    assert f"account {paths.folder.name}: mail.db is lost" in caplog.text
    assert not paths.mail_db.exists() or not paths.mail_db.stat().st_size
    mail = World(commands.root)
    with pytest.raises(DatabaseDamaged):
        mail.login()
    mail.close()


def test_messages_of_an_account_that_nobody_has_opened_are_not_put_anywhere(tmp_path: Path) -> None:
    """A command is no first login: it leaves the account without a database."""
    commands = Commands(tmp_path)
    paths = commands.paths
    paths.mail_db.unlink()
    paths.made.unlink()
    assert commands.restored()[0] == EXIT_STORAGE
    assert not paths.mail_db.exists()


def test_a_snapshot_from_before_the_first_login_has_no_messages(tmp_path: Path) -> None:
    """The database that was not there then is not made in scratch either."""
    commands = BeforeTheFirstLogin(tmp_path)
    commands.append("later")
    code, _, err = commands.restored()
    assert code and "there was no mailbox of that name then" in err


def test_a_drill_of_an_account_that_nobody_has_opened_opens_nothing(tmp_path: Path) -> None:
    """There is nothing to open in the snapshot, and that is no failure."""
    (drilled,) = BeforeTheFirstLogin(tmp_path).answer("backup", "drill")["drilled"]
    assert drilled["trouble"] is None and not drilled["opened"]


@pytest.mark.parametrize("command", [Commands.drilled, Commands.restored], ids=["drill", "messages"])
def test_a_living_database_of_an_older_version_is_migrated_first(
    tmp_path: Path, command: Callable[[Commands], tuple[int, str, str]]
) -> None:
    """The account may not have been opened since the program was updated."""
    commands = Commands(tmp_path)
    key = commands.key()
    make_older(commands, key, 1)
    code, out, err = command(commands)
    assert code == 0, (out, err)
    with account_database(commands.paths, key) as database:
        assert version(database) == SCHEMA_VERSION


@pytest.mark.parametrize("beside", [True, False], ids=["messages", "everything"])
def test_a_snapshot_of_an_older_version_is_restored_and_opened(tmp_path: Path, beside: bool) -> None:
    """Its messages are there, and header fields are answered though none were kept."""
    commands = OfVersion2(tmp_path)
    done = commands.restored() if beside else commands.run("restore", NAME.decode(), "--replace")
    assert done[0] == 0, done
    mail = World(commands.root)
    account = mail.login()
    names = [one.name for one in now(account.list_mailboxes()).mailboxes]
    (name,) = [one for one in names if one not in NEW] if beside else ["INBOX"]
    opened = now(account.select(name, True))
    section = SectionRead(SectionSpec((), SectionKind.HEADER_FIELDS, (b"subject",)))
    (row,) = now(opened.content(opened.opened.uids, [section], 1000))
    assert row.sections[0].data == b"Subject: first\r\n\r\n"
    account.release()
    mail.close()
