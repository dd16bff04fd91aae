"""From LMTP to POP3 over the real store: SQLCipher files, sealed inbox and all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pop3_world import GREETING
from twisted.internet.defer import Deferred

from mailstore import store
from mailstore.engine import Txn
from mailstore.errors import StorageFull
from mailstore.limits import StoreLimits
from mailstore.model import ModSeq, Pop3Settings, SpecialUse
from mailstore.uidset import UidSet
from protocols.budget import MemoryBudget
from protocols.limits import EnvelopeLimits, LoginLimits, Pop3Limits
from protocols.lmtp.server import LmtpFactory
from protocols.pop3.server import Pop3Factory
from tests.login_guard import make_guard
from tests.unit.store.store_world import NAME, PASSWORD, ImmediateExecutor, World, now
from tests.wire import TLS, Client, RecordingLog

MESSAGE = b"Subject: hello\r\n\r\n.dot\r\n" + b"0123456789abcdef\r\n" * 40_000
SMALL = b"Subject: small\r\n\r\nbody\r\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh store with one account."""
    made = World(tmp_path / "root")
    yield made
    made.close()


def lmtp(world: World) -> Client:
    """An LMTP connection with an open transaction for the account."""
    budget = MemoryBudget(1 << 30)
    factory = LmtpFactory(
        world.store, EnvelopeLimits(), TLS, RecordingLog(), world.clock, "mx.example.org", budget
    )
    client = Client(factory)
    said = client.say(b"LHLO relay\r\nMAIL FROM:<bob@example.net>\r\nRCPT TO:<%s>\r\n" % NAME)
    assert said.endswith(b"250 2.1.5 recipient OK\r\n")
    return client


def pop3(world: World, count: int) -> Client:
    """A POP3 connection that sees ``count`` messages."""
    guard = make_guard(world.store, LoginLimits(), world.clock)
    client = Client(Pop3Factory(guard, Pop3Limits(), TLS, RecordingLog(), world.clock, True))
    said = client.say(b"USER %s\r\nPASS %s\r\n" % (NAME, PASSWORD))
    assert said == GREETING + b"+OK send PASS\r\n+OK %d messages\r\n" % count
    return client


def body_of(answer: bytes) -> bytes:
    """The message in a RETR answer."""
    assert answer.startswith(b"+OK ") and answer.endswith(b"\r\n.\r\n")
    return answer.partition(b"\r\n")[2][:-3].replace(b"\r\n..", b"\r\n.")


def test_what_lmtp_takes_pop3_gives(world: World) -> None:
    """Byte for byte, behind the trace header; gone after DELE and QUIT; unique-ids stay."""
    for message in (MESSAGE, SMALL):
        client = lmtp(world)
        client.say(b"DATA\r\n")
        wire = message.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        assert client.say(wire) == b"250 2.0.0 delivered\r\n"
        assert client.say(b"QUIT\r\n") == b"221 2.0.0 goodbye\r\n"
    first = pop3(world, 2)
    size = int(first.say(b"LIST 1\r\n").split()[2])
    retrieved = body_of(first.say(b"RETR 1\r\n"))
    assert len(retrieved) == size and retrieved.endswith(MESSAGE)
    trace = retrieved[: -len(MESSAGE)]
    assert trace.startswith(
        b"Return-Path: <bob@example.net>\r\nDelivered-To: " + NAME + b"\r\nReceived: from relay"
    )
    top = first.say(b"TOP 1 1\r\n")
    assert top == b"+OK\r\n" + trace + b"Subject: hello\r\n\r\n..dot\r\n.\r\n"
    unique_ids = first.say(b"UIDL\r\n").split(b"\r\n")
    second = pop3(world, 2)
    assert second.say(b"UIDL\r\n").split(b"\r\n") == unique_ids
    assert first.say(b"DELE 1\r\nQUIT\r\n") == b"+OK marked for deletion\r\n+OK goodbye\r\n"
    assert second.say(b"RETR 1\r\n") == b"-ERR the message is gone\r\n"
    assert second.say(b"DELE 1\r\nQUIT\r\n") == b"+OK marked for deletion\r\n+OK goodbye\r\n"
    third = pop3(world, 1)
    assert third.say(b"UIDL 1\r\n") == b"+OK 1 " + unique_ids[2].split()[1] + b"\r\n"
    assert body_of(third.say(b"RETR 1\r\n")).endswith(SMALL)
    third.hang_up()


