"""What later IMAP extensions ask of the store: sort, threads, replace, metadata, decoded parts, ids."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from store_world import World, now

from mailstore import search
from mailstore.errors import LimitExceeded, NoSuchMessage, OverQuota
from mailstore.limits import StoreLimits
from mailstore.mime import SectionSpec
from mailstore.model import (
    Counters,
    FetchPlan,
    Flags,
    ModSeq,
    NewMessage,
    SectionRead,
    SortBy,
    SortKey,
    SystemFlag,
    Uid,
)
from mailstore.ops import quota, sorting
from mailstore.uidset import UidSet

START = ModSeq(0)


def mail(subject: str, sender: str, day: int, extra: str = "") -> NewMessage:
    """A small message."""
    head = f"Subject: {subject}\r\nFrom: {sender}\r\nDate: {day} Jan 2026 10:00:00 +0000\r\n{extra}\r\n"
    return NewMessage(head.encode() + b"text\r\n", internal_date=1_700_000_000 - day)


def test_sort(world: World) -> None:
    """Each criterion orders, REVERSE applies to its own criterion, the mailbox's order decides last."""
    account = world.login()
    sent = [mail("Re: b", "zoe@x", 3), mail("A", "ann@x", 1), mail("b", "bob@x", 2), mail("a", "zoe@x", 2)]
    now(account.append("Drafts", sent))
    mailbox = now(account.select("Drafts", True))

    def order(*by: SortBy) -> list[int]:
        return list(now(mailbox.sort(search.All(), by, START)).uids)

    assert order(SortBy(SortKey.SUBJECT)) == [2, 4, 1, 3]
    assert order(SortBy(SortKey.SUBJECT), SortBy(SortKey.DATE, reverse=True)) == [4, 2, 1, 3]
    assert order(SortBy(SortKey.DATE)) == [2, 3, 4, 1]
    assert order(SortBy(SortKey.ARRIVAL)) == [1, 3, 4, 2]
    assert order(SortBy(SortKey.FROM), SortBy(SortKey.DATE)) == [2, 3, 4, 1]
    key = search.HeaderText("FROM", "zoe")
    assert list(now(mailbox.sort(key, [SortBy(SortKey.DATE)], START)).uids) == [4, 1]


def test_thread_rows_and_object_ids(world: World) -> None:
    """Replies share THREADID, copies share EMAILID, and the references are there for THREAD."""
    account = world.login()
    first = mail("t", "a@x", 1, "Message-ID: <1@x>\r\n")
    reply = mail("Re: t", "b@x", 2, "Message-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\n")
    other = mail("t", "c@x", 3, "Message-ID: <3@x>\r\n")
    now(account.append("Drafts", [first, reply, other]))
    mailbox = now(account.select("Drafts", False))
    rows = now(account._opened.read(sorting.thread_rows, mailbox.opened.mailbox_id, [1, 2, 3]))
    assert [(row.subject, row.is_reply) for row in rows] == [("T", False), ("T", True), ("T", False)]
    assert rows[1].references == (rows[0].own,) and rows[2].references == ()
    fetched = now(mailbox.fetch([1, 2, 3], FetchPlan(object_ids=True, preview=True), START)).rows
    assert fetched[0].thread_id == fetched[1].thread_id != fetched[2].thread_id
    assert len({row.email_id for row in fetched}) == 3
    assert [row.preview for row in fetched] == ["text"] * 3
    copied = now(mailbox.copy(UidSet.of([1]), "Archive", START))
    archive = now(account.select("Archive", True))
    again = now(archive.fetch(copied.destination, FetchPlan(object_ids=True), START)).rows
    assert again[0].email_id == fetched[0].email_id and again[0].thread_id == fetched[0].thread_id


