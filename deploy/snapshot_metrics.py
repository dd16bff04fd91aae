"""Anonymous metrics of the snapshots, in a file for the node exporter's textfile collector.

No label names an account: counts, sums, and the worst case of each.
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from backup.job import Job, Places, failing_accounts, refused_deletes, verified_ms
from backup.segment import SERVER
from backup.state import State

FILE = "metrics.prom"
_MS = 1000.0


def metrics_file(data: Path) -> Path:
    """Where they lie in a data root."""
    return Places(data).folder / FILE


def write_metrics(folder: Path, job: Job, state: State) -> None:
    """Write ``folder``/metrics.prom atomically. Raises OSError."""
    registry = CollectorRegistry()

    def _gauge(name: str, text: str, value: float) -> None:
        Gauge(f"sealbox_backup_{name}", text, registry=registry).set(value)

    streams = [one for one in state.streams() if one.account != SERVER and one.gone_ms is None]
    waiting = state.waiting()
    newest = state.newest_stored_ms()
    proven = [one.proven_ms for one in streams if one.proven_ms is not None]
    _gauge("accounts", "Accounts with at least one snapshot.", len(streams))
    _gauge("oldest_change_seconds", "Age of the oldest change without a snapshot.", job.oldest_change_s())
    _gauge("waiting_segments", "Snapshots that wait for the object store.", len(waiting))
    _gauge("waiting_bytes", "Bytes of them.", sum(one.size_bytes for one in waiting))
    _gauge("store_trouble", "1 while the object store does not take snapshots.", bool(job.trouble))
    _gauge("deletes_refused", "1 when old snapshots may not be deleted.", bool(refused_deletes(state)))
    _gauge(
        "newest_stored_timestamp_seconds", "When the newest stored snapshot was taken.", (newest or 0) / _MS
    )
    first = (state.first_stored_ms() or 0) / _MS
    _gauge("first_stored_timestamp_seconds", "When the first stored snapshot was taken.", first)
    _gauge("failing_accounts", "Accounts whose last snapshot failed.", len(failing_accounts(state)))
    newest_proof = max(proven, default=0) / _MS
    _gauge("newest_proof_timestamp_seconds", "When a restore was last proven.", newest_proof)
    _gauge("verified_timestamp_seconds", "When the store was last verified.", verified_ms(state) / _MS)
    _gauge("never_proven_accounts", "Accounts whose restore was never proven.", len(streams) - len(proven))
    oldest = min(proven, default=0) / _MS
    _gauge("oldest_proof_timestamp_seconds", "When the restore that was proven longest ago was.", oldest)
    write_to_textfile(str(folder / FILE), registry)
