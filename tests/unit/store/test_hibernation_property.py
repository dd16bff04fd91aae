"""Whatever happens while accounts fall asleep and wake, in any order: sessions know what is in the mailbox.

Two workers have the same account open. Everything that they do in threads is done step by step, in an order
that is drawn, and so are commands, deliveries, hints that files have changed, restores and the time.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_world import NAME, PASSWORD, SteppingExecutor, World, open_files
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailstore import engine
from mailstore.account import AccountPaths
from mailstore.errors import AccountClosed
from mailstore.limits import StoreLimits
from mailstore.model import AccessProtocol, Flags, ModSeq, NewMessage, StoreMode, SystemFlag
from mailstore.restored_mark import mark_restored
from mailstore.search import BodyText
from mailstore.store import Account
from mailstore.uidset import UidSet
from tests.unit.keys_world import is_unlocked

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
LIMITS = StoreLimits(hibernate_after_s=10.0, close_grace_s=5.0)
ROUNDS = 400
"""More turns than it takes until nothing is left to do."""

MOST_STEPS = 50
"""Seconds after which any account sleeps in which nobody does anything."""

SEEN, DELETED = Flags(SystemFlag.SEEN), Flags(SystemFlag.DELETED)
EVERYTHING = UidSet(((1, 1 << 31),))


class Idler:
    """A session that listens, and what it knows of the inbox."""

    def __init__(self, worker: Worker, account: Account) -> None:
        self.account = account
        self.ended = False
        self.known: dict[int, SystemFlag] = {}
        self._modseq = ModSeq(0)
        self._due: Deferred[None] | None = None
        self._heard = True
        account.on_closed(self._end)
        self.running = worker.start(self._listen())

    def _end(self) -> None:
        self.ended = True
        self._hear()

    def _hear(self) -> None:
        self._heard = True
        due, self._due = self._due, None
        if due is not None:
            due.callback(None)

    async def _listen(self) -> None:
        try:
            mailbox = await self.account.select("INBOX", False)  # type: ignore[arg-type]  # a name
            mailbox.on_change(self._hear)
            while not self.ended:
                if self._heard:
                    self._heard = False
                    delta = await mailbox.news(self._modseq)
                    self._modseq = delta.highest
                    self.known.update((one.uid, one.flags.system) for one in delta.changed)
                    for uid in delta.expunged:
                        self.known.pop(uid, None)
                else:
                    self._due = Deferred()
                    await self._due
        except AccountClosed:
            assert self.ended, "a session whose account has closed is told"
        finally:
            self.account.release()


class Worker:
    """One worker: its store, what it has to do in threads, and what it has not been told of yet."""

    def __init__(self, root: Path) -> None:
        self.executor = SteppingExecutor()
        self.world = World(root, LIMITS, self.executor)
        self.idlers: list[Idler] = []
        self.commands: list[Deferred[Any]] = []
        self.errors: list[Failure] = []
        self.hints: list[tuple[Path, str]] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Begin something; only what is no end of a session counts as an error."""
        done = Deferred.fromCoroutine(work)
        done.addErrback(self._failed)
        return done

    def _failed(self, failure: Failure) -> None:
        if failure.check(AccountClosed, CancelledError) is None:
            self.errors.append(failure)

    def hear(self) -> None:
        """Tell of the oldest change in the file system."""
        if self.hints:
            folder, name = self.hints.pop(0)
            if folder in self.world.watcher.callbacks:
                self.world.watcher.callbacks[folder](frozenset({name}))

    def rest(self) -> None:
        """Do something, then nothing until the account is about to fall asleep."""
        self.commands.append(self.start(self.work("flag")))
        for _ in range(MOST_STEPS):
            self.drain()
            self.world.clock.advance(1.0)
            opened = next(iter(self.world.store._open.values()), None)
            if opened is None or not opened.is_awake:
                return

    def drain(self) -> None:
        """Hear and do everything."""
        while self.hints:
            self.hear()
        while self.executor.step():
            pass

    async def idle(self) -> None:
        """Log in, and listen."""
        account = await self.world.store.login(NAME, PASSWORD, AccessProtocol.IMAP)
        self.idlers.append(Idler(self, account))

    async def work(self, what: str) -> None:
        """A command of a session that is there."""
        if not self.idlers:
            return
        account = self.idlers[-1].account
        mailbox = await account.select("INBOX", False)  # type: ignore[arg-type]  # a name
        since = mailbox.opened.status.highest_modseq
        match what:
            case "append":
                await account.append("INBOX", [NewMessage(MESSAGE)])  # type: ignore[arg-type]  # a name
            case "flag":
                await mailbox.store_flags(EVERYTHING, StoreMode.ADD, SEEN, None, since)
            case "expunge":
                last = UidSet.of([max(mailbox.opened.uids, default=1)])
                await mailbox.store_flags(last, StoreMode.ADD, DELETED, None, since)
                await mailbox.expunge(last, since)
            case _:
                await mailbox.search(BodyText("hello"), since)


