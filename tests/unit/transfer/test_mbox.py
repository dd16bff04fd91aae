"""mbox: what is exported comes back byte for byte, and what others have written is read as they meant it."""

from __future__ import annotations

import mailbox
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_world import ALL_FLAGS, DIFFICULT, NONE, SEEN, TransferWorld

from mailstore.model import Flags, SystemFlag
from mailstore.transfer.mbox_format import from_line_date, parse, render
from mailstore.transfer.mbox_source import MboxSource
from mailstore.transfer.mbox_target import MboxTarget
from mailstore.transfer.source import Reason, SourceUnusable

MIB = 1024 * 1024


@given(
    st.lists(
        st.sampled_from([b"From ", b">", b"\n", b"\r\n", b"\r", b"a", b"Status: R", b"X-Sealbox: 3 lf\n"])
    )
)
def test_any_message_comes_back(parts: list[bytes]) -> None:
    """Whatever its line ends are, and however it looks like a part of the format."""
    data = b"".join(parts)
    written = render(data, ALL_FLAGS, 86_399)
    line, _, raw = written.partition(b"\n")
    assert from_line_date(line) == 86_399
    assert parse(raw) == (data, ALL_FLAGS, False)


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_of_others(raw: bytes) -> None:
    """Nothing in a file stops an import."""
    parse(raw)
    from_line_date(raw)


def test_pythons_mailbox_module_reads_the_same(world: TransferWorld, tmp_path: Path) -> None:
    """Messages, their order, and flags, which it knows by the same fields."""
    mail = [
        (b"Subject: %d\r\n\r\nText\r\n\r\nFrom here\r\n" % at, SEEN if at % 2 else NONE, at)
        for at in range(5)
    ]
    mail.append((b"Subject: 5\r\n\r\nx\r\n", Flags(SystemFlag.ANSWERED | SystemFlag.FLAGGED), 5))
    world.fill("ada", {"A": mail})
    world.take_out("ada", MboxTarget(tmp_path / "out"))
    with closing(mailbox.mbox(tmp_path / "out" / "A.mbox", create=False)) as box:
        found = list(box)
        assert [one["Subject"] for one in found] == [str(at) for at in range(6)]
        assert [one.get_payload() for one in found[:5]] == ["Text\n\n>From here\n"] * 5
        assert ["R" in one.get_flags() for one in found] == [False, True, False, True, False, False]
        assert found[5].get_flags() == "OFA" or set(found[5].get_flags()) == set("OFA")


OTHERS = b"""\
From ada@example.org Mon Jan  2 03:04:05 2023
Subject: first
Status: RO
X-Status: AF
X-Keywords: work $Label1

>From the start
>>From deeper
 >From not at the start

From nobody knows when
From bob@example.org Tue Jan  3 00:00:00 2023

From - Wed Jan  4 00:00:00 2023 +0100
X-Mozilla-Status: 0007
X-Mozilla-Status2: 00000000
X-Mozilla-Keys: tag%%
Subject: Thunderbird's

text

From%
X-Mozilla-Status: 0009
Subject: expunged

From%
Received: from x by y; Thu, 5 Jan 2023 00:00:00 +0000
Date: Fri, 6 Jan 2023 00:00:00 +0000
Subject: dated

last
""".replace(b"%", b" ")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_files_of_other_programs(world: TransferWorld, tmp_path: Path, line_end: bytes) -> None:
    """Flags in the fields that pine, mutt, Dovecot and Thunderbird note them in, which are taken out."""
    path = tmp_path / "Old mail.mbox"
    path.write_bytes(OTHERS.replace(b"\n", line_end))
    done = world.take_in("ada", MboxSource(path, MIB))
    assert (done.messages, done.deleted_in_source, done.unusable_count) == (3, 1, 0)
    day = 86_400
    start = 1_672_531_200
    assert world.contents("ada")["Old mail"] == [
        (
            b"Subject: first\r\n\r\nFrom the start\r\n>From deeper\r\n >From not at the start\r\n\r\n"
            b"From nobody knows when\r\nFrom bob@example.org Tue Jan  3 00:00:00 2023\r\n",
            Flags(SystemFlag.SEEN | SystemFlag.ANSWERED | SystemFlag.FLAGGED, ("$Label1", "work")),
            start + day + 3 * 3600 + 4 * 60 + 5,
        ),
        (
            b"Subject: Thunderbird's\r\n\r\ntext\r\n",
            Flags(SystemFlag.SEEN | SystemFlag.ANSWERED | SystemFlag.FLAGGED, ("tag",)),
            start + 3 * day,
        ),
        (
            b"Received: from x by y; Thu, 5 Jan 2023 00:00:00 +0000\r\n"
            b"Date: Fri, 6 Jan 2023 00:00:00 +0000\r\nSubject: dated\r\n\r\nlast\r\n",
            Flags(),
            start + 4 * day,
        ),
    ]


