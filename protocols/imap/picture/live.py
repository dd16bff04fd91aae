"""A search whose result is kept up to date (RFC 5267 section 4), as the client knows it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstore import search as criteria
from mailstore.uidset import UidSet
from protocols.imap.grammar.fetch_items import FetchItem, FetchSection
from protocols.imap.picture.view import View


@dataclass(slots=True)
class LiveSearch:
    """One search of which changes are told. ``uids`` is what the client believes was found."""

    key: criteria.Key = field(repr=False)
    by_uid: bool
    uids: UidSet
    unknown: UidSet
    """Messages that match, and come to the result once the client knows that they are there."""
    items: tuple[FetchItem | FetchSection, ...] = ()
    """What to tell of new messages that it finds (RFC 5465 section 7)."""

    def line(self, tag: bytes, view: View, word: bytes, uids: UidSet) -> bytes:
        """ADDTO or REMOVEFROM; position 0, for results are in no particular order (section 4.3)."""
        shown = uids if self.by_uid else UidSet.of(seq for uid in uids if (seq := view.seq_of(uid)))
        kind = b"UID " if self.by_uid else b""
        return b'* ESEARCH (TAG "%s") %s%s (0 %s)\r\n' % (tag, kind, word, shown.to_bytes())
