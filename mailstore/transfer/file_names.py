"""Names of mailboxes as names of files: escaped where one could be misunderstood, and cut. Pure."""

from __future__ import annotations

import hashlib

from mailstore.model import HIERARCHY_DELIMITER, MailboxName

_NAME_MAX_BYTES = 180
"""Longest name of a file, with room for an ending; Linux has 255 bytes."""

_UNSAFE = frozenset('%/\\:*?"<>|')
_OUR_ENDINGS = (".eml", ".jsonl", ".json", ".partial")


def file_names(name: MailboxName) -> tuple[str, ...]:
    """The levels of a mailbox's name, each as the name of a file or folder."""
    return tuple(map(_escaped, name.split(HIERARCHY_DELIMITER)))


def cut(text: str) -> str:
    """A name that is no longer than a file's can be; a longer one ends with a hash of all of it."""
    if len(text.encode()) <= _NAME_MAX_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return text.encode()[: _NAME_MAX_BYTES - len(digest) - 1].decode("utf-8", "ignore") + "~" + digest


def _escaped(level: str) -> str:
    """A level with ``%XX`` for what could be misunderstood, a dot at its beginning or an ending of ours."""
    text = "".join(_escape(one) if one in _UNSAFE or not one.isprintable() else one for one in level)
    if text.startswith("."):
        text = "%2E" + text[1:]
    if text.lower().endswith(_OUR_ENDINGS):
        stem, _, ending = text.rpartition(".")
        text = f"{stem}%2E{ending}"
    return cut(text)


def _escape(char: str) -> str:
    return "".join(f"%{octet:02X}" for octet in char.encode())
