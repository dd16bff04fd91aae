"""The server's key is exchanged: what was stored before stays restorable, and nobody notices from outside."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands_world import CommandsWorld
from store_world import NAME, World, now
from test_forgery import newest

from backup.catalogue import stream_of_server
from backup.former_keys import FormerKey, decode_former, encode_former, successors_of
from backup.job import Places
from backup.key_rotation import finish, hand_over, rotate
from backup.segment import KEYS_FILE, SERVER, SERVER_FILE, Header, Kind, SegmentName, StreamId
from backup.signing import Signer
from backup.staging import staged_name, write_segment
from backup.state import State
from mailstore.account import open_directory, read_server_key
from mailstore.directory import PostgresPlace, put_directory
from mailstore.opening import scram_setup
from mailstore.server_key import (
    FORMER_KEYS_NOTE,
    HANDOVER,
    DirectoryUnderKey,
    Found,
    key_text,
    read_note,
    write_note,
)

ALICE = NAME.decode()
NAMES = (ALICE, "nobody@example.org", "Nobody@example.org", "x@elsewhere.example")
EXIT_REFUSED, EXIT_STORAGE = 3, 6


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """An account whose snapshot has one message."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    stored(made, "before")
    return made


def stored(world: CommandsWorld, subject: str) -> str:
    """Append a message and store a snapshot; a time after that one and before the next."""
    world.append(subject)
    assert world.answer("backup", "run")["stored"]
    (account,) = world.answer("backup", "status")["accounts"]
    time_after = str(account["newest"])
    last_ms = newest(world, server_stream(world)).taken_ms
    while int(time.time() * 1000) <= last_ms:  # the next snapshot has another time
        pass
    return time_after


def server_stream(world: CommandsWorld) -> StreamId:
    """The server's."""
    return stream_of_server(world.private_key.public)


def account_stream(world: CommandsWorld) -> StreamId:
    """That of the only account."""
    (found,) = {StreamId(path.name) for path in world.objects.iterdir()} - {server_stream(world)}
    return found


def rotated(world: CommandsWorld) -> tuple[str, str]:
    """Exchange the key; the signing keys before and after."""
    done = world.answer("server-key", "rotate")
    assert done["in_place"]
    return done["signing_key_before"], done["signing_key"]


def restored(
    world: CommandsWorld, place: Path, *options: str, codes: tuple[int, ...] = (0,)
) -> dict[str, Any]:
    """Restore everything into a new root, as after the loss of the machine."""
    shutil.rmtree(place, ignore_errors=True)
    return world.answer(
        *("restore", "--all", "--into", place, "--private-key", world.private_key_file, *options), codes=codes
    )


def messages(root: Path) -> int:
    """How many are in the INBOX of the account there."""
    mail = World(root)
    account = mail.login()
    found: int = now(account.status("INBOX")).messages
    account.release()
    mail.close()
    return found


@pytest.mark.parametrize("signed", ["by the new key", "unknown"])
def test_points_in_time_from_before_between_and_after_are_restored(
    world: CommandsWorld, tmp_path: Path, signed: str
) -> None:
    """With what the operator noted last, or with nothing, on a new machine; the key is always the newest."""
    times = [stored(world, "1")]
    rotated(world)
    times.append(stored(world, "2"))
    _, key = rotated(world)
    times.append(stored(world, "3"))
    options = ("--signed-by", key) if signed == "by the new key" else ()
    for number, at in enumerate(times, 2):
        done = restored(world, tmp_path / "new", *options, "--at", at)
        assert (done["passed_over"], done["restored"][0]["trouble"]) == ([], None)
        assert messages(tmp_path / "new") == number
        if options:
            assert read_server_key(tmp_path / "new") == read_server_key(world.root)
    done = restored(world, tmp_path / "new", *options)
    assert (done["passed_over"], done["restored"][0]["passed_over"]) == ([], [])
    assert messages(tmp_path / "new") == 4
    assert read_server_key(tmp_path / "new") == read_server_key(world.root)
    report = world.answer("backup", "verify", "--private-key", world.private_key_file)
    assert report["findings"] == [] and report["segments"] >= 8


