"""Small messages are opened and prepared while their deliveries wait for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from store_world import World, now
from twisted.internet import inotify
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.filepath import FilePath

from mailstore import changes, durable, filing, sealed
from mailstore.filing import FEW_BYTES
from mailstore.sealed import SealedId, new_sealed_id, pending

MESSAGE = b"Subject: hello\r\n\r\nworld\r\n"
WAIT_S = 30.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A store with one account."""
    world = World(tmp_path)
    yield world
    world.close()


def when_written(
    world: World, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path, bytes], None]
) -> None:
    """Have something happen between the writing of a delivery and its rename."""

    def write(path: Path, data: bytes) -> None:
        durable.write_new(path, data)
        if path.parent == world.paths.inbox:
            happens(path, data)

    monkeypatch.setattr(sealed, "write_new", write)


def opened_blobs(monkeypatch: pytest.MonkeyPatch) -> list[SealedId]:
    """The messages that are opened from now on, each time they are."""
    seen: list[SealedId] = []
    original = filing.open_sealed

    def counted(*arguments: Any) -> Any:
        seen.append(arguments[2])
        return original(*arguments)

    monkeypatch.setattr(filing, "open_sealed", counted)
    return seen


def test_a_foreseen_message_is_opened_once_and_filed_when_it_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before its delivery is on the disk: until then nobody was told that it is."""
    account = world.login()
    opened = opened_blobs(monkeypatch)
    counts: list[int] = []

    def happens(path: Path, _data: bytes) -> None:
        world.watcher.written(path.name)
        counts.append(now(account.status("INBOX")).messages)

    when_written(world, monkeypatch, happens)
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 1
    assert counts == [0]
    assert len(opened) == 1
    assert pending(world.paths.inbox) == []


def test_a_foreseen_message_whose_delivery_dies_is_never_filed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender was not told that it is there, and sends it again."""
    account = world.login()

    class Killed(BaseException):
        pass

    def happens(path: Path, _data: bytes) -> None:
        world.watcher.written(path.name)
        raise Killed

    when_written(world, monkeypatch, happens)
    with pytest.raises(Killed):
        world.deliver(MESSAGE)
    monkeypatch.undo()
    filer = account._opened._filer
    kept = filer._foreseen
    assert kept is not None
    filer.foresee(new_sealed_id())  # whose delivery has died before this looks
    assert filer._foreseen is None
    filer._foreseen = kept
    filer.forget()
    assert filer._foreseen is None
    world.deliver(b"Subject: another\r\n\r\n")
    assert now(account.status("INBOX")).messages == 1


def test_what_is_written_in_part_is_read_again_when_it_is_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A seal that is cut short opens nothing, and is no damage."""
    account = world.login()
    opened = opened_blobs(monkeypatch)

    def happens(path: Path, data: bytes) -> None:
        path.write_bytes(data[:-1])
        world.watcher.written(path.name)
        path.write_bytes(data)

    when_written(world, monkeypatch, happens)
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 1
    assert len(opened) == 2
    assert caplog.text == ""


def test_a_large_message_is_not_foreseen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be opened piece by piece as it is written, and keep memory that nobody has counted."""
    account = world.login()
    opened = opened_blobs(monkeypatch)
    when_written(world, monkeypatch, lambda path, _data: world.watcher.written(path.name))
    world.deliver(bytes(FEW_BYTES))
    assert opened == []
    assert now(account.status("INBOX")).messages == 1


def test_other_files_of_the_inbox_are_not_foreseen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a delivery writes."""
    world.login()
    opened = opened_blobs(monkeypatch)
    when_written(world, monkeypatch, lambda _path, _data: world.watcher.written("x"))
    world.deliver(MESSAGE)
    assert opened == []


def test_a_foreseen_message_is_not_taken_for_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's delivery is slow; the second one is filed before it."""
    account = world.login()
    opened = opened_blobs(monkeypatch)
    inner: list[bytes] = [b"Subject: second\r\n\r\n"]

    def happens(path: Path, _data: bytes) -> None:
        if inner:
            world.watcher.written(path.name)
            world.deliver(inner.pop())
            assert now(account.status("INBOX")).messages == 1
            assert len(opened) == 2

    when_written(world, monkeypatch, happens)
    world.deliver(b"Subject: first\r\n\r\n")
    assert now(account.status("INBOX")).messages == 2
    mailbox = now(account.select("INBOX", True))
    assert len(now(mailbox.sync(0)).changed) == 2


