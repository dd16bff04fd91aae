"""The search index proposes, the text confirms: answers are the same whatever becomes of the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from index_world import KEYS, Reading, fill, found, index, mail, scanned
from store_world import World, now

from mailstore import search
from mailstore.engine import Row, Txn, Value
from mailstore.index_progress import IndexProgress, IndexState, index_progress
from mailstore.limits import StoreLimits
from mailstore.model import (
    ModSeq,
    NewMessage,
    Progress,
    SortBy,
    SortKey,
    SystemFlag,
    ThreadAlgorithm,
)
from mailstore.ops import index_text, search_index, search_text
from mailstore.ops import search as search_ops
from mailstore.ops.search_index import MAX_ENDINGS
from mailstore.searching import MOST_YIELDS

CERTAIN = {"SUBJECT", "FROM", "one of two"}
"""What the index tells by itself."""


@pytest.mark.parametrize("name", KEYS)
def test_only_messages_that_the_index_proposes_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before there is an index all are read, with the same answer."""
    mailbox = fill(world.login())
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, KEYS[name]) == ([40], 60)
    index(world)
    assert reading.of(mailbox, KEYS[name]) == ([40], 0 if name in CERTAIN else 1)


OTHERS = [*range(1, 40), *range(41, 61)]


@pytest.mark.parametrize(
    ("key", "uids"),
    [
        (search.HeaderText("FROM", "Somebody"), list(range(1, 61))),
        (search.HeaderText("FROM", "w@"), OTHERS),
        (search.HeaderText("FROM", "subject"), []),
        (search.HeaderText("SUBJECT", ""), list(range(1, 61))),
        (search.HeaderText("CC", ""), []),
        (search.Not(search.HeaderText("SUBJECT", "okapi")), OTHERS),
        (search.Or(search.HeaderText("FROM", "tapir"), search.BodyText("giraffe")), [40]),
        (search.And((search.HeaderText("SUBJECT", "okapi"), search.BodyText("giraffe"))), []),
    ],
)
def test_no_message_is_read_for_what_is_kept_of_its_header(
    world: World, monkeypatch: pytest.MonkeyPatch, key: search.Key, uids: list[int]
) -> None:
    """However many messages hold it and however short it is, also among texts that the index rules out."""
    mailbox = fill(world.login())
    index(world)
    assert Reading(monkeypatch).of(mailbox, key) == (uids, 0)
    assert scanned(mailbox, key) == uids


@pytest.mark.parametrize("padding", [0, 600])
def test_addresses_are_kept_as_the_envelope_has_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padding: int
) -> None:
    """Comments and quotes do not divide what is searched for, in a short list and in a long one."""
    world = World(tmp_path / "root", StoreLimits(index_field_chars=3_000))
    account = world.login()
    names = [
        b"tapir (a comment)@ (another) example.org",
        b'"Gnu \\" Ox" <gnu@example.org>',
        b"(%b) y" % (b"x" * padding),
    ]
    now(account.append("Drafts", [mail(1), NewMessage(b"Cc: " + b", ".join(names) + b"\r\n\r\n")]))
    mailbox = now(account.select("Drafts", True))
    index(world)
    reading = Reading(monkeypatch)
    for text in ("tapir@example.org", 'gnu " ox <gnu@example.org>', "tapir (a comment)@"):
        assert reading.of(mailbox, search.HeaderText("CC", text)) == ([2], 0)
        assert scanned(mailbox, search.HeaderText("CC", text)) == [2]
    world.close()


