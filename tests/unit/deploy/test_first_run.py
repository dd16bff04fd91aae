"""What the quick start leaves on the disk, and who may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from deploy.first_run import prepare

PORT_BASE = 1100


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_other_users_may_read_the_certificate_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """A mail program of another user has to trust the certificate; all else is private, with any umask."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data = tmp_path / "data"
    before = os.umask(umask)
    try:
        prepared = prepare(data, PORT_BASE)
        # Data of an earlier version, whose certificate was private.
        for path in (data, prepared.certificate.parent):
            path.chmod(0o700)
        prepared.certificate.chmod(0o600)
        prepare(data, PORT_BASE)
    finally:
        os.umask(before)
    open_to_others = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (data, *data.rglob("*"), *(tmp_path / "state").rglob("*.json"))
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_to_others == {"data": 0o711, "data/tls": 0o711, "data/tls/certificate.pem": 0o644}
