"""Start a server in this process: checks first, then sockets, then the supervisor until it is stopped."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from twisted.internet.epollreactor import EPollReactor

from deploy.config import Config
from deploy.forking import start
from deploy.logs import setup
from deploy.luks import is_on_luks, plain_swaps
from deploy.metrics.folder import folder_for, make_empty
from deploy.notify import inherited_sockets, keep_watchdog, notify
from deploy.sockets import SERVICES, CannotListen, Listener, bind_all, bind_for_metrics, close_all
from deploy.supervisor import Supervisor, lock_path
from mailstore.account import has_directory, init_root
from mailstore.damage import GUIDE, SERVER_SECTION
from mailstore.directory import call_node, directory_place, has_stale_directory, put_directory
from mailstore.durable import storage_errors
from mailstore.errors import DirectoryEmpty, StorageFull
from mailstore.keys import process_hardening
from mailstore.lease import put_lease
from mailstore.server_key import DirectoryUnderKey, Found, WrongServerKey, is_begun

log = logging.getLogger("sealbox.serve")

UNENCRYPTED = (
    "the data root does not lie on a LUKS volume: put it on one (sealbox volume create), or set "
    "allow_unencrypted_volume = true to serve from it all the same"
)
UNENCRYPTED_ALLOWED = (
    "the data root does not lie on a LUKS volume; serving from it because allow_unencrypted_volume is set"
)

PLAIN_SWAP = (
    "swap on %s is not encrypted, and memory may be written to it: turn it off (swapoff) or encrypt it "
    "(crypttab(5), option swap), or set allow_unencrypted_volume = true to serve all the same"
)
PLAIN_SWAP_ALLOWED = "swap on %s is not encrypted; serving because allow_unencrypted_volume is set"

STALE_DIRECTORY = (
    "[directory] url puts the directory into PostgreSQL, but %s has a directory of its own, too: once its"
    " accounts are in PostgreSQL ('sealbox directory import'), move directory.db and directory.db-* elsewhere"
)


UNDER_KEY = (
    "the directory in PostgreSQL is sealed with a key that is derived from this server's: write that into a"
    " file first ('sealbox directory key FILE') and name it in [directory] key_file"
)


class CannotServe(Exception):
    """The server refuses to start; the text is one sentence for the operator."""


class CannotBind(CannotServe):
    """An address is in use, or this user may not listen on it."""


def check_volume(config: Config) -> None:
    """Serve from LUKS and without plain swap only, unless the operator has allowed otherwise.

    What is allowed is logged at every start.

    Raises:
        CannotServe: the volume or the swap is not encrypted, and that was not allowed.
    """
    swaps = ", ".join(plain_swaps())
    if not is_on_luks(config.data):
        if not config.allow_unencrypted_volume:
            raise CannotServe(UNENCRYPTED)
        log.warning(UNENCRYPTED_ALLOWED)
    if swaps:
        if not config.allow_unencrypted_volume:
            raise CannotServe(PLAIN_SWAP % swaps)
        log.warning(PLAIN_SWAP_ALLOWED, swaps)


def hindrances(config: Config) -> list[str]:
    """What would keep a server of this configuration from starting here, one sentence each.

    Only what can be seen without starting it: not whether its addresses are free.
    """
    found = []
    if not config.allow_unencrypted_volume:
        # The server makes the data root where it is missing.
        there = next(one for one in (config.data, *config.data.absolute().parents) if one.exists())
        found += [] if is_on_luks(there) else [UNENCRYPTED]
        swaps = ", ".join(plain_swaps())
        found += [PLAIN_SWAP % swaps] if swaps else []
    put_directory(config.data, config.directory.place())
    call_node(config.data, config.node.name or None)
    put_lease(config.data, config.node.lease_s, config.node.lease_margin_s)
    if has_stale_directory(config.data):
        found.append(STALE_DIRECTORY % config.data)
    for service in SERVICES:
        for endpoint in getattr(config.listen, service):
            folder = Path(endpoint.removeprefix("unix:")).parent
            if endpoint.startswith("unix:") and not folder.is_dir():
                found.append(
                    f"listen.{service}: the folder {folder} is not there, so no socket can be made in it:"
                    " make it, for the server's user (install -d -o sealbox -g sealbox)"
                )
    return found


def check_made(data: Path) -> None:
    """Refuse a folder without a directory: an unmounted volume must not become a new, empty server.

    Raises:
        CannotServe, DirectoryEmpty: there is none; senders would be told that nobody lives here.
    """
    if has_stale_directory(data):
        raise CannotServe(STALE_DIRECTORY % data)
    if not has_directory(data):
        if directory_place(data) is not None:
            raise DirectoryEmpty
        raise CannotServe(
            f"there is no directory of accounts in {data}: is the volume mounted?"
            " On a new server 'sealbox account add' or 'sealbox domain add' makes it first"
        )


def check_not_served(data: Path) -> None:
    """Refuse a data root that a server runs on, before anything in it is changed.

    Raises:
        CannotServe: one does.
    """
    if lock_path(data).exists():
        os.close(_lock(data))


def _lock(data: Path) -> int:
    """Hold the data root for this server until the process ends."""
    descriptor = os.open(lock_path(data), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotServe("another server runs on this data root: stop it first") from None
    return descriptor


def _bind(config: Config) -> tuple[list[Listener], list[socket.socket]]:
    """The doors, and those of the metrics. Raises CannotBind."""
    listeners: list[Listener] = []
    try:
        listeners = bind_all(config, inherited_sockets())
        return listeners, bind_for_metrics(config)
    except CannotListen as exc:
        close_all(listeners)
        raise CannotBind(str(exc)) from None


def _tell_argon2(config: Config) -> None:
    each_mib = config.unlock.argon2_memory_budget_mib
    log.info(
        "logins may use %d MiB for Argon2 at a time: %d MiB in each of %d workers (argon2.memory_budget_mib)",
        each_mib * config.workers,
        each_mib,
        config.workers,
    )


def _make_room_for_metrics(config: Config) -> None:
    """An empty folder for the workers' numbers. Without it they serve all the same."""
    folder = folder_for(config.data)
    try:
        make_empty(folder, config.workers, config.store.min_free_bytes)
    except StorageFull:
        log.error("no metrics until the next start: the disk of %s is nearly full", folder)
    except OSError as exc:
        log.error("no metrics until the next start: %s cannot be made (errno %s)", folder, exc.errno)


