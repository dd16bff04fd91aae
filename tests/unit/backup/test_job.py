"""The snapshot job from change to object store and back: rounds, outages, retention, a server made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_world import NAME, PASSWORD, TINY, message, now
from job_world import LIMITS, JobWorld
from store_world import World

from backup.job import TROUBLE, refused_deletes
from backup.limits import DAY_S
from backup.restore import Restorer, list_store, target
from backup.segment import SERVER, Kind
from backup.state import State
from backup.store_file import FileStore
from backup.take_over import adopt_forgotten, restore_server
from mailstore.account import (
    NewAccount,
    account_paths,
    create_account,
    open_directory,
    read_server_key,
)
from mailstore.engine import Txn
from mailstore.model import AccessProtocol
from mailstore.staged_keys import accept_header


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A fresh server with a job."""
    made = JobWorld(tmp_path)
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


def test_a_change_is_stored_when_it_has_settled_and_nothing_else_is_asked(world: JobWorld) -> None:
    """One object for the account and one for the server; then not a single request."""
    world.append("one")
    world.pass_time(40)
    assert not world.stored() and len(list(world.store.list())) == 1
    world.pass_time(80)
    assert world.stored() == [Kind.FULL] and len(list(world.store.list())) == 3
    world.pass_time(200)
    requests = world.store.requests
    world.pass_time(3000, 100)
    assert world.store.requests == requests


def test_a_busy_account_does_not_wait_for_ever(world: JobWorld) -> None:
    """With a change every 20 seconds there is a snapshot within the longest wait."""
    for number in range(17):
        world.append(f"m{number}")
        world.pass_time(20)
    assert world.stored()


@pytest.mark.parametrize("jump_s", [-400 * DAY_S, 400 * DAY_S])
def test_a_clock_that_jumps_stops_nothing(world: JobWorld, jump_s: float) -> None:
    """Snapshots go on while it is wrong and when it is right again; nothing is deleted for it."""
    for number, jump in enumerate((0.0, jump_s, 0.0)):
        world.jump_s = jump
        world.append(f"m{number}")
        # Long enough for the hourly look at what is too old.
        world.pass_time(2 * 3600, 60)
        assert len(world.stored()) == number + 1
    stream = world.state.stream(world.mail.directory.accounts()[0].account_id)
    assert stream is not None
    taken = [one.name.taken_ms for one in world.state.segments(stream.stream)]
    # What a clock that is behind says is never taken for the truth.
    assert (taken == sorted(taken)) is (jump_s < 0)
    world.pass_time(3 * DAY_S, 3600)
    assert not world.state.waiting() and world.job.trouble is None


def test_while_the_store_is_away_snapshots_wait_and_are_stored_later(world: JobWorld) -> None:
    """Nothing is lost, also over a restart of the job."""
    world.store.away = True
    for number in range(3):
        world.append(f"m{number}")
        world.pass_time(100)
    assert world.job.trouble
    assert len(world.state.waiting()) >= 3
    world.job.stop()
    world.job = world.new_job()
    world.store.away = False
    world.pass_time(400)
    assert not world.state.waiting() and world.job.trouble is None
    assert len(world.stored()) == 3


def test_somebody_who_asks_does_not_wait_for_the_end_of_a_pause(world: JobWorld) -> None:
    """The old failure is forgotten and the store is asked at once; a new failure is told."""
    world.store.away = True
    world.append("one")
    world.pass_time(300)
    assert world.job.trouble
    requests = world.store.requests
    world.job.turn(everything=True)
    world.job._uploader.wait(10)
    assert world.store.requests > requests
    world.job.collect()
    assert world.job.trouble
    world.store.away = False
    world.job.turn(everything=True)
    assert world.state.setting(TROUBLE) == "" and world.job.run_once()
    assert world.stored() and world.job.trouble is None


def test_an_upload_whose_answer_was_lost_is_recognised(world: JobWorld) -> None:
    """The object is there already, and it is ours."""
    world.append("one")
    world.store.away = True
    world.pass_time(100)
    for segment in world.state.waiting():
        path = world.places.staging / str(segment.name).replace("/", "-")
        FileStore.put(world.store, str(segment.name), path, hashlib.sha256(path.read_bytes()).digest())
    world.store.away = False
    world.pass_time(200)
    assert not world.state.waiting() and world.job.trouble is None


