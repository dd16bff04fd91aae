"""A folder of ``.eml`` files, one for each message, and ``messages.jsonl`` with what is not in them. Pure.

Each line of ``messages.jsonl`` is a JSON object. The first has ``uid_validity``, every other is of a message:
``file``, ``uid``, ``internal_date`` (seconds since the epoch), ``flags`` as IMAP writes them, ``keywords``.
"""

from __future__ import annotations

import json
from typing import Any

from mailstore.model import Flags, SystemFlag
from mailstore.transfer.keywords import usable_keywords

SUFFIX = ".eml"
LIST = "messages.jsonl"

_SYSTEM_FLAGS = {
    "\\Seen": SystemFlag.SEEN,
    "\\Answered": SystemFlag.ANSWERED,
    "\\Flagged": SystemFlag.FLAGGED,
    "\\Deleted": SystemFlag.DELETED,
    "\\Draft": SystemFlag.DRAFT,
}


def file_name(uid: int) -> str:
    """The name of a message's file: they sort by UID."""
    return f"{uid:010d}{SUFFIX}"


def first_line(uid_validity: int) -> str:
    """The line that begins the list."""
    return json.dumps({"uid_validity": uid_validity})


def system_flags(flags: Flags) -> list[str]:
    """The system flags as IMAP writes them."""
    return [name for name, flag in _SYSTEM_FLAGS.items() if flags.system & flag]


def line_of(uid: int, internal_date: int, flags: Flags) -> str:
    """A message's line in the list."""
    facts = {"file": file_name(uid), "uid": uid, "internal_date": internal_date}
    return json.dumps({**facts, "flags": system_flags(flags), "keywords": list(flags.keywords)})


def parse_line(line: bytes) -> dict[str, Any]:
    """A line of the list; empty for one that is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def facts_in(line: dict[str, Any]) -> tuple[str, int, Flags] | None:
    """File, internal date and flags of a message by its line; None for a line that has them not."""
    name, date = line.get("file"), line.get("internal_date")
    flags, keywords = line.get("flags", []), line.get("keywords", [])
    if not (isinstance(name, str) and isinstance(date, int) and isinstance(flags, list)):
        return None
    system = SystemFlag.NONE
    for one in flags:
        system |= _SYSTEM_FLAGS.get(str(one), SystemFlag.NONE)
    words = map(str, keywords) if isinstance(keywords, list) else ()
    return name, date, Flags(system, usable_keywords(words))
