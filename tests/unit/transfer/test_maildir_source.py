"""Maildirs of Dovecot and others: flags, keywords, dates, order and names are taken over, links are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transfer_world import TransferWorld

from mailstore.model import Flags, SystemFlag
from mailstore.transfer.line_ends import to_crlf, to_lf
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.source import Reason, SourceUnusable

MIB = 1024 * 1024


def put(folder: Path, name: str, data: bytes, changed: int = 1_600_000_000) -> Path:
    """A message in a Maildir, which is made where it is missing."""
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / ("cur" if "2," in name else "new") / name
    path.write_bytes(data)
    os.utime(path, (changed, changed))
    return path


def test_flags_dates_and_keywords_are_taken_over(world: TransferWorld, tmp_path: Path) -> None:
    """Letters in names, Dovecot's keywords by their letter, the date from the file; LF becomes CRLF."""
    root = tmp_path / "Maildir"
    put(root, "1.a:2,FRSabz", b"Subject: x\n\nline\r\nend", 1_500_000_000)
    put(root, "2.b:2,DPT", b"", 0)
    put(root, "3.c", b"\n", 1_700_000_000)
    (root / "dovecot-keywords").write_bytes(b"0 $MDNSent\n1 work\n2 bad(one\n3\n44 far\n")
    done = world.take_in("ada", MaildirSource(root, MIB))
    assert (done.messages, done.unusable_count, done.mailboxes) == (3, 0, 1)
    assert world.contents("ada")["INBOX"] == [
        (
            b"Subject: x\r\n\r\nline\r\nend",
            Flags(SystemFlag.FLAGGED | SystemFlag.ANSWERED | SystemFlag.SEEN, ("$MDNSent", "work")),
            1_500_000_000,
        ),
        (b"", Flags(SystemFlag.DRAFT | SystemFlag.DELETED, ("$Forwarded",)), 0),
        (b"\r\n", Flags(), 1_700_000_000),
    ]
    assert world.progress.done == world.progress.expected > 0


def test_messages_come_in_the_order_of_their_uids(world: TransferWorld, tmp_path: Path) -> None:
    """As Dovecot has noted it; what it has not seen yet comes behind, by the time in its name."""
    root = tmp_path / "Maildir"
    for number, name in enumerate(("900.x", "1000.y", "30.z:2,S", "20.w:2,", "5.v:2,S")):
        put(root, name, b"%d" % number)
    (root / "dovecot-uidlist").write_bytes(b"3 V1 N9 Gabc\n7 :5.v:2,\n2 W10 S9 :20.w\nrubbish\n8 :gone\n")
    world.take_in("ada", MaildirSource(root, MIB))
    assert [data for data, _, _ in world.contents("ada")["INBOX"]] == [b"3", b"4", b"2", b"0", b"1"]


def test_folders_become_mailboxes(world: TransferWorld, tmp_path: Path) -> None:
    """Maildir++ and folders in folders; well-known names find the mailbox with that use."""
    root = tmp_path / "Maildir"
    for name in (
        "",
        ".Work.2024",
        ".Sent Items",
        ".Gr&APwA3w-e",
        "fs/deeper",
        ".INBOX.Spam",
        ".bad\nname",
        ".a&b",
    ):
        put(root / name, "1.m:2,S", name.replace("\n", "").encode())
    (root / "subscriptions").write_bytes(b"Work.2024\nGone\n")
    done = world.take_in("ada", MaildirSource(root, MIB))
    found = {name: mail[0][0].decode() for name, mail in world.contents("ada").items() if mail}
    assert found == {
        "INBOX": "",
        "Work/2024": ".Work.2024",
        "Sent": ".Sent Items",
        "Grüße": ".Gr&APwA3w-e",
        "fs/deeper": "fs/deeper",
        "Junk": ".INBOX.Spam",
        "bad_name": ".badname",
        "a&b": ".a&b",
    }
    assert done.mailboxes == 8
    assert "Work/2024" in world.subscriptions("ada")
    assert "fs/deeper" not in world.subscriptions("ada")


