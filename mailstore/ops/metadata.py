"""Server and mailbox annotations (METADATA, RFC 5464). Entry names are compared without case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailstore.engine import Txn
from mailstore.errors import LimitExceeded
from mailstore.model import MailboxId, MailboxName, QuotaLimits
from mailstore.ops.quota import annotation_bytes, check_quota, note_annotation_bytes


@dataclass(frozen=True, slots=True)
class AnnotationLimits:
    """What the annotations of one account may be.

    ``max_entries`` is for each mailbox and for the account itself; ``max_bytes`` are the octets of all of
    them, names and values; ``quota_bytes`` is the account's storage limit, None without one.
    """

    max_entries: int
    max_bytes: int
    quota_bytes: int | None


def get(txn: Txn, mailbox_id: MailboxId | None) -> dict[str, bytes]:
    """All annotations of a mailbox, or with None of the account, by entry name."""
    rows = txn.rows(
        "SELECT entry, value FROM annotation WHERE ifnull(mailbox_id, 0) = ? ORDER BY entry",
        (mailbox_id or 0,),
    )
    return dict(rows)


def get_some(
    txn: Txn, names: Sequence[MailboxName], entries: Sequence[str], max_bytes: int
) -> dict[str, dict[str, bytes]]:
    """Those of ``entries`` that each mailbox has, for as many mailboxes as fit, one at least.

    ``names`` come in the order of the answer; mailboxes that do not exist have no entries.
    """
    found: dict[str, dict[str, bytes]] = {}
    left = max_bytes
    wanted = json.dumps([entry.lower() for entry in entries])
    for name in names:
        if left <= 0:
            break
        rows = txn.rows(
            "SELECT a.entry, a.value FROM mailbox AS b JOIN annotation AS a ON a.mailbox_id = b.id"
            " WHERE b.name = ? AND a.entry IN (SELECT value FROM json_each(?))",
            (name, wanted),
        )
        found[name] = dict(rows)
        left -= sum(len(value) for value in found[name].values())
    return found


def set_values(
    txn: Txn, mailbox_id: MailboxId | None, values: Mapping[str, bytes | None], limits: AnnotationLimits
) -> dict[str, int]:
    """Set annotations; None removes one. All or none.

    Gives the new versions of those that are set. What makes nothing more or larger is never refused.

    Raises:
        LimitExceeded: there would be more of them, or more octets of them, than ``limits`` allow.
        OverQuota: the account would be larger than its storage limit.
    """
    total_bytes = annotation_bytes(txn)
    count, size_bytes = _extent(txn, mailbox_id)
    versions: dict[str, int] = {}
    at = _last_version(txn)
    for entry, value in values.items():
        # A version is the row's rowid: it is in the index and takes no extra space.
        at += 1
        where = "ifnull(mailbox_id, 0) = ? AND entry = ?"
        txn.run(f"DELETE FROM annotation WHERE {where}", (mailbox_id or 0, entry.lower()))
        if value is not None:
            txn.run(
                "INSERT INTO annotation(rowid, mailbox_id, entry, value) VALUES(?, ?, ?, ?)",
                (at, mailbox_id, entry.lower(), value),
            )
            versions[entry.lower()] = at
    txn.run(
        "INSERT INTO setting VALUES('annotation_version', ?)"
        " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (at,),
    )
    new_count, new_bytes = _extent(txn, mailbox_id)
    total_bytes += new_bytes - size_bytes
    note_annotation_bytes(txn, total_bytes)
    if new_count > max(count, limits.max_entries):
        raise LimitExceeded("too many annotations")
    if new_bytes > size_bytes:
        if total_bytes > limits.max_bytes:
            raise LimitExceeded("too many octets of annotations")
        check_quota(txn, 0, 0, QuotaLimits(limits.quota_bytes, None))
    return versions


def remove_of_mailbox(txn: Txn, mailbox_id: MailboxId) -> None:
    """Remove all annotations of a mailbox."""
    total_bytes = annotation_bytes(txn)
    count, size_bytes = _extent(txn, mailbox_id)
    if count:
        txn.run("DELETE FROM annotation WHERE ifnull(mailbox_id, 0) = ?", (mailbox_id,))
        note_annotation_bytes(txn, total_bytes - size_bytes)


def _extent(txn: Txn, mailbox_id: MailboxId | None) -> tuple[int, int]:
    """Number and octets of the annotations of a mailbox, or with None of the account."""
    row = txn.one(
        "SELECT count(*), coalesce(sum(length(entry) + length(value)), 0) FROM annotation"
        " WHERE ifnull(mailbox_id, 0) = ?",
        (mailbox_id or 0,),
    )
    assert row is not None
    return int(row[0]), int(row[1])


def _last_version(txn: Txn) -> int:
    """The last version given in this account; rows of older programs have numbers of their own."""
    noted = txn.value("SELECT value FROM setting WHERE name = 'annotation_version'") or 0
    return max(int(noted), int(txn.value("SELECT max(rowid) FROM annotation") or 0))


def versions(txn: Txn, since: int) -> tuple[int, dict[MailboxId | None, dict[str, int]] | None]:
    """The last version given, and all versions in use unless that is ``since``."""
    last = _last_version(txn)
    if last == since:
        return last, None
    found: dict[MailboxId | None, dict[str, int]] = {}
    rows = txn.rows(
        "SELECT ifnull(mailbox_id, 0), entry, rowid FROM annotation INDEXED BY annotation_by_entry"
    )
    for mailbox_id, entry, version in rows:
        found.setdefault(MailboxId(mailbox_id) if mailbox_id else None, {})[entry] = version
    return last, found
