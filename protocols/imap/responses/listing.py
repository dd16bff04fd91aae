"""Which mailboxes LIST and LSUB name, and how (RFC 3501 section 6.3, RFC 5258, RFC 6154). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailstore.model import HIERARCHY_DELIMITER, MailboxInfo, MailboxList, MailboxName
from protocols.imap.grammar.mailbox import List, ListReturn, ListSelection, has_wildcard

_WILDCARDS = "*%"


class Patterns:
    """Mailbox names with wildcards: ``*`` stands for anything, ``%`` for anything without delimiter.

    Matching simulates all possibilities of all patterns at once in the bits of one integer: time is
    proportional to the name, and hardly more for many patterns than for one.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        chosen = set(texts)
        # What nearly every client asks with.
        self._everything, self._top = "*" in chosen, "%" in chosen
        self._names = {text for text in chosen if not has_wildcard(text)}
        self._literal: dict[str, int] = {}
        self._any = self._level = self._accept = 0
        first = size = 0
        for text in chosen - self._names - {"*", "%"}:
            first |= 1 << size
            size = self._lay_out(text, size)
        self._first = self._close(first)

    def _lay_out(self, text: str, size: int) -> int:
        """Give every place in a pattern its bit, from ``size`` on; the first bit behind it."""
        last = ""
        for char in text:
            # Neighbouring wildcards are worth one; that keeps the closure to a single step.
            if char in _WILDCARDS and last and last in _WILDCARDS:
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
        self._accept |= 1 << size
        return size + 1

    def _close(self, states: int) -> int:
        return states | ((states & (self._any | self._level)) << 1)

    def match(self, name: str) -> bool:
        """Whether all of ``name`` fits one of them."""
        if self._everything or name in self._names:
            return True
        if self._top and HIERARCHY_DELIMITER not in name:
            return True
        states = self._first
        for char in name:
            if not states:
                return False
            stay = self._any if char == HIERARCHY_DELIMITER else self._any | self._level
            states = self._close((states & stay) | ((states & self._literal.get(char, 0)) << 1))
        return bool(states & self._accept)


@dataclass(frozen=True, slots=True)
class Line:
    """One LIST or LSUB response; ``exists`` tells whether STATUS can follow (RFC 5819)."""

    name: MailboxName
    attributes: tuple[bytes, ...]
    child_info: bool = False
    exists: bool = True


def superiors(name: str) -> Iterable[MailboxName]:
    """All names above ``name``, the nearest last."""
    at = name.find(HIERARCHY_DELIMITER)
    while at >= 0:
        yield MailboxName(name[:at])
        at = name.find(HIERARCHY_DELIMITER, at + 1)


def attributes_of(info: MailboxInfo | None, subscribed: bool, show_subscribed: bool) -> tuple[bytes, ...]:
    """Attributes in a fixed order, of a mailbox or (None) of a name without one.

    CHILDREN and special-use are always shown: both RFCs allow it.
    """
    attributes: list[bytes] = []
    if info is None:
        attributes.append(b"\\NonExistent")
    else:
        attributes.append(b"\\HasChildren" if info.has_children else b"\\HasNoChildren")
    if subscribed and show_subscribed:
        attributes.append(b"\\Subscribed")
    if info is not None and info.special_use is not None:
        attributes.append(info.special_use.value.encode("ascii"))
    return tuple(attributes)


def _chosen(
    mailboxes: MailboxList, selection: frozenset[ListSelection]
) -> dict[MailboxName, MailboxInfo | None]:
    """What the selection options choose, before patterns."""
    chosen: dict[MailboxName, MailboxInfo | None] = {info.name: info for info in mailboxes.mailboxes}
    if ListSelection.SUBSCRIBED in selection:
        chosen = {name: info for name, info in chosen.items() if info is not None and info.subscribed}
        chosen.update(dict.fromkeys(mailboxes.orphan_subscriptions))
    if ListSelection.SPECIAL_USE in selection:
        chosen = {name: info for name, info in chosen.items() if info is not None and info.special_use}
    return chosen


def list_lines(mailboxes: MailboxList, request: List) -> Iterator[Line | None]:
    """The answer to LIST, sorted by name; None now and then, so that the caller may yield."""
    patterns = Patterns(request.reference + pattern for pattern in request.patterns)
    chosen = _chosen(mailboxes, request.selection)
    show_subscribed = (
        ListReturn.SUBSCRIBED in request.returned or ListSelection.SUBSCRIBED in request.selection
    )
    # CHILDINFO tells of inferiors that the selection chose (RFC 5258 sections 3.5 and 4).
    above: set[MailboxName] = set()
    if ListSelection.RECURSIVEMATCH in request.selection:
        for name in chosen:
            above.update(superiors(name))
            yield None
    existing = {info.name: info for info in mailboxes.mailboxes}
    for name in sorted({*chosen, *above}):
        if not patterns.match(name):
            yield None
            continue
        info = existing.get(name)
        subscribed = info.subscribed if info is not None else name in chosen
        attributes = attributes_of(info, subscribed, show_subscribed)
        yield Line(name, attributes, name in above, info is not None)


def lsub_lines(mailboxes: MailboxList, reference: str, pattern: str) -> Iterator[Line | None]:
    """The answer to LSUB, with None as in ``list_lines``.

    ``%`` also names superiors of what it does not reach (section 6.3.9).
    """
    compiled = Patterns([reference + pattern])
    subscribed: Sequence[MailboxName] = sorted(
        {*(info.name for info in mailboxes.mailboxes if info.subscribed), *mailboxes.orphan_subscriptions}
    )
    found: dict[MailboxName, tuple[bytes, ...]] = {}
    above: set[MailboxName] = set()
    for name in subscribed:
        if compiled.match(name):
            found[name] = ()
        elif pattern.endswith("%"):
            above.update(superiors(name))
        yield None
    for name in above - found.keys():
        if compiled.match(name):
            found[name] = (b"\\Noselect",)
        yield None
    for name in sorted(found):
        yield Line(name, found[name])
