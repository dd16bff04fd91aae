"""Mailboxes: list, create, delete, rename, subscribe, select, status."""

from __future__ import annotations

from collections.abc import Sequence

from mailstore.engine import Row, Txn
from mailstore.errors import (
    InboxStays,
    LimitExceeded,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    OwnInferior,
    SpecialUseTaken,
)
from mailstore.kept import Known
from mailstore.model import (
    HIERARCHY_DELIMITER,
    INBOX,
    Delta,
    MailboxId,
    MailboxInfo,
    MailboxList,
    MailboxName,
    MailboxStatus,
    ModSeq,
    Opened,
    SpecialUse,
    Uid,
    UidValidity,
)
from mailstore.names import for_creation, superiors
from mailstore.ops.listing import Extent, listing
from mailstore.ops.messages import move_all, remove_all
from mailstore.ops.metadata import remove_of_mailbox
from mailstore.ops.rows import delta, require_mailbox
from mailstore.schema import new_object_id, next_uid_validity
from mailstore.uidset import UidSet

_STATUS = (
    "SELECT id, messages, uid_next - 1 - recent_uid, unseen, deleted, size_bytes, uid_next, uid_validity,"
    " highest_modseq, object_id FROM mailbox WHERE "
)


def _status(txn: Txn, row: Row) -> MailboxStatus:
    mailbox_id, messages, newest, unseen, deleted, size_bytes, uid_next, validity, modseq, object_id = row
    recent = 0
    if newest > 0 and messages:
        recent = txn.value(
            "SELECT count(*) FROM placed WHERE mailbox_id = ? AND uid >= ?", (mailbox_id, uid_next - newest)
        )
    return MailboxStatus(
        MailboxId(mailbox_id),
        messages,
        recent,
        unseen,
        deleted,
        size_bytes,
        Uid(uid_next),
        UidValidity(validity),
        ModSeq(modseq),
        object_id,
    )


def status(txn: Txn, name: MailboxName) -> MailboxStatus:
    """Counters of one mailbox.

    Raises:
        NoSuchMailbox: there is none.
    """
    row = txn.one(_STATUS + "name = ?", (name,))
    if row is None:
        raise NoSuchMailbox("no such mailbox")
    return _status(txn, row)


def statuses(txn: Txn, names: Sequence[MailboxName]) -> dict[MailboxName, MailboxStatus]:
    """Counters of those mailboxes among ``names`` that exist."""
    found = {}
    for name in names:
        row = txn.one(_STATUS + "name = ?", (name,))
        if row is not None:
            found[name] = _status(txn, row)
    return found


def list_mailboxes(txn: Txn) -> MailboxList:
    """All mailboxes and subscriptions of the account, INBOX first, then by name."""
    rows = txn.rows("SELECT id, name, special_use, object_id FROM mailbox")
    subscribed = {name for (name,) in txn.rows("SELECT name FROM subscription")}
    parents: set[str] = set()
    for row in rows:
        parents.update(superiors(row[1]))
    infos = [
        MailboxInfo(
            MailboxId(mailbox_id),
            name,
            SpecialUse(use) if use else None,
            name in subscribed,
            name in parents,
            object_id,
        )
        for mailbox_id, name, use, object_id in rows
    ]
    infos.sort(key=lambda info: (info.name != INBOX, info.name))
    orphans = sorted(subscribed - {info.name for info in infos})
    return MailboxList(tuple(infos), tuple(orphans))


def _insert(txn: Txn, name: MailboxName, use: SpecialUse | None) -> None:
    txn.run(
        "INSERT INTO mailbox(name, object_id, special_use, uid_validity) VALUES(?, ?, ?, ?)",
        (name, new_object_id("F"), use.value if use else None, next_uid_validity(txn)),
    )


