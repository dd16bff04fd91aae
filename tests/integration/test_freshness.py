"""What LMTP answered 250 is there for everything that begins afterwards, whichever worker is asked."""

from __future__ import annotations

import poplib
import re
from collections.abc import Iterator

import pytest
from imap_wire import Wire, session
from on_workers import one_on_each
from running import Server

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery staple"
ROUNDS = 25
BACKLOG = 300
PATIENCE_S = 60
"""More than a slow machine needs, so that what is late fails and what is slow does not."""


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits until all of a backlog is filed, however slow the machine."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    assert server.stop() == 0
    waits = f"\n[store]\nfiling_wait_s = {PATIENCE_S}\nmaildrop_filing_wait_s = {PATIENCE_S}\n"
    server.start_with(lambda text: text + waits)
    yield server
    assert server.stop() == 0


def messages(wire: Wire) -> int:
    """What STATUS says of the inbox."""
    (line,) = wire.command(b"STATUS INBOX (MESSAGES)").texts(b"STATUS")
    found = re.search(rb"MESSAGES (\d+)", line)
    assert found is not None
    return int(found[1])


def exists(answer: tuple[bytes, ...]) -> int | None:
    """The last EXISTS among untagged responses."""
    found = [int(line.split()[1]) for line in answer if line.endswith(b" EXISTS")]
    return found[-1] if found else None


def idle_tells(wire: Wire) -> int:
    """What a session that begins to IDLE is told first."""
    tag = wire.tag()
    wire.send(tag + b" IDLE\r\n")
    assert wire.line().startswith(b"+ ")
    line = wire.line()
    while not line.endswith(b" EXISTS"):
        line = wire.line()
    wire.send(b"DONE\r\n")
    wire.until(tag + b" ")
    return int(line.split()[1])


@pytest.mark.parametrize("look", ["NOOP", "CHECK", "STATUS", "SELECT", "EXAMINE", "IDLE"])
def test_every_look_sees_what_was_delivered_before(patient: Server, look: str) -> None:
    """Commands that begin after the delivery's reply, on each worker in turn, show the message."""
    wires = list(one_on_each(patient).values())
    try:
        count = messages(wires[0])
        for number in range(ROUNDS):
            wire = wires[number % len(wires)]
            wire.command(b"NOOP")
            patient.deliver(b"Subject: fresh %d\r\n\r\nx\r\n" % number)
            count += 1
            match look:
                case "STATUS":
                    assert messages(wire) == count
                case "IDLE":
                    assert idle_tells(wire) == count
                case "SELECT" | "EXAMINE":
                    assert exists(wire.command(look.encode() + b" INBOX").untagged) == count
                case _:
                    assert exists(wire.command(look.encode()).untagged) == count
    finally:
        for wire in wires:
            wire.close()


def test_a_login_right_behind_a_delivery(patient: Server) -> None:
    """New sessions of IMAP and POP3 on an account that is open, on whichever worker they land."""
    with session(patient) as open_all_the_while:
        count = messages(open_all_the_while)
        for number in range(ROUNDS):
            patient.deliver(b"Subject: right behind %d\r\n\r\nx\r\n" % number)
            count += 1
            with session(patient) as wire:
                assert messages(wire) == count
            patient.deliver(b"Subject: and again %d\r\n\r\nx\r\n" % number)
            count += 1
            maildrop: poplib.POP3_SSL = patient.pop()
            assert maildrop.stat()[0] == count
            maildrop.quit()


def test_the_first_login_shows_all_that_waited(patient: Server) -> None:
    """A client that looks once (mbsync from cron) gets all of a backlog, not its first hundred."""
    name = "late@localhost"
    patient.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
    patient.deliver(*(b"Subject: waited %d\r\n\r\nx\r\n" % number for number in range(BACKLOG)), to=name)
    with session(patient, b"", name, PASSWORD) as wire:
        assert exists(wire.command(b"SELECT INBOX").untagged) == BACKLOG