def test_nothing_but_ordinary_files_is_read(world: TransferWorld, tmp_path: Path) -> None:
    """A link, a FIFO, a socket's folder and a file that is too large are named, and the rest is imported."""
    root, secret = tmp_path / "Maildir", tmp_path / "secret"
    secret.write_bytes(b"of somebody else")
    put(root, "1.good:2,S", b"good")
    put(root, "2.large:2,S", b"x" * 101)
    (root / "cur" / "3.link:2,S").symlink_to(secret)
    os.mkfifo(root / "cur" / "4.fifo:2,S")
    (root / "cur" / "5.folder:2,S").mkdir()
    put(tmp_path / "elsewhere", "1.m:2,S", b"elsewhere")
    (root / ".Linked").symlink_to(tmp_path / "elsewhere")
    (root / ".Loop").symlink_to(root)
    done = world.take_in("ada", MaildirSource(root, 100))
    assert {(one.place, one.reason) for one in done.unusable} == {
        ("'cur/2.large:2,S'", Reason.TOO_LARGE),
        ("'cur/3.link:2,S'", Reason.NO_FILE),
        ("'cur/4.fifo:2,S'", Reason.NO_FILE),
    }
    assert done.unusable_count == 3
    assert {name: mail for name, mail in world.contents("ada").items() if mail} == {
        "INBOX": [(b"good", Flags(SystemFlag.SEEN), 1_600_000_000)]
    }


def test_an_import_that_is_repeated_adds_nothing(world: TransferWorld, tmp_path: Path) -> None:
    """Whatever has become of the flags; twins are counted, and what is new is fetched."""
    root = tmp_path / "Maildir"
    put(root, "1.a:2,", b"same")
    put(root, "2.b:2,S", b"same")
    put(root, "3.c:2,", b"same", 1_600_000_001)
    assert world.take_in("ada", MaildirSource(root, MIB)).messages == 3
    (root / "cur" / "1.a:2,").rename(root / "cur" / "1.a:2,FS")
    put(root, "4.d:2,S", b"same")
    done = world.take_in("ada", MaildirSource(root, MIB))
    assert (done.messages, done.already_there) == (1, 3)
    assert len(world.contents("ada")["INBOX"]) == 4


def test_a_message_that_is_renamed_meanwhile_is_not_missed(world: TransferWorld, tmp_path: Path) -> None:
    """A program that uses the Maildir sets flags in names, and moves from new to cur."""
    root = tmp_path / "Maildir"
    first, second = put(root, "1.a", b"first"), put(root, "2.b", b"second")

    class Renaming(MaildirSource):
        def messages(self, mailbox, there):
            for found in super().messages(mailbox, there):
                if second.exists():
                    second.rename(root / "cur" / "2.b:2,S")
                yield found

    assert first.exists()
    assert world.take_in("ada", Renaming(root, MIB)).messages == 2
    assert [flags for _, flags, _ in world.contents("ada")["INBOX"]] == [Flags(), Flags(SystemFlag.SEEN)]


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b""), lambda _: None]
)
def test_what_is_no_maildir_is_refused(world: TransferWorld, tmp_path: Path, make) -> None:
    """An empty folder, a file, and nothing at all."""
    make(tmp_path / "Maildir")
    with pytest.raises(SourceUnusable):
        world.take_in("ada", MaildirSource(tmp_path / "Maildir", MIB))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", b""),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\r\n"),
        (b"\r\r\n\r", b"\r\r\n\r"),
        (b"\n\n", b"\r\n\r\n"),
    ],
)
def test_lines_end_with_crlf(file: bytes, message: bytes) -> None:
    """Only a bare LF is changed; what LF cannot stand for is not written with it."""
    assert to_crlf(file) == message
    shorter = to_lf(message)
    assert shorter is None or to_crlf(shorter) == message
    assert to_lf(b"bare\nlf\r\n") is None
