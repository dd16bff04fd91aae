"""When an account's databases are open: while somebody works in them, and for a while after.

An account whose sessions only idle is asleep: its files are closed, and what was read from them is forgotten.
Its key and its watches stay. Whoever needs a database wakes it, in the thread that opens it, and only those
wait who need it, too.

                       databases()                 done
              ASLEEP ---------------> WAKING ---------------> AWAKE
                 ^                       | failed                |  no command for a while, and all done
                 |<----------------------+                       v
                 +----------------------------------------- SETTLING

``close`` ends all of this, from whichever state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailstore.account import AccountPaths
from mailstore.clock import Clock, DelayedCall
from mailstore.databases import Databases, State
from mailstore.durable import storage_errors
from mailstore.errors import AccountClosed, Busy, KeysChanged, StoreError
from mailstore.eviction import asked_to_leave
from mailstore.executor import Executor
from mailstore.limits import StoreLimits
from mailstore.model import MailboxId
from mailstore.page_journal import FileIdentity, identity
from mailstore.restored_mark import restored_mark

log = logging.getLogger("sealbox.store")

SLEEP_LOCK_WAIT_S = 1.0
"""Seconds to wait for the account's lock when it falls asleep; then its databases are closed later."""

LOOK_S = 5.0
"""Seconds between looks, at most, whether an account may sleep that was woken for new mail, or is at work."""

SETTLED_NS = 1_000_000_000
"""Nanoseconds after which a further change of a file gets another time than the last one has."""

Files = tuple[FileIdentity | None, FileIdentity | None]
"""The database and its log, as they were at some moment; a log without content counts as none."""


class Stage(Enum):
    """Where an account is in the drawing above."""

    ASLEEP = "asleep"
    WAKING = "waking"
    AWAKE = "awake"
    SETTLING = "settling"


class Sleeper(Protocol):
    """What the open account is told and asked, on the reactor's thread."""

    def may_sleep(self) -> bool:
        """Whether nothing is under way that needs the databases soon."""

    def forget(self) -> None:
        """The databases close: what was read from them need not be kept."""

    def changed(self, modseqs: dict[MailboxId, int]) -> None:
        """The modification sequences are these now; the account is awake, or has just fallen asleep."""

    def replaced(self) -> None:
        """The database is another one than that which the sessions know: they have to end."""


