"""The states of ``power`` are those that its model names: neither fewer nor more."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from file_operations import Record, Remove, Sync, Write
from power import cuts
from recorder import NotUnderstood, record
from steps import Begin, Say

from mailstore.durable import replace_file, shred, sync_folder, write_new

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

OLD, NEW = b"old" * 400, b"new" * 400
Content = dict[str, bytes | None]


@pytest.fixture
def root(place: Path) -> Path:
    """A folder with one file, OLD."""
    folder = place / "root"
    folder.mkdir()
    (folder / "file").write_bytes(OLD)
    return folder


def recorded(root: Path, function: Callable[[Say], None]) -> Record:
    """The record of a function that begins at once."""

    def work(say: Say, begin: Begin) -> None:
        begin()
        function(say)

    return record(root, work)[0]


def states(root: Path, function: Callable[[Say], None], said: bytes = b"") -> list[Content]:
    """What may be there after ``said``."""
    return [cut.state.contents() for cut in cuts(recorded(root, function)) if cut.said == said]


def test_a_write_may_be_lost_or_torn_until_it_is_synced(root: Path) -> None:
    """Nothing of it, some sectors, zeros; the whole of it for certain only after fsync and folder."""

    def write(say: Say) -> None:
        descriptor = os.open(root / "new", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, NEW)
        os.fsync(descriptor)
        say(b"written ")
        sync_folder(root)
        say(b"named")

    before = states(root, write)
    assert {"file": OLD} in before
    for content in (b"", NEW, bytes(len(NEW)), NEW[:512], NEW[:1024], bytes(512) + NEW[512:]):
        assert {"file": OLD, "new": content} in before
    # fsync of a file does not promise its name.
    assert {tuple(one) for one in states(root, lambda _say: None)} == {("file", "new")}


def test_synced_data_without_a_synced_name_may_be_gone(root: Path) -> None:
    """And with one it may not."""

    def write(say: Say) -> None:
        write_new(root / "new", NEW)
        say(b"1")
        sync_folder(root)
        say(b"2")

    made = recorded(root, write)
    found = {said: [cut.state.contents() for cut in cuts(made) if cut.said == said] for said in (b"1", b"12")}
    assert found[b"1"] == [{"file": OLD, "new": NEW}, {"file": OLD}]
    assert found[b"12"] == [{"file": OLD, "new": NEW}]


def test_a_file_that_is_replaced_is_the_old_or_the_new_one(root: Path) -> None:
    """Never empty; and the new one for certain when the function has returned."""
    made = recorded(root, lambda say: (replace_file(root / "file", NEW), say(b"done"))[0])
    assert {cut.state.contents()["file"] for cut in cuts(made)} == {OLD, NEW}
    assert {cut.state.contents()["file"] for cut in cuts(made) if cut.said} == {NEW}


def test_a_rename_before_the_data_is_an_empty_file(root: Path) -> None:
    """The mistake for which file systems have a workaround; none is counted on."""

    def careless(_say: Say) -> None:
        (root / "new").write_bytes(NEW)
        (root / "new").rename(root / "file")
        sync_folder(root)

    assert {"file": b""} in states(root, careless)


def test_operations_on_two_folders_have_no_order(root: Path) -> None:
    """The later one may be kept and the earlier one lost; within a folder too, one at a time."""

    def work(_say: Say) -> None:
        for name in ("a", "b"):
            (root / name).mkdir()
        sync_folder(root)
        (root / "a" / "1").touch()
        (root / "a" / "2").touch()
        (root / "b" / "3").touch()

    found = [{path for path in one if "/" in path} for one in states(root, work)]
    for names in ({"a/1", "a/2", "b/3"}, {"a/1", "a/2"}, {"b/3"}, {"a/2", "b/3"}, {"a/1"}, set()):
        assert names in found


def test_times_may_be_late_where_the_size_stays(root: Path) -> None:
    """fdatasync and lazytime keep the data and not its time; looked at for the one file whose time counts."""
    long_ago_ns = 10**18
    (root / "file").rename(root / "mail.db")
    os.utime(root / "mail.db", ns=(long_ago_ns, long_ago_ns))

    def overwrite(say: Say) -> None:
        descriptor = os.open(root / "mail.db", os.O_WRONLY)
        os.pwrite(descriptor, b"xx", 0)
        os.fsync(descriptor)
        say(b"done")

    made = recorded(root, overwrite)
    after = [cut.state for cut in cuts(made) if cut.said]
    assert {one.contents()["mail.db"] for one in after} == {b"xx" + OLD[2:]}
    (node,) = {one.files["mail.db"] for one in after}
    assert sorted(one.mtime_ns(node) == long_ago_ns for one in after) == [False, True]


def test_links_are_one_file_in_what_is_built(root: Path, place: Path) -> None:
    """As whoever counts the links of a file expects."""
    made = recorded(root, lambda _say: os.link(root / "file", root / "again"))
    whole = next(cut for cut in cuts(made))
    numbers = whole.state.build(place / "built")
    assert (place / "built" / "again").stat().st_nlink == 2
    assert numbers[(place / "built" / "file").stat().st_ino] == (root / "file").stat().st_ino


def test_what_is_not_understood_is_an_error(root: Path) -> None:
    """A record that leaves something out would prove nothing."""

    def copy(_say: Say) -> None:
        source = os.open(root / "file", os.O_RDONLY)
        os.sendfile(os.open(root / "copy", os.O_WRONLY | os.O_CREAT), source, 0, 10)

    with pytest.raises(NotUnderstood):
        recorded(root, copy)


def test_shredding_reaches_the_disk_before_the_name_goes(root: Path) -> None:
    """Overwritten for certain, then removed for certain: in no other order the old octets are surely gone."""
    made = recorded(root, lambda _say: shred(root / "file"))
    match made.operations:
        case [Write(node, 0, data), Sync(synced), Remove(folder, "file", removed), Sync(last)]:
            assert (node, folder) == (synced, last)
            assert removed == node
            assert len(data) == len(OLD)
        case _:
            pytest.fail(f"other operations: {[type(one).__name__ for one in made.operations]}")
