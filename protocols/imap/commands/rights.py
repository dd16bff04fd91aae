"""Handlers for the commands of ACL (RFC 4314): the owner may do everything, nobody else anything.

A mailbox is opened with a key that only its owner's secret can produce, so it cannot be shared, and
the answers say just that.
"""

from __future__ import annotations

from mailstore.model import MailboxName
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.grammar.rights import ChangeAcl, GetAcl, ListRights, MyRights
from protocols.imap.responses import lines
from protocols.store_api import AccountApi

_OWNER = b"lrswipkxtecda"
"""All rights of RFC 4314 section 2.1, and "c" and "d", which stand for them in RFC 2086 (section 2.1.1)."""
_READER = b"lr"
_DONE = Answer(b"done")


def rights(account: AccountApi) -> bytes:
    """The session's rights in all of its mailboxes; an app password may be read-only."""
    return _READER if account.read_only else _OWNER


def my_rights_line(ctx: Context, name: str) -> bytes:
    """MYRIGHTS (section 3.8), also behind a line of LIST (RFC 8440 section 3)."""
    mine = rights(ctx.the_account())
    return lines.untagged(b"MYRIGHTS %s %s" % (lines.mailbox(name, ctx.utf8), mine))


async def my_rights(ctx: Context, request: MyRights) -> Answer:
    """MYRIGHTS."""
    await ctx.the_account().status(request.mailbox)
    ctx.output.put(my_rights_line(ctx, request.mailbox))
    return _DONE


async def _administered(ctx: Context, name: MailboxName) -> AccountApi:
    """The account, when the session has the right "a" to the mailbox (section 4)."""
    account = ctx.the_account()
    await account.status(name)
    if b"a" not in rights(account):
        raise Disallowed(b"only reading is allowed", b"NOPERM")
    return account


async def get_acl(ctx: Context, request: GetAcl) -> Answer:
    """GETACL: one entry, the owner's."""
    account = await _administered(ctx, request.mailbox)
    name = lines.mailbox(request.mailbox, ctx.utf8)
    owner = lines.astring(account.name.encode("utf-8"))
    ctx.output.put(lines.untagged(b"ACL %s %s %s" % (name, owner, _OWNER)))
    return _DONE


async def list_rights(ctx: Context, request: ListRights) -> Answer:
    """LISTRIGHTS: the owner always has all rights, others can be given none."""
    account = await _administered(ctx, request.mailbox)
    name = lines.mailbox(request.mailbox, ctx.utf8)
    always = _OWNER if request.identifier.lower() == account.name.encode("utf-8").lower() else b'""'
    identifier = lines.astring(request.identifier)
    ctx.output.put(lines.untagged(b"LISTRIGHTS %s %s %s" % (name, identifier, always)))
    return _DONE


async def change_acl(ctx: Context, request: ChangeAcl) -> Answer:
    """SETACL and DELETEACL."""
    await _administered(ctx, request.mailbox)
    raise Disallowed(b"mailboxes cannot be shared: only their owner holds the key", b"NOPERM")
