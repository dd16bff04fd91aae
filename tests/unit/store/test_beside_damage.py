"""One damaged page costs what is in it: all other mail can be used in the same session."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from index_world import found, index
from store_world import NAME, PASSWORD, World, now
from test_account_database import IS_OPEN

from mailstore import mime, search
from mailstore.account_database import mail_key
from mailstore.engine import DatabaseKey, Txn, open_connection
from mailstore.errors import DatabaseDamaged
from mailstore.index_progress import IndexState, index_progress
from mailstore.model import NewMessage
from mailstore.ops import content
from mailstore.uidset import UidSet
from protocols.budget import MemoryBudget
from protocols.imap.server import ImapFactory
from protocols.limits import ImapLimits, LoginLimits, Pop3Limits, StreamLimits
from protocols.load import Load
from protocols.pop3.server import Pop3Factory
from tests.login_guard import make_guard
from tests.wire import TLS, Client, RecordingLog

PAGE = 4096
WHOLE = content.SectionRead(mime.SectionSpec())
KEY = DatabaseKey(bytes(32), bytes(16))
DAMAGED = 3
"""The UID of the message whose text is damaged, of five."""


FLIP = """
import sys

with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    octet = file.read(1)[0]
    file.seek(-1, 1)
    file.write(bytes([octet ^ 1]))
"""


HASH = """
import hashlib, sys

for name in sys.argv[1:]:
    with open(name, "rb") as file:
        print(hashlib.sha256(file.read()).hexdigest())
