"""The handler of REPLACE (RFC 8508)."""

from __future__ import annotations

from mailstore.errors import NoSuchMailbox
from mailstore.model import NewMessage
from protocols.imap import responses
from protocols.imap.append_requests import Replace
from protocols.imap.context import Answer, Context
from protocols.imap.refusal import Disallowed


async def replace(ctx: Context, request: Replace) -> Answer:
    """REPLACE and UID REPLACE: APPENDUID comes untagged, before the EXPUNGE (section 3.3)."""
    selected = ctx.the_mailbox()
    view = selected.view
    uids = view.resolve(request.number, request.by_uid)
    if selected.read_only:
        raise Disallowed(b"the mailbox is open for reading only", b"NOPERM")
    if not uids:
        raise Disallowed(b"no such message", b"NONEXISTENT")
    message = request.message
    if not message.data:
        raise Disallowed(b"an empty message cannot be appended", b"CANNOT")
    new = NewMessage(message.data, message.flags, message.internal_date)
    try:
        result, delta = await selected.mailbox.replace(uids[0], request.mailbox, new, view.modseq)
    except NoSuchMailbox:
        raise Disallowed(b"no such mailbox", b"TRYCREATE") from None
    view.apply(delta)
    code = b"APPENDUID %d %s" % (result.uid_validity, responses.ordered_set(result.uids))
    ctx.output.put(responses.tagged(b"*", b"OK", b"replaced", code))
    return Answer(b"done")
