"""Sources that somebody has made up: names, sizes and numbers that nobody would expect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_maildir_source import put
from transfer_world import NONE, TransferWorld

from deploy.cli.root import EXIT_BUSY, explain
from mailstore.engine import Database
from mailstore.errors import Busy, NoSuchAccount, NoSuchMailbox, OverQuota, StorageFull
from mailstore.limits import StoreLimits
from mailstore.locks import locked
from mailstore.model import Flags, MailboxName
from mailstore.ops import mailboxes
from mailstore.ops.messages import MAX_KEYWORDS
from mailstore.transfer import importing
from mailstore.transfer.eml_source import EmlSource
from mailstore.transfer.importing import IMPORT_LOCK, LATEST_DATE
from mailstore.transfer.keywords import MAX_KEYWORD_CHARS, MAX_KEYWORDS_OF_MESSAGE, usable_keywords
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.reading import NotUsable, open_ordinary, read_ordinary
from mailstore.transfer.source import Incoming, Reason, SourceMailbox

MIB = 1024 * 1024


class Made:
    """A source of as many messages as are asked for."""

    def __init__(self, count: int, size: int, mailboxes=(("INBOX",),), flags=NONE):
        self.count, self.size, self.names, self.flags = count, size, mailboxes, flags
        self.read = 0

    def mailboxes(self):
        """One, or those that are named."""
        return [SourceMailbox("/".join(levels), levels) for levels in self.names]

    def size_bytes(self, mailboxes):
        """All of them."""
        return self.count * self.size * len(mailboxes)

    def messages(self, mailbox, there):
        """Each with another date."""
        for at in range(self.count):
            self.read += 1
            yield Incoming(b"x" * self.size, self.flags, at, self.size, f"message {at}")


def test_memory_does_not_grow_with_the_source(world: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is held than one transaction writes, and that is bounded in messages and in bytes."""
    written: list[tuple[int, int]] = []
    read: list[int] = []
    whole = Database.write

    def write(database, now, function, *arguments, **more):
        if function is importing.add_imported:
            batch = arguments[1]
            written.append((len(batch), sum(one.prepared.size_bytes for one in batch)))
            read.append(source.read)
        return whole(database, now, function, *arguments, **more)

    monkeypatch.setattr(Database, "write", write)
    monkeypatch.setattr(importing, "BATCH_MESSAGES", 7)
    monkeypatch.setattr(importing, "BATCH_BYTES", 1_000)
    for size, most in ((1, 7), (300, 4), (5_000, 1)):
        source = Made(50, size)
        world.take_in("ada", source)
        assert max(count for count, _ in written) == most
        assert max(total for _, total in written) < 1_000 + size
        assert sum(count for count, _ in written) == 50
        # What has been read is written before more is read.
        assert [sum(count for count, _ in written[: at + 1]) for at in range(len(written))] == read
        written.clear()
        read.clear()


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        (("..", "..", "etc"), "../../etc"),
        (("a\nb",), "a_b"),
        (("a/b", "c"), "a_b/c"),
        (("inbox",), "INBOX"),
        (("\0",), "_"),
        (("\udcff",), "_"),
        (("", "a", ""), "a"),
    ],
)
def test_any_name_becomes_one_that_can_be(world: TransferWorld, levels: tuple[str, ...], name: str) -> None:
    """A name is only ever a value, never a path."""
    done = world.take_in("ada", Made(1, 1, (levels,)))
    assert done.unusable_count == 0
    assert len(world.contents("ada")[name]) == 1


@pytest.mark.parametrize("levels", [("x" * 1001,), ("a",) * 33, ("", "")])
def test_what_can_be_no_name_is_named(world: TransferWorld, levels: tuple[str, ...]) -> None:
    """And the other mailboxes are imported."""
    done = world.take_in("ada", Made(1, 1, (levels, ("Good",))))
    assert [one.reason for one in done.unusable] == [Reason.NAME]
    assert len(world.contents("ada")["Good"]) == 1


def test_a_thousand_folders(world: TransferWorld, tmp_path: Path) -> None:
    """Beside each other and in each other; deeper ones than a name can have are passed over."""
    for number in range(1_000):
        (tmp_path / "Maildir" / f".{number}" / "cur").mkdir(parents=True)
    deep = tmp_path / "Maildir"
    for _ in range(40):
        deep /= "d"
        (deep / "cur").mkdir(parents=True)
    done = world.take_in("ada", MaildirSource(tmp_path / "Maildir", MIB))
    assert 1_000 < done.mailboxes + done.unusable_count < 1_040
    assert "999" in world.contents("ada")


def test_more_mailboxes_than_an_account_can_have(world: TransferWorld) -> None:
    """Are named; the others are imported."""
    world.limits = StoreLimits(min_free_bytes=0, max_mailboxes=8)
    done = world.take_in("ada", Made(1, 1, (("A",), ("B",), ("C",), ("C", "D"), ("INBOX",))))
    assert [one.reason for one in done.unusable] == [Reason.TOO_MANY] * 2
    found = world.contents("ada")
    assert len(found["A"]) == len(found["B"]) == len(found["INBOX"]) == 1
    assert "C" not in found


