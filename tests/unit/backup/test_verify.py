"""Whatever is done to objects in the bucket is found and named; a restore refuses it or goes before it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from job_world import JobWorld

from backup.candidates import Candidates
from backup.catalogue import stream_of_server
from backup.errors import BackupError, ChainBroken, ChainLinkBroken, SegmentDamaged, WrongKey
from backup.rebuild import Rebuilder, breaks_chain
from backup.restore import Listing, Restorer, Target, _to_blame, list_store, target
from backup.segment import Header, Kind, SegmentName, StreamId
from backup.server_stream import read_server
from backup.signing import Signer
from backup.staging import staged_name, write_segment
from backup.store_file import FileStore
from backup.verify import Expected, Finding, Verifier, expected_by_server, expected_by_state, stored_names
from mailstore.account import read_server_key
from mailstore.keys import load_private_key, new_private_key


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobWorld]:
    """A server whose account has a chain of five segments in the store."""
    world = JobWorld(tmp_path_factory.mktemp("stored"))
    for number in range(5):
        world.append(f"m{number}", f"n{number}")
        world.pass_time(200)
    yield world
    world.job.stop()
    world.state.close()
    world.mail.close()


@pytest.fixture
def bucket(stored: JobWorld) -> Iterator[Path]:
    """The store's folder, put back afterwards."""
    folder = stored.places.root.parent / "objects"
    copy = folder.with_name("kept")
    shutil.copytree(folder, copy)
    yield folder
    shutil.rmtree(folder)
    copy.rename(folder)


def segments(world: JobWorld) -> list[SegmentName]:
    """The account's segments."""
    stream = world.state.stream(world.mail.directory.accounts()[0].account_id)
    assert stream is not None
    return [one.name for one in world.state.segments(stream.stream)]


def content_keys(world: JobWorld) -> dict[SegmentName, bytes]:
    """What the server remembers of all streams."""
    return {
        one.name: one.content_key for two in world.state.streams() for one in world.state.segments(two.stream)
    }


def found_by_state(world: JobWorld, scratch: Path, *, deep: bool = True) -> list[Finding]:
    """What ``verify`` says with the server's own records."""
    keys = content_keys(world)
    verifier = Verifier(world.store, list_store(world.store), keys.get, scratch, deep=deep)
    return verifier.verify(expected_by_state(world.state)).findings


def found_by_key(world: JobWorld, scratch: Path) -> list[Finding]:
    """What ``verify`` says with the private key alone."""
    listing = list_store(world.store)
    server = world.read_server(scratch, newest_sound=True).server
    verifier = Verifier(
        world.store, listing, lambda _name: world.private_key, scratch, deep=True, trust=world.trust()
    )
    return verifier.verify(expected_by_server(server, stream_of_server(world.private_key.public))).findings


def newest(world: JobWorld, scratch: Path) -> Target:
    """What a restore of the newest state applies."""
    listing = list_store(world.store)
    server = world.read_server(scratch, newest_sound=True).server
    account = world.mail.directory.accounts()[0].account_id
    return target(listing, account, server.heads[account], None)


def test_what_was_written_is_in_order(stored: JobWorld, tmp_path: Path) -> None:
    """Both ways, and for a restore; what was fetched for it does not stay."""
    assert found_by_state(stored, tmp_path) == [] == found_by_state(stored, tmp_path, deep=False)
    assert found_by_key(stored, tmp_path) == []
    assert len(segments(stored)) == 5
    assert not list(tmp_path.iterdir())


def test_what_no_key_is_known_of_is_counted(stored: JobWorld, tmp_path: Path) -> None:
    """Its bytes are held against what was written, and not a word more is said for it."""
    listing = list_store(stored.store)
    verifier = Verifier(stored.store, listing, lambda _name: None, tmp_path, deep=True)
    report = verifier.verify(expected_by_state(stored.state))
    assert report.findings == []
    assert report.unopened == report.segments == len(listing.sizes) > 1
    assert report.bytes_read == sum(listing.sizes.values())