def create(txn: Txn, name: MailboxName, use: SpecialUse | None, max_mailboxes: int) -> MailboxStatus:
    """Create a mailbox and the superiors it lacks (RFC 3501 section 6.3.3).

    Raises:
        MailboxNameInvalid, MailboxExists, LimitExceeded.
        SpecialUseTaken: another mailbox has the attribute (RFC 6154 section 3).
    """
    name = for_creation(name)
    if txn.value("SELECT 1 FROM mailbox WHERE name = ?", (name,)):
        raise MailboxExists("the mailbox exists")
    if use and txn.value("SELECT 1 FROM mailbox WHERE special_use = ?", (use.value,)):
        raise SpecialUseTaken("another mailbox has this special use")
    missing = [
        above for above in superiors(name) if not txn.value("SELECT 1 FROM mailbox WHERE name = ?", (above,))
    ]
    if txn.value("SELECT count(*) FROM mailbox") + len(missing) + 1 > max_mailboxes:
        raise LimitExceeded("too many mailboxes")
    for above in missing:
        _insert(txn, above, None)
    _insert(txn, name, use)
    return status(txn, name)


def delete(txn: Txn, name: MailboxName) -> None:
    """Delete a mailbox and what is in it (RFC 3501 section 6.3.4).

    Raises:
        NoSuchMailbox: there is none.
        InboxStays: it is INBOX.
        MailboxHasChildren: its inferiors have to go first.
    """
    if name == INBOX:
        raise InboxStays("INBOX cannot be deleted")
    mailbox_id = require_mailbox(txn, name)
    if _children(txn, name):
        raise MailboxHasChildren("the mailbox has inferiors")
    remove_all(txn, mailbox_id)
    remove_of_mailbox(txn, mailbox_id)
    txn.run("DELETE FROM mailbox WHERE id = ?", (mailbox_id,))


def _children(txn: Txn, name: MailboxName) -> list[tuple[MailboxId, str]]:
    prefix = name + HIERARCHY_DELIMITER
    return [
        (MailboxId(mailbox_id), child)
        for mailbox_id, child in txn.rows(
            "SELECT id, name FROM mailbox WHERE substr(name, 1, ?) = ?", (len(prefix), prefix)
        )
    ]


def rename(txn: Txn, old: MailboxName, new: MailboxName, max_mailboxes: int) -> None:
    """Rename a mailbox with its inferiors; INBOX hands over its messages and stays, empty.

    RFC 3501 section 6.3.5. MAILBOXID and UIDs stay with a renamed mailbox (RFC 8474 section 4).

    Raises:
        NoSuchMailbox, MailboxExists, MailboxNameInvalid, OwnInferior, LimitExceeded.
    """
    new = for_creation(new)
    mailbox_id = require_mailbox(txn, old)
    if txn.value("SELECT 1 FROM mailbox WHERE name = ?", (new,)):
        raise MailboxExists("the new name is taken")
    if old == INBOX:
        created = create(txn, new, None, max_mailboxes)
        move_all(txn, mailbox_id, created.mailbox_id)
        return
    if new.startswith(old + HIERARCHY_DELIMITER):
        raise OwnInferior("a mailbox cannot become its own inferior")
    pairs = [(mailbox_id, new)]
    pairs += [
        (child_id, for_creation(MailboxName(new + child[len(old) :])))
        for child_id, child in _children(txn, old)
    ]
    for _, name in pairs[1:]:
        if txn.value("SELECT 1 FROM mailbox WHERE name = ?", (name,)):
            raise MailboxExists("the new name of an inferior is taken")
    parent = superiors(new)
    if parent and not txn.value("SELECT 1 FROM mailbox WHERE name = ?", (parent[-1],)):
        create(txn, parent[-1], None, max_mailboxes)
    txn.many("UPDATE mailbox SET name = ? WHERE id = ?", [(name, one) for one, name in pairs])


def subscribe(txn: Txn, name: MailboxName, max_subscriptions: int) -> None:
    """Add a name to the subscriptions; the mailbox need not exist (RFC 3501 section 6.3.6).

    Raises:
        MailboxNameInvalid: no mailbox could have this name.
        LimitExceeded: too many subscriptions.
    """
    name = for_creation(name)
    if txn.value("SELECT 1 FROM subscription WHERE name = ?", (name,)):
        return
    if txn.value("SELECT count(*) FROM subscription") >= max_subscriptions:
        raise LimitExceeded("too many subscriptions")
    txn.run("INSERT INTO subscription VALUES(?)", (name,))


