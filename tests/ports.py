"""Ports for what tests start, which neither another run of the tests nor an outgoing connection takes first.

A port found by binding to 0 lies among those the kernel gives to outgoing connections: by the time a server
binds it, it may be the end of one. Each process of tests claims a block below them and hands out its ports.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile

BASE_OFFSETS = (43, 93, 10, 95, 24, 80, 90)
"""What a quick start adds to its port base."""
BASE_STEP = 100
FIRST_PORT, BLOCK_PORTS, BLOCKS = 20_000, 1_500, 8
BASE_PORTS = 1_300
"""The part of a block in which bases lie; single ports come from the rest."""


@functools.cache
def _block() -> int:
    places = [FIRST_PORT + number * BLOCK_PORTS for number in range(BLOCKS)]
    for first in places:
        claim = os.open(f"{tempfile.gettempdir()}/sealbox-ports-{first}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
        else:
            return first  # the lock is held as long as this process lives
    return places[os.getpid() % BLOCKS]


@functools.cache
def _single_ports() -> itertools.cycle[int]:
    return itertools.cycle(range(_block() + BASE_PORTS, _block() + BLOCK_PORTS))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on and that is not handed out again soon. Raises RuntimeError."""
    for port in itertools.islice(_single_ports(), BLOCK_PORTS - BASE_PORTS):
        if _is_free(port):
            return port
    raise RuntimeError("no free port")


def free_port_base(above: int | None = None) -> int:
    """A base whose ports are free at the moment, beyond another one where several are wanted.

    Raises RuntimeError.
    """
    end = _block() + BASE_PORTS - max(BASE_OFFSETS)
    for base in range(_block() if above is None else above + BASE_STEP, end, BASE_STEP):
        if all(_is_free(base + offset) for offset in BASE_OFFSETS):
            return base
    raise RuntimeError("no free ports")
