"""The private key of before a change of the keys: there as long as mail needs it, and for the owner alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rekey_world import MESSAGE, RekeyWorld, make_world, opened_by
from store_world import PASSWORD

from mailstore.backlog import sealed_everywhere
from mailstore.errors import SealedMessageDamaged
from mailstore.former_key import former_key_id, open_former_keys, seal_former_keys, waiting_messages
from mailstore.inbox_size import SUFFIX, waiting_bytes
from mailstore.keys import new_private_key
from mailstore.sealed import pending, read_sealed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RekeyWorld]:
    """See ``RekeyWorld``."""
    yield from make_world(tmp_path)


def test_the_old_private_key_goes_when_no_mail_needs_it_any_more(world: RekeyWorld) -> None:
    """It lies in the inbox, sealed to the new key; with the mail that waits for it, it is filed and gone."""
    world.deliver(MESSAGE % (5, 5))
    world.rekey()
    first, message = pending(world.paths.inbox)
    record = world.directory.accounts()[0]
    assert first == former_key_id(record.public_key) and first < message
    with pytest.raises(SealedMessageDamaged):
        open_former_keys(
            world.old_private_key, world.account_id, first, read_sealed(world.paths.inbox, first)
        )
    backlog = sealed_everywhere(world.root)
    assert (backlog.messages, backlog.accounts) == (1, 1) and (backlog.oldest_s or 0) > 1_000_000_000
    assert world.subjects() == ["0", "1", "2", "3", "5"]
    world.file_waiting()
    assert pending(world.paths.inbox) == [first] and waiting_messages(world.paths.inbox) == []
    world.age_former_keys()
    opened_by(world, PASSWORD)
    assert pending(world.paths.inbox) == [] and sealed_everywhere(world.root).oldest_s is None
    assert not list(world.paths.inbox.iterdir())


def test_a_clock_that_was_ahead_removes_no_key_too_soon(world: RekeyWorld) -> None:
    """It was written at a time that is yet to come: mail may still be under way that needs it."""
    world.rekey()
    [first] = pending(world.paths.inbox)
    ahead = time.time() + 3600
    os.utime(world.paths.inbox / (first + SUFFIX), (ahead, ahead))
    opened_by(world, PASSWORD)
    assert pending(world.paths.inbox) == [first]
    world.age_former_keys()
    opened_by(world, PASSWORD)
    assert pending(world.paths.inbox) == []


def test_mail_that_waits_over_two_changes_is_filed(world: RekeyWorld) -> None:
    """The second takes the private key of before the first along, and the first's copy is useless then."""
    assert waiting_bytes(world.paths.inbox) == 0  # from here on it is kept up to date
    world.deliver(MESSAGE % (5, 5))
    world.rekey()
    world.deliver(MESSAGE % (6, 6))
    world.rekey()
    world.deliver(MESSAGE % (7, 7))
    assert len(pending(world.paths.inbox)) == 4, "one file of former keys"
    sizes = [path.stat().st_size for path in world.paths.inbox.iterdir()]
    assert waiting_bytes(world.paths.inbox) == sum(sizes)
    assert world.subjects() == ["0", "1", "2", "3", "5", "6", "7"]
    world.age_former_keys()
    opened_by(world, PASSWORD)
    assert list(world.paths.inbox.iterdir()) == []


def test_sealed_keys_that_are_none_are_refused(world: RekeyWorld) -> None:
    """Empty, cut, or something else in their place."""
    with world.owned() as (owner, _):
        own, public = owner.private_key, owner.record.public_key
    sealed_id = former_key_id(public)
    for keys in ([], [b"x" * 95]):
        blob = seal_former_keys(public, world.account_id, keys)
        with pytest.raises(SealedMessageDamaged):
            open_former_keys(own, world.account_id, sealed_id, blob)
    with pytest.raises(SealedMessageDamaged):
        open_former_keys(own, world.account_id, sealed_id, b"no")
    raw = new_private_key()
    blob = seal_former_keys(public, world.account_id, [raw])
    assert open_former_keys(own, world.account_id, sealed_id, blob) == [raw]
