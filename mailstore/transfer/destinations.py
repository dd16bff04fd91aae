"""The mailboxes of an account that a source's mailboxes go into, in one transaction for all."""

from __future__ import annotations

from contextlib import suppress

from mailstore.engine import Txn
from mailstore.errors import LimitExceeded, MailboxExists, MailboxNameInvalid, SpecialUseTaken
from mailstore.model import MailboxId, MailboxName, SpecialUse
from mailstore.ops import mailboxes
from mailstore.ops.rows import require_mailbox
from mailstore.transfer.folders import destination, special_use
from mailstore.transfer.source import Reason, SourceMailbox


class _Names:
    """Which mailbox of the account each of the source becomes."""

    def __init__(self, txn: Txn) -> None:
        listed = mailboxes.list_mailboxes(txn).mailboxes
        self.there = {one.name: one.mailbox_id for one in listed}
        self._uses = {one.special_use: one.name for one in listed if one.special_use is not None}

    def find(self, mailbox: SourceMailbox) -> tuple[MailboxName, SpecialUse | None]:
        """Its name, and the use that it has. Raises MailboxNameInvalid."""
        use = SpecialUse.ARCHIVE if mailbox.is_view else special_use(mailbox.levels, mailbox.special_use)
        return destination(mailbox.levels, use, self._uses), use


def existing_mailboxes(txn: Txn, found: list[SourceMailbox]) -> list[MailboxId | Reason | None]:
    """Where each mailbox of a source would go: None where the mailbox would be made."""
    names = _Names(txn)
    places: list[MailboxId | Reason | None] = []
    for mailbox in found:
        try:
            places.append(names.there.get(names.find(mailbox)[0]))
        except MailboxNameInvalid:
            places.append(Reason.NAME)
    return places


def made_mailboxes(
    txn: Txn, found: list[SourceMailbox], max_mailboxes: int, max_subscriptions: int
) -> list[MailboxId | Reason | None]:
    """Where each mailbox of a source goes: made, and subscribed, where that is needed."""
    names = _Names(txn)
    places: list[MailboxId | Reason | None] = []
    for mailbox in found:
        try:
            name, use = names.find(mailbox)
            is_new = name not in names.there
            if is_new:
                _create(txn, name, use, max_mailboxes)
                names.there[name] = require_mailbox(txn, name)
        except MailboxNameInvalid:
            places.append(Reason.NAME)
        except LimitExceeded:
            places.append(Reason.TOO_MANY)
        else:
            if mailbox.subscribed or (mailbox.subscribed is None and is_new):
                with suppress(LimitExceeded):
                    mailboxes.subscribe(txn, name, max_subscriptions)
            places.append(names.there[name])
    return places


def _create(txn: Txn, name: MailboxName, use: SpecialUse | None, max_mailboxes: int) -> None:
    try:
        mailboxes.create(txn, name, use, max_mailboxes)
    except MailboxExists:
        return  # made along with a mailbox below it
    except SpecialUseTaken:
        mailboxes.create(txn, name, None, max_mailboxes)
