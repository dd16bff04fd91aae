"""The comparison with Dovecot runs: every row finds its figures, and the table is written. Never a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.compare import memory
from tests.bench.compare.__main__ import PEAK
from tests.bench.compare.peers import OURS, PLAIN, missing
from tests.bench.compare.rows import all_rows
from tests.bench.compare.size import smallest

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]
RUN_S = 600
MESSAGES = 24


def _run(place: Path, *arguments: str) -> dict[str, list[dict[str, object]]]:
    """Run the command with its results in ``place``; all figures."""
    figures = place / "figures.json"
    command = [sys.executable, "-m", "tests.bench.compare", "--results", str(place), "--json", str(figures)]
    done = subprocess.run(
        [*command, *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[dict[str, object]]] = json.loads(figures.read_text("utf-8"))
    return found


def _is_whole(values: object) -> bool:
    """Whether there is a figure of every server that is here."""
    assert isinstance(values, dict)
    wanted = {OURS} if missing() else {OURS, PLAIN}
    return values.keys() == wanted and all(value > 0 for value in values.values())


def test_every_row_has_figures_and_the_table_is_written(tmp_path: Path) -> None:
    """As few messages as can be; beside Dovecot where it is installed with all protocols."""
    rows = _run(tmp_path, "--peers", PLAIN, "--smallest", "--messages", str(MESSAGES))["rows"]
    wanted = {row.key for row in all_rows(smallest(MESSAGES))}
    assert {row["key"] for row in rows} == wanted | {PEAK, memory.KEY}
    # How much one of a few connections takes is lost among what the server does meanwhile.
    assert [row["name"] for row in rows if not _is_whole(row["values"]) and row["unit"] != "KiB"] == []
    written = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert [row["name"] for row in rows if f"| {row['name']} |" not in written] == []


def test_growth_has_figures_at_every_size(tmp_path: Path) -> None:
    """Two small sizes and one row, with nobody beside; the exponent is there."""
    (grown,) = _run(tmp_path, "--peers", "", "--growth", "--sizes", "12,24", "--rows", "select")["growth"]
    values, exponents = grown["values"], grown["exponents"]
    assert isinstance(values, dict)
    assert isinstance(exponents, dict)
    assert set(values) == set(exponents) == {OURS}
    assert set(values[OURS]) == {"12", "24"}
    assert "exponent" in (tmp_path / "RESULTS.md").read_text("utf-8")