def _finish_key_exchange(data: Path) -> None:
    """Go on with what 'sealbox server-key rotate' has begun. Raises CannotServe, StoreError."""
    if not is_begun(data):
        return
    from backup.key_rotation import finish  # not kept in the memory of every server

    try:
        found = finish(data, int(time.time() * 1000))
    except WrongServerKey:
        raise CannotServe(
            f"directory.db is damaged, or server.key is not the one it was made with: see {GUIDE},"
            f' "{SERVER_SECTION}"'
        ) from None
    except DirectoryUnderKey:
        raise CannotServe(UNDER_KEY) from None
    if found is Found.FINISHED:
        log.info("the server's key was exchanged: everything is under the new one")
    elif found is Found.WAITING:
        log.warning(
            "a new server's key was made and is not in its place, so the present one stays in use:"
            " put it there, or 'sealbox server-key rotate --abandon'"
        )


def run(config: Config, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``on_ready`` is called once every worker accepts connections.

    Raises:
        CannotServe: naming what is in the way.
        StoreError: the data root cannot be prepared.
    """
    os.umask(0o077)
    setup(config.log_settings, "supervisor")
    process_hardening()
    # Create the folder, then check which volume it is on, and only then write into it.
    with storage_errors():
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_volume(config)
    put_directory(config.data, config.directory.place())
    call_node(config.data, config.node.name or None)
    put_lease(config.data, config.node.lease_s, config.node.lease_margin_s)
    check_made(config.data)
    _finish_key_exchange(config.data)
    init_root(config.data)
    lock = _lock(config.data)
    try:
        listeners, for_metrics = _bind(config)
    except CannotBind:
        os.close(lock)
        raise
    if config.metrics.listen:
        _make_room_for_metrics(config)
    # Not installed: the workers, which are copies of this process, install one of their own.
    reactor = EPollReactor()
    _tell_argon2(config)

    def ready() -> None:
        notify("READY=1")
        on_ready()

    supervisor = Supervisor(reactor, config, listeners, ready, partial(start, reactor), for_metrics)
    reactor.callWhenRunning(supervisor.start)
    reactor.callWhenRunning(keep_watchdog, reactor, lambda: supervisor.is_serving)
    # What garbage collection never looks at stays in pages that all processes share.
    gc.collect()
    gc.freeze()
    reactor.run()
    close_all(listeners)
    for bound in for_metrics:
        bound.close()
    os.close(lock)
    if supervisor.failed:
        raise CannotServe("the server could not start: its log says why")
