"""One contract for every object store: a folder, and S3 as Cloudflare's own local R2 speaks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from stores_world import BUCKET, PART_BYTES, fresh_prefix, s3_store, written

from backup.errors import ObjectExists, ObjectMissing, StoreRefused, StoreUnavailable
from backup.store_file import FileStore
from backup.store_s3 import S3Credentials, S3Place, S3Store
from backup.stores import ObjectStore
from tests.r2_server import R2Server

pytestmark = pytest.mark.integration

WRITERS = 8
MANY = 1005
"""More objects than one answer of ListObjectsV2 holds."""


@pytest.fixture(params=["folder", "r2"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "folder":
        (tmp_path / "objects").mkdir()
        return FileStore(tmp_path / "objects")
    r2: R2Server = request.getfixturevalue("r2")
    return s3_store(r2.endpoint, fresh_prefix())


def whole(store: ObjectStore, name: str, step: int) -> bytes:
    """An object, read in ranges."""
    found = b""
    while piece := store.get(name, len(found), step):
        found += piece
    return found


def names(store: ObjectStore, prefix: str = "") -> list[str]:
    """What a listing names."""
    return [one.name for one in store.list(prefix)]


def race(works: list[Callable[[], None]]) -> list[BaseException | None]:
    """What comes of all of them at once."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [one.exception() for one in [pool.submit(work) for work in works]]


@pytest.mark.parametrize("size", [1, PART_BYTES, 2 * PART_BYTES + 5])
def test_an_object_is_what_was_put(store: ObjectStore, tmp_path: Path, size: int) -> None:
    """Whatever the size, in one piece or in parts; listed with its size, and created only once."""
    path, digest = written(tmp_path / "one", os.urandom(size))
    store.put("a/one", path, digest)
    assert whole(store, "a/one", 4 * 1024 * 1024) == path.read_bytes()
    assert [(one.name, one.size_bytes) for one in store.list()] == [("a/one", size)]
    other, other_digest = written(tmp_path / "other", os.urandom(size))
    with pytest.raises(ObjectExists):
        store.put("a/one", other, other_digest)
    with pytest.raises(ObjectExists):
        store.put("a/one", path, digest)
    assert whole(store, "a/one", 4 * 1024 * 1024) == path.read_bytes()


def test_of_racing_writers_one_wins(store: ObjectStore, tmp_path: Path) -> None:
    """All others hear that the object exists, and it is the winner's."""
    files = [written(tmp_path / str(number), os.urandom(3000)) for number in range(WRITERS)]
    for attempt in range(5):
        name = f"race/{attempt}"
        ends = race([partial(store.put, name, *file) for file in files])
        winners = [file for file, end in zip(files, ends, strict=True) if end is None]
        assert len(winners) == 1
        assert {type(end) for end in ends if end is not None} == {ObjectExists}
        assert store.get(name, 0, 4000) == winners[0][0].read_bytes()


def test_ranges(store: ObjectStore, tmp_path: Path) -> None:
    """Ranges are cut at the end of the object; beyond it and of no length they are empty."""
    data = os.urandom(1000)
    store.put("one", *written(tmp_path / "one", data))
    for offset, size in ((0, 1), (0, 1000), (999, 1), (400, 300), (990, 50), (0, 5000)):
        assert store.get("one", offset, size) == data[offset : offset + size]
    for offset, size in ((1000, 1), (1001, 10), (10**9, 10), (0, 0), (5, 0)):
        assert store.get("one", offset, size) == b""


def test_what_is_not_there(store: ObjectStore, tmp_path: Path) -> None:
    """A missing object has its own error, and deleting it none."""
    store.put("there/one", *written(tmp_path / "one", b"x"))
    for name in ("nothing", "there/nothing", "there/on"):
        with pytest.raises(ObjectMissing):
            store.get(name, 0, 10)
    store.delete(["nothing", "there/nothing"])
    store.delete([])
    assert names(store) == ["there/one"]
    store.delete(["there/one", "there/one"])
    assert names(store) == []
    with pytest.raises(ObjectMissing):
        store.get("there/one", 0, 1)
    store.put("there/one", *written(tmp_path / "two", b"y"))
    assert store.get("there/one", 0, 9) == b"y"


