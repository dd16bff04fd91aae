"""When an account's snapshot is due. Pure: what was seen and when goes in, names come out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backup.limits import BackupLimits


@dataclass(slots=True)
class _Change:
    fingerprint: str
    first_s: float
    last_s: float
    at_once: bool = False
    not_before_s: float = 0.0
    failing: bool = False


class Schedule:
    """Accounts that have changed since their last snapshot. Times in seconds of one monotonic clock."""

    def __init__(self, limits: BackupLimits) -> None:
        self._limits = limits
        self._changed: dict[str, _Change] = {}

    def seen(
        self, account: str, fingerprint: str, snapshot: str, now_s: float, *, at_once: bool = False
    ) -> None:
        """An account's ``fingerprint`` now, and the one of which its newest ``snapshot`` was taken.

        With ``at_once`` it is not waited for that nothing changes any more.
        """
        if fingerprint == snapshot:
            self._changed.pop(account, None)
            return
        known = self._changed.get(account)
        if known is None:
            self._changed[account] = _Change(fingerprint, now_s, now_s, at_once)
        elif known.fingerprint != fingerprint:
            known.fingerprint, known.last_s = fingerprint, now_s

    def due(self, now_s: float) -> list[str]:
        """The accounts that are due, those that have waited longest first."""
        limits = self._limits
        found = [
            (change.first_s, account)
            for account, change in self._changed.items()
            if now_s >= change.not_before_s
            and (
                change.at_once
                or now_s - change.last_s >= limits.settle_s
                or now_s - change.first_s >= limits.longest_wait_s
            )
        ]
        return [account for _, account in sorted(found)]

    def changed(self) -> list[str]:
        """All accounts that have changed, due or not."""
        return sorted(self._changed)

    def oldest_s(self, now_s: float) -> float:
        """How long the oldest change has been waiting for its snapshot; 0 when there is none."""
        return max((now_s - change.first_s for change in self._changed.values()), default=0.0)

    def done(self, account: str) -> None:
        """A snapshot was taken."""
        self._changed.pop(account, None)

    def failed(self, account: str, now_s: float, pause_s: float) -> None:
        """It could not be taken; the account is due again after the pause."""
        if account in self._changed:
            self._changed[account].not_before_s = now_s + pause_s
            self._changed[account].failing = True

    def failing(self) -> list[str]:
        """Accounts of which no snapshot could be taken at the last try."""
        return sorted(account for account, change in self._changed.items() if change.failing)

    def keep_only(self, accounts: Iterable[str]) -> None:
        """Forget accounts that do not exist any more."""
        kept = set(accounts)
        for account in [one for one in self._changed if one not in kept]:
            del self._changed[account]
