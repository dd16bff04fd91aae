"""Which mailboxes LIST and LSUB name, and how (RFC 3501 section 6.3, RFC 5258, RFC 6154). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mailstore.model import HIERARCHY_DELIMITER, MailboxInfo, MailboxList
from protocols.imap.requests import List, ListReturn, ListSelection

_SIMPLE: dict[str, Callable[[str], bool]] = {
    "*": lambda name: True,
    "%": lambda name: HIERARCHY_DELIMITER not in name,
}
"""The patterns that nearly every client asks with."""


class Pattern:
    """A mailbox name with wildcards: ``*`` stands for anything, ``%`` for anything without delimiter.

    Matching simulates all possibilities at once in the bits of an integer: time is proportional to
    the name, whatever the pattern.
    """

    def __init__(self, text: str) -> None:
        self._literal: dict[str, int] = {}
        self._any = 0
        self._level = 0
        size = 0
        last = ""
        for char in text:
            # Neighbouring wildcards are worth one; that keeps the closure to a single step.
            if char in "*%" and last and last in "*%":
                if char == "*" and last == "%":
                    self._level &= ~(1 << (size - 1))
                    self._any |= 1 << (size - 1)
                    last = "*"
                continue
            bit = 1 << size
            if char == "*":
                self._any |= bit
            elif char == "%":
                self._level |= bit
            else:
                self._literal[char] = self._literal.get(char, 0) | bit
            size += 1
            last = char
        self._accept = 1 << size
        self._simple = _SIMPLE.get(text)

    def _close(self, states: int) -> int:
        return states | ((states & (self._any | self._level)) << 1)

    def matches(self, name: str) -> bool:
        """Whether all of ``name`` fits."""
        if self._simple is not None:
            return self._simple(name)
        states = self._close(1)
        for char in name:
            stay = self._any if char == HIERARCHY_DELIMITER else self._any | self._level
            states = self._close((states & stay) | ((states & self._literal.get(char, 0)) << 1))
            if not states:
                return False
        return bool(states & self._accept)


@dataclass(frozen=True, slots=True)
class Line:
    """One LIST or LSUB response; ``exists`` tells whether STATUS can follow (RFC 5819)."""

    name: str
    attributes: tuple[bytes, ...]
    child_info: bool = False
    exists: bool = True


def superiors(name: str) -> Iterable[str]:
    """All names above ``name``, the nearest last."""
    at = name.find(HIERARCHY_DELIMITER)
    while at >= 0:
        yield name[:at]
        at = name.find(HIERARCHY_DELIMITER, at + 1)


def attributes_of(info: MailboxInfo | None, subscribed: bool, show_subscribed: bool) -> tuple[bytes, ...]:
    """Attributes in a fixed order, of a mailbox or (None) of a name without one.

    CHILDREN and special-use are always shown: both RFCs allow it.
    """
    found: list[bytes] = []
    if info is None:
        found.append(b"\\NonExistent")
    else:
        found.append(b"\\HasChildren" if info.has_children else b"\\HasNoChildren")
    if subscribed and show_subscribed:
        found.append(b"\\Subscribed")
    if info is not None and info.special_use is not None:
        found.append(info.special_use.value.encode("ascii"))
    return tuple(found)


def _chosen(mailboxes: MailboxList, selection: frozenset[ListSelection]) -> dict[str, MailboxInfo | None]:
    """What the selection options choose, before patterns."""
    chosen: dict[str, MailboxInfo | None] = {info.name: info for info in mailboxes.mailboxes}
    if ListSelection.SUBSCRIBED in selection:
        chosen = {name: info for name, info in chosen.items() if info is not None and info.subscribed}
        chosen.update(dict.fromkeys(mailboxes.orphan_subscriptions))
    if ListSelection.SPECIAL_USE in selection:
        chosen = {name: info for name, info in chosen.items() if info is not None and info.special_use}
    return chosen


def list_lines(mailboxes: MailboxList, request: List) -> list[Line]:
    """The answer to LIST, sorted by name."""
    patterns = [Pattern(request.reference + pattern) for pattern in request.patterns]
    chosen = _chosen(mailboxes, request.selection)
    show_subscribed = (
        ListReturn.SUBSCRIBED in request.returned or ListSelection.SUBSCRIBED in request.selection
    )
    # CHILDINFO tells of inferiors that the selection chose (RFC 5258 sections 3.5 and 4).
    above: set[str] = set()
    if ListSelection.RECURSIVEMATCH in request.selection:
        above = {superior for name in chosen for superior in superiors(name)}
    existing = {info.name: info for info in mailboxes.mailboxes}
    lines: list[Line] = []
    for name in sorted({*chosen, *above}):
        if any(pattern.matches(name) for pattern in patterns):
            info = existing.get(name)
            subscribed = info.subscribed if info is not None else name in chosen
            attributes = attributes_of(info, subscribed, show_subscribed)
            lines.append(Line(name, attributes, name in above, info is not None))
    return lines


def lsub_lines(mailboxes: MailboxList, reference: str, pattern: str) -> list[Line]:
    """The answer to LSUB: ``%`` also names superiors of what it does not reach (section 6.3.9)."""
    compiled = Pattern(reference + pattern)
    subscribed: Sequence[str] = sorted(
        {*(info.name for info in mailboxes.mailboxes if info.subscribed), *mailboxes.orphan_subscriptions}
    )
    found: dict[str, tuple[bytes, ...]] = {}
    for name in subscribed:
        if compiled.matches(name):
            found[name] = ()
        elif pattern.endswith("%"):
            for superior in superiors(name):
                if compiled.matches(superior):
                    found.setdefault(superior, (b"\\Noselect",))
    return [Line(name, found[name]) for name in sorted(found)]
