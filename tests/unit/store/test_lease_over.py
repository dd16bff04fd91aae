"""What a node does when its lease is over: nothing with any account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_world import NAME, PASSWORD, World, now
from test_nodes import MESSAGE, WAYS
from twisted.internet.defer import Deferred, fail

from mailstore import lease as leases
from mailstore import lease_watch
from mailstore.errors import AccountClosed, DirectoryUnavailable, LeaseOver
from mailstore.lease import Lease
from mailstore.lease_watch import LOOK_S
from mailstore.model import AccessProtocol, NewMessage
from mailstore.sealed import Facts, pending
from mailstore.store import MailStore


class Leased:
    """A world whose server needs a lease of 100 s."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        self.lease = Lease(
            "a", 100.0, self._renew, 10.0, None, lambda: self.world.clock.seconds(), margin_s=10.0
        )
        monkeypatch.setattr(Lease, "start", lambda _self: None)
        self.lease._tried.set()
        self.world = World(root)
        self.lease.renew()
        for module in (leases, lease_watch):
            monkeypatch.setattr(module, "lease_of", lambda _root: self.lease)
        self.world.store.lease = lease_watch.LeaseWatch(self.world.clock, root, self.world.store._close_all)

    def _renew(self) -> None:
        if self.is_away:
            raise DirectoryUnavailable

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.world.clock.advance(seconds)


@pytest.fixture
def leased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leased]:
    """With a lease that has just been renewed."""
    found = Leased(tmp_path, monkeypatch)
    yield found
    found.world.close()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_leads_into_an_account_while_there_is_no_lease(leased: Leased, way) -> None:
    """Nobody learns either which accounts there are."""
    leased.pass_s(91)
    with pytest.raises(LeaseOver):
        way(leased.world)
    with pytest.raises(LeaseOver):
        now(leased.world.store.login(b"nobody@example.org", PASSWORD, AccessProtocol.IMAP))


def test_sessions_go_on_for_as_long_as_the_lease_and_end_then(leased: Leased) -> None:
    """However often it was renewed before; afterwards a login is one as ever."""
    ended: list[str] = []
    account = leased.world.login()
    account.on_closed(lambda: ended.append("x"))
    leased.pass_s(60)
    leased.lease.renew()
    leased.pass_s(60)
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    leased.is_away = True
    leased.lease.renew()
    leased.pass_s(29)
    assert (ended, leased.world.store.open_accounts) == ([], 1)
    leased.pass_s(LOOK_S)
    leased.pass_s(LOOK_S)
    assert (ended, leased.world.store.open_accounts) == (["x"], 0)
    leased.is_away = False
    leased.lease.renew()
    leased.world.login().release()


def test_what_cannot_be_closed_is_told_and_closed_again(leased: Leased, caplog) -> None:
    """The log has one line, and not the error's text."""
    tries: list[str] = []

    def close() -> Deferred[None]:
        tries.append("x")
        return fail(ValueError("joe@example.org"))

    leased.world.store.lease._close = close
    leased.pass_s(91)
    leased.pass_s(LOOK_S)
    assert len(tries) == 2
    assert "closing accounts at the end of the lease failed: ValueError" in caplog.text
    assert "joe" not in caplog.text


def test_a_process_that_was_stopped_does_nothing_more_in_an_account(leased: Leased) -> None:
    """Its sessions have not been ended yet when their commands come."""
    account = leased.world.login()
    leased.world.clock.rightNow += 91
    with pytest.raises(AccountClosed):
        now(account.append("INBOX", [NewMessage(MESSAGE)]))


@pytest.mark.parametrize("way", ["write", "write_on_the_way"])
def test_a_process_that_was_stopped_inside_a_command_does_not_say_that_it_is_done(
    leased: Leased, way: str
) -> None:
    """What it has written may be written nowhere else, for another node may have the account."""
    leased.world.login()
    [opened] = leased.world.store._open.values()

    def stopped(_txn: object) -> None:
        leased.world.clock.rightNow += 91

    with pytest.raises(AccountClosed):
        now(getattr(opened, way)(stopped))


def test_a_process_that_was_stopped_after_a_delivery_does_not_say_that_it_is_done(
    leased: Leased, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was written in time, and yet another node may have the account: the sender has to try there."""
    world = leased.world
    recipient = now(world.store.recipient(NAME, 1))
    deliver = MailStore._deliver

    def stopped(*args):
        deliver(*args)
        world.clock.rightNow += 91

    monkeypatch.setattr(MailStore, "_deliver", stopped)
    with pytest.raises(LeaseOver):
        now(world.store.deliver(recipient, MESSAGE, Facts(1)))


def test_mail_is_not_taken_without_a_lease(leased: Leased, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at RCPT nor when the lease ends while the message is being written."""
    world = leased.world
    recipient = now(world.store.recipient(NAME, 1))
    room = MailStore.room_for

    def meanwhile(*args):
        leased.pass_s(91)
        monkeypatch.setattr(MailStore, "room_for", room)
        return room(*args)

    monkeypatch.setattr(MailStore, "room_for", meanwhile)
    for _ in range(2):
        with pytest.raises(LeaseOver):
            now(world.store.deliver(recipient, MESSAGE, Facts(1)))
    with pytest.raises(LeaseOver):
        now(world.store.recipient(NAME, 1))
    assert pending(world.paths.inbox) == []


def test_mail_for_a_known_account_is_taken_for_as_long_as_the_lease(leased: Leased, monkeypatch) -> None:
    """While the directory is away; and not a moment longer."""
    world = leased.world
    recipient = now(world.store.recipient(NAME, 1))

    def away(_self, _address):
        raise DirectoryUnavailable

    monkeypatch.setattr(type(world.directory), "resolve", away)
    now(world.store.deliver(recipient, MESSAGE, Facts(1)))
    leased.pass_s(91)
    with pytest.raises(LeaseOver):
        now(world.store.deliver(recipient, MESSAGE, Facts(1)))
    assert len(pending(world.paths.inbox)) == 1
