"""Debian's PostgreSQL in a folder of its own, at a Unix socket alone; as the user ``postgres`` under root."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

BINARIES = Path("/usr/lib/postgresql")
USER = "postgres"
START_S = 60.0
PORT = 5432
"""Part of the socket's name: nothing listens on the network."""


def _binaries() -> Path | None:
    found = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def require() -> None:
    """Skip where it is missing; where CI runs that is a failure."""
    why = _missing()
    if why:
        assert not os.environ.get("CI"), why
        pytest.skip(why)


def _missing() -> str | None:
    """Why it cannot be started here; None if it can."""
    if _binaries() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    try:
        import psycopg  # noqa: F401 - whether it is there
    except ImportError:
        return "psycopg is not installed (pip install 'psycopg[binary]')"
    if os.geteuid() == 0 and not _owner():
        return "there is no user postgres for PostgreSQL, which root may not run"
    return None


def _owner() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


class PostgreSql:
    """A server, and what tests do to it."""

    def __init__(self) -> None:
        # A short path: it is part of a Unix socket's name.
        self.folder = Path(tempfile.mkdtemp(prefix="sealbox-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, object] = {}
        owner = _owner() if os.geteuid() == 0 else None
        if owner is not None:
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()}
        self.folder.chmod(0o755)
        self._run(
            "initdb",
            "--pgdata",
            self.data,
            "--username",
            "owner",
            "--no-sync",
            "--auth",
            "trust",
            "--locale",
            "C",
            "--encoding",
            "SQL_ASCII",
        )

    @property
    def data(self) -> Path:
        """Where the databases are."""
        return self.folder / "data"

    def _run(self, program: str, *arguments: object) -> bytes:
        binaries = _binaries()
        assert binaries is not None
        done = subprocess.run(
            [str(binaries / program), *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            check=False,
            **self._as_user,  # type: ignore[call-overload]  # user and group, or nothing
        )
        assert done.returncode == 0, done.stderr
        return bytes(done.stdout)

    def start(self) -> PostgreSql:
        """Start it and wait until it answers."""
        binaries = _binaries()
        assert binaries is not None
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "port": PORT,
        }
        self._process = subprocess.Popen(
            [
                str(binaries / "postgres"),
                "-D",
                str(self.data),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._as_user,  # type: ignore[call-overload]  # as above
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, "PostgreSQL did not start"
            # A poll with a deadline: the condition above decides, not this pause.
            select.select([], [], [], 0.02)
        return self

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.Error:
            return False
        return True

    def url(self, database: str, user: str = "owner") -> str:
        """How a client calls a database."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={PORT}"

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the owner; its rows."""
        return self.sql_at(self.url("postgres"), statement)

    def new_place(self) -> str:
        """An empty place for one directory: the URL of a schema, which costs less than a database."""
        name = f"s{secrets.token_hex(6)}"
        self.sql(f"CREATE SCHEMA {name}")
        return f"{self.url('postgres')}&options=-csearch_path%3D{name}"

    def sql_at(self, url: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement at such a place; its rows."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def dump(self, url: str) -> bytes:
        """What pg_dump says of such a place."""
        schema = url.rpartition("%3D")[2]
        return self._run("pg_dump", "--schema", schema, "--dbname", self.url("postgres"))

    def _processes(self) -> list[int]:
        assert self._process is not None
        found, waiting = [], [self._process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(FileNotFoundError):
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9 for all of it."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait(START_S)
        self._process = None

    def stop(self) -> None:
        """End it for good, and remove what it has left."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
