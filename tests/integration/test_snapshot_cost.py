"""Snapshots cost what changed, whatever the size of the mailbox, and nothing where nothing changed.

``SEALBOX_COST_MIB`` (60) and ``SEALBOX_COST_ACCOUNTS`` (1000) make it larger; tests/bench/snapshot_cost.py
is the same with figures.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.snapshot_cost import costs_of_one_message, idle_cost

pytestmark = pytest.mark.integration

PUT_MAX = 200 * 1024
READ_MAX = 5 * 1024 * 1024


def test_one_message_in_a_large_mailbox(tmp_path: Path) -> None:
    """A message of 10 KB: little is read and uploaded, with and without a checkpoint in between."""
    mib = int(os.environ.get("SEALBOX_COST_MIB", "60"))
    costs = costs_of_one_message(tmp_path / "root", mib)
    first = costs.pop("everything, the first time")
    assert first.put > mib * 1024 * 1024 * 3 // 4
    assert costs.pop("nothing").put == 0
    assert len(costs) == 3
    for name, cost in costs.items():
        assert 10_000 < cost.put < PUT_MAX, name
        assert cost.read < READ_MAX, name


def test_an_idle_server_asks_nothing(tmp_path: Path) -> None:
    """Once everything is stored there is no request, for days."""
    assert idle_cost(tmp_path / "root", int(os.environ.get("SEALBOX_COST_ACCOUNTS", "1000"))).requests == 0
