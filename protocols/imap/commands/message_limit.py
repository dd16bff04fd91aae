"""How many messages one command may be about (RFC 9738).

What is announced asks clients that know the extension to send smaller commands. What is enforced is far
more, because a client that does not know it takes a part of the answer for all of it (section 4.2).
EXPUNGE, CLOSE and STATUS are never limited (section 3.1). Pure, but for what ``limited_answer`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailstore import search as criteria
from mailstore.model import Uid
from mailstore.uidset import UidSet
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.picture.view import View
from protocols.imap.responses import lines
from protocols.limits import ImapLimits

_PART = b"only the last messages were processed"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a command may be about: the highest UIDs, ascending, and what to say when it is not all."""

    uids: Sequence[Uid]
    code: bytes = b""

    def batches(self, size: int) -> Iterator[Sequence[Uid]]:
        """``size`` at a time, ascending; when not all are allowed, the highest come first (section 3.1)."""
        starts = range(0, len(self.uids), size)
        for at in reversed(starts) if self.code else starts:
            yield self.uids[at : at + size]


def _most(limits: ImapLimits) -> int | None:
    """Messages of one command, None for any number."""
    return max(limits.message_limit, limits.message_limit_enforced) if limits.message_limit else None


def _most_saved(limits: ImapLimits) -> int | None:
    """Messages of one COPY or APPEND, which SAVELIMIT alone limits too (section 3)."""
    announced = limits.message_limit or limits.save_limit
    return max(announced, limits.message_limit_enforced) if announced else None


def exceeds(count: int, limits: ImapLimits) -> bool:
    """Whether a command about so many messages would be ``allowed`` only a part of them."""
    most = _most(limits)
    return most is not None and count > most


def allowed(uids: Sequence[Uid], limits: ImapLimits) -> Allowed:
    """What of ``uids``, ascending, one FETCH, STORE, MOVE or UID EXPUNGE is about (section 3.1)."""
    most = _most(limits)
    if most is None or len(uids) <= most:
        return Allowed(uids)
    kept = uids[-most:]
    return Allowed(kept, b"MESSAGELIMIT %d %d" % (most, kept[0]))


def require_page(size: int, limits: ImapLimits) -> None:
    """Refuse a PARTIAL of more messages than may be told of (section 3.1).

    Raises:
        Disallowed: MESSAGELIMIT.
    """
    most = _most(limits)
    if most is not None and size > most:
        raise Disallowed(b"page too large", b"MESSAGELIMIT %d" % most)


def require_saving(uids: Sequence[Uid], limits: ImapLimits) -> None:
    """Refuse to copy too many messages at once: COPY is all or none (section 3.1).

    Raises:
        Disallowed: MESSAGELIMIT with the lowest UID that would have been right.
    """
    most = _most_saved(limits)
    if most is not None and len(uids) > most:
        raise Disallowed(b"too many messages at once", b"MESSAGELIMIT %d %d" % (most, uids[-most]))


def _candidates(key: criteria.Key, everything: UidSet) -> UidSet:
    """The messages that have to be looked at: what sets of numbers at the top level leave."""
    match key:
        case criteria.And(keys):
            for part in keys:
                everything = _candidates(part, everything)
            return everything
        case criteria.Uids(uids):
            return everything & uids
        case _:
            return everything


def searched(key: criteria.Key, view: View, limits: ImapLimits) -> tuple[criteria.Key, bytes]:
    """The search that may be made in place of ``key``, and what to say when it is a smaller one.

    What counts is how many messages are searched, not how many match (section 3.1).
    """
    most = _most(limits)
    if most is None or view.exists <= most:
        return key, b""
    part = allowed(view.known(_candidates(key, UidSet(((1, max(view.largest_uid, 1)),)))), limits)
    if not part.code:
        return key, b""
    return criteria.And((criteria.Uids(UidSet.of(part.uids)), key)), part.code


def require_whole(key: criteria.Key, view: View, limits: ImapLimits) -> None:
    """Refuse to sort or thread too many messages, of which a part would mean nothing (section 3.3).

    Raises:
        Disallowed: MESSAGELIMIT.
    """
    code = searched(key, view, limits)[1]
    if code:
        raise Disallowed(b"too many messages at once", code)


def limited_answer(ctx: Context, answer: Answer, code: bytes) -> Answer:
    """``answer`` with the code of ``Allowed``; untagged where it has a code of its own (section 3.1)."""
    if not code:
        return answer
    if answer.code:
        ctx.output.put(lines.tagged(b"*", b"NO", _PART, code))
        return answer
    return Answer(_PART, code)
