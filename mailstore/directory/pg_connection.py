"""Connections to PostgreSQL: the only importer of its driver. Nothing in here waits without an end.

A process has a few connections. While PostgreSQL does not answer, every question fails at once but one in a
while, which tries whether it does again: nobody queues behind a server that is gone.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from queue import Empty, LifoQueue
from threading import BoundedSemaphore, Lock
from typing import Any

import psycopg
from psycopg import errors as driver
from psycopg.conninfo import conninfo_to_dict

from mailstore.errors import (
    AccountExists,
    Busy,
    DirectoryRefused,
    DirectoryUnavailable,
    DomainInUse,
    OutcomeUnknown,
    StorageFailed,
    StorageFull,
    StoreError,
)
from mailstore.limits import DirectoryLimits

log = logging.getLogger("sealbox.directory")

APPLICATION = "sealbox"
_PORT = 5432
_GRACE_S = 0.5
"""Seconds that the server's own time limit has to be told to us before we give up."""

_FIRST_PAUSE = 20
"""The first pause after a failure is this part of the longest."""

_SETTINGS = (
    "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),"
    " set_config('idle_in_transaction_session_timeout', %s, false)"
)
_FETCHED = 500
"""Rows that are fetched, or written, at a time."""

Row = tuple[Any, ...]


class _Connection(psycopg.Connection[Row]):
    """One whose answers are waited for only so long."""

    answer_timeout_s: float = 10.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's, with a timeout; a connection that is late is in an unknown state and of no use."""
        try:
            return super().wait(gen, interval, self.answer_timeout_s if timeout is None else timeout)
        except driver._WaitTimeout:
            if timeout is None:
                self.pgconn.finish()
            raise


def _translated(error: psycopg.Error) -> StoreError:
    """What an error of the driver means to callers. Its text may hold values, and stays here."""
    state = error.sqlstate or ""
    match state:
        case "23505":
            return AccountExists("another node has added it meanwhile")
        case "23503":
            return DomainInUse("something still refers to it")
        case "55P03" | "40001" | "40P01":
            return Busy("another transaction holds the directory")
        case "53100":
            return StorageFull("the disk of PostgreSQL is full")
        case "42501":
            log.error("directory: PostgreSQL refuses the role a right that it needs (%s)", state)
            return DirectoryRefused("the role lacks a right")
    if _is_loss(error):
        return DirectoryUnavailable("PostgreSQL does not answer")  # what keeps count of it tells the log
    if not state or state in ("57014", "25006") or state[:2] in ("08", "53", "57"):
        log.warning("directory: PostgreSQL does not answer: %s %s", type(error).__name__, state)
        return DirectoryUnavailable("PostgreSQL does not answer")
    log.error("directory: PostgreSQL reports %s %s", type(error).__name__, state)
    return StorageFailed("the directory's database failed")


def _is_loss(error: psycopg.Error) -> bool:
    """Whether the connection, or the server behind it, is gone: no use in asking on."""
    state = error.sqlstate or ""
    is_operational = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return (is_operational and not state) or state[:2] == "08" or state[:3] == "57P" or state == "53300"


def _first_line(error: psycopg.Error) -> str:
    """What libpq says of a connection: places and roles, never a value or a password."""
    if isinstance(error, driver._WaitTimeout):
        return "no answer in time (query_timeout_s)"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _has_ended(connection: _Connection) -> bool:
    """Whether an idle connection was closed by the server: nothing else is ever to be read from it."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def hosts_of(url: str) -> list[tuple[str, int]]:
    """Names and ports that a URL connects to; none for Unix sockets, nor for what libpq does not take."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return []
    hosts = str(parts.get("host") or "").split(",")
    ports = [int(one) if one.isdecimal() else _PORT for one in str(parts.get("port") or "").split(",")]
    pairs = zip(hosts, ports if len(ports) == len(hosts) else ports * len(hosts), strict=False)
    return [(host, port) for host, port in pairs if host and not host.startswith("/")]


