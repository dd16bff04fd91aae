"""Core dumps, swapped memory and connections of real processes, below one that holds a server's lock."""

from __future__ import annotations

import resource
import socket
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from privacy_world import served

from deploy.privacy.finding import Finding, State
from deploy.privacy.processes import Address, Process, ip_of, lock_holder, processes_of
from deploy.privacy.running import core_dumps, outgoing_connections, swapped_memory


def processes(lock: Path) -> list[Process]:
    """Those of the server that holds ``lock``."""
    holder = lock_holder(lock)
    assert holder is not None
    return processes_of(holder)


def connections(lock: Path, allowed: Collection[Address] = ()) -> Finding:
    """What is found of them."""
    return outgoing_connections(processes(lock), allowed)


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """Somebody who is not the object store."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_nobody_holds_the_lock(tmp_path: Path) -> None:
    """No file, or one that no process has locked: no server runs."""
    assert lock_holder(tmp_path / "serve.lock") is None
    (tmp_path / "serve.lock").touch()
    assert lock_holder(tmp_path / "serve.lock") is None


def test_doors_and_who_came_in_are_no_outgoing_connections(tmp_path: Path) -> None:
    """A listening socket, and a connection that it has accepted."""
    call_itself = "out = socket.create_connection(doors[0].getsockname())"
    lock = tmp_path / "serve.lock"
    with served(lock, "pass") as port, socket.create_connection(("127.0.0.1", port)):
        found = connections(lock)
    assert found.state is State.HOLDS, found.said
    with served(lock, call_itself):
        assert connections(lock).state is State.BROKEN  # it has called itself: no server does


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_connection_of_a_child_to_a_stranger_is_seen(
    tmp_path: Path, stranger: socket.socket, kind: str
) -> None:
    """TCP or UDP, whoever in the server has opened it."""
    lock, (host, port) = tmp_path / "serve.lock", stranger.getsockname()
    with served(lock, f"out = socket.socket(type=socket.{kind}); out.connect({(host, port)!r})"):
        found = connections(lock)
    assert (found.state, found.promises) == (State.BROKEN, (16,))
    assert f"to 127.0.0.1:{port} by process" in found.said


def test_any_process_may_call_the_directory(tmp_path: Path, stranger: socket.socket) -> None:
    """Where it is in PostgreSQL, and nobody else."""
    lock, (host, port) = tmp_path / "serve.lock", stranger.getsockname()
    with served(lock, f"out = socket.create_connection({(host, port)!r})"):
        found = processes(lock)
    address = (ip_of(host), port)
    assert outgoing_connections(found, (), {address}).state is State.HOLDS
    assert outgoing_connections(found, {address}).state is State.BROKEN


def test_a_datagram_socket_that_may_send_to_anybody_is_seen(tmp_path: Path) -> None:
    """Without a peer; also where its port is that of one of the server's doors."""
    lock = tmp_path / "serve.lock"
    for bound in ('("127.0.0.1", 0)', "doors[0].getsockname()"):
        with served(lock, f"out = socket.socket(type=socket.SOCK_DGRAM); out.bind({bound})"):
            assert connections(lock).state is State.BROKEN


def test_a_socket_over_ipv6_is_seen(tmp_path: Path) -> None:
    """Also to an IPv4 address in its clothes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        lock = tmp_path / "serve.lock"
        child = f'out = socket.socket(socket.AF_INET6); out.connect(("::ffff:127.0.0.1", {port}))'
        with served(lock, child):
            assert f"127.0.0.1:{port}" in connections(lock).said


def test_only_the_snapshot_process_may_call_the_store(tmp_path: Path, stranger: socket.socket) -> None:
    """The same connection of another process is not kept to the promise."""
    lock, (host, port) = tmp_path / "serve.lock", stranger.getsockname()
    store = {(ip_of(host), port)}
    call = f"out = socket.create_connection({(host, port)!r})"
    with served(lock, f'named("snapshots"); {call}'):
        assert connections(lock, store).state is State.HOLDS
        assert connections(lock).state is State.BROKEN
    with served(lock, f'named("worker 0"); {call}'):
        assert connections(lock, store).state is State.BROKEN


def test_a_process_that_may_dump_core_is_seen(tmp_path: Path) -> None:
    """The hard limit counts as well: a process may raise its soft limit up to it."""
    lock = tmp_path / "serve.lock"
    with served(lock, "pass"):
        assert core_dumps(processes(lock)).state is State.HOLDS
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core dumps are forbidden here already")
    with served(lock, "pass", core_bytes=4096):
        found = core_dumps(processes(lock))
    assert (found.state, found.promises) == (State.BROKEN, (1,))


def made_process(proc: Path, status: str) -> Process:
    """A process of a made-up /proc."""
    folder = proc / "7"
    folder.mkdir(parents=True)
    (folder / "status").write_text(status)
    return processes_of(7, proc)[0]


def test_memory_in_plain_swap_is_seen(tmp_path: Path) -> None:
    """As the kernel shows it; in encrypted swap it may be."""
    one = made_process(tmp_path, "Name:\tworker 0\nVmSwap:\t      12 kB\n")
    assert swapped_memory([one], swap_is_plain=True).state is State.BROKEN
    assert swapped_memory([one], swap_is_plain=False).state is State.HOLDS
    assert swapped_memory([replace(one, swapped_kib=0)], swap_is_plain=True).state is State.HOLDS


def test_what_this_user_may_not_see_is_said(tmp_path: Path) -> None:
    """Never passed: a process without readable limits, memory or descriptors."""
    one = made_process(tmp_path, "Name:\tworker 0\n")
    swapped = swapped_memory([one], swap_is_plain=False)
    for found in (core_dumps([one]), swapped, outgoing_connections([one], ())):
        assert found.state is State.UNSEEN
        assert "root" in found.step
