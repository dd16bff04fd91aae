"""Which node this server is, and whether an account may be opened here at all.

Servers that share a directory each have a name, and an account is on one of them. ``require_here`` is asked
before anything of an account is read, changed or delivered, so that no account is ever open at two of them.
A node that is cut off from the directory is stopped by its lease (``mailstore.lease``), one that comes back
with an old directory by the account's own folder, which remembers the generation it was opened under last.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from pathlib import Path

from mailstore.account import AccountPaths, account_paths
from mailstore.damage import TELL_AGAIN_S, tell_seldom
from mailstore.directory import AccountRecord, Recipient, may_serve, node_name
from mailstore.durable import replace_file, storage_errors
from mailstore.errors import OnAnotherNode, StorageFailed, StorageFull
from mailstore.lease import require_lease
from mailstore.move_mark import require_not_moving

log = logging.getLogger("sealbox.nodes")

_GENERATION = re.compile(rb"[0-9]{1,18}\n")
_tell_from_s: dict[str, float] = {}


def require_here(root: Path, record: AccountRecord | Recipient) -> None:
    """Raises OnAnotherNode, and tells the log; AccountMoving, LeaseOver; StorageFailed: the folder cannot
    tell. Blocks."""
    if not is_here(root, record):
        _tell(root, record)
        raise OnAnotherNode


def is_here(root: Path, record: AccountRecord | Recipient) -> bool:
    """Whether this server has the account, and may open it. Blocks.

    Raises AccountMoving, LeaseOver, StorageFailed.
    """
    if not _is_given(root, record):
        return False
    require_lease(root)
    if record.node is not None:
        require_not_moving(account_paths(root, record.account_id))
    return True


def _is_given(root: Path, record: AccountRecord | Recipient) -> bool:
    """Whether directory and folder agree that this server has the account. Raises StorageFailed."""
    paths = account_paths(root, record.account_id)
    if record.node != node_name(root):
        if record.node is not None:
            return False  # without a look into a folder that may not be there
        with storage_errors():
            if not paths.folder.is_dir():  # otherwise it has been here since before nodes had names
                return False
    return may_serve(record, record.node, None, last_generation(paths))


def may_be_here(root: Path, record: AccountRecord) -> bool:
    """Whether this server has the account, whether or not it has a lease now or the account is about to go.

    Also where the folder cannot tell: who looks into it next says what is wrong.
    """
    try:
        return _is_given(root, record)
    except StorageFailed:
        return True


def note_opened(root: Path, record: AccountRecord) -> None:
    """Remember in the account's folder under which generation it was opened. Raises StorageFailed."""
    paths = account_paths(root, record.account_id)
    if last_generation(paths) < record.node_generation:
        # Mail can be read even when the disk is full; the next login tries again.
        with suppress(StorageFull):
            note_generation(paths, record.node_generation)


def note_generation(paths: AccountPaths, generation: int) -> None:
    """Let the account's folder say so. Raises StorageFailed, StorageFull."""
    with storage_errors():
        replace_file(paths.node, b"%d\n" % generation)


def last_generation(paths: AccountPaths) -> int:
    """The generation under which the account was opened last, 0 if never. Raises StorageFailed."""
    with storage_errors():
        try:
            text = paths.node.read_bytes()
        except FileNotFoundError:
            return 0
    if not _GENERATION.fullmatch(text):
        tell_seldom(paths.folder.name, f"{paths.node.name} is damaged")
        raise StorageFailed
    return int(text)


def _tell(root: Path, record: AccountRecord | Recipient) -> None:
    """Once in a while for each account: anybody may ask for it."""
    now_s = time.monotonic()
    if now_s < _tell_from_s.get(record.account_id, now_s):
        return
    _tell_from_s[record.account_id] = now_s + TELL_AGAIN_S
    log.warning(
        "account %s is not opened here, node %s: the directory says node %s, generation %d",
        record.account_id,
        node_name(root) or "-",
        record.node or "-",
        record.node_generation,
    )