class Txn:
    """One transaction, as the functions that are handed to :meth:`Database.write` and ``read`` see it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.has_written = False

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a short answer."""
        return self._connection.execute(query, values).fetchall()

    def one(self, query: str, values: Sequence[object] = ()) -> Row | None:
        """The first row, None if there is none."""
        return self._connection.execute(query, values).fetchone()

    def run(self, statement: str, values: Sequence[object] = ()) -> int:
        """Change something; how many rows were."""
        count = self._connection.execute(statement, values).rowcount
        self.has_written |= count > 0
        return count

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """Change something for each of many, of which few are in memory at a time."""
        waiting = iter(values)
        with self._connection.cursor() as cursor:
            while batch := list(islice(waiting, _FETCHED)):
                cursor.executemany(statement, batch)
                self.has_written = True

    def script(self, statements: str) -> None:
        """Run statements of ours that take no values and give no rows."""
        self._connection.execute(statements)
        self.has_written = True

    def many(self, query: str) -> Iterator[Row]:
        """The rows of a long answer, fetched in batches inside the transaction."""
        self._connection.execute(f"DECLARE listing NO SCROLL CURSOR FOR {query}")
        while found := self._connection.execute(f"FETCH {_FETCHED} FROM listing").fetchall():
            yield from found
        self._connection.execute("CLOSE listing")


class Listening:
    """A connection that hears of the changes of one directory."""

    def __init__(self, connection: _Connection, version: str, channel: str) -> None:
        """``version`` asks for the directory's version; ``channel`` is a name of ours."""
        self._connection = connection
        self._version = version
        connection.execute(f"LISTEN {channel}")

    def fileno(self) -> int:
        """What becomes readable when there is news, or the connection has ended."""
        return self._connection.fileno()

    def version(self) -> Row:
        """The version of the directory now."""
        return self._connection.execute(self._version).fetchall()[0]

    def news(self) -> list[str]:
        """What was told since the last call."""
        return [one.payload for one in self._connection.notifies(timeout=0)]


