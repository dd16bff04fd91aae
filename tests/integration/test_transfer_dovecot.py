"""Dovecot on the other side: as the server that mail comes from, and as a reader and writer of Maildirs."""

from __future__ import annotations

import imaplib
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from contextlib import nullcontext as open_nothing
from pathlib import Path

import pytest
from running import eventually

from deploy.first_run import make_certificate
from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.keys import Argon2Params
from mailstore.mime import sent_date
from mailstore.model import Flags
from mailstore.modified_utf7 import encode
from mailstore.opened_account import Wanted, opened_account
from mailstore.ops import mailboxes
from mailstore.ops.content import read_span
from mailstore.ops.transfer import page_of_messages
from mailstore.transfer.exporting import Exported, export_mail
from mailstore.transfer.imap_client import ImapClient, ImapPlace
from mailstore.transfer.imap_responses import fetched, flags_of, responses
from mailstore.transfer.imap_source import ImapSource, ImapWishes
from mailstore.transfer.importing import Choice, Imported, import_mail
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.maildir_target import MaildirTarget
from mailstore.transfer.source import Source, SourceUnusable
from tests import dovecot
from tests.ports import free_port
from tests.transcripts.dovecot_world import is_installed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="there is no Dovecot here: apt install dovecot-imapd"),
]
TINY = Argon2Params(1, 64, 1)
SECRET = b"correct horse battery staple"
LARGEST = 64 * 1024 * 1024
FLAGS = ["", r"\Seen", r"\Seen \Answered work", r"\Flagged $Forwarded", r"\Deleted", r"\Draft k1 k2 k3"]
TEXT = b"Subject: %d\r\nFrom: a@b\r\n\r\n%b\r\nFrom x\r\n.\r\n\xff"
MAIL = [(TEXT % (at, b"Line\r\n" * at), flags, at) for at, flags in enumerate(FLAGS)]
BOXES = ["INBOX", "Work", "Work/2024", "Grüße & Küsse", "Sent Messages", "Empty"]
Everything = dict[str, list[tuple[bytes, Flags, int]]]


class Silent:
    """Progress that nobody looks at."""

    def expect(self, size_bytes: int) -> None:
        """There is so much more to do."""

    def advance(self, size_bytes: int) -> None:
        """So much more has been done."""


class Dovecot:
    """A Dovecot with Maildirs; any user logs in."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._clients: list[ImapClient] = []
        self.certificate = folder / "certificate.pem"
        make_certificate(self.certificate, folder / "key.pem")
        self.port, self.plain_port = free_port(), free_port()
        setup = dovecot.Setup(
            self.port,
            self.certificate,
            folder / "key.pem",
            "maildir",
            plain_port=self.plain_port,
            mail="~/Maildir",
            more="auth_failure_delay = 0\n",
        )
        self.process: subprocess.Popen[bytes] = dovecot.start(folder, setup)
        eventually(self._lets_in, 60)

    def _lets_in(self) -> bool:
        try:
            self.session("nobody").logout()
        except (OSError, imaplib.IMAP4.error):
            assert self.process.poll() is None
            return False
        return True

    def session(self, user: str) -> imaplib.IMAP4_SSL:
        """Somebody, logged in."""
        context = ssl.create_default_context(cafile=self.certificate)
        client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30)
        client.login(user, dovecot.PASSWORD)
        return client

    def maildir(self, user: str) -> Path:
        """Where somebody's mail lies."""
        return self.folder / "home" / user / "Maildir"

    def source(self, user: str, starttls: bool = False) -> ImapSource:
        """Somebody's mail, to be imported."""
        port = self.plain_port if starttls else self.port
        place = ImapPlace("localhost", port, starttls, user, dovecot.PASSWORD.encode(), self.certificate)
        client = ImapClient(place, LARGEST)
        self._clients.append(client)
        return ImapSource(client, ImapWishes(LARGEST))

    def fill(self, user: str) -> None:
        """Put mail into mailboxes."""
        client = self.session(user)
        for name in BOXES:
            wire = '"' + encode(name).decode() + '"'
            client.create(wire)
            if name != "Empty":
                client.subscribe(wire)
            for data, flags, at in MAIL if name != "Empty" else ():
                stamp = imaplib.Time2Internaldate(1_700_000_000 - 1_000 * at)
                assert client.append(wire, flags, stamp, data)[0] == "OK"
        client.logout()

    def contents(self, user: str) -> Everything:
        """What it serves itself."""
        client = self.session(user)
        found: Everything = {}
        for name in BOXES:
            client.select('"' + encode(name).decode() + '"', readonly=True)
            there = name != "Empty"
            data = client.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")[1] if there else []
            found[name] = []
            for items in map(fetched, responses(data)):
                date = sent_date(items[b"INTERNALDATE"].strip().replace(b"-", b" ", 2))
                flags = flags_of(one for one in items[b"FLAGS"] if one != b"\\Recent")
                flags = Flags(flags.system, tuple(sorted(flags.keywords)))
                found[name].append((items[b"BODY[]"], flags, date[0]))
        client.logout()
        return found

    def stop(self) -> None:
        """End it and wait."""
        for client in self._clients:
            client.close()
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    """A Dovecot in a folder that its own users can reach: not one of pytest's."""
    with tempfile.TemporaryDirectory(prefix="sealbox-dovecot-") as folder:
        Path(folder).chmod(0o755)
        running = Dovecot(Path(folder) / "data")
        try:
            running.fill("ada")
            yield running
        finally:
            running.stop()


