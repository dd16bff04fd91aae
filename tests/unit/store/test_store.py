"""The store through its public face: what a session sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_world import NAME, World, now

from mailstore import search
from mailstore.directory import NO_QUOTA
from mailstore.errors import (
    MailboxExists,
    MailboxHasChildren,
    MailboxNameInvalid,
    NoSuchMailbox,
    NoSuchMessage,
    OverQuota,
    SpecialUseTaken,
)
from mailstore.limits import StoreLimits
from mailstore.mime import SectionKind, SectionSpec
from mailstore.model import (
    AccessProtocol,
    FetchPlan,
    Flags,
    ModSeq,
    NewMessage,
    SectionRead,
    SpecialUse,
    StoreMode,
    SystemFlag,
)
from mailstore.names import mailbox_name
from mailstore.prepared import FRAME_BYTES
from mailstore.uidset import UidSet

MESSAGE = b"From: a@b\r\nSubject: one\r\nDate: Mon, 5 Jan 2026 10:00:00 +0100\r\n\r\nhello\r\n"
WHOLE = SectionRead(SectionSpec())
BEGINNING = ModSeq(0)


def test_new_account_has_special_use_mailboxes(world: World) -> None:
    """A fresh account has the five special-use mailboxes, subscribed, beside INBOX."""
    found = now(world.login().list_mailboxes()).mailboxes
    assert [(one.name, one.special_use, one.subscribed) for one in found] == [
        ("INBOX", None, True),
        ("Archive", SpecialUse.ARCHIVE, True),
        ("Drafts", SpecialUse.DRAFTS, True),
        ("Junk", SpecialUse.JUNK, True),
        ("Sent", SpecialUse.SENT, True),
        ("Trash", SpecialUse.TRASH, True),
    ]


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 7])
@pytest.mark.parametrize(
    "header", [b"", b"Subject: x\r\n\r\n", b"X: " + b"y" * (FRAME_BYTES + 10) + b"\r\n\r\n"]
)
def test_bytes_come_back_exactly(world: World, size: int, header: bytes) -> None:
    """Whatever the sizes of header and body, the message is read back byte for byte, in spans too."""
    data = header + (bytes(range(256)) * (size // 256 + 1))[:size]
    account = world.login()
    now(account.append("Drafts", [NewMessage(data)]))
    mailbox = now(account.select("Drafts", True))
    row = now(mailbox.content(mailbox.opened.uids, [WHOLE], 1000))[0]
    read = row.sections[0].data
    offset = row.sections[0].next_offset
    while len(read) < row.sections[0].total:
        piece = now(mailbox.read_span(row.message_id, offset, 100_000))
        read += piece
        offset += len(piece)
    assert read == data


def test_content_stays_inside_its_budget(world: World) -> None:
    """A batch stops at the budget; only a first message that alone is larger comes cut short."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"\r\n" + b"x" * 998) for _ in range(5)]))
    mailbox = now(account.select("Drafts", True))
    rows = now(mailbox.content([1, 2, 3, 4, 5], [WHOLE], 2500))
    assert [(row.uid, len(row.sections[0].data)) for row in rows] == [(1, 1000), (2, 1000)]
    rows = now(mailbox.content([3, 4], [WHOLE], 400))
    assert [(row.uid, row.sections[0].total, len(row.sections[0].data)) for row in rows] == [(3, 1000, 400)]


def test_partial_of_header_fields(world: World) -> None:
    """A partial of HEADER.FIELDS counts in the filtered text."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE)]))
    mailbox = now(account.select("Drafts", True))
    spec = SectionSpec((), SectionKind.HEADER_FIELDS, (b"SUBJECT",))
    row = now(mailbox.content([1], [SectionRead(spec), SectionRead(spec, 9, 3)], 1000))[0]
    assert [one.data for one in row.sections] == [b"Subject: one\r\n\r\n", b"one"]


def test_expunged_content_is_gone_and_copies_share_it(world: World) -> None:
    """Content goes with the last placement of a message, not before."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE, Flags(SystemFlag.DELETED))]))
    drafts = now(account.select("Drafts", False))
    copied = now(drafts.copy(UidSet.of([1]), "Archive", BEGINNING))
    assert (copied.source, copied.destination) == ((1,), (1,))
    row = now(drafts.content([1], [WHOLE], 1000))[0]
    delta = now(drafts.expunge(None, BEGINNING))
    assert delta.expunged == UidSet.of([1])
    assert now(drafts.read_span(row.message_id, 0, 10)) == MESSAGE[:10]
    archive = now(account.select("Archive", False))
    now(archive.expunge(None, BEGINNING))
    with pytest.raises(NoSuchMessage):
        now(drafts.read_span(row.message_id, 0, 10))