def test_a_full_account_refuses_at_rcpt(world: World) -> None:
    """The quota is asked before the message comes, with its announced size."""
    world.directory.set_quota(world.directory.accounts()[0].account_id, 1000)
    factory = LmtpFactory(
        world.store, EnvelopeLimits(), None, RecordingLog(), world.clock, "mx.example.org", MemoryBudget(1000)
    )
    client = Client(factory)
    client.say(b"LHLO relay\r\nMAIL FROM:<> SIZE=2000\r\n")
    assert client.say(b"RCPT TO:<%s>\r\n" % NAME) == b"452 4.2.2 no room in the mailbox for that\r\n"


def settle(world: World, settings: Pop3Settings) -> None:
    """Give the account these settings."""
    world.directory.set_pop3(world.directory.accounts()[0].account_id, settings)


def ids_of(client: Client) -> list[bytes]:
    """The unique-ids of the maildrop, in order."""
    return [line.split()[1] for line in client.say(b"UIDL\r\n").split(b"\r\n")[1:-2]]


def test_opening_a_maildrop_and_listing_it_reads_no_message(world: World) -> None:
    """With the contents and what is stored beside them gone, only RETR and TOP fail."""
    for _ in range(3):
        world.deliver(SMALL)
    account = world.login()
    now(world.store._open[account.account_id].write(_forget_contents))
    client = pop3(world, 3)
    size = len(SMALL)
    assert client.say(b"STAT\r\n") == b"+OK 3 %d\r\n" % (3 * size)
    assert client.say(b"LIST\r\n") == b"+OK 3 messages\r\n1 %d\r\n2 %d\r\n3 %d\r\n.\r\n" % (size, size, size)
    assert len(set(ids_of(client))) == 3
    assert client.say(b"RETR 1\r\n") == b"-ERR [SYS/PERM] internal error\r\n"
    client.hang_up()
    account.release()


def _forget_contents(txn: Txn) -> None:
    txn.run("DELETE FROM content")
    txn.run("DELETE FROM message_meta")


def test_copies_of_one_message_have_unique_ids_of_their_own(world: World) -> None:
    """Each keeps its own when others go, and a copy that comes later gets none of theirs."""
    world.deliver(SMALL)
    account = world.login()
    inbox = now(account.select("INBOX", False))
    for _ in range(2):
        now(inbox.copy(UidSet.of([1]), "INBOX", ModSeq(0)))
    client = pop3(world, 3)
    before = ids_of(client)
    assert len(set(before)) == 3 and all(0 < len(one) <= 70 for one in before)
    client.say(b"DELE 1\r\nDELE 3\r\nQUIT\r\n")
    now(inbox.copy(UidSet.of([2]), "INBOX", ModSeq(0)))
    after = ids_of(pop3(world, 2))
    assert after[0] == before[1] and after[1] not in before
    account.release()


def test_unique_ids_of_messages_that_went_meanwhile_are_left_out(world: World) -> None:
    """Nobody knows them any more; numbers stay, and the client hears that the message is gone."""
    for _ in range(3):
        world.deliver(SMALL)
    client = pop3(world, 3)
    before = ids_of(client)
    pop3(world, 3).say(b"DELE 2\r\nQUIT\r\n")
    assert ids_of(client) == [before[0], before[2]]
    assert client.say(b"UIDL 2\r\n") == b"-ERR the message is gone\r\n"
    assert client.say(b"UIDL 3\r\n") == b"+OK 3 " + before[2] + b"\r\n"
    client.hang_up()


