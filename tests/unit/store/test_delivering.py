"""A delivery while the account gets new keys: the message is there, once, and can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
from rekey_world import MESSAGE, RekeyWorld, make_world, opened_by
from store_world import NAME, PASSWORD

from mailstore import delivering, filing
from mailstore.delivering import deliver_sealed
from mailstore.directory import AccountRecord, Directory, Recipient
from mailstore.errors import Busy, DirectoryUnavailable, NoSuchAccount, StorageFull
from mailstore.former_key import waiting_messages
from mailstore.keys import AccountId
from mailstore.sealed import (
    Facts,
    damaged_messages,
    new_sealed_id,
    open_sealed,
    pending,
    read_sealed,
    seal,
)
from mailstore.sealed import deliver as put


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RekeyWorld]:
    """See ``RekeyWorld``."""
    yield from make_world(tmp_path)


def rekeyed(world: RekeyWorld) -> None:
    """A change of the keys so long ago that the old private key is gone as well."""
    world.rekey()
    world.file_waiting()
    world.age_former_keys()
    opened_by(world, PASSWORD)
    assert pending(world.paths.inbox) == []


def deliver(
    world: RekeyWorld,
    sealed: Callable[[], object],
    written: Callable[[], object],
    directory: Directory | None = None,
) -> None:
    """Deliver, and do something when the message is sealed, and again when it is in the inbox."""
    now: list[tuple[Callable[[], object], Callable[[], object]]] = [(sealed, written)]

    @contextmanager
    def room(_new_bytes: int) -> Iterator[None]:
        before, after = now.pop() if now else (nothing, nothing)
        before()
        yield
        after()

    recipient = world.directory.resolve(NAME)
    assert recipient is not None
    facts = Facts(1_700_000_000)
    asked = directory or world.directory
    deliver_sealed(world.root, asked, recipient, MESSAGE % (9, 9), facts, room)


def nothing() -> None:
    """Where nothing happens."""


def test_what_was_sealed_to_the_old_key_is_sealed_again(world: RekeyWorld) -> None:
    """The old private key was gone before the message was in the inbox."""
    deliver(world, lambda: rekeyed(world), nothing)
    assert len(pending(world.paths.inbox)) == 1
    assert world.subjects() == ["0", "1", "2", "3", "9"]
    assert damaged_messages(world.paths.inbox) == []


def test_what_was_filed_by_the_old_key_is_not_there_twice(world: RekeyWorld) -> None:
    """It was in the inbox in time, and its delivery cannot know that."""
    deliver(world, nothing, lambda: rekeyed(world))
    assert world.subjects() == ["0", "1", "2", "3", "9"]
    assert pending(world.paths.inbox) == [] == damaged_messages(world.paths.inbox)


def test_a_message_that_was_called_damaged_and_sealed_again_is_there_once(world: RekeyWorld) -> None:
    """The filer meets it before its delivery knows of the new keys: nobody has to look at anything."""
    deliver(world, lambda: rekeyed(world), world.file_waiting)
    assert damaged_messages(world.paths.inbox) == []
    assert world.subjects() == ["0", "1", "2", "3", "9"]


def test_a_message_that_was_sealed_again_is_not_called_damaged(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filer has read what was sealed to the old key, and another file is under that id meanwhile."""
    done: list[Future[None]] = []
    has_read, is_delivered = Event(), Event()
    mark = filing.mark_damaged

    def late(*arguments: Any) -> Path | None:
        has_read.set()
        assert is_delivered.wait(30)
        return mark(*arguments)

    def written() -> None:
        done.append(pool.submit(world.file_waiting))
        assert has_read.wait(30)

    monkeypatch.setattr(filing, "mark_damaged", late)
    with ThreadPoolExecutor(1) as pool:
        deliver(world, lambda: rekeyed(world), written)
        is_delivered.set()
        done[0].result(30)
    assert damaged_messages(world.paths.inbox) == []
    assert world.subjects() == ["0", "1", "2", "3", "9"]


def test_a_key_that_was_known_at_rcpt_is_asked_for_again(world: RekeyWorld) -> None:
    """Minutes may pass until the message is complete."""
    recipient = world.directory.resolve(b"alice@example.org")
    assert recipient is not None
    rekeyed(world)
    world.store._deliver(recipient, MESSAGE % (9, 9), Facts(1_700_000_000))
    assert world.subjects() == ["0", "1", "2", "3", "9"]


