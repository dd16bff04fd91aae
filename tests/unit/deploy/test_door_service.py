"""The door's process across a reload."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from deploy import door_service
from deploy.config import load
from deploy.first_run import make_certificate
from mailstore.account import init_root
from protocols.https.session import HttpsServices


def test_what_was_not_seen_survives_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that was used up before it gives its password after it, for the time that is set now."""
    seen: list[HttpsServices] = []
    make = door_service.HttpsFactory

    def noting(services: HttpsServices, limits: object) -> object:
        seen.append(services)
        return make(services, limits)  # type: ignore[arg-type]  # as it comes

    monkeypatch.setattr(door_service, "HttpsFactory", noting)
    init_root(tmp_path / "data")
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    path = tmp_path / "sealbox.toml"

    def settings(kept_s: int) -> str:
        return (
            f'data = "{tmp_path}/data"\nhostname = "mail.example.org"\n'
            f'[listen]\nhttps = ["127.0.0.1:8443"]\n[https]\nunseen_kept_s = {kept_s}\n'
            f'[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
        )

    path.write_text(settings(20), "utf-8")
    service = door_service.DoorService(Clock(), load(path))
    for kept_s in (20, 40):
        path.write_text(settings(kept_s), "utf-8")
        service.reload(load(path))
    before, after = (services.unseen for services in seen)
    assert after is before
    assert after.kept_s == 40
