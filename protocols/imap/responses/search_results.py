"""How results of SEARCH, SORT and THREAD are told (RFC 4731, RFC 5256, RFC 5267, RFC 9394). Pure."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from mailstore.model import ModSeq, Places, Uid
from mailstore.threads import Piece, Threads
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

    text: bytes = b""
    uids: array[int] = field(default_factory=lambda: array("I"))
    """The messages in the order in which they are told."""
    lengths: array[int] = field(default_factory=lambda: array("I"))
    """Octets of ``text`` for each thread."""
    places: Places | None = None
    """Of ``uids``, among those that the last session began with."""

    def line(self, numbers: Sequence[int]) -> bytes:
        """The response; ``numbers`` are those of ``uids``."""
        return b"* THREAD%s%s\r\n" % (b" " if self.text else b"", self.text % tuple(numbers))


def thread_template(threads: Threads) -> Generator[None, None, ThreadTemplate]:
    """THREAD (RFC 5256 section 4); an only child follows its parent, several are nested.

    Threads that are as they were are not written again. Pauses again and again, so that others can go on: of
    a large mailbox it takes a while.
    """
    old, pieces = threads.made_from
    if not isinstance(old, ThreadTemplate):
        old, pieces = ThreadTemplate(), [Piece(False, 0, len(threads.sizes))]
    ends, starts = list(accumulate(old.lengths, initial=0)), threads.starts()
    texts, lengths = [], array("I")
    written = 0
    for at, (is_old, first, stop) in enumerate(pieces, 1):
        if at % BLOCK_NODES == 0:
            yield
        if is_old:
            texts.append(old.text[ends[first] : ends[stop]])
            lengths += old.lengths[first:stop]
        else:
            new = yield from _thread_texts(threads, starts[written : written + stop - first + 1])
            texts += new
            lengths.extend(map(len, new))
        written += stop - first
    threads.made_from = None, ()
    return ThreadTemplate(b"".join(texts), array("I", filter(None, threads.uids)), lengths)


def _thread_texts(threads: Threads, starts: Sequence[int]) -> Generator[None, None, list[bytes]]:
    """The texts of neighbouring threads; ``starts`` has the first node of each, and that of the next one."""
    uids, ups, least = threads.uids, threads.ups, starts[0]
    children: list[list[int]] = []
    for place in range(least, starts[-1]):
        children.append([])
        if up := ups[place]:
            children[place - up - least].append(place)
        if place % BLOCK_NODES == 0:
            yield
    # What is still to be written, the next at the end: a node, or text.
    waiting: list[int | bytes] = []

    def nest(many: list[int]) -> None:
        for at in reversed(many):
            waiting.extend((b")", at, b"("))

    texts: list[bytes] = []
    for start in starts[:-1]:
        out: list[bytes] = []
        nest([start])
        while waiting:
            step = waiting.pop()
            if isinstance(step, bytes):
                out.append(step)
                continue
            below = children[step - least]
            if step % BLOCK_NODES == 0:
                yield
            if uids[step]:
                out.append(b"%d " if below else b"%d")
            if len(below) == 1:
                waiting.append(below[0])
            else:
                nest(below)
        texts.append(b"".join(out))
    return texts


def no_update_line(tag: bytes, text: bytes) -> bytes:
    """NOUPDATE: the result of the search with this tag is not kept up to date (RFC 5267 section 4.3.1)."""
    return lines.tagged(b"*", b"NO", text, b'NOUPDATE "%s"' % tag)
