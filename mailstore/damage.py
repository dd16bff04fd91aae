"""How the log tells of damaged files and full disks: the account's id and the file, and where to read on."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from mailstore.errors import StorageFull
from mailstore.room import volume_of
from mailstore.set_aside import SCRATCH

log = logging.getLogger("sealbox.damage")

GUIDE = "deploy/OPERATIONS.md"
ACCOUNT_SECTION = "An account is damaged"
FULL_SECTION = "The disk is full"
SERVER_SECTION = "The server's own files are damaged"
POSTGRESQL_SECTION = "The directory in PostgreSQL"
NODES_SECTION = "Several servers"
"""Headings of ``GUIDE``."""

TELL_AGAIN_S = 60.0
"""Seconds until the log repeats what anybody may cause."""

_tell_from_s: dict[str, float] = {}
_TOLD_MAX = 10_000
"""So many things are remembered to have been told."""


def named(path: Path) -> str:
    """``account ID: mail.db`` for a database in an account's folder, else ``backup/state.db``."""
    if _is_living(path):
        return f"account {path.parent.name}: {path.name}"
    copy = " (put together from snapshots)" if _is_copy(path) else ""
    return f"{path.parent.name}/{path.name}{copy}"


def read_on(path: Path) -> str:
    """Which section of the operator's guide is about this file."""
    section = ACCOUNT_SECTION if _is_living(path) or _is_copy(path) else SERVER_SECTION
    return f'see {GUIDE}, "{section}"'


def _is_living(path: Path) -> bool:
    return len(path.parents) > 2 and path.parents[2].name == "accounts"


def _is_copy(path: Path) -> bool:
    return SCRATCH.name in path.parts


def tell(account_id: str, what: str) -> None:
    """Log that a file of an account is damaged, and where to read on."""
    log.error('account %s: %s: see %s, "%s"', account_id, what, GUIDE, ACCOUNT_SECTION)


def tell_seldom(account_id: str, what: str) -> None:
    """As :func:`tell`, but each thing once in ``TELL_AGAIN_S``: for what any stranger may have looked at."""
    if is_news(f"{account_id} {what}"):
        tell(account_id, what)


def is_news(what: str) -> bool:
    """Whether something is to be told: not again within ``TELL_AGAIN_S``."""
    now_s = time.monotonic()
    if now_s < _tell_from_s.get(what, now_s):
        return False
    if len(_tell_from_s) >= _TOLD_MAX:
        _tell_from_s.clear()
    _tell_from_s[what] = now_s + TELL_AGAIN_S
    return True


def disk_full(whose: str, path: Path) -> None:
    """Log that the volume of ``path`` has no room for what ``whose`` needs, and where to read on."""
    log.error(
        '%s: the disk is full (%s): make room, see %s, "%s"', whose, volume_of(path), GUIDE, FULL_SECTION
    )


class DamagedDatabase:
    """Logs once that a database is damaged, or its disk full. Shared by all connections of one opening."""

    __slots__ = ("_or_else", "_told", "_told_full", "path")

    def __init__(self, path: Path, or_else: str = "", *, is_told: bool = False) -> None:
        """``or_else`` names what else may be the cause, for the log. ``is_told``: somebody else tells it."""
        self.path = path
        self._or_else = f", or {or_else}" if or_else else ""
        self._told = self._told_full = is_told

    def full(self) -> StorageFull:
        """Log, the first time, that there is no room; returns what to raise."""
        if not self._told_full:
            self._told_full = True
            disk_full(named(self.path), self.path)
        return StorageFull("the disk is full")

    def tell(self, code: int) -> None:
        """Log it, the first time. ``code`` is SQLite's."""
        if not self._told:
            self._told = True
            what = f"is damaged (code {code}){self._or_else}"
            log.error("%s %s: %s", named(self.path), what, read_on(self.path))
