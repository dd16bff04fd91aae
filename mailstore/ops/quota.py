"""What an account uses of its limits (QUOTA, RFC 9208): the octets of its messages and annotations."""

from __future__ import annotations

from mailstore.engine import Txn
from mailstore.errors import OverQuota
from mailstore.model import Quota, QuotaLimits

_COUNTER = "annotation_bytes"
"""The setting with the octets of all annotations, names and values, so that nobody reads them to know it."""

_ANNOTATION_BYTES = (
    f"coalesce((SELECT value FROM setting WHERE name = '{_COUNTER}'),"
    " (SELECT sum(length(entry) + length(value)) FROM annotation), 0)"
)
"""SQLite stops at the first of these that is not NULL."""


def mail_used(txn: Txn) -> tuple[int, int]:
    """Octets and number of the messages in all mailboxes; a copy counts like an original."""
    row = txn.one("SELECT coalesce(sum(size_bytes), 0), coalesce(sum(messages), 0) FROM mailbox")
    assert row is not None
    return int(row[0]), int(row[1])


def used(txn: Txn) -> tuple[int, int]:
    """As :func:`mail_used`, and the octets of the annotations besides: what the limits are compared with."""
    row = txn.one(
        f"SELECT coalesce(sum(size_bytes), 0) + {_ANNOTATION_BYTES}, coalesce(sum(messages), 0) FROM mailbox"
    )
    assert row is not None
    return int(row[0]), int(row[1])


def quota(txn: Txn, limits: QuotaLimits) -> Quota:
    """Use beside the account's limits (RFC 9208)."""
    used_bytes, used_messages = used(txn)
    return Quota(used_bytes, limits.max_bytes, used_messages, limits.max_messages)


def check_quota(txn: Txn, more_bytes: int, more_messages: int, limits: QuotaLimits) -> None:
    """Refuse what would pass the account's limits.

    Raises:
        OverQuota: it would.
    """
    if limits.max_bytes is None and limits.max_messages is None:
        return
    used_bytes, used_messages = used(txn)
    if limits.max_bytes is not None and used_bytes + more_bytes > limits.max_bytes:
        raise OverQuota("the storage limit is reached")
    if limits.max_messages is not None and used_messages + more_messages > limits.max_messages:
        raise OverQuota("the message limit is reached")


def annotation_bytes(txn: Txn) -> int:
    """Octets of all annotations. They are counted where nobody has noted it yet."""
    return int(txn.value(f"SELECT {_ANNOTATION_BYTES}"))


def note_annotation_bytes(txn: Txn, size_bytes: int) -> None:
    """Note what :func:`annotation_bytes` is from now on: for whoever changes or removes annotations."""
    txn.run(
        "INSERT INTO setting VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (_COUNTER, size_bytes),
    )


def forget_annotation_bytes(txn: Txn) -> None:
    """Have the annotations counted again when somebody wants to know."""
    txn.run("DELETE FROM setting WHERE name = ?", (_COUNTER,))
