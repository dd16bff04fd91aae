"""Clients that take much and give little: idle by the hundred, slow, or asking for more than they read."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from healthy import PROMPT_S, healthy
from imap_wire import connect, session
from running import Server, raw

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
IDLE_CONNECTIONS = 500
SLOW_LITERALS = 60
LARGE_BYTES = 20 * MIB
LARGE_MESSAGES = 60
READERS = 4
SEEN_BYTES = 8 * MIB


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """This process may have as many connections as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE_CONNECTIONS + 500
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_hundreds_of_idle_connections(server: Server) -> None:
    """Half-open connections to every port, some in the middle of a handshake: a login is still prompt."""
    services = ("imap", "imaps", "pop3", "pop3s", "lmtp")
    with healthy(server), contextlib.ExitStack() as stack:
        for number in range(IDLE_CONNECTIONS):
            service = services[number % len(services)]
            idle = socket.create_connection(("127.0.0.1", server.info[service]), 30)
            stack.enter_context(idle)
            if number % 3 == 0:
                idle.sendall(b"\x16\x03\x01\x02\x00\x01\x00" if service.endswith("s") else b"half a li")
        began = time.monotonic()
        with session(server) as wire:
            assert wire.command(b"FETCH 1 (BODY.PEEK[])").status == b"OK"
        assert time.monotonic() - began < 2 * PROMPT_S


def test_slow_literals(server: Server) -> None:
    """Announcing 60 MB each and trickling: some may, the others are told to come later."""
    with healthy(server), contextlib.ExitStack() as stack:
        wires = [stack.enter_context(session(server)) for _ in range(SLOW_LITERALS)]
        accepted = []
        for wire in wires:
            wire.send(b"a APPEND INBOX {60000000}\r\n")
            answer = wire.line()
            assert answer.startswith((b"+ ", b"a NO [UNAVAILABLE]")), answer
            if answer.startswith(b"+ "):
                accepted.append(wire)
        assert 0 < len(accepted) < SLOW_LITERALS
        for _ in range(20):
            for wire in accepted:
                wire.send(b"x")
    with session(server) as wire:
        assert wire.command(b"NOOP").status == b"OK"


def test_slow_lines_and_slow_mail(server: Server) -> None:
    """The same before login and over LMTP, octet by octet."""
    with healthy(server), contextlib.ExitStack() as stack:
        wires = []
        for service in ("imaps", "pop3s", "lmtp") * 15:
            wire = stack.enter_context(connect(server, service))
            if service == "lmtp":
                wire.send(b"LHLO x\r\nMAIL FROM:<a@b> SIZE=60000000\r\nRCPT TO:<demo@localhost>\r\nDATA\r\n")
            wires.append(wire)
        for octet in b"a CAPABILITY with a very long tail":
            for wire in wires:
                wire.send(bytes([octet]))


@pytest.fixture
def with_large_mail(tmp_path: Path) -> Iterator[Server]:
    """A mailbox of 60 times 20 MB, served by workers that have not handled any of it yet."""
    server = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    try:
        line = b"a line of a large message, which repeats and so takes little room on the disk\r\n"
        message = b"Subject: large\r\n\r\n" + line * (LARGE_BYTES // len(line))
        with session(server) as wire:
            assert wire.append(b"Archive", message).status == b"OK"
            assert wire.append(b"INBOX", message).status == b"OK"
            assert wire.command(b"SELECT Archive").status == b"OK"
            for _ in range(LARGE_MESSAGES - 1):
                assert wire.command(b"COPY 1 Archive").status == b"OK"
            assert wire.command(b"STATUS INBOX (MESSAGES)").status == b"OK"
        assert server.stop() == 0
        yield server.start()
    finally:
        if server.process is not None:
            server.kill()


def test_downloads_that_nobody_reads(with_large_mail: Server) -> None:
    """FETCH of 1.2 GB and RETR, not read: the worker waits with bounded memory, and so do others not."""
    server = with_large_mail
    with healthy(server), contextlib.ExitStack() as stack:
        for _ in range(READERS):
            wire = stack.enter_context(session(server, b"Archive"))
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            wire.send(b"a FETCH 1:* BODY[]\r\nb FETCH 1:* BODY[TEXT]\r\n")
            pop = stack.enter_context(raw(server, "pop3s"))
            pop.sendall(f"USER {server.user}\r\nPASS {server.password}\r\n".encode())
            pop.sendall(b"RETR 7\r\n" * 20)
            # Reading some of it and then no more is the nastier kind.
            for downloading in (wire.socket, pop):
                left = SEEN_BYTES
                while left > 0:
                    piece = downloading.recv(65536)
                    assert piece, "the server hung up"
                    left -= len(piece)
        began = time.monotonic()
        with session(server) as other:
            assert other.command(b"FETCH 1 (BODY.PEEK[])").status == b"OK"
        assert time.monotonic() - began < 2 * PROMPT_S
        with session(server, b"Archive") as other:
            # One that does read gets all of it while the others wait.
            assert len(other.command(b"FETCH 1 BODY.PEEK[]").untagged[0]) > LARGE_BYTES * 99 // 100
