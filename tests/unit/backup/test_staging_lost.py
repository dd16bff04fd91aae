"""Snapshots that wait for the store and are lost or damaged on the way: they are taken anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.limits import BackupLimits
from backup.restore import list_store
from backup.store_file import FileStore
from backup.verify import Verifier, expected_by_state
from tests.integration.snapshot_world import SnapshotWorld, in_inbox, message


class Away(FileStore):
    """A folder that can be away."""

    away = False

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See ``ObjectStore``."""
        if self.away:
            path = path.with_name("nowhere")
        super().put(name, path, sha256)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SnapshotWorld]:
    """A server with some mail, stored."""
    (tmp_path / "objects").mkdir()
    made = SnapshotWorld(tmp_path, Away(tmp_path / "objects"), BackupLimits(retry_first_s=10, retry_max_s=40))
    made.append(message("one", b"text"))
    made.pass_time(200)
    assert not made.state.waiting()
    yield made
    made.close()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [Path.unlink, _flip, _cut])
@pytest.mark.parametrize("which", ["account", "server", "all"])
def test_a_waiting_snapshot_that_is_harmed_is_taken_anew(
    world: SnapshotWorld, harm: Callable[[Path], None], which: str
) -> None:
    """Whoever's it is and whatever happened to its file: the newest state gets into the store."""
    assert isinstance(world.store, Away)
    world.store.away = True
    world.mail.directory.add_alias("al@example.org", world.mail.directory.accounts()[0].account_id)
    for number in range(3):
        world.append(message(f"new {number}", b"text"))
        world.mail.deliver(message(f"waits {number}", b"text"))
        world.pass_time(200)
    account = world.mail.directory.accounts()[0].account_id
    stream, server = world.state.stream(account), world.state.stream("server")
    assert stream is not None and server is not None
    for path in list(world.places.staging.iterdir()):
        of_server = path.name.startswith(server.stream)
        if which == "all" or of_server == (which == "server"):
            harm(path)
    world.store.away = False
    world.pass_time(1000)
    assert not world.state.waiting() and world.job.trouble is None
    assert list(world.places.staging.iterdir()) == []
    again = world.restored("again")
    assert [alias.address for alias in again.directory.aliases()] == ["al@example.org"]
    assert set(in_inbox(world.mail)) == set(in_inbox(again)) and len(in_inbox(again)) == 7
    again.close()
    scratch = world.place / "scratch"
    scratch.mkdir()
    listing = list_store(world.store)
    heads = world.read_server(scratch).heads
    assert heads[account].sequence == world.state.segments(stream.stream)[-1].name.sequence
    report = Verifier(world.store, listing, lambda _name: world.private_key, scratch, deep=True).verify(
        expected_by_state(world.state)
    )
    assert report.findings == []
