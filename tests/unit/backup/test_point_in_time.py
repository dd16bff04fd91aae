"""A state restored to a time is the state of that time, to within the interval of snapshots."""

from __future__ import annotations

import bisect
import random
from pathlib import Path

from backup_world import NewMessage, message, now
from job_world import LIMITS, JobWorld
from store_world import NAME, PASSWORD, TINY

from backup.rebuild import Rebuilder
from backup.restore import list_store, target
from mailstore.account_database import mail_key
from mailstore.engine import DatabaseKey, open_connection
from mailstore.model import Flags, ModSeq, StoreMode, SystemFlag, Uid
from mailstore.opening import open_as_owner
from mailstore.uidset import UidSet

TIMES = 50
STEP_S = 15.0
CHANGES = 60

History = list[tuple[float, list[bytes]]]
"""What was there from which time on."""


def key_of(world: JobWorld) -> DatabaseKey:
    """The database key, by the user's password."""
    owner = open_as_owner(world.root, world.mail.directory, NAME.decode(), PASSWORD, now=0, params=TINY)
    return mail_key(owner.master)


def subjects(path: Path, key: DatabaseKey) -> list[bytes]:
    """Subjects of all messages of a rebuilt database, which has to be sound."""
    database = open_connection(path, key)
    try:
        assert database.pragma("PRAGMA cipher_integrity_check") == []
        query = "SELECT m.envelope FROM placed p JOIN message_meta m USING(message_id)"
        return sorted(bytes(row[0]).split(b'"')[3] for row in database.read(0, lambda txn: txn.rows(query)))
    finally:
        database.close()


def change(world: JobWorld, chance: random.Random, number: int, model: dict[Uid, bytes]) -> None:
    """Add a message, or expunge one; sometimes the account is closed afterwards."""
    account = world.mail.login()
    if model and chance.random() < 0.4:
        uid = chance.choice(sorted(model))
        mailbox = now(account.select("INBOX", False))
        uids = UidSet.of([uid])
        now(mailbox.store_flags(uids, StoreMode.ADD, Flags(SystemFlag.DELETED), None, ModSeq(0)))
        now(mailbox.expunge(uids, ModSeq(0)))
        mailbox.close()
        del model[uid]
    else:
        new = NewMessage(message(f"s{number}", chance.choice((100, 20_000))))
        (uid,) = now(account.append("INBOX", [new])).uids
        model[uid] = b"s%d" % number
    account.release()
    if chance.random() < 0.3:
        world.mail.clock.advance(40)


def lived(world: JobWorld, chance: random.Random) -> History:
    """A while with changes in bursts and rests, and the job turning all the time."""
    model: dict[Uid, bytes] = {}
    history: History = [(0.0, [])]
    for number in range(CHANGES):
        change(world, chance, number, model)
        history.append((world.time.now_s, sorted(model.values())))
        world.pass_time(chance.choice((STEP_S, STEP_S, 2 * STEP_S, 600.0)), STEP_S)
    world.pass_time(600.0, STEP_S)
    return history


def test_any_time_can_be_restored_to_within_the_interval(tmp_path: Path) -> None:
    """For 50 random times: exactly what was there when the snapshot was taken, and it is not too old."""
    chance = random.Random(4)
    world = JobWorld(tmp_path)
    begun_s = world.time.now_s
    history = lived(world, chance)
    starts = [start for start, _ in history]
    key = key_of(world)
    listing = list_store(world.store)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    server = world.read_server(scratch).server
    account = world.mail.directory.accounts()[0].account_id
    rebuilder = Rebuilder(world.source(), scratch, 2)
    first_s = min(name.taken_ms for name in listing.streams[server.heads[account].stream]) / 1000
    assert first_s - begun_s <= LIMITS.longest_wait_s + 2 * STEP_S
    seen = set()
    for number in range(TIMES):
        wanted_s = chance.uniform(first_s, world.time.now_s)
        chain = target(listing, account, server.heads[account], int(wanted_s * 1000)).chain
        taken_s = chain[-1].taken_ms / 1000
        assert taken_s <= wanted_s
        then, asked = (bisect.bisect_right(starts, at) - 1 for at in (taken_s, wanted_s))
        if asked != then:
            # Changes since the snapshot: the oldest of them has not waited longer than it may.
            assert wanted_s - starts[then + 1] <= LIMITS.longest_wait_s + 2 * STEP_S
        folder = tmp_path / f"restored{number}"
        rebuilder.rebuild(chain, folder)
        assert subjects(folder / "mail.db", key) == history[then][1]
        seen.add(chain[-1])
    assert len(seen) > 10
    world.job.stop()
    world.state.close()
    world.mail.close()