def test_store_reports_conflicts(world: World) -> None:
    """UNCHANGEDSINCE refuses what changed later and touches nothing of it (RFC 7162 3.1.3)."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE), NewMessage(MESSAGE)]))
    mailbox = now(account.select("Drafts", False))
    seen = mailbox.opened.status.highest_modseq
    now(mailbox.store_flags(UidSet.of([1]), StoreMode.ADD, Flags(SystemFlag.SEEN), None, seen))
    result = now(mailbox.store_flags(UidSet(((1, 3),)), StoreMode.ADD, Flags(SystemFlag.FLAGGED), seen, seen))
    assert (result.modified, result.missing) == (UidSet.of([1]), UidSet.of([3]))
    assert [one.uid for one in result.updated] == [2]
    flags = {one.uid: one.flags.system for one in result.delta.changed}
    assert flags == {1: SystemFlag.SEEN, 2: SystemFlag.FLAGGED}


def test_flags_that_do_not_change_keep_their_modseq(world: World) -> None:
    """STORE of what is already so is no change."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE, Flags(SystemFlag.SEEN, ("$Work",)))]))
    mailbox = now(account.select("Drafts", False))
    since = mailbox.opened.status.highest_modseq
    result = now(
        mailbox.store_flags(UidSet.of([1]), StoreMode.ADD, Flags(SystemFlag.SEEN, ("$wORK",)), None, since)
    )
    assert result.delta.highest == since
    assert result.updated[0].flags.keywords == ("$Work",)


def test_rename_moves_children_and_keeps_identity(world: World) -> None:
    """RENAME takes inferiors along, creates missing superiors, keeps MAILBOXID and UIDVALIDITY."""
    account = world.login()
    now(account.create("a/b/c"))
    before = now(account.status("a/b/c"))
    now(account.rename("a", "x/y"))
    after = now(account.status("x/y/b/c"))
    assert (after.object_id, after.uid_validity) == (before.object_id, before.uid_validity)
    with pytest.raises(NoSuchMailbox):
        now(account.status("a/b"))
    with pytest.raises(MailboxNameInvalid):
        now(account.rename("x", "x/z"))
    with pytest.raises(MailboxExists):
        now(account.rename("x/y", "Sent"))


def test_rename_of_inbox_moves_messages(world: World) -> None:
    """RENAME INBOX moves its messages and leaves an empty INBOX (RFC 3501 6.3.5)."""
    world.deliver(MESSAGE)
    account = world.login()
    now(account.rename(mailbox_name("inbox"), mailbox_name("old")))
    counts = now(account.statuses(["INBOX", "old"]))
    assert {name: one.messages for name, one in counts.items()} == {"INBOX": 0, "old": 1}


def test_recreated_mailbox_gets_greater_uidvalidity(world: World) -> None:
    """Deleting and creating a mailbox never repeats a UIDVALIDITY (RFC 3501 2.3.1.1)."""
    account = world.login()
    first = now(account.create("again")).uid_validity
    now(account.delete("again"))
    assert now(account.create("again")).uid_validity > first


@pytest.mark.parametrize("name", ["", "/", "a//b", "/a", "a\x00b", "a\nb", "x" * 1001, "/".join("x" * 40)])
def test_unusable_names_are_refused(world: World, name: str) -> None:
    """Empty levels, control characters and oversized names are no mailboxes."""
    with pytest.raises(MailboxNameInvalid):
        now(world.login().create(name))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.b", "~", "%", "*", "C:\\x", "\u00e4"])
