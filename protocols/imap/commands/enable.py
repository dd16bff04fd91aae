"""ENABLE (RFC 5161): what a client asks for changes how the rest of its session is answered."""

from __future__ import annotations

from collections.abc import Callable

from protocols.imap.commands.notify import watch_metadata
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Malformed
from protocols.imap.grammar.session import Enable
from protocols.imap.responses import lines


def _utf8_accept(ctx: Context) -> None:
    """UTF-8 in quoted strings and in messages (RFC 9755 section 3)."""
    ctx.utf8 = ctx.utf8_accept = True


def _rev2(ctx: Context) -> None:
    """IMAP4rev2 (RFC 9051 section 6.3.1 and appendix E), whose mailbox names are UTF-8 too (section 5.1)."""
    ctx.utf8 = ctx.rev2 = True


def _uid_only(ctx: Context) -> None:
    """UIDs only (RFC 9586 section 3.1)."""
    ctx.uid_only = True


_EARLY: dict[bytes, Callable[[Context], None]] = {
    b"UTF8=ACCEPT": _utf8_accept,
    b"IMAP4REV2": _rev2,
    b"UIDONLY": _uid_only,
}
"""Only while no mailbox is selected (RFC 5161 section 3.1)."""

_ANY_TIME: dict[bytes, Callable[[Context], None]] = {
    b"CONDSTORE": Context.enable_condstore,
    b"QRESYNC": Context.enable_qresync,
}
"""A mailbox may be selected already (RFC 7162 section 3.1)."""

_METADATA = b"METADATA"
"""Unasked METADATA responses (RFC 5464 section 4.1)."""
_SPELLING = {b"IMAP4REV2": b"IMAP4rev2"}


async def enable(ctx: Context, request: Enable) -> Answer:
    """ENABLE: what is unknown is ignored, ENABLED is always sent.

    Raises:
        Malformed: a mailbox is selected, and something would change what was said of it.
    """
    names = dict.fromkeys(request.names)
    known = [name for name in names if name in _EARLY or name in _ANY_TIME or name == _METADATA]
    if ctx.selected is not None:
        for name in known:
            if name in _EARLY:
                raise Malformed(_SPELLING.get(name, name) + b" cannot be enabled while a mailbox is selected")
    ctx.output.put(lines.untagged(b" ".join((b"ENABLED", *(_SPELLING.get(name, name) for name in known)))))
    for name in known:
        if name == _METADATA:
            await watch_metadata(ctx)
        else:
            (_EARLY.get(name) or _ANY_TIME[name])(ctx)
    return Answer(b"done")