def test_replace(world: World) -> None:
    """REPLACE adds and removes together; a message that is gone replaces nothing."""
    account = world.login()
    now(account.append("Drafts", [mail("old", "a@x", 1)]))
    mailbox = now(account.select("Drafts", False))
    result, delta = now(mailbox.replace(Uid(1), "Drafts", mail("new", "a@x", 1), START))
    assert result.uids == (2,)
    assert list(delta.expunged) == [1] and [one.uid for one in delta.changed] == [2]
    with pytest.raises(NoSuchMessage):
        now(mailbox.replace(Uid(1), "Drafts", mail("newer", "a@x", 1), START))
    assert now(account.status("Drafts")).messages == 1


def test_annotations(world: World) -> None:
    """Values of account and mailboxes are apart, names have no case, limits hold, all or none."""
    account = world.login()
    now(account.annotate(None, {"/private/comment": b"server"}))
    now(account.annotate("Drafts", {"/private/Comment": b"box", "/private/x": b"\0\xff"}))
    assert now(account.annotations(None)) == {"/private/comment": b"server"}
    now(account.annotate("Drafts", {"/PRIVATE/comment": b"new", "/private/x": None}))
    assert now(account.annotations("drafts".title())) == {"/private/comment": b"new"}
    with pytest.raises(LimitExceeded):
        now(account.annotate(None, {f"/private/{n}": b"" for n in range(StoreLimits().max_annotations + 1)}))
    assert now(account.annotations(None)) == {"/private/comment": b"server"}
    now(account.create("gone"))
    now(account.annotate("gone", {"/private/comment": b"x"}))
    now(account.delete("gone"))
    now(account.create("gone"))
    assert now(account.annotations("gone")) == {}


def test_annotations_count_for_the_storage_limit_until_they_are_gone(world: World) -> None:
    """They are removed and shortened in an account that is too full, too; a deleted mailbox takes its own."""
    account = world.login()
    now(account.create("gone"))
    now(account.annotate(None, {"/private/a": bytes(90), "/private/b": bytes(90)}))
    now(account.annotate("gone", {"/private/a": bytes(290)}))
    assert now(account.quota()).used_bytes == 500
    world.directory.set_quota(account.account_id, 100)
    world.store.limits = replace(world.store.limits, max_annotations=0, max_annotation_bytes=0)
    for larger in ({"/private/a": bytes(91)}, {"/private/a": None, "/private/c": bytes(91)}):
        with pytest.raises((OverQuota, LimitExceeded)):
            now(account.annotate(None, larger))
    now(account.annotate(None, {"/private/a": bytes(40)}))
    assert now(account.quota()).used_bytes == 450
    now(account.annotate(None, {"/private/a": None}))
    assert now(account.quota()).used_bytes == 400
    now(account.delete("gone"))
    assert now(account.quota()).used_bytes == 100
    assert now(account._opened.read(quota.annotation_bytes)) == 100
    now(account._opened.write(quota.forget_annotation_bytes))
    assert now(account._opened.read(quota.annotation_bytes)) == 100


def test_decoded_parts(world: World) -> None:
    """A decoded section is the content itself; an unknown encoding is said to be unknown."""
    account = world.login()
    data = bytes(range(256)) * 5
    head = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: "
    body = base64.encodebytes(data).replace(b"\n", b"\r\n")
    now(account.append("Drafts", [NewMessage(head + b"base64\r\n\r\n" + body)]))
    now(account.append("Drafts", [NewMessage(head + b"x-own\r\n\r\n" + body)]))
    mailbox = now(account.select("Drafts", True))
    part = SectionSpec((1,))
    wanted = [SectionRead(part, decoded=True), SectionRead(part, 250, 10, decoded=True)]
    rows = now(mailbox.content([1, 2], wanted, 1 << 20))
    assert [one.data for one in rows[0].sections] == [data, data[250:260]]
    assert [one.unknown_encoding for one in rows[1].sections] == [True, True]


