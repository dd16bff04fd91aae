"""The backup room's named limits and times, each with its default; configuration may change any of them."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class BackupLimits:
    """When snapshots are taken, how long they are kept and what they may cost."""

    scan_interval_s: float = 5.0
    """Seconds between two scans for accounts that have changed."""

    settle_s: float = 60.0
    """Seconds after the last change until a snapshot is taken."""

    longest_wait_s: float = 300.0
    """Seconds after the first change until a snapshot is taken, however busy the account is."""

    retention_days: float = 10.0
    """Days until deleted mail, or a deleted account, is gone from the object store too."""

    full_after_days: float = 2.0
    """Days after the first change until a new full snapshot replaces the chain: points in time go back
    ``retention_days`` less this at least."""

    lifecycle_days: float | None = None
    """Set it if the bucket deletes objects itself after so many days; every account then gets a new full
    snapshot in time."""

    full_ratio: float = 1.0
    """A chain is replaced when its changes are larger than this factor times its full snapshot."""

    full_min_bytes: int = 4 * 1024 * 1024
    """Changes smaller than this (bytes) are not replaced for their size."""

    chain_max_segments: int = 1_000
    """Maximum number of segments in a chain."""

    staging_max_bytes: int = 2 * 1024 * 1024 * 1024
    """Bytes of snapshots that may wait to be uploaded; above it, those of one account are merged."""

    upload_threads: int = 4
    """Uploads and downloads at a time."""

    lock_wait_s: float = 10.0
    """Longest wait for an account's lock, in seconds; the account is tried again at the next scan."""

    retry_first_s: float = 5.0
    """Seconds until an unavailable object store is asked again, doubled each time."""

    retry_max_s: float = 300.0
    """Longest such pause."""

    multipart_part_bytes: int = 16 * 1024 * 1024
    """Larger objects are uploaded in parts of this size (at least 5 MiB, at most 10,000 parts)."""

    drill_accounts: int = 3
    """Accounts that one drill restores."""

    @property
    def retention_s(self) -> float:
        """``retention_days`` in seconds."""
        return self.retention_days * DAY_S

    def __post_init__(self) -> None:
        if self.full_after_days >= self.retention_days:
            raise ValueError("full_after_days has to be less than retention_days")
        if self.lifecycle_days is not None and self.lifecycle_days <= self.retention_days / 2:
            raise ValueError("lifecycle_days has to be more than half of retention_days")
        if not 5 * 1024 * 1024 <= self.multipart_part_bytes <= 5 * 1024 * 1024 * 1024:
            raise ValueError("multipart_part_bytes has to be between 5 MiB and 5 GiB")
