"""An account is open on the node that the directory says, and on no other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_world import NAME, PASSWORD, TINY, World, now

from mailstore import this_node
from mailstore.directory import MoveId, Node, call_node
from mailstore.errors import AccountMoving, AuthenticationFailed, OnAnotherNode, StorageFailed
from mailstore.keyring import Keyring
from mailstore.limits import StoreLimits
from mailstore.model import AccessProtocol, NewMessage, ScramExchange
from mailstore.move_mark import put_mark, remove_mark
from mailstore.opened_account import Wanted, opened_account
from mailstore.opening import open_as_owner
from mailstore.sealed import Facts, pending
from mailstore.store import MailStore

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The account of node a, which is this one."""
    monkeypatch.setattr(this_node, "_tell_from_s", {})
    world = World(tmp_path)
    for name in "ab":
        world.directory.put_node(Node(name, "192.0.2.1:24"))
    call_node(tmp_path, "a")
    give(world, "a", 1)
    yield world
    world.close()
    call_node(tmp_path, None)


def give(world: World, node: str, generation: int) -> None:
    """Give the account to a node, in the directory."""
    world.directory.set_node(world.directory.accounts()[0].account_id, node, generation)


def look_again(world: World) -> None:
    """The directory tells of a change."""
    world.store.watcher.callbacks[world.root](frozenset({"directory.db"}))  # type: ignore[attr-defined]


def by_transfer(world: World) -> None:
    """As a command that moves mail."""
    with opened_account(Wanted(world.root, NAME.decode(), PASSWORD, TINY), writes=False):
        pytest.fail("it was opened")


def by_keyring(world: World) -> None:
    """As a command that was at work on the keyslots when the account went."""
    record = world.directory.accounts()[0]
    Keyring(world.root, world.directory, record.account_id, bytearray(32), TINY).slots()


WAYS = {
    "IMAP": lambda world: now(world.store.login(NAME, PASSWORD, AccessProtocol.IMAP)),
    "POP3": lambda world: now(world.store.login(NAME, PASSWORD, AccessProtocol.POP3)),
    "a wrong password": lambda world: now(world.store.login(NAME, b"wrong", AccessProtocol.IMAP)),
    "SASL": lambda world: now(world.store.prove(NAME, PASSWORD, AccessProtocol.SMTP)),
    "SCRAM begins": lambda world: now(world.store.scram_setup(NAME)),
    "SCRAM ends": lambda world: now(
        world.store.login_scram(NAME, ScramExchange(b"n=x,r=y", b"z"), AccessProtocol.IMAP)
    ),
    "administration": lambda world: open_as_owner(
        world.root, world.directory, NAME.decode(), PASSWORD, now=0.0, params=TINY
    ),
    "a transfer": by_transfer,
    "keyslots": by_keyring,
    "waking": lambda world: world.store.require_here(world.directory.accounts()[0].account_id),
}
"""Every way into an account."""


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("why", ["another node's", "a stale directory"])
def test_no_way_leads_into_an_account_of_another_node(world, caplog, way, why) -> None:
    """Nothing is opened, nothing changes in the folder, and the log names it by its id."""
    world.login().release()
    if why == "another node's":
        give(world, "b", 7)
    else:
        world.paths.node.write_bytes(b"2\n")
    before = {path.name: path.stat().st_mtime_ns for path in world.paths.folder.iterdir()}
    with caplog.at_level(logging.WARNING, "sealbox.nodes"), pytest.raises(OnAnotherNode):
        way(world)
    assert {path.name: path.stat().st_mtime_ns for path in world.paths.folder.iterdir()} == before
    node, generation = ("b", 7) if why == "another node's" else ("a", 1)
    line = (
        f"account {world.paths.folder.name} is not opened here, node a: the directory says node {node},"
        f" generation {generation}"
    )
    # Who only asks is in order anywhere.
    in_order = way is WAYS["SASL"] and why == "another node's"
    assert [one.getMessage() for one in caplog.records] == ([] if in_order else [line])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_leads_into_an_account_that_is_about_to_go(world: World, way) -> None:
    """Until the mark is gone."""
    world.login().release()
    put_mark(world.paths.moving, MoveId("m"))
    with pytest.raises(AccountMoving):
        way(world)
    remove_mark(world.paths.moving)
    world.login().release()


def test_the_folder_remembers_the_generation_it_was_opened_under(world: World) -> None:
    """Not before a secret was right; a single server has no such file."""
    with pytest.raises(AuthenticationFailed):
        now(world.store.login(NAME, b"wrong", AccessProtocol.IMAP))
    assert not world.paths.node.exists()
    world.login().release()
    assert world.paths.node.read_bytes() == b"1\n"
    give(world, "b", 2)
    give(world, "a", 30)
    world.login().release()
    assert world.paths.node.read_bytes() == b"30\n"


def test_a_server_without_a_name_goes_on_as_before(tmp_path: Path) -> None:
    """And has no file more."""
    world = World(tmp_path)
    world.login().release()
    assert not world.paths.node.exists()
    world.close()