class Database:
    """The connections of one process. Any number of threads may use it at once."""

    def __init__(
        self, url: str, limits: DirectoryLimits, check: Callable[[Txn], None], *, tells: bool = True
    ) -> None:
        """Connects when first asked. ``check`` looks at each new connection, and may raise StoreError.

        ``tells``: the log hears when PostgreSQL is away, and when it is back.
        """
        self._tells = tells
        self._url = url
        self._limits = limits
        self._check = check
        self._idle: LifoQueue[_Connection] = LifoQueue()
        self._free = BoundedSemaphore(limits.connections)
        self._lock = Lock()
        self._pause_s = 0.0
        self._away_until_s = -math.inf
        self._is_told = False
        self._is_closed = False

    def close(self) -> None:
        """Let go of all connections, of those that are in use when they are given back."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    # -- asking ----------------------------------------------------------------------------------

    def read(self, fn: Callable[..., Any], *args: Any) -> Any:
        """``fn(txn, *args)`` in a transaction that sees one state of everything, and changes nothing.

        Raises DirectoryUnavailable, Busy, DirectoryRefused, StorageFailed, and what ``fn`` and the check do.
        """

        def work(connection: _Connection) -> Any:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            result = fn(Txn(connection), *args)
            connection.execute("COMMIT")
            return result

        return self._run(work)

    def ask(self, fn: Callable[[Txn], Any]) -> Any:
        """``fn(txn)``, which is one statement that only reads; raises as :meth:`read` does."""
        return self._run(lambda connection: fn(Txn(connection)))

    def write(self, fn: Callable[..., Any], *args: Any, checked: bool = True) -> Any:
        """``fn(txn, *args)`` in a transaction, which ends without a trace if ``fn`` changes nothing.

        Raises as :meth:`read` does; StorageFull; OutcomeUnknown: nobody can say whether it has happened.
        """

        def work(connection: _Connection) -> Any:
            connection.execute("BEGIN")
            txn = Txn(connection)
            result = fn(txn, *args)
            if txn.has_written:
                self._commit(connection)
            else:
                connection.execute("ROLLBACK")
            return result

        return self._run(work, checked=checked)

    def _commit(self, connection: _Connection) -> None:
        """Raises psycopg.Error: nothing has been changed. OutcomeUnknown."""
        [(xid,)] = connection.execute("SELECT pg_current_xact_id()::text").fetchall()
        try:
            connection.execute("COMMIT")
        except psycopg.OperationalError as error:
            if not _is_loss(error) or not self._has_committed(str(xid)):
                raise

    def _has_committed(self, xid: str) -> bool:
        """What became of a transaction whose end was not heard of. Raises OutcomeUnknown."""
        try:
            with self._opened(checked=False) as connection:
                found = connection.execute("SELECT pg_xact_status(%s::xid8)", (xid,)).fetchall()[0][0]
        except (psycopg.Error, StoreError):
            found = None
        if found not in ("committed", "aborted"):
            raise OutcomeUnknown("whether the directory was changed is not known")
        return bool(found == "committed")

    # -- connections -----------------------------------------------------------------------------

    @property
    def is_away(self) -> bool:
        """Whether it did not answer when it was last asked."""
        return self._pause_s > 0.0

    def _run(self, work: Callable[[_Connection], Any], *, checked: bool = True) -> Any:
        """``work(connection)``; once more on a new one where one that was idle turns out to be lost."""
        tries = self._admitted()
        if not self._free.acquire(timeout=self._limits.connect_timeout_s):
            raise DirectoryUnavailable("all connections to PostgreSQL are in use")
        try:
            if self.is_away and not tries:
                raise DirectoryUnavailable("PostgreSQL does not answer")
            connection = self._idle_one() if checked else None
            if connection is not None:
                try:
                    return self._done(work, connection, checked=True)
                except psycopg.Error as error:
                    if not _is_loss(error) or isinstance(error, driver._WaitTimeout):
                        raise
            return self._done(work, self._connect(checked=checked), checked=checked)
        except psycopg.Error as error:
            if _is_loss(error):
                self._is_gone(error, again=tries)
            raise _translated(error) from None
        except StoreError as error:
            if not isinstance(error, DirectoryUnavailable):
                self._answers()  # what it said is what was asked for
            raise
        finally:
            self._free.release()

    def _done(self, work: Callable[[_Connection], Any], connection: _Connection, *, checked: bool) -> Any:
        try:
            result = work(connection)
        finally:
            self._give_back(connection, checked=checked)
        self._answers()
        return result

    def _idle_one(self) -> _Connection | None:
        while True:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                return None
            if not _has_ended(connection):
                return connection
            connection.close()

    def _give_back(self, connection: _Connection, *, checked: bool) -> None:
        if connection.closed or self.is_away or self._is_closed or not checked:
            connection.close()
            return
        try:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
            return
        self._idle.put_nowait(connection)

    def _connect(self, *, checked: bool) -> _Connection:
        limits = self._limits
        connection = _Connection.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(2, math.ceil(limits.connect_timeout_s)),
            fallback_application_name=APPLICATION,
            client_encoding="UTF8",  # what texts there are, such as news, are ASCII in any case
        )
        try:
            query_ms = int(limits.query_timeout_s * 1000)
            connection.answer_timeout_s = limits.query_timeout_s + _GRACE_S
            # A lock that is not had in time is told before the statement's time is over.
            connection.execute(_SETTINGS, (str(query_ms), str(query_ms * 4 // 5), str(query_ms * 4)))
            if checked:
                self._check(Txn(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _opened(self, *, checked: bool) -> Iterator[_Connection]:
        """A connection beside the others. Raises psycopg.Error."""
        connection = self._connect(checked=checked)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def listening(self, version: str, channel: Callable[[], str]) -> Iterator[Listening]:
        """A connection of its own that listens. Whatever ends it is raised as StoreError.

        ``channel`` is asked for once the connection has been checked.
        """
        is_there = False
        try:
            with self._opened(checked=True) as connection:
                self._answers()
                is_there = True
                yield Listening(connection, version, channel())
        except psycopg.Error as error:
            # One connection may end by itself; one that cannot be made, or hangs, says more.
            if _is_loss(error) and (not is_there or isinstance(error, driver._WaitTimeout)):
                self._is_gone(error, again=True)
            raise _translated(error) from None

    # -- while it does not answer ----------------------------------------------------------------

    def _admitted(self) -> bool:
        """Whether the caller is the one that tries again whether PostgreSQL answers.

        Raises DirectoryUnavailable: it does not, and nobody is to wait for it.
        """
        with self._lock:
            if self._pause_s == 0.0:
                return False
            now_s = time.monotonic()
            if now_s >= self._away_until_s:
                # Others go on being refused while this one tries.
                self._away_until_s = now_s + self._limits.connect_timeout_s + self._limits.query_timeout_s
                return True
        raise DirectoryUnavailable("PostgreSQL does not answer")

    def _is_gone(self, error: psycopg.Error, *, again: bool) -> None:
        """``again``: that was to be seen; of many who lose it at once only one counts."""
        with self._lock:
            longest_s = self._limits.retry_max_s
            if self._pause_s == 0.0:
                self._pause_s = longest_s / _FIRST_PAUSE
            elif again:
                self._pause_s = min(2 * self._pause_s, longest_s)
            self._away_until_s = time.monotonic() + self._pause_s
            is_told, self._is_told = self._is_told, True
        if self._tells and not is_told:
            log.error("directory: PostgreSQL cannot be asked: %s", _first_line(error))
        self._close_idle()

    def _answers(self) -> None:
        with self._lock:
            self._pause_s = 0.0
            is_told, self._is_told = self._is_told, False
        if self._tells and is_told:
            log.warning("directory: PostgreSQL answers again")
