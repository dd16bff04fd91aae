"""The directory: which address belongs to which account. No mail, no secret of a user.

``interface`` is what the program asks; ``embedded`` keeps it in one SQLCipher file of the data root. Another
implementation comes beside it, and has to pass tests/unit/test_directory.py.
"""

from pathlib import Path

from mailstore.directory.embedded import embedded_directory, has_embedded_directory
from mailstore.directory.interface import NO_QUOTA, AccountRecord, Alias, Directory, Recipient

__all__ = [
    "NO_QUOTA",
    "AccountRecord",
    "Alias",
    "Directory",
    "Recipient",
    "directory_exists",
    "directory_of",
    "make_directory",
]


def directory_exists(root: Path) -> bool:
    """Whether the data root has a directory. Raises OSError."""
    return has_embedded_directory(root)


def make_directory(root: Path, server_key: bytes) -> None:
    """Create the directory of a data root where there is none. Raises as :func:`directory_of` does."""
    directory_of(root, server_key).close()


def directory_of(root: Path, server_key: bytes) -> Directory:
    """Open, or create, the directory of a data root.

    Raises DatabaseDamaged (also for another key), TooNew, StorageFailed, StorageFull, Busy.
    """
    return embedded_directory(root, server_key)
