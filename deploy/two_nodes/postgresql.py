"""Debian's PostgreSQL in a folder of its own, at a Unix socket alone."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from deploy.two_nodes.programs import CannotStart, Pause, Program

BINARIES = Path("/usr/lib/postgresql")
OWNER = "owner"
PORT = 5432
"""Part of the socket's name: nothing listens on the network."""


def binaries() -> Path | None:
    """Where the newest version that is installed has its programs; None if there is none."""
    found = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgreSqlServer:
    """A cluster in ``folder``, which has to belong to the user it runs as. It survives no power cut."""

    def __init__(self, folder: Path, **as_user: Any) -> None:
        """Make the cluster. ``as_user`` is what subprocess takes for another user.

        Raises CannotStart, OSError.
        """
        self.folder = folder
        self._as_user = as_user
        self.program: Program | None = None
        plain = ("--no-sync", "--auth", "trust", "--locale", "C", "--encoding", "SQL_ASCII")
        self.run("initdb", "--pgdata", str(self.data), "--username", OWNER, *plain)

    @property
    def data(self) -> Path:
        """Where the databases are."""
        return self.folder / "data"

    def _path(self, program: str) -> Path:
        found = binaries()
        if found is None:
            raise CannotStart("PostgreSQL is not installed (Debian: apt install postgresql)")
        return found / program

    def run(self, program: str, *arguments: str) -> bytes:
        """Run one of its programs; what it prints. Raises CannotStart with what it says of a failure."""
        words: list[str | Path] = [self._path(program), *arguments]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, check=False, **self._as_user)
        if done.returncode:
            raise CannotStart(f"{program}: {done.stderr.decode('utf-8', 'replace').strip()}")
        return bytes(done.stdout)

    def start(self, pause: Pause) -> Self:
        """Start it and wait until it answers. Raises CannotStart, and what ``pause`` raises."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "port": str(PORT),
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._path("postgres"), "-D", self.data, *words]
        self.program = Program("postgresql", command, self.folder, **self._as_user)
        self.program.wait_until(self._answers, pause)
        return self

    def _answers(self) -> bool:
        try:
            self.run("pg_isready", "--quiet", "--host", str(self.folder), "--port", str(PORT))
        except CannotStart:
            return False
        return True

    def stop(self) -> None:
        """Disconnect everybody and end it in order, so that no shared memory is left."""
        if self.program is not None:
            self.program.stop(signal.SIGINT)

    def url(self, database: str = "postgres", user: str = OWNER) -> str:
        """How a client calls a database."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={PORT}"
