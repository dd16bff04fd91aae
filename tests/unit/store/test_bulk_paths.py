"""The store's quick paths against slow and plain ones: flags in bulk, headers in batches, text search."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_world import World, now

from mailstore import mime, search
from mailstore.mailbox import Mailbox
from mailstore.mime import SectionKind, SectionSpec
from mailstore.model import FetchPlan, Flags, ModSeq, NewMessage, SectionRead, StoreMode, SystemFlag, Uid
from mailstore.ops.content import SMALL_HEADER_BYTES
from mailstore.search_form import search_form
from mailstore.uidset import UidSet

COUNT = 40
ALL = tuple(Uid(uid) for uid in range(1, COUNT + 1))
SUBJECTS = (
    b"Plain words, twice: plain words",
    b"folded\r\n over\r\n\t two lines",
    b"wide    space\tand\tTABS",
    b"=?utf-8?Q?Gr=C3=B6=C3=9Fe?= and =?iso-8859-1?B?5uU=?=",
    b"raw utf-8 stra\xc3\x9fe",
    b"latin \xe9t\xe9",
    b"split wo\r\n rd",
    b"",
)
NEEDLES = st.sampled_from(
    (
        *("plain", "WORDS", "words, twice", "over two", "wide space", "and tabs", "word", "wo rd"),
        *("größe", "æå", "STRASSE", "été", "é", "", " ", "two  lines", "nowhere", "=?utf-8", "subject"),
    )
)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """A mailbox whose messages differ in subject, and some have headers too large for the quick path."""
    world = World(Path(tmp_path_factory.mktemp("bulk")) / "root")
    account = world.login()
    filler = b"".join(b"X-%d: %s\r\n" % (at, b"x" * 500) for at in range(SMALL_HEADER_BYTES // 500 + 2))
    new = [
        NewMessage(
            b"Subject: %s\r\nsubject: second %d\r\n%s\r\nbody\r\n"
            % (SUBJECTS[at % len(SUBJECTS)], at, filler if at % 11 == 0 else b"")
        )
        for at in range(COUNT - 2)
    ]
    new += [NewMessage(b""), NewMessage(b"\r\nno header\r\n")]
    now(account.append("Drafts", new))
    yield now(account.select("Drafts", False))
    world.close()


def _headers(mailbox: Mailbox) -> dict[int, bytes]:
    """Every header, by the way that reads whole messages."""
    both = (SectionRead(SectionSpec()), SectionRead(SectionSpec((), SectionKind.HEADER)))
    rows = now(mailbox.content(ALL, both, 1 << 22))
    assert all(row.sections[0].data.startswith(row.sections[1].data) for row in rows)
    return {row.uid: row.sections[1].data for row in rows}


@settings(max_examples=60, deadline=None)
@given(needle=NEEDLES, name=st.sampled_from(("SUBJECT", "X-3", "BCC")), negated=st.booleans())
def test_header_search_is_the_plain_one(mailbox: Mailbox, needle: str, name: str, negated: bool) -> None:
    """Ruling messages out by their bytes never changes what is found."""
    expected = []
    for uid, header in _headers(mailbox).items():
        values = [
            search_form(mime.decode_words(mime.unfold(header[field.value_start : field.value_end])))
            for field in mime.fields(header)
            if field.name.decode("ascii", "replace").upper() == name
        ]
        if any(search_form(needle) in value for value in values) is not negated:
            expected.append(uid)
    key: search.Key = search.HeaderText(name, needle)
    found = now(mailbox.search(search.Not(key) if negated else key, ModSeq(0)))
    assert list(found.uids) == expected


def test_headers_come_the_same_alone_and_beside_bodies(mailbox: Mailbox) -> None:
    """Small headers are read with the batch, large ones on their own; both are what was stored."""
    alone = now(mailbox.content(ALL, (SectionRead(SectionSpec((), SectionKind.HEADER)),), 1 << 22))
    assert {row.uid: row.sections[0].data for row in alone} == _headers(mailbox)


def test_a_section_of_a_part_and_of_the_whole_agree(mailbox: Mailbox) -> None:
    """Without part numbers the part tree is not read, with them it is: part 1 is the text."""
    reads = (
        SectionRead(SectionSpec((), SectionKind.TEXT)),
        SectionRead(SectionSpec((1,))),
    )
    whole = now(mailbox.content(ALL, reads[:1], 1 << 22))
    both = now(mailbox.content(ALL, reads, 1 << 22))
    assert [row.sections[0] for row in whole] == [row.sections[0] for row in both]
    assert all(row.sections[0].data == row.sections[1].data for row in both)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), mode=st.sampled_from(StoreMode), conditional=st.booleans())
def test_flags_change_as_in_a_plain_model(
    mailbox: Mailbox, seed: int, mode: StoreMode, conditional: bool
) -> None:
    """STORE on any set of messages with any mixture of flags does to each what STORE on it alone would."""
    rng = random.Random(seed)
    before = {row.uid: row for row in now(mailbox.fetch(ALL, FetchPlan(), ModSeq(0))).rows}
    since = now(mailbox.sync(ModSeq(0))).highest
    chosen = UidSet.of(rng.sample(range(1, COUNT + 5), rng.randint(1, COUNT)))
    change = Flags(
        SystemFlag(rng.randrange(32)), tuple(sorted(rng.sample(("$A", "$B", "c"), rng.randint(0, 2))))
    )
    limit = ModSeq(rng.randint(1, since)) if conditional else None
    result = now(mailbox.store_flags(chosen, mode, change, limit, since))
    after = now(mailbox.fetch(ALL, FetchPlan(), since))
    known = [Uid(uid) for uid in chosen if uid in before]
    refused = [uid for uid in known if limit is not None and before[uid].modseq > limit]
    for row in after.rows:
        old = before[row.uid].flags
        wanted = old
        if row.uid in known and row.uid not in refused:
            wanted = _changed(old, mode, change)
        assert row.flags == wanted
        assert (row.modseq > since) is (wanted != old)
    assert list(result.modified) == refused
    assert list(result.missing) == [uid for uid in chosen if uid not in before]
    assert [one.uid for one in result.updated] == [uid for uid in known if uid not in refused]
    rows = {row.uid: (row.modseq, row.flags) for row in after.rows}
    assert all(rows[one.uid] == (one.modseq, one.flags) for one in result.updated)
    assert [one.uid for one in result.delta.changed] == [row.uid for row in after.rows if row.modseq > since]


def _changed(old: Flags, mode: StoreMode, change: Flags) -> Flags:
    match mode:
        case StoreMode.REPLACE:
            return change
        case StoreMode.ADD:
            words = set(old.keywords) | set(change.keywords)
            return Flags(old.system | change.system, tuple(sorted(words)))
        case StoreMode.REMOVE:
            words = set(old.keywords) - set(change.keywords)
            return Flags(SystemFlag(int(old.system) & ~int(change.system)), tuple(sorted(words)))


WHOLE = SectionRead(SectionSpec())


@pytest.mark.parametrize("max_bytes", [1, 700, 1 << 20])
def test_content_that_comes_along_is_what_would_be_asked_for_next(mailbox: Mailbox, max_bytes: int) -> None:
    """The same messages, the same bytes, within the same bound."""
    plan = FetchPlan(sections=(WHOLE,), max_bytes=max_bytes)
    fetched = now(mailbox.fetch(ALL, plan, mailbox.opened.status.highest_modseq))
    assert fetched.content == now(mailbox.content(ALL, (WHOLE,), max_bytes))
    assert fetched.content


def test_content_follows_the_messages_that_are_told_of(mailbox: Mailbox) -> None:
    """With CHANGEDSINCE only of those that have changed; of none, when nothing has."""
    since = mailbox.opened.status.highest_modseq
    newest = max(row.modseq for row in now(mailbox.fetch(ALL, FetchPlan(), since)).rows)
    plan = FetchPlan(sections=(WHOLE,), max_bytes=1 << 20, changed_since=ModSeq(newest - 1))
    fetched = now(mailbox.fetch(ALL, plan, newest))
    assert fetched.content
    assert [row.uid for row in fetched.content] == [row.uid for row in fetched.rows]
    nothing = now(mailbox.fetch(ALL, replace(plan, changed_since=newest), newest))
    assert (nothing.rows, nothing.content) == ((), ())


def test_flags_alone_are_those_of_whole_rows(mailbox: Mailbox) -> None:
    """The same messages, flags, keywords and modification sequences; with CHANGEDSINCE what has changed."""
    since = max(row.modseq for row in now(mailbox.fetch(ALL, FetchPlan(), ModSeq(0))).rows)
    seen = Flags(SystemFlag.SEEN, ("$One", "two"))
    now(mailbox.store_flags(UidSet.of(ALL[1:3]), StoreMode.REPLACE, seen, None, since))
    for changed_since, count in ((None, COUNT), (ModSeq(0), COUNT), (since, 2), (ModSeq(since + 1), 0)):
        plan = FetchPlan(changed_since=changed_since)
        whole = now(mailbox.fetch(ALL, plan, since))
        alone = now(mailbox.fetch(ALL, replace(plan, flags_only=True), since))
        assert alone.flags == tuple(row[:3] for row in whole.rows)
        assert (len(alone.flags), alone.rows, alone.delta) == (count, (), whole.delta)


def test_nobody_who_wants_to_write_waits_for_content(mailbox: Mailbox) -> None:
    """Where a flag is set, content is read when the transaction is over."""
    plan = FetchPlan(sections=(WHOLE,), max_bytes=1 << 20, set_seen=True)
    fetched = now(mailbox.fetch(ALL[:2], plan, mailbox.opened.status.highest_modseq))
    assert fetched.rows
    assert not fetched.content
