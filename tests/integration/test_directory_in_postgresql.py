"""A server whose directory is in PostgreSQL, and what becomes of its users while that is away."""

from __future__ import annotations

import imaplib
import os
import poplib
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from running import SEALBOX, Server, answer_of, eventually

from tests import postgresql as postgresql_server
from tests.postgresql import PostgreSql

pytestmark = pytest.mark.integration

MESSAGE = b"Subject: hello\r\n\r\nworld\r\n"
SECRET = "correct-horse-battery"
SETTINGS = """
[directory]
url = "{url}"
connect_timeout_s = 2
query_timeout_s = 4
retry_max_s = 1
heartbeat_s = 1
"""


class Moved:
    """A quick start's data, whose directory has been moved into PostgreSQL."""

    def __init__(self, folder: Path, database: PostgreSql) -> None:
        self.database = database
        environment = {"XDG_STATE_HOME": str(folder / "state")}
        self.server = Server(folder / "data", environment=environment).start()
        assert self.server.stop() == 0
        self.config = folder / "data.toml"
        export = folder / "directory.jsonl"
        self.server.cli("directory", "export", str(export))
        for file in (folder / "data").glob("directory.db*"):
            file.rename(folder / file.name)
        text = SETTINGS.format(url=database.new_place())
        self.config.write_text((folder / "data" / "sealbox.toml").read_text() + text)
        assert self.cli("directory", "import", str(export))["accounts"] == 1
        # One worker: it knows whoever has logged in.
        self.server.start_with(lambda settings: "workers = 1\n" + settings + text)

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, object]:
        """A command of the operator."""
        return answer_of(*arguments, "--config", str(self.config), stdin=stdin)

    def add(self, name: str) -> None:
        """Make an account."""
        self.cli("account", "add", name, "--password-stdin", stdin=f"{SECRET}\n")

    def login_error(self, name: str) -> str:
        """What IMAP says to a login that fails."""
        info = self.server.info
        client = imaplib.IMAP4_SSL("127.0.0.1", info["imaps"], ssl_context=self.server.tls(), timeout=30)
        with client, pytest.raises(imaplib.IMAP4.error) as caught:
            client.login(name, SECRET)
        return str(caught.value)

    def pop_error(self, name: str) -> str:
        """What POP3 says to one."""
        info = self.server.info
        client = poplib.POP3_SSL("127.0.0.1", info["pop3s"], context=self.server.tls(), timeout=30)
        client.user(name)
        with pytest.raises(poplib.error_proto) as caught:
            client.pass_(SECRET)
        client.close()
        return str(caught.value)

    def reply(self, to: str) -> int:
        """The code of the reply to RCPT or DATA."""
        try:
            self.server.deliver(MESSAGE, to=to)
        except smtplib.SMTPRecipientsRefused as refused:
            return int(refused.recipients[to][0])
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code
        return 250


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """The server, and its own PostgreSQL: it is ended more than once."""
    postgresql_server.require()
    database = PostgreSql()
    try:
        found = Moved(tmp_path_factory.mktemp("postgresql"), database.start())
        yield found
        assert found.server.stop() == 0
    finally:
        database.stop()


def messages(moved: Moved, *who: str) -> int:
    """How many are in the INBOX."""
    client = moved.server.imap(*who)
    count = int(client.select("INBOX", readonly=True)[1][0] or 0)
    client.logout()
    return count


def has_ended(client: imaplib.IMAP4) -> bool:
    """Whether the server has ended the session."""
    try:
        client.noop()
    except (imaplib.IMAP4.error, OSError):
        return True
    return False


def test_mail_is_delivered_and_read(moved: Moved) -> None:
    """Also for accounts that are made while the server runs; strangers are refused for good."""
    before = messages(moved)
    moved.server.deliver(MESSAGE)
    assert messages(moved) == before + 1
    moved.add("ann@localhost")
    assert moved.reply("ann@localhost") == 250
    assert messages(moved, "ann@localhost", SECRET) == 1
    assert moved.reply("nobody@localhost") == 550
    assert "AUTHENTICATIONFAILED" in moved.login_error("nobody@localhost")


