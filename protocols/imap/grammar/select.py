"""SELECT, EXAMINE and what ends them (RFC 3501 section 6.3.1, RFC 7162 sections 3.1.8 and 3.2.5). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailstore.model import MailboxName, ModSeq, UidValidity
from mailstore.uidset import UidSet
from protocols.imap.grammar.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client remembers of a mailbox (RFC 7162 section 3.2.5); UIDs None means all it could know."""

    uid_validity: UidValidity
    modseq: ModSeq
    known_uids: UidSet | None = None
    by_number: bool = False
    """Whether sequence numbers were given to match with UIDs."""


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT (section 6.3.1) and EXAMINE (section 6.3.2), with the parameters of RFC 7162."""

    mailbox: MailboxName
    read_only: bool = False
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE (section 6.4.2)."""


@dataclass(frozen=True, slots=True)
class Unselect:
    """UNSELECT (RFC 3691)."""


def parse_selecting(read_only: bool) -> Callable[[Cursor], Select]:
    """What parses SELECT, or EXAMINE when ``read_only``, behind its name."""

    def parse(cursor: Cursor) -> Select:
        cursor.space()
        mailbox = cursor.mailbox()
        parameters: tuple[Resync | None, ...] = ()
        if cursor.more():
            parameters = cursor.parenthesised(lambda: _parameter(cursor))
        cursor.end()
        # RFC 7162 section 3.1: QRESYNC's parameter enables CONDSTORE as well.
        resync = next((parameter for parameter in parameters if parameter is not None), None)
        return Select(mailbox, read_only, bool(parameters), resync)

    return parse


def _parameter(cursor: Cursor) -> Resync | None:
    """``select-param`` (RFC 4466 section 2.1); None stands for CONDSTORE."""
    match cursor.word(b"parameter"):
        case b"CONDSTORE":
            return None
        case b"QRESYNC":
            cursor.space()
            return _resync(cursor)
        case _:
            raise cursor.failure(b"known parameter")


def _resync(cursor: Cursor) -> Resync:
    """``"(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"``.

    The match data would help a server that forgets expunged UIDs; here nothing is forgotten, so it
    is checked for its form and not kept.
    """
    cursor.open()
    uid_validity = UidValidity(cursor.number(b"UIDVALIDITY"))
    cursor.space()
    modseq = cursor.modseq()
    if not uid_validity or not modseq:
        raise cursor.failure(b"numbers above 0")
    known: UidSet | None = None
    more = cursor.more()
    if more and cursor.peek() != b"(":
        known = cursor.uid_set()
        more = cursor.more()
    if more:
        cursor.open()
        numbers = cursor.uid_set()
        cursor.space()
        uids = cursor.uid_set()
        if len(numbers) != len(uids):
            raise cursor.failure(b"as many UIDs as sequence numbers")
        cursor.close()
    cursor.close()
    return Resync(uid_validity, modseq, known, more)
