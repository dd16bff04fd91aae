"""kill -9 or a power cut at any step of exchanging the server's key: old key or new, the server starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from power import each_cut
from recorder import record
from steps import Begin, Say, each_step
from store_world import World

from backup.former_keys import decode_former
from backup.job import Places
from backup.key_rotation import finish, hand_over, rotate
from backup.segment import Kind, SegmentName
from backup.signing import Signer
from backup.state import Segment, State, new_stream
from mailstore.account import open_directory, read_server_key
from mailstore.opening import scram_setup
from mailstore.server_key import FORMER_KEYS_NOTE, Found, read_note

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

LEFT = {"server.key", "server.key.lock", "directory.db", "write.lock", "accounts", "backup", "decoy", "notes"}


def salt_of_nobody(root: Path) -> bytes:
    """What is told who asks for an unknown name."""
    directory = open_directory(root)
    found = scram_setup(root, directory, "nobody@example.org").salt
    directory.close()
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with an account, and records of one snapshot."""
    root = tmp_path_factory.mktemp("template") / "root"
    World(root).close()
    Places(root).make()
    salt_of_nobody(root)
    state = State(Places(root).folder, read_server_key(root))
    stream = new_stream("a" * 32)
    state.keep(stream, Segment(SegmentName(stream.stream, 1, 5, Kind.FULL), 9, b"h" * 32, b"k" * 32, True))
    state.close()
    return root


def opens(root: Path, old: bytes, salt: bytes) -> bytes:
    """See that everything opens with the key in its place, which is noted if it is another; that key."""
    key = read_server_key(root)
    state = State(Places(root).folder, key)
    assert [one.account for one in state.streams()] == ["a" * 32]
    state.close()
    known = decode_former(read_note(root, key, FORMER_KEYS_NOTE))
    assert [(one.public, len(one.last)) for one in known] == ([] if key == old else [(Signer(old).public, 1)])
    assert salt_of_nobody(root) == salt
    return key


def left_over(root: Path) -> set[str]:
    """What no server has when it does not run."""
    return {path.name for path in root.iterdir()} - LEFT | {
        path.name for path in Places(root).folder.iterdir() if path.name.endswith(("-new", "-journal"))
    }


def exchange(root: Path, say: Say, begin: Begin) -> None:
    """As ``sealbox server-key rotate``."""
    begin()
    rotate(root, 7)
    say(b"done")


def go_on(root: Path, say: Say, begin: Begin) -> None:
    """As the start of a server whose new key is in its place."""
    begin()
    assert finish(root, 7) is Found.FINISHED
    say(b"done")


def test_kill_in_exchanging_the_key(template: Path, place: Path) -> None:
    """The next start goes on or goes back; and the command works when it is run again."""
    old, salt = read_server_key(template), salt_of_nobody(template)
    seen: set[tuple[Found, frozenset[str]]] = set()

    def check(root: Path, said: bytes) -> None:
        names = frozenset(path.name for path in root.iterdir())
        found = finish(root, 8)
        key = opens(root, old, salt)
        assert not said or key != old
        assert not left_over(root)
        if found is not Found.NOTHING:
            assert (key == old) is (found is Found.UNDONE)
        if (found, names) not in seen:
            seen.add((found, names))
            rotate(root, 9)
            assert read_server_key(root) != key and salt_of_nobody(root) == salt
            assert not left_over(root)

    assert each_step(template, place / "steps", exchange, check) > 60
    assert {found for found, _ in seen} == {Found.NOTHING, Found.FINISHED, Found.UNDONE}


@pytest.fixture(scope="module")
def in_place(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a new key that its owner has put in its place."""
    root = tmp_path_factory.mktemp("in place") / "root"
    shutil.copytree(template, root)
    hand_over(root, read_server_key(root), lambda data: (root / "server.key").write_bytes(data), 6)
    return root


def test_kill_in_going_on_with_a_key_that_was_put_in_its_place(
    template: Path, in_place: Path, place: Path
) -> None:
    """The next start does the rest."""
    old, salt = read_server_key(template), salt_of_nobody(template)
    new = read_server_key(in_place)

    def check(root: Path, _said: bytes) -> None:
        finish(root, 8)
        assert opens(root, old, salt) == new
        assert not left_over(root)

    assert each_step(in_place, place / "steps", go_on, check) > 40


def test_power_cut_in_exchanging_the_key(template: Path, place: Path) -> None:
    """Whatever part of it has reached the disk; see ``power``."""
    root = place / "root"
    shutil.copytree(template, root)
    old, salt = read_server_key(root), salt_of_nobody(root)
    made, _ = record(root, exchange_in(root))

    def check(folder: Path, said: bytes) -> None:
        finish(folder, 8)
        assert opens(folder, old, salt) != old or not said

    assert each_cut(made, place, check) > 40


def exchange_in(root: Path) -> Callable[[Say, Begin], None]:
    """As ``record`` wants it."""
    return lambda say, begin: exchange(root, say, begin)
