"""Where the directory of a data root is: in a file of it, or in PostgreSQL if the configuration says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from mailstore.directory.embedded import embedded_directory, has_embedded_directory, rekeying_of_embedded
from mailstore.directory.interface import Directory
from mailstore.directory.sealing import CLUSTER_KEY_BYTES
from mailstore.durable import storage_errors, write_new
from mailstore.errors import DirectoryKeyWrong, DriverMissing
from mailstore.keys import ServerKeyLabel, derive
from mailstore.limits import DirectoryLimits
from mailstore.server_key import DirectoryUnderKey
from mailstore.server_rekeying import Rekeying

_KEY = re.compile(rb"[0-9a-f]{64}\n?")


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """A directory in PostgreSQL. Without ``key_file`` its key is derived from the server's own."""

    url: str = field(repr=False)
    key_file: Path | None = None
    limits: DirectoryLimits = field(default_factory=DirectoryLimits)

    def hosts(self) -> list[tuple[str, int]]:
        """Names and ports that the URL connects to; none for Unix sockets. Raises DriverMissing."""
        found: list[tuple[str, int]] = _postgresql().hosts_of(self.url)
        return found

    def cluster_key(self, server_key: bytes) -> bytes:
        """The key that seals the directory. Raises DirectoryKeyWrong: the file is missing or has none."""
        if self.key_file is None:
            return derive(server_key, ServerKeyLabel.DIRECTORY_CLUSTER, CLUSTER_KEY_BYTES)
        try:
            raw = self.key_file.read_bytes()
        except OSError:
            raise DirectoryKeyWrong from None
        if not _KEY.fullmatch(raw):
            raise DirectoryKeyWrong
        return bytes.fromhex(raw.decode("ascii"))


_places: dict[Path, PostgresPlace] = {}
"""Where the configuration has put the directories of data roots; all others are embedded."""


def put_directory(root: Path, place: PostgresPlace | None) -> None:
    """Say where the directory of a data root is from now on in this process; None: in the root itself."""
    if place is not None:
        _places[root.resolve()] = place
    elif _places:
        _places.pop(root.resolve(), None)


def directory_place(root: Path) -> PostgresPlace | None:
    """What :func:`put_directory` has said."""
    return _places.get(root.resolve()) if _places else None


def has_driver() -> bool:
    """Whether what speaks to PostgreSQL is installed."""
    try:
        _postgresql()
    except DriverMissing:
        return False
    return True


def _postgresql() -> ModuleType:
    # Not above: most servers have no need of it, and the driver need not be installed.
    try:
        from mailstore.directory import postgresql
    except ImportError:
        raise DriverMissing from None
    return postgresql


def directory_exists(root: Path) -> bool:
    """Whether the data root has a directory. Raises OSError; of one in PostgreSQL StoreError."""
    place = directory_place(root)
    if place is None:
        return has_embedded_directory(root)
    return bool(_postgresql().is_made_in(place.url, place.limits))


def is_under_servers_key(root: Path) -> bool:
    """Whether there is a directory that is lost without the server's key. Raises as ``directory_exists``."""
    place = directory_place(root)
    return (place is None or place.key_file is None) and directory_exists(root)


def has_stale_directory(root: Path) -> bool:
    """Whether a file of the root is a directory that is not in use. Raises OSError."""
    return directory_place(root) is not None and has_embedded_directory(root)


def make_directory(root: Path, server_key: bytes) -> None:
    """Create or migrate the directory of a data root. Raises as :func:`directory_of` does."""
    place = directory_place(root)
    if place is None:
        embedded_directory(root, server_key).close()
    else:
        _postgresql().make_in(place.url, place.cluster_key(server_key), place.limits)


def directory_of(root: Path, server_key: bytes) -> Directory:
    """Open the directory of a data root; in the root itself, create it where there is none.

    Raises DatabaseDamaged (also for another key), TooNew, StorageFailed, StorageFull, Busy. One in PostgreSQL
    is only asked for when it is first used, and raises what is wrong then.
    """
    place = directory_place(root)
    if place is None:
        return embedded_directory(root, server_key)
    found: Directory = _postgresql().PostgresDirectory(place.url, place.cluster_key(server_key), place.limits)
    return found


def lease_of_directory(root: Path, server_key: bytes, node: str, lease_s: float) -> Callable[[], int]:
    """What renews a node's lease in a directory in PostgreSQL for so many seconds; it blocks.

    Raises DirectoryKeyWrong; what is returned NoSuchNode, NodeIsLost, and as a directory does.
    """
    place = directory_place(root)
    assert place is not None, "a directory in the data root has no leases"
    cluster_key = place.cluster_key(server_key)
    found: Callable[[], int] = _postgresql().lease_in(place.url, cluster_key, place.limits, node, lease_s)
    return found


def rekeying_of_directory(root: Path, old: bytes, new: bytes) -> Rekeying | None:
    """How the directory gets from one server's key to another; None where it has a key of its own.

    Raises DirectoryUnderKey: it is in PostgreSQL, under a key that is derived from the server's.
    """
    place = directory_place(root)
    if place is None:
        return rekeying_of_embedded(root, old, new)
    if place.key_file is None:
        raise DirectoryUnderKey
    return None


def write_cluster_key(root: Path, server_key: bytes, path: Path) -> None:
    """Write the key that seals the directory into a new file, for ``key_file`` of every node.

    Raises DirectoryKeyWrong, StorageFailed: also if the file exists.
    """
    place = directory_place(root) or PostgresPlace("")
    with storage_errors():
        write_new(path, place.cluster_key(server_key).hex().encode("ascii") + b"\n")
