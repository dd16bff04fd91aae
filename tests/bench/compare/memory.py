"""The rows about memory: servers of their own, since what was there before would be in the figures."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mailstore.keys import Argon2Params
from tests.bench.compare.peers import Peer, pause
from tests.bench.compare.play import Figure, Unit, until_quiet
from tests.bench.compare.site import Site
from tests.bench.compare.size import Size
from tests.bench.raw_imap import RawImap

KEY = "memory"
LOOK_S = 0.02


@dataclass
class MemoryFound:
    """PSS of all processes of one server, in the units of ``figures``."""

    values: dict[str, float] = field(default_factory=dict)


def figures(size: Size) -> dict[str, Figure]:
    """What is measured, by the names under which it is found."""
    return {
        "idle": Figure("memory: no client has come yet", Unit.MIB, at_most=90),
        "peak": Figure(
            f"memory: most during {size.first_logins} first logins at once", Unit.MIB, at_most=400
        ),
        "logins": Figure(f"memory: after {size.first_logins} first logins at once", Unit.MIB, at_most=400),
        "connection": Figure(
            f"memory: one of {size.idle_connections:,} connections in IDLE", Unit.KIB, at_most=50
        ),
    }


def measure(folder: Path, kinds: Sequence[str], size: Size) -> dict[str, MemoryFound]:
    """Start servers, ours with its default Argon2; by the kind of server."""
    found: dict[str, MemoryFound] = {}
    users = [f"memory{number}@example.org" for number in range(size.first_logins)]
    for kind in kinds:
        with Site(folder / f"memory-{kind}", [kind]) as site:
            site.start(users, Argon2Params())
            (peer,) = site.peers
            found[kind] = _measure(peer, users, size)
    return found


def _measure(peer: Peer, users: Sequence[str], size: Size) -> MemoryFound:
    until_quiet([peer], size.quiet_s)
    found = MemoryFound({"idle": peer.look_at_memory().pss})
    clients: list[RawImap] = []

    def come(user: str) -> None:
        client = peer.imap(user)
        client.play(b"SELECT INBOX")
        client.idle()
        clients.append(client)

    with ThreadPoolExecutor(len(users)) as pool:
        coming = [pool.submit(come, user) for user in users]
        seen = [peer.look_at_memory().pss]
        while not all(one.done() for one in coming):
            pause(LOOK_S)
            seen.append(peer.look_at_memory().pss)
        for one in coming:
            one.result()
    found.values["peak"] = max(seen)
    until_quiet([peer], size.quiet_s)
    before = found.values["logins"] = peer.look_at_memory().pss
    for number in range(size.idle_connections):
        come(users[number % len(users)])
    until_quiet([peer], size.quiet_s)
    grown = peer.look_at_memory().pss - before
    found.values["connection"] = grown * 1024 / size.idle_connections
    for client in clients:
        client.close()
    return found
