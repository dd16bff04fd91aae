"""The handlers of APPEND and REPLACE (RFC 3501 section 6.3.11, RFCs 3502, 4469 and 8508)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mailstore.errors import NoSuchMailbox, StoreError
from mailstore.model import MailboxName, NewMessage
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.append import Append, AppendMessage, Replace, Url
from protocols.imap.grammar.message_url import MessageUrl, echoed, parse_url
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.responses import lines


async def append(ctx: Context, request: Append) -> Answer:
    """APPEND with APPENDUID; several messages are stored all or none (RFC 3502 section 3).

    A missing mailbox is reported before anything else that is wrong (RFC 3501 section 6.3.11).
    """
    try:
        new = await _assembled(ctx, request.messages)
        result = await ctx.the_account().append(request.mailbox, new)
    except NoSuchMailbox:
        raise no_such_mailbox() from None
    except (Disallowed, StoreError):
        await require_mailbox(ctx, request.mailbox)
        raise
    ctx.has_put(request.mailbox, result.uids)
    selected = ctx.selected
    if selected is not None and selected.mailbox.opened.mailbox_id == result.mailbox_id:
        # RFC 3501 section 6.3.11: the new message SHOULD be announced at once.
        selected.view.apply(await selected.mailbox.sync(selected.view.modseq))
    uids = lines.ordered_set(result.uids)
    return Answer(b"appended", b"APPENDUID %d %s" % (result.uid_validity, uids))


async def replace(ctx: Context, request: Replace) -> Answer:
    """REPLACE and UID REPLACE: APPENDUID comes untagged, before the EXPUNGE (RFC 8508 section 3.3)."""
    selected = ctx.the_mailbox()
    view = selected.view
    uids = view.resolve(request.number, request.by_uid)
    if selected.read_only:
        raise Disallowed(b"the mailbox is open for reading only", b"NOPERM")
    if not uids:
        raise Disallowed(b"no such message", b"NONEXISTENT")
    try:
        (new,) = await _assembled(ctx, (request.message,))
        result, delta = await selected.mailbox.replace(uids[0], request.mailbox, new, view.modseq)
    except NoSuchMailbox:
        raise no_such_mailbox() from None
    except (Disallowed, StoreError):
        await require_mailbox(ctx, request.mailbox)
        raise
    view.apply(delta)
    ctx.has_put(request.mailbox, result.uids)
    code = b"APPENDUID %d %s" % (result.uid_validity, lines.ordered_set(result.uids))
    ctx.output.put(lines.tagged(b"*", b"OK", b"replaced", code))
    return Answer(b"done")


def no_such_mailbox() -> Disallowed:
    """The answer when the destination mailbox does not exist."""
    return Disallowed(b"no such mailbox", b"TRYCREATE")


async def require_mailbox(ctx: Context, mailbox: MailboxName) -> None:
    """Raises Disallowed (TRYCREATE) when there is no such mailbox; other errors are left to the command."""
    try:
        await ctx.the_account().status(mailbox)
    except NoSuchMailbox:
        raise no_such_mailbox() from None
    except StoreError:
        return


async def _assembled(ctx: Context, messages: Sequence[AppendMessage]) -> list[NewMessage]:
    """The messages with what their URLs name.

    Raises:
        Disallowed: BADURL, TOOBIG (RFC 4469 section 4), or a message is empty.
    """
    largest = ctx.limits.append_max_bytes
    left = max(ctx.limits.append_total_max_bytes, largest)
    new: list[NewMessage] = []
    for message in messages:
        room = min(left, largest)
        pieces: list[bytes] = []
        for part in message.parts:
            pieces.append(await _read(ctx, part, room) if isinstance(part, Url) else part)
            room -= len(pieces[-1])
            left -= len(pieces[-1])
            if room < 0:
                raise Disallowed(b"the message would be too large", b"TOOBIG")
        data = b"".join(pieces)
        if not data:
            raise Disallowed(b"an empty message cannot be appended", b"CANNOT")
        new.append(NewMessage(data, message.flags, message.internal_date))
    return new


async def _read(ctx: Context, part: Url, room: int) -> bytes:
    """What a URL names, one octet more than ``room`` at most."""
    url = parse_url(part.text, ctx.the_account().name, ctx.limits)
    octets = None if url is None else await _message(ctx, url, room)
    if octets is None:
        raise Disallowed(b"the URL does not name a message here", b"BADURL " + echoed(part.text))
    return octets


async def _message(ctx: Context, url: MessageUrl, room: int) -> bytes | None:
    account, name, validity = ctx.the_account(), url.mailbox, url.uid_validity
    if name is None:
        # RFC 4469 section 3: relative to the selected mailbox.
        if ctx.selected is None:
            return None
        name, validity = ctx.selected.name, ctx.selected.mailbox.opened.status.uid_validity
    section = url.section
    length = room + 1 if section.length is None else min(section.length, room + 1)
    try:
        if validity is None:
            validity = (await account.status(name)).uid_validity
        read = dataclasses.replace(section, offset=section.offset or 0, length=length)
        return await account.read_section(name, validity, url.uid, read)
    except NoSuchMailbox:
        return None