"""


def aside(script: str, *arguments: object) -> bytes:
    """What another process says: closing a database's file here would drop SQLite's locks."""
    run = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(run, check=True, timeout=60, stdout=subprocess.PIPE).stdout


def flip(path: Path, page: int) -> None:
    """Change one bit in the middle of a page, the first being 0; twice, and it is as before."""
    aside(FLIP, path, page * PAGE + PAGE // 2)


@pytest.fixture
def mail(world: World) -> list[bytes]:
    """Five messages of some pages each, a page of one of them damaged; the account is closed."""
    chance = random.Random(1)
    texts = [b"Subject: a\r\n\r\n" + chance.randbytes(12_000).hex().encode() + b"\r\n" for _ in range(5)]
    account = world.login()
    now(account.append("INBOX", [NewMessage(one) for one in texts]))
    mailbox = now(account.select("INBOX", True)).opened.mailbox_id
    key = mail_key(account._opened._hold.master)
    account.release_at_once()
    world.clock.advance(0)
    path = world.paths.mail_db
    pages = path.stat().st_size // PAGE
    flip(path, next(page for page in range(pages // 2, pages) if only_one_lost(path, key, page, mailbox)))
    return texts


def only_one_lost(path: Path, key: DatabaseKey, page: int, mailbox: int) -> bool:
    """Whether a page holds text of ``DAMAGED``, and of it alone."""
    lost = []
    flip(path, page)
    for uid in range(1, 6):
        try:
            database = open_connection(path, key)
        except DatabaseDamaged:
            break
        try:
            database.read(0, content.content, mailbox, [uid], [WHOLE], 1 << 20)
        except DatabaseDamaged:
            lost.append(uid)
        database.close()
    flip(path, page)
    return lost == [DAMAGED]


def test_all_other_messages_are_read_in_the_same_imap_session(world: World, mail: list[bytes]) -> None:
    """Whatever is asked for first, and however often the damaged one is."""
    guard = make_guard(world.store, LoginLimits(), world.clock)
    client = Client(
        ImapFactory(
            *(guard, ImapLimits(), TLS, RecordingLog(), world.clock, True, MemoryBudget(1 << 30)),
            StreamLimits(),
            random=bytes,
            load=Load,
        )
    )
    client.say(b"a LOGIN %s {%d+}\r\n%s\r\n" % (NAME, len(PASSWORD), PASSWORD))
    assert b"a OK [READ-WRITE]" in client.say(b"a SELECT INBOX\r\n")
    for _ in range(2):
        said = client.say(b"a FETCH %d BODY.PEEK[]\r\n" % DAMAGED)
        assert said.startswith(b"a NO [CONTACTADMIN]")
        others = b"".join(
            b"* %d FETCH (BODY[] {%d}\r\n%s)\r\n" % (number, len(text), text)
            for number, text in enumerate(mail, 1)
            if number != DAMAGED
        )
        assert client.say(b"a FETCH 1:2,4:5 BODY.PEEK[]\r\n") == others + b"a OK done\r\n"
        said = client.say(b"a FETCH 1:* BODY.PEEK[]\r\n")
        assert said.startswith(others + b"a NO [CONTACTADMIN]") and said.count(b"a NO") == 1
    client.hang_up()


def test_all_other_messages_are_retrieved_in_the_same_pop3_session(world: World, mail: list[bytes]) -> None:
    """RETR answers -ERR for the damaged one alone, also where all are asked for at once."""
    guard = make_guard(world.store, LoginLimits(), world.clock)
    client = Client(Pop3Factory(guard, Pop3Limits(), TLS, RecordingLog(), world.clock, True))
    assert b"+OK 5 messages" in client.say(b"USER %s\r\nPASS %s\r\n" % (NAME, PASSWORD))
    answers = [b"+OK %d octets\r\n%s.\r\n" % (len(text), text) for text in mail]
    answers[DAMAGED - 1] = b"-ERR [SYS/PERM]"
    asked = [b"RETR %d\r\n" % number for number in range(1, 6)]
    for one, answer in zip(asked * 2, answers * 2, strict=True):
        assert re.sub(rb"(?<=PERM\]).*\r\n", b"", client.say(one)) == answer
    assert re.sub(rb"(?<=PERM\]).*\r\n", b"", client.say(b"".join(asked))) == b"".join(answers)
    client.hang_up()


@pytest.mark.usefixtures("mail")
def test_mail_is_filed_and_removed_after_a_write_has_met_damage(world: World) -> None:
    """The connection that writes goes on, and lets other processes write."""
    account = world.login()
    inbox = now(account.select("INBOX", False))
    everything = now(account.status("INBOX"))
    for _ in range(2):
        with pytest.raises(DatabaseDamaged):
            now(inbox.remove(UidSet.of([DAMAGED])))
        assert now(account.status("INBOX")) == everything
    now(inbox.remove(UidSet.of([1])))
    now(account.append("INBOX", [NewMessage(b"Subject: b\r\n\r\n")]))
    other = account._opened._rest._databases.connections.another()
    account._opened._rest._databases.connections.useless.append(other)
    assert other.write(0, lambda txn: txn.value("SELECT count(*) FROM message")) == 5


def test_the_index_gets_past_a_damaged_message(world: World, mail: list[bytes]) -> None:
    """The damaged one has to be read: its header is found in, and who looks below it hears of the damage."""
    account = world.login()
    index(world)
    assert index_progress(world.paths).state is IndexState.COMPLETE
    inbox = now(account.select("INBOX", True))
    assert found(inbox, search.HeaderText("SUBJECT", "a")) == [1, 2, 3, 4, 5]
    word = search.BodyText(mail[4][-50:-10].decode())
    assert found(inbox, search.And((search.Uids(UidSet.of([1, 2, 4, 5])), word))) == [5]
    with pytest.raises(DatabaseDamaged):
        found(inbox, word)


def test_a_connection_after_damage_takes_over_lock_and_log(tmp_path: Path) -> None:
    """Nothing is checkpointed, though no other is open; others still see that somebody is inside."""
    path, wal = tmp_path / "mail.db", tmp_path / "mail.db-wal"
    database = open_connection(path, KEY)
    database.write(0, lambda txn: txn.run("CREATE TABLE a(b)"))
    database.write(0, lambda txn: txn.many("INSERT INTO a VALUES(?)", [(bytes(20_000),)] * 2))
    assert database.checkpoint()
    database.close()
    flip(path, path.stat().st_size // PAGE - 1)
    database = open_connection(path, KEY)
    database.write(0, lambda txn: txn.run("CREATE TABLE c(d)"))
    before = aside(HASH, path, wal)
    for _ in range(3):
        with pytest.raises(DatabaseDamaged):
            database.read(0, lambda txn: txn.rows("SELECT b FROM a"))
        assert aside(HASH, path, wal) == before
        aside(IS_OPEN, tmp_path)
    assert database.read(0, lambda txn: txn.rows("SELECT b FROM a WHERE rowid=1")) == [(bytes(20_000),)]
    assert database.pragma("PRAGMA synchronous") == [(2,)]
    assert database.pragma("PRAGMA wal_autocheckpoint") == [(0,)]
    database.close()


def test_a_connection_that_cannot_be_replaced_stays_as_it_is(tmp_path: Path) -> None:
    """Where what everybody reads first is damaged as well; once it is not, all is well again."""
    path = tmp_path / "mail.db"
    database = open_connection(path, KEY)
    database.write(0, lambda txn: txn.run("CREATE TABLE a(b)"))
    assert database.checkpoint()
    database.close()
    database = open_connection(path, KEY)
    flip(path, 1)
    flip(path, 0)
    for _ in range(2):
        with pytest.raises(DatabaseDamaged):
            database.read(0, count)
    flip(path, 0)
    with pytest.raises(DatabaseDamaged):
        database.read(0, count)
    flip(path, 1)
    assert database.read(0, count) == 0
    database.close()


def count(txn: Txn) -> int:
    """Rows of the table."""
    return int(txn.value("SELECT count(*) FROM a"))
