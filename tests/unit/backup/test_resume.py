"""An interrupted restore goes on where it was, and what it left is never taken for the whole."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from backup_world import BackupWorld, NewMessage, message, now

from backup import rebuild as rebuild_module
from backup import source as source_module
from backup import store_s3
from backup.catalogue import Head
from backup.errors import ChainBroken, SegmentDamaged, StoreUnavailable
from backup.rebuild import Rebuilder
from backup.restore import Restorer, Target
from backup.retention import chains
from backup.segment import Kind, SegmentName
from backup.source import GET_BYTES, Source
from backup.store_file import FileStore
from mailstore.durable import remove_tree
from mailstore.errors import StorageFailed
from mailstore.keys import AccountId


class Fading(FileStore):
    """Answers so many requests and is gone then."""

    left = 10**9

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[tuple[str, int]] = []

    def get(self, name: str, offset: int, size: int) -> bytes:
        """See ``ObjectStore``."""
        if self.left <= 0:
            raise StoreUnavailable("gone")
        self.left -= 1
        self.asked.append((name, offset))
        return super().get(name, offset, size)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[BackupWorld]:
    """An account with four stored segments."""
    made = BackupWorld(tmp_path)
    account = made.mail.login()
    for number in range(4):
        now(account.append("INBOX", [NewMessage(message(f"m{number}"))]))
        made.take()
    made.upload()
    account.release()
    yield made
    made.close()


def chain_of(world: BackupWorld) -> tuple[SegmentName, ...]:
    """All four."""
    (chain,) = chains(world.names())
    assert len(chain.segments) == 4
    return chain.segments


def test_segments_that_were_applied_are_not_fetched_again(world: BackupWorld, tmp_path: Path) -> None:
    """The store goes away at every possible moment; each time the next try ends with the right state."""
    chain = chain_of(world)
    whole = None
    for requests in range(9):
        store = Fading(tmp_path / "objects")
        folder, scratch = tmp_path / f"r{requests}", tmp_path / f"s{requests}"
        scratch.mkdir()
        rebuilder = Rebuilder(world.source(store), scratch, 1)
        store.left = requests
        try:
            rebuilt = rebuilder.rebuild(chain, folder)
        except StoreUnavailable:
            finished = len({name for name, offset in store.asked if offset})
            assert (folder / "restoring").exists() == bool(finished)
            store.left, store.asked = 10**9, []
            rebuilt = rebuilder.rebuild(chain, folder)
            # Two requests for each object: its octets, and that there are no more.
            again = {name for name, _ in store.asked}
            assert again.isdisjoint(str(name) for name in chain[: max(finished - 1, 0)])
        assert not (folder / "restoring").exists()
        content = rebuilt, (folder / "mail.db").read_bytes()
        whole = whole or content
        assert content == whole
        assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3"]


def test_what_was_applied_wholly_is_described_without_the_store(world: BackupWorld, tmp_path: Path) -> None:
    """The end came between the last segment and the removal of the note."""
    chain, folder = chain_of(world), tmp_path / "r"
    (tmp_path / "s").mkdir()
    store = Fading(tmp_path / "objects")
    rebuilder = Rebuilder(world.source(store), tmp_path / "s", 1)
    rebuilt = rebuilder.rebuild(chain, folder)
    rebuild_module._note_progress(folder, rebuilt)
    store.left = 0
    assert rebuilder.rebuild(chain, folder) == rebuilt


def test_what_was_rebuilt_of_another_state_is_begun_anew(world: BackupWorld, tmp_path: Path) -> None:
    """The note of an earlier try names a segment that is not in the chain: nothing of it counts."""
    chain = chain_of(world)
    (tmp_path / "s").mkdir()
    rebuilder = Rebuilder(world.source(), tmp_path / "s", 1)
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "restoring").write_text(f"{chain[0].stream}/00000009-1-full 00 account 7\n")
    assert rebuilder.rebuild(chain, folder).newest == chain[-1]
    assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3"]


@pytest.mark.parametrize("wanted", [2, 3, 4])
def test_half_of_a_segment_is_in_no_other_state(
    world: BackupWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int
) -> None:
    """Killed while the third was applied: the state before it is begun anew, those with it go on there."""
    chain = chain_of(world)
    (tmp_path / "s").mkdir()
    store = Fading(tmp_path / "objects")
    rebuilder, folder = Rebuilder(world.source(store), tmp_path / "s", 1), tmp_path / "r"
    applied = iter(range(4))
    truncate = os.ftruncate

    def killed(descriptor: int, size: int) -> None:
        if next(applied) == 2:
            raise KeyboardInterrupt
        truncate(descriptor, size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rebuild_module.os, "ftruncate", killed)
        rebuilder.rebuild(chain, folder)
    store.asked = []
    rebuilder.rebuild(chain[:wanted], folder)
    assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3"][:wanted]
    assert (str(chain[0]) in {name for name, _ in store.asked}) == (wanted == 2)


def test_the_note_goes_before_what_it_tells_of(
    world: BackupWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the work for one state is cleared for another: the first is not gone on with."""
    chain = chain_of(world)
    (tmp_path / "s").mkdir()
    rebuilder, folder = Rebuilder(world.source(), tmp_path / "s", 1), tmp_path / "r"
    rebuild_module._note_progress(folder, rebuilder.rebuild(chain[:2], folder))

    def killed(path: Path) -> None:
        remove_tree(path)
        raise KeyboardInterrupt

    listed = Path.iterdir
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rebuild_module, "remove_tree", killed)
        patch.setattr(Path, "iterdir", lambda folder: iter(sorted(listed(folder))))  # the note comes last
        rebuilder.rebuild(chain[:1], folder)
    assert {path.name for path in folder.iterdir()} == {"mail.db", "keys", "inbox"}
    rebuilder.rebuild(chain, folder)
    assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3"]


