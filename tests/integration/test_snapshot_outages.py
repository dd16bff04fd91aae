"""The job and a bucket that is away for hours, or takes objects and does not say so: no change is lost.

``SEALBOX_OUTAGE_ROUNDS`` (30) changes of four minutes each make it longer.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapshot_world import SnapshotWorld, in_inbox, message
from stores_world import fresh_prefix, proxy_before, s3_store

from backup.catalogue import stream_of_server
from backup.job import HOUSEKEEPING_S
from backup.limits import BackupLimits
from backup.restore import list_store
from backup.verify import Verifier, expected_by_server, expected_by_state
from mailstore.model import Flags, StoreMode, SystemFlag
from mailstore.uidset import UidSet
from tests.fault_proxy import FaultProxy
from tests.r2_server import R2Server
from tests.unit.store.store_world import now

pytestmark = pytest.mark.integration

LIMITS = BackupLimits(staging_max_bytes=400_000, retry_first_s=10, retry_max_s=300)
MESSAGES = 40
ROUNDS = int(os.environ.get("SEALBOX_OUTAGE_ROUNDS", "30"))
MERGED_BYTES = 200_000
"""More than all pages together that change while the store is away."""

EVERYTHING = UidSet(((1, MESSAGES),))


@pytest.fixture
def proxy(r2: R2Server) -> Iterator[FaultProxy]:
    """A proxy that is well at first."""
    with proxy_before(r2.endpoint) as made:
        yield made


@pytest.fixture
def world(proxy: FaultProxy, tmp_path: Path) -> Iterator[SnapshotWorld]:
    """A server with some mail, all of it stored."""
    store = s3_store(proxy.endpoint, fresh_prefix(), attempts=1)
    made = SnapshotWorld(tmp_path, store, LIMITS)
    rng = random.Random(5)
    made.append(*(message(f"m{number}", rng.randbytes(5_000).hex().encode()) for number in range(MESSAGES)))
    made.pass_time(200)
    assert not made.state.waiting() and made.job.trouble is None
    yield made
    made.close()


def flag(world: SnapshotWorld, number: int) -> None:
    """Change all messages' flags: the same few pages each time."""
    account = world.mail.login()
    mailbox = now(account.select("INBOX", False))
    mode = StoreMode.REMOVE if number % 2 else StoreMode.ADD
    since = mailbox.opened.status.highest_modseq
    now(mailbox.store_flags(EVERYTHING, mode, Flags(SystemFlag.FLAGGED), None, since))
    account.release()


def away(world: SnapshotWorld) -> tuple[int, int]:
    """Hours of changes; the largest staging folder in bytes, and what all would weigh if it were piled up."""
    largest = weight = 0
    for number in range(ROUNDS):
        flag(world, number)
        world.append(message(f"new {number}", b"text\r\n" * 20))
        world.pass_time(240, 120)
        largest = max(largest, world.staged_bytes())
        weight = weight or sum(one.size_bytes for one in world.state.waiting())
    return largest, weight * ROUNDS


def assert_restores(world: SnapshotWorld, count: int = MESSAGES + ROUNDS) -> None:
    """What the bucket holds is the account as it is now, and is found in order from both sides."""
    again = world.restored("again")
    assert in_inbox(again) == in_inbox(world.mail)
    assert len(in_inbox(again)) == count
    again.close()
    listing = list_store(world.store)
    scratch = world.place / "scratch"
    scratch.mkdir()
    server = world.read_server(scratch)
    whole = Verifier(world.store, listing, lambda _name: world.private_key, scratch, deep=True)
    assert whole.verify(expected_by_server(server, stream_of_server(world.private_key.public))).findings == []
    own = Verifier(world.store, listing, lambda _name: None, scratch, deep=False)
    assert {one.why for one in own.verify(expected_by_state(world.state)).findings} <= {
        "it is left over: 'sealbox backup prune' removes it"
    }


def test_hours_without_a_store_cost_bounded_room(world: SnapshotWorld, proxy: FaultProxy) -> None:
    """Snapshots that wait are merged, not piled up; when the store is back the newest state is in it."""
    proxy.mood = "503"
    largest, piled_up = away(world)
    assert world.job.trouble and "503" in world.job.trouble
    assert largest < LIMITS.staging_max_bytes + MERGED_BYTES < piled_up / 2
    # Asked again with growing pauses, not at every change.
    assert len([one for one in proxy.requests if one[0] == "PUT"]) < 2 * ROUNDS + 20
    proxy.mood = "well"
    world.pass_time(700)
    assert not world.state.waiting() and world.job.trouble is None
    assert world.staged_bytes() == 0
    assert_restores(world)


def test_a_store_that_takes_objects_without_a_word(world: SnapshotWorld, proxy: FaultProxy) -> None:
    """Every answer is lost for hours: objects of merged snapshots lie about; none is restored, all go."""
    proxy.mood = "deaf"
    away(world)
    assert world.job.trouble
    proxy.mood = "well"
    world.pass_time(700)
    assert not world.state.waiting() and world.job.trouble is None
    assert_restores(world)
    world.pass_time(HOUSEKEEPING_S, 600)
    own = Verifier(world.store, list_store(world.store), lambda _name: None, world.place, deep=False)
    assert own.verify(expected_by_state(world.state)).findings == []
    assert world.state.left_over() == []


def test_what_merging_left_over_is_no_harm(world: SnapshotWorld, proxy: FaultProxy) -> None:
    """An object that arrived unnoticed has the newest segment's number: nobody takes it for that."""
    flag(world, 0)
    proxy.mood = "deaf"
    world.pass_time(100)
    (lost,) = world.state.waiting()
    flag(world, 1)
    merged = world.job._snapshotter.take(world.mail.directory.accounts()[0].account_id, merge=True)
    assert merged is not None and merged.name.sequence == lost.name.sequence
    proxy.mood = "well"
    world.pass_time(700)
    assert {str(lost.name), str(merged.name)} <= {one.name for one in world.store.list()}
    assert_restores(world, MESSAGES)


def test_the_job_recognises_its_own_object(r2: R2Server, tmp_path: Path) -> None:
    """The put arrived, its answer did not, the driver's second attempt is refused: no trouble at all."""
    with proxy_before(r2.endpoint) as proxy:
        world = SnapshotWorld(tmp_path, s3_store(proxy.endpoint, fresh_prefix()))
        world.append(message("one", b"text"))
        proxy.mood, proxy.only, proxy.fail_next = "deaf", "PUT", 1
        world.pass_time(200)
        assert proxy.fail_next == 0
        assert not world.state.waiting() and world.job.trouble is None
        again = world.restored("again")
        assert in_inbox(again) == in_inbox(world.mail)
        again.close()
        world.close()
