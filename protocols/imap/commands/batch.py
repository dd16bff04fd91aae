"""UIDBATCHES (RFC 10022): UID ranges that hold equally many messages each."""

from __future__ import annotations

from itertools import islice

from protocols.imap.context import Answer, Context
from protocols.imap.grammar.messages import UidBatches
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.responses import lines

_SIZE_MIN = 500
"""Smaller batches are refused; RFC 10022 section 3.1.3 has clients ask for no fewer."""


async def uid_batches(ctx: Context, request: UidBatches) -> Answer:
    """UIDBATCHES; the result of an earlier SEARCH stays saved (RFC 5182)."""
    if request.size < _SIZE_MIN:
        raise Disallowed(b"batch too small", b"TOOFEW")
    batches = ctx.the_mailbox().view.batches(request.size)
    chosen = list(islice(batches, request.first - 1, request.last))
    text = b'UIDBATCHES (TAG "%b")' % ctx.tag
    if chosen:
        text += b" " + b",".join(b"%d:%d" % pair for pair in chosen)
    ctx.output.put(lines.untagged(text))
    return Answer(b"done")