def test_a_download_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Octets that are there are hashed, not fetched, but for the last piece: a power cut may have torn it."""
    monkeypatch.setattr(source_module, "GET_BYTES", 100)
    (tmp_path / "objects").mkdir()
    name = SegmentName("ab" * 16, 1, 1, "full")  # type: ignore[arg-type]  # only its text counts
    path = tmp_path / "objects" / str(name)
    path.parent.mkdir()
    path.write_bytes(b"x" * 500)
    (tmp_path / "part").write_bytes(b"x" * 250 + bytes(50))
    store = Fading(tmp_path / "objects")
    source = Source(store, lambda _name: None, {name: 500})
    digest = source.fetch(name, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == path.read_bytes()
    assert [offset for _, offset in store.asked] == [200, 300, 400, 500]
    assert digest == source.fetch(name, tmp_path / "other")


def test_objects_of_one_number_cost_a_look_each(
    world: BackupWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many somebody adds, the good ones are looked at and fetched once, nothing else is fetched."""
    chain = chain_of(world)
    account = AccountId(world.mail.directory.accounts()[0].account_id)
    rubbish = [
        SegmentName(chain[0].stream, number, chain[-1].taken_ms + more, kind)
        for number, kind in ((1, Kind.FULL), (3, Kind.CHANGES))
        for more in range(50)
    ]
    behind_a_good_one = SegmentName(chain[0].stream, 2, chain[1].taken_ms - 1, Kind.CHANGES)
    for name in (*rubbish, behind_a_good_one):
        (tmp_path / "objects" / str(name)).write_bytes(bytes(2000))
    fetched: list[SegmentName] = []
    looked_at: list[SegmentName] = []

    def noted(names: list[SegmentName], method: Callable[..., Any]) -> Callable[..., Any]:
        def noting(self: Source, name: SegmentName, *more: Any) -> Any:
            names.append(name)
            return method(self, name, *more)

        return noting

    monkeypatch.setattr(Source, "fetch", noted(fetched, Source.fetch))
    monkeypatch.setattr(Source, "opened", noted(looked_at, Source.opened))
    restorer = Restorer(tmp_path, world.source(), tmp_path / "scratch", 2)
    wanted = Target(
        account, (*chain, *rubbish, behind_a_good_one), 1, Head(chain[3].stream, 4, b""), newest=True
    )
    folder, rebuilt = restorer.rebuild(wanted)
    assert fetched == list(chain)
    assert len(looked_at) == len(set(looked_at)) and chain[1] in looked_at
    assert len(rebuilt.passed_over) == len(rubbish)
    assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3"]


class Counting(FileStore):
    """Counts the octets that it hands out."""

    handed_out = 0

    def get(self, name: str, offset: int, size: int) -> bytes:
        """See ``ObjectStore``."""
        data = super().get(name, offset, size)
        self.handed_out += len(data)
        return data


@pytest.mark.parametrize("beyond", [1, 3 * GET_BYTES])
def test_a_grown_object_is_read_to_the_first_octet_too_many(
    world: BackupWorld, tmp_path: Path, beyond: int
) -> None:
    """The server remembers how long it was; nothing more of it gets onto the volume of the mail."""
    name = chain_of(world)[1]
    path = tmp_path / "objects" / str(name)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.truncate(size + beyond)
    store = Counting(tmp_path / "objects")
    with pytest.raises(SegmentDamaged, match="longer than it should be"):
        Source(store, lambda _name: world.private_key, {name: size}).fetch(name, tmp_path / "fetched")
    assert store.handed_out == size + 1
    assert (tmp_path / "fetched").stat().st_size <= size


def test_a_large_object_has_to_be_as_long_as_its_header_says(world: BackupWorld, tmp_path: Path) -> None:
    """Where nobody remembers how long it was, its beginning tells; the rest is not fetched."""
    name = chain_of(world)[1]
    path = tmp_path / "objects" / str(name)
    with path.open("ab") as file:
        file.truncate(5 * GET_BYTES)
    store = Counting(tmp_path / "objects")
    with pytest.raises(SegmentDamaged, match=str(name)):
        world.source(store).fetch(name, tmp_path / "fetched")
    assert store.handed_out < GET_BYTES / 8
    assert not (tmp_path / "fetched").exists()


