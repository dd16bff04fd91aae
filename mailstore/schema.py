"""Numbered migrations of ``mail.db``; run at unlock, never edited later.

Each is one transaction, or, where it goes over all messages, one for each batch of them: it says whether
there is more to do, and notes in the database how far it has come.

``SCHEMA_VERSION`` is what this program writes. ``PRAGMA user_version`` holds a database's version;
a database above ``SCHEMA_VERSION`` belongs to a newer program and is refused.

History:
    1  mailboxes, messages in zstd frames, flags and modseq, remembered expunges, filed ids
    2  sort keys by i;unicode-casemap, a group's name where a group comes first (``sort_keys_again.py``)
    3  header fields ready to send, of messages that are filed from now on
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mailstore.engine import Database, Txn
from mailstore.errors import TooNew
from mailstore.model import SpecialUse
from mailstore.sort_keys_again import compute_again

SCHEMA_VERSION = 3

DEFAULT_MAILBOXES: tuple[tuple[str, SpecialUse | None], ...] = (
    ("INBOX", None),
    ("Archive", SpecialUse.ARCHIVE),
    ("Drafts", SpecialUse.DRAFTS),
    ("Junk", SpecialUse.JUNK),
    ("Sent", SpecialUse.SENT),
    ("Trash", SpecialUse.TRASH),
)

_V1 = (
    """CREATE TABLE setting(
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE mailbox(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        object_id TEXT NOT NULL UNIQUE,
        special_use TEXT UNIQUE,
        uid_validity INTEGER NOT NULL,
        uid_next INTEGER NOT NULL DEFAULT 1,
        highest_modseq INTEGER NOT NULL DEFAULT 1,
        recent_uid INTEGER NOT NULL DEFAULT 0,  -- largest UID that some session has been told of
        messages INTEGER NOT NULL DEFAULT 0,
        unseen INTEGER NOT NULL DEFAULT 0,
        deleted INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE TABLE subscription(name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    """CREATE TABLE keyword(
        mailbox_id INTEGER NOT NULL REFERENCES mailbox ON DELETE CASCADE,
        name TEXT NOT NULL COLLATE NOCASE,
        PRIMARY KEY(mailbox_id, name)
    ) STRICT, WITHOUT ROWID""",
    # What belongs to a message, whichever mailboxes it is in.
    """CREATE TABLE message(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        object_id TEXT NOT NULL,
        thread_id TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        header_bytes INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX message_by_thread ON message(thread_id)",
    "CREATE INDEX message_by_object ON message(object_id)",
    # Ready to send or to sort by, computed when the message was filed.
    """CREATE TABLE message_meta(
        message_id INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
        envelope BLOB NOT NULL,
        body BLOB NOT NULL,
        bodystructure BLOB NOT NULL,
        parts BLOB NOT NULL,
        sent_date INTEGER,       -- Date field, seconds since the epoch, UTC
        sent_day INTEGER,        -- Date field's own calendar day, in days since the epoch
        sort_subject TEXT NOT NULL,
        sort_from TEXT NOT NULL,
        sort_to TEXT NOT NULL,
        sort_cc TEXT NOT NULL,
        display_from TEXT NOT NULL,
        display_to TEXT NOT NULL,
        is_reply INTEGER NOT NULL,      -- the base subject lost a mark of reply or forward (RFC 5256)
        own_hash BLOB,                  -- of the Message-ID, as in the table reference
        reference_hashes BLOB NOT NULL, -- 16 bytes each: References or In-Reply-To, oldest first
        preview TEXT NOT NULL           -- beginning of the text (RFC 8970)
    ) STRICT""",
    # id = message_id << 16 | frame number; header frames first, then body frames.
    "CREATE TABLE content(id INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT",
    # A message in a mailbox: narrow, because FETCH FLAGS walks all of it.
    """CREATE TABLE placed(
        mailbox_id INTEGER NOT NULL REFERENCES mailbox,
        uid INTEGER NOT NULL,
        modseq INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        keywords TEXT,           -- names separated by one space, NULL when there are none
        message_id INTEGER NOT NULL REFERENCES message,
        size_bytes INTEGER NOT NULL,
        internal_date INTEGER NOT NULL,
        save_date INTEGER NOT NULL,
        PRIMARY KEY(mailbox_id, uid)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX placed_by_modseq ON placed(mailbox_id, modseq)",
    "CREATE INDEX placed_by_message ON placed(message_id)",
    "CREATE INDEX placed_unseen ON placed(mailbox_id, uid) WHERE flags & 1 = 0",
    "CREATE INDEX placed_deleted ON placed(mailbox_id, uid) WHERE flags & 8 = 8",
    """CREATE TABLE expunged(
        mailbox_id INTEGER NOT NULL REFERENCES mailbox ON DELETE CASCADE,
        modseq INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        PRIMARY KEY(mailbox_id, modseq, uid)
    ) STRICT, WITHOUT ROWID""",
    # Hashes of Message-ID, In-Reply-To and References, for THREADID (RFC 8474).
    """CREATE TABLE reference(
        hash BLOB PRIMARY KEY,
        thread_id TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX reference_by_thread ON reference(thread_id)",
    # Server (mailbox_id NULL) and mailbox annotations (METADATA, RFC 5464); entry in lower case.
    """CREATE TABLE annotation(
        mailbox_id INTEGER REFERENCES mailbox ON DELETE CASCADE,
        entry TEXT NOT NULL,
        value BLOB NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX annotation_by_entry ON annotation(ifnull(mailbox_id, 0), entry)",
    """CREATE TABLE filed(
        sealed_id TEXT PRIMARY KEY,
        filed_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TRIGGER placed_added AFTER INSERT ON placed BEGIN
        UPDATE mailbox SET messages = messages + 1, unseen = unseen + (NEW.flags & 1 = 0),
            deleted = deleted + (NEW.flags & 8 = 8), size_bytes = size_bytes + NEW.size_bytes
        WHERE id = NEW.mailbox_id; END""",
    """CREATE TRIGGER placed_removed AFTER DELETE ON placed BEGIN
        UPDATE mailbox SET messages = messages - 1, unseen = unseen - (OLD.flags & 1 = 0),
            deleted = deleted - (OLD.flags & 8 = 8), size_bytes = size_bytes - OLD.size_bytes
        WHERE id = OLD.mailbox_id; END""",
    """CREATE TRIGGER placed_flagged AFTER UPDATE OF flags ON placed
        WHEN OLD.flags & 9 <> NEW.flags & 9 BEGIN
        UPDATE mailbox SET unseen = unseen + (NEW.flags & 1 = 0) - (OLD.flags & 1 = 0),
            deleted = deleted + (NEW.flags & 8 = 8) - (OLD.flags & 8 = 8)
        WHERE id = NEW.mailbox_id; END""",
)


def new_object_id(prefix: str) -> str:
    """A random, never reused object id (RFC 8474 section 7: letters, digits, ``-`` and ``_``)."""
    return prefix + secrets.token_hex(16)


def next_uid_validity(txn: Txn) -> int:
    """A UIDVALIDITY above all ever given in this account (RFC 3501 section 2.3.1.1)."""
    last = txn.value("SELECT value FROM setting WHERE name = 'uid_validity'") or 0
    fresh = max(int(last) + 1, txn.now)
    txn.run(
        "INSERT INTO setting VALUES('uid_validity', ?)"
        " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (fresh,),
    )
    return fresh


def _to_version_1(txn: Txn) -> bool:
    for statement in _V1:
        txn.run(statement)
    for name, use in DEFAULT_MAILBOXES:
        txn.run(
            "INSERT INTO mailbox(name, object_id, special_use, uid_validity) VALUES(?, ?, ?, ?)",
            (name, new_object_id("F"), use.value if use else None, next_uid_validity(txn)),
        )
        txn.run("INSERT INTO subscription VALUES(?)", (name,))
    return False


def _to_version_3(txn: Txn) -> bool:
    # A table of its own: rows that lie close together are fewer pages to decrypt.
    txn.run(
        """CREATE TABLE kept_fields(
            message_id INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
            present INTEGER NOT NULL,  -- which fields there are, as bits
            octets BLOB NOT NULL
        ) STRICT"""
    )
    return False


MIGRATIONS: tuple[Callable[[Txn], bool], ...] = (_to_version_1, compute_again, _to_version_3)
"""The function that leads to each version; it returns whether it has to be called again."""


def version(database: Database) -> int:
    """The schema version of an open database; 0 when it is new."""
    return int(database.pragma("PRAGMA user_version")[0][0])


def _step(txn: Txn, target: int) -> bool:
    """Migrate towards a version; returns whether there is more to do."""
    if txn.value("PRAGMA user_version") >= target:
        return False  # another process migrated while this one waited for the lock
    if MIGRATIONS[target - 1](txn):
        return True
    txn.run(f"PRAGMA user_version={target}")
    return False


def migrate(database: Database, now: int) -> None:
    """Bring the database to ``SCHEMA_VERSION``. An interrupted migration continues the next time.

    ``now`` is in seconds since the epoch.

    Raises:
        TooNew: the database was written by a newer program.
    """
    found = version(database)
    if found > SCHEMA_VERSION:
        raise TooNew("the database belongs to a newer version of this program")
    for target in range(found + 1, SCHEMA_VERSION + 1):
        while database.write(now, _step, target):
            pass