def test_a_restored_server_believes_what_the_former_keys_signed(world: CommandsWorld, tmp_path: Path) -> None:
    """A machine is lost after an exchange; the new one reads the store with its own key, and goes on."""
    before = stored(world, "1")
    _, key = rotated(world)
    stored(world, "2")
    restored(world, world.root, "--signed-by", key)
    stored(world, "3")
    assert world.answer("backup", "status")["signing_key"] == key
    report = world.answer("backup", "verify", "--private-key", world.private_key_file)
    assert report["findings"] == []
    done = restored(world, tmp_path / "new", "--signed-by", key, "--at", before)
    assert done["restored"][0]["trouble"] is None and messages(tmp_path / "new") == 2


def test_the_signing_key_of_the_old_notes_leads_to_the_new_one(world: CommandsWorld, tmp_path: Path) -> None:
    """Through two exchanges; and it still restores what is from its own time."""
    before = stored(world, "1")
    first, _ = rotated(world)
    stored(world, "2")
    _, last = rotated(world)
    stored(world, "3")
    code, _, said = world.run(
        *("restore", "--all", "--into", tmp_path / "new", "--private-key", world.private_key_file),
        *("--signed-by", first),
    )
    assert code == EXIT_REFUSED and f"give --signed-by {last} " in said
    assert not (tmp_path / "new").exists()
    done = restored(world, tmp_path / "new", "--signed-by", first, "--at", before)
    assert done["restored"][0]["trouble"] is None and messages(tmp_path / "new") == 2


def test_a_key_that_was_exchanged_since_does_not_come_back_silently(
    world: CommandsWorld, tmp_path: Path
) -> None:
    """Whoever exchanged it had a reason. What gives the newest key, or finds a server there, says nothing."""
    before = stored(world, "1")
    _, key = rotated(world)
    stored(world, "2")
    old_key_back = "THE SERVER'S KEY IS AN OLD ONE"

    def said(root: Path, *options: str) -> str:
        code, _, text = world.run(
            *("restore", "--all", "--into", root, "--private-key", world.private_key_file, *options)
        )
        assert code == 0
        return text

    text = said(tmp_path / "old", "--at", before)
    assert old_key_back in text and "sealbox server-key rotate" in text
    assert read_server_key(tmp_path / "old") != read_server_key(world.root)
    assert old_key_back not in said(tmp_path / "old", "--at", before, "--replace")
    for name, options in {"signed": ("--at", before, "--signed-by", key), "newest": ()}.items():
        assert old_key_back not in said(tmp_path / name, *options)
        assert read_server_key(tmp_path / name) == read_server_key(world.root)


def test_before_the_first_snapshot_the_old_notes_are_right(world: CommandsWorld, tmp_path: Path) -> None:
    """The machine is lost right after the exchange: the store knows nothing of the new key."""
    old, new = rotated(world)
    done = restored(world, tmp_path / "new", "--signed-by", old)
    assert done["restored"][0]["trouble"] is None and messages(tmp_path / "new") == 1
    code, _, said = world.run(
        *("restore", "--all", "--into", tmp_path / "other", "--private-key", world.private_key_file),
        *("--signed-by", new),
    )
    assert code == EXIT_STORAGE and "this server did not sign it" in said


def test_the_living_server_believes_its_former_key_at_once(world: CommandsWorld) -> None:
    """Before anything is stored that is signed with the new one: its directory knows."""
    rotated(world)
    report = world.answer("backup", "verify", "--private-key", world.private_key_file)
    assert report["findings"] == [] and report["segments"] > 1
    done = world.answer("restore", "--all", "--replace", "--private-key", world.private_key_file)
    assert done["passed_over"] == [] and done["restored"][0]["trouble"] is None


def forged(world: CommandsWorld, stream: StreamId, sequence: int, key: bytes) -> SegmentName:
    """A full segment of that number, taken after all others, by somebody who has that server's key."""
    last = newest(world, stream)
    name = SegmentName(stream, sequence, last.taken_ms + 1000, Kind.FULL)
    server = stream == server_stream(world)
    content = json.dumps({"server_key": "11" * 32, "accounts": {}}).encode() if server else b"keyslots"
    account = SERVER if server else world.answer("backup", "status")["accounts"][0]["account"]
    header = Header(name, account, None, None, ((SERVER_FILE if server else KEYS_FILE, len(content)),))
    staging = world.root.parent
    write_segment(staging, header, [content], world.private_key.public, Signer(key))
    (staging / staged_name(name)).rename(world.objects / str(name))
    return name


