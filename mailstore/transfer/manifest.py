"""``sealbox-export.json``: what an export holds, so that it can be continued, updated and imported.

It is the only place where the names of mailboxes stand as they are: names of files are escaped and cut.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mailstore.durable import FOLDER_MODE, replace_file, sync_folder
from mailstore.model import HIERARCHY_DELIMITER, SpecialUse
from mailstore.transfer.reading import LARGEST_LIST_BYTES, NotUsable, read_ordinary
from mailstore.transfer.source import SourceMailbox
from mailstore.transfer.target import Leaving, TargetUnusable

MANIFEST = "sealbox-export.json"
VERSION = 1
_NAME_MAX_BYTES = 180
"""Longest name of a file, with room for an ending; Linux has 255 bytes."""

_UNSAFE = frozenset('%/\\:*?"<>|')


@dataclass(frozen=True, slots=True)
class Entry:
    """A mailbox in an export; ``path`` is its file or folder, from the manifest on."""

    path: str = field(repr=False)
    name: str = field(repr=False)
    special_use: str | None
    subscribed: bool
    uid_validity: int
    uid_next: int
    modseq: int
    messages: int

    def is_like(self, mailbox: Leaving) -> bool:
        """Whether nothing has changed in the mailbox since."""
        now = (mailbox.uid_validity, mailbox.uid_next, mailbox.modseq, mailbox.messages)
        return now == (self.uid_validity, self.uid_next, self.modseq, self.messages)


@dataclass(slots=True)
class Manifest:
    """What has been exported so far. ``subscriptions`` are all of the account's."""

    format: str
    account: str
    complete: bool = False
    mailboxes: dict[str, Entry] = field(default_factory=dict, repr=False)
    subscriptions: list[str] = field(default_factory=list, repr=False)

    def note(self, mailbox: Leaving, path: str) -> None:
        """A mailbox is there, whole, at ``path``."""
        use = None if mailbox.special_use is None else mailbox.special_use.value
        numbers = (mailbox.uid_validity, mailbox.uid_next, mailbox.modseq, mailbox.messages)
        self.mailboxes[mailbox.name] = Entry(path, mailbox.name, use, mailbox.subscribed, *numbers)

    def source_mailboxes(self, root: Path) -> list[SourceMailbox]:
        """What can be imported from this export: files and folders in it, and none elsewhere."""
        inside = root.resolve()
        return [
            SourceMailbox(
                os.fspath(root / one.path),
                tuple(one.name.split(HIERARCHY_DELIMITER)),
                SpecialUse(one.special_use) if one.special_use else None,
                one.subscribed is True,
            )
            for one in self.mailboxes.values()
            if (root / one.path).resolve().is_relative_to(inside)
        ]

    def write(self, root: Path) -> None:
        """Put it into the export's folder, in one step. Raises OSError."""
        tree = {
            "version": VERSION,
            "format": self.format,
            "account": self.account,
            "complete": self.complete,
            "subscriptions": self.subscriptions,
            "mailboxes": [asdict(one) for one in self.mailboxes.values()],
        }
        replace_file(root / MANIFEST, json.dumps(tree, indent=1, ensure_ascii=False).encode() + b"\n")


def read_manifest(root: Path) -> Manifest | None:
    """The manifest of an export; None where there is none that can be read."""
    try:
        tree = json.loads(read_ordinary(root / MANIFEST, LARGEST_LIST_BYTES)[0])
        return _manifest(tree) if tree["version"] == VERSION else None
    except (NotUsable, ValueError, KeyError, TypeError, RecursionError):
        return None


def _manifest(tree: dict[str, Any]) -> Manifest:
    entries = [Entry(**one) for one in tree["mailboxes"]]
    if not all(isinstance(one.path, str) and isinstance(one.name, str) for one in entries):
        raise TypeError
    for one in entries:
        SpecialUse(one.special_use) if one.special_use else None
    return Manifest(
        str(tree["format"]),
        str(tree["account"]),
        tree["complete"] is True,
        {one.name: one for one in entries},
        [str(one) for one in tree["subscriptions"]],
    )


def begin_manifest(root: Path, kind: str, account_id: str, update: bool) -> Manifest:
    """The manifest to go on with in ``root``, which is made where it is missing.

    Raises:
        TargetUnusable: there is something else, or a complete export and no ``update``. OSError.
    """
    root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    for left in root.glob(f".{MANIFEST}.*.tmp"):
        left.unlink()  # of an export that died
    found = read_manifest(root)
    if found is None:
        if list(root.iterdir()):
            raise TargetUnusable("the folder is not empty, and no export of this program: choose another one")
        found = Manifest(kind, account_id)
    elif (found.format, found.account) != (kind, account_id):
        raise TargetUnusable(
            "the folder has another account's export, or another format's: choose another one"
        )
    elif found.complete and not update:
        raise TargetUnusable(
            "that export is complete: choose another folder, or --update to bring it up to date"
        )
    found.complete = False
    found.write(root)
    sync_folder(root.parent)
    return found
