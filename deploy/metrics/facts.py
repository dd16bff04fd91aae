"""Numbers that no worker has: volume, certificate, sealed mail, snapshots, what the program is.

They are looked up when somebody asks; what takes long is looked up now and then, see ``Backlogs``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cryptography import x509
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from deploy.config import Config
from deploy.snapshot_metrics import metrics_file
from mailstore.backlog import Backlog

STARTED_S = "start_time_seconds"


@dataclass(slots=True)
class Known:
    """What the process of the metrics knows besides the files of the workers."""

    config: Config
    began_s: float
    """Epoch seconds."""
    backlog: Backlog | None = None
    """None until it has been looked at, or when that has failed."""


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sealbox_{name}", text, value=value)


class Facts(Collector):
    """What cannot be found out now is left out; the rest is told."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        yield self._build()
        yield _gauge(STARTED_S, "When the server was started.", self._known.began_s)
        yield _gauge("workers_configured", "Workers that should serve.", self._known.config.workers)
        yield from self._volume()
        yield from self._certificate()
        yield from self._sealed()
        yield from self._snapshots()

    @staticmethod
    def _build() -> Metric:
        found = GaugeMetricFamily("sealbox_build", "The program, always 1.", labels=["version", "python"])
        found.add_metric([version("sealbox"), ".".join(map(str, sys.version_info[:3]))], 1)
        return found

    def _volume(self) -> Iterator[Metric]:
        try:
            found = os.statvfs(self._known.config.data)
        except OSError:
            return
        yield _gauge("volume_size_bytes", "Size of the data's volume.", found.f_blocks * found.f_frsize)
        yield _gauge("volume_free_bytes", "Free for the server on it.", found.f_bavail * found.f_frsize)
        if found.f_files:
            yield _gauge("volume_free_inodes", "Files that can still be made on it.", found.f_favail)

    def _certificate(self) -> Iterator[Metric]:
        try:
            chain = x509.load_pem_x509_certificates(self._known.config.tls.certificate.read_bytes())
        except (OSError, ValueError):
            return
        ends_s = min(one.not_valid_after_utc.timestamp() for one in chain)
        yield _gauge(
            "certificate_expiry_timestamp_seconds", "When the first of the chain's certificates ends.", ends_s
        )

    def _sealed(self) -> Iterator[Metric]:
        backlog = self._known.backlog
        if backlog is None:
            return
        yield _gauge("sealed_messages", "Messages that wait to be filed.", backlog.messages)
        yield _gauge("sealed_accounts", "Accounts that have some.", backlog.accounts)
        age_s = 0.0 if backlog.oldest_s is None else max(time.time() - backlog.oldest_s, 0.0)
        yield _gauge("sealed_oldest_age_seconds", "Age of the oldest of them; 0 without any.", age_s)

    def _snapshots(self) -> Iterator[Metric]:
        """What the process that takes snapshots has written last, see ``deploy.snapshot_metrics``."""
        config = self._known.config
        yield _gauge("backup_configured", "1 when snapshots are taken.", bool(config.backup.store))
        if not config.backup.store:
            return
        yield from read_metrics(metrics_file(config.data))


def read_metrics(path: Path) -> Iterator[Metric]:
    """The metrics in a file, and when it was written; nothing if it is not there or makes no sense."""
    try:
        found = list(text_string_to_metric_families(path.read_text("utf-8")))
        written_s = path.stat().st_mtime
    except (OSError, ValueError, KeyError):
        return
    yield from found
    yield _gauge("backup_metrics_timestamp_seconds", "When the numbers of snapshots were taken.", written_s)