@pytest.mark.parametrize("is_changed", [False, True])
def test_an_object_without_a_key_is_held_against_the_one_behind_it(
    stored: JobWorld, bucket: Path, tmp_path: Path, is_changed: bool
) -> None:
    """That one names its hash, where nobody else remembers what was written."""
    names = segments(stored)
    if is_changed:
        path = bucket / str(names[2])
        path.write_bytes(bytes(path.stat().st_size))
    server = stored.read_server(tmp_path, newest_sound=True).server
    verifier = Verifier(
        stored.store,
        list_store(stored.store),
        lambda name: None if name == names[2] else stored.private_key,
        tmp_path,
        deep=True,
        trust=stored.trust(),
    )
    expected = expected_by_server(server, stream_of_server(stored.private_key.public))
    found = verifier.verify(expected).findings
    assert [one.key for one in found] == ([str(names[3])] if is_changed else [])


def test_every_flipped_octet_is_found_and_named(stored: JobWorld, bucket: Path, tmp_path: Path) -> None:
    """Anywhere in any object of the account; the restore stops before it."""
    chance = random.Random(3)
    for name in segments(stored):
        path = bucket / str(name)
        data = path.read_bytes()
        for at in [0, 8, 1_200, len(data) - 1, *(chance.randrange(len(data)) for _ in range(6))]:
            broken = bytearray(data)
            broken[at] ^= 1 << chance.randrange(8)
            path.write_bytes(broken)
            assert str(name) in {one.key for one in found_by_state(stored, tmp_path)}
            assert str(name) in {one.key for one in found_by_key(stored, tmp_path)}
            with pytest.raises(BackupError, match=str(name)):
                Rebuilder(stored.source(), tmp_path, 1).rebuild(segments(stored), tmp_path / "rebuilt")
        path.write_bytes(data)


def remove(bucket: Path, names: list[SegmentName]) -> None:
    """The third one is gone."""
    (bucket / str(names[2])).unlink()


def cut_off(bucket: Path, names: list[SegmentName]) -> None:
    """The newest is gone."""
    (bucket / str(names[4])).unlink()


def exchange(bucket: Path, names: list[SegmentName]) -> None:
    """Two have changed places."""
    one, two = (bucket / str(names[index]) for index in (2, 3))
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def replay(bucket: Path, names: list[SegmentName]) -> None:
    """An older one stands in for the newest."""
    (bucket / str(names[4])).write_bytes((bucket / str(names[3])).read_bytes())


def shorten(bucket: Path, names: list[SegmentName]) -> None:
    """The end of one is cut off."""
    path = bucket / str(names[2])
    path.write_bytes(path.read_bytes()[:-100])


def test_a_wrong_size_is_named_without_reading(stored: JobWorld, bucket: Path, tmp_path: Path) -> None:
    """The server remembers what it has written."""
    name = segments(stored)[2]
    shorten(bucket, segments(stored))
    (only,) = found_by_state(stored, tmp_path, deep=False)
    assert (only.key, only.why) == (str(name), "its size is not what was written")


def rename(bucket: Path, names: list[SegmentName]) -> None:
    """One says that it is of another time."""
    name = names[4]
    later = SegmentName(name.stream, name.sequence, name.taken_ms + 1000, name.kind)
    (bucket / str(name)).rename(bucket / str(later))


@pytest.mark.parametrize("harm", [remove, cut_off, exchange, replay, shorten, rename])
def test_harm_is_named_and_not_restored(
    stored: JobWorld, bucket: Path, tmp_path: Path, harm: Callable[[Path, list[SegmentName]], None]
) -> None:
    """By the server, by the private key, and by a restore; the newest sound state is there when asked for."""
    names = segments(stored)
    harm(bucket, names)
    assert found_by_state(stored, tmp_path)
    assert found_by_key(stored, tmp_path)
    restorer = Restorer(stored.root, stored.source(), tmp_path, 1)
    with pytest.raises((SegmentDamaged, ChainBroken)):
        restorer.rebuild(newest(stored, tmp_path))
    _, rebuilt = restorer.rebuild(newest(stored, tmp_path), newest_sound=True)
    assert rebuilt.newest in names[1:4]


