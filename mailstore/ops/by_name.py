"""What is done to a mailbox that a session names and has not selected. Inside a transaction."""

from collections.abc import Mapping, Sequence

from mailstore.engine import Txn
from mailstore.model import AppendResult, MailboxName, QuotaLimits, SectionRead, Uid, UidValidity
from mailstore.ops import content, messages, metadata
from mailstore.ops.quota import check_quota
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage


def read_section(
    txn: Txn, name: MailboxName, uid_validity: UidValidity, uid: Uid, section: SectionRead
) -> bytes | None:
    """A section of a message, None when there is no such thing. Raises NoSuchMailbox."""
    return content.read_section(txn, require_mailbox(txn, name), uid_validity, uid, section)


def annotations(txn: Txn, name: MailboxName | None) -> dict[str, bytes]:
    """Those of a mailbox, or with None of the account (RFC 5464). Raises NoSuchMailbox."""
    return metadata.get(txn, None if name is None else require_mailbox(txn, name))


def annotate(
    txn: Txn, name: MailboxName | None, values: Mapping[str, bytes | None], limits: metadata.AnnotationLimits
) -> dict[str, int]:
    """Set or remove annotations; gives the versions of those that are set.

    Raises NoSuchMailbox, LimitExceeded, OverQuota.
    """
    mailbox_id = None if name is None else require_mailbox(txn, name)
    return metadata.set_values(txn, mailbox_id, values, limits)


def append(txn: Txn, name: MailboxName, filed: Sequence[ReadyMessage], limits: QuotaLimits) -> AppendResult:
    """Add messages, all or none. Raises NoSuchMailbox, OverQuota."""
    mailbox_id = require_mailbox(txn, name)
    check_quota(txn, sum(one.prepared.size_bytes for one in filed), len(filed), limits)
    validity, uids = messages.add_messages(txn, mailbox_id, filed)
    return AppendResult(mailbox_id, validity, uids)
