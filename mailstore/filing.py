"""Sealed inbox to database: open, prepare, file in one transaction, unlink after the commit.

The id of every sealed message is recorded in the transaction that files it, so filing twice is
impossible; the file is unlinked only after the commit, so losing it is impossible. All functions run
in threads. One filer at a time per account holds a lock; it saves work, correctness does not need it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from mailstore.account import AccountPaths
from mailstore.damage import tell
from mailstore.durable import FILE_MODE, storage_errors
from mailstore.engine import Txn
from mailstore.errors import NoSuchAccount, NoSuchMessage, SealedMessageDamaged, StorageFull
from mailstore.former_key import (
    is_former_key,
    open_former_keys,
    remove_old_former_keys,
    waiting_messages,
)
from mailstore.inbox_size import SUFFIX
from mailstore.keys import AccountId, PrivateKey, load_private_key
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.model import INBOX, Flags, MailboxId
from mailstore.names import mailbox_name
from mailstore.ops.messages import add_messages
from mailstore.prepared import PreparedMessage, ReadyMessage, prepare
from mailstore.room import ROOM_TO_FILE_BYTES, free_bytes, log_bytes
from mailstore.sealed import (
    LEFTOVER_AGE_S,
    Facts,
    SealedFile,
    SealedId,
    clean_leftovers,
    mark_damaged,
    open_sealed,
    pending,
    read_being_delivered,
    read_sealed,
    remove,
    sealed_file,
)

LOCK_NAME = "filing.lock"

FORGET_EVERY_S = 3600
"""Seconds between two purges of the ids of filed messages."""

FEW_MESSAGES, FEW_BYTES = 4, 256 * 1024
"""How much mail is opened, prepared and filed in one step, so that sessions hear of it soon."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One sealed message, opened and prepared."""

    sealed_id: SealedId
    sealed_bytes: int
    received: int
    mailbox_hint: str | None
    prepared: PreparedMessage