def test_a_damaged_newest_segment_is_never_passed_over_unasked(
    stored: JobWorld, bucket: Path, tmp_path: Path
) -> None:
    """Not for a point in time either: an older state would be taken for the one that was asked for."""
    names = segments(stored)
    wanted = newest(stored, tmp_path)
    head = replace(wanted.head, sequence=names[3].sequence, sha256=b"")
    then = replace(wanted, names=tuple(names[:4]), head=head, newest=False)
    damaged = bucket / str(names[3])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    restorer = Restorer(stored.root, stored.source(), tmp_path, 1)
    with pytest.raises(SegmentDamaged) as caught:
        restorer.rebuild(then)
    assert caught.value.key == str(names[3])


@pytest.mark.parametrize(
    ("kind", "named", "previous", "otherwise"),
    [
        (Kind.FULL, None, b"there", False),  # the first one behind a restore knows no predecessor
        (Kind.FULL, b"there", b"there", False),
        (Kind.FULL, b"other", b"there", True),
        (Kind.CHANGES, None, b"there", True),
        (Kind.CHANGES, b"there", b"there", False),
        (Kind.CHANGES, b"other", b"there", True),
        (Kind.CHANGES, b"other", None, False),
        (Kind.CHANGES, None, None, False),
    ],
)
def test_a_segment_says_what_it_builds_on(
    kind: Kind, named: bytes | None, previous: bytes | None, otherwise: bool
) -> None:
    """``previous`` is what is there; where that is not known nothing contradicts it."""
    name = SegmentName(StreamId("5" * 32), 2, 2, kind)
    segment: Any = SimpleNamespace(name=name, header=SimpleNamespace(previous=named))
    assert breaks_chain(segment, previous) is otherwise


def test_the_object_that_another_does_not_build_on_is_to_blame() -> None:
    """When there is another one of its number; otherwise the one that does not build on it."""
    stream = StreamId("5" * 32)
    one, two, other, three, four = (
        SegmentName(stream, number, taken, Kind.CHANGES)
        for number, taken in ((1, 1), (2, 2), (2, 3), (3, 4), (4, 5))
    )
    error = ChainLinkBroken(str(three), "it does not build on the object before it")
    chain = (one, other, three, four)
    assert _to_blame(error, chain, Candidates((one, two, other, three, four))) == other
    assert _to_blame(error, chain, Candidates((one, other, three, four))) == three
    damaged = SegmentDamaged(str(three), "it is damaged")
    assert _to_blame(damaged, chain, Candidates((one, two, other, three, four))) == three
    nameless = SegmentDamaged("elsewhere", "it is damaged")
    assert _to_blame(nameless, chain, Candidates((one, other, three, four))) == one


def test_an_object_that_nobody_wrote_is_named(stored: JobWorld, bucket: Path, tmp_path: Path) -> None:
    """Put behind the newest, sealed to the right key even: the server knows that it did not write it."""
    name = segments(stored)[4]
    forged = SegmentName(name.stream, name.sequence + 1, name.taken_ms + 1000, name.kind)
    (bucket / str(forged)).write_bytes((bucket / str(name)).read_bytes())
    assert [(one.key, one.why) for one in found_by_state(stored, tmp_path)] == [
        (str(forged), "the server did not write it")
    ]
    assert str(forged) in {one.key for one in found_by_key(stored, tmp_path)}


def test_damage_behind_the_header_is_found_by_the_private_key_alone(
    stored: JobWorld, bucket: Path, tmp_path: Path
) -> None:
    """Nobody remembers the object's hash or knows who signs, and its beginning opens."""
    name = segments(stored)[0]
    server = stored.read_server(tmp_path, newest_sound=True).server
    expected = expected_by_server(server, stream_of_server(stored.private_key.public))
    data = bytearray((bucket / str(name)).read_bytes())
    data[-1500] ^= 1
    (bucket / str(name)).write_bytes(data)
    listing = list_store(stored.store)
    verifier = Verifier(stored.store, listing, lambda _name: stored.private_key, tmp_path, deep=True)
    assert str(name) in {one.key for one in verifier.verify(expected).findings}


def test_an_object_that_goes_while_it_is_verified_is_missing(
    stored: JobWorld, bucket: Path, tmp_path: Path
) -> None:
    """It was listed, and is not there when it is its turn."""
    listing, gone = list_store(stored.store), segments(stored)[4]
    (bucket / str(gone)).unlink()
    verifier = Verifier(stored.store, listing, content_keys(stored).get, tmp_path, deep=True)
    (only,) = verifier.verify(expected_by_state(stored.state)).findings
    assert (only.key, only.why) == (str(gone), "it is missing in the object store")


