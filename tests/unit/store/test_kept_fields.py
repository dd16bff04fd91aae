"""Header fields that are kept ready to send: answers are those of the header, and less is read for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from decrypted_pages import decrypted_pages
from hypothesis import given, settings
from hypothesis import strategies as st
from store_world import World, now

from mailstore import mime
from mailstore.account_database import account_database
from mailstore.engine import Database, Txn
from mailstore.mailbox import Mailbox
from mailstore.mime import KEPT_FIELDS, MimeLimits, SectionKind, SectionSpec
from mailstore.model import ContentRow, FetchPlan, ModSeq, NewMessage, SectionRead, Uid
from mailstore.prepared import prepare
from mailstore.schema import MIGRATIONS, migrate
from mailstore.store import Account
from mailstore.uidset import UidSet

MANY = b"".join(b"To: %d@example.org\r\n" % at for at in range(MimeLimits().max_kept_fields_bytes // 20))
MAILS = (
    b"Subject: one\r\nFrom: a@x\r\nX-Other: y\r\n\r\ntext\r\n",
    b"subject: a\r\n folded\r\nSUBJECT: b\r\nList-Id: <l>\r\n\r\n",
    b"Subject: too many to keep\r\n" + MANY + b"\r\n",
    b"",
    b"no field at all\r\nCc: c@x",
    b"\r\nSubject: not in the header\r\n",
)
COUNT = 3 * len(MAILS)
ALL = tuple(Uid(uid) for uid in range(1, COUNT + 1))
OLDER = (2, 5, 8, 18)
"""Messages of an earlier version, of which nothing is kept."""


def forget_kept(txn: Txn, message_ids: Sequence[int]) -> None:
    """Make messages such as an earlier version filed."""
    txn.many("DELETE FROM kept_fields WHERE message_id = ?", [(one,) for one in message_ids])


def forget_frames(txn: Txn) -> None:
    """Make what messages consist of unreadable."""
    txn.run("UPDATE content SET frame = x'00'")


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """Messages of which something is kept, and others."""
    world = World(Path(tmp_path_factory.mktemp("kept")) / "root")
    account = world.login()
    now(account.append("Drafts", [NewMessage(data) for data in MAILS * 3]))
    now(world.store._open[account.account_id].write(forget_kept, OLDER))
    yield now(account.select("Drafts", False))
    world.close()


def closed(world: World, account: Account) -> bytes:
    """End the last session of the account, which writes everything into mail.db; returns its key."""
    key = world.store._open[account.account_id]._rest._databases.connections.key()
    account.release_at_once()
    world.clock.advance(0)
    return key.key


def asked(*names: bytes, offset: int | None = None, length: int | None = None) -> SectionRead:
    """HEADER.FIELDS of the message."""
    return SectionRead(SectionSpec((), SectionKind.HEADER_FIELDS, names), offset, length)


def expected(section: SectionRead, uid: int) -> bytes:
    """The answer from the message as it was sent."""
    data = MAILS[(uid - 1) % len(MAILS)]
    text = mime.header_fields(data[: mime.scan(data).body_start], section.spec.fields)
    low = section.offset or 0
    return text[low:] if section.length is None else text[low : low + section.length]


def fetched(mailbox: Mailbox, sections: Sequence[SectionRead], most_bytes: int = 1 << 20) -> list[ContentRow]:
    """The content of all messages, as FETCH reads it: what comes along, then what is left of them."""
    plan = FetchPlan(sections=tuple(sections), max_bytes=most_bytes)
    rows = list(now(mailbox.fetch(ALL, plan, ModSeq(0))).content)
    while len(rows) < COUNT:
        more = now(mailbox.content(ALL[len(rows) :], sections, most_bytes))
        assert more
        rows += more
    return rows


NAMES = st.lists(st.sampled_from((*KEPT_FIELDS[:6], b"Subject", b"LIST-ID", b"X-Other")), max_size=3)
PARTIAL = st.tuples(st.integers(0, 30), st.none() | st.integers(1, 30)) | st.just((None, None))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(lambda names, part: asked(*names, offset=part[0], length=part[1]), NAMES, PARTIAL),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from((1, 40, 9_000, 1 << 20)),
)
def test_any_fields_are_those_of_the_header(
    mailbox: Mailbox, sections: list[SectionRead], most_bytes: int
) -> None:
    """Of messages with kept fields and without, between each other, whatever fits into one answer."""
    rows = fetched(mailbox, sections, most_bytes)
    assert [row.uid for row in rows] == list(ALL)
    for row in rows:
        assert [one.data for one in row.sections] == [expected(section, row.uid) for section in sections]
        assert [one.total for one in row.sections] == [len(one.data) for one in row.sections]


def test_a_batch_of_kept_fields_ends_at_its_budget(mailbox: Mailbox) -> None:
    """Answers grow by one message beyond ``max_bytes`` at most, wherever they are read from."""
    whole = [len(expected(asked(*KEPT_FIELDS), uid)) for uid in ALL]
    for most_bytes in (1, whole[0], whole[0] + 1, sum(whole[:7]), sum(whole) - 1):
        plan = FetchPlan(sections=(asked(*KEPT_FIELDS),), max_bytes=most_bytes)
        came = now(mailbox.fetch(ALL, plan, ModSeq(0))).content
        again = now(mailbox.content(ALL, plan.sections, most_bytes))
        assert came == again
        assert sum(whole[: len(came) - 1]) < most_bytes
        assert [len(row.sections[0].data) for row in came] == whole[: len(came)]


def test_kept_fields_are_answered_without_the_message(world: World) -> None:
    """Nothing of it is decompressed, neither for all of them nor for some."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MAILS[1])]))
    now(world.store._open[account.account_id].write(forget_frames))
    mailbox = now(account.select("Drafts", False))
    for section in (
        asked(*KEPT_FIELDS),
        asked(b"LIST-ID"),
        asked(b"subject", b"list-id", offset=3, length=9),
    ):
        (row,) = now(
            mailbox.fetch([Uid(1)], FetchPlan(sections=(section,), max_bytes=100), ModSeq(0))
        ).content
        assert row.sections[0].data == expected(section, 2)
        assert now(mailbox.content([Uid(1)], [section], 100)) == (row,)


