"""Debian's PostgreSQL in a folder of its own, at a Unix socket alone; as the user ``postgres`` under root."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Self

import pytest

from deploy.two_nodes.postgresql import PostgreSqlServer, binaries
from deploy.two_nodes.programs import Pause

USER = "postgres"


def require() -> None:
    """Skip where it is missing; where CI runs that is a failure."""
    why = _missing()
    if why:
        assert not os.environ.get("CI"), why
        pytest.skip(why)


def _missing() -> str | None:
    """Why it cannot be started here; None if it can."""
    if binaries() is None:
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


class PostgreSql(PostgreSqlServer):
    """A server, and what tests do to it."""

    def __init__(self) -> None:
        # A short path: it is part of a Unix socket's name.
        folder = Path(tempfile.mkdtemp(prefix="sealbox-pg-"))
        owner = _owner() if os.geteuid() == 0 else None
        as_user: dict[str, object] = {}
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()}
        folder.chmod(0o755)
        super().__init__(folder, **as_user)

    def start(self, pause: Pause = time.sleep) -> Self:
        """Start it and wait until it answers."""
        return super().start(pause)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the owner; its rows."""
        return self.sql_at(self.url(), statement)

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
        return self.run("pg_dump", "--schema", schema, "--dbname", self.url())

    def _processes(self) -> list[int]:
        assert self.program is not None
        found, waiting = [], [self.program.pid]
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
        assert self.program is not None
        self.signal(signal.SIGKILL)
        self.program.wait()
        self.program = None

    def stop(self) -> None:
        """End it for good, and remove what it has left."""
        if self.program is not None:
            self.signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
