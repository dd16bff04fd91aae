"""Dashboard and alerts of deploy/monitoring: what they ask for is there, and Prometheus understands it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from job_world import JobWorld
from prometheus_client.parser import text_string_to_metric_families

from deploy.first_run import make_certificate
from deploy.metrics.facts import Known
from deploy.metrics.folder import folder_for, make_empty, slot_name
from deploy.metrics.process import Exposition
from deploy.snapshot_metrics import metrics_file, write_metrics
from mailstore.backlog import Backlog
from tests.unit.deploy.metrics_world import worker

MONITORING = Path(__file__).resolve().parents[3] / "deploy" / "monitoring"
GUIDE = MONITORING.parent / "OPERATIONS.md"
_NAME = re.compile(r"\bsealbox_[a-z0-9_]+")
_ALERT = re.compile(r"^ +- alert: (\w+)\n(.*?)(?=^ +- alert|^ +- name|\Z)", re.MULTILINE | re.DOTALL)

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[bytes]:
    """What a server with snapshots tells, in which nothing has happened yet."""
    world = JobWorld(tmp_path)
    world.append("one")
    world.pass_time(200)
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    metrics_file(tmp_path).parent.mkdir(exist_ok=True)
    write_metrics(metrics_file(tmp_path).parent, world.job, world.state)
    config: Any = SimpleNamespace(
        data=tmp_path,
        workers=1,
        tls=SimpleNamespace(certificate=tmp_path / "c.pem"),
        backup=SimpleNamespace(store="file:///x"),
    )
    folder = folder_for(tmp_path, {})
    make_empty(folder, 1, 0)
    with worker(folder, slot_name(0)) as meters:
        # What exists from the first look of a worker at itself, and from its first command.
        for gauge in (meters.sessions.labels("imaps"), meters.input_bytes.labels("mail")):
            gauge.set(0)
        meters._new_command("IMAP NOOP", "ok")
        yield Exposition(folder, Known(config, 0.0, Backlog())).render()
    world.job.stop()
    world.state.close()
    world.mail.close()


@cache
def dashboard() -> dict[str, Any]:
    """As it is imported."""
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    return found


def expressions() -> list[str]:
    """All that the panels ask for."""
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def alerts() -> dict[str, str]:
    """Each alert's text, by its name."""
    return dict(_ALERT.findall((MONITORING / "alerts.yml").read_text("utf-8")))


def asked_in_alerts() -> str:
    """What the alerts compute, without what they say."""
    return "".join(text.partition("annotations:")[0] for text in alerts().values())


def test_whatever_is_asked_for_is_told(served: bytes) -> None:
    """By the name it has in the answer of a real server; and what is told is explained to the operator."""
    told = {sample.name for one in text_string_to_metric_families(served.decode()) for sample in one.samples}
    asked = set(_NAME.findall(" ".join(expressions()) + asked_in_alerts()))
    assert len(asked) > 30
    assert asked - told == set()
    guide = GUIDE.read_text("utf-8").partition("## Numbers")[2].partition("\n## ")[0]
    bases = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in told if "seconds" in name or "_total" in name
    }
    bases |= {name for name in told if not name.endswith(("_bucket", "_sum", "_count"))}
    unnamed = {"sealbox_build", "sealbox_start_time_seconds"}
    missing = {
        one
        for one in bases - unnamed
        if one not in guide and f"...{one[len('sealbox_backup') :]}" not in guide
    }
    assert missing == set()


def test_panels_do_not_lie_on_each_other() -> None:
    """Each has a number, a title, words for what it shows, and a place of its own."""
    taken: dict[tuple[int, int], str] = {}
    panels = dashboard()["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                assert (column, line) not in taken, (panel["title"], taken[column, line])
                taken[column, line] = panel["title"]
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"]
            assert all(one["datasource"]["uid"] == "${datasource}" for one in panel["targets"])


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """No number of another database, a data source that is chosen, and a schema that Grafana 10 knows."""
    found = dashboard()
    assert found["id"] is None
    assert (found["uid"], found["title"]) == ("sealbox", "Sealbox")
    assert found["schemaVersion"] == 38
    kinds = {one["name"]: one["type"] for one in found["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "instance": "query"}
    assert {one["type"] for one in found["panels"]} == {"row", "stat", "timeseries"}
    assert all('instance=~"$instance"' in one for one in expressions())


def test_each_alert_says_what_to_do() -> None:
    """How bad it is, what is wrong, and a next step; sections that it names are in the guide."""
    guide, found = GUIDE.read_text("utf-8"), alerts()
    assert len(found) == 23
    for name, text in found.items():
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", text), name
        assert "summary: " in text and "runbook: " in text, name
        for section in re.findall(r'"([^"]+)" in\s+OPERATIONS.md', text):
            assert f"\n## {section}\n" in guide, (name, section)
    tested = (MONITORING / "alerts_test.yml").read_text("utf-8")
    assert f"exp_samples: [{{value: {len(found)}}}]" in tested, "all of them fire in the test of promtool"


def promtool(*arguments: str, folder: Path = MONITORING) -> None:
    """It has to find nothing wrong."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    """By Prometheus's own tool: syntax, and a day on which all is well beside an hour on which nothing is."""
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_prometheus_understands_the_panels(tmp_path: Path) -> None:
    """Each expression is a rule for a moment, with Grafana's variables filled in."""
    rules = [
        {
            "record": f"panel:{number}",
            "expr": one.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for number, one in enumerate(expressions())
    ]
    # JSON is YAML, too.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", folder=tmp_path)


@needs_promtool
def test_prometheus_understands_what_is_served(served: bytes) -> None:
    """Names, types and units are as its conventions want them."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=served, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
