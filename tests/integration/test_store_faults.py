"""A bucket that says no, answers late or not at all: every fault has one of two names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores_world import BUCKET, CREDENTIALS, PART_BYTES, fresh_prefix, proxy_before, s3_store, written

from backup.errors import ObjectExists, StoreRefused, StoreUnavailable
from backup.store_s3 import S3Place, S3Store
from tests.fault_proxy import FaultProxy
from tests.r2_server import R2Server

pytestmark = pytest.mark.integration

SECRETS = (CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key)


@pytest.fixture
def proxy(r2: R2Server) -> Iterator[FaultProxy]:
    """A proxy that is well at first."""
    with proxy_before(r2.endpoint) as made:
        yield made


def methods(store: S3Store, file: tuple[Path, bytes]) -> list[Callable[[], Any]]:
    """Each method of a store, to be called on a store with the object "there"."""
    return [
        lambda: store.put("new", *file),
        lambda: store.get("there", 0, 100),
        lambda: list(store.list()),
        lambda: store.delete(["there"]),
    ]


@pytest.fixture
def file(tmp_path: Path) -> tuple[Path, bytes]:
    """A small file and its hash."""
    return written(tmp_path / "file", os.urandom(2000))


BUSY = ("429", "500", "503", "429")
"""What the four methods meet; the waiting between attempts makes each costly in time."""


def test_a_busy_store_is_asked_again(proxy: FaultProxy, file: tuple[Path, bytes]) -> None:
    """One refusal for lack of time is not noticed by the caller, whatever the method."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    store.put("there", *file)
    for status, work in zip(BUSY, methods(store, file), strict=True):
        proxy.requests.clear()
        proxy.mood, proxy.fail_next = status, 1
        work()
        assert len(proxy.requests) == 2
    assert [one.name for one in store.list()] == ["new"]


def test_a_store_that_stays_busy_is_unavailable(proxy: FaultProxy, file: tuple[Path, bytes]) -> None:
    """After so many attempts the caller is told."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    for status, work in zip(BUSY, methods(store, file), strict=True):
        proxy.mood = status
        proxy.requests.clear()
        with pytest.raises(StoreUnavailable, match=status) as caught:
            work()
        assert len(proxy.requests) == 2
        assert not any(secret in repr(caught.value) for secret in SECRETS)


@pytest.mark.parametrize("status", ["400", "401", "403"])
def test_a_refusal_is_told_at_once(proxy: FaultProxy, file: tuple[Path, bytes], status: str) -> None:
    """Credentials and permissions do not get better by asking again; the text holds no secrets."""
    store = s3_store(proxy.endpoint, fresh_prefix(), attempts=5)
    proxy.mood = status
    for work in methods(store, file):
        proxy.requests.clear()
        with pytest.raises(StoreRefused, match=status) as caught:
            work()
        assert len(proxy.requests) == 1
        assert not any(secret in repr(caught.value) for secret in SECRETS)


def test_an_answer_cut_in_the_middle_is_asked_for_again(proxy: FaultProxy, file: tuple[Path, bytes]) -> None:
    """Once is not noticed; when it goes on the store is unavailable, and no half of an object is returned."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    store.put("there", *file)
    proxy.mood, proxy.fail_next = "cut", 1
    assert store.get("there", 0, 5000) == file[0].read_bytes()
    proxy.fail_next = None
    proxy.requests.clear()
    with pytest.raises(StoreUnavailable):
        store.get("there", 0, 5000)
    assert len(proxy.requests) == 2
    with pytest.raises(StoreUnavailable):
        list(store.list())


