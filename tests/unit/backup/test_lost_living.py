"""Commands that open the living database make none in place of a lost one, and migrate one of older times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, TINY, World

from deploy.cli.root import EXIT_STORAGE
from mailstore.account import AccountPaths, open_directory
from mailstore.account_database import account_database, owners_mail_key
from mailstore.engine import DatabaseKey
from mailstore.errors import DatabaseDamaged
from mailstore.schema import SCHEMA_VERSION, version

SECRET = PASSWORD.decode() + "\n"
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
    with account_database(commands.paths, key) as database:
        database.pragma("PRAGMA user_version=1")
    code, out, err = command(commands)
    assert code == 0, (out, err)
    with account_database(commands.paths, key) as database:
        assert version(database) == SCHEMA_VERSION
