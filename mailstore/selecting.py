"""SELECT: what a session needs of a mailbox, in one transaction or, with new mail, two."""

from __future__ import annotations

from mailstore.errors import Busy, StorageFailed, StorageFull
from mailstore.model import MailboxName, Opened
from mailstore.open_account import OpenAccount
from mailstore.ops import mailboxes


async def select(account: OpenAccount, name: MailboxName, read_only: bool) -> Opened:
    """Open a mailbox for a session. Raises NoSuchMailbox."""
    opened = await account.read_filed(mailboxes.select, name, read_only, account.kept.get)
    account.kept.keep_opened(opened)
    if opened.recent and not read_only:
        # Only claiming \Recent has to write; it happens in the transaction that is answered from.
        try:
            opened = await account.write_on_the_way(mailboxes.select_and_claim, name, account.kept.get)
        except (Busy, StorageFull, StorageFailed):
            pass  # mail can be read even if nothing can be written; \Recent stays for another session
        else:
            account.kept.keep_opened(opened)
    return opened
