"""Names in a Maildir: flags after ``:2,``, Maildir++ folders, Dovecot's lists of UIDs and keywords. Pure."""

from __future__ import annotations

import re

from mailstore.model import Flags, SystemFlag
from mailstore.modified_utf7 import decode, encode
from mailstore.transfer.file_names import cut
from mailstore.transfer.keywords import usable_keywords

LETTERS = {
    "D": SystemFlag.DRAFT,
    "F": SystemFlag.FLAGGED,
    "R": SystemFlag.ANSWERED,
    "S": SystemFlag.SEEN,
    "T": SystemFlag.DELETED,
}
PASSED = "$Forwarded"
"""What the letter P says: the message was resent or forwarded."""

KEYWORDS_FILE = "dovecot-keywords"
MORE_KEYWORDS_FILE = "sealbox-keywords"
"""Lines of a file's base name and the keywords that have no letter in this folder."""

UIDS_FILE = "dovecot-uidlist"
SUBSCRIPTIONS_FILE = "subscriptions"
EXACT = ".sealbox-exact"
"""Ends the first half of the name of a file whose message is in it byte for byte; see ``line_ends``."""

_INFO = re.compile(r"[:;!]2,([^,]*)")
_LINE_OF_UIDS = re.compile(rb"(\d{1,10}) (?:[^:\n]* )?:([^\n]+)")
_TIME = re.compile(r"\d+")


def base_name(file_name: str) -> str:
    """The part of a file's name that stays when flags change."""
    return re.split(r"[:;!]2,", file_name, maxsplit=1)[0]


def flags_in(file_name: str, keywords: dict[str, str]) -> Flags:
    """The flags in a file's name; ``keywords`` are those of the folder by their letter."""
    found = _INFO.search(file_name)
    system, words = SystemFlag.NONE, []
    for letter in found[1] if found else "":
        system |= LETTERS.get(letter, SystemFlag.NONE)
        words += [PASSED] if letter == "P" else []
        words += [keywords[letter]] if letter in keywords else []
    return Flags(system, usable_keywords(words))


def keywords_by_letter(text: bytes) -> dict[str, str]:
    """What ``dovecot-keywords`` says: lines of a number and a keyword."""
    found = {}
    for line in text.splitlines():
        number, _, word = line.partition(b" ")
        if number.isdigit() and int(number) < 26:
            found[chr(ord("a") + int(number))] = word.decode("utf-8", "replace")
    return found


def more_keywords(text: bytes) -> dict[str, list[str]]:
    """What ``sealbox-keywords`` says: further keywords by the base name of the file."""
    lines = (line.split(" ") for line in text.decode("utf-8", "surrogateescape").split("\n"))
    return {name: words for name, *words in lines if words}


def letters_of(flags: SystemFlag) -> str:
    """The letters for system flags, in order, as they stand in a name."""
    return "".join(letter for letter, flag in LETTERS.items() if flags & flag)


def uids_by_base_name(text: bytes) -> dict[str, int]:
    """What ``dovecot-uidlist`` says (version 3): which file has which UID."""
    lines = text.split(b"\n")[1:] if text.startswith(b"3 ") else []
    found = {}
    for line in lines:
        matched = _LINE_OF_UIDS.fullmatch(line)
        if matched:
            found[base_name(matched[2].decode("utf-8", "surrogateescape"))] = int(matched[1])
    return found


def order_of(file_name: str, uids: dict[str, int]) -> tuple[int, int, str]:
    """What messages are sorted by: their UIDs where known, else the time that the name begins with."""
    uid = uids.get(base_name(file_name))
    if uid is not None:
        return 0, uid, ""
    time = _TIME.match(file_name)
    return 1, int(time[0]) if time else 0, file_name


def levels_of(folder_name: str) -> tuple[str, ...]:
    """The mailbox of a Maildir++ folder, such as ``.A.B``; names are modified UTF-7, or UTF-8."""
    return tuple(readable(level) for level in folder_name.split(".") if level)


def readable(level: str) -> str:
    """One level of a name as text."""
    raw = level.encode("utf-8", "surrogateescape")
    try:
        return decode(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def subscriptions_in(text: bytes) -> set[tuple[str, ...]]:
    """The names in Dovecot's file: levels divided by ``.``, from version 2 on by a tab."""
    lines = text.split(b"\n")
    delimiter = "." if lines[0] != b"V\t2" else "\t"
    names = lines if delimiter == "." else lines[1:]
    return {
        tuple(readable(level) for level in line.decode("utf-8", "surrogateescape").split(delimiter))
        for line in names
        if line
    }


def folder_name(levels: tuple[str, ...]) -> str:
    """The Maildir++ folder of a mailbox, a dot within a level written as ``%2E``.

    A name that is too long for a file is cut, and ends with a hash of all of it.
    """
    encoded = ("." + encode(level).decode("ascii").replace(".", "%2E") for level in levels)
    return cut("".join(encoded))