def test_a_state_of_the_first_version_goes_on(world: JobWorld) -> None:
    """Nothing is signed there: the server's stream goes on with a full, signed segment."""
    world.append("one")
    world.pass_time(200)
    world.job.stop()
    world.state._database.write(0, _as_of_version_1)
    world.state.close()
    world.state = State(world.places.folder, read_server_key(world.root))
    assert [one.signed_from for one in world.state.streams()] == [None, None]
    world.job = world.new_job()
    world.append("two")
    world.pass_time(200)
    server = world.state.stream(SERVER)
    account = world.state.stream(world.mail.directory.accounts()[0].account_id)
    assert server is not None and account is not None
    kinds = {one.name.sequence: one.name.kind for one in world.state.segments(server.stream)}
    assert server.signed_from is not None and kinds[server.signed_from] is Kind.FULL
    assert account.signed_from == 2 and world.stored() == [Kind.FULL, Kind.CHANGES]
    assert world.read_server(world.places.scratch).server.heads[account.account].signed_from == 2


def _as_of_version_1(txn: Txn) -> None:
    txn.run("ALTER TABLE stream DROP COLUMN generation")
    txn.run("ALTER TABLE stream DROP COLUMN wal_checksum")
    txn.run("ALTER TABLE stream DROP COLUMN signed_from")
    txn.run("DROP TABLE spare")
    txn.run("PRAGMA user_version=1")


def test_a_second_server_under_the_same_prefix_is_noticed(world: JobWorld, tmp_path: Path) -> None:
    """Its objects are not ours; the trouble has a name and nothing is overwritten."""
    world.append("one")
    world.pass_time(200)
    before = sorted(one.name for one in world.store.list())
    other = JobWorld(tmp_path / "other")
    other.store, other.private_key = world.store, world.private_key
    other.job.stop()
    other.job = other.new_job()
    other.time.now_s += 7.3
    other.pass_time(200)
    assert other.job.trouble and "take-over" in other.job.trouble
    assert set(before) <= {one.name for one in world.store.list()}
    other.job.stop()
    other.state.close()
    other.mail.close()


def _lose_state(world: JobWorld) -> None:
    """The job goes on without what it knew."""
    world.job.stop()
    world.state.close()
    for path in world.places.folder.glob("state.db*"):
        path.unlink()
    world.state = State(world.places.folder, read_server_key(world.root))
    world.job = world.new_job()


def _unmount(world: JobWorld) -> Path:
    """An empty folder is where the store was; tells where the disk is now."""
    folder = world.root.with_name("objects")
    disk = folder.rename(folder.with_name("disk"))
    folder.mkdir()
    return disk


@pytest.mark.parametrize("restarted", [False, True])
def test_an_empty_folder_where_the_store_was_is_not_written_to(world: JobWorld, restarted: bool) -> None:
    """Unmounted disk or wrong setting: the trouble is told, and all goes on when the store is back."""
    world.append("one")
    world.pass_time(200)
    disk = _unmount(world)
    if restarted:
        world.job.stop()
        world.job = world.new_job()
    world.append("two")
    world.pass_time(400)
    assert not list(world.store.list()) and world.state.waiting()
    trouble = world.state.setting(TROUBLE)
    assert trouble and world.store.description in trouble and "mount its disk" in trouble
    assert not world.job.run_once() and not list(world.store.list())
    world.root.with_name("objects").rmdir()
    disk.rename(disk.with_name("objects"))
    world.pass_time(400)
    assert world.job.trouble is None and not world.state.waiting()
    assert world.stored() == [Kind.FULL, Kind.CHANGES]
    heads = world.read_server(world.places.scratch).server.heads
    assert heads[world.mail.directory.accounts()[0].account_id].sequence == 2


def test_a_wrong_store_is_told_to_somebody_who_asks_with_nothing_to_store(world: JobWorld) -> None:
    """`backup run` does not say that everything is stored where nothing is."""
    world.append("one")
    world.pass_time(200)
    _unmount(world)
    assert not world.job.run_once()
    trouble = world.state.setting(TROUBLE)
    assert trouble and "mount its disk" in trouble


def test_a_store_that_was_lost_is_filled_anew_without_the_state(world: JobWorld) -> None:
    """What the trouble's text says to do: everything is in the new place, from full segments on."""
    world.append("one")
    world.pass_time(200)
    _unmount(world)
    _lose_state(world)
    assert world.job.run_once() and world.job.trouble is None
    assert world.stored() == [Kind.FULL]
    assert world.read_server(world.places.scratch).server.heads


def test_nothing_counts_as_deleted_while_the_store_is_not_there(world: JobWorld) -> None:
    """What is past its time is deleted from the disk when it is back, and known until then."""
    world.append("one")
    world.pass_time(100)
    world.append("two")
    world.pass_time(LIMITS.full_after_days * DAY_S + 7200, 1800)
    assert world.stored() == [Kind.FULL, Kind.CHANGES, Kind.FULL]
    disk = _unmount(world)
    world.pass_time(LIMITS.retention_days * DAY_S, 3600)
    world.root.with_name("objects").rmdir()
    disk.rename(disk.with_name("objects"))
    assert len(world.stored()) == 3
    world.pass_time(2 * 3600, 1800)
    assert world.stored() == [Kind.FULL]


