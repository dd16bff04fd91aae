"""An account opened by a secret of its owner, for a command that moves its mail, beside its sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mailstore.account import AccountPaths, account_paths, open_directory
from mailstore.account_database import account_database, checkpoint, mail_key
from mailstore.directory import AccountRecord
from mailstore.durable import storage_errors
from mailstore.engine import Database
from mailstore.errors import Busy, NoSuchAccount, ScopeDenied
from mailstore.eviction import asked_to_leave
from mailstore.filing import Filer
from mailstore.keys import Argon2Params, PrivateKey
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.model import AccessProtocol
from mailstore.opening import Proven, complete, prepare
from mailstore.ready_database import make_ready
from mailstore.room import log_bytes

CHECKPOINT_BYTES = 32 * 1024 * 1024
"""Once the log beside the database is as long as this, it is copied back."""

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which account of which data root is to be opened, by which secret, and what bounds it."""

    root: Path
    name: str = field(repr=False)
    secret: bytes = field(repr=False)
    params: Argon2Params
    limits: StoreLimits = field(default_factory=StoreLimits)
    mime: MimeLimits = field(default_factory=MimeLimits)


@dataclass(frozen=True, slots=True)
class OpenedAccount:
    """What a transfer works with."""

    wanted: Wanted
    record: AccountRecord
    paths: AccountPaths
    database: Database
    private_key: PrivateKey = field(repr=False)

    def give_way(self) -> None:
        """Between two steps: copy a long log back; end where the account is to be restored or is gone.

        Raises:
            Busy: it is to be restored. NoSuchAccount: it has been deleted. StorageFailed, StorageFull.
        """
        if asked_to_leave(self.paths):
            raise Busy("the account is being restored")
        with storage_errors():
            if not self.paths.keys.exists():
                raise NoSuchAccount
            is_long = log_bytes(self.paths.mail_db) > CHECKPOINT_BYTES
        if is_long:
            checkpoint(self.paths, self.database)

    def file_waiting(self) -> None:
        """File the mail that has arrived and waits. Raises Busy: another process is at it, for long."""
        limits = self.wanted.limits
        filer = Filer(self.paths, self.record.account_id, self.private_key, limits, self.wanted.mime)
        until = time.monotonic() + limits.maildrop_filing_wait_s
        while filer.is_waiting():
            batch = filer.load()
            if batch is None:
                if time.monotonic() > until:
                    raise Busy("mail that has arrived is still being filed")
                time.sleep(_POLL_S)
                continue
            try:
                self.database.write(int(time.time()), filer.insert, batch)
                filer.remove(batch)
            finally:
                batch.release()
            self.give_way()


@contextmanager
def opened_account(wanted: Wanted, *, writes: bool) -> Iterator[OpenedAccount]:
    """The account, open inside, by any secret with which its mail can be read (``writes``: and changed).

    The first secret that opens an account makes its database, as a login does.

    Raises:
        AuthenticationFailed: wrong name or secret. ScopeDenied: an app password that is not for IMAP, or
            for reading only where ``writes``.
        HeaderTampered, TooNew, DatabaseDamaged, StorageFailed, StorageFull, Busy.
    """
    proven = _proven(wanted)
    try:
        slot = proven.admit(AccessProtocol.IMAP, time.time())
        if writes and slot.scope.read_only:
            raise ScopeDenied
        paths = account_paths(wanted.root, proven.record.account_id)
        key, public = mail_key(proven.master), proven.private_key.public
        with account_database(paths, key, may_create=True, public_key=public) as database:
            make_ready(paths, database)
            yield OpenedAccount(wanted, proven.record, paths, database, proven.private_key)
    finally:
        proven.wipe()


def _proven(wanted: Wanted) -> Proven:
    directory = open_directory(wanted.root)
    try:
        attempt = prepare(wanted.root, directory, wanted.name, wanted.secret, wanted.params)
        return complete(wanted.root, directory, attempt)
    finally:
        directory.close()
