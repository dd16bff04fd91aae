"""SEARCH, SORT and THREAD around their criteria (RFC 4731, RFC 5256, RFC 5957, RFC 9394). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from mailstore.model import MailboxName, SortBy, SortKey, ThreadAlgorithm
from mailstore.search import Key
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.fetch import FetchItem, FetchSection, read_items
from protocols.imap.grammar.page import Page, read_page
from protocols.imap.grammar.refusal import Disallowed, Malformed, Refused
from protocols.imap.grammar.search_keys import SearchParser, read_charset


class SearchReturn(Enum):
    """Result options of ESEARCH (RFC 4731 section 3.1, RFC 5182 section 2, RFC 5267 section 4, RFC 6203)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"
    SAVE = b"SAVE"
    RELEVANCY = b"RELEVANCY"
    UPDATE = b"UPDATE"
    CONTEXT = b"CONTEXT"


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (section 6.4.4); ``returned`` is None without RETURN (RFC 4466 section 2.6.1)."""

    key: Key = field(repr=False)
    returned: frozenset[SearchReturn] | None = None
    uses_modseq: bool = False
    by_uid: bool = False
    page: Page | None = None
    order: tuple[SortBy, ...] = ()
    """Sorted, as SORT asks (RFC 5256 section 3); empty for SEARCH."""
    update_items: tuple[FetchItem | FetchSection, ...] = ()
    """What UPDATE wants to be told of new messages (RFC 5465 section 7)."""

    @property
    def answers(self) -> bool:
        """Whether there is an ESEARCH response, which SAVE alone does without (RFC 5182 section 2.2)."""
        return self.page is not None or bool((self.returned or frozenset()) - {SearchReturn.SAVE})

    @property
    def scored(self) -> bool:
        """Whether relevancy is told or sorted by (RFC 6203 sections 4 and 5)."""
        return SearchReturn.RELEVANCY in (self.returned or ()) or any(
            by.key is SortKey.RELEVANCY for by in self.order
        )


class Source(Enum):
    """Which mailboxes to search (RFC 7377 section 2.2, RFC 5465 section 6)."""

    SELECTED = b"SELECTED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


@dataclass(frozen=True, slots=True)
class Sources:
    """A source with the names it takes; the last three kinds of ``Source`` take some."""

    kind: Source
    names: tuple[MailboxName, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """ESEARCH (RFC 7377)."""

    sources: tuple[Sources, ...]
    search: Search


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """CANCELUPDATE (RFC 5267 section 4.3.5)."""

    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RefusedSearch:
    """A SEARCH with SAVE that is answered NO, and so leaves an empty result (RFC 5182 section 2.1)."""

    refusal: Refused


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD (RFC 5256 section 3)."""

    algorithm: ThreadAlgorithm
    key: Key = field(repr=False)
    by_uid: bool = False


_LIST = re.compile(rb" *\(")
_OPTIONS = {option.value: option for option in SearchReturn}
_SORT_KEYS = {key.value.upper().encode(): key for key in SortKey}
_ALGORITHMS = {algorithm.value.upper().encode(): algorithm for algorithm in ThreadAlgorithm}


@dataclass(slots=True)
class _Returned:
    """The options of a RETURN as they are read; ``options`` is None when there is no RETURN."""

    options: frozenset[SearchReturn] | None = None
    page: Page | None = None
    items: tuple[FetchItem | FetchSection, ...] = ()


def _read_option(cursor: Cursor, into: _Returned) -> None:
    name = cursor.word(b"result option")
    assert into.options is not None
    if name == b"PARTIAL":
        cursor.space()
        # RFC 9394 section 3.1: a command has one PARTIAL at most.
        if into.page is not None:
            raise cursor.failure(b"one PARTIAL only")
        into.page = read_page(cursor)
    elif name in _OPTIONS:
        into.options |= {_OPTIONS[name]}
        # RFC 5465 section 7: the syntax has no space before the list, the example has one.
        if name == b"UPDATE" and cursor.looking_at(_LIST):
            cursor.blanks()
            into.items = read_items(cursor)
    else:
        raise cursor.failure(b"known result option")


def _read_return(cursor: Cursor) -> _Returned:
    """``search-return-opts`` and the space behind it, if there are any."""
    if not cursor.skip_word(b"RETURN"):
        return _Returned()
    returned = _Returned(frozenset())
    cursor.space()
    cursor.parenthesised(lambda: _read_option(cursor, returned), may_be_empty=True)
    cursor.space()
    # RFC 9394 section 3.1.
    if returned.page is not None and SearchReturn.ALL in (returned.options or ()):
        raise Malformed(b"PARTIAL and ALL exclude each other")
    options = returned.options or frozenset()
    if options <= {SearchReturn.CONTEXT} and returned.page is None:
        # RFC 4731 section 3.1: an empty list means ALL. CONTEXT is a hint (RFC 5267 section 4.2).
        returned.options = options | {SearchReturn.ALL}
    return returned


def _saving(returned: _Returned, parse: Callable[[], Search]) -> Search | RefusedSearch:
    """What ``parse`` reads; a NO empties the saved result, so the session has to hear of it."""
    try:
        return parse()
    except Disallowed as refusal:
        if SearchReturn.SAVE not in (returned.options or ()):
            raise
        return RefusedSearch(refusal)