class Accounts:
    """Accounts of ours, without a server."""

    def __init__(self, root: Path) -> None:
        self._root = root
        init_root(root)

    def wanted(self, name: str) -> Wanted:
        """What opens an account, which is made."""
        with closing(open_directory(self._root)) as directory:
            if directory.login(f"{name}@example.org") is None:
                create_account(self._root, directory, NewAccount(f"{name}@example.org", SECRET), params=TINY)
        return Wanted(self._root, f"{name}@example.org", SECRET, TINY)

    def take_in(self, name: str, source: Source) -> Imported:
        """Import."""
        done = Imported()
        import_mail(self.wanted(name), source, Choice(), Silent(), open_nothing, done)
        return done

    def contents(self, name: str) -> Everything:
        """Every mailbox that has messages, or that the tests made."""
        with opened_account(self.wanted(name), writes=False) as account:
            found: Everything = {}
            for info in account.database.read(0, mailboxes.list_mailboxes).mailboxes:
                rows = account.database.read(0, page_of_messages, info.mailbox_id, 0, 1000)
                found[info.name] = [
                    (
                        account.database.read(0, read_span, one.message_id, 0, one.size_bytes),
                        one.flags,
                        one.internal_date,
                    )
                    for one in rows
                ]
            return found

    def subscribed(self, name: str) -> set[str]:
        """The subscribed mailboxes."""
        with opened_account(self.wanted(name), writes=False) as account:
            listed = account.database.read(0, mailboxes.list_mailboxes).mailboxes
            return {one.name for one in listed if one.subscribed}


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    """A data root."""
    return Accounts(tmp_path / "root")


def as_ours(theirs: Everything) -> Everything:
    """What Dovecot has, under the names that our accounts give it."""
    return {"Sent" if name == "Sent Messages" else name: mail for name, mail in theirs.items()}


def without_defaults(ours: Everything) -> Everything:
    """What is not one of the mailboxes that every account has from the start, and empty."""
    return {name: mail for name, mail in ours.items() if mail or name == "Empty"}


@pytest.mark.parametrize("starttls", [False, True])
def test_mail_of_dovecot_comes_over_imap_as_it_is(
    server: Dovecot, accounts: Accounts, starttls: bool
) -> None:
    """Bytes, flags, keywords, dates, order, names and subscriptions; a second import adds nothing."""
    done = accounts.take_in("ada", server.source("ada", starttls))
    theirs = as_ours(server.contents("ada"))
    assert without_defaults(accounts.contents("ada")) == theirs
    assert sum(map(len, theirs.values())) == done.messages == len(MAIL) * 5
    assert accounts.subscribed("ada") >= {"Work", "Work/2024", "Grüße & Küsse"}
    assert "Empty" not in accounts.subscribed("ada")
    again = accounts.take_in("ada", server.source("ada", starttls))
    assert (again.messages, again.already_there) == (0, done.messages)


def test_the_same_mail_comes_out_of_the_maildir(server: Dovecot, accounts: Accounts) -> None:
    """The files tell what the server tells; so what came one way is known when it comes the other way."""
    accounts.take_in("ada", MaildirSource(server.maildir("ada"), LARGEST))
    assert without_defaults(accounts.contents("ada")) == as_ours(server.contents("ada"))
    assert accounts.take_in("ada", server.source("ada")).messages == 0


def test_dovecot_serves_an_export(server: Dovecot, accounts: Accounts) -> None:
    """With the same messages, flags, keywords, dates and UIDs; clients need not download them again."""
    accounts.take_in("ada", server.source("ada"))
    maildir = server.maildir("bob")
    maildir.parent.mkdir(exist_ok=True)
    export_mail(
        accounts.wanted("ada"), MaildirTarget(maildir), Silent(), open_nothing, Exported(), update=False
    )
    owner = dovecot.mail_owner()
    if os.geteuid() == 0:
        for path in (maildir.parent, *maildir.parent.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    accounts.take_in("carol", server.source("bob"))
    assert without_defaults(accounts.contents("carol")) == without_defaults(accounts.contents("ada"))
    with opened_account(accounts.wanted("ada"), writes=False) as account:
        ours = account.database.read(0, mailboxes.status, "Work")
    client = server.session("bob")
    assert int(client.select("Work", readonly=True)[1][0]) == ours.messages
    assert client.response("UIDVALIDITY")[1] == [b"%d" % ours.uid_validity]
    assert client.response("UIDNEXT")[1] == [b"%d" % ours.uid_next]
    assert client.uid("SEARCH", "ALL")[1] == [b" ".join(b"%d" % uid for uid in range(1, ours.messages + 1))]
    client.logout()
    shutil.rmtree(maildir)


def test_nobody_else_is_believed(server: Dovecot, accounts: Accounts, tmp_path: Path) -> None:
    """A certificate that is not trusted, one of another name, and a wrong password end the import."""
    make_certificate(tmp_path / "other.pem", tmp_path / "key.pem")
    right = dovecot.PASSWORD.encode()
    for starttls, port in ((False, server.port), (True, server.plain_port)):
        for certificates, password in (
            (None, right),
            (tmp_path / "other.pem", right),
            (server.certificate, b"x"),
        ):
            place = ImapPlace("localhost", port, starttls, "ada", password, certificates)
            client = ImapClient(place, LARGEST, pause=lambda _s: None)
            with pytest.raises(SourceUnusable) as told:
                accounts.take_in("ada", ImapSource(client, ImapWishes(LARGEST)))
            said = "password" if password == b"x" else "certificate"
            assert said in str(told.value)
