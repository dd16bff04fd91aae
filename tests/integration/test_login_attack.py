"""One address that sends attempts to log in and hangs up keeps nobody else from logging in."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator

import pytest
from imap_wire import Wire
from running import Server

pytestmark = pytest.mark.integration

STRANGER, HONEST = "127.0.5.%d", "127.0.4.%d"
ATTEMPTS = 300
HONEST_LOGINS = 8
PASSWORD = "correct horse battery staple"


def connect(server: Server, source: str) -> ssl.SSLSocket:
    """TLS from an address of our own choice."""
    plain = socket.create_connection(
        ("127.0.0.1", server.info["imaps"]), timeout=30, source_address=(source, 0)
    )
    return server.tls().wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, memory for one Argon2 run, room for two logins that wait; several accounts."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    for number in range(HONEST_LOGINS):
        name = f"user{number}@localhost"
        server.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert server.stop() == 0
    settings = "\n[argon2]\nmemory_budget_mib = 1\nwaiting_logins = 2\n"
    server.start_with(lambda text: f"workers = 1\n{text}{settings}")
    yield server
    assert server.stop() == 0


def attack(server: Server, source: str, window: int, over: threading.Event) -> None:
    """Attempts one after the other, ``window`` of them open at a time; then the oldest is hung up on."""
    with contextlib.ExitStack() as stack:
        held: deque[ssl.SSLSocket] = deque()
        for number in range(ATTEMPTS):
            if over.is_set():
                return
            try:
                held.append(stack.enter_context(connect(server, source)))
            except OSError:
                continue  # hung up on: the address has as many connections as it may
            held[-1].sendall(b'a LOGIN "nobody%d" "guess %d"\r\n' % (number, number))
            if len(held) > window:
                held.popleft().close()


@pytest.mark.parametrize("window", [16, ATTEMPTS], ids=["hangs-up", "waits"])
def test_a_stranger_slows_himself_only(small_server: Server, window: int) -> None:
    """Cold logins from elsewhere get in while one address sends wrong ones without a pause."""
    waits = window == ATTEMPTS
    over = threading.Event()
    stranger = threading.Thread(target=attack, args=(small_server, STRANGER % (1 + waits), window, over))
    stranger.start()
    try:
        with contextlib.ExitStack() as stack:
            for number in range(HONEST_LOGINS):
                if number % 2 != waits:
                    continue
                honest = stack.enter_context(connect(small_server, HONEST % (number + 1)))
                login = b'LOGIN "user%d@localhost" "%b"' % (number, PASSWORD.encode())
                assert Wire(honest).command(login).status == b"OK"
    finally:
        over.set()
        stranger.join()
