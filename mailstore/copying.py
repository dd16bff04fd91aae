"""Copy a mailbox of one database into a new mailbox of another, as a restore of single mailboxes needs it.

Blocks; for threads. The two databases may belong to different states of one account, or to two accounts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from mailstore.engine import Database, Txn
from mailstore.errors import MailboxExists
from mailstore.limits import StoreLimits
from mailstore.model import MailboxName
from mailstore.ops import mailboxes
from mailstore.ops.content import read_span
from mailstore.ops.messages import PlacedMessage, add_messages, placed_messages
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare

BATCH_BYTES = 16 * 1024 * 1024
"""Messages are copied until they make so many bytes, then written in one transaction."""

_NAME_TRIES = 100


@dataclass(frozen=True, slots=True)
class CopiedMailbox:
    """The new mailbox and how many messages are in it."""

    mailbox: MailboxName = field(repr=False)
    messages: int


def copy_mailbox(
    source: Database, target: Database, mailbox: MailboxName, title: MailboxName, limits: StoreLimits
) -> CopiedMailbox:
    """Append the messages of ``mailbox`` with their flags and internal dates to a new, subscribed mailbox.

    It is called ``title``, or ``title (2)`` and so on where there is one. ``source`` is only read, and has
    the schema of today.

    Raises:
        NoSuchMailbox: ``source`` has none of that name; nothing was made.
        MailboxNameInvalid, LimitExceeded: the new mailbox cannot be made.
        StorageFull, StorageFailed: batches that were written stay.
    """
    found = source.read(0, _placed, mailbox)
    now_s = int(time.time())
    name = target.write(now_s, _new_mailbox, title, limits)
    for batch in _batches(source, found):
        target.write(now_s, _append, name, batch)
    return CopiedMailbox(name, len(found))


def _placed(txn: Txn, mailbox: MailboxName) -> list[PlacedMessage]:
    return placed_messages(txn, require_mailbox(txn, mailbox))


def _new_mailbox(txn: Txn, title: MailboxName, limits: StoreLimits) -> MailboxName:
    for number in range(1, _NAME_TRIES):
        name = title if number == 1 else MailboxName(f"{title} ({number})")
        try:
            mailboxes.create(txn, name, None, limits.max_mailboxes)
        except MailboxExists:
            continue
        mailboxes.subscribe(txn, name, limits.max_subscriptions)
        return name
    raise MailboxExists


def _append(txn: Txn, name: MailboxName, batch: list[ReadyMessage]) -> None:
    add_messages(txn, require_mailbox(txn, name), batch)


def _batches(source: Database, found: list[PlacedMessage]) -> Iterator[list[ReadyMessage]]:
    """The messages themselves, some ``BATCH_BYTES`` at a time."""
    batch: list[ReadyMessage] = []
    size_bytes = 0
    for placed in found:
        data = source.read(0, read_span, placed.message_id, 0, placed.size_bytes)
        batch.append(ReadyMessage(prepare(data), placed.flags, placed.internal_date))
        size_bytes += placed.size_bytes
        if size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
