"""A reload of the process of the metrics: it tells what counts now, as the workers do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy import config
from deploy.first_run import make_certificate
from deploy.metrics.process import Process


def test_what_only_a_restart_changes_is_told_as_it_is_until_then(tmp_path: Path) -> None:
    """Or workers that nobody has started would be missed, and another volume be measured."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    path = tmp_path / "sealbox.toml"
    path.write_text(
        f'data = "{tmp_path}"\nworkers = 2\n[tls]\n'
        f'certificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
    )
    nothing: Any = None
    process = Process(nothing, config.load(path), nothing)
    text = path.read_text().replace(f'data = "{tmp_path}"', 'data = "/elsewhere"')
    path.write_text(text.replace("workers = 2", 'workers = 4\nlog_level = "debug"'))
    process._reload()
    assert "sealbox_workers_configured 2.0\n" in process._render().decode()
    known = process._known.config
    assert (known.data, known.workers, known.log_level) == (tmp_path, 2, "debug")


def test_a_wrong_configuration_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers say what is wrong with it."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    path = tmp_path / "sealbox.toml"
    path.write_text(
        f'data = "{tmp_path}"\n[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
    )
    nothing: Any = None
    process = Process(nothing, config.load(path), nothing)
    before = process._known.config
    path.write_text("colour = 1\n")
    process._reload()
    assert process._known.config is before