def test_a_lost_state_is_taken_over_and_nothing_is_left_for_ever(world: JobWorld) -> None:
    """Without its records the server asks before it goes on; then the old objects go in their time."""
    world.append("one")
    world.pass_time(200)
    before = {one.name for one in world.store.list()}
    _lose_state(world)
    world.pass_time(200)
    assert world.job.trouble and "take-over" in world.job.trouble
    world.job.stop()
    now_ms = int(world.time() * 1000)
    adopt_forgotten(world.state, list_store(world.store), world.private_key.public, now_ms)
    world.job = world.new_job()
    world.append("two")
    world.pass_time(400)
    assert world.job.trouble is None and world.stored()
    scratch = world.places.scratch
    server = world.read_server(scratch).server
    account = world.mail.directory.accounts()[0].account_id
    stream = world.state.stream(account)
    assert stream is not None and server.heads[account].stream == stream.stream
    assert before <= {one.name for one in world.store.list()}
    world.pass_time((LIMITS.retention_days + 1) * DAY_S, 3600)
    assert before.isdisjoint(one.name for one in world.store.list())
    assert world.stored()


def test_a_machine_that_was_put_back_is_noticed(world: JobWorld) -> None:
    """Its state is older than what it has stored since: it does not write a second history behind it."""
    world.append("one")
    world.pass_time(200)
    world.job.stop()
    world.state.close()
    kept = {path: path.read_bytes() for path in world.places.folder.glob("state.db*")}
    world.state = State(world.places.folder, read_server_key(world.root))
    world.job = world.new_job()
    world.append("two")
    world.pass_time(200)
    before = {one.name for one in world.store.list()}
    world.job.stop()
    world.state.close()
    for path, data in kept.items():
        path.write_bytes(data)
    world.state = State(world.places.folder, read_server_key(world.root))
    world.job = world.new_job()
    world.append("three")
    world.pass_time(400)
    assert world.job.trouble and "take-over" in world.job.trouble
    assert {one.name for one in world.store.list()} == before


def test_deleted_mail_is_gone_from_the_store_in_time(world: JobWorld) -> None:
    """A chain is replaced after its first change and deleted after the retention time; the new one stays."""
    world.append("one")
    world.pass_time(100)
    world.append("two")
    world.pass_time(100)
    assert world.stored() == [Kind.FULL, Kind.CHANGES]
    world.pass_time(LIMITS.full_after_days * DAY_S + 7200, 1800)
    assert world.stored() == [Kind.FULL, Kind.CHANGES, Kind.FULL]
    world.pass_time((LIMITS.retention_days - LIMITS.full_after_days) * DAY_S, 1800)
    assert world.stored() == [Kind.FULL]
    world.pass_time(LIMITS.retention_days * DAY_S, 3600)
    requests = world.store.requests
    world.pass_time(20 * DAY_S, 3600)
    assert world.stored() == [Kind.FULL]
    assert world.store.requests == requests


def test_a_store_that_keeps_everything_is_reported(world: JobWorld) -> None:
    """Deletion refused: nothing breaks, and the operator can be told."""
    world.store.keeps = True
    world.append("one")
    world.pass_time(100)
    world.append("two")
    world.pass_time(11 * DAY_S, 3600)
    assert refused_deletes(world.state) == "no"
    assert world.stored()[0] is Kind.FULL and len(world.stored()) == 3


def test_a_deleted_account_leaves_the_store_by_the_end_of_retention(world: JobWorld) -> None:
    """Its segments stay for a restore until then, and are gone afterwards."""
    directory = world.mail.directory
    record = create_account(
        world.root, directory, NewAccount("bob@example.org", b"another secret"), params=TINY
    )
    world.pass_time(200)
    stream = world.state.stream(record.account_id)
    assert stream is not None
    directory.remove_account(record.account_id)
    world.pass_time((LIMITS.retention_days - 1) * DAY_S, 3600)
    assert list(world.store.list(stream.stream))
    world.pass_time(2 * DAY_S, 3600)
    assert not list(world.store.list(stream.stream))
    assert world.state.stream(record.account_id) is None