def test_dele_makes_a_trash_where_there_is_none(world: World) -> None:
    """With its special use and a subscription; what is deleted in there is gone for good."""
    settle(world, Pop3Settings(dele_to_trash=True, retr_marks_seen=True))
    world.deliver(SMALL)
    account = world.login()
    now(account.delete("Trash"))
    now(account.unsubscribe("Trash"))
    pop3(world, 1).say(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
    made = next(one for one in now(account.list_mailboxes()).mailboxes if one.name == "Trash")
    assert made.special_use is SpecialUse.TRASH and made.subscribed
    assert now(account.status("INBOX")).messages == 0
    status = now(account.status("Trash"))
    assert (status.messages, status.unseen) == (1, 0)
    settle(world, Pop3Settings("Trash", dele_to_trash=True))
    pop3(world, 1).say(b"DELE 1\r\nQUIT\r\n")
    assert now(account.status("Trash")).messages == 0
    account.release()


def test_dele_finds_trash_by_its_special_use_first(world: World) -> None:
    """Whatever it is called (RFC 6154); a mailbox that is only called so comes second."""
    settle(world, Pop3Settings(dele_to_trash=True))
    account = world.login()
    now(account.rename("Trash", "Papierkorb"))
    now(account.create("Trash"))
    world.deliver(SMALL)
    pop3(world, 1).say(b"DELE 1\r\nQUIT\r\n")
    assert now(account.status("Papierkorb")).messages == 1
    now(account.delete("Papierkorb"))
    world.deliver(SMALL)
    pop3(world, 1).say(b"DELE 1\r\nQUIT\r\n")
    assert now(account.status("Trash")).messages == 1
    account.release()


def test_a_move_to_trash_that_cannot_be_made_moves_nothing(tmp_path: Path) -> None:
    """No place for one more mailbox: every message stays, and the client hears it."""
    world = World(tmp_path / "root", StoreLimits(max_mailboxes=5))
    settle(world, Pop3Settings(dele_to_trash=True))
    account = world.login()
    now(account.delete("Trash"))
    world.deliver(SMALL)
    answer = pop3(world, 1).say(b"DELE 1\r\nQUIT\r\n")
    assert answer == b"+OK marked for deletion\r\n-ERR [SYS/TEMP] no message was removed\r\n"
    assert now(account.status("INBOX")).messages == 1
    account.release()
    world.close()


def test_login_delay_holds_over_workers_and_restarts(world: World) -> None:
    """Another worker, and one that has just started, know of the last login."""
    settle(world, Pop3Settings(login_delay_s=3600))
    pop3(world, 0).say(b"QUIT\r\n")
    other = World(world.root)
    guard = make_guard(other.store, LoginLimits(), other.clock)
    client = Client(Pop3Factory(guard, Pop3Limits(), TLS, RecordingLog(), other.clock, True))
    said = client.say(b"USER %s\r\nPASS %s\r\n" % (NAME, PASSWORD))
    assert said.endswith(b"-ERR [LOGIN-DELAY] the last login was less than 3600 s ago\r\n")
    last_s = time.time() - 3600
    os.utime(world.paths.folder / "pop3-login", (last_s, last_s))
    pop3(other, 0).hang_up()
    client.hang_up()
    other.close()


def test_a_full_disk_delays_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time of a login cannot be noted, mail can still be read."""
    settle(world, Pop3Settings(login_delay_s=3600))

    def full(*_: object) -> bool:
        raise StorageFull

    monkeypatch.setattr(store, "may_log_in", full)
    for _ in range(2):
        pop3(world, 0).hang_up()


def test_nothing_readable_on_disk(world: World) -> None:
    """What LMTP kept is sealed: no message, no address in any file below the root."""
    client = lmtp(world)
    client.say(b"DATA\r\n")
    client.say(b"Subject: a needle in clear\r\n\r\nneedle\r\n.\r\n")
    files = [path.read_bytes() for path in world.root.rglob("*") if path.is_file()]
    assert files and not any(b"needle" in data or b"bob@example.net" in data for data in files)


class CountingExecutor(ImmediateExecutor):
    """Counts the ways into a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, fn: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """See ``Executor.call``."""
        self.calls += 1
        return super().call(fn, *args)


def test_a_recipient_costs_two_ways_into_a_thread(tmp_path: Path) -> None:
    """RCPT asks everything at once, and so does the end of DATA, a quota included."""
    counting = CountingExecutor()
    world = World(tmp_path / "root", executor=counting)
    world.directory.set_quota(world.directory.accounts()[0].account_id, 1_000_000)
    counting.calls = 0
    client = lmtp(world)
    assert counting.calls == 1
    client.say(b"DATA\r\n")
    assert client.say(SMALL + b".\r\n") == b"250 2.0.0 delivered\r\n"
    assert counting.calls == 2
    world.close()