@pytest.mark.parametrize("whose", ["server", "account"])
def test_a_thief_of_the_old_key_signs_nothing_that_passes_as_new(
    world: CommandsWorld, tmp_path: Path, whose: str
) -> None:
    """Neither behind the last nor between: only what has the number of a segment from the key's own time."""
    stolen = read_server_key(world.root)
    _, key = rotated(world)
    stored(world, "1")
    stored(world, "2")
    stream = server_stream(world) if whose == "server" else account_stream(world)
    last = newest(world, stream)
    names = [forged(world, stream, last.sequence + more, stolen) for more in (0, 1)]
    done = restored(world, tmp_path / "new", "--signed-by", key)
    told = done["passed_over"] + done["restored"][0]["passed_over"]
    assert sorted(one.partition(":")[0] for one in told) == sorted(map(str, names))
    assert done["restored"][0]["trouble"] is None
    assert messages(tmp_path / "new") == 3
    assert read_server_key(tmp_path / "new") == read_server_key(world.root)
    # The living server says so as well.
    report = world.answer("backup", "verify", "--private-key", world.private_key_file, codes=(EXIT_STORAGE,))
    assert {one["object"] for one in report["findings"]} == {str(name) for name in names}


def test_a_thief_of_the_old_key_cannot_change_the_newest_state(world: CommandsWorld, tmp_path: Path) -> None:
    """Not with another object of a number from before either: newer ones say what they build on."""
    stolen = read_server_key(world.root)
    _, key = rotated(world)
    stored(world, "1")
    forged(world, account_stream(world), 1, stolen)
    forged(world, server_stream(world), 1, stolen)
    done = restored(world, tmp_path / "new", "--signed-by", key)
    assert done["restored"][0]["trouble"] is None and messages(tmp_path / "new") == 2


def salts(root: Path) -> list[bytes]:
    """What a stranger is told who begins to log in."""
    directory = open_directory(root)
    found = [scram_setup(root, directory, name).salt for name in NAMES]
    directory.close()
    return found


def test_a_stranger_cannot_tell_unknown_names_by_comparing(world: CommandsWorld, tmp_path: Path) -> None:
    """Salts of all names stay over two exchanges and the loss of the machine, so none betrays its name."""
    known = salts(world.root)
    rotated(world)
    assert salts(world.root) == known
    _, key = rotated(world)
    assert salts(world.root) == known
    stored(world, "1")
    restored(world, tmp_path / "new", "--signed-by", key)
    assert salts(tmp_path / "new") == known


def former_keys(root: Path) -> tuple[FormerKey, ...]:
    """Those that the data root has noted."""
    return decode_former(read_note(root, read_server_key(root), FORMER_KEYS_NOTE))


def test_bounds_of_expired_segments_are_forgotten_and_successors_are_not(world: CommandsWorld) -> None:
    """So the list does not grow by all accounts with every exchange."""
    first, _ = rotated(world)
    stored(world, "1")
    (one,) = former_keys(world.root)
    assert one.public.hex() == first and set(one.last) == {server_stream(world), account_stream(world)}
    gone = encode_former([replace(one, last={StreamId("ab" * 16): 3})])
    write_note(world.root, read_server_key(world.root), FORMER_KEYS_NOTE, gone)
    _, last = rotated(world)
    keys = former_keys(world.root)
    assert [len(one.last) for one in keys] == [0, 2]
    assert successors_of(bytes.fromhex(first), keys)[-1].hex() == last


def test_nobody_else_names_a_successor() -> None:
    """A made-up list leads nowhere; one that runs in a circle ends."""
    old, new, other = (Signer(bytes([number]) * 32) for number in range(3))

    def entry(one: Signer, successor: Signer, by: Signer) -> FormerKey:
        return FormerKey(one.public, successor.public, by.name_successor(successor.public), 0, {})

    assert successors_of(old.public, [entry(old, new, other)]) == ()
    assert successors_of(other.public, [entry(old, new, old)]) == ()
    circle = [entry(old, new, old), entry(new, old, new)]
    assert successors_of(old.public, circle) == (new.public, old.public)


