"""Whatever somebody adds to the bucket, everything restores: with living state and without, all of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World, now

from backup.catalogue import stream_of_server
from backup.moment import utc_ms
from backup.segment import Kind, SegmentName, StreamId, parse_name
from mailstore.model import NewMessage

SUBJECTS = [b"m0", b"m1", b"m2"]
EXIT_STORAGE = 6
FAR_MS = 999_999_999_999_999
"""As late as a name can say."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CommandsWorld:
    """An account with a chain of three segments and a server's stream with as many."""
    world = CommandsWorld(tmp_path_factory.mktemp("rubbish"))
    world.objects.mkdir()
    for subject in SUBJECTS:
        mail = World(world.root)
        account = mail.login()
        now(account.append("INBOX", [NewMessage(b"Subject: " + subject + b"\r\n\r\ntext\r\n")]))
        account.release()
        mail.close()
        assert world.answer("backup", "run")["stored"]
    return world


@pytest.fixture
def world(made: CommandsWorld) -> Iterator[CommandsWorld]:
    """The bucket is put back afterwards, and so is what the server knows of it."""
    kept = {folder: folder.with_name(f"{folder.name}-kept") for folder in (made.objects, made.root)}
    for folder, copy in kept.items():
        shutil.copytree(folder, copy)
    yield made
    for folder, copy in kept.items():
        shutil.rmtree(folder)
        copy.rename(folder)


def names_in(world: CommandsWorld, stream: StreamId) -> list[SegmentName]:
    """The segments of a stream."""
    found = (parse_name(f"{stream}/{path.name}") for path in (world.objects / stream).iterdir())
    return sorted(name for name in found if name is not None)


def streams(world: CommandsWorld) -> tuple[StreamId, StreamId]:
    """The account's and the server's."""
    server = stream_of_server(world.private_key.public)
    (account,) = {StreamId(path.name) for path in world.objects.iterdir()} - {server}
    return account, server


def sibling(name: SegmentName, taken_ms: int, kind: Kind) -> SegmentName:
    """Another object of the same number."""
    return SegmentName(name.stream, name.sequence, taken_ms, kind)


def beside_each(names: list[SegmentName]) -> list[SegmentName]:
    """Before and behind the good one of every number, by its time; full ones and changes."""
    return [
        sibling(name, taken_ms, kind)
        for name in names
        for taken_ms in (1, name.taken_ms - 1, name.taken_ms + 1, FAR_MS)
        for kind in Kind
    ]


def behind_all(names: list[SegmentName]) -> list[SegmentName]:
    """The next number, one after a gap, and the largest that a name can say."""
    newest = names[-1]
    return [
        SegmentName(newest.stream, number, taken_ms, kind)
        for number in (newest.sequence + 1, newest.sequence + 2, newest.sequence + 9, 10**15 - 1)
        for taken_ms in (1, newest.taken_ms + 1, FAR_MS)
        for kind in Kind
    ]


def before_all(names: list[SegmentName]) -> list[SegmentName]:
    """A number that does not exist."""
    return [SegmentName(names[0].stream, 0, taken_ms, kind) for taken_ms in (1, FAR_MS) for kind in Kind]


PLACES = (beside_each, behind_all, before_all)


def nothing(_world: CommandsWorld, _name: SegmentName) -> bytes:
    """An empty object."""
    return b""


def random_octets(_world: CommandsWorld, _name: SegmentName) -> bytes:
    """Noise, longer than an envelope."""
    return os.urandom(3000)


def a_copy(world: CommandsWorld, name: SegmentName) -> bytes:
    """A good object of the same stream under another name."""
    return (world.objects / str(names_in(world, name.stream)[0])).read_bytes()


def a_copy_of_the_other_stream(world: CommandsWorld, name: SegmentName) -> bytes:
    """A good object of an account where one of the server is expected, and the other way round."""
    account, server = streams(world)
    return (
        world.objects / str(names_in(world, server if name.stream == account else account)[0])
    ).read_bytes()


def a_cut_one(world: CommandsWorld, name: SegmentName) -> bytes:
    """The beginning of a good object."""
    return a_copy(world, name)[:1500]


RUBBISH = (nothing, random_octets, a_copy, a_copy_of_the_other_stream, a_cut_one)


def add(
    world: CommandsWorld,
    where: Callable[[list[SegmentName]], list[SegmentName]],
    what: Callable[[CommandsWorld, SegmentName], bytes],
) -> None:
    """Put rubbish at a place of both streams, and some where no segment has ever been."""
    added = {}
    for stream in streams(world):
        good = names_in(world, stream)
        for name in where(good):
            if name not in good:
                added[str(name)] = what(world, name)
    added[f"{'77' * 16}/00000001-1800000000000-full"] = os.urandom(2000)
    added["notes"] = b"not a segment"
    for key, data in added.items():
        path = world.objects / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def subjects(root: Path) -> list[bytes]:
    """What the user finds after logging in."""
    mail = World(root)
    account = mail.login()
    found: list[bytes] = now(mail.store._open[account.account_id].read(_envelopes))
    account.release()
    mail.close()
    return found


def files_in(world: CommandsWorld) -> set[Path]:
    """Everything in the bucket."""
    return {path.relative_to(world.objects) for path in world.objects.rglob("*") if path.is_file()}


