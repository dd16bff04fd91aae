"""What a client can ask for: searching, sorting and threading."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mailstore.model import SortBy, SortKey, ThreadAlgorithm
from mailstore.search import Key
from protocols.imap.fetch_items_grammar import FetchItem, FetchSection
from protocols.imap.refusal import Refused


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
class Page:
    """PARTIAL's range of results, 1 being the first and -1 the last (RFC 9394 section 3.1)."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Most results that fit on it."""
        return abs(self.first - self.last) + 1


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
    names: tuple[str, ...] = ()


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