def test_a_foreign_list_in_a_forged_segment_is_no_advice(world: CommandsWorld, tmp_path: Path) -> None:
    """Who can only write to the bucket cannot make the command recommend a key of theirs."""
    key = world.answer("backup", "status")["signing_key"]
    thief = Signer(b"t" * 32)
    made_up = FormerKey(bytes.fromhex(key), thief.public, thief.name_successor(thief.public), 0, {})
    notes = {FORMER_KEYS_NOTE: encode_former([made_up])}
    content = json.dumps({"notes": notes, "server_key": "11" * 32}).encode()
    last = newest(world, server_stream(world))
    name = SegmentName(last.stream, last.sequence + 1, last.taken_ms + 1, Kind.FULL)
    header = Header(name, SERVER, None, None, ((SERVER_FILE, len(content)),))
    write_segment(tmp_path, header, [content], world.private_key.public, thief)
    (tmp_path / staged_name(name)).rename(world.objects / str(name))
    done = restored(world, tmp_path / "new", "--signed-by", key)
    assert [one.partition(":")[0] for one in done["passed_over"]] == [str(name)]
    assert messages(tmp_path / "new") == 1


def test_an_old_state_of_the_records_is_exchanged_too(world: CommandsWorld) -> None:
    """What waits in staging was signed with the old key: it is uploaded, and believed."""
    world.append("waits")
    shutil.move(world.objects, world.objects.with_name("away"))
    world.answer("backup", "run", codes=(5, 6))
    _, key = rotated(world)
    shutil.move(world.objects.with_name("away"), world.objects)
    assert world.answer("backup", "run")["stored"]
    assert world.answer("backup", "verify")["findings"] == []
    report = world.answer("backup", "verify", "--private-key", world.private_key_file, "--signed-by", key)
    assert report["findings"] == []


def test_a_key_that_is_kept_elsewhere_waits_for_its_owner(world: CommandsWorld) -> None:
    """Until the new one is in its place everything goes on with the old one, changes included."""
    old = read_server_key(world.root)
    written: list[bytes] = []
    hand_over(world.root, old, written.append, 0)
    assert finish(world.root, 0) is Found.WAITING
    world.add_account("later@example.org")
    (world.root / "server.key").write_bytes(written[0])
    assert finish(world.root, 0) is Found.FINISHED
    assert finish(world.root, 0) is Found.NOTHING and not (world.root / HANDOVER).exists()
    directory = open_directory(world.root)
    assert [one.name for one in directory.accounts()] == [ALICE, "later@example.org"]
    directory.close()
    assert world.answer("backup", "run")["stored"]


@pytest.fixture
def elsewhere(world: CommandsWorld) -> Iterator[Callable[[Path | None], None]]:
    """Says that the directory is in PostgreSQL, and in which file its key is; nobody answers there."""
    yield lambda key_file: put_directory(world.root, PostgresPlace("postgresql://127.0.0.1:1/none", key_file))
    put_directory(world.root, None)


def test_a_directory_under_a_derived_key_elsewhere_is_refused(
    world: CommandsWorld, elsewhere: Callable[[Path | None], None]
) -> None:
    """It could not be copied; nothing is changed or left."""
    before = {path.name: path.stat().st_mtime_ns for path in world.root.iterdir()}
    elsewhere(None)
    with pytest.raises(DirectoryUnderKey):
        rotate(world.root, 0)
    assert {path.name for path in world.root.iterdir()} == before.keys()
    assert (world.root / "server.key").stat().st_mtime_ns == before["server.key"]


def test_a_directory_with_a_key_of_its_own_stays_as_it_is(
    world: CommandsWorld, elsewhere: Callable[[Path | None], None], tmp_path: Path
) -> None:
    """It is not even asked."""
    elsewhere(tmp_path / "cluster.key")
    before = read_server_key(world.root)
    rotate(world.root, 0)
    assert read_server_key(world.root) != before
    State(Places(world.root).folder, read_server_key(world.root)).close()


def test_the_old_key_leaves_the_disk(world: CommandsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is overwritten, and nothing in the data root has it, sealed or not."""
    old = read_server_key(world.root)
    file = (world.root / "server.key").open("rb")
    rotate(world.root, 0)
    assert file.read() == bytes(len(key_text(old)))
    file.close()
    for path in world.root.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert old not in data and key_text(old)[:-1] not in data and not path.name.endswith(("-new", ".new"))