def test_a_session_ends_when_its_account_is_disabled_by_any_node(moved: Moved) -> None:
    """The command is a process of its own: the worker hears of it from PostgreSQL."""
    moved.add("dis@localhost")
    client = moved.server.imap("dis@localhost", SECRET)
    moved.cli("account", "disable", "dis@localhost")
    eventually(lambda: has_ended(client))
    with suppress(OSError):
        client.shutdown()


AWAY = {
    "killed": lambda database: database.kill(),
    "hanging": lambda database: database.signal(signal.SIGSTOP),
}
BACK = {
    "killed": lambda database: database.start(),
    "hanging": lambda database: database.signal(signal.SIGCONT),
}


@pytest.mark.parametrize("how", AWAY)
def test_known_accounts_go_on_while_postgresql_is_away(moved: Moved, how: str) -> None:
    """They log in, read and get mail; others are told to try later; all goes on by itself afterwards."""
    stranger = f"late-{how}@localhost"
    moved.add(stranger)
    before = messages(moved)
    assert moved.reply(moved.server.user) == 250
    idle = moved.server.imap()
    AWAY[how](moved.database)
    try:
        assert moved.reply(moved.server.user) == 250
        assert messages(moved) == before + 2
        assert idle.select("INBOX")[0] == "OK"
        assert 400 <= moved.reply(stranger) < 500
        assert 400 <= moved.reply("nobody@localhost") < 500
        assert "UNAVAILABLE" in moved.login_error(stranger)
        assert "SYS/TEMP" in moved.pop_error(stranger)
    finally:
        BACK[how](moved.database)
    eventually(lambda: moved.reply(stranger) == 250)
    assert messages(moved, stranger, SECRET) == 1
    assert moved.reply("nobody@localhost") == 550
    idle.logout()


def test_a_change_while_the_server_could_not_listen_is_heard_afterwards(moved: Moved) -> None:
    """What was told meanwhile is lost; that there was something is not."""
    moved.add("gone@localhost")
    client = moved.server.imap("gone@localhost", SECRET)
    moved.database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sealbox'"
    )
    moved.cli("account", "disable", "gone@localhost")
    eventually(lambda: has_ended(client))
    with suppress(OSError):
        client.shutdown()


def test_a_worker_that_begins_while_postgresql_is_away_waits_for_it(moved: Moved) -> None:
    """It serves from the start, tells everybody to try later, and knows them once it can ask."""
    (worker,) = moved.server.workers()
    moved.database.kill()
    try:
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: moved.server.workers() not in ([], [worker]))
        eventually(lambda: told_to_try_later(moved))
    finally:
        moved.database.start()
    eventually(lambda: moved.reply(moved.server.user) == 250)
    messages(moved)


def told_to_try_later(moved: Moved) -> bool:
    """Whether the new worker answers already, and says so."""
    try:
        return 400 <= moved.reply(moved.server.user) < 500
    except (OSError, smtplib.SMTPException):
        return False


def test_a_server_does_not_start_without_its_directory(moved: Moved) -> None:
    """A sentence, with libpq's reason before it, and the exit code for what passes."""
    elsewhere = moved.config.with_name("elsewhere.toml")
    url = moved.config.read_text().rpartition('url = "')[2].partition('"')[0]
    text = moved.config.read_text().replace(url, "postgresql:///x?host=/nowhere")
    elsewhere.write_text(text)
    done = subprocess.run(
        [*SEALBOX, "serve", "--config", str(elsewhere)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 5
    assert b"/nowhere" in done.stderr
    assert b"sealbox: the directory's PostgreSQL cannot be reached" in done.stderr
    done = subprocess.run(
        [*SEALBOX, "check-config", "--config", str(elsewhere)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert b"the directory's PostgreSQL cannot be reached" in done.stderr


def test_the_log_says_when_postgresql_went_and_came_back(moved: Moved) -> None:
    """Once each, however many asked meanwhile, and nobody's address."""
    lines = [line for line in moved.server.errors().splitlines() if "sealbox.directory" in line]
    assert [line for line in lines if "cannot be asked" in line]
    assert [line for line in lines if "answers again" in line]
    assert len(lines) < 20
    assert not [line for line in lines if "localhost" in line or "@" in line]
