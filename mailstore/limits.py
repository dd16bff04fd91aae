"""The store's named limits and times, each with its default; configuration may change any of them."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_MESSAGE_BYTES = 250 * 1024 * 1024
"""The largest message that can still be opened once delivery has added its fields, sealed and padded it."""


@dataclass(frozen=True, slots=True)
class DirectoryLimits:
    """Bounds on what a process asks of a directory in PostgreSQL, and how long it waits."""

    connections: int = 4
    """Most connections of one process for questions and changes; one more listens for changes."""

    connect_timeout_s: float = 5.0
    """Longest wait for a new connection, and for one of the process's own to become free."""

    query_timeout_s: float = 5.0
    """Longest wait for the answer to one statement."""

    retry_max_s: float = 10.0
    """Longest pause until it is tried again whether PostgreSQL answers; it begins at a 20th, and doubles."""

    heartbeat_s: float = 15.0
    """Seconds without news after which the listening connection asks whether it still works."""

    cached_records: int = 5_000
    """Ids and addresses of accounts that were asked for last, with which a process goes on while PostgreSQL
    is away; an account takes two, and some 3 kB."""


@dataclass(frozen=True, slots=True)
class MoveLimits:
    """Bounds on the move of an account from one node to another."""

    silence_max_s: float = 60.0
    """Seconds without a step of the other node after which a move is given up."""

    closed_max_s: float = 60.0
    """Seconds for which an account is closed until the target has taken it; then it is opened again."""

    late_max_bytes: int = 1024 * 1024
    """What may have come since the target copied, in bytes of snapshots, when the account is closed; if it is
    more, the target copies once more before that."""

    rounds_max: int = 5
    """How often the target copies at most before the account is closed."""

    at_once: int = 2
    """Accounts that a node copies at a time."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds on one account and on what it costs a worker process."""

    max_message_bytes: int = 64 * 1024 * 1024
    """Largest message that is delivered or appended; 262144000 at most."""

    min_free_bytes: int = 64 * 1024 * 1024
    """Bytes on the volume that deliveries and APPEND leave free for logins and deleting; at most a 16th of
    it."""

    max_mailboxes: int = 5_000
    """Most mailboxes in one account."""

    max_subscriptions: int = 5_000
    """Most subscribed names in one account."""

    max_annotations: int = 200
    """Most annotations of one mailbox, and of the account itself (METADATA)."""

    max_annotation_bytes: int = 16 * 1024 * 1024
    """Most octets of all annotations of one account, names and values; its storage limit counts them, too."""

    quota_bytes: int | None = None
    """Storage limit of an account, where neither it nor its domain has one of its own; None means none."""

    max_messages: int | None = None
    """Most messages in one account; None means unlimited."""

    threads: int = 32
    """Threads of one worker for database work and deliveries; changes with a restart."""

    login_threads: int = 8
    """Threads of one worker for logins, so that slow readers do not keep others out; with a restart."""

    reader_connections: int = 2
    """Database connections for reading per open account; longer queues wait."""

    search_connections: int = 1
    """Further connections for searches of text, so that a long search delays only other such searches."""

    index_delay_s: float = 2.0
    """Seconds after a change until new mail is put into the search index, and what is gone leaves it."""

    index_pause_s: float = 0.05
    """Seconds between two batches of indexing, so that sessions have their turn."""

    index_batch_messages: int = 50
    """Most messages that are put into the search index at once."""

    index_batch_chars: int = 500_000
    """Characters of text after which a batch of indexing ends."""

    index_message_chars: int = 200_000
    """Longest header or text of a message that is indexed; searches read the messages with longer ones. In
    Chinese so many take half a second and 20 MB to index, and more take longer than in proportion."""

    index_field_chars: int = 1_000
    """Longest field (FROM, TO, CC, BCC, SUBJECT, Message-ID) whose text the search index keeps as it is."""

    index_candidates: int = 50_000
    """Messages that may hold a text; when the index finds more, the search reads messages instead."""

    cache_kib: int = 4096
    """SQLite page cache per connection."""

    kept_numbers: int = 4_000_000
    """Numbers of four bytes that an open account keeps: SELECT, SORT and THREAD then need not read all. A
    mailbox takes one for each message, an order three, threads some ten, and each of them 250 besides."""

    close_grace_s: float = 30.0
    """Seconds an account stays open (and its key in memory) after its last session has ended."""

    hibernate_after_s: float = 60.0
    """Seconds without a command after which an open account closes its databases, until somebody needs them
    again; its key stays. 0 never does."""

    checkpoint_delay_s: float = 3.0
    """Seconds after a change until the WAL is copied back, so that deleted mail leaves the disk soon."""

    checkpoint_lock_wait_s: float = 60.0
    """Longest wait for the account lock when an account is closed."""

    filing_batch_messages: int = 100
    """Most sealed messages filed in one transaction."""

    filing_batch_bytes: int = 16 * 1024 * 1024
    """Sealed bytes after which a filing batch ends."""

    filing_wait_s: float = 2.0
    """Longest that SELECT, STATUS, NOOP and IDLE wait until mail is filed that was delivered before them."""

    maildrop_filing_wait_s: float = 20.0
    """Longest that a POP3 login waits for waiting mail to be filed."""

    filed_memory_s: int = 30 * 86_400
    """Seconds for which ids of filed messages are kept, so that a restored inbox files nothing twice."""

    def __post_init__(self) -> None:
        """Refuse limits that would accept what can never be filed.

        Raises:
            ValueError: ``max_message_bytes`` is more than ``LARGEST_MESSAGE_BYTES``.
        """
        if self.max_message_bytes > LARGEST_MESSAGE_BYTES:
            raise ValueError(f"max_message_bytes can be {LARGEST_MESSAGE_BYTES} at most")
