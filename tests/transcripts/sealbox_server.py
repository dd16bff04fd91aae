"""Our server as its own processes, on a data root that a test fills; its keyslots cost next to nothing."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

from deploy.first_run import make_certificate
from mailstore.account import init_root, open_directory
from mailstore.keys import Argon2Params
from tests.ports import free_port
from tests.readiness import Readiness

CHEAP = Argon2Params(1, 64, 1)
START_S = 60.0
STOP_S = 40.0
SERVICES = ("imaps", "imap", "pop3s", "pop3", "lmtp")
PROJECT = Path(__file__).resolve().parents[2]


class SealboxServer:
    """One server; its accounts are made by whoever uses it."""

    def __init__(self, folder: Path, store: dict[str, int] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.root = folder / "root"
        self.ports = {service: free_port() for service in SERVICES}
        self._store = {"max_annotations": 20, **(store or {})}
        self._tls = (folder / "certificate.pem", folder / "private-key.pem")
        make_certificate(*self._tls)
        init_root(self.root)
        self.directory = open_directory(self.root)
        ready = Readiness()
        self._process = self._start(ready)
        ready.wait(self._process, START_S, self.errors)

    def _settings(self) -> str:
        lines = [
            f"data = {json.dumps(str(self.root))}",
            'hostname = "localhost"',
            "allow_unencrypted_volume = true",
            "workers = 2",
            "drain_timeout_s = 0.0",
            "[tls]",
            f"certificate = {json.dumps(str(self._tls[0]))}",
            f"private_key = {json.dumps(str(self._tls[1]))}",
            "[listen]",
            *(f'{service} = ["127.0.0.1:{port}"]' for service, port in self.ports.items()),
            "[argon2]",
            f"time_cost = {CHEAP.time_cost}",
            f"memory_kib = {CHEAP.memory_kib}",
            f"parallelism = {CHEAP.parallelism}",
            "[login]",
            "list_scram = true",
            "first_delay_s = 0.01",
            "[store]",
            *(f"{name} = {value}" for name, value in self._store.items()),
            "",
        ]
        return "\n".join(lines)

    def _start(self, ready: Readiness) -> subprocess.Popen[bytes]:
        config = self._folder / "sealbox.toml"
        config.write_text(self._settings())
        with (self._folder / "stderr").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "deploy", "serve", "--config", str(config)],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=ready.environment,
            )

    def errors(self) -> str:
        """What the server has said on standard error."""
        return (self._folder / "stderr").read_text("utf-8")

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the server's certificate and checks its name."""
        return ssl.create_default_context(cafile=str(self._tls[0]))

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        code = self._process.wait(STOP_S)
        self.directory.close()
        return code
