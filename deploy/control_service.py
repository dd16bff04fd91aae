"""A worker's end of ``deploy.control``: its socket, and what is answered there."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from deploy.control import ANSWER_WAIT_S, FOLDER, REQUEST_MAX_BYTES, Connected, reaching
from deploy.unix_listener import UnixListener
from protocols.limits import StreamLimits
from protocols.lines import Line, LineBuffer
from protocols.transport import Channel, Endable, IdleTimeout, StreamFactory

log = logging.getLogger("sealbox.control")

CONNECTIONS_MAX = 16
"""Operators that may ask a worker at the same time."""

REQUEST_WAIT_S = 10.0
PATIENCE_MAX_S = ANSWER_WAIT_S / 2
"""Seconds until a session that was asked to end is cut off, at most: nobody waits longer for an answer."""

LINES_AT_ONCE = 200
"""Lines of an answer that are written before other connections get their turn."""

REASON = b"the operator has ended this session"


@dataclass(frozen=True, slots=True)
class Serving:
    """What a worker knows of its connections."""

    clock: Any
    factories: Callable[[], Sequence[StreamFactory]]
    """Those that may have connections at the moment."""
    shows_addresses: Callable[[], bool]
    """Whether the access log has the addresses of clients."""
    patience_s: Callable[[], float]
    """Seconds until a session that was told to end is cut off."""

    def connected(self) -> list[Connected]:
        """The sessions that have logged in."""
        now_s, shows = self.clock.seconds(), self.shows_addresses()
        return [
            Connected(
                session.account_id or "",
                factory.protocol_name,
                connection.address if shows else "-",
                connection.began_s,
                max(now_s - connection.heard_s, 0.0),
            )
            for factory in self.factories()
            for connection, session in factory.logged_in()
        ]

    async def disconnect(self, account_id: str) -> int:
        """End all sessions of an account; how many there were. Returns when they are gone."""
        patience_s = min(self.patience_s(), PATIENCE_MAX_S)
        ending = [
            Deferred.fromCoroutine(one.disconnect(account_id, REASON, patience_s)) for one in self.factories()
        ]
        return sum(await gatherResults(ending))


class ControlSession:
    """One connection: a request and its answer."""

    def __init__(self, channel: Channel, serving: Serving) -> None:
        self._channel = channel
        self._serving = serving
        self._over = False

    def end(self, reason: bytes) -> None:
        """Close instead of waiting for a request."""
        self._over = True
        self._channel.wake()

    async def run(self) -> None:
        """The whole session."""
        try:
            line = await self._request()
        except IdleTimeout:
            return
        if line is None:
            return
        match _parsed(line):
            case {"do": "who"}:
                await self._tell_who()
            case {"do": "disconnect", "account": str(account)}:
                await self._send([{"done": True, "ended": await self._serving.disconnect(account)}])
            case _:
                await self._send([{"done": True, "error": "no such request"}])

    async def _request(self) -> bytes | None:
        lines = LineBuffer()
        deadline_s = self._serving.clock.seconds() + REQUEST_WAIT_S
        while not self._over:
            lines.feed(await self._channel.read(deadline_s - self._serving.clock.seconds()) or b"")
            event = lines.next_line(REQUEST_MAX_BYTES)
            if event is not None:
                return event.text if isinstance(event, Line) else None
        return None

    async def _tell_who(self) -> None:
        found = self._serving.connected()
        others = sum(one.connections for one in self._serving.factories()) - len(found)
        for at in range(0, len(found), LINES_AT_ONCE):
            await self._send([asdict(one) for one in found[at : at + LINES_AT_ONCE]])
            await self._channel.turn()
        await self._send([{"done": True, "not_logged_in": others}])

    async def _send(self, answers: Sequence[dict[str, Any]]) -> None:
        await self._channel.write(b"".join(json.dumps(one).encode("ascii") + b"\n" for one in answers))


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class ControlFactory(StreamFactory):
    """Connections of the control socket."""

    protocol_name = "control"

    def __init__(self, serving: Serving) -> None:
        super().__init__(serving.clock, StreamLimits(connections_max=CONNECTIONS_MAX))
        self._serving = serving

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = ControlSession(channel, self._serving)
        return session, session.run()


class ControlSocket:
    """The socket of one worker. A new worker of the same number takes the place of one that has died."""

    def __init__(self, reactor: Any, data: Path, number: int, serving: Serving) -> None:
        self._path = data / FOLDER / f"worker-{number}"
        self._reactor = reactor
        self.factory = ControlFactory(serving)
        self._listener: UnixListener | None = None

    def start(self) -> None:
        """Listen. A server whose data lie where there can be no socket serves all the same."""
        bound = socket.socket(socket.AF_UNIX)
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._path.unlink(missing_ok=True)
            with reaching(self._path) as name:
                bound.bind(name)
                Path(name).chmod(0o600)
            bound.listen(CONNECTIONS_MAX)
        except OSError as exc:
            bound.close()
            log.error(
                "%s cannot be made (errno %s): sealbox who and kick do not see this worker",
                self._path,
                exc.errno,
            )
            return
        bound.setblocking(False)
        self._listener = UnixListener(self._reactor, bound, self.factory)

    def stop(self) -> None:
        """Listen no longer. The name stays, and whoever connects to it is refused."""
        if self._listener is not None:
            self._listener.stopListening()