@pytest.mark.parametrize("which", [2, -1])
def test_a_second_object_of_a_number_is_named_once(
    stored: JobWorld, bucket: Path, tmp_path: Path, which: int
) -> None:
    """As what it is, left over, also beside the newest; its size is nobody's concern."""
    name = segments(stored)[which]
    second = SegmentName(name.stream, name.sequence, name.taken_ms + 1, name.kind)
    (bucket / str(second)).write_bytes((bucket / str(name)).read_bytes() + b"more")
    (only,) = found_by_state(stored, tmp_path, deep=False)
    assert only.key == str(second) and only.why.startswith("it is left over")


def test_of_two_objects_of_a_number_one_has_to_be_the_one_that_was_written(
    stored: JobWorld, bucket: Path, tmp_path: Path
) -> None:
    """With the private key alone the server's stream tells the hash of the newest one."""
    name = segments(stored)[4]
    later = SegmentName(name.stream, name.sequence, name.taken_ms + 1000, name.kind)
    (bucket / str(later)).write_bytes((bucket / str(name)).read_bytes())
    not_written = "it is not the object that was written"
    # The copy does not say its own name; the right one is there.
    found = {(one.key, one.why) for one in found_by_key(stored, tmp_path)}
    assert {key for key, _ in found} == {str(later)} and (str(later), not_written) not in found
    (bucket / str(name)).write_bytes(bytes(100))
    found = {(one.key, one.why) for one in found_by_key(stored, tmp_path)}
    assert (str(later), not_written) in found


def test_a_living_server_knows_what_it_wrote_as_far_as_it_is_there(stored: JobWorld, bucket: Path) -> None:
    """Neither what is missing nor what somebody else has put there."""
    first, *rest = segments(stored)
    (bucket / str(first)).unlink()
    forged = SegmentName(first.stream, 99, first.taken_ms, first.kind)
    (bucket / str(forged)).write_bytes(b"anything")
    assert list_store(stored.store).known_to(stored.state).streams[first.stream] == tuple(rest)


def test_objects_of_others_are_counted_and_left_alone(stored: JobWorld, bucket: Path) -> None:
    """What has another kind of name is no segment, and no finding."""
    before = list_store(stored.store)
    for name in ("notes.txt", f"{segments(stored)[0].stream}/readme"):
        (bucket / name).write_bytes(b"x")
    after = list_store(stored.store)
    assert (before.foreign, after.foreign, after.streams) == (0, 2, before.streams)


def test_a_segment_of_another_account_is_named(stored: JobWorld, bucket: Path, tmp_path: Path) -> None:
    """The server itself wrote and signed it into this account's stream: of nothing else can it be told."""
    last = segments(stored)[4]
    name = SegmentName(last.stream, last.sequence + 1, last.taken_ms + 1, Kind.FULL)
    header = Header(name, "5a" * 16, None, None, (("keys", 4),))
    signer = Signer(read_server_key(stored.root))
    written = write_segment(tmp_path, header, (b"keys",), stored.private_key.public, signer)
    (tmp_path / staged_name(name)).rename(bucket / str(name))
    account = stored.mail.directory.accounts()[0].account_id
    expected = Expected(account, last.stream, None, name.sequence, {name.sequence: written.sha256})
    listing = list_store(stored.store)
    for key in (stored.private_key, written.content_key):
        key_for = partial(lambda own, one: own if one == name else stored.private_key, key)
        verifier = Verifier(stored.store, listing, key_for, tmp_path, deep=True, trust=stored.trust())
        findings = verifier.verify([expected]).findings
        assert findings == [Finding(str(name), "it belongs to another account")]


def test_a_rolled_back_account_is_noticed_by_the_servers_stream(
    stored: JobWorld, bucket: Path, tmp_path: Path
) -> None:
    """An earlier bucket for one account only: the server's stream says what the newest was."""
    for name in segments(stored)[2:]:
        (bucket / str(name)).unlink()
    assert {one.why for one in found_by_key(stored, tmp_path)} == {"it is missing in the object store"}
    with pytest.raises(
        ChainBroken, match=f"{segments(stored)[2].sequence:08d}: the server's stream names it"
    ):
        Restorer(stored.root, stored.source(), tmp_path, 1).rebuild(newest(stored, tmp_path))