def test_a_message_that_is_lost_does_not_hide_the_others(world: World) -> None:
    """Damage: nothing is left of it but its place in the mailbox."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(data) for data in MAILS]))
    key = world.store._open[account.account_id]._rest._databases.connections.key()
    closed(world, account)
    with account_database(world.paths, key) as database:
        database.write(0, forget_kept, [1, 3, 4])
        database.pragma("PRAGMA foreign_keys=OFF")
        database.write(0, lambda txn: txn.run("DELETE FROM message WHERE id = 3"))
    mailbox = now(world.login().select("Drafts", False))
    rows = now(mailbox.content(ALL, [asked(b"subject")], 1 << 20))
    assert [row.uid for row in rows] == [1, 2, 4, 5, 6]


def test_the_setting_bounds_what_is_kept() -> None:
    """``max_kept_fields_bytes`` holds for messages that are filed."""
    header = b"Subject: one\r\n\r\n"
    kept = [prepare(header + b"x", MimeLimits(max_kept_fields_bytes=size)).kept_fields for size in (15, 16)]
    assert kept == [None, (1 << KEPT_FIELDS.index(b"subject"), header)]


def test_kept_fields_of_an_expunged_message_leave_the_pages(world: World) -> None:
    """No page has them any more, free ones included, nor what else is kept of the message; others stay."""
    marks = [b"Zq1expunged", b"Zq2expunged", b"Zq3stays"]
    account = world.login()
    long = b"x" * 5000  # beyond one page
    mails = [b"Subject: %b\r\nX-Label: %b %b\r\n\r\n" % (marks[at], marks[at], long) for at in (0, 2, 2)]
    mails[1] = mails[1].replace(marks[2], marks[1]).replace(long, b"short")
    now(account.append("Drafts", [NewMessage(data) for data in mails]))
    key = closed(world, account)
    text = decrypted_pages(world.paths.mail_db, key)
    assert all(mark in text for mark in marks)
    account = world.login()
    now(now(account.select("Drafts", False)).remove(UidSet.of([1, 2])))
    assert closed(world, account) == key
    text = decrypted_pages(world.paths.mail_db, key)
    assert [mark for mark in marks if mark in text] == marks[2:]


def tables(database: Database) -> list[str]:
    """The schema, as SQLite keeps it."""
    query = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    return [sql for (sql,) in database.read(0, lambda txn: txn.rows(query))]


def test_messages_of_version_2_are_answered_from_their_header(world: World) -> None:
    """An upgrade reads no message: what was filed before is answered as ever, what comes now is kept."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(data) for data in MAILS * 2]))
    key = world.store._open[account.account_id]._rest._databases.connections.key()
    closed(world, account)
    with account_database(world.paths, key) as database:
        todays = tables(database)
        database.write(0, lambda txn: txn.run("DROP TABLE kept_fields"))
        database.pragma("PRAGMA user_version=2")
        migrate(database, 0)
        assert tables(database) == todays
        assert len(MIGRATIONS) == database.pragma("PRAGMA user_version")[0][0] == 3
    account = world.login()
    now(account.append("Drafts", [NewMessage(data) for data in MAILS]))
    mailbox = now(account.select("Drafts", False))
    section = asked(*KEPT_FIELDS)
    assert [row.sections[0].data for row in fetched(mailbox, [section])] == [
        expected(section, uid) for uid in ALL
    ]

    def kept(txn: Txn) -> list[int]:
        return [one for (one,) in txn.rows("SELECT message_id FROM kept_fields ORDER BY message_id")]

    last = 2 * len(MAILS)
    assert now(world.store._open[account.account_id].read(kept)) == [
        last + at for at in range(1, len(MAILS) + 1) if at != 3
    ]


def test_reading_kept_fields_asks_no_question_for_each_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many statements for four times the messages, also where some are not kept."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MAILS[0]) for _ in range(48)]))
    now(world.store._open[account.account_id].write(forget_kept, range(1, 49, 6)))
    mailbox = now(account.select("Drafts", False))
    statements = 0
    original = Txn.rows, Txn.one

    def counted(which: int) -> object:
        def call(txn: Txn, *arguments: object) -> object:
            nonlocal statements
            statements += 1
            return original[which](txn, *arguments)  # type: ignore[arg-type]

        return call

    monkeypatch.setattr(Txn, "rows", counted(0))
    monkeypatch.setattr(Txn, "one", counted(1))
    plan = FetchPlan(sections=(asked(b"subject"),), max_bytes=1 << 20)
    statements, seen = 0, []
    now(mailbox.fetch(range(2, 6), plan, ModSeq(0)))
    together, statements = statements, 0
    now(mailbox.fetch(range(2, 6), FetchPlan(), ModSeq(0)))
    assert statements == together, "kept fields come in the statement that reads flags"
    for count in (12, 48):
        statements = 0
        assert len(now(mailbox.fetch(range(1, count + 1), plan, ModSeq(0))).content) == count
        seen.append(statements)
    assert seen[0] == seen[1]