def unsubscribe(txn: Txn, name: MailboxName) -> None:
    """Remove a name from the subscriptions; a name that is not there is no error."""
    txn.run("DELETE FROM subscription WHERE name = ?", (name,))


def select(txn: Txn, name: MailboxName, read_only: bool, known: Known) -> Opened:
    """Open a mailbox for a session, without claiming ``\\Recent``; ``known`` tells how it once was.

    Raises:
        NoSuchMailbox: there is none.
    """
    found = status(txn, name)
    mailbox_id = found.mailbox_id
    now = Extent(found.highest_modseq, found.uid_next, found.messages)
    uids = listing(txn, mailbox_id, now, known((mailbox_id, ()))).uids
    unseen = txn.value(
        "SELECT min(uid) FROM placed INDEXED BY placed_unseen WHERE mailbox_id = ? AND flags & 1 = 0",
        (mailbox_id,),
    )
    recent = UidSet.of(uids[len(uids) - found.recent :]) if found.recent else UidSet()
    keywords = txn.rows("SELECT name FROM keyword WHERE mailbox_id = ? ORDER BY name", (mailbox_id,))
    return Opened(
        mailbox_id,
        name,
        read_only,
        found,
        uids,
        Uid(unseen) if unseen is not None else None,
        tuple(keyword for (keyword,) in keywords),
        recent,
    )


def select_and_claim(txn: Txn, name: MailboxName, known: Known) -> Opened:
    """Open a mailbox for reading and writing; what is ``\\Recent`` is so for this session only.

    Raises:
        NoSuchMailbox: there is none.
    """
    opened = select(txn, name, False, known)
    claim_recent_up_to(txn, opened.mailbox_id, opened.status.uid_next)
    return opened


def claim_recent_up_to(txn: Txn, mailbox_id: MailboxId, uid_next: Uid) -> Uid:
    """Record that a session is told of messages below ``uid_next`` (``\\Recent``, RFC 3501 section 2.3.2).

    Returns the largest UID that another session has been told of: those above are this session's.
    """
    before = recent_claimed_up_to(txn, mailbox_id)
    if before < uid_next - 1:
        txn.run("UPDATE mailbox SET recent_uid = ? WHERE id = ?", (uid_next - 1, mailbox_id))
    return before


def recent_claimed_up_to(txn: Txn, mailbox_id: MailboxId) -> Uid:
    """The largest UID that some session has been told of as ``\\Recent``; 0 when the mailbox is gone."""
    return Uid(txn.value("SELECT max(recent_uid) FROM mailbox WHERE id = ?", (mailbox_id,)) or 0)


def modseqs(txn: Txn) -> dict[MailboxId, int]:
    """The highest modification sequence of every mailbox: the cheap answer to "what changed?"."""
    return {MailboxId(one): modseq for one, modseq in txn.rows("SELECT id, highest_modseq FROM mailbox")}


def modseqs_and_last_changes(
    txn: Txn, known: dict[MailboxId, int], listened: frozenset[MailboxId | None]
) -> tuple[dict[MailboxId, int], dict[MailboxId, Delta]]:
    """All modseqs and, where they differ from ``known``, the last change of mailboxes with listeners."""
    found = modseqs(txn)
    changes = {
        mailbox_id: delta(txn, mailbox_id, ModSeq(modseq - 1))
        for mailbox_id, modseq in found.items()
        if mailbox_id in listened and modseq != known.get(mailbox_id)
    }
    return found, changes


def restored(txn: Txn) -> int | None:
    """Which restore the database came from; None if from none."""
    found: int | None = txn.value("SELECT value FROM setting WHERE name = 'restored'")
    return found


def after_restore(txn: Txn, restore_id: int) -> None:
    """Give every mailbox a new UIDVALIDITY, once for each restore (RFC 3501 section 2.3.1.1).

    Clients may know UIDs of messages that arrived after the restored state.
    """
    if restored(txn) == restore_id:
        return
    for (mailbox_id,) in txn.rows("SELECT id FROM mailbox ORDER BY id"):
        txn.run("UPDATE mailbox SET uid_validity = ? WHERE id = ?", (next_uid_validity(txn), mailbox_id))
    txn.run("INSERT OR REPLACE INTO setting VALUES('restored', ?)", (restore_id,))