@pytest.mark.parametrize("told", ["in a changes segment", "by the full one alone"])
def test_a_deleted_account_is_found_after_the_servers_next_full_segment(
    world: JobWorld, tmp_path: Path, told: str
) -> None:
    """That one describes the present, in which the account is not; what it was, the ones before know."""
    directory = world.mail.directory
    wanted = NewAccount("bob@example.org", b"another secret")
    record = create_account(world.root, directory, wanted, params=TINY)
    world.pass_time(200)
    directory.add_domain("example.net")
    world.pass_time(200)
    if told == "in a changes segment":
        directory.remove_account(record.account_id)
        world.pass_time(200)
    world.time.now_s += (LIMITS.full_after_days + 1) * DAY_S
    if told == "by the full one alone":
        directory.remove_account(record.account_id)
    directory.add_domain("example.com")
    world.pass_time(200)
    server = world.state.stream(SERVER)
    assert server is not None
    kinds = [one.name.kind for one in world.state.segments(server.stream)]
    assert kinds[0] is kinds[-1] is Kind.FULL and Kind.CHANGES in kinds
    found = world.read_server(tmp_path).server
    assert record.account_id not in found.accounts
    assert found.gone[record.account_id].public_key == record.public_key
    assert found.find(record.name) == found.gone[record.account_id]
    wanted_state = target(list_store(world.store), record.account_id, found.heads[record.account_id], None)
    folder, _ = Restorer(world.root, world.source(), tmp_path, 1).rebuild(wanted_state)
    kept = account_paths(world.root, record.account_id).keys.read_bytes()
    assert (folder / "keys").read_bytes() == kept


def test_an_account_that_came_back_stays_in_the_store(world: JobWorld) -> None:
    """Deleted by mistake and restored: its snapshots are not deleted with the account that is gone."""
    directory = world.mail.directory
    wanted = NewAccount("bob@example.org", b"another secret")
    record = create_account(world.root, directory, wanted, params=TINY)
    world.pass_time(200)
    directory.remove_account(record.account_id)
    world.pass_time(DAY_S, 3600)
    directory.add_account(record)
    world.pass_time(20 * DAY_S, 3600)
    stream = world.state.stream(record.account_id)
    assert stream is not None and stream.gone_ms is None
    assert list(world.store.list(stream.stream))


def test_a_server_is_made_anew_from_store_and_private_key(world: JobWorld, tmp_path: Path) -> None:
    """Directory, server key, mail and waiting mail come back; UIDVALIDITY is new, once."""
    world.append("one", "two")
    account = world.mail.login()
    before = now(account.select("INBOX", False)).opened
    account.release()
    world.mail.directory.add_alias("al@example.org", world.mail.directory.accounts()[0].account_id)
    world.mail.directory.set_default_domain("example.org")
    world.pass_time(200)
    world.mail.deliver(message("waiting"))
    world.pass_time(200)
    key = read_server_key(world.root)

    fresh = tmp_path / "fresh"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    listing = list_store(world.store)
    server = world.read_server(scratch).server
    restore_server(fresh, server)
    restore_server(fresh, server)
    directory = open_directory(fresh)
    restorer = Restorer(fresh, world.source(), scratch, 2)
    for account_id, head in server.heads.items():
        wanted = target(listing, server.accounts[account_id].account_id, head, None)
        folder, rebuilt = restorer.rebuild(wanted)
        assert restorer.install(wanted.account_id, folder, rebuilt, 7, 1.0) is None
        accept_header(fresh, directory, wanted.account_id)
    directory.close()
    assert read_server_key(fresh) == key
    assert server.configuration.startswith("hostname")

    again = World(fresh)
    assert [alias.address for alias in again.directory.aliases()] == ["al@example.org"]
    assert again.directory.default_domain() == "example.org"
    session = now(again.store.login(NAME, PASSWORD, AccessProtocol.IMAP))
    after = now(session.select("INBOX", False)).opened
    assert len(after.uids) == 3 and after.status.uid_validity > before.status.uid_validity
    session.release()
    again.close()
    once_more = World(fresh)
    session = now(once_more.store.login(NAME, PASSWORD, AccessProtocol.IMAP))
    assert now(session.select("INBOX", False)).opened.status.uid_validity == after.status.uid_validity
    session.release()
    once_more.close()


def test_the_server_stream_names_every_head(world: JobWorld, tmp_path: Path) -> None:
    """What it says is newest is what the state says is newest."""
    for number in range(3):
        world.append(f"m{number}")
        world.pass_time(200)
    server = world.read_server(tmp_path).server
    account = world.mail.directory.accounts()[0].account_id
    stream = world.state.stream(account)
    assert stream is not None
    newest = world.state.segments(stream.stream)[-1]
    assert server.heads[account].sequence == newest.name.sequence
    assert server.heads[account].sha256 == newest.sha256
    assert SERVER not in server.heads
