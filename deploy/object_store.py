"""The object store that a configuration names."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from backup.errors import OtherStore, StoreRefused
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


def is_encrypted_on_the_way(section: BackupSection) -> bool:
    """Whether what goes to the store leaves this machine by TLS, or not at all."""
    url = urlsplit(section.endpoint or "https:")
    return not section.store.startswith(_S3) or url.scheme == "https" or _is_here(url.hostname or "")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def answers_as(host: str, address: tuple[str, int], timeout_s: float = 10.0) -> bool:
    """Whether ``address`` proves by its certificate that it belongs to ``host``.

    A store has more addresses than name servers tell at a time.
    """
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection(address, timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except (OSError, ValueError):
        return False


def _bucket(store: str) -> str:
    """What credentials are for: a bucket, or the file system."""
    return _FILE if store.startswith(_FILE) else store.removeprefix(_S3).partition("/")[0]


def open_store_of(section: BackupSection, limits: BackupLimits, store: str) -> ObjectStore:
    """The store of another node, by its URL: another prefix of this one's bucket, or another folder.

    Raises:
        OtherStore: it is another bucket, for which this server has no credentials. As ``open_store``.
    """
    if _bucket(store) != _bucket(section.store):
        raise OtherStore("the other node's snapshots lie in another bucket")
    return open_store(section.model_copy(update={"store": store}), limits)


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
