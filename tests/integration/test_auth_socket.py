"""The authentication service of a running server, at the socket that the quick start names."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Server, eventually

pytestmark = pytest.mark.integration

HELLO = b"VERSION\t1\t1\nCPID\t%d\n" % os.getpid()
MANY = 1000
PATIENCE_S = 60.0


class Wire:
    """A client's end of the socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        # Waits, as Postfix does, while the queue of the socket is full; with a timeout it would fail.
        self.socket.connect(path)
        self.socket.settimeout(PATIENCE_S)
        self._lines = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_error: object) -> None:
        self._lines.close()
        self.socket.close()

    def say(self, data: bytes) -> None:
        """Send."""
        self.socket.sendall(data)

    def hear(self) -> bytes:
        """The next line, without its end; empty at the end of the connection."""
        return self._lines.readline().removesuffix(b"\n")

    def greet(self) -> list[bytes]:
        """Both handshakes; what the server says."""
        self.say(HELLO)
        heard = [self.hear()]
        while heard[-1] not in (b"DONE", b""):
            heard.append(self.hear())
        return heard

    def log_in(self, number: int, name: str, password: str) -> bytes:
        """The answer to PLAIN from an address of our own."""
        response = base64.b64encode(f"\0{name}\0{password}".encode())
        start = b"AUTH\t%d\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.%d\tsecured\tresp="
        self.say(start % (number, 2 + number % 200) + response + b"\n")
        return self.hear()


def ok(server: Server, number: int) -> bytes:
    """What a right password is answered."""
    return b"OK\t%d\tuser=%b" % (number, server.user.encode())


def test_the_socket_is_for_its_owner_and_group(server: Server) -> None:
    """Whoever reaches it can try passwords, and needs to be let in for that."""
    mode = Path(server.info["auth"]).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_handshake_and_passwords(server: Server) -> None:
    """As Postfix has it: one connection for many logins."""
    with Wire(server.info["auth"]) as wire:
        heard = wire.greet()
        assert heard[:3] == [b"VERSION\t1\t1", b"MECH\tPLAIN\tplaintext", b"MECH\tLOGIN\tplaintext"]
        assert [line.split(b"\t")[0] for line in heard[3:]] == [b"SPID", b"CUID", b"COOKIE", b"DONE"]
        assert wire.log_in(1, server.user, server.password) == ok(server, 1)
        assert wire.log_in(2, server.user, "wrong").startswith(b"FAIL\t2\treason=")
        assert wire.log_in(3, server.user, server.password) == ok(server, 3)


def test_no_database_is_opened(server: Server) -> None:
    """However many passwords are checked."""
    with Wire(server.info["auth"]) as wire:
        wire.greet()
        for number in range(1, 4):
            assert wire.log_in(number, server.user, server.password) == ok(server, number)
        opened = set()
        for worker in server.workers():
            for link in Path(f"/proc/{worker}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    opened.add(os.readlink(link))
    assert any(path.endswith("directory.db") for path in opened)
    assert not [path for path in opened if "mail.db" in path]


@contextlib.contextmanager
def crowd(server: Server) -> Iterator[list[Wire]]:
    """Many clients, each of which has said something and never goes on."""
    said = (
        b"",
        b"VERSION\t1\t",
        HELLO,
        HELLO + b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\n",
        HELLO + b"AUTH\t1",
    )
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.info["auth"])) for _ in range(MANY)]
        for number, wire in enumerate(wires):
            wire.say(said[number % len(said)])
        yield wires


def test_a_crowd_of_slow_clients_keeps_nobody_waiting(server: Server) -> None:
    """A thousand connections that do not go on; whoever has something to say is served."""
    with crowd(server) as wires, Wire(server.info["auth"]) as wire:
        wire.greet()
        assert wire.log_in(1, server.user, server.password) == ok(server, 1)
        last = wires[-3]
        assert last.hear() == b"VERSION\t1\t1"
    assert server.process is not None
    assert server.process.poll() is None


def test_a_flood_ends_its_own_connection_only(server: Server) -> None:
    """Megabytes without a line end, and questions whose answers nobody reads."""
    with Wire(server.info["auth"]) as honest:
        honest.greet()
        with Wire(server.info["auth"]) as endless, contextlib.suppress(OSError):
            endless.say(HELLO + b"AUTH\t1\tPLAIN\tx=")
            for _ in range(100):
                endless.say(b"A" * 100_000)
        with Wire(server.info["auth"]) as deaf:
            deaf.socket.settimeout(0.5)
            deaf.say(HELLO)
            with contextlib.suppress(TimeoutError):
                for number in range(1, 100_000):
                    deaf.say(b"CONT\t%d\tx\n" % number * 20)
            assert honest.log_in(1, server.user, server.password) == ok(server, 1)


def test_a_worker_that_ends_takes_nobody_along(server: Server) -> None:
    """Its clients connect again, as Postfix and Exim do, and are served by the others."""
    worker = server.workers()[0]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: worker not in server.workers())
    for _ in range(8):
        with Wire(server.info["auth"]) as wire:
            wire.greet()
            assert wire.log_in(1, server.user, server.password) == ok(server, 1)