@pytest.mark.parametrize("error", [StorageFull, Busy, NoSuchAccount])
def test_what_cannot_be_sealed_again_is_not_taken(
    world: RekeyWorld, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The sender keeps it, and nothing stays that nobody could open."""
    real, calls = delivering._public_key, []

    def fails_afterwards(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise error
        return real(*arguments)

    monkeypatch.setattr(delivering, "_public_key", fails_afterwards)
    with pytest.raises(error):
        deliver(world, nothing, nothing)
    assert pending(world.paths.inbox) == []


def test_an_account_that_is_gone_takes_nothing(world: RekeyWorld) -> None:
    """It was deleted after RCPT."""
    recipient = world.directory.resolve(NAME)
    assert recipient is not None
    world.directory.remove_account(recipient.account_id)
    with pytest.raises(NoSuchAccount):
        deliver_sealed(
            world.root, world.directory, recipient, b"x", Facts(0), lambda _: pytest.fail("written")
        )


class AwayFrom:
    """The directory of a process that cannot reach it: it answers from memory, if at all."""

    def __init__(self, world: RekeyWorld, *, remembers: bool) -> None:
        self._known = world.directory.resolve(NAME) if remembers else None

    def resolve(self, _address: str) -> Recipient:
        """What it was when it was last there."""
        if self._known is None:
            raise DirectoryUnavailable
        return self._known

    def settled_account(self, _account_id: AccountId) -> AccountRecord:
        """Only the directory itself can tell."""
        raise DirectoryUnavailable


@pytest.mark.parametrize("remembers", [True, False])
def test_a_directory_that_is_away_delays_no_mail(world: RekeyWorld, remembers: bool) -> None:
    """The recipient is known since RCPT, and the account's keys are those that were known then."""
    away = cast(Directory, AwayFrom(world, remembers=remembers))
    deliver(world, nothing, nothing, away)
    assert world.subjects() == ["0", "1", "2", "3", "9"]


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("written", [True, False])
def test_nothing_is_sealed_to_a_key_that_was_replaced(
    world: RekeyWorld, remembers: bool, written: bool
) -> None:
    """Its process did not hear of the change, since the directory is away for it alone."""
    away = cast(Directory, AwayFrom(world, remembers=remembers))
    steps = (nothing, world.rekey) if written else (world.rekey, nothing)
    with pytest.raises(DirectoryUnavailable):
        deliver(world, *steps, away)
    assert waiting_messages(world.paths.inbox) == []


def test_mail_waits_while_the_change_may_count_or_not(world: RekeyWorld) -> None:
    """New keys lie beside the old ones, and a process that the directory is away from cannot know."""
    away = cast(Directory, AwayFrom(world, remembers=True))
    header = world.paths.keys.read_bytes()
    with pytest.raises(DirectoryUnavailable):
        deliver(world, nothing, lambda: (world.paths.folder / "keys-new").write_bytes(header), away)
    assert pending(world.paths.inbox) == []


def test_a_header_is_not_believed_where_the_directory_says_otherwise(world: RekeyWorld) -> None:
    """Whoever can write that file must not get mail sealed to a key of his."""
    record = world.directory.accounts()[0]
    world.paths.keys.write_bytes(b"{}")
    deliver(world, nothing, nothing)
    [sealed_id] = pending(world.paths.inbox)
    blob = read_sealed(world.paths.inbox, sealed_id)
    assert open_sealed(world.old_private_key, record.account_id, sealed_id, blob)


def test_mail_of_a_process_that_did_not_hear_of_the_change_is_filed(world: RekeyWorld) -> None:
    """For it the directory was away all the time: the old private key is still there for a day."""
    recipient = world.directory.resolve(NAME)
    assert recipient is not None
    world.rekey()
    world.file_waiting()
    sealed_id = new_sealed_id()
    blob = seal(recipient.public_key, recipient.account_id, sealed_id, MESSAGE % (9, 9), Facts(1))
    put(world.paths.inbox, sealed_id, blob)
    assert world.subjects() == ["0", "1", "2", "3", "9"]
    assert damaged_messages(world.paths.inbox) == []