class Inotify:
    """Keeps what it is asked to watch."""

    def __init__(self) -> None:
        self.callback: Any = None
        self.mask = 0

    def startReading(self) -> None:
        """Nothing comes."""

    def watch(self, _path: FilePath[bytes], mask: int, callbacks: list[Any]) -> None:
        """One folder."""
        self.mask, self.callback = mask, callbacks[0]

    def ignore(self, _path: FilePath[bytes]) -> None:
        """No more."""


def test_what_is_written_is_heard_at_once_and_what_arrives_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing does not delay the news of an arrival, which coalesces."""
    instance, clock = Inotify(), Clock()
    monkeypatch.setattr(changes, "_lasting_inotify", lambda *_: instance)
    watcher = changes.Watcher(clock)
    arrived: list[frozenset[str]] = []
    written: list[str] = []
    watcher.watch_arrivals(tmp_path, arrived.append, written.append)
    for event, name in ((inotify.IN_MODIFY, ".a.tmp"), (inotify.IN_MOVED_TO, "a.sealed")):
        assert instance.mask & event
        instance.callback(None, FilePath(bytes(tmp_path / name)), event)
    assert written == [".a.tmp"]
    assert arrived == []
    clock.advance(0)
    assert arrived == [frozenset({"a.sealed"})]
    watcher.ignore(tmp_path)
    instance.callback(None, FilePath(bytes(tmp_path / ".b.tmp")), inotify.IN_MODIFY)
    assert written == [".a.tmp"]


def test_an_account_does_not_close_while_a_message_is_foreseen(world: World) -> None:
    """Its private key is wiped when it closes."""
    account = world.login()
    inbox = account._opened._inbox
    under_way: Deferred[None] = Deferred()
    inbox._executor = type("Slow", (), {"call": staticmethod(lambda *_: under_way)})()
    inbox.foresee(f".{sealed.new_sealed_id()}.tmp")
    inbox.foresee(f".{sealed.new_sealed_id()}.tmp")  # one at a time
    inbox._filer._foreseen = object()  # type: ignore[assignment]  # what a thread would leave
    stopped = Deferred.fromCoroutine(inbox.stop())
    assert not stopped.called
    under_way.callback(None)
    assert stopped.called
    assert inbox._filer._foreseen is None


class SlowLock:
    """A lock that says when somebody comes to it."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.asked = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.asked.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_filing_waits_for_what_is_being_foreseen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes less long than to open the message a second time."""
    opened = opened_blobs(monkeypatch)
    filer = world.login()._opened._filer
    opening, may_open, prepare = threading.Event(), threading.Event(), filing.prepare

    def slowly(*arguments: Any) -> Any:
        opening.set()
        assert may_open.wait(WAIT_S)
        return prepare(*arguments)

    monkeypatch.setattr(filing, "prepare", slowly)
    lock = SlowLock(filer._foreseeing)
    monkeypatch.setattr(filer, "_foreseeing", lock)
    with ThreadPoolExecutor(2) as pool:

        def happens(path: Path, _data: bytes) -> None:
            name = sealed.being_delivered(path.name)
            assert name is not None
            running.append(pool.submit(filer.foresee, name))
            assert opening.wait(WAIT_S)

        running: list[Future[None]] = []
        when_written(world, monkeypatch, happens)
        world.deliver(MESSAGE)
        assert lock.asked.acquire(timeout=WAIT_S)
        filer.relist()
        loading = pool.submit(filer.load)
        assert lock.asked.acquire(timeout=WAIT_S)
        may_open.set()
        running[0].result(WAIT_S)
        batch = loading.result(WAIT_S)
    assert batch is not None and len(batch.messages) == len(opened) == 1
    batch.release()