def test_another_private_key_opens_nothing(stored: JobWorld, tmp_path: Path) -> None:
    """And the operator is told so."""
    with pytest.raises(WrongKey):
        read_server(stored.source(), list_store(stored.store), load_private_key(new_private_key()), tmp_path)


@pytest.mark.parametrize("order", ["stored, listed", "listed, stored"])
def test_a_server_that_goes_on_meanwhile_is_no_finding(tmp_path: Path, order: str) -> None:
    """Snapshots that are stored while ``verify`` looks may or may not be in the listing; both are right."""
    world = JobWorld(tmp_path)
    world.append("one")
    world.pass_time(400)
    before = stored_names(world.state)
    assert before
    listing = list_store(world.store)
    world.append("two")
    world.pass_time(400)
    if order == "stored, listed":
        listing = list_store(world.store)
    keys = {
        one.name: one.content_key for two in world.state.streams() for one in world.state.segments(two.stream)
    }
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for deep in (False, True):
        verifier = Verifier(world.store, listing, keys.get, scratch, deep=deep)
        assert verifier.verify(expected_by_state(world.state, before)).findings == []
    assert stored_names(world.state) > before
    if order == "listed, stored":
        verifier = Verifier(world.store, listing, keys.get, scratch, deep=False)
        assert verifier.verify(expected_by_state(world.state)).findings, "without knowing what was before"
    world.job.stop()
    world.state.close()
    world.mail.close()


def test_what_is_stored_while_objects_are_read_is_no_finding(tmp_path: Path) -> None:
    """Reading takes minutes; what is expected is what was known when it began."""
    world = JobWorld(tmp_path)
    world.append("one")
    world.pass_time(400)
    before = stored_names(world.state)
    expected = expected_by_state(world.state, before)
    seen = set(next(expected).names or ())
    world.append("two")
    world.pass_time(400)
    for one in expected:
        seen |= set(one.names or ())
    assert seen == before
    assert stored_names(world.state) > before
    world.job.stop()
    world.state.close()
    world.mail.close()


@pytest.mark.parametrize(
    ("there", "newest", "missing"),
    [
        ((1, 2, 3), 3, []),
        ((1, 2, 3), 0, []),
        ((2, 3), 3, []),  # what is older has gone in its time
        ((), 0, []),
        ((), 1, ["00000001"]),
        ((), 3, ["00000003"]),
        ((1, 3), 3, ["00000002"]),
        ((1, 4), 4, ["00000002 to 00000003"]),
        ((1, 2), 3, ["00000003"]),
        ((1, 2), 4, ["00000003 to 00000004"]),
    ],
)
def test_what_is_missing_is_named_by_its_numbers(
    there: tuple[int, ...], newest: int, missing: list[str], tmp_path: Path
) -> None:
    """With the private key alone only the numbers tell, and the newest one that the server's stream names."""
    stream = StreamId("5" * 32)
    names = tuple(SegmentName(stream, number, 1000 * number, Kind.FULL) for number in there)
    listing = Listing({stream: names}, dict.fromkeys(names, 100), 0)
    verifier = Verifier(FileStore(tmp_path), listing, lambda _name: None, tmp_path, deep=False)
    report = verifier.verify([Expected("account", stream, None, newest)])
    assert [one.key for one in report.findings] == [f"{stream}/{numbers}" for numbers in missing]
    assert (report.streams, report.segments) == (1, len(there))


def test_of_a_deleted_account_nothing_has_to_be_there(stored: JobWorld, tmp_path: Path) -> None:
    """Its snapshots go in their time, which the server's stream does not tell."""
    server = stored.read_server(tmp_path, newest_sound=True).server
    ((account, head),) = server.heads.items()
    mine = stream_of_server(stored.private_key.public)
    (_, living) = expected_by_server(server, mine)
    assert (living.account, living.newest) == (account, head.sequence)
    del server.accounts[account]
    (_, deleted) = expected_by_server(server, mine)
    assert (deleted.account, deleted.newest) == (account, 0)