def test_a_large_message(world: TransferWorld, tmp_path: Path) -> None:
    """Thirty megabytes go in and out; a byte more than the limit does not."""
    large = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * (30 * MIB // 16)
    put(tmp_path / "Maildir", "1.a:2,S", large)
    assert world.take_in("ada", MaildirSource(tmp_path / "Maildir", len(large) - 1)).unusable_count == 1
    assert world.take_in("ada", MaildirSource(tmp_path / "Maildir", len(large))).messages == 1
    assert world.contents("ada")["INBOX"][0][0] == large
    assert world.take_in("ada", MaildirSource(tmp_path / "Maildir", len(large))).messages == 0


def test_keywords_beyond_what_a_mailbox_can_have_are_left_out(world: TransferWorld) -> None:
    """The message is imported with those that fit, and they are counted."""
    many = [tuple(f"k{number}" for number in range(at, at + 100)) for at in (0, 100, 200)]

    class Words(Made):
        def messages(self, mailbox, there):
            for at, words in enumerate(many):
                yield Incoming(b"x", Flags(self.flags.system, words), at, 1, "")

    done = world.take_in("ada", Words(3, 1))
    assert (done.messages, done.keywords_left_out) == (3, 300 - MAX_KEYWORDS)
    assert [len(flags.keywords) for _, flags, _ in world.contents("ada")["INBOX"]] == [100, 100, 50]


def test_words_that_are_no_keywords() -> None:
    """What IMAP could not write, what is too long and what is too much is left out."""
    longest = "x" * MAX_KEYWORD_CHARS
    words = ["ok", "OK", "a b", "", "ü", "(", "]", "a*", "\\Seen", '"', "\0", longest, longest + "x", "$ok"]
    assert usable_keywords(words) == ("ok", longest, "$ok")
    assert len(usable_keywords(map(str, range(1_000)))) == MAX_KEYWORDS_OF_MESSAGE


def test_dates_of_another_time(world: TransferWorld, tmp_path: Path) -> None:
    """Before 1970 and after 9999, which IMAP cannot write."""
    for name, date in (("1.a:2,S", -1), ("2.b:2,S", 300_000_000_000)):
        path = put(tmp_path / "Maildir", name, name.encode())
        os.utime(path, (date, date))
    held = (tmp_path / "Maildir" / "cur" / "2.b:2,S").stat().st_mtime  # file systems have bounds of their own
    world.take_in("ada", MaildirSource(tmp_path / "Maildir", MIB))
    found = [date for _, _, date in world.contents("ada")["INBOX"]]
    assert found == [0, min(int(held), LATEST_DATE)]


def test_quota_fills_to_the_last_message_that_fits(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the import ends; with more room it goes on where it was."""
    monkeypatch.setattr(importing, "BATCH_MESSAGES", 4)
    world.add_account("eve", quota_bytes=60)
    with pytest.raises(OverQuota):
        world.take_in("eve", Made(10, 10))
    assert len(world.contents("eve")["INBOX"]) == 6
    world.limits = StoreLimits(min_free_bytes=0, max_messages=3)
    with pytest.raises(OverQuota):
        world.take_in("ada", Made(10, 10))
    assert len(world.contents("ada")["INBOX"]) == 3
    world.limits = StoreLimits(min_free_bytes=0, quota_bytes=40)
    with pytest.raises(OverQuota):
        world.take_in("bob", Made(10, 10))
    assert len(world.contents("bob")["INBOX"]) == 4


def test_a_full_disk_ends_an_import(world: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before mail takes the room that logins and deleting need; what was imported stays."""
    monkeypatch.setattr(importing, "BATCH_MESSAGES", 2)
    asked: list[tuple[int, int]] = []

    def margin(_folder: Path, margin_bytes: int, new_bytes: int) -> None:
        asked.append((margin_bytes, new_bytes))
        if len(asked) == 3:
            raise StorageFull

    monkeypatch.setattr(importing, "require_margin", margin)
    world.limits = StoreLimits(min_free_bytes=12_345)
    with pytest.raises(StorageFull):
        world.take_in("ada", Made(9, 10))
    assert asked == [(12_345, 20)] * 3
    assert len(world.contents("ada")["INBOX"]) == 4


def test_one_import_at_a_time(world: TransferWorld) -> None:
    """Two would each add what the other is adding."""
    with world.opened("ada") as account:
        lock = account.paths.folder / IMPORT_LOCK
    with locked(lock, exclusive=True), pytest.raises(Busy):
        world.take_in("ada", Made(1, 1))
    world.take_in("ada", Made(1, 1))
    world.take_in("ada", Made(1, 1))


def test_an_import_gives_way_to_a_restore_and_a_deletion(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two transactions."""
    monkeypatch.setattr(importing, "BATCH_MESSAGES", 2)
    paths = []

    class Leaving(Made):
        def messages(self, mailbox, there):
            for at, found in enumerate(super().messages(mailbox, there)):
                if at == 3:
                    self.event()
                yield found

    source = Leaving(10, 1)
    with world.opened("ada") as account:
        paths.append(account.paths)
    with locked(paths[0].leave, exclusive=True), pytest.raises(Busy):
        world.take_in("ada", source)
    paths[0].leave.unlink()
    source.event = lambda: paths[0].keys.rename(paths[0].folder / "away")
    with pytest.raises(NoSuchAccount):
        world.take_in("ada", source)
    (paths[0].folder / "away").rename(paths[0].keys)
    assert len(world.contents("ada")["INBOX"]) == 2


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    """A FIFO does not make anybody wait, a device is not read, a link is not followed."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "file").write_bytes(b"x" * 10)
    for path in (tmp_path / "fifo", tmp_path / "link", tmp_path, Path("/dev/zero"), tmp_path / "nothing"):
        with pytest.raises(NotUsable):
            open_ordinary(path)
    assert read_ordinary(tmp_path / "file", 10)[0] == b"x" * 10
    with pytest.raises(NotUsable) as told:
        read_ordinary(tmp_path / "file", 9)
    assert told.value.reason is Reason.TOO_LARGE


def test_files_of_others_programs(world: TransferWorld, tmp_path: Path) -> None:
    """Dates from the header, else from the file; a list that is no list says nothing."""
    root = tmp_path / "Saved mail"
    (root / "Inner").mkdir(parents=True)
    (root / "b.eml").write_bytes(b"Date: Thu, 1 Jan 1970 00:01:40 +0000\n\nx\n")
    (root / "a.EML").write_bytes(b"\xff")
    os.utime(root / "a.EML", (7, 7))
    (root / "Inner" / "c.eml").write_bytes(b"")
    (root / "Inner" / "notes.txt").write_bytes(b"no mail")
    (root / "messages.jsonl").write_bytes(
        b'{"file": 1}\n[]\n{"file": "b.eml", "internal_date": "x"}\n' + b"[" * 9_000
    )
    done = world.take_in("ada", EmlSource(root, MIB))
    assert (done.messages, done.unusable_count) == (3, 0)
    found = world.contents("ada")
    assert [(data, date) for data, _, date in found["Saved mail"]] == [
        (b"\xff", 7),
        (b"Date: Thu, 1 Jan 1970 00:01:40 +0000\r\n\r\nx\r\n", 100),
    ]
    assert len(found["Inner"]) == 1


def test_messages_are_told_apart_by_every_byte(world: TransferWorld, tmp_path: Path) -> None:
    """Equal sizes and dates make no message of another one: nothing of the only copy is left out."""
    for number in range(20):
        root = tmp_path / f"Maildir {number}"
        put(root, f"{number}.x:2,S", b"Subject: x\r\n\r\n%02d\r\n" % number)
        done = world.take_in("ada", MaildirSource(root, MIB))
        assert (done.messages, done.already_there) == (1, 0)
        done = world.take_in("ada", MaildirSource(root, MIB))
        assert (done.messages, done.already_there) == (0, 1)
    put(tmp_path / "Other", "1.x:2,S", b"Subject: x\r\n\r\n00\r\n", 1_600_000_001)
    assert world.take_in("ada", MaildirSource(tmp_path / "Other", MIB)).messages == 1
    assert len({data for data, _, _ in world.contents("ada")["INBOX"]}) == 20


def test_many_messages_of_one_size_and_date_cost_what_they_are(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read a few times, not once for each other one; and they are still told apart."""
    reads = [0]
    whole = Database.read

    def read(database, *arguments):
        reads[0] += 1
        return whole(database, *arguments)

    class Alike(Made):
        def messages(self, mailbox, there):
            for at in range(self.count):
                yield Incoming(
                    b"Subject: %06d\r\n\r\n%b" % (at + self.size, mailbox.levels[0].encode()), NONE, 7, 1, ""
                )

    def cost(name: str, count: int) -> int:
        world.take_in("ada", Alike(count, 0, ((name,),)))
        reads[0] = 0
        assert world.take_in("ada", Alike(count, count, ((name,),))).messages == count  # others
        assert world.take_in("ada", Alike(2 * count, 0, ((name,),))).already_there == 2 * count
        return reads[0]

    monkeypatch.setattr(Database, "read", read)
    assert cost("B", 400) < 5 * cost("A", 100)


def test_a_mailbox_that_is_deleted_meanwhile_ends_the_import(world: TransferWorld) -> None:
    """Its owner is logged in; run again, the import makes it anew."""

    class Deleted(Made):
        def messages(self, mailbox, there):
            with world.opened("ada") as account:
                account.database.write(0, lambda txn: mailboxes.delete(txn, MailboxName("A")))
            yield from super().messages(mailbox, there)

    with pytest.raises(NoSuchMailbox) as told:
        world.take_in("ada", Deleted(3, 1, (("A",),)))
    assert explain(told.value) == ("a mailbox was deleted meanwhile: run it again", EXIT_BUSY)
    assert world.take_in("ada", Made(3, 1, (("A",),))).messages == 3