class Hibernation:
    """See the module's docstring. All methods run on the reactor's thread."""

    def __init__(
        self,
        executor: Executor,
        clock: Clock,
        limits: StoreLimits,
        paths: AccountPaths,
        sleeper: Sleeper,
        make: Callable[[], Databases],
        require_ours: Callable[[], None],
        may_serve: Callable[[], bool],
    ) -> None:
        """``make`` gives databases that are not open yet.

        ``require_ours`` raises StoreError, in a thread, where the account may not be opened again;
        ``may_serve`` says at once whether this process may work in any.
        """
        self._executor = executor
        self._clock = clock
        self._after_s = limits.hibernate_after_s
        self._pause_s = min(self._after_s, LOOK_S)
        self._paths = paths
        self._sleeper = sleeper
        self._make = make
        self._require_ours = require_ours
        self._may_serve = may_serve
        self._stage = Stage.ASLEEP
        self._databases: Databases | None = None
        self._waiting: list[Deferred[None]] = []
        self._call: DelayedCall | None = None
        self._used_s = 0.0
        self._state: State | None = None
        """Of the database when it was closed last, None before the first opening."""
        self._files: Files | None = None
        self._is_heard = False
        self._is_indexed = False
        self._is_over = False

    @property
    def is_awake(self) -> bool:
        """Whether the databases are open, and stay so for the moment."""
        return self._stage is Stage.AWAKE and not self._is_over

    @property
    def is_asleep(self) -> bool:
        """Whether they are closed, and nobody is opening them."""
        return self._stage is Stage.ASLEEP

    async def databases(self) -> Databases:
        """The open databases, for work that begins before the reactor does anything else.

        Raises:
            AccountClosed: the account closes, another database has taken the place of this one, or the node's
            lease is over.
            TooNew, DatabaseDamaged, StorageFailed, StorageFull, Busy: they cannot be opened now.
        """
        while True:
            # A process that was stopped for a while may come here before it has closed its accounts.
            if self._is_over or not self._may_serve():
                raise AccountClosed("the account is closed")
            if self._databases is not None and self._stage is Stage.AWAKE:
                return self._databases
            turn = self._turn()
            self.wake()
            await turn

    def require_serving(self) -> None:
        """Asked after work that others rely on, before they hear of it: this may have been stopped meanwhile.

        Raises AccountClosed: the node's lease is over.
        """
        if not self._may_serve():
            raise AccountClosed("the account is closed")

    async def for_command(self) -> Databases:
        """As ``databases``, for a command of a session: from now on it counts as used. Raises the same."""
        databases = await self.databases()
        self._used_s = self._clock.seconds()
        return databases

    def _turn(self) -> Deferred[None]:
        """Fires when the account has woken or fallen asleep; fails when it could not wake."""
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        return turn

    def wake(self) -> None:
        """Open the databases soon, if they are closed: somebody is about to need them."""
        if self._stage is Stage.ASLEEP and not self._is_over:
            self._stage = Stage.WAKING
            Deferred.fromCoroutine(self._wake()).addErrback(self._failed, "waking")

    async def _wake(self) -> None:
        made = self._make()
        try:
            if self._state is not None and await self._executor.call(self._is_restored):
                raise _Replaced
            now = await made.state()
            if self._state is not None and not now.can_follow(self._state):
                raise _Replaced
        except BaseException as error:
            await made.close(SLEEP_LOCK_WAIT_S)
            self._stage = Stage.ASLEEP
            is_another = isinstance(error, KeysChanged) and self._state is not None
            if not (is_another or isinstance(error, _Replaced)):
                raise
            log.warning("account %s: its database was exchanged: its sessions end", self._paths.folder.name)
            self._is_over = True
            self._sleeper.replaced()
            self._answer()
            return
        self._databases, self._stage = made, Stage.AWAKE
        before, self._state = self._state, now
        if before is not None and not (self._is_indexed and before.modseqs == now.modseqs):
            made.searching.changed()
        self._look_after(self._pause_s)
        self._answer()
        self._sleeper.changed(now.modseqs)

    def _is_restored(self) -> bool:
        """Whether a restore has exchanged the files, and nobody has opened them since. Raises StoreError."""
        self._require_ours()
        if asked_to_leave(self._paths):
            raise Busy("the account is being restored")
        return restored_mark(self._paths) is not None

    def _failed(self, failure: Failure, what: str) -> None:
        if not failure.check(StoreError):
            kind = type(failure.value).__name__
            log.error("account %s: %s failed: %s", self._paths.folder.name, what, kind)
        self._answer(failure)

    def _answer(self, failure: Failure | None = None) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if failure is None:
                turn.callback(None)
            else:
                turn.errback(failure)

    # -- falling asleep --------------------------------------------------------------------------

    def _look_after(self, seconds: float) -> None:
        if self._after_s > 0 and not self._is_over:
            self._call = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._call = None
        databases = self._databases
        if databases is None or self._stage is not Stage.AWAKE or self._is_over:
            return
        left_s = self._used_s + self._after_s - self._clock.seconds()
        if left_s > 0 or databases.is_at_work or not self._sleeper.may_sleep():
            self._look_after(max(left_s, self._pause_s))
        else:
            self._stage = Stage.SETTLING
            Deferred.fromCoroutine(self._settle(databases)).addErrback(self._failed, "falling asleep")

    async def _settle(self, databases: Databases) -> None:
        self._files, self._is_heard = None, False
        self._is_indexed = databases.searching.is_complete
        try:
            # In this order: whatever is committed after the look changes the files.
            files = await self._executor.call(files_now, self._paths)
            self._state = await databases.state()
            self._files = None if self._is_heard else files
        except StoreError:
            pass  # whoever wakes it next is told
        try:
            await databases.close(SLEEP_LOCK_WAIT_S)
        finally:
            self._databases, self._stage = None, Stage.ASLEEP
            self._sleeper.forget()
        self._answer()
        if self._state is not None and not self._is_over:
            self._sleeper.changed(self._state.modseqs)

    async def is_undisturbed(self) -> bool:
        """Whether the account sleeps, and its files are as they were when it fell asleep."""
        if self._stage is Stage.SETTLING and self._files is None:
            self._is_heard = True  # of what may have come before the look at the files
        while self._stage is Stage.SETTLING:
            await self._turn()
        known = self._files
        if self._stage is not Stage.ASLEEP or known is None:
            return False
        now = await self._executor.call(files_now, self._paths)
        return self.is_asleep and now == known

    # -- the end ---------------------------------------------------------------------------------

    async def close(self, wait_s: float) -> None:
        """Let running work finish, then close the databases for good; see ``Databases.close``."""
        self._is_over = True
        if self._call is not None and self._call.active():
            self._call.cancel()
        while self._stage in (Stage.WAKING, Stage.SETTLING):
            turn = self._turn()
            turn.addErrback(lambda _failure: None)
            await turn
        databases, self._databases = self._databases, None
        if databases is not None:
            await databases.close(wait_s)


class _Replaced(Exception):
    """See ``Sleeper.replaced``."""


def files_now(paths: AccountPaths) -> Files | None:
    """What the database's files are like; None where that could not be told from a change made now.

    Raises StorageFailed.
    """
    with storage_errors():
        now_ns = time.time_ns()
        files = identity(paths.mail_db), _with_content(paths.wal)
    young = [one for one in files if one is not None and now_ns - one.mtime_ns < SETTLED_NS]
    return None if young else files


def _with_content(log: Path) -> FileIdentity | None:
    found = identity(log)
    return found if found is not None and found.size_bytes else None
