"""All checks, in two groups: what needs to see much, and what opens databases as the owner of the data."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from backup.job import Places
from backup.state import STATE_FILE, State
from deploy.config import Config
from deploy.luks import is_on_luks, plain_swaps
from deploy.object_store import answers_as, is_encrypted_on_the_way, open_store, store_address
from deploy.privacy import files, kept, machine, ports, running
from deploy.privacy.finding import Check, Finding
from deploy.privacy.processes import Address, IpAddress, Process, ip_of, lock_holder, processes_of
from deploy.supervisor import lock_path
from mailstore.account import account_paths, open_directory, orphan_folders, read_server_key
from mailstore.durable import storage_errors
from mailstore.errors import StoreError
from mailstore.set_aside import replaced_copies
from mailstore.this_node import may_be_here
from protocols.log_age import log_files

_DNS_PORT = 53
_RESOLV_CONF = Path("/etc/resolv.conf")
_PROCESSES = Check("processes", (1, 2, 16))


def of_the_machine(config: Config) -> Iterator[Finding]:
    """What is seen from outside: volume, files, logs, processes, ports. No database is opened.

    To be called as root for everything to be seen. Raises StorageFailed.
    """
    now_s = time.time()
    plain = plain_swaps()
    yield machine.volume(is_on_luks(config.data))
    yield machine.swap(plain)
    with storage_errors():
        found = [*files.entries(config.data)]
        yield files.modes(found, config)
        yield files.content(found, config.data)
        yield files.secrets(config)
        yield kept.logs(log_files(config.log_folder, now_s, config.log_limits))
        holder = lock_holder(lock_path(config.data))
    if holder is None:
        yield _PROCESSES.unseen("no server runs on this data root", "start it")
    else:
        processes = processes_of(holder)
        yield running.core_dumps(processes)
        yield running.swapped_memory(processes, bool(plain))
        allowed = _allowed(config, processes)
        yield running.outgoing_connections(processes, allowed, _of_directory(config) | _of_nodes(config))
    yield from ports.ports(config, now_s)


def of_the_data(config: Config) -> Iterator[Finding]:
    """What the server's own databases say; to be called as the owner of the data.

    Raises StoreError, BackupError.
    """
    now_s, now_ms = kept.now()
    directory = open_directory(config.data)
    try:
        records = directory.accounts()
        accounts = [one.account_id for one in records]
        here = [one.account_id for one in records if may_be_here(config.data, one)]
        orphans = orphan_folders(config.data, directory)
    finally:
        directory.close()
    unfinished = [one for one in here if not account_paths(config.data, one).keys.exists()]
    yield kept.deletions(unfinished, orphans)
    copies = replaced_copies(config.data)
    yield kept.in_transit(is_encrypted_on_the_way(config.backup))
    yield kept.set_aside(copies, set(map(str, accounts)), config.snapshots.retention_s, now_s)
    folder = Places(config.data).folder
    if not config.backup.store or not (folder / STATE_FILE).exists():
        yield kept.nothing_stored()
        return
    state = State(folder, read_server_key(config.data))
    try:
        yield kept.on_record(state, now_ms, config.snapshots)
        yield kept.in_store(open_store(config.backup, config.snapshots), state, now_ms, config.snapshots)
    finally:
        state.close()


def _allowed(config: Config, processes: Sequence[Process]) -> set[Address]:
    """The object store's addresses, and the name servers', that the snapshot process may connect to."""
    address = store_address(config.backup)
    if address is None:
        return set()
    host, port = address
    store = _addresses(host, port)
    others = running.called_by_snapshots(processes) - store
    store |= {one for one in others if one[1] == port and answers_as(host, (str(one[0]), port))}
    return store | {(ip, _DNS_PORT) for ip in _name_servers()}


def _of_directory(config: Config) -> set[Address]:
    """The addresses of the directory in PostgreSQL, and the name servers', that all processes may use."""
    place = config.directory.place()
    hosts = [] if place is None else place.hosts()
    found = {one for host, port in hosts for one in _addresses(host, port)}
    return found | {(ip, _DNS_PORT) for ip in _name_servers()} if found else set()


def _of_nodes(config: Config) -> set[Address]:
    """The addresses of other nodes, to which workers bring mail, and the name servers'."""
    if config.node.files() is None or config.directory.place() is None:
        return set()
    try:
        with closing(open_directory(config.data)) as directory:
            nodes = directory.nodes()
    except StoreError:
        return set()
    places = [one.address.rpartition(":") for one in nodes]
    found = {one for host, _, port in places for one in _addresses(host.strip("[]"), int(port))}
    return found | {(ip, _DNS_PORT) for ip in _name_servers()}


def _addresses(host: str, port: int) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {(ip_of(str(one[4][0])), port) for one in found}


def _name_servers() -> Iterator[IpAddress]:
    try:
        lines = _RESOLV_CONF.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                yield ip_of(words[1])
            except ValueError:
                continue