def test_a_service_that_sends_everything_is_not_listened_to() -> None:
    """A range was asked for; its answer ends with the first octet too many."""
    body = io.BytesIO(bytes(10_000_000))
    with pytest.raises(StoreUnavailable, match="more than it was asked for"):
        store_s3._body({"Body": body}, 1000)
    assert body.closed
    assert store_s3._body({"Body": io.BytesIO(bytes(1000))}, 1000) == bytes(1000)


def test_a_segment_may_be_applied_twice(world: BackupWorld, tmp_path: Path) -> None:
    """The end came before it was noted: what it removes is gone already."""
    world.mail.deliver(message("waits"))
    before = world.take()
    account = world.mail.login()
    assert now(account.status("INBOX")).messages == 5
    account.release()
    after = world.take()
    world.upload()
    assert before is not None and after is not None
    (chain,) = chains(world.names())
    (tmp_path / "s").mkdir()
    rebuilder = Rebuilder(world.source(), tmp_path / "s", 1)
    folder = tmp_path / "r"
    noted = rebuilder.rebuild(chain.segments[:-1], folder)
    assert noted.newest == before.name and noted.waiting_mail == 1
    for _ in range(2):
        rebuild_module._note_progress(folder, noted, begun=after.name)
        rebuilt = rebuilder.rebuild(chain.segments, folder)
        assert rebuilt.newest == after.name and rebuilt.waiting_mail == 0
        assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3", b"waits"]


@pytest.mark.parametrize("left", [1, 2, 3])
def test_the_first_that_is_missing_is_named(world: BackupWorld, tmp_path: Path, left: int) -> None:
    """However little of the chain is there, a full segment alone included."""
    chain = chain_of(world)
    account = AccountId(world.mail.directory.accounts()[0].account_id)
    restorer = Restorer(tmp_path, world.source(), tmp_path / "scratch", 1)
    wanted = Target(account, chain[:left], 1, Head(chain[3].stream, 4, b""), newest=True)
    with pytest.raises(ChainBroken, match=f"/{left + 1:08d}: .* is missing"):
        restorer.rebuild(wanted)


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "fsync"])
def test_a_disk_that_fails_under_pages_is_named(
    world: BackupWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """As the store's own error, and the next try makes the whole of it."""
    chain = chain_of(world)

    def fails(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "")

    rebuilder = Rebuilder(world.source(), tmp_path / "s", 1)
    (tmp_path / "s").mkdir()
    with monkeypatch.context() as failing:
        failing.setattr(rebuild_module.os, call, fails)
        with pytest.raises(StorageFailed):
            rebuilder.rebuild(chain, tmp_path / "r")
    assert rebuilder.rebuild(chain, tmp_path / "r").newest == chain[-1]


def test_nothing_of_another_account_is_rebuilt(world: BackupWorld, tmp_path: Path) -> None:
    """Whoever can write to the store could put another account's segments under this one's name."""
    chain = chain_of(world)
    (tmp_path / "s").mkdir()
    rebuilder = Rebuilder(world.source(), tmp_path / "s", 1)
    owner = world.mail.directory.accounts()[0].account_id
    with pytest.raises(SegmentDamaged, match="another account"):
        rebuilder.rebuild(chain, tmp_path / "r", account="f" * 32)
    assert rebuilder.rebuild(chain, tmp_path / "r", account=owner).newest == chain[-1]


def test_changes_need_a_full_segment_before_them(world: BackupWorld, tmp_path: Path) -> None:
    """The first of those that are there is named, and nothing is fetched."""
    chain = chain_of(world)
    rebuilder = Rebuilder(world.source(), tmp_path / "s", 1)
    with pytest.raises(ChainBroken) as broken:
        rebuilder.rebuild(chain[1:], tmp_path / "r")
    assert broken.value.key == str(chain[1])
    with pytest.raises(ChainBroken):
        rebuilder.rebuild((), tmp_path / "r")


def test_damage_that_was_mended_is_fetched_anew(
    world: BackupWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad copy does not stay in the way of the next try, also where it would not be fetched to its end."""
    monkeypatch.setattr(source_module, "GET_BYTES", 1000)
    chain = chain_of(world)
    account = AccountId(world.mail.directory.accounts()[0].account_id)
    path = tmp_path / "objects" / str(chain[0])
    good = path.read_bytes()
    broken = bytearray(good)
    broken[-1500] ^= 1
    path.write_bytes(broken)
    restorer = Restorer(tmp_path, world.source(), tmp_path / "scratch", 1)
    wanted = Target(account, chain, len(good), Head(chain[3].stream, 4, b""), newest=True)
    with pytest.raises(SegmentDamaged, match=str(chain[0])):
        restorer.rebuild(wanted)
    path.write_bytes(good)
    folder, rebuilt = restorer.rebuild(wanted)
    assert rebuilt.newest == chain[3]
    assert world.subjects(folder) == [b"m0", b"m1", b"m2", b"m3"]