def test_a_put_whose_answer_is_lost_is_met_again(proxy: FaultProxy, file: tuple[Path, bytes]) -> None:
    """The second attempt finds the first one's object, which is entirely there."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    proxy.mood, proxy.fail_next = "deaf", 1
    with pytest.raises(ObjectExists):
        store.put("one", *file)
    assert store.get("one", 0, 5000) == file[0].read_bytes()


@pytest.mark.parametrize(("mood", "only"), [("deaf", "uploadId="), ("503", "uploads")])
def test_faults_between_parts(proxy: FaultProxy, tmp_path: Path, mood: str, only: str) -> None:
    """A part whose answer is lost, or that is refused once, is sent again; the object is what was put."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    path, digest = written(tmp_path / "large", os.urandom(2 * PART_BYTES + 5))
    proxy.mood, proxy.only, proxy.fail_next = mood, only, 1
    store.put("large", path, digest)
    assert b"".join(store.get("large", at, PART_BYTES) for at in range(0, 3 * PART_BYTES, PART_BYTES)) == (
        path.read_bytes()
    )


def test_the_last_answer_of_an_upload_in_parts_is_lost(proxy: FaultProxy, tmp_path: Path) -> None:
    """That is no refusal: it is tried again, and then the object is met."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    path, digest = written(tmp_path / "large", os.urandom(PART_BYTES + 5))
    proxy.mood, proxy.only, proxy.fail_next = "deaf", "POST .*uploadId=", 1
    with pytest.raises((ObjectExists, StoreUnavailable)):
        store.put("large", path, digest)
    with pytest.raises(ObjectExists):
        store.put("large", path, digest)
    assert store.get("large", PART_BYTES, 10) == path.read_bytes()[-5:]


@pytest.mark.parametrize("reason", ["parts refused", "wrong hash"])
def test_a_failed_upload_in_parts_is_taken_back(proxy: FaultProxy, tmp_path: Path, reason: str) -> None:
    """The store is told to forget the parts, and no object is there."""
    store = s3_store(proxy.endpoint, fresh_prefix())
    path, digest = written(tmp_path / "large", os.urandom(PART_BYTES + 5))
    if reason == "parts refused":
        proxy.mood, proxy.only = "403", "partNumber="
    with pytest.raises(StoreRefused if reason == "parts refused" else StoreUnavailable):
        store.put("large", path, digest if reason == "parts refused" else bytes(32))
    (last,) = [path for method, path in proxy.requests if method == "DELETE"]
    upload = last.partition("uploadId=")[2]
    assert upload and list(store.list()) == []
    proxy.mood = "well"
    where = {"Bucket": BUCKET, "Key": f"{store._prefix}large", "UploadId": upload}
    with pytest.raises(store._client.exceptions.ClientError):
        store._client.upload_part(**where, PartNumber=1, Body=b"x")


def test_slow_answers_arrive(proxy: FaultProxy, file: tuple[Path, bytes]) -> None:
    """The time limit is for each pause, not for the whole of an answer."""
    store = s3_store(proxy.endpoint, fresh_prefix(), read_timeout_s=0.5)
    store.put("there", *file)
    proxy.mood = "slow"
    began = time.monotonic()
    assert store.get("there", 0, 5000) == file[0].read_bytes()
    assert time.monotonic() - began > 0.5


def test_a_store_that_never_answers_is_unavailable(proxy: FaultProxy, file: tuple[Path, bytes]) -> None:
    """Nobody waits for ever."""
    store = s3_store(proxy.endpoint, fresh_prefix(), attempts=1, read_timeout_s=0.2)
    proxy.mood = "mute"
    for work in methods(store, file):
        with pytest.raises(StoreUnavailable):
            work()


def test_nobody_listens(file: tuple[Path, bytes]) -> None:
    """A closed port, and a name that is none, are an unavailable store."""
    for endpoint in ("http://127.0.0.1:1", "http://nowhere.invalid"):
        store = S3Store(S3Place(BUCKET, "", endpoint, attempts=1, connect_timeout_s=1.0), CREDENTIALS)
        for work in methods(store, file):
            with pytest.raises(StoreUnavailable) as caught:
                work()
            assert not any(secret in repr(caught.value) for secret in SECRETS)