def test_prefixes(store: ObjectStore, tmp_path: Path) -> None:
    """A prefix is of the name, not of folders, and the listing is sorted."""
    file = written(tmp_path / "one", b"x")
    everything = ["a/00000001-5-full", "a/00000002-6-changes", "ab/00000001-5-full", "b/00000001-7-full"]
    for name in reversed(everything):
        store.put(name, *file)
    assert names(store) == everything
    for prefix in ("a", "a/", "ab", "a/00000002", "b/00000001-7-full", "c", "a/3"):
        assert names(store, prefix) == [name for name in everything if name.startswith(prefix)], prefix


def test_long_listings(store: ObjectStore, tmp_path: Path) -> None:
    """More objects than one answer of the S3 API holds are all listed, sorted."""
    file = written(tmp_path / "one", b"x")
    expected = [f"many/{number:08d}" for number in range(MANY)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: store.put(name, *file), expected))
    assert names(store) == expected
    assert names(store, "many/000010") == expected[1000:]


@pytest.mark.parametrize("size", [10, PART_BYTES + 10])
def test_a_file_that_is_not_what_it_should_be_is_not_stored(
    store: ObjectStore, tmp_path: Path, size: int
) -> None:
    """Its hash tells; nothing is left, and the right file can be stored under the same name."""
    path, digest = written(tmp_path / "one", os.urandom(size))
    with pytest.raises(StoreUnavailable):
        store.put("one", path, bytes(32))
    assert names(store) == []
    store.put("one", path, digest)
    assert names(store) == ["one"]


def test_prefixes_of_stores_are_apart(r2: R2Server, tmp_path: Path) -> None:
    """Two servers in one bucket do not see each other."""
    prefix = fresh_prefix()
    one, two = s3_store(r2.endpoint, f"{prefix}/a"), s3_store(r2.endpoint, f"{prefix}/b")
    one.put("x/1", *written(tmp_path / "one", b"one"))
    two.put("x/1", *written(tmp_path / "two", b"two"))
    assert one.get("x/1", 0, 9) == b"one" and two.get("x/1", 0, 9) == b"two"
    assert names(one) == names(two) == ["x/1"]
    one.delete(["x/1"])
    assert names(one) == [] and names(two) == ["x/1"]


@pytest.mark.parametrize("wrong", ["bucket", "key"])
def test_a_wrong_bucket_or_key_is_refused_at_once(r2: R2Server, tmp_path: Path, wrong: str) -> None:
    """Every method says so, with a text for people that holds no credentials."""
    place = S3Place("nobucket" if wrong == "bucket" else BUCKET, "", r2.endpoint)
    secret = "not-the-secret" if wrong == "key" else "test-secret-key"
    store = S3Store(place, S3Credentials("test-key-id", secret))
    file = written(tmp_path / "one", b"x")
    for work in (
        lambda: store.put("a", *file),
        lambda: store.get("a", 0, 1),
        lambda: list(store.list()),
        lambda: store.delete(["a"]),
    ):
        with pytest.raises(StoreRefused) as caught:
            work()
        assert secret not in repr(caught.value) and "test-key-id" not in repr(caught.value)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """An unmounted disk is away; nothing is written where it would have been."""
    store = FileStore(tmp_path / "disk", "prefix")
    with pytest.raises(StoreUnavailable):
        store.put("a", *written(tmp_path / "one", b"x"))
    with pytest.raises(StoreUnavailable):
        list(store.list())
    assert not (tmp_path / "disk").exists()


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    """A name is what snapshots are called, nothing else."""
    (tmp_path / "objects").mkdir()
    store = FileStore(tmp_path / "objects")
    for name in ("../a", "/a", "a/../b", "a//b", "", ".a", "a\0b"):
        with pytest.raises(StoreRefused):
            store.put(name, *written(tmp_path / "one", b"x"))
        with pytest.raises(StoreRefused):
            store.get(name, 0, 1)
    assert list((tmp_path / "objects").iterdir()) == []
