"""Defaults that follow the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy import config
from deploy.machine import memory_mib

GIB = 1024 * 1024 * 1024


def test_memory_is_the_machines_where_nothing_bounds_it(tmp_path: Path) -> None:
    """Without cgroups, or without limits in them."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_mib(tmp_path, tmp_path) == pages // (1024 * 1024)


@pytest.mark.parametrize("limited", ["", "a", "a/b"])
def test_the_smallest_limit_above_us_counts(tmp_path: Path, limited: str) -> None:
    """A container's or a service's memory, wherever in the tree it is set."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/a/b\n")
    groups = tmp_path / "groups"
    (groups / "a/b").mkdir(parents=True)
    for name in ("", "a", "a/b"):
        (groups / name / "memory.max").write_text(f"{64 << 20}\n" if name == limited else "max\n")
    assert memory_mib(tmp_path, groups) == 64


def test_memory_for_logins_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs per core, an eighth of the memory at most, one run per worker at least; or what is set."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for machine, workers, expected in ((65_536, 8, 1024), (4096, 2, 512), (1024, 2, 128), (512, 4, 256)):
        monkeypatch.setattr(config, "memory_mib", lambda value=machine: value)
        assert config.argon2_memory_mib(config.Argon2Section(), workers) == expected
    assert config.argon2_memory_mib(config.Argon2Section(memory_budget_mib=300), 2) == 300
