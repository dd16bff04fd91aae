"""Debian's nginx in a folder of its own, on 127.0.0.1 alone, with the recipe of deploy/nginx."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port

RECIPE = Path(__file__).resolve().parents[1] / "deploy" / "nginx"
BINARY = Path("/usr/sbin/nginx")
MODULE = Path("/usr/lib/nginx/modules/ngx_mail_module.so")
STOP_S = 30
LISTENING = (993, 143, 995, 110, 465, 587)
"""The ports of the recipe."""


def missing() -> str | None:
    """Why it cannot be started here; None if it can."""
    if BINARY.exists() and MODULE.exists():
        return None
    return "nginx is not installed (Debian: apt install nginx libnginx-mod-mail)"


def require() -> None:
    """Skip where it is missing; where CI runs that is a failure."""
    why = missing()
    if why:
        assert not os.environ.get("CI"), why
        pytest.skip(why)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Nginx:
    """A server with the recipe, changed as an operator changes it.

    ``replace`` are texts of the recipe and what is written in their place; ``http`` is a block of that name.
    """

    folder: Path
    certificate: Path
    private_key: Path
    auth_http: str
    replace: Mapping[str, str] = field(default_factory=dict)
    http: str = ""
    connections: int = 1024
    ports: dict[int, int] = field(default_factory=lambda: {port: free_port() for port in LISTENING})
    process: subprocess.Popen[bytes] | None = None

    def _mail(self) -> str:
        text = (RECIPE / "mail.conf").read_text()
        text = re.sub(r"\n *listen \[::\]:[^\n]*", "", text)
        text = re.sub(r"listen (\d+)", lambda found: f"listen 127.0.0.1:{self.ports[int(found[1])]}", text)
        ours = {
            "/etc/sealbox/tls/certificate.pem": str(self.certificate),
            "/etc/sealbox/tls/private-key.pem": str(self.private_key),
            "/var/log/nginx": str(self.folder),
            "http://127.0.0.1:9143/": self.auth_http,
            **self.replace,
        }
        for old, new in ours.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def start(self) -> Nginx:
        """Start it in the foreground as our own child, and wait until it listens."""
        self.folder.mkdir(exist_ok=True)
        user = "user root;\n" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"load_module {MODULE};\n{user}daemon off;\nworker_processes 1;\npid {self.folder}/pid;\n"
            f"error_log {self.folder}/error.log warn;\nworker_rlimit_nofile {2 * self.connections};\n"
            f"events {{ worker_connections {self.connections}; }}\n{self.http}\n{self._mail()}"
        )
        arguments = ("-p", str(self.folder), "-c", str(self.folder / "nginx.conf"))
        self.process = subprocess.Popen(
            [str(BINARY), *arguments, "-e", str(self.folder / "error.log")], stdin=subprocess.DEVNULL
        )
        return self

    def listens(self) -> bool:
        """Whether it can be connected to; fails when it has ended."""
        assert self.process is not None and self.process.poll() is None, self.log()
        return all(map(_is_open, self.ports.values()))

    def log(self) -> str:
        """All that it has written."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(STOP_S)
            self.process = None
