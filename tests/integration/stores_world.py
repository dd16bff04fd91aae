"""Object stores for tests: a folder, and a bucket of a real local R2 with a faulty proxy in front."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backup.store_s3 import S3Credentials, S3Place, S3Store
from tests import r2_server
from tests.fault_proxy import FaultProxy

PART_BYTES = 5 * 1024 * 1024
CREDENTIALS = S3Credentials(r2_server.ACCESS_KEY_ID, r2_server.SECRET_ACCESS_KEY)
BUCKET = r2_server.BUCKETS[0]
_numbers = itertools.count(1)


def fresh_prefix() -> str:
    """A prefix of the bucket that no other test uses."""
    return f"test{next(_numbers)}"


def s3_store(endpoint: str, prefix: str, *, attempts: int = 2, read_timeout_s: float = 60.0) -> S3Store:
    """A store below a prefix of the test bucket; parts are as small as S3 allows."""
    place = S3Place(
        BUCKET,
        prefix,
        endpoint,
        attempts=attempts,
        read_timeout_s=read_timeout_s,
        connections=16,
        part_bytes=PART_BYTES,
    )
    return S3Store(place, CREDENTIALS)


@contextmanager
def local_r2(folder: Path) -> Iterator[r2_server.R2Server]:
    """The S3 server while the block lasts; the test is skipped where it is not installed."""
    r2_server.require()
    server = r2_server.R2Server(folder)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def proxy_before(endpoint: str) -> Iterator[FaultProxy]:
    """A proxy in front of a store while the block lasts."""
    proxy = FaultProxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.stop()


def written(path: Path, data: bytes) -> tuple[Path, bytes]:
    """A file with ``data`` and its SHA-256."""
    path.write_bytes(data)
    return path, hashlib.sha256(data).digest()