class Site:
    """Both workers, and the folder that they share."""

    def __init__(self, place: Path) -> None:
        World(place).close()
        self.workers = [Worker(place), Worker(place)]
        self.paths = self.workers[0].world.paths
        self.restores = 0

    def changed(self) -> None:
        """A commit or a checkpoint has closed its lock."""
        for worker in self.workers:
            worker.hints.append((self.paths.folder, engine.WRITE_LOCK))

    def deliver(self) -> None:
        """A message arrives; all of a delivery is done at once."""
        with patch.object(self.workers[0].world.store, "executor", _AtOnce()):
            self.workers[0].world.deliver(MESSAGE)
        for worker in self.workers:
            worker.hints.append((self.paths.inbox, "x.sealed"))

    def restore(self) -> None:
        """Exchange the database for another, while nobody has it open."""
        if not open_files(self.paths):
            self.restores += 1
            mark_restored(self.paths, self.restores)

    def quiet(self) -> None:
        """Let everything be done."""
        for _ in range(ROUNDS):
            for worker in self.workers:
                worker.drain()
                worker.world.clock.advance(1.0)
        assert not any(worker.hints for worker in self.workers), "the workers wake each other for ever"


class _AtOnce:
    def call(self, fn: Any, *args: Any) -> Deferred[Any]:
        """Like ``Executor.call``."""
        done: Deferred[Any] = Deferred()
        done.callback(fn(*args))
        return done


def contents(paths: AccountPaths) -> tuple[int, int]:
    """As ``files_now`` where every write has a time of its own."""
    return tuple(zlib.crc32(one.read_bytes()) if one.exists() else 0 for one in (paths.mail_db, paths.wal))


@contextmanager
def site() -> Iterator[Site]:
    """A fresh one; the files' clock is exact, and commits tell of themselves."""
    made: list[Site] = []
    writing = engine._writing

    @contextmanager
    def telling(path: Path, *args: Any) -> Iterator[Any]:
        with writing(path, *args) as held:
            yield held
        for one in made:
            one.changed()

    with (
        tempfile.TemporaryDirectory() as place,
        patch.object(engine, "_writing", telling),
        patch("mailstore.hibernation.files_now", contents),
    ):
        made.append(Site(Path(place) / "root"))
        yield made[0]


STEPS = [("step", 0), ("step", 1), ("hear", 0), ("hear", 1)]
RESTS = [("later", 0), ("later", 1)]
EVENTS = [
    *(("time", number) for number in (0, 1)),
    *((what, number) for what in ("idle", "append", "flag", "expunge", "search") for number in (0, 1)),
    ("cancel", 0),
    ("cancel", 1),
    ("leave", 1),
    ("deliver", 0),
    ("deliver", 0),
    ("restore", 0),
]
ACTIONS = st.lists(st.sampled_from([*STEPS * 6, *EVENTS, *RESTS * 4]), min_size=20, max_size=60)


def act(place: Site, what: str, number: int) -> None:
    """One thing happens."""
    worker = place.workers[number]
    match what:
        case "step":
            worker.executor.step()
        case "hear":
            worker.hear()
        case "time":
            worker.world.clock.advance(1.0)
        case "later":
            worker.rest()
        case "idle":
            worker.commands.append(worker.start(worker.idle()))
        case "cancel":
            if worker.commands:
                worker.commands.pop().cancel()
        case "leave":
            if worker.idlers:
                worker.idlers.pop()._end()
        case "deliver":
            place.deliver()
        case "restore":
            place.restore()
        case _:
            worker.commands.append(worker.start(worker.work(what)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(ACTIONS)
def test_whoever_listens_knows_the_mailbox_however_its_account_sleeps(
    actions: list[tuple[str, int]],
) -> None:
    """No change is missed and none is told twice; at rest no file is open, and keys are those of sessions."""
    with site() as place:
        for worker in place.workers:
            act(place, "idle", place.workers.index(worker))
        place.deliver()
        place.quiet()
        for what, number in actions:
            act(place, what, number)
        place.quiet()
        for worker in place.workers:
            assert worker.errors == []
            assert all(done.called for done in worker.commands)
            living = [one for one in worker.idlers if not one.ended]
            account_id = worker.world.directory.accounts()[0].account_id
            assert is_unlocked(worker.world.store._unlocker, account_id) == bool(living)
        assert open_files(place.paths) == []
        # Before anybody else comes, who might claim \\Recent and so make the others look.
        known = [dict(one.known) for worker in place.workers for one in worker.idlers if not one.ended]
        fresh = Worker(place.paths.folder.parents[2])
        fresh.start(fresh.idle())
        place.workers.append(fresh)
        place.quiet()
        assert all(one == fresh.idlers[0].known for one in known)
        for worker in place.workers:
            worker.start(worker.world.store.stop())
        place.quiet()
        assert open_files(place.paths) == []
        for worker in place.workers:
            assert all(one.running.called for one in worker.idlers)
            worker.world.directory.close()
