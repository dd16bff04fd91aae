"""The control socket of a worker: who says nothing is not waited for, and one that hangs is named."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from deploy import control
from deploy.control_service import REQUEST_WAIT_S, ControlFactory, Serving
from mailstore.errors import StorageFailed
from protocols.limits import StreamLimits
from protocols.transport import StreamFactory


def connection(clock: Clock) -> StringTransport:
    """The other end of a connection to a worker that serves nobody."""
    factory = ControlFactory(Serving(clock, list, lambda: True, lambda: 1.0))
    protocol: Any = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    transport.owner = protocol
    return transport


def test_who_asks_nothing_is_hung_up_on() -> None:
    """Octets that make no line do not put that off."""
    clock = Clock()
    transport = connection(clock)
    clock.advance(REQUEST_WAIT_S - 1)
    transport.owner.dataReceived(b'{"do"')
    assert not transport.disconnecting
    clock.advance(1)
    assert transport.disconnecting
    assert transport.value() == b""


@pytest.mark.parametrize("answer", [b"", b"no JSON\n", b"[]\n", b"5\n", b'{"done": true}\n', b'{"a": 1}\n'])
def test_an_answer_that_is_none_is_said_to_be_none(tmp_path: Path, answer: bytes) -> None:
    """Not fewer sessions than there are."""
    (tmp_path / control.FOLDER).mkdir()
    listening = socket.socket(socket.AF_UNIX)
    with listening, control.reaching(tmp_path / control.FOLDER / "worker-0") as name:
        listening.bind(name)
        listening.listen(1)

        def serve() -> None:
            client, _ = listening.accept()
            client.recv(4096)
            client.sendall(answer)
            client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(control.NoAnswer):
            control.who(tmp_path)
        thread.join(30)


def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    """A socket's name has 107 octets at most (unix(7)), a data root's may have more."""
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening, control.reaching(folder / "worker-0") as name:
        listening.bind(name)
    assert (folder / "worker-0").is_socket()


class Stuck:
    """A session that does not end, as one whose client reads nothing."""

    account_id = "a"

    def end(self, reason: bytes) -> None:
        """See ``Endable``."""

    def disconnect(self, reason: bytes) -> None:
        """See ``AccountSession``."""


class StuckFactory(StreamFactory):
    """Makes such sessions."""

    def session(self, channel: Any) -> Any:
        """The session, and a coroutine that waits for ever."""

        async def waits() -> None:
            await channel.read(1e6)

        return Stuck(), waits()


def test_a_session_that_does_not_end_is_cut_off_before_the_command_gives_up() -> None:
    """However long clients may take when the server stops."""
    clock = Clock()
    factory = StuckFactory(clock, StreamLimits())
    protocol: Any = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    transport.abortConnection = lambda: protocol.connectionLost(Failure(ConnectionLost()))  # type: ignore[method-assign]
    serving = Serving(clock, lambda: [factory], lambda: True, lambda: 3600.0)
    ended: list[int] = []
    Deferred.fromCoroutine(serving.disconnect("a")).addCallback(ended.append)
    assert not ended
    clock.advance(control.ANSWER_WAIT_S - 1)
    assert ended == [1]


def test_a_data_root_that_may_not_be_read_is_not_taken_for_an_idle_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's: no server runs there as far as this user can see, which says nothing."""

    def refuses(_path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuses)
    with pytest.raises(StorageFailed):
        control.who(tmp_path)
