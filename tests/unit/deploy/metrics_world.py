"""Workers of a server that only count, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector

from deploy.metrics.folder import begin
from deploy.metrics.meters import Meters


@contextmanager
def worker(folder: Path, slot: str) -> Iterator[Meters]:
    """The meters of a worker, whose files are closed afterwards, as when its process ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "ValueClass", values.ValueClass)
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
        begin(folder, slot)
        try:
            yield Meters()
        finally:
            values.ValueClass.close_all_files()


def merged(folder: Path, name: str, **labels: str) -> float | None:
    """The value of a sample over all workers; None if there is none."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return registry.get_sample_value(name, labels)
