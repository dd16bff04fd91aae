"""The size of waiting mail: asked for without a look at every file, and right whoever dies in the middle."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_world import World, now

from mailstore import inbox_size, sealed
from mailstore.errors import NoSuchAccount, StorageFailed
from mailstore.inbox_size import BELIEVED_S, SIZE_FILE, SUFFIX, changing, waiting_bytes
from mailstore.sealed import SealedId, deliver, mark_damaged, new_sealed_id, remove, sealed_file

FEW, MANY = 5, 200


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An empty one in an account's folder."""
    made = tmp_path / "account" / "inbox"
    made.mkdir(parents=True)
    return made


def delivered(inbox: Path, size_bytes: int = 100) -> SealedId:
    """A message more."""
    sealed_id = new_sealed_id()
    deliver(inbox, sealed_id, b"x" * size_bytes)
    return sealed_id


def truth(inbox: Path) -> int:
    """The sum of the sizes of all sealed messages."""
    return sum(path.stat().st_size for path in inbox.glob("*" + SUFFIX))


def looks(inbox: Path, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files of the inbox ``work`` asks for their size."""
    seen: list[Path] = []
    stat = Path.stat

    def counting(path: Path, **named: bool) -> os.stat_result:
        if path.parent == inbox:
            seen.append(path)
        return stat(path, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", counting)
        work()
    return len(seen)


def test_asking_costs_the_same_however_much_mail_waits(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody away for a year makes no RCPT slower."""
    for count in (FEW, MANY):
        while len(list(inbox.iterdir())) < count:
            delivered(inbox)
        waiting_bytes(inbox)

        def deliveries() -> None:
            for _ in range(10):
                waiting_bytes(inbox)
                delivered(inbox)

        assert looks(inbox, deliveries, monkeypatch) == 0
    assert waiting_bytes(inbox) == truth(inbox)


def test_the_store_asks_the_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """RCPT and the end of data of an account with a quota look at no waiting message."""
    account_id = world.directory.accounts()[0].account_id
    world.directory.set_quota(account_id, 10**9)
    world.deliver(b"Subject: first\r\n\r\n")
    inbox = world.paths.inbox
    assert looks(inbox, lambda: world.deliver(b"Subject: more\r\n\r\n"), monkeypatch) == 0
    assert waiting_bytes(inbox) == truth(inbox) > 0
    account = world.login()
    assert now(account.status("INBOX")).messages == 2
    assert waiting_bytes(inbox) == truth(inbox) == 0


def test_what_comes_and_goes_is_counted(inbox: Path) -> None:
    """Delivered, filed, filed by somebody else already, and marked as damaged because it cannot be opened."""
    ids = [delivered(inbox, 100 + number) for number in range(6)]
    assert waiting_bytes(inbox) == truth(inbox) == 615
    remove(inbox, *ids[:3])
    remove(inbox, *ids[2:4])
    mark_damaged(inbox, ids[4], sealed_file(inbox, ids[4]))
    assert waiting_bytes(inbox) == truth(inbox) == 105
    delivered(inbox, 1)
    assert waiting_bytes(inbox) == truth(inbox) == 106


STEPS = {
    "before the file is emptied": (Path, "write_bytes", False, 0),
    "after the file is emptied": (Path, "write_bytes", True, 0),
    "before the sum is written": (Path, "write_bytes", False, 1),
    "after the sum is written": (Path, "write_bytes", True, 1),
    "before the rename": (Path, "rename", False, 0),
    "after the rename": (Path, "rename", True, 0),
    "before the unlink": (Path, "unlink", False, 0),
    "after the unlink": (Path, "unlink", True, 0),
}


@pytest.mark.parametrize("what", ["deliver", "remove", "mark damaged"])
@pytest.mark.parametrize(("owner", "name", "after", "skipped"), STEPS.values(), ids=STEPS)
def test_a_process_killed_at_any_step_leaves_no_wrong_sum(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, what: str, owner: type, name: str, after: bool, skipped: int
) -> None:
    """What it leaves is the truth, or "not known"."""
    ids = [delivered(inbox) for _ in range(3)]
    waiting_bytes(inbox)
    work = {
        "deliver": lambda: delivered(inbox, 7),
        "remove": lambda: remove(inbox, ids[0], ids[1]),
        "mark damaged": lambda: mark_damaged(inbox, ids[2], sealed_file(inbox, ids[2])),
    }[what]
    real, calls = getattr(owner, name), 0

    def step(*args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == skipped + 1 and not after:
            os._exit(9)
        found = real(*args, **named)
        if calls == skipped + 1:
            os._exit(9)
        return found

    def child() -> None:
        monkeypatch.setattr(owner, name, step)
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode in (0, 9)
    assert waiting_bytes(inbox) == truth(inbox)
    delivered(inbox, 11)
    assert waiting_bytes(inbox) == truth(inbox)


def come_and_go(inbox: Path, rounds: int) -> None:
    """What a worker does all day."""
    for number in range(rounds):
        kept, gone = delivered(inbox, 10 + number), delivered(inbox, 1000)
        waiting_bytes(inbox)
        remove(inbox, gone)
        assert kept


def test_processes_that_deliver_and_file_at_once_agree(inbox: Path) -> None:
    """No change of one is lost in that of another."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=come_and_go, args=(inbox, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    before = (inbox.parent / SIZE_FILE).read_bytes()
    assert before.endswith(b"\n")
    assert waiting_bytes(inbox) == truth(inbox) == 4 * sum(range(10, 35))
    assert (inbox.parent / SIZE_FILE).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nonsense", b"0" * 36 + b" 1 2\n", b"another boot"])
def test_what_cannot_be_believed_is_counted_again(inbox: Path, content: bytes) -> None:
    """Damaged, cut, or of another boot: after a power cut the sum may be older than the mail."""
    delivered(inbox, 40)
    assert waiting_bytes(inbox) == 40
    path = inbox.parent / SIZE_FILE
    line = path.read_bytes()
    path.write_bytes(b"f" * 36 + line[36:] if content == b"another boot" else content)
    (inbox / ("a" * 32 + SUFFIX)).write_bytes(b"x" * 2)
    assert waiting_bytes(inbox) == truth(inbox) == 42
    path.write_bytes(line[:-1])
    assert waiting_bytes(inbox) == 42


@pytest.mark.parametrize("later_s", [BELIEVED_S, -10])
def test_a_sum_is_counted_again_after_a_day(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, later_s: int
) -> None:
    """For whoever moves files by hand; also when the clock was set back."""
    ids = [delivered(inbox, 40) for _ in range(2)]
    assert waiting_bytes(inbox) == 80
    (inbox / (ids[0] + SUFFIX)).unlink()
    assert waiting_bytes(inbox) == 80
    later = time.time() + later_s
    monkeypatch.setattr(inbox_size.time, "time", lambda: later)
    assert waiting_bytes(inbox) == 40


@pytest.mark.parametrize("change", ["remove", "deliver"])
def test_a_change_while_the_clock_is_wrong_is_not_forgotten(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The sum is not believed then; nor may it be again, once the clock is right."""
    ids = [delivered(inbox, 1000) for _ in range(3)]
    assert waiting_bytes(inbox) == 3000
    with monkeypatch.context() as patch:
        later = time.time() + 2 * BELIEVED_S
        patch.setattr(inbox_size.time, "time", lambda: later)
        if change == "remove":
            remove(inbox, *ids)
        else:
            delivered(inbox, 7)
    assert waiting_bytes(inbox) == truth(inbox) == {"remove": 0, "deliver": 3007}[change]


def test_a_delivery_that_fails_is_not_counted(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder cannot be synced, so the message is taken back."""
    delivered(inbox, 40)
    assert waiting_bytes(inbox) == 40

    def fails(_folder: Path) -> None:
        raise OSError(5, "no")

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "sync_folder", fails)
        with pytest.raises(StorageFailed):
            delivered(inbox, 7)
    assert waiting_bytes(inbox) == truth(inbox) == 40


def test_an_account_that_is_gone_has_no_size(inbox: Path) -> None:
    """And nothing is made where its folder was."""
    inbox.rmdir()
    inbox.parent.rmdir()
    for ask in (lambda: waiting_bytes(inbox), lambda: changing(inbox).__enter__()):
        with pytest.raises(NoSuchAccount):
            ask()
    assert not inbox.parent.exists()
