"""What nginx in front costs: sessions in IDLE by way of it, beside as many that come to the server directly.

    .venv/bin/python -m tests.bench.proxy [--accounts N] [--sample N]

The recipe of deploy/nginx in front of one node, on one machine. Each account has one connection over TLS,
from addresses of 127.0.1.0/24, which selects the inbox and begins IDLE. Printed is how long it took for all
to come, how much memory nginx has for each, and how soon EXISTS comes behind LMTP's reply. Argon2 is set low,
so that the time is that of everything else. Needs nginx with its mail module; nothing is installed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploy.first_run import make_certificate
from tests import nginx
from tests.bench import sealbox_root
from tests.bench.compare.peers import Peer, pause, start_ours
from tests.bench.idle import all_come, allow_files, come, percentile, say, user
from tests.bench.process_figures import cpu_ms, machine, memory
from tests.nginx import Nginx
from tests.ports import free_port, free_port_base

NAMES = {"direct": "Sealbox alone", "proxied": "by way of nginx"}
REST_S = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of one way. Latencies are in ms; nginx is None where there is none."""

    sessions: int
    came_s: float
    server_cpu_ms: float
    """Of the server, for each session that came."""
    nginx_cpu_ms: float | None
    nginx_kib: float | None
    """Of one session."""
    told: list[float]


def start(folder: Path, accounts: int) -> tuple[Peer, Nginx]:
    """A server with its accounts and both doors, and what stands in front of one of them."""
    tls = folder / "certificate.pem", folder / "private-key.pem"
    make_certificate(*tls)
    base, door, asking = free_port_base(None), free_port(), free_port()
    ports = {"imaps": base + 93, "pop3s": base + 95, "lmtp": base + 24}
    more = '[node]\nname = "a"\n[proxy]\nnetworks = ["127.0.0.0/8"]\n'
    peer = start_ours(
        *(folder / "server", tls, ports, map(user, range(accounts + 1)), sealbox_root.TINY, 0, more),
        doors={"imap_proxied": f"127.0.0.1:{door}", "auth_http": f"127.0.0.1:{asking}"},
    )
    config = folder / "server" / "sealbox.toml"
    for arguments in (("add", "a", "127.0.0.1:24", "--imap", f"127.0.0.1:{door}"), ("claim",)):
        command = [sys.executable, "-m", "deploy", "node", *arguments, "--config", str(config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    front = Nginx(folder / "nginx", *tls, f"http://127.0.0.1:{asking}/", connections=2 * accounts + 1000)
    return peer, front


def measure(peer: Peer, front: Nginx | None, accounts: int, sample: int) -> Found:
    """All figures of one way to a server that answers."""
    if front is not None:
        peer.ports["imaps"] = front.ports[993]
    nginx_pid = front.process.pid if front is not None and front.process is not None else None
    with ExitStack() as stack:
        stack.callback(come(peer.ports["imaps"], peer.certificate, accounts).close)
        before = memory(nginx_pid).pss if nginx_pid else 0.0
        ran, nginx_ran = cpu_ms(peer.process.pid), cpu_ms(nginx_pid) if nginx_pid else 0.0
        began = time.monotonic()
        watched, came = all_come(peer, accounts, sample, stack)
        came_s = time.monotonic() - began
        server_ms = (cpu_ms(peer.process.pid) - ran) / came
        nginx_ms = (cpu_ms(nginx_pid) - nginx_ran) / came if nginx_pid else None
        pause(REST_S)
        kib = (memory(nginx_pid).pss - before) * 1024 / came if nginx_pid else None
        return Found(came, came_s, server_ms, nginx_ms, kib, watched.told())


def table(found: dict[str, Found]) -> str:
    """All figures, in Markdown."""

    def of(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    rows = {
        "sessions": [f"{one.sessions:,}" for one in found.values()],
        "time until all were there, s": [of(one.came_s) for one in found.values()],
        "CPU of the server for a session that comes, ms": [of(one.server_cpu_ms) for one in found.values()],
        "CPU of nginx for a session that comes, ms": [of(one.nginx_cpu_ms) for one in found.values()],
        "memory of nginx for a session, KiB": [of(one.nginx_kib) for one in found.values()],
        "LMTP reply to EXISTS, p50, ms": [of(percentile(one.told, 50)) for one in found.values()],
        "LMTP reply to EXISTS, p99, ms": [of(percentile(one.told, 99)) for one in found.values()],
    }
    head = ["| | " + " | ".join(NAMES[kind] for kind in found) + " |", "|---|" + "---:|" * len(found)]
    return "\n".join([*head, *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items())])


def run(kinds: Sequence[str], accounts: int, sample: int) -> dict[str, Found]:
    """Measure one way after the other, each with a server of its own."""
    found: dict[str, Found] = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="sealbox-proxy-") as scratch:
            peer, front = start(Path(scratch), accounts)
            try:
                peer.until_ready()
                if kind == "proxied":
                    front.start()
                    while not front.listens():
                        pause(0.1)
                found[kind] = measure(peer, front if kind == "proxied" else None, accounts, sample)
            finally:
                front.stop()
                peer.stop()
        say(table({kind: found[kind]}))
    return found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--accounts", type=int, default=100, help="and as many connections")
    parser.add_argument("--sample", type=int, default=50, help="of them to which mail is delivered")
    options = parser.parse_args()
    if why := nginx.missing():
        parser.error(why)
    allow_files()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    say(f"{machine()}; {files} files each, {os.cpu_count()} cores")
    print(table(run(tuple(NAMES), options.accounts, options.sample)))


if __name__ == "__main__":
    main()
