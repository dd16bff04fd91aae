"""Prove with the owner's secret that a point in time is sound, without changing the account."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backup.restore import Restorer
from backup.restore_accounts import Sources, Wishes
from backup.restore_messages import opened_key
from backup.segment import PAGE_BYTES
from backup.soundness import wrong_keys_in
from backup.state_key import AskThen, key_of_state
from mailstore.account import AccountPaths
from mailstore.account_database import account_database
from mailstore.errors import DatabaseDamaged
from mailstore.integrity import unsound
from mailstore.keys import Argon2Params


@dataclass(frozen=True, slots=True)
class Checked:
    """A state: its time (ms since the epoch), its pages, and what is wrong with it; None for nothing."""

    taken_ms: int
    pages: int
    wrong: str | None

    @property
    def size_bytes(self) -> int:
        """Of the rebuilt database."""
        return self.pages * PAGE_BYTES


def check_state(
    root: Path,
    sources: Sources,
    work: Path,
    wishes: Wishes,
    account: str,
    secret: bytes,
    ask_then: AskThen,
    params: Argon2Params,
) -> Checked:
    """Rebuild the state that ``wishes`` choose in ``work``, open it with the account's key, read all of it.

    The secret is tested against today's key header; the state's own has to be a header of this account, but
    is opened only if it is from before a new master key. Mail that waits is not.

    Raises:
        AuthenticationFailed: the secret opens nothing. BackupError, StoreError.
    """
    record, key = opened_key(root, account, secret, params)
    restorer = Restorer(root, sources.source, work, wishes.threads)
    folder, rebuilt = restorer.rebuild(
        sources.target(record.account_id, wishes.at_ms), newest_sound=wishes.newest_sound
    )
    wrong = wrong_keys_in(folder, record.account_id)
    if wrong is None and rebuilt.pages:
        then_key = key_of_state(root, folder, record, key, secret, ask_then)
        try:
            with account_database(AccountPaths(folder), then_key) as database:
                wrong = unsound(database)
        except DatabaseDamaged:
            wrong = "its first page is not authentic"
    return Checked(rebuilt.newest.taken_ms, rebuilt.pages, wrong)