def _envelopes(txn: Any) -> list[bytes]:
    query = "SELECT m.envelope FROM placed p JOIN message_meta m USING(message_id) ORDER BY p.uid"
    return [bytes(row[0]).split(b'"')[1] for row in txn.rows(query)]


def by_key(world: CommandsWorld, *arguments: str, root: Path) -> dict[str, Any]:
    """Restore everything on a new machine."""
    done: dict[str, Any] = world.answer(
        "restore", "--all", "--into", root, "--private-key", world.private_key_file, *arguments
    )
    return done


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("what", RUBBISH)
def test_a_new_machine_gets_everything_and_goes_on(
    world: CommandsWorld,
    tmp_path: Path,
    where: Callable[[list[SegmentName]], list[SegmentName]],
    what: Callable[[CommandsWorld, SegmentName], bytes],
) -> None:
    """From store and private key, with and without --newest-sound; then the new server stores snapshots."""
    add(world, where, what)
    for wishes in ((), ("--newest-sound",)):
        root = tmp_path / ("-".join(wishes) or "plain")
        (restored,) = by_key(world, *wishes, root=root)["restored"]
        assert restored["trouble"] is None, restored
        assert subjects(root) == SUBJECTS
    key = ("--private-key", world.private_key_file)
    assert world.answer("backup", "list", *key)["accounts"][0]["name"] == NAME.decode()
    assert world.answer("backup", "verify", *key, codes=(EXIT_STORAGE,))["findings"]
    text = world.config.read_text()
    world.config.write_text(text.replace(f'data = "{world.root}"', f'data = "{root}"'))
    try:
        mail = World(root)
        mail.deliver(b"Subject: new\r\n\r\n")
        mail.close()
        assert world.answer("backup", "run")["stored"]
        (again,) = by_key(world, root=tmp_path / "again")["restored"]
        assert again["trouble"] is None
        assert subjects(tmp_path / "again") == [*SUBJECTS, b"new"]
    finally:
        world.config.write_text(text)


@pytest.mark.parametrize("where", PLACES)
def test_the_living_server_looks_at_what_it_wrote_alone(
    world: CommandsWorld, where: Callable[[list[SegmentName]], list[SegmentName]]
) -> None:
    """Without the private key, in place, and at each point in time."""
    account, _ = streams(world)
    good = names_in(world, account)
    add(world, where, random_octets)
    points = world.answer("backup", "list", NAME.decode())["points"]
    assert [one["object"] for one in points] == [str(name) for name in good]
    for wishes in ((), ("--newest-sound",)):
        (restored,) = world.answer("restore", NAME.decode(), "--replace", *wishes)["restored"]
        assert (restored["trouble"], restored["passed_over"]) == (None, [])
        assert subjects(world.root) == SUBJECTS
    for count, name in enumerate(good, 1):
        done = world.answer("restore", NAME.decode(), "--replace", "--at", utc_ms(name.taken_ms))
        assert done["restored"][0]["trouble"] is None
        assert subjects(world.root) == SUBJECTS[:count]
    done = world.answer(
        "restore", NAME.decode(), "--messages", "INBOX", "--password-stdin", stdin=PASSWORD.decode() + "\n"
    )
    assert done["messages"] == len(SUBJECTS)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("what", [random_octets, a_copy])
def test_a_lost_state_is_taken_over_all_the_same(
    world: CommandsWorld,
    tmp_path: Path,
    where: Callable[[list[SegmentName]], list[SegmentName]],
    what: Callable[[CommandsWorld, SegmentName], bytes],
) -> None:
    """Without the private key nobody knows which object is good: all of them stay, new ones are stored."""
    add(world, where, what)
    before = files_in(world)
    for path in (world.root / "backup").glob("state.db*"):
        path.unlink()
    assert world.answer("backup", "run", "--take-over")["stored"]
    world.answer("backup", "prune")
    after = files_in(world)
    assert before < after
    assert all(len(path.name.split("-")[0]) < 14 for path in after - before)
    (restored,) = by_key(world, root=tmp_path / "again")["restored"]
    assert restored["trouble"] is None
    assert subjects(tmp_path / "again") == SUBJECTS


def test_an_account_that_was_not_back_at_the_first_try_comes_back_later(
    world: CommandsWorld, tmp_path: Path
) -> None:
    """The new server tells its own stream which snapshot was the newest, not what was added behind it."""
    account, _ = streams(world)
    newest = world.objects / str(names_in(world, account)[-1])
    add(world, behind_all, random_octets)
    elsewhere = newest.rename(world.objects.with_name("elsewhere"))
    root = tmp_path / "first"
    restore = ("restore", "--all", "--private-key", world.private_key_file, "--into")
    (tried,) = world.answer(*restore, root, codes=(EXIT_STORAGE,))["restored"]
    assert "missing" in tried["trouble"]
    text = world.config.read_text()
    world.config.write_text(text.replace(f'data = "{world.root}"', f'data = "{root}"'))
    try:
        world.answer("backup", "run")
    finally:
        world.config.write_text(text)
    elsewhere.rename(newest)
    (restored,) = by_key(world, root=tmp_path / "second")["restored"]
    assert restored["trouble"] is None, restored
    assert subjects(tmp_path / "second") == SUBJECTS
