"""Server and mailbox annotations (METADATA, RFC 5464). Entry names are compared without case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mailstore.engine import Txn
from mailstore.errors import LimitExceeded
from mailstore.model import MailboxId
from mailstore.names import normalised


def get(txn: Txn, mailbox_id: MailboxId | None) -> dict[str, bytes]:
    """All annotations of a mailbox, or with None of the account, by entry name."""
    rows = txn.rows(
        "SELECT entry, value FROM annotation WHERE ifnull(mailbox_id, 0) = ? ORDER BY entry",
        (mailbox_id or 0,),
    )
    return dict(rows)


def get_some(
    txn: Txn, names: Sequence[str], entries: Sequence[str], max_bytes: int
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
            (normalised(name), wanted),
        )
        found[name] = dict(rows)
        left -= sum(len(value) for value in found[name].values())
    return found


def set_values(
    txn: Txn, mailbox_id: MailboxId | None, values: Mapping[str, bytes | None], max_entries: int
) -> None:
    """Set annotations; None removes one. All or none.

    Raises:
        LimitExceeded: there would be more than ``max_entries``.
    """
    for entry, value in values.items():
        where = "ifnull(mailbox_id, 0) = ? AND entry = ?"
        txn.run(f"DELETE FROM annotation WHERE {where}", (mailbox_id or 0, entry.lower()))
        if value is not None:
            txn.run("INSERT INTO annotation VALUES(?, ?, ?)", (mailbox_id, entry.lower(), value))
    count = txn.value("SELECT count(*) FROM annotation WHERE ifnull(mailbox_id, 0) = ?", (mailbox_id or 0,))
    if count > max_entries:
        raise LimitExceeded("too many annotations")
