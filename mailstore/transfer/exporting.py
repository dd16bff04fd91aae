"""Export: everything an account has, its waiting mail included, in plain text, where its owner says.

Each mailbox is as it was when its turn came, but for messages that were expunged before they were read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstore.engine import Txn
from mailstore.errors import NoSuchMailbox, NoSuchMessage, StorageFailed
from mailstore.model import MailboxId, MailboxInfo, MessageId
from mailstore.opened_account import OpenedAccount, Wanted, opened_account
from mailstore.ops import mailboxes, quota
from mailstore.ops.content import read_span
from mailstore.ops.transfer import page_of_messages
from mailstore.progress import Progress
from mailstore.transfer.importing import MOST_NAMED, Within
from mailstore.transfer.target import Leaving, MailboxWriter, OutgoingFacts, Target

PAGE_MESSAGES = 500
"""Messages whose facts are read at once."""


@dataclass(slots=True)
class Exported:
    """What an export has done: ``messages`` and ``size_bytes`` are all that are there now."""

    mailboxes: int = 0
    messages: int = 0
    size_bytes: int = 0
    written: int = 0
    gone_meanwhile: int = 0
    damaged_count: int = 0
    damaged: list[str] = field(default_factory=list, repr=False)
    """Where the first messages were that cannot be read any more; all are counted."""


def export_mail(
    wanted: Wanted, target: Target, progress: Progress, within: Within, done: Exported, *, update: bool
) -> None:
    """Export the whole account; ``done`` says at any moment how far it has come.

    Raises:
        TargetUnusable: the place has something else in it. OSError: it cannot be written.
        AuthenticationFailed and what else :func:`opened_account` raises.
        Busy: mail that waits could not be filed.
    """
    with opened_account(wanted, writes=False) as account:
        with within():
            target.begin(account.record.account_id, update)
        account.file_waiting()
        _Exporting(account, target, progress, within, done).run()


class _Exporting:
    """One export of one account."""

    def __init__(
        self, account: OpenedAccount, target: Target, progress: Progress, within: Within, done: Exported
    ) -> None:
        self._account = account
        self._target = target
        self._progress = progress
        self._within = within
        self._done = done

    def run(self) -> None:
        """Export every mailbox, and say that it is all."""
        listed = self._account.database.read(0, mailboxes.list_mailboxes)
        self._progress.expect(self._account.database.read(0, quota.mail_used)[0])
        leaving = [one for info in listed.mailboxes if (one := self._mailbox(info)) is not None]
        subscribed = [info.name for info in listed.mailboxes if info.subscribed]
        with self._within():
            self._target.finish(leaving, sorted([*subscribed, *listed.orphan_subscriptions]))

    def _mailbox(self, info: MailboxInfo) -> Leaving | None:
        """Export one mailbox; None when it has been deleted."""
        database = self._account.database
        try:
            mailbox_id, leaving, size_bytes = database.read(0, _leaving, info)
        except NoSuchMailbox:
            return None
        self._done.mailboxes += 1
        with self._within():
            is_done = self._target.is_done(leaving)
        if is_done:
            self._done.messages += leaving.messages
            self._done.size_bytes += size_bytes
            self._progress.advance(size_bytes)
            return leaving
        with self._within():
            writer = self._target.mailbox(leaving)
        try:
            self._messages(mailbox_id, leaving, writer)
            with self._within():
                writer.commit()
        finally:
            with self._within():
                writer.close()
        return leaving

    def _messages(self, mailbox_id: MailboxId, leaving: Leaving, writer: MailboxWriter) -> None:
        after = 0
        while after + 1 < leaving.uid_next:
            page = self._account.database.read(0, page_of_messages, mailbox_id, after, PAGE_MESSAGES)
            for one in page:
                facts = OutgoingFacts(one.uid, one.flags, one.internal_date, one.size_bytes)
                if one.uid < leaving.uid_next:
                    self._message(leaving, writer, facts, one.message_id)
            self._account.give_way()
            if not page:
                return
            after = page[-1].uid

    def _message(
        self, leaving: Leaving, writer: MailboxWriter, facts: OutgoingFacts, message_id: MessageId
    ) -> None:
        self._progress.advance(facts.size_bytes)
        with self._within():
            has = writer.has(facts)
        if not has:
            try:
                data = self._account.database.read(0, read_span, message_id, 0, facts.size_bytes)
            except NoSuchMessage:
                self._done.gone_meanwhile += 1
                return
            except StorageFailed:
                self._note_damaged(f"{leaving.name!a}, UID {facts.uid}")
                return
            with self._within():
                writer.add(facts, data)
            self._done.written += 1
        self._done.messages += 1
        self._done.size_bytes += facts.size_bytes

    def _note_damaged(self, place: str) -> None:
        self._done.damaged_count += 1
        if len(self._done.damaged) < MOST_NAMED:
            self._done.damaged.append(place)


def _leaving(txn: Txn, info: MailboxInfo) -> tuple[MailboxId, Leaving, int]:
    now = mailboxes.status(txn, info.name)
    leaving = Leaving(
        info.name,
        info.special_use,
        info.subscribed,
        now.uid_validity,
        now.uid_next,
        now.highest_modseq,
        now.messages,
    )
    return now.mailbox_id, leaving, now.size_bytes
