"""A log that is begun anew while a snapshot reads it: at every moment it is noticed, and read again.

A checkpoint that a reader is in the way of copies all of the log and cannot cut it; the next writer then
begins it anew, without a lock that a snapshot would notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from raw_world import Living, add, disturbed_checkpoint, rows

from backup import image
from backup.drill import Drill
from backup.errors import ImageUnreadable
from backup.image import TRIES, Disturbed, Image
from backup.limits import BackupLimits
from backup.segment import PAGE_BYTES, Kind
from mailstore.wal import Read, WalContent, read_wal

MOST_PAGES = 100


@pytest.fixture
def living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    """An account with a snapshot up to some frame of its log."""
    monkeypatch.setattr("mailstore.engine.CHECKPOINT_PATIENCE_MS", 10)
    made = Living(tmp_path)
    made.take()
    add(made.database, 2, 100)
    made.take()
    yield made
    made.close()


def to_be_begun_anew(living: Living, number: int) -> Callable[[], None]:
    """A log with news in it; calling the result begins it anew."""
    add(living.database, 3, 20_000 + number)
    disturbed_checkpoint(living.database)
    return lambda: add(living.database, 4, 30_000 + number)


def begun_anew_after(reads: int, begin_anew: Callable[[], None]) -> Callable[[Read], WalContent | None]:
    """Stands in for ``read_wal``: the log is begun anew after so many reads, or behind the last one."""
    left = [reads]

    def disturbed(read: Read) -> WalContent | None:
        def counted(offset: int, size: int) -> bytes:
            if left and not left[0]:
                left.clear()
                begin_anew()
            if left:
                left[0] -= 1
            return read(offset, size)

        found = read_wal(counted)
        if left:
            left.clear()
            begin_anew()
        return found

    return disturbed


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_while_the_log_is_looked_through(living: Living, monkeypatch: pytest.MonkeyPatch, reads: int) -> None:
    """Before its header, between header and frames, and behind the last frame; none costs a full snapshot."""
    begin_anew = to_be_begun_anew(living, 0)
    before = rows(living.database)
    with monkeypatch.context() as patch:
        patch.setattr(image, "read_wal", begun_anew_after(reads, begin_anew))
        taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    # With the header of the one log and no frame of it, what is in the main file is the state.
    assert living.restored() == (before if reads == 1 else rows(living.database))
    taken = living.take()
    assert taken is None or taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)


def test_in_the_middle_of_a_long_log(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it is read when the other half is overwritten: it is read again, and not taken for another."""
    add(living.database, 3, 200 * PAGE_BYTES)
    living.take()
    disturbed_checkpoint(living.database)
    with monkeypatch.context() as patch:
        begin_anew = partial(add, living.database, 4, 250 * PAGE_BYTES)
        patch.setattr(image, "read_wal", begun_anew_after(2, begin_anew))
        taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)


def test_before_every_page_that_is_copied(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that were in the log are in the main file by then, and others are in their place."""
    pages = Image._pages
    for number in range(MOST_PAGES):
        begin_anew = to_be_begun_anew(living, number)
        left = [number]

        def disturbed(
            self: Image,
            first: int,
            count: int,
            *,
            in_log: bool,
            left: list[int] = left,
            begin_anew: Callable[[], None] = begin_anew,
        ) -> bytes:
            if left and not left[0]:
                left.clear()
                begin_anew()
            if left:
                left[0] -= 1
            return pages(self, first, count, in_log=in_log)

        monkeypatch.setattr(Image, "_pages", disturbed)
        taken = living.take()
        assert taken is not None and taken.name.kind is Kind.CHANGES
        assert living.restored() == rows(living.database)
        if left:
            assert number > 5
            return
    raise AssertionError("too many pages")


def test_a_log_that_is_begun_anew_every_time_is_given_up(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For now: nothing was recorded, and the next try is as good as the first."""
    pages, number = Image._pages, iter(range(MOST_PAGES))
    begin_anew = [to_be_begun_anew(living, next(number))]

    def disturbed(self: Image, first: int, count: int, *, in_log: bool) -> bytes:
        if begin_anew:
            begin_anew.pop()()
        return pages(self, first, count, in_log=in_log)

    def again(self: Image) -> None:
        try:
            check(self)
        finally:
            begin_anew.append(to_be_begun_anew(living, next(number)))

    check = Image.check
    with monkeypatch.context() as patch:
        patch.setattr(Image, "_pages", disturbed)
        patch.setattr(Image, "check", again)
        with pytest.raises(ImageUnreadable, match="kept restarting"):
            living.take()
    assert not list((living.place / "staging").iterdir())
    living.take()
    assert living.restored() == rows(living.database)


def drill_over(living: Living) -> Drill:
    """As a command makes it."""
    return Drill(living.place / "root", living.state, living.store, living.place / "scratch", BackupLimits())


def test_a_drill_takes_it_for_no_damage(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares pages of the log, too; what has been written over them says nothing about a restore."""
    begin_anew = [to_be_begun_anew(living, 0)]
    living.take()
    page = Image.page

    def disturbed(self: Image, number: int) -> bytes:
        if begin_anew:
            begin_anew.pop()()
        return page(self, number)

    drill = drill_over(living)
    (stream,) = living.state.streams()
    with monkeypatch.context() as patch:
        patch.setattr(Image, "page", disturbed)
        assert drill.run(stream, 1).trouble is None
    assert not begin_anew
    living.take()
    (stream,) = living.state.streams()
    drilled = drill.run(stream, 1)
    assert drilled.trouble is None and drilled.compared == drilled.pages > 0


@pytest.mark.parametrize(("times", "is_proven"), [(TRIES - 1, True), (TRIES, False)])
def test_a_drill_that_could_not_compare_proves_nothing(
    living: Living, monkeypatch: pytest.MonkeyPatch, times: int, is_proven: bool
) -> None:
    """It tries again, and says so where that was in vain."""
    living.take()
    page, left = Image.page, [True] * times

    def disturbed(self: Image, number: int) -> bytes:
        if left:
            left.pop()
            raise Disturbed
        return page(self, number)

    monkeypatch.setattr(Image, "page", disturbed)
    drill = drill_over(living)
    (stream,) = living.state.streams()
    drilled = drill.run(stream, 1)
    assert not left
    assert drilled.pages > 0 and drilled.compared == (drilled.pages if is_proven else 0)
    assert (drilled.trouble is None) == is_proven
    assert [one.proven_ms for one in living.state.streams()] == [1 if is_proven else None]
