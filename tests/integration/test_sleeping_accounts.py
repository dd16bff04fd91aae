"""Sessions that only idle cost no open database, on every worker, and miss nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from imap_wire import Wire
from on_workers import one_on_each
from running import Server, eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose accounts fall asleep almost at once."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    assert server.stop() == 0
    soon = "\n[store]\nhibernate_after_s = 0.2\ncheckpoint_delay_s = 0.1\nindex_delay_s = 0.1\n"
    server.start_with(lambda text: text + soon)
    yield server
    assert server.stop() == 0


def open_databases(server: Server) -> list[str]:
    """Files of accounts that workers have open."""
    found = []
    for pid in server.workers():
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue  # closed while we looked
            if "/accounts/" in target:
                found.append(target)
    return found


def asleep(server: Server) -> bool:
    """Whether no account has an open file, on any worker."""
    return not open_databases(server)


def idle(wire: Wire) -> None:
    """Begin IDLE."""
    wire.send(b"i IDLE\r\n")
    assert wire.line().startswith(b"+ ")


def told(wire: Wire) -> bytes:
    """The next EXISTS."""
    while line := wire.line():
        if line.endswith(b" EXISTS"):
            return line
    raise AssertionError("the server hung up")


def test_idle_sessions_of_all_workers_sleep_and_hear_of_everything(tired: Server) -> None:
    """Deliveries, and what a session of another worker does; then no file is open again."""
    wires = list(one_on_each(tired).values())
    for wire in wires:
        idle(wire)
    eventually(lambda: asleep(tired))
    before = None
    for number in range(3):
        tired.deliver(b"Subject: %d\r\n\r\nx\r\n" % number)
        said = {told(wire) for wire in wires}
        assert len(said) == 1 and said != before
        before = said
        eventually(lambda: asleep(tired))
    wires[0].send(b"DONE\r\n")
    assert wires[0].until(b"i ").status == b"OK"
    assert wires[0].command(b"APPEND INBOX {5+}\r\nx\r\n\r\n").status == b"OK"
    for wire in wires[1:]:
        told(wire)
    eventually(lambda: asleep(tired))
    for wire in wires:
        wire.close()


def test_the_operator_works_on_sleeping_accounts(tired: Server) -> None:
    """A check opens the database itself; the sessions go on."""
    wires = list(one_on_each(tired).values())
    for wire in wires:
        idle(wire)
    eventually(lambda: asleep(tired))
    tired.cli("account", "check", tired.user, "--password-stdin", stdin=tired.password + "\n")
    for wire in wires:
        wire.send(b"DONE\r\n")
        assert wire.until(b"i ").status == b"OK"
        assert wire.command(b"STATUS INBOX (MESSAGES)").status == b"OK"
        wire.close()


def test_a_worker_killed_beside_a_sleeping_one_costs_it_nothing(tired: Server) -> None:
    """The log that is left behind is read by whoever wakes."""
    wires = one_on_each(tired)
    if len(wires) < 2:
        pytest.skip("one worker")
    (killed, busy), (_, other) = list(wires.items())[:2]
    idle(other)
    eventually(lambda: asleep(tired))
    assert busy.command(b"APPEND INBOX {5+}\r\nx\r\n\r\n").status == b"OK"
    os.kill(killed, signal.SIGKILL)
    told(other)
    other.send(b"DONE\r\n")
    assert other.until(b"i ").status == b"OK"
    assert other.command(b"FETCH * (UID)").status == b"OK"
    eventually(lambda: asleep(tired))
    for wire in wires.values():
        wire.close()
