"""The handler of APPEND (RFC 3501 section 6.3.11, RFC 3502, RFC 4315 section 3)."""

from __future__ import annotations

from mailstore.errors import NoSuchMailbox
from mailstore.model import NewMessage
from protocols.imap import responses
from protocols.imap.append_requests import Append
from protocols.imap.context import Answer, Context
from protocols.imap.refusal import Disallowed


async def append(ctx: Context, request: Append) -> Answer:
    """APPEND with APPENDUID; several messages are stored all or none (RFC 3502 section 3)."""
    if not all(message.data for message in request.messages):
        raise Disallowed(b"an empty message cannot be appended", b"CANNOT")
    new = [NewMessage(message.data, message.flags, message.internal_date) for message in request.messages]
    try:
        result = await ctx.the_account().append(request.mailbox, new)
    except NoSuchMailbox:
        raise Disallowed(b"no such mailbox", b"TRYCREATE") from None
    selected = ctx.selected
    if selected is not None and selected.mailbox.opened.mailbox_id == result.mailbox_id:
        # RFC 3501 section 6.3.11: the new message SHOULD be announced at once.
        selected.view.apply(await selected.mailbox.sync(selected.view.modseq))
    uids = responses.ordered_set(result.uids)
    return Answer(b"appended", b"APPENDUID %d %s" % (result.uid_validity, uids))
