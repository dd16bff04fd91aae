"""How results of SEARCH, SORT and THREAD are told (RFC 4731, RFC 5256, RFC 5267, RFC 9394). Pure."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mailstore.model import ModSeq, Places, ThreadNode, Uid
from mailstore.uidset import UidSet
from protocols.imap.grammar.page import Page
from protocols.imap.grammar.search import Search, SearchReturn
from protocols.imap.responses import lines

T = TypeVar("T")

BLOCK_NODES = 200
"""Messages of threads that are written without a pause."""


def on_page(results: Sequence[T], page: Page) -> Sequence[T]:
    """The results a page holds; -1 is the last one (RFC 9394 section 3.1)."""
    low, high = min(page.first, page.last), max(page.first, page.last)
    if low > 0:
        return results[low - 1 : high]
    count = len(results)
    return results[max(count + low, 0) : max(count + high + 1, 0)]


def saved_by(request: Search, uids: Sequence[Uid]) -> UidSet:
    """What ``$`` becomes (RFC 5182 section 2.4, RFC 9394 section 3.3).

    MIN, MAX and PARTIAL save just what they name, unless ALL or COUNT need all to be found.
    """
    returned = request.returned or frozenset()
    named = returned & {SearchReturn.MIN, SearchReturn.MAX} or request.page is not None
    if returned & {SearchReturn.ALL, SearchReturn.COUNT} or not named:
        return UidSet.of(uids)
    chosen = list(on_page(uids, request.page)) if request.page is not None else []
    if SearchReturn.MIN in returned:
        chosen += uids[:1]
    if SearchReturn.MAX in returned:
        chosen += uids[-1:]
    return UidSet.of(chosen)


def sort_line(numbers: Sequence[int], modseq: ModSeq | None) -> bytes:
    """SORT (RFC 5256 section 4), with MODSEQ when that was searched (RFC 7162 section 3.1.6)."""
    return lines.search_line(numbers, modseq).replace(b"* SEARCH", b"* SORT", 1)


def esearch_line(
    correlator: bytes,
    request: Search,
    numbers: Sequence[int],
    modseq: ModSeq | None,
    scores: Sequence[int] = (),
) -> bytes:
    """ESEARCH (RFC 4731 section 3.1); MIN, MAX and ALL are left out when nothing was found.

    ``numbers`` are in order of the result, so with SORT the first is MIN (RFC 5267 section 3.1).
    """
    returned = request.returned or frozenset()
    listed: Callable[[Sequence[int]], bytes] = lines.ordered_set
    parts = [b"* ESEARCH (%s)" % correlator]
    if request.by_uid:
        parts.append(b"UID")
    if numbers and SearchReturn.MIN in returned:
        parts.append(b"MIN %d" % numbers[0])
    if numbers and SearchReturn.MAX in returned:
        parts.append(b"MAX %d" % numbers[-1])
    if SearchReturn.COUNT in returned:
        parts.append(b"COUNT %d" % len(numbers))
    if numbers and SearchReturn.ALL in returned:
        parts.append(b"ALL " + listed(numbers))
    if request.page is not None:
        shown = listed(on_page(numbers, request.page)) or b"NIL"
        parts.append(b"PARTIAL (%d:%d %s)" % (request.page.first, request.page.last, shown))
    if SearchReturn.RELEVANCY in returned:
        # RFC 6203 section 4: in the order of the results that are listed.
        listed_scores = scores if request.page is None else on_page(scores, request.page)
        parts.append(b"RELEVANCY (%s)" % b" ".join(b"%d" % score for score in listed_scores))
    if modseq is not None and numbers:
        parts.append(b"MODSEQ %d" % modseq)
    return b" ".join(parts) + b"\r\n"


@dataclass(slots=True)
class ThreadTemplate:
    """THREAD with places for the numbers of messages, which differ from session to session."""

    text: bytes
    uids: array[int]
    """The messages in the order in which they are told."""
    places: Places | None = None
    """Of ``uids``, among those that the last session began with."""

    def line(self, numbers: Sequence[int]) -> bytes:
        """The response; ``numbers`` are those of ``uids``."""
        return b"* THREAD%s%s\r\n" % (b" " if self.text else b"", self.text % tuple(numbers))


def thread_template(threads: Iterable[ThreadNode]) -> Generator[None, None, ThreadTemplate]:
    """THREAD (RFC 5256 section 4); an only child follows its parent, several are nested.

    Pauses again and again, so that others can go on: of a large mailbox it takes a while.
    """
    nodes: list[ThreadNode] = []
    children: list[list[int]] = []
    roots: list[int] = []
    for place, node in enumerate(threads):
        nodes.append(node)
        children.append([])
        (roots if node.parent is None else children[node.parent]).append(place)
        if place % BLOCK_NODES == 0:
            yield
    out: list[bytes] = []
    uids = array("I")
    # What is still to be written, the next at the end: a node, or text.
    waiting: list[int | bytes] = []

    def nest(many: list[int]) -> None:
        for at in reversed(many):
            waiting.extend((b")", at, b"("))

    nest(roots)
    while waiting:
        step = waiting.pop()
        if isinstance(step, bytes):
            out.append(step)
            continue
        uid, below = nodes[step].uid, children[step]
        if step % BLOCK_NODES == 0:
            yield
        if uid is not None:
            uids.append(uid)
            out.append(b"%d ") if below else out.append(b"%d")
        if len(below) == 1:
            waiting.append(below[0])
        else:
            nest(below)
    return ThreadTemplate(b"".join(out), uids)


def no_update_line(tag: bytes, text: bytes) -> bytes:
    """NOUPDATE: the result of the search with this tag is not kept up to date (RFC 5267 section 4.3.1)."""
    return lines.tagged(b"*", b"NO", text, b'NOUPDATE "%s"' % tag)
