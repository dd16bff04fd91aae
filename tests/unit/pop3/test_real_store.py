"""From LMTP to POP3 over the real store: SQLCipher files, sealed inbox and all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pop3_world import GREETING

from protocols.limits import LmtpLimits, LoginLimits, Pop3Limits
from protocols.lmtp.message import MemoryBudget
from protocols.lmtp.server import LmtpFactory
from protocols.pop3.server import Pop3Factory
from tests.login_guard import make_guard
from tests.unit.store.store_world import NAME, PASSWORD, World
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
        world.store, LmtpLimits(), TLS, RecordingLog(), world.clock, "mx.example.org", budget
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
        world.store, LmtpLimits(), None, RecordingLog(), world.clock, "mx.example.org", MemoryBudget(1000)
    )
    client = Client(factory)
    client.say(b"LHLO relay\r\nMAIL FROM:<> SIZE=2000\r\n")
    assert client.say(b"RCPT TO:<%s>\r\n" % NAME) == b"452 4.2.2 mailbox full\r\n"


def test_nothing_readable_on_disk(world: World) -> None:
    """What LMTP kept is sealed: no message, no address in any file below the root."""
    client = lmtp(world)
    client.say(b"DATA\r\n")
    client.say(b"Subject: a needle in clear\r\n\r\nneedle\r\n.\r\n")
    files = [path.read_bytes() for path in world.root.rglob("*") if path.is_file()]
    assert files and not any(b"needle" in data or b"bob@example.net" in data for data in files)