def test_a_field_that_is_too_long_to_be_kept_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger may write a megabyte of addresses; where all of its trigrams occur the header decides."""
    world = World(tmp_path / "root", StoreLimits(index_field_chars=100))
    account = world.login()
    many = b", ".join(b"friend%d@example.org" % number for number in range(20))
    now(account.append("Drafts", [mail(1), NewMessage(b"To: " + many + b", gnu@example.org\r\n\r\n")]))
    mailbox = now(account.select("Drafts", True))
    index(world)
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, search.HeaderText("TO", "gnu@example")) == ([2], 1)
    assert reading.of(mailbox, search.HeaderText("TO", "zebra")) == ([], 0)
    assert reading.of(mailbox, search.HeaderText("TO", "gn")) == ([2], 1)
    assert reading.of(mailbox, search.HeaderText("FROM", "gnu@example")) == ([], 0)
    world.close()


def test_what_is_not_indexed_yet_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail that has just come is found at once."""
    account = world.login()
    mailbox = fill(account)
    index(world)
    now(account.append("Drafts", [mail(61, rare=True), mail(62)]))
    assert Reading(monkeypatch).of(mailbox, KEYS["BODY"]) == ([40, 61], 3)


def test_a_search_counts_the_messages_that_it_reads(world: World) -> None:
    """So that clients can be told how far it is."""
    account = world.login()
    mailbox = fill(account)
    key, order = KEYS["BODY"], [SortBy(SortKey.ARRIVAL)]
    for to_read in (60, 1, 3):
        for search_by in (
            lambda progress: mailbox.search(key, ModSeq(0), progress),
            lambda progress: mailbox.sort(key, order, ModSeq(0), progress),
            lambda progress: mailbox.threads(key, ThreadAlgorithm.REFS, ModSeq(0), progress),
        ):
            progress = Progress()
            now(search_by(progress))
            assert (progress.done, progress.goal) == (to_read, to_read)
        if to_read == 60:
            index(world)
        else:
            now(account.append("Drafts", [mail(61), mail(62)]))


def test_an_index_in_the_middle_of_its_making_is_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are small, and after each one it is what it says it is; the next process goes on with it."""
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=10))
    mailbox = fill(world.login())
    world.clock.advance(2.1)
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, KEYS["BODY"]) == ([40], 50)
    world.close()
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=10))
    mailbox = now(world.login().select("Drafts", True))
    world.clock.advance(2.1)
    assert reading.of(mailbox, KEYS["BODY"]) == ([40], 40)
    index(world)
    assert reading.of(mailbox, KEYS["BODY"]) == ([40], 1)
    world.close()


def test_how_far_an_index_has_come_can_be_told_without_its_key(tmp_path: Path) -> None:
    """By two counts while messages are left, and by what stands for them when all are in it."""
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=10))
    account = world.login()
    assert index_progress(world.paths) == IndexProgress(IndexState.NONE)
    fill(account)
    world.clock.advance(2.1)
    assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL, 10, 60)
    world.clock.advance(0.1)
    assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL, 20, 60)
    # What comes meanwhile is counted when what was there is in.
    now(account.append("Drafts", [mail(number) for number in range(25)]))
    world.close()
    assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL, 20, 60)
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=10))
    account = world.login()
    seen = set()
    for _ in range(100):
        world.clock.advance(0.1)
        seen.add(index_progress(world.paths))
    assert {IndexProgress(IndexState.PARTIAL, at, 85) for at in range(30, 85, 10)} < seen
    assert index_progress(world.paths) == IndexProgress(IndexState.COMPLETE)
    assert world.paths.search_progress.read_bytes() == b"000000000000 000000000000\n"
    now(account.append("Drafts", [mail(86)]))
    world.paths.search_progress.unlink()
    world.paths.search_progress.mkdir()  # it cannot be written: that concerns nobody
    index(world)
    world.paths.search_progress.rmdir()
    assert found(now(account.select("Drafts", True)), KEYS["BODY"]) == [40]
    world.paths.search_progress.write_bytes(b"1")
    assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL)
    world.close()


def test_messages_are_not_counted_with_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes longer the more there are, and so it would with their square."""
    counted: list[object] = []
    for name in ("count_after", "indexed_count"):
        original = getattr(search_index, name)
        monkeypatch.setattr(
            search_index, name, lambda *args, count=original: counted.append(count) or count(*args)
        )
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=2))
    fill(world.login())
    index(world)
    assert index_progress(world.paths).state is IndexState.COMPLETE
    assert len(counted) <= 4
    world.close()


