"""Listening sockets: bound once by systemd or the supervisor, inherited by every worker."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.config import Config
from deploy.notify import endpoint_key

BACKLOG = 512
"""Length of the accept queue; waiting connections survive the death of a worker."""

UNIX_SOCKET_MODE = 0o660
ServiceName = Literal[
    "imaps", "imap", "pop3s", "pop3", "lmtp", "auth", "recipients", "https", "node_lmtp",
    "imap_proxied", "pop3_proxied", "auth_proxied", "auth_http", "node_auth_http",
]  # fmt: skip
SERVICES: tuple[ServiceName, ...] = (
    "imaps", "imap", "pop3s", "pop3", "lmtp", "auth", "recipients", "https", "node_lmtp",
    "imap_proxied", "pop3_proxied", "auth_proxied", "auth_http", "node_auth_http",
)  # fmt: skip
DOOR: ServiceName = "https"
"""It has a process of its own; all others are the workers'."""


class CannotListen(Exception):
    """An address cannot be bound; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One bound socket and the service it is for."""

    service: ServiceName
    endpoint: str
    socket: socket.socket
    is_ours: bool = True
    """Whether this program has bound it; systemd's own outlive us, and so do their names."""


def _unix(path: Path, group: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()  # left by a server that was killed; the data root's lock says none is running
    except FileNotFoundError:
        pass
    with ExitStack() as undo:
        undo.callback(bound.close)
        bound.bind(str(path))
        undo.callback(path.unlink)
        if group:
            shutil.chown(path, group=group)
        path.chmod(UNIX_SOCKET_MODE)
        undo.pop_all()
    return bound


def _tcp(endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    v6 = host.startswith("[")
    bound = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if v6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((host.strip("[]"), int(port)))
    return bound


def _bound(endpoint: str, group: str) -> socket.socket:
    if endpoint.startswith("unix:"):
        return _unix(Path(endpoint.removeprefix("unix:")), group)
    return _tcp(endpoint)


def bind_for_metrics(config: Config) -> list[socket.socket]:
    """Bind the addresses of ``[metrics]``, or none.

    Raises:
        CannotListen: naming the address and the reason.
    """
    found: list[socket.socket] = []
    for endpoint in config.metrics.listen:
        try:
            bound = _tcp(endpoint)
            found.append(bound)
            bound.listen(BACKLOG)
            bound.setblocking(False)
        except OSError as exc:
            for one in found:
                one.close()
            reason = os.strerror(exc.errno) if exc.errno else "unknown error"
            raise CannotListen(f"cannot listen on {endpoint} for metrics: {reason}") from None
    return found


def close_all(listeners: list[Listener]) -> None:
    """Close every socket and remove the names of Unix sockets."""
    for listener in listeners:
        listener.socket.close()
        if listener.is_ours and listener.endpoint.startswith("unix:"):
            Path(listener.endpoint.removeprefix("unix:")).unlink(missing_ok=True)


def bind_all(config: Config, given: Mapping[str, socket.socket] | None = None) -> list[Listener]:
    """Bind every configured address, or none; ``given`` are bound already, see ``inherited_sockets``.

    Raises:
        CannotListen: naming the address and the reason.
    """
    left = dict(given or {})
    found: list[Listener] = []
    for service in SERVICES:
        for endpoint in getattr(config.listen, service):
            try:
                bound = left.pop(endpoint_key(endpoint), None)
                is_ours = bound is None
                if bound is None:
                    bound = _bound(endpoint, config.socket_group)
                bound.listen(BACKLOG)
                # Before it is shared: workers inherit the open file with its flags.
                bound.setblocking(False)
            except OSError as exc:
                close_all(found)
                reason = os.strerror(exc.errno) if exc.errno else "unknown error"
                raise CannotListen(f"cannot listen on {endpoint} for {service}: {reason}") from None
            found.append(Listener(service, endpoint, bound, is_ours))
    if left:
        close_all(found)
        raise CannotListen(
            f"systemd hands over a socket for {', '.join(sorted(left))}, which [listen] in the configuration"
            " does not name: make sealbox.socket and the configuration agree"
        )
    return found