def test_odd_names_are_plain_names(world: World, name: str) -> None:
    """Names that look like paths or patterns are just names; composed and decomposed are the same."""
    account = world.login()
    now(account.create(mailbox_name(name)))
    assert now(account.status(mailbox_name(name))).messages == 0
    if name == "\u00e4":
        assert now(account.status(mailbox_name("a\u0308"))).messages == 0


def test_delete_rules(world: World) -> None:
    """INBOX stays, mailboxes with inferiors stay, special use is held once."""
    account = world.login()
    now(account.create("p/q"))
    with pytest.raises(MailboxHasChildren):
        now(account.delete("p"))
    with pytest.raises(MailboxNameInvalid):
        now(account.delete("INBOX"))
    with pytest.raises(SpecialUseTaken):
        now(account.create("Sent 2", SpecialUse.SENT))


def test_quota_stops_append_copy_and_delivery(world: World) -> None:
    """Nothing is kept that would pass the account's limit."""
    account_id = world.directory.accounts()[0].account_id
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"\r\n" + b"x" * 998)]))
    world.directory.set_quota(account_id, 1900)
    with pytest.raises(OverQuota):
        now(account.append("Drafts", [NewMessage(b"\r\n" + b"x" * 998)]))
    drafts = now(account.select("Drafts", False))
    with pytest.raises(OverQuota):
        now(drafts.copy(UidSet.of([1]), "Archive", BEGINNING))
    with pytest.raises(OverQuota):
        world.deliver(MESSAGE)
    assert now(account.quota()).used_messages == 1


def test_quotas_of_domain_and_server_count_at_once(world: World) -> None:
    """In a session that is open, too, and for mail that comes; the account's own goes first."""
    account_id = world.directory.accounts()[0].account_id
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"\r\n" + b"x" * 998)]))

    def is_full() -> bool:
        assert now(account.quota()).limit_bytes == now(world.store.quota_limit(account_id))
        try:
            world.deliver(MESSAGE)
        except OverQuota:
            with pytest.raises(OverQuota):
                now(account.append("Drafts", [NewMessage(b"\r\n" + b"x" * 998)]))
            return True
        return False

    assert not is_full()
    world.directory.limit_domain("example.org", quota_bytes=1900)
    assert is_full()
    world.directory.set_quota(account_id, 10**9)
    assert not is_full()
    world.directory.set_quota(account_id, None)
    world.directory.limit_domain("example.org", quota_bytes=None)
    assert not is_full()
    world.store.limits = replace(world.store.limits, quota_bytes=1900)
    assert is_full()
    world.directory.set_quota(account_id, NO_QUOTA)
    assert not is_full()


def test_sub_address_chooses_the_mailbox(world: World) -> None:
    """user+folder goes to the folder when there is one, else to INBOX."""
    account = world.login()
    now(account.create("Lists"))
    world.deliver(MESSAGE, b"alice+lists@example.org")
    world.deliver(MESSAGE, b"alice+nowhere@example.org")
    account.release()
    world.clock.advance(StoreLimits().close_grace_s + 1)
    counts = now(world.login().statuses(["INBOX", "Lists"]))
    assert {name: one.messages for name, one in counts.items()} == {"INBOX": 1, "Lists": 1}


def test_sub_address_prefers_the_mailbox_that_is_spelled_like_it(world: World) -> None:
    """With both "Work" and "work" each gets its own; another spelling goes to one of them."""
    account = world.login()
    for name in ("Work", "work"):
        now(account.create(name))
    for detail in (b"Work", b"work", b"work"):
        world.deliver(MESSAGE, b"alice+%s@example.org" % detail)
    counts = now(account.statuses(["INBOX", "Work", "work"]))
    assert {name: one.messages for name, one in counts.items()} == {"INBOX": 0, "Work": 1, "work": 2}
    world.deliver(MESSAGE, b"alice+WORK@example.org")
    assert now(account.status("INBOX")).messages == 0


