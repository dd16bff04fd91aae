"""The real server as its own processes, started the way a user starts it."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import poplib
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port_base
from tests.readiness import Readiness

SEALBOX = [sys.executable, "-m", "deploy"]
START_S = 60
STOP_S = 40


def eventually(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of ``what()``, polled; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        # A poll with a deadline: the condition above decides, not this pause.
        __import__("select").select([], [], [], 0.02)


def answer_of(*arguments: str, stdin: str = "") -> dict[str, Any]:
    """Run a command of the operator, which has to do what it should; its JSON answer."""
    done = subprocess.run(
        [*SEALBOX, *arguments, "--json"], input=stdin.encode(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@dataclass
class Server:
    """A quick start server on a data folder."""

    data: Path
    base: int = field(default_factory=free_port_base)
    process: subprocess.Popen[bytes] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> Server:
        """Start and wait until everything answers."""
        with (self.data.parent / f"{self.data.name}.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [*SEALBOX, "quickstart", "--data", str(self.data), "--port-base", str(self.base), "--json"],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **self.environment},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.stdout.close()
            self.process.wait(STOP_S)
            self.process = None
            raise AssertionError(self.errors())
        self.info = json.loads(line)
        return self

    def start_with(self, change: Callable[[str], str]) -> Server:
        """As an operator does: ``sealbox serve`` with the quick start's data and its settings, changed.

        The quick start has run and ended; its own settings stay as they are.
        """
        config = self.data.parent / f"{self.data.name}.toml"
        config.write_text(change((self.data / "sealbox.toml").read_text("utf-8")), "utf-8")
        ready = Readiness()
        with (self.data.parent / f"{self.data.name}.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [*SEALBOX, "serve", "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**ready.environment, **self.environment},
            )
        ready.wait(self.process, START_S, self.errors)
        return self

    def errors(self) -> str:
        """What the server has said on standard error."""
        return (self.data.parent / f"{self.data.name}.err").read_text("utf-8")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None and self.process.stdout is not None
        self.process.terminate()
        code = self.process.wait(STOP_S)
        self.process.stdout.close()
        self.process = None
        return code

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return [pid for pid, name in self.children().items() if name.startswith("worker")]

    def children(self) -> dict[int, str]:
        """All processes of the server but the supervisor, by their ids, with their names."""
        assert self.process is not None
        found = {}
        for one in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                found[int(one)] = Path(f"/proc/{one}/comm").read_text("utf-8").strip()
        return found

    def kill(self) -> None:
        """kill -9 for supervisor and workers, all at once."""
        assert self.process is not None and self.process.stdout is not None
        for pid in [self.process.pid, *self.children()]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_S)
        self.process.stdout.close()
        self.process = None
        eventually(lambda: not _listening(self.base + 43))

    @property
    def user(self) -> str:
        """Login name of the account."""
        return str(self.info["user"])

    @property
    def password(self) -> str:
        """Its password."""
        return str(self.info["password"])

    def metrics(self) -> bytes:
        """Everything that is served for Prometheus."""
        place = f"http://127.0.0.1:{self.info['metrics']}/metrics"
        with urllib.request.urlopen(place, timeout=30) as answer:
            found: bytes = answer.read()
        return found

    def number(self, name: str, **labels: str) -> float | None:
        """One of them; None if it is not there."""
        for family in text_string_to_metric_families(self.metrics().decode("utf-8")):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def runs_and_logins(self) -> tuple[float, float]:
        """How often Argon2 has run, and how many attempts to log in have ended, counted at one moment.

        What is served may be some tenths of a second old.
        """
        return runs_and_logins(self.metrics())

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the server's certificate and checks its name."""
        return ssl.create_default_context(cafile=self.info["cafile"])

    def imap(self, user: str | None = None, password: str | None = None) -> imaplib.IMAP4_SSL:
        """A logged-in imaplib connection."""
        client = imaplib.IMAP4_SSL("127.0.0.1", self.info["imaps"], ssl_context=self.tls(), timeout=30)
        client.login(user or self.user, password or self.password)
        return client

    def pop(self) -> poplib.POP3_SSL:
        """A logged-in poplib connection."""
        client = poplib.POP3_SSL("127.0.0.1", self.info["pop3s"], context=self.tls(), timeout=30)
        client.user(self.user)
        client.pass_(self.password)
        return client

    def deliver(self, *messages: bytes, to: str | None = None) -> None:
        """Deliver messages over LMTP."""
        with smtplib.LMTP("127.0.0.1", self.info["lmtp"], local_hostname="localhost", timeout=30) as lmtp:
            for message in messages:
                lmtp.sendmail("sender@example.org", [to or self.user], message, ["BODY=8BITMIME"])

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        """Run a command on the server's data; its JSON answer."""
        return answer_of(*arguments, "--data", str(self.data), stdin=stdin)


def runs_and_logins(page: bytes) -> tuple[float, float]:
    """The same, from what is served for Prometheus."""
    samples = [
        one for family in text_string_to_metric_families(page.decode("utf-8")) for one in family.samples
    ]
    runs, logins = (
        sum(one.value for one in samples if one.name == name)
        for name in ("sealbox_argon2_wait_seconds_count", "sealbox_login_seconds_count")
    )
    return runs, logins


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def raw(server: Server, service: str, timeout_s: float = 30.0) -> ssl.SSLSocket:
    """A bare TLS connection to an implicit-TLS port."""
    plain = socket.create_connection(("127.0.0.1", server.info[service]), timeout_s)
    return server.tls().wrap_socket(plain, server_hostname="localhost")