def test_unquoted_lines_beside_a_length_are_left_alone() -> None:
    """Where a program counts (Content-Length) instead of quoting, ``>From`` is what its author wrote."""
    counted = b"Content-Length: 9\n\nFrom x\n>From y\n\n"
    assert parse(counted)[0].endswith(b"\r\n\r\nFrom x\r\n>From y\r\n")
    quoted = b"Content-Length: 9\n\n>From y\n\n"
    assert parse(quoted)[0].endswith(b"\r\n\r\nFrom y\r\n")


def test_trees_of_files(world: TransferWorld, tmp_path: Path) -> None:
    """Thunderbird's and Apple's folders; other files, links and FIFOs are passed over."""
    root = tmp_path / "Mail"
    text = b"From - Mon Jan  2 03:04:05 2023\nSubject: x\n\nx\n\n"
    for name in ("Inbox", "Sent", "Work.sbd/2024", "Apple.mbox/mbox", "notes.txt", "Inbox.msf", ".x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(
            text if "." not in name.removesuffix("/mbox")[-4:] or "/" in name else b"no mail"
        )
    (root / "link").symlink_to(root / "Inbox")
    (root / "loop").symlink_to(root)
    world.take_in("ada", MboxSource(root, MIB))
    assert {name for name, mail in world.contents("ada").items() if mail} == {
        "INBOX",
        "Sent",
        "Work/2024",
        "Apple",
    }


def test_a_message_that_is_too_large_is_named(world: TransferWorld, tmp_path: Path) -> None:
    """It is not kept in memory, and its neighbours are imported; long lines hide no beginning."""
    path = tmp_path / "Big"
    small = b"From - Mon Jan  2 03:04:05 2023\nSubject: small\n\nx\n\n"
    large = (
        b"From - Mon Jan  2 03:04:05 2023\nSubject: large\n\n"
        + b"x" * (64 * 1024)
        + b"\nFrom y\n"
        + b"z" * 300_000
    )
    path.write_bytes(small + large + b"\n\n" + small)
    done = world.take_in("ada", MboxSource(path, 200_000))
    assert [(one.place, one.reason) for one in done.unusable] == [("'Big', message 2", Reason.TOO_LARGE)]
    assert [len(data) for data, _, _ in world.contents("ada")["Big"]] == [21, 21]
    assert world.progress.done == world.progress.expected == path.stat().st_size


def test_what_is_no_mbox_is_refused(world: TransferWorld, tmp_path: Path) -> None:
    """A file of something else, an empty one, an empty folder, nothing at all."""
    (tmp_path / "text").write_bytes(b"Subject: x\n\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("text", "empty", "folder", "nothing"):
        with pytest.raises(SourceUnusable):
            world.take_in("ada", MboxSource(tmp_path / name, MIB))


def test_difficult_messages_are_difficult() -> None:
    """So that the tests above have something to get wrong."""
    assert sum(render(data, NONE, 0).find(b" exact\n") > 0 for data in DIFFICULT) >= 4


def test_an_exported_message_that_somebody_has_changed_is_kept_whole() -> None:
    """Its size no longer agrees, so nothing is cut off."""
    written = render(b"Subject: x\r\n\r\ntext\r\n", ALL_FLAGS, 0).partition(b"\n")[2]
    longer = written.replace(b"text\n", b"text\nand a line more\n")
    assert parse(longer)[0].endswith(b"Subject: x\r\n\r\ntext\r\nand a line more\r\n")
    assert parse(longer)[1] == ALL_FLAGS


def test_a_line_in_a_text_begins_no_message(world: TransferWorld, tmp_path: Path) -> None:
    """Neither behind a very long line, nor with a date that a text has, if no header follows."""
    path = tmp_path / "Box"
    line = b"From ada Mon Jan  2 03:04:05 2023\n"
    text = line + b"Subject: one\n\n" + b"x" * (64 * 1024) + b"\n" + line + b"Subject: no header\n"
    path.write_bytes(text + b"\n" + line + b"she wrote this.\n\n" + line + b"Subject: two\n\n")
    assert world.take_in("ada", MboxSource(path, MIB)).messages == 2
    found = [data for data, _, _ in world.contents("ada")["Box"]]
    assert found[0].count(b"From ada") == 2
    assert found[1] == b"Subject: two\r\n"