def test_taking_an_unknown_keyword_away_makes_none(world: World) -> None:
    """-FLAGS with a keyword that the mailbox has never had leaves it without; a known one is found."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE, Flags(SystemFlag.SEEN, ("$Work",)))]))
    mailbox = now(account.select("Drafts", False))
    change = Flags(SystemFlag(0), ("unknown", "$wORK"))
    now(mailbox.store_flags(UidSet.of([1]), StoreMode.REMOVE, change, None, BEGINNING))
    assert now(account.select("Drafts", True)).opened.keywords == ("$Work",)
    assert now(mailbox.fetch([1], FetchPlan(), BEGINNING)).rows[0].flags == Flags(SystemFlag.SEEN)


@pytest.mark.parametrize("command", ["copy", "move"])
def test_keywords_go_with_their_messages(world: World, command: str) -> None:
    """In the spelling of the mailbox they come to, which knows all of them afterwards."""
    account = world.login()
    kept = [Flags(SystemFlag.SEEN, ("$Work", "later")), Flags(), Flags(SystemFlag.FLAGGED, ("$Junk",))]
    now(account.append("Drafts", [NewMessage(MESSAGE, flags) for flags in kept]))
    now(account.append("Archive", [NewMessage(MESSAGE, Flags(SystemFlag(0), ("$wORK",)))]))
    drafts = now(account.select("Drafts", False))
    result = now(getattr(drafts, command)(UidSet(((1, 3),)), "Archive", BEGINNING))
    assert (result.source, result.destination) == ((1, 2, 3), (2, 3, 4))
    archive = now(account.select("Archive", True))
    assert archive.opened.keywords == ("$Junk", "$wORK", "later")
    found = [row.flags for row in now(archive.fetch([2, 3, 4], FetchPlan(), BEGINNING)).rows]
    assert found == [Flags(SystemFlag.SEEN, ("$wORK", "later")), *kept[1:]]
    left = now(account.status("Drafts")).messages
    assert left == (3 if command == "copy" else 0)


def test_seen_is_set_by_fetch_only_where_missing(world: World) -> None:
    """FETCH of content sets \\Seen once and says on which messages."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(MESSAGE, Flags(SystemFlag.SEEN)), NewMessage(MESSAGE)]))
    mailbox = now(account.select("Drafts", False))
    result = now(mailbox.fetch([1, 2], FetchPlan(set_seen=True), BEGINNING))
    assert result.seen_now == UidSet.of([2])
    assert [row.flags.system for row in result.rows] == [SystemFlag.SEEN, SystemFlag.SEEN]
    assert now(account.status("Drafts")).unseen == 0
    read_only = now(account.select("Drafts", True))
    assert now(read_only.fetch([1], FetchPlan(set_seen=True), BEGINNING)).seen_now == UidSet()


def test_search_combines_columns_and_text(world: World) -> None:
    """Flags, dates and text in one tree; text is found without regard to case and encoding."""
    account = world.login()
    encoded = b"Subject: =?utf-8?q?Gr=C3=B6=C3=9Fe?=\r\nDate: Tue, 6 Jan 2026 00:30:00 +0200\r\n\r\nbody\r\n"
    now(account.append("Drafts", [NewMessage(MESSAGE, Flags(SystemFlag.SEEN)), NewMessage(encoded)]))
    mailbox = now(account.select("Drafts", True))

    def uids(key: search.Key) -> tuple[int, ...]:
        return tuple(now(mailbox.search(key, BEGINNING)).uids)

    from datetime import date

    assert uids(search.HeaderText("SUBJECT", "GRÖSSE")) == (2,)
    assert uids(search.BodyText("HELLO")) == (1,)
    assert uids(search.Or(search.BodyText("hello"), search.Not(search.HasFlag(SystemFlag.SEEN)))) == (1, 2)
    assert uids(search.Not(search.Or(search.BodyText("hello"), search.AnyText("größe")))) == ()
    assert uids(search.DateRange("sent", date(2026, 1, 6), date(2026, 1, 7))) == (2,)
    assert uids(search.And((search.Uids(UidSet(((2, 9),))), search.All()))) == (2,)


def test_name_of_the_user_is_case_insensitive(world: World) -> None:
    """Logging in with another case of the address reaches the same account."""
    account = now(world.store.login(NAME.upper(), b"correct horse battery staple", AccessProtocol.IMAP))
    assert account.name == NAME.decode()
