"""LMTP over a Unix socket that two workers share, as an operator configures it."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
from pathlib import Path

import pytest
from running import SEALBOX, eventually

from deploy.first_run import make_certificate
from mailstore.sealed import pending

pytestmark = pytest.mark.integration


def deliver(path: Path) -> None:
    """One message through the socket."""
    with smtplib.LMTP(str(path), local_hostname="mta.test") as lmtp:
        lmtp.sendmail("a@example.org", ["bob@example.org"], b"Subject: x\r\n\r\nhi\r\n")


def test_unix_socket_outlives_a_worker(tmp_path: Path) -> None:
    """The socket works, goes on working when a worker ends, and is gone after the server."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    config, path = tmp_path / "sealbox.toml", tmp_path / "lmtp.sock"
    config.write_text(
        f'data = "{tmp_path}/data"\nhostname = "mail.test"\nworkers = 2\nallow_unencrypted_volume = true\n'
        f'[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
        f'[listen]\nimaps = []\npop3s = []\nlmtp = ["unix:{path}"]\n[argon2]\nmemory_kib = 64\n'
    )
    add = ["account", "add", "bob@example.org", "--password-stdin", "--config", str(config)]
    subprocess.run([*SEALBOX, *add], input=b"password-of-bob\n", check=True, timeout=60, capture_output=True)
    with (tmp_path / "err").open("wb") as errors:
        server = subprocess.Popen([*SEALBOX, "serve", "--config", str(config)], stderr=errors)
    try:
        eventually(lambda: b"sealbox: serving" in (tmp_path / "err").read_bytes())
        assert path.stat().st_mode & 0o777 == 0o660
        deliver(path)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        eventually(lambda: b"worker 0 ended" in (tmp_path / "err").read_bytes())
        for _ in range(6):
            deliver(path)
        inbox = next((tmp_path / "data" / "accounts").glob("*/*/inbox"))
        assert len(pending(inbox)) == 7
    finally:
        server.terminate()
        assert server.wait(40) == 0
    assert not path.exists()
    assert b"failed" not in (tmp_path / "err").read_bytes()
