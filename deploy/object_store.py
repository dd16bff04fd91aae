"""The object store that a configuration names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from backup.errors import StoreRefused
from backup.limits import BackupLimits
from backup.store_file import FileStore
from backup.stores import ObjectStore
from deploy.config import BackupSection

_FILE, _S3 = "file://", "s3://"


def store_address(section: BackupSection) -> tuple[str, int] | None:
    """Host and port that snapshots are sent to; None where they go into a folder or nowhere."""
    if not section.store.startswith(_S3):
        return None
    url = urlsplit(section.endpoint or f"https://s3.{section.region}.amazonaws.com")
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)


def open_store(section: BackupSection, limits: BackupLimits) -> ObjectStore:
    """The store of a ``[backup]`` section that names one; it is not contacted yet.

    Raises:
        StoreRefused: there are no credentials. StorageFailed: their file cannot be read.
    """
    if section.store.startswith(_FILE):
        return FileStore(Path(section.store.removeprefix(_FILE)))
    # Imported late: what speaks S3 takes more memory than all else that takes snapshots.
    from backup.store_s3 import S3Place, S3Store, find_credentials

    bucket, _, prefix = section.store.removeprefix(_S3).partition("/")
    credentials = find_credentials(section.credentials)
    if credentials is None:
        raise StoreRefused("there are no credentials for the object store: see [backup] in example.toml")
    place = S3Place(
        bucket,
        prefix.strip("/"),
        section.endpoint,
        section.region,
        connections=limits.upload_threads * 2,
        part_bytes=limits.multipart_part_bytes,
    )
    return S3Store(place, credentials)