def _checked(parser: SearchParser, request: Search) -> Search:
    """Relevancy is there only when something is fuzzy (RFC 6203 section 4)."""
    if request.scored and not parser.uses_fuzzy:
        raise Malformed(b"RELEVANCY needs FUZZY")
    return request


def parse_search(cursor: Cursor, by_uid: bool) -> Search | RefusedSearch:
    """``search`` behind its name.

    Raises:
        Refused: BAD for syntax and limits, NO [BADCHARSET] for a charset we do not have.
    """
    cursor.space()
    returned = _read_return(cursor)
    return _saving(returned, lambda: _read_program(cursor, by_uid, returned))


def _read_program(cursor: Cursor, by_uid: bool, returned: _Returned) -> Search:
    """``search-program`` (RFC 4466 section 2.6.1) up to the end of the command."""
    parser = SearchParser(cursor)
    if cursor.skip_word(b"CHARSET"):
        # RFC 9755 section 3: once UTF8=ACCEPT is enabled, CHARSET is an error.
        if cursor.utf8:
            raise Malformed(b"CHARSET cannot be used after ENABLE UTF8=ACCEPT")
        cursor.space()
        parser.charset = read_charset(cursor)
        cursor.space()
    key = parser.program()
    request = Search(
        key, returned.options, parser.uses_modseq, by_uid, returned.page, update_items=returned.items
    )
    return _checked(parser, request)


_SOURCES = {source.value: source for source in Source}
_NAMED = {Source.SUBTREE, Source.SUBTREE_ONE, Source.MAILBOXES}


def _read_source(cursor: Cursor) -> Sources:
    kind = _SOURCES.get(cursor.word(b"source"))
    if kind is None:
        raise cursor.failure(b"known source")
    if kind not in _NAMED:
        return Sources(kind)
    cursor.space()
    if cursor.peek() == b"(":
        return Sources(kind, cursor.parenthesised(cursor.mailbox))
    return Sources(kind, (cursor.mailbox(),))


def parse_multisearch(cursor: Cursor) -> MultiSearch:
    """``esearch`` behind its name (RFC 7377 section 3); the selected mailbox where no source is named.

    Raises:
        Refused: BAD for syntax and limits, NO [BADCHARSET] for a charset we do not have.
    """
    cursor.space()
    sources: tuple[Sources, ...] = (Sources(Source.SELECTED),)
    if cursor.skip_word(b"IN"):
        cursor.space()
        sources = tuple(dict.fromkeys(cursor.parenthesised(lambda: _read_source(cursor))))
        if sum(len(source.names) for source in sources) > cursor.limits.search_names_max:
            raise Malformed(b"too many mailbox names", b"LIMIT")
        cursor.space()
    returned = _read_return(cursor)
    # RFC 7377 section 2: the answer is ESEARCH, ALL what it holds by default.
    if returned.options is None:
        returned.options = frozenset({SearchReturn.ALL})
    return MultiSearch(sources, _read_program(cursor, True, returned))


def _read_criterion(cursor: Cursor) -> SortBy:
    reverse = cursor.skip_word(b"REVERSE")
    if reverse:
        cursor.space()
    key = _SORT_KEYS.get(cursor.word(b"sort criterion"))
    if key is None:
        raise cursor.failure(b"known sort criterion")
    return SortBy(key, reverse)


def _read_criteria(cursor: Cursor) -> tuple[SortBy, ...]:
    """``sort-criteria``; a key that comes again decides nothing, so it is left out."""
    order: dict[SortKey, SortBy] = {}
    for by in cursor.parenthesised(lambda: _read_criterion(cursor)):
        order.setdefault(by.key, by)
    return tuple(order.values())


def parse_sort(cursor: Cursor, by_uid: bool) -> Search | RefusedSearch:
    """``sort`` behind its name (RFC 5256 section 5), with RETURN (RFC 5267 section 3).

    Raises:
        Refused: BAD for syntax and limits, NO [BADCHARSET] for a charset we do not have.
    """
    cursor.space()
    returned = _read_return(cursor)
    order = _read_criteria(cursor)
    cursor.space()

    def parse() -> Search:
        parser = SearchParser(cursor)
        parser.charset = read_charset(cursor)
        cursor.space()
        key = parser.program()
        request = Search(
            key, returned.options, parser.uses_modseq, by_uid, returned.page, order, returned.items
        )
        return _checked(parser, request)

    return _saving(returned, parse)


def parse_cancel_update(cursor: Cursor) -> CancelUpdate:
    """``cancelupdate`` behind its name (RFC 5267 section 6)."""
    cursor.space()
    tags = [cursor.string(b"tag")]
    while cursor.more():
        if len(tags) >= cursor.limits.list_items_max:
            raise cursor.failure(b"shorter list")
        tags.append(cursor.string(b"tag"))
    cursor.end()
    return CancelUpdate(tuple(tags))


def parse_thread(cursor: Cursor, by_uid: bool) -> Thread:
    """``thread`` behind its name (RFC 5256 section 5).

    Raises:
        Refused: BAD for syntax and limits, NO [BADCHARSET] for a charset we do not have.
    """
    cursor.space()
    algorithm = _ALGORITHMS.get(cursor.word(b"threading algorithm"))
    if algorithm is None:
        raise cursor.failure(b"known threading algorithm")
    cursor.space()
    parser = SearchParser(cursor)
    parser.charset = read_charset(cursor)
    cursor.space()
    return Thread(algorithm, parser.program(), by_uid)
