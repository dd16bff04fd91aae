"""What systemd does for the server, done by the test: it hands over sockets, is told how it goes."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from twisted.internet.task import Clock

import deploy
from deploy import notify
from deploy.config_listen import ListenSection
from tests.integration.running import SEALBOX, STOP_S, Server, eventually
from tests.readiness import Readiness

WAIT_S = 60.0
_LISTEN_PID = 'export LISTEN_PID=$$; exec "$@"'


class Systemd:
    """Holds sockets and starts the server on them, again and again."""

    def __init__(self, server: Server, sockets: Sequence[socket.socket]) -> None:
        self._server, self._sockets = server, sockets

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it is ready."""
        ready = Readiness()
        process = self._popen(ready.environment)
        ready.wait(process, WAIT_S, self._server.errors)
        return process

    def refused(self) -> str:
        """Start it and see it end; what it says."""
        process = self._popen(dict(os.environ))
        assert process.wait(WAIT_S) == 3
        return self._server.errors()

    def _popen(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        config = self._server.data / "sealbox.toml"
        given = range(3, 3 + len(self._sockets))

        def hand_over() -> None:
            # By way of high numbers, so that none is overwritten before it is copied.
            copies = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 200) for one in self._sockets]
            for copy, descriptor in zip(copies, given, strict=True):
                os.dup2(copy, descriptor)

        with (self._server.data.parent / f"{self._server.data.name}.err").open("ab") as errors:
            return subprocess.Popen(
                ["sh", "-c", _LISTEN_PID, "sh", *SEALBOX, "serve", "--config", str(config)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=list(given),
                preexec_fn=hand_over,
                env={**environment, "LISTEN_FDS": str(len(self._sockets))},
            )


def _tcp(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    bound.listen(64)
    return bound


@pytest.fixture
def made(tmp_path: Path) -> Server:
    """A server's data and settings; nothing runs."""
    server = Server(tmp_path / "data").start()
    assert server.stop() == 0
    return server


@pytest.fixture
def sockets(made: Server) -> Iterator[dict[str, socket.socket]]:
    """POP3 without TLS, whose greeting comes at once, and LMTP."""
    bound = {"pop3": _tcp(made.info["pop3"]), "lmtp": _tcp(made.info["lmtp"])}
    yield bound
    for one in bound.values():
        one.close()


def test_a_restart_refuses_no_connection(made: Server, sockets: dict[str, socket.socket]) -> None:
    """Who comes while nothing runs waits in the socket, and is greeted by the next server."""
    systemd = Systemd(made, list(sockets.values()))
    for _ in range(2):
        process = systemd.start()
        with socket.create_connection(("127.0.0.1", made.info["pop3"]), WAIT_S) as client:
            assert client.recv(4).startswith(b"+OK")
        process.terminate()
        assert process.wait(STOP_S) == 0
        waiting = socket.create_connection(("127.0.0.1", made.info["pop3"]), WAIT_S)
        process = systemd.start()
        assert waiting.recv(4).startswith(b"+OK")
        waiting.close()
        process.terminate()
        assert process.wait(STOP_S) == 0


def test_what_is_not_handed_over_is_bound(made: Server, sockets: dict[str, socket.socket]) -> None:
    """A socket unit may name some of the addresses."""
    sockets.pop("lmtp").close()
    process = Systemd(made, list(sockets.values())).start()
    for name in ("pop3", "imap"):
        with socket.create_connection(("127.0.0.1", made.info[name]), WAIT_S) as client:
            assert client.recv(2) in (b"+O", b"* ")
    process.terminate()
    assert process.wait(STOP_S) == 0


def test_a_socket_that_nothing_is_configured_for_is_refused(
    made: Server, sockets: dict[str, socket.socket]
) -> None:
    """It would be open and never answer; both files are named."""
    with _tcp(0) as other:
        said = Systemd(made, [*sockets.values(), other]).refused()
        assert f":{other.getsockname()[1]}" in said
    assert "sealbox.socket" in said


def test_systemd_is_told_how_it_goes(made: Server) -> None:
    """Ready, how many workers serve, alive again and again, stopping."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0sealbox-told-{os.getpid()}")
        environment = {"NOTIFY_SOCKET": f"@sealbox-told-{os.getpid()}", "WATCHDOG_USEC": "100000"}
        with (made.data.parent / "data.err").open("ab") as errors:
            process = subprocess.Popen(
                [*SEALBOX, "serve", "--config", str(made.data / "sealbox.toml")],
                stderr=errors,
                env={**os.environ, **environment},
            )
        seen: list[str] = []

        def hears(what: str) -> bool:
            if select.select([told], [], [], 0.05)[0]:
                seen.append(told.recv(4096).decode())
            return any(one.startswith(what) for one in seen)

        eventually(lambda: hears("READY=1"), WAIT_S)
        eventually(lambda: hears("STATUS="), WAIT_S)
        seen.clear()
        eventually(lambda: hears("WATCHDOG=1") and seen.count("WATCHDOG=1") >= 3, WAIT_S)
        seen.clear()
        worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(worker, 9)
        eventually(lambda: hears("STATUS="), WAIT_S)
        process.terminate()
        eventually(lambda: hears("STOPPING=1"), WAIT_S)
        assert process.wait(STOP_S) == 0


def test_a_server_without_workers_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the watchdog is to bite."""
    told: list[str] = []
    monkeypatch.setattr(notify, "notify", told.append)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    clock, well = Clock(), [True]
    notify.keep_watchdog(clock, lambda: well[0])
    clock.pump([1.0] * 3)
    assert told == ["WATCHDOG=1"] * 4
    well[0] = False
    clock.pump([1.0] * 3)
    assert len(told) == 4


def test_a_server_whose_workers_are_just_being_started_again_is_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looked at in that very moment, it is looked at again before systemd has waited for too long."""
    told: list[float] = []
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    clock = Clock()
    monkeypatch.setattr(notify, "notify", lambda _state: told.append(clock.seconds()))
    notify.keep_watchdog(clock, lambda: not 30 <= clock.seconds() < 31)
    clock.pump([0.5] * 200)
    assert max(after - before for before, after in pairwise(told)) < 40


def test_what_systemd_cannot_be_told_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where there is no descriptor left for it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setattr(notify.socket, "socket", refuse)
    notify.notify("STATUS=well")
    assert f"errno {errno.EMFILE}" in caplog.text


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "no"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}],
)
def test_no_watchdog(environment: dict[str, str]) -> None:
    """Not asked for, or asked of another process."""
    assert notify.watchdog_s(environment) is None


def test_sockets_of_another_process_are_not_ours() -> None:
    """LISTEN_PID says whose they are; the environment says nothing of them any more."""
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
    assert notify.inherited_sockets(environment) == {}
    assert environment == {"HOME": "/"}


def test_endpoints_in_one_spelling() -> None:
    """IPv6 addresses have several."""
    assert notify.endpoint_key("[0:0::1]:0993") == notify.endpoint_key("[::1]:993")
    assert notify.endpoint_key("127.0.0.1:993") != notify.endpoint_key("127.0.0.2:993")


def test_the_socket_unit_and_the_configuration_agree() -> None:
    """What systemd binds is what the server listens on when nothing is configured."""
    unit = (Path(deploy.__file__).parent / "systemd/sealbox.socket").read_text()
    bound = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("ListenStream=")]
    asked = [endpoint for some in ListenSection().model_dump().values() for endpoint in some]
    assert bound == [endpoint.removeprefix("unix:") for endpoint in asked]