@dataclass(slots=True)
class Batch:
    """Sealed messages that will be filed together; holds the filing lock until ``release``."""

    messages: tuple[Waiting, ...]
    more: bool
    lock: int | None
    """The descriptor of the filing lock; None when it was let go."""

    def release(self) -> None:
        """Let the next filer in; calling it again does nothing."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


class Filer:
    """Files the mail of one account. The private key stays in here."""

    def __init__(
        self,
        paths: AccountPaths,
        account_id: AccountId,
        private_key: PrivateKey,
        limits: StoreLimits,
        mime_limits: MimeLimits,
    ) -> None:
        self._paths = paths
        self._account_id = account_id
        self._private_keys: tuple[PrivateKey, ...] = (private_key,)
        """The account's, and behind it those of before a change of its keys, while mail may need them."""

        self._limits = limits
        self._mime_limits = mime_limits
        self._listed: deque[SealedId] = deque()
        self._cleaned = 0.0
        """When leftovers were looked for, in seconds since the epoch."""

        self._forgot = 0
        """When ids of filed messages were forgotten, in seconds since the epoch."""

        self._foreseeing = threading.Lock()
        self._foreseen: Waiting | None = None

    def foresee(self, sealed_id: SealedId) -> None:
        """Open and prepare a small message while its delivery still waits for the disk.

        Nothing is filed until the file appears under its final name. If it never does, the next message that
        is foreseen or loaded replaces this one. Raises StorageFailed.
        """
        with self._foreseeing:
            self._foreseen = None
            blob = read_being_delivered(self._paths.inbox, sealed_id, FEW_BYTES)
            if blob is None:
                return
            try:
                self._foreseen = self._open(sealed_id, blob)
            except SealedMessageDamaged:
                return  # it was not written completely

    def forget(self) -> None:
        """Drop the foreseen message; its delivery may have died."""
        self._foreseen = None

    def _take_foreseen(self, sealed_id: SealedId) -> Waiting | None:
        # If it is still being prepared, wait: that is faster than preparing it again.
        with self._foreseeing:
            found, self._foreseen = self._foreseen, None
        return found if found is not None and found.sealed_id == sealed_id else None

    def load(self, *, few: bool = False) -> Batch | None:
        """Open the oldest waiting messages; None while another process is filing.

        With ``few`` it takes no longer than a writer may: if a large message is first, the batch is empty.

        Raises:
            StorageFailed: the inbox cannot be read.
        """
        lock = self._lock()
        if lock is None:
            return None
        try:
            return self._load(lock, few)
        except BaseException:
            os.close(lock)
            raise

    def relist(self) -> None:
        """Read the inbox again next time: what was loaded has not been filed."""
        self._listed.clear()

    def is_waiting(self) -> bool:
        """Whether any message waits in the inbox. Cheap, however many there are. Raises StorageFailed."""
        with storage_errors(), os.scandir(self._paths.inbox) as entries:
            return any(entry.name.endswith(SUFFIX) and not is_former_key(entry.name) for entry in entries)

    def waiting(self) -> set[SealedId]:
        """The messages that lie in the inbox. Raises StorageFailed, NoSuchAccount."""
        return set(waiting_messages(self._paths.inbox))

    def is_there(self, sealed_id: SealedId) -> bool:
        """Whether this message still waits. Raises StorageFailed."""
        with storage_errors():
            return (self._paths.inbox / (sealed_id + SUFFIX)).exists()

    def is_free(self) -> bool:
        """Whether no process is filing at the moment. Raises StorageFailed, NoSuchAccount."""
        lock = self._lock()
        if lock is None:
            return False
        os.close(lock)
        return True

    def _lock(self) -> int | None:
        """The descriptor of the filing lock; None while another process has it."""
        with storage_errors():
            try:
                lock = os.open(
                    self._paths.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE
                )
            except FileNotFoundError:
                raise NoSuchAccount from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _load(self, lock: int, few: bool) -> Batch:
        if not self._listed:
            # List once for many batches: reading a folder with a year's mail takes a while.
            now = time.time()
            if not 0 <= now - self._cleaned < LEFTOVER_AGE_S:
                self._cleaned = now
                clean_leftovers(self._paths.inbox, now=now)
            self._listed.extend(self._messages(pending(self._paths.inbox)))
        found: list[Waiting] = []
        tried, size_bytes = 0, 0
        limits = self._limits
        most = min(FEW_MESSAGES, limits.filing_batch_messages) if few else limits.filing_batch_messages
        room_bytes = self._room_bytes()
        while self._listed and tried < most and size_bytes < limits.filing_batch_bytes:
            sealed_id = self._listed[0]
            try:
                file = sealed_file(self._paths.inbox, sealed_id)
                with_it = size_bytes + file.size_bytes
                if (few and with_it > FEW_BYTES) or (found and with_it > room_bytes):
                    break
                waiting = self._take_foreseen(sealed_id)
                if waiting is None:
                    waiting = self._open(sealed_id, read_sealed(self._paths.inbox, sealed_id))
                found.append(waiting)
                size_bytes += waiting.sealed_bytes
            except NoSuchMessage:
                pass  # another filer has filed and unlinked it
            except SealedMessageDamaged:
                self._mark_damaged(sealed_id, file)
            self._listed.popleft()
            tried += 1
        return Batch(tuple(found), bool(self._listed), lock)

    def _messages(self, found: list[SealedId]) -> list[SealedId]:
        """The messages among what lies in the inbox; former private keys are taken up, or removed."""
        messages = [one for one in found if not is_former_key(one)]
        former = [one for one in found if is_former_key(one)]
        if former and not messages:
            remove_old_former_keys(self._paths.inbox, former)
        own = self._private_keys[0]
        self._private_keys = (own, *(self._former_keys(own, former) if messages else ()))
        return messages

    def _former_keys(self, own: PrivateKey, found: list[SealedId]) -> tuple[PrivateKey, ...]:
        keys: list[bytes] = []
        for sealed_id in found:
            try:
                blob = read_sealed(self._paths.inbox, sealed_id)
                keys += open_former_keys(own, self._account_id, sealed_id, blob)
            except NoSuchMessage:
                pass  # another filer has removed it
            except SealedMessageDamaged:
                pass  # a restore has brought back keys of before; those of now may come back, too
        return tuple(map(load_private_key, keys))

    def _room_bytes(self) -> int:
        """How many bytes may be filed at once: they go into the WAL, and from there into the main file.

        A WAL that fills the disk would prevent logins.
        """
        with storage_errors():
            free = free_bytes(self._paths.inbox)
            taken = ROOM_TO_FILE_BYTES + log_bytes(self._paths.mail_db)
        return sys.maxsize if free is None else (free - taken) // 2

    def _open(self, sealed_id: SealedId, blob: bytes) -> Waiting:
        facts, message = self._unsealed(sealed_id, blob)
        prepared = prepare(facts.trace_header + message, self._mime_limits)
        return Waiting(sealed_id, len(blob), facts.received, facts.mailbox_hint, prepared)

    def _unsealed(self, sealed_id: SealedId, blob: bytes) -> tuple[Facts, bytes]:
        for former in self._private_keys[1:]:
            with suppress(SealedMessageDamaged):
                return open_sealed(former, self._account_id, sealed_id, blob)
        return open_sealed(self._private_keys[0], self._account_id, sealed_id, blob)

    def _mark_damaged(self, sealed_id: SealedId, file: SealedFile) -> None:
        """Move a message that cannot be opened out of the filer's way, for a human to look at."""
        renamed = mark_damaged(self._paths.inbox, sealed_id, file)
        if renamed is not None:
            tell(self._account_id, f"inbox/{renamed.name} is kept and cannot be opened")

    def insert(self, txn: Txn, batch: Batch) -> None:
        """File a batch; messages that were filed before are skipped, and their ids kept for the full time
        again.

        Expired ids are deleted once nothing more is listed: until then their files may still be in the inbox.
        That happens only now and then, because it has to scan all ids. Raises StorageFull.
        """
        if sum(waiting.sealed_bytes for waiting in batch.messages) > self._room_bytes():
            raise StorageFull("the disk is full")
        fresh: dict[MailboxId, list[ReadyMessage]] = {}
        inbox = MailboxId(txn.value("SELECT id FROM mailbox WHERE name = ?", (INBOX,)))
        for waiting in batch.messages:
            known = txn.value("SELECT 1 FROM filed WHERE sealed_id = ?", (waiting.sealed_id,))
            txn.run("INSERT OR REPLACE INTO filed VALUES(?, ?)", (waiting.sealed_id, txn.now))
            if known:
                continue
            target = _target(txn, waiting.mailbox_hint) or inbox
            fresh.setdefault(target, []).append(ReadyMessage(waiting.prepared, Flags(), waiting.received))
        for mailbox_id, messages in fresh.items():
            add_messages(txn, mailbox_id, messages)
        if not batch.more and not 0 <= txn.now - self._forgot < FORGET_EVERY_S:
            self._forgot = txn.now
            txn.run("DELETE FROM filed WHERE filed_at < ?", (txn.now - self._limits.filed_memory_s,))

    def remove(self, batch: Batch) -> None:
        """Unlink what a committed transaction has filed."""
        remove(self._paths.inbox, *(waiting.sealed_id for waiting in batch.messages))


def _target(txn: Txn, hint: str | None) -> MailboxId | None:
    """The mailbox that a sub-address names (RFC 5233), without regard to case; None for the inbox."""
    if not hint:
        return None
    found = txn.value(
        "SELECT id FROM mailbox WHERE name = ?1 OR lower(name) = lower(?1) ORDER BY name = ?1 DESC LIMIT 1",
        (mailbox_name(hint),),
    )
    return None if found is None else MailboxId(found)