@pytest.mark.parametrize("garbage", [b"", b"x\n", b"-1\n", b"1", b"9" * 40 + b"\n"])
def test_a_fence_that_cannot_be_read_keeps_everybody_out(world: World, garbage: bytes) -> None:
    """Nobody knows what it said."""
    world.paths.node.write_bytes(garbage)
    with pytest.raises(StorageFailed):
        world.login()


def test_an_account_of_no_node_is_served_where_its_folder_is(tmp_path: Path) -> None:
    """A server that has got a name serves on; another that shares its directory has nothing to open."""
    world = World(tmp_path)
    call_node(tmp_path, "a")
    world.login().release()
    world.paths.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(OnAnotherNode):
        world.login()
    recipient = now(world.store.recipient(NAME, 1))
    assert recipient is not None and recipient.elsewhere
    world.close()
    call_node(tmp_path, None)


def test_strangers_do_not_learn_which_names_of_other_nodes_there_are(world: World) -> None:
    """Some names that nobody has are answered as if they were on another node, always the same ones."""
    answers = {}
    for name in [b"nobody%d@example.org" % number for number in range(40)]:
        seeming = world.directory.seeming_node(name)
        error = OnAnotherNode if seeming == "b" else AuthenticationFailed
        for ask in (world.store.login, world.store.prove):
            with pytest.raises(error) as caught:
                now(ask(name, PASSWORD, AccessProtocol.SMTP))
            assert type(caught.value) is error
            if isinstance(caught.value, OnAnotherNode):
                assert (caught.value.node, caught.value.account) == ("b", None)
        answers[seeming] = True
    assert set(answers) == {"a", "b"}


@pytest.mark.parametrize("name", [b"x" * 400, b"a b@example.org", b"\xff", b"@", b"joe@"])
def test_a_name_that_nobody_can_have_is_refused_here(
    world: World, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wrong one, which is counted; no other node is asked about it."""
    monkeypatch.setattr("mailstore.directory.embedded.seeming_node", lambda *_: "b")
    for ask in (world.store.login, world.store.prove):
        with pytest.raises(OnAnotherNode):
            now(ask(b"nobody@example.org", PASSWORD, AccessProtocol.SMTP))
        with pytest.raises(AuthenticationFailed):
            now(ask(name, PASSWORD, AccessProtocol.SMTP))


@pytest.mark.parametrize("secret", [PASSWORD, b"wrong", b""])
def test_who_asks_whether_a_secret_is_right_hears_which_node_knows(world: World, secret: bytes) -> None:
    """And whose account it is, whatever the secret; not where this node is meant. No text has any of it."""
    give(world, "b", 2)
    with pytest.raises(OnAnotherNode) as caught:
        now(world.store.prove(NAME, secret, AccessProtocol.SMTP))
    assert (caught.value.node, caught.value.account) == ("b", NAME.decode())
    assert repr(caught.value) == "OnAnotherNode()"
    give(world, "a", 3)
    world.paths.node.write_bytes(b"4\n")
    with pytest.raises(OnAnotherNode) as caught:
        now(world.store.prove(NAME, secret, AccessProtocol.SMTP))
    assert caught.value.node is None


def test_sessions_end_when_their_account_goes_to_another_node(world: World) -> None:
    """All of them, and the account is closed at once."""
    ended: list[str] = []
    for name in "xy":
        world.login().on_closed(lambda name=name: ended.append(name))
    look_again(world)
    assert ended == []
    give(world, "b", 2)
    look_again(world)
    assert (sorted(ended), world.store.open_accounts) == (["x", "y"], 0)


def test_a_sleeping_account_does_not_wake_on_a_node_that_has_it_no_more(world: World) -> None:
    """Also where nobody has told of the change."""
    account = world.login()
    for _ in range(4):
        world.clock.advance(StoreLimits().hibernate_after_s / 2)
    assert world.store.awake_accounts == 0
    give(world, "b", 2)
    with pytest.raises(OnAnotherNode):
        now(account.append("INBOX", [NewMessage(MESSAGE)]))
    assert world.store.awake_accounts == 0


def test_mail_is_not_taken_for_an_account_of_another_node(world, monkeypatch) -> None:
    """Neither at RCPT nor when it was given away since, not even while the message is being written."""
    recipient = now(world.store.recipient(NAME, 1))
    assert not recipient.elsewhere
    room = MailStore.room_for

    def moved_meanwhile(*args):
        give(world, "b", 2)
        monkeypatch.setattr(MailStore, "room_for", room)
        return room(*args)

    monkeypatch.setattr(MailStore, "room_for", moved_meanwhile)
    for _ in range(2):
        with pytest.raises(OnAnotherNode):
            now(world.store.deliver(recipient, MESSAGE, Facts(1)))
    assert pending(world.paths.inbox) == []
    found = now(world.store.recipient(NAME, 10**12))
    assert (found.node, found.elsewhere) == ("b", True)
