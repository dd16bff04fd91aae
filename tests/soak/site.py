"""The server under load: its accounts, configuration, process, and the memory it takes."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from deploy.first_run import make_certificate
from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.keys import Argon2Params
from tests.ports import free_port
from tests.readiness import Readiness
from tests.soak.ledger import Account

PROJECT = Path(__file__).resolve().parents[2]
PASSWORD = "correct-horse-battery-staple"  # the password of generated mail
CHEAP = Argon2Params(1, 64, 1)
WORKERS = 2
START_S = 180.0
STOP_S = 60.0
TRACEBACK = re.compile(r'^.*\n(?:  .*\n)*?  File ".*\n(?:  .*\n)*.*', re.MULTILINE)


@dataclass
class Memory:
    """Resident MiB of one process by the time it was looked at."""

    role: str
    seen: list[float] = field(default_factory=list)


class Site:
    """One server with snapshots to a folder."""

    def __init__(self, folder: Path, accounts: list[Account]) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.imaps, self.pop3s, self.lmtp = (free_port() for _ in range(3))
        self.certificate = folder / "certificate.pem"
        make_certificate(self.certificate, folder / "private-key.pem")
        init_root(self.root)
        directory = open_directory(self.root)
        for account in accounts:
            create_account(self.root, directory, NewAccount(account.name, PASSWORD.encode()), params=CHEAP)
        directory.close()
        (folder / "objects").mkdir()
        self._command("backup", "keygen", "--private", folder / "private", "--public", folder / "public")
        self.config = folder / "sealbox.toml"
        self.config.write_text(self._settings())
        self._process: subprocess.Popen[bytes] | None = None
        self.memory: dict[int, Memory] = {}

    def _settings(self) -> str:
        quoted = json.dumps
        return "\n".join(
            (
                f"data = {quoted(str(self.root))}",
                'hostname = "localhost"',
                f"workers = {WORKERS}",
                "allow_unencrypted_volume = true",
                "[tls]",
                f"certificate = {quoted(str(self.certificate))}",
                f"private_key = {quoted(str(self.folder / 'private-key.pem'))}",
                "[listen]",
                f'imaps = ["127.0.0.1:{self.imaps}"]',
                f'pop3s = ["127.0.0.1:{self.pop3s}"]',
                f'lmtp = ["127.0.0.1:{self.lmtp}"]',
                "[argon2]",
                f"time_cost = {CHEAP.time_cost}",
                f"memory_kib = {CHEAP.memory_kib}",
                f"parallelism = {CHEAP.parallelism}",
                "[stream]",
                "connections_per_address_max = 2000",
                "[backup]",
                f"store = {quoted('file://' + str(self.folder / 'objects'))}",
                f"public_key = {quoted(str(self.folder / 'public'))}",
                "[snapshots]",
                "settle_s = 2.0\nlongest_wait_s = 10.0\nscan_interval_s = 2.0",
                "",
            )
        )

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the server."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def start(self) -> None:
        """Start, and wait until every worker accepts connections."""
        ready = Readiness()
        with (self.folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy", "serve", "--config", str(self.config)],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=ready.environment,
            )
        ready.wait(self._process, START_S, self.errors)

    def errors(self) -> str:
        """What the server has said on standard error."""
        return (self.folder / "stderr").read_text("utf-8", "replace")

    def tracebacks(self) -> list[str]:
        """Every exception in what the server has said, from the line before its first place in the source."""
        return [found.group() for found in TRACEBACK.finditer(self.errors())]

    def processes(self) -> dict[int, str]:
        """Process ids and what each is: supervisor, worker, snapshots."""
        assert self._process is not None
        pid = self._process.pid
        found = {pid: "supervisor"}
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                name = Path(f"/proc/{child}/comm").read_text()
            except OSError:
                continue
            found[int(child)] = "worker" if name.startswith("worker ") else "snapshots"
        return found

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return [pid for pid, role in self.processes().items() if role == "worker"]

    def kill(self, pid: int) -> None:
        """kill -9 for one of our own workers."""
        if pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def look(self) -> None:
        """Note the resident memory of every process."""
        for pid, role in self.processes().items():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
            self.memory.setdefault(pid, Memory(role)).seen.append(kib / 1024)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(STOP_S)

    def drill(self) -> None:
        """Take what is not in the store yet, restore every account to scratch, and check it."""
        self._command("backup", "run", "--config", self.config)
        self._command("backup", "verify", "--config", self.config)

    def _command(self, *arguments: object) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *map(str, arguments), "--json"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"{arguments[1]} ends with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-500:]}"
            )