def test_reading_by_name(world: World) -> None:
    """A section is read from a mailbox that is not selected, if UIDVALIDITY and UID are right."""
    account = world.login()
    appended = now(account.append("Drafts", [mail("x", "a@x", 1)]))
    whole = SectionRead(SectionSpec())
    found = now(account.read_section("Drafts", appended.uid_validity, Uid(1), whole))
    assert found is not None and found.endswith(b"text\r\n")
    assert now(account.read_section("Drafts", appended.uid_validity + 1, Uid(1), whole)) is None
    assert now(account.read_section("Drafts", appended.uid_validity, Uid(2), whole)) is None
    validity, result = now(account.search_in("Drafts", search.All()))
    assert (validity, result.uids) == (appended.uid_validity, (1,))


def test_any_change_is_heard(world: World) -> None:
    """A session may listen to the whole account, several times over, until it is over."""
    account = world.login()
    heard: list[str] = []
    end = account.listen(lambda: heard.append("one"))
    account.listen(lambda: heard.append("two"))
    folder = world.store.watcher.callbacks[world.paths.folder]  # type: ignore[attr-defined]
    heard.clear()
    now(account.append("Archive", [NewMessage(b"x", Flags(SystemFlag.SEEN))]))
    folder(frozenset({"write.lock"}))
    assert heard == ["one", "two"]
    end()
    end()
    folder(frozenset({"write.lock"}))
    assert heard == ["one", "two", "two"]
    account.release()
    folder(frozenset({"write.lock"}))
    assert heard == ["one", "two", "two"]


def test_overview(world: World) -> None:
    """Names, subscriptions and counters of all mailboxes; the counters are those of STATUS."""
    account = world.login()
    now(account.append("Drafts", [mail("x", "a@x", 1), NewMessage(b"y", Flags(SystemFlag.SEEN))]))
    now(account.subscribe("Nowhere"))
    seen = now(account.overview(None))
    assert seen.listed == now(account.list_mailboxes())
    assert seen.listed.orphan_subscriptions == ("Nowhere",)
    assert seen.annotations is None
    for info in seen.listed.mailboxes:
        status, kept = now(account.status(info.name)), seen.counters[info.mailbox_id]
        assert kept == Counters(
            status.messages, status.unseen, status.uid_next, status.uid_validity, status.highest_modseq
        )


def test_versions_of_annotations(world: World) -> None:
    """Whatever is set gets a version that was never there before; nothing is read when nothing changed."""
    account = world.login()
    drafts = now(account.status("Drafts")).mailbox_id
    first = now(account.annotate("Drafts", {"/private/A": b"1", "/private/b": b"2"}))
    server = now(account.annotate(None, {"/private/a": b"3"}))
    seen = now(account.overview(-1))
    assert seen.annotations == {drafts: first, None: server}
    assert now(account.overview(seen.annotations_version)).annotations is None
    # The last row is taken away and set again: its number must not come back.
    now(account.annotate(None, {"/private/a": None}))
    gone = now(account.overview(seen.annotations_version))
    assert gone.annotations == {drafts: first}
    again = now(account.annotate(None, {"/private/a": b"3"}))
    assert again["/private/a"] not in {*first.values(), *server.values()}
    same = now(account.annotate("Drafts", {"/private/b": b"2"}))
    assert now(account.overview(0)).annotations == {drafts: {**first, **same}, None: again}
    assert same["/private/b"] != first["/private/b"]


def test_annotations_of_several_mailboxes(world: World) -> None:
    """Only the entries asked for, of as many mailboxes as fit but one at least (RFC 9590)."""
    account = world.login()
    for name in ("Drafts", "Sent"):
        now(account.annotate(name, {"/private/a": b"x" * 10, "/private/b": b""}))
    asked = ["/private/A", "/private/c"]
    found = now(account.annotations_of(["Drafts", "none", "Sent"], asked, 100))
    assert found == {"Drafts": {"/private/a": b"x" * 10}, "none": {}, "Sent": {"/private/a": b"x" * 10}}
    assert list(now(account.annotations_of(["Drafts", "Sent"], asked, 1))) == ["Drafts"]