def test_pace_of_indexing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins some time after a change, and pauses after each batch, which ends with so many characters."""
    limits = StoreLimits(index_delay_s=5.0, index_pause_s=7.0, index_batch_chars=150)
    world = World(tmp_path / "root", limits)
    mailbox = fill(world.login())
    reading = Reading(monkeypatch)
    left = 60
    for seconds, indexed in ((4.9, 0), (0.2, 2), (6.8, 0), (0.4, 2)):
        world.clock.advance(seconds)
        left -= indexed
        assert reading.of(mailbox, KEYS["BODY"]) == ([40], left)
    world.close()


def test_indexing_gives_way_to_whoever_writes_or_searches(world: World) -> None:
    """But not for ever: one who searches without pause would never get an index."""
    account = world.login()
    fill(account)
    account._opened._rest._databases.searching._writer_is_busy = lambda: True
    world.clock.advance(StoreLimits().index_delay_s)
    for _ in range(MOST_YIELDS):
        assert not world.paths.search_db.exists()
        world.clock.advance(StoreLimits().index_pause_s)
    assert world.paths.search_db.exists()


def test_short_texts_and_very_common_ones_are_read_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index of trigrams says nothing about one character, and little about what all messages have."""
    world = World(tmp_path / "root", StoreLimits(index_candidates=5))
    mailbox = fill(world.login())
    index(world)
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, search.BodyText("z")) == ([40], 60)
    assert reading.of(mailbox, search.BodyText("walks by")) == (list(range(1, 61)), 60)
    assert reading.of(mailbox, search.BodyText("zebra")) == ([40], 1)
    world.close()


def test_two_or_three_characters_of_a_body_are_found_without_reading_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many languages these are words; wherever two characters are, a trigram begins with them."""
    account = world.login()
    mailbox = fill(account)
    others = "Subject: 猫\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n日本 ab? q\0r"
    now(account.append("Drafts", [NewMessage(others.encode())]))
    index(world)
    reading = Reading(monkeypatch)
    for text in ("日本", "本 ", "本 a", "b?", "? q", "ze", "zeb", "bq"):
        expected = scanned(mailbox, search.BodyText(text))
        uids, read = reading.of(mailbox, search.BodyText(text))
        assert uids == expected and read <= (1 if "?" in text else 0)
    assert reading.of(mailbox, search.BodyText("q\0")) == ([61], 1)
    assert reading.of(mailbox, search.BodyText("q\1")) == ([], 1)
    # What is in another field than is asked for, and in the field as it is put together, is not enough.
    assert reading.of(mailbox, search.HeaderText("X-MARK", "ot"))[0] == []
    assert found(mailbox, search.AnyText("w@")) == scanned(mailbox, search.AnyText("w@"))


@pytest.mark.parametrize("few", [True, False])
def test_a_mailbox_is_not_gone_through_for_few_messages(
    world: World, monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    """Nor is it looked up message by message for many, which takes longer."""
    account = world.login()
    mailbox = fill(account)
    index(world)
    now(account.append("Drafts", [mail(61, rare=True)]))
    monkeypatch.setattr(search_ops, "FEW_OF", 60 if few else 62)
    plans: list[str] = []
    original = Txn.rows

    def explained(txn: Txn, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        if "p.uid, p.modseq" in sql:
            plans.extend(row[3] for row in original(txn, f"EXPLAIN QUERY PLAN {sql}", parameters))
        return original(txn, sql, parameters)

    monkeypatch.setattr(Txn, "rows", explained)
    assert found(mailbox, search.And((search.HasFlag(SystemFlag.SEEN), KEYS["SUBJECT"]))) == [40, 61]
    asked = [plan for plan in plans if plan.startswith(("SEARCH p ", "SCAN p "))]
    assert ("placed_by_message" in asked[0]) is few


def test_a_pair_with_many_endings_is_read_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger may write two characters in front of each of thousands, and make a query of them all."""
    account = world.login()
    text = "".join(f"xy{chr(0x4E00 + number)}" for number in range(MAX_ENDINGS + 1))
    data = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode()
    now(account.append("Drafts", [NewMessage(data), mail(2)]))
    mailbox = now(account.select("Drafts", True))
    index(world)
    assert Reading(monkeypatch).of(mailbox, search.BodyText("xy")) == ([1], 2)
    assert Reading(monkeypatch).of(mailbox, search.BodyText("y一")) == ([1], 0)


