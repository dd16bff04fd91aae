"""What systemd is told, and tells: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

Anywhere else nothing happens.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Callable, MutableMapping
from typing import Any

log = logging.getLogger("sealbox.systemd")

_FIRST_FD = 3  # SD_LISTEN_FDS_START

LOOK_AGAIN_S = 1.0
"""Seconds until a process that was not well is looked at again; that may have been for a moment."""


def notify(state: str) -> None:
    """Tell systemd about a change of state (Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(state.encode("ascii"), address)
    except OSError as exc:
        log.warning("systemd could not be notified (errno %s)", exc.errno)


def watchdog_s(environment: MutableMapping[str, str] = os.environ) -> float | None:
    """How often systemd wants to hear that this process is well, in seconds; None when it does not ask.

    Half of what it waits, as sd_watchdog_enabled(3) recommends.
    """
    wait, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wait.isdecimal() or int(wait) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(wait) / 2 / 1_000_000


def keep_watchdog(reactor: Any, is_well: Callable[[], bool]) -> None:
    """Say so again and again, as long as it is true; systemd restarts the service that does not."""
    every_s = watchdog_s()
    if every_s is None:
        return

    def tell() -> None:
        if is_well():
            notify("WATCHDOG=1")
            reactor.callLater(every_s, tell)
        else:
            reactor.callLater(min(every_s, LOOK_AGAIN_S), tell)

    tell()


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """The sockets that systemd has bound for us (socket activation), by :func:`endpoint_key`.

    They are taken once: the environment then says nothing of them, to no child either.
    """
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or pid != str(os.getpid()):
        return {}
    found = {}
    for descriptor in range(_FIRST_FD, _FIRST_FD + int(count)):
        os.set_inheritable(descriptor, False)
        given = socket.socket(fileno=descriptor)
        found[_key_of(given)] = given
    return found


def endpoint_key(endpoint: str) -> str:
    """An address of ``[listen]`` in one spelling."""
    if endpoint.startswith("unix:"):
        return endpoint
    host, _, port = endpoint.rpartition(":")
    return f"[{ipaddress.ip_address(host.strip('[]'))}]:{int(port)}"


def _key_of(given: socket.socket) -> str:
    name = given.getsockname()
    if given.family == socket.AF_UNIX:
        return f"unix:{name}"
    return endpoint_key(f"[{name[0]}]:{name[1]}")
