"""Checks of how long things are kept: logs, snapshots, what restores have set aside, deleted accounts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backup.errors import ObjectStoreError
from backup.limits import BackupLimits
from backup.overdue import overdue_by_state, overdue_in_store
from backup.restore import list_store
from backup.segment import SegmentName
from backup.state import State
from backup.stores import ObjectStore
from deploy.privacy.finding import Check, Finding, listed
from deploy.texts import counted
from mailstore.set_aside import Copy
from protocols.log_age import LogFile

PROMISED_DAYS = 10
"""Days after which what was deleted is gone from the snapshots too."""

_LOGS = Check("age of log lines", (10, 11))
_REMEMBERED = Check("snapshots on record", (6, 7, 8))
_TRANSIT = Check("snapshots on their way", (6,))
_LISTED = Check("snapshots in the store", (6, 7, 8))
_ASIDE = Check("replaced by restores", (7, 8))
_DELETION = Check("deleted accounts", (8,))


def logs(found: Sequence[LogFile]) -> Finding:
    """No line of the access log is older than its days, none of the error log older than its."""
    overdue = [
        f"a line of {one.oldest_days:.1f} days in {one.shown}, which may keep {one.kept_days}"
        for one in found
        if one.is_overdue
    ]
    if overdue:
        return _LOGS.broken(
            f"there is {listed(overdue)}",
            "the server deletes its own log files: start it; delete what another program has renamed, and"
            " have that program leave them alone",
        )
    oldest = max((one.oldest_days for one in found if one.lines), default=0.0)
    lines = sum(one.lines for one in found)
    return _LOGS.holds(
        f"{counted(lines, 'line')} in {counted(len(found), 'file')}, the oldest {oldest:.1f} days old"
    )


def on_record(state: State, now_ms: int, limits: BackupLimits) -> Finding:
    """By the server's own record nothing is in the store any more that should be gone."""
    if limits.retention_days > PROMISED_DAYS:
        return _REMEMBERED.broken(
            f"[snapshots] retention_days is {limits.retention_days:g}, and the promise {PROMISED_DAYS}",
            "set it to 10 or less, or promise your users more days",
        )
    overdue = overdue_by_state(state, now_ms, limits)
    if overdue:
        return _REMEMBERED.broken(_overdue(overdue, now_ms), _PRUNE)
    count = sum(len(state.segments(one.stream)) for one in state.streams())
    return _REMEMBERED.holds(
        f"none of {counted(count, 'snapshot')} is past its {limits.retention_days:g} days"
    )


_PRUNE = (
    "see what 'sealbox backup status' says of deletions and of the clock; 'sealbox backup prune' deletes them"
    " while the server is stopped"
)


def _overdue(names: Sequence[SegmentName], now_ms: int) -> str:
    oldest_days = (now_ms - min(one.taken_ms for one in names)) / 86_400_000
    which = listed([str(one) for one in names])
    return (
        f"{counted(len(names), 'snapshot')} should be gone, the oldest is {oldest_days:.1f} days old: {which}"
    )


def in_store(store: ObjectStore, state: State, now_ms: int, limits: BackupLimits) -> Finding:
    """The store has nothing old that the server's record does not know of."""
    try:
        listing = list_store(store)
    except ObjectStoreError as exc:
        return _LISTED.unseen(
            f"the store could not be listed: {exc}", "see 'sealbox backup status', try again"
        )
    overdue = overdue_in_store(listing, state, now_ms, limits)
    if overdue:
        return _LISTED.broken(
            f"unknown to this server, {_overdue(overdue, now_ms)}",
            "'sealbox backup verify' says what they are; delete them in the store if nobody needs them",
        )
    return _LISTED.holds(
        f"{counted(len(listing.sizes), 'snapshot')}, none old that the server does not know of"
    )


def in_transit(is_encrypted: bool) -> Finding:
    """Snapshots travel by TLS."""
    if not is_encrypted:
        return _TRANSIT.broken(
            "[backup] endpoint begins with http:, so snapshots travel without TLS",
            "use the https: address of the store",
        )
    return _TRANSIT.holds("they leave this machine by TLS, if they do")


def nothing_stored() -> Finding:
    """Without a store there are no snapshots."""
    return _REMEMBERED.holds("no store for snapshots is configured")


def set_aside(copies: Sequence[Copy], accounts: set[str], kept_s: float, now_s: float) -> Finding:
    """Copies that restores in place have left go in time, and with their account."""
    late_s = 86_400.0
    overdue = [one.folder.name for one in copies if one.expires_s(kept_s) + late_s < now_s]
    orphans = [one.folder.name for one in copies if one.account_id not in accounts]
    if overdue or orphans:
        return _ASIDE.broken(
            f"'replaced' has {listed([*overdue, *orphans])}, past its time or of an account that is gone",
            "start the server, which removes what is past its time; else remove the folder",
        )
    return _ASIDE.holds(f"{counted(len(copies), 'copy', 'copies')}, none past its time")


def deletions(unfinished: Sequence[str], orphans: Sequence[str]) -> Finding:
    """No account is half deleted, and no folder is left of one."""
    if unfinished:
        return _DELETION.broken(
            f"account {listed(unfinished)} has no keys any more, so its deletion was interrupted",
            "run 'sealbox account delete' again; 'sealbox account list' says whose the id is",
        )
    if orphans:
        return _DELETION.broken(
            f"the folder of {listed(orphans)} in 'accounts' belongs to no account",
            "if it is not of an account that you are going to restore, remove it",
        )
    return _DELETION.holds("every folder in 'accounts' belongs to an account, and every account has its keys")


def now() -> tuple[float, int]:
    """Seconds and ms since the epoch."""
    seconds = time.time()
    return seconds, int(seconds * 1000)