@pytest.mark.parametrize(
    "text", ["nul \0 within", 'a "quoted" word', "* OR NOT ^ form : x", "\ufffe\uffff end"]
)
def test_any_characters_can_be_looked_up(world: World, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """FTS5 has a language of its own, and leaves out NUL."""
    account = world.login()
    data = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode()
    now(account.append("Drafts", [mail(1), NewMessage(data), mail(3)]))
    mailbox = now(account.select("Drafts", True))
    index(world)
    assert Reading(monkeypatch).of(mailbox, search.BodyText(text)) == ([2], 1)


@pytest.mark.parametrize("texts", ["different", "equal"])
def test_a_search_for_many_texts_does_not_look_them_all_up(
    world: World, monkeypatch: pytest.MonkeyPatch, texts: str
) -> None:
    """Each goes through the whole index and into the statement, and one command may have a thousand."""
    mailbox = fill(world.login())
    index(world)
    asked: list[object] = []
    original = search_index.candidates
    monkeypatch.setattr(search_index, "candidates", lambda *args: asked.append(args) or original(*args))
    many: search.Key = search.BodyText("zebra")
    for number in range(20):
        text = "giraffe" if texts == "equal" else f"giraffe {number}"
        many = search.Or(search.HeaderText(f"X-{number}", text), many)
    assert found(mailbox, many) == [40] and not asked
    assert found(mailbox, KEYS["BODY"]) == [40] and asked


def test_of_many_texts_that_all_have_to_match_some_are_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten words that FUZZY looks for in header and body are more than are looked up, and rule out enough."""
    mailbox = fill(world.login())
    index(world)
    words = ["zebra", "walks", "by", "zebra", "walks", "by", "zebra", "walks", "by"]
    key = search.And(tuple(search.AnyText(word) for word in words))
    either = search.Or(search.HeaderText("SUBJECT", "giraffe"), key)
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, key) == ([40], 1)
    assert reading.of(mailbox, search.And((search.HasFlag(SystemFlag.SEEN), either))) == ([40], 1)
    assert len(search.needles(key, 16)) == len(search.needles(search.Not(key), 16)) == 16
    assert search.needles(search.Or(key, key), 16) == []
    assert search.needles(search.And((search.Or(key, key), *key.keys)), 3) == search.needles(key, 3)


@pytest.mark.parametrize("what", ["header", "body"])
def test_more_text_than_is_indexed_is_read_in_each_search(tmp_path: Path, what: str) -> None:
    """The end of a long text is found although the index has nothing of it."""
    world = World(tmp_path / "root", StoreLimits(index_message_chars=1000))
    account = world.login()
    long = b"x" * 2000
    text = (
        b"Subject: a\r\nX-Mark: "
        + (long if what == "header" else b"")
        + b" zebra\r\n\r\n"
        + long
        + b" zebra\r\n"
    )
    now(account.append("Drafts", [NewMessage(text), mail(2)]))
    mailbox = now(account.select("Drafts", True))
    index(world)
    key = search.HeaderText("X-MARK", "zebra") if what == "header" else KEYS["BODY"]
    assert found(mailbox, key) == [1]
    world.close()


def test_a_message_that_cannot_be_read_stops_no_indexing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever searches it is told; the others are found through the index."""
    account = world.login()
    mailbox = fill(account)
    original = index_text.body_forms

    def forms(reader: search_text.MessageReader) -> Iterator[str]:
        if reader.message_id == 7:
            raise ValueError
        return original(reader)

    monkeypatch.setattr(index_text, "body_forms", forms)
    index(world)
    assert Reading(monkeypatch).of(mailbox, KEYS["BODY"]) == ([40], 2)
