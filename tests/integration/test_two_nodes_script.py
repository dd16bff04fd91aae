"""``deploy/two-nodes``: what it promises is there, and nothing of it is left."""

from __future__ import annotations

import imaplib
import json
import os
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from running import STOP_S, answer_of, eventually

from tests import nginx, r2_server
from tests import postgresql as postgresql_server
from tests.ports import free_port_base

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
ADA, BOB = "ada@example.org", "bob@example.org"


def require() -> None:
    """Skip where something is missing."""
    postgresql_server.require()
    nginx.require()
    r2_server.require()
    if os.geteuid() == 0 and not all(one.stat().st_mode & 0o001 for one in (ROOT, *ROOT.parents)):
        pytest.skip("the user that root becomes cannot read this checkout")


class Script:
    """A run of it. All that it makes is below ``place``, and all that it starts works there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.said = place.with_suffix(".err")
        with self.said.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.two_nodes", "--json", "--port-base", str(free_port_base())],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "TMPDIR": str(place)},
            )

    def info(self) -> dict[str, Any]:
        """What it prints when everything runs."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors()
        found: dict[str, Any] = json.loads(line)
        return found

    def errors(self) -> str:
        """What it has said on standard error."""
        return self.said.read_text("utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """A signal; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, when it ends."""
        code = self.process.wait(STOP_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def processes(self) -> list[int]:
        """Everybody who works below the place."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str((one / "cwd").readlink()).startswith(str(self.place)):
                    found.append(int(one.name))
        return found

    def left(self) -> list[object]:
        """Processes, files and shared memory (proc(5): the fifth column is who made it) that are there."""
        segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
        ours = [one[1] for one in segments if int(one[4]) in self.seen]
        return [*self.processes(), *self.place.iterdir(), *ours]

    seen: frozenset[int] = frozenset()

    def remember(self) -> None:
        """Note who runs, to know their shared memory afterwards."""
        self.seen = frozenset(self.processes())


@pytest.fixture
def script() -> Iterator[Script]:
    """A run with a place of its own, which another user may write to."""
    require()
    yield from _run(Path(tempfile.mkdtemp(prefix="sealbox-tn-")))


@pytest.fixture
def script_with_a_long_path() -> Iterator[Script]:
    """As above, and no Unix socket can be made there."""
    require()
    yield from _run(Path(tempfile.mkdtemp(prefix=f"sealbox-tn-{'x' * 80}-")))


def _run(place: Path) -> Iterator[Script]:
    place.chmod(0o777)
    script = Script(place)
    try:
        yield script
    finally:
        if script.process.poll() is None:
            script.end()
        script.said.unlink()
        shutil.rmtree(place)


def count(info: dict[str, Any], who: str) -> int:
    """Messages in an INBOX, by way of nginx."""
    account = info["accounts"][who]
    tls = ssl.create_default_context(cafile=info["cafile"])
    with imaplib.IMAP4_SSL("localhost", info["proxy"]["imaps"], ssl_context=tls, timeout=30) as client:
        client.login(who, account["password"])
        return int(client.select("INBOX", readonly=True)[1][0] or 0)


def deliver(info: dict[str, Any], node: str, to: str) -> None:
    """Bring a message to a node."""
    with smtplib.LMTP("127.0.0.1", info["nodes"][node]["lmtp"], "localhost", timeout=30) as lmtp:
        lmtp.sendmail("me@example.net", [to], "Subject: hello\r\n\r\nworld\r\n")


def test_two_nodes_serve_and_nothing_is_left(script: Script) -> None:
    """Mail across, the operator's commands, a node that is lost and comes back; then SIGTERM."""
    info = script.info()
    samples = count(info, ADA)
    assert samples == count(info, BOB) > 0
    deliver(info, "a", BOB)
    deliver(info, "b", ADA)
    assert count(info, ADA) == count(info, BOB) == samples + 1
    listed = answer_of("node", "list", "--config", info["nodes"]["b"]["config"])
    assert [(one["name"], one["accounts"]) for one in listed["nodes"]] == [("a", 1), ("b", 1)]
    os.kill(info["nodes"]["a"]["pid"], signal.SIGKILL)
    eventually(lambda: "node-a has ended" in script.errors())
    script.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "node-a is started again" in script.errors())
    eventually(lambda: _serves(info), 60)
    assert count(info, ADA) == samples + 1
    script.remember()
    assert len(script.seen) > 5
    assert script.end() == 0
    assert script.left() == []


def _serves(info: dict[str, Any]) -> bool:
    with suppress(OSError, smtplib.SMTPException):
        smtplib.LMTP("127.0.0.1", info["nodes"]["a"]["lmtp"], timeout=5).close()
        return True
    return False


def test_ctrl_c_while_it_starts_leaves_nothing(script: Script) -> None:
    """Programs run already, and others are still to come."""
    eventually(script.processes)
    assert script.end(signal.SIGINT) == 0
    assert script.left() == []


def test_a_start_that_fails_half_way_leaves_nothing(script_with_a_long_path: Script) -> None:
    """The bucket runs already when PostgreSQL says what is wrong."""
    script = script_with_a_long_path
    assert script.wait() == 3
    assert "postgresql does not start" in script.errors()
    assert script.left() == []
