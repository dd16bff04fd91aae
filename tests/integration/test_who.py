"""``sealbox who`` and ``sealbox kick`` on a running server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator

import pytest
from imap_wire import session
from on_workers import one_on_each
from running import SEALBOX, Server, eventually

from deploy.control import Present, who

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for these tests alone, on which nobody else is connected; each leaves it empty."""
    folder = tmp_path_factory.mktemp("who")
    running = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()


def refusal(server: Server, *arguments: str) -> tuple[int, str]:
    """Exit code and sentence of a command that is refused."""
    done = subprocess.run(
        [*SEALBOX, *arguments, "--data", str(server.data), "--json"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = json.loads(done.stderr)
    return done.returncode, said["error"]


def test_everybody_who_is_logged_in_is_shown_and_sent_away(own: Server) -> None:
    """On whichever worker; IMAP is told BYE, POP3 -ERR, and marks for deletion are forgotten."""
    idle = session(own)
    idle.send(b"i IDLE\r\n")
    assert idle.line().startswith(b"+")
    pop = own.pop()
    before = pop.stat()[0]
    pop.dele(1)
    found = own.cli("who")
    assert sorted((one["name"], one["protocol"], one["address"]) for one in found["sessions"]) == [
        (own.user, "imap", "127.0.0.1"),
        (own.user, "pop3", "127.0.0.1"),
    ]
    assert all(one["idle_s"] < 60 for one in found["sessions"])
    assert own.cli("kick", own.user)["ended"] == 2
    assert idle.until(b"* BYE").tagged == b"* BYE the operator has ended this session"
    assert pop.file is not None
    assert pop.file.readline() == b"-ERR [SYS/TEMP] the operator has ended this session\r\n"
    assert pop.file.readline() == b""
    assert own.cli("who")["sessions"] == []
    assert own.cli("kick", own.user)["ended"] == 0
    idle.close()
    pop.close()
    again = own.pop()
    assert again.stat()[0] == before
    again.quit()


def test_all_workers_are_asked_and_others_stay(own: Server) -> None:
    """A second account's session outlives the end of the first one's on every worker."""
    own.cli("account", "add", "eve@localhost", "--password-stdin", stdin="another good password\n")
    mine = one_on_each(own)
    other = own.imap("eve@localhost", "another good password")
    assert len(own.cli("who")["sessions"]) == len(mine) + 1
    assert own.cli("kick", own.user)["ended"] == len(mine)
    assert [one["name"] for one in own.cli("who")["sessions"]] == ["eve@localhost"]
    assert other.noop()[0] == "OK"
    other.logout()
    for wire in mine.values():
        assert wire.rest().startswith(b"* BYE ")
        wire.close()


def test_only_the_owner_of_the_data_may_ask(own: Server) -> None:
    """Who is connected is nobody else's business, also of those who may enter the data root."""
    for path in [own.data / "control", *(own.data / "control").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_connections_before_login_are_counted(own: Server) -> None:
    """Nothing else is known of them."""
    eventually(lambda: who(own.data) == Present((), 0))
    with socket.create_connection(("127.0.0.1", own.info["imap"])) as plain:
        assert plain.recv(1)
        assert who(own.data) == Present((), 1)


def test_addresses_are_shown_only_if_the_log_may_have_them(own: Server) -> None:
    """``access_log.addresses = false`` holds here as well, after a reload too."""
    client = own.imap()
    config = own.data / "sealbox.toml"
    text = config.read_text("utf-8")
    assert own.process is not None
    for more, shown in (("\n[access_log]\naddresses = false\n", "-"), ("", "127.0.0.1")):
        config.write_text(text + more, "utf-8")
        own.process.send_signal(signal.SIGHUP)
        eventually(lambda shown=shown: {one.address for one in who(own.data).sessions} == {shown})
    client.logout()


def test_nothing_of_it_is_written(own: Server) -> None:
    """Neither question nor answer reaches a log: no line more, and no name."""
    client = own.imap()
    size = len(own.errors())
    assert own.cli("who")["sessions"]
    assert own.cli("kick", own.user)["ended"]
    assert own.errors()[size:] == ""
    client.shutdown()
    own.stop()
    for path in own.data.rglob("*.log"):
        text = path.read_text("utf-8")
        assert own.user not in text and not re.search("kick|who|operator", text)
    own.start()


def test_without_a_server_it_is_said(own: Server) -> None:
    """The sockets of a server that was killed are left, and of no use."""
    own.kill()
    assert list((own.data / "control").iterdir())
    for arguments in (("who",), ("kick", own.user)):
        code, said = refusal(own, *arguments)
        assert (code, said.partition(":")[0]) == (3, f"no server runs on {own.data}")
    own.start()
    assert own.cli("who")["sessions"] == []


def test_a_worker_that_was_replaced_answers(own: Server) -> None:
    """The new one takes the socket's name over."""
    first = own.workers()
    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(own.workers()) == len(first) and first[0] not in own.workers())
    eventually(lambda: not who(own.data).sessions)
    clients = [own.imap() for _ in range(6)]
    eventually(lambda: len(who(own.data).sessions) == len(clients))
    for client in clients:
        client.logout()


REFUSED = b'{"done": true, "error": "no such request"}\n'


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\n", REFUSED),
        (b"[" * 4000 + b"\n", REFUSED),
        (b'{"do": "disconnect"}\n', REFUSED),
        (b"\xff\n", REFUSED),
        (b'{"do": 1}\n', REFUSED),
        (b'{"do": "who"', b""),
        (b"x" * 5000, b""),
    ],
    ids=["empty", "nested", "no account", "no text", "number", "cut off", "too long"],
)
def test_garbage_is_refused_and_harms_nobody(own: Server, sent: bytes, answer: bytes) -> None:
    """The next request is answered."""
    for path in (own.data / "control").iterdir():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(4096) == answer
    assert who(own.data).sessions == ()


def test_a_flood_of_askers_harms_nobody(own: Server) -> None:
    """More connections than the socket takes are hung up on; those that ask nothing are in nobody's way."""
    path = str(sorted((own.data / "control").iterdir())[0])
    opened = []
    for _ in range(15):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        opened.append(client)
    assert who(own.data).sessions == ()
    for client in opened:
        client.close()
