"""What sessions in IDLE of as many accounts cost, and how soon they hear of mail: Sealbox beside Dovecot.

    .venv/bin/python -m tests.bench.idle [--accounts N] [--sample N] [--peers NAME,...]

Each server gets accounts with empty mailboxes, and each account one connection over TLS, from addresses of
127.0.1.0/24, which selects the inbox and begins IDLE. When all is quiet, and has gone to sleep where the
server does that, it prints memory (PSS of all its processes), open files, and CPU time at rest; then mail is
delivered over LMTP to some accounts, one after the other, and the time is taken from LMTP's reply to EXISTS;
and when these sleep again, from DONE and NOOP to NOOP's reply.

The peers: ``asleep`` is Sealbox with ``hibernate_after_s`` = 5, ``awake`` with 0; ``dovecot`` hands IDLE to
imap-hibernate after 5 s and serves many connections with one login process, as its guide has it for large
sites; it needs fs.inotify.max_user_instances at the number of connections. Argon2 is set low. Nothing is
installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import selectors
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from deploy.first_run import make_certificate
from tests.bench import mail_sample, sealbox_root
from tests.bench.compare.peers import PASSWORD, PLAIN, Peer, pause, start_dovecot, start_ours
from tests.bench.process_figures import cpu_ms, family, machine
from tests.bench.raw_imap import client_context
from tests.ports import free_port_base

HIBERNATE_S = 5
REST_S = 10.0
QUIET_SHARE = 0.02
ASLEEP, AWAKE, DOVECOT = "asleep", "awake", "dovecot"
NAMES = {ASLEEP: "Sealbox", AWAKE: "Sealbox, never asleep", DOVECOT: "Dovecot, hibernating"}
CLIENTS = 4
PATIENCE_S = 900.0
GAP_S = 0.05

_HIBERNATE = f"""
imap_hibernate_timeout = {HIBERNATE_S}s
service imap-login {{
  service_count = 0
  client_limit = 10000
  process_min_avail = 2
}}
service imap {{
  extra_groups = dovecot
  unix_listener imap-master {{
    user = dovecot
  }}
}}
service imap-hibernate {{
  client_limit = 10000
  unix_listener imap-hibernate {{
    mode = 0660
    group = dovecot
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of one server. Latencies are in ms."""

    kib_each: float
    mib: float
    files: int
    mail_files: int
    cpu_share: float
    """Of one core, at rest."""
    told: list[float]
    asked: list[float]


def user(number: int) -> str:
    """One of the accounts."""
    return f"idle{number}@example.org"


def come(port: int, certificate: Path, number: int) -> ssl.SSLSocket:
    """A session in IDLE."""
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE_S, (f"127.0.1.{number % 250 + 1}", 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = client_context(certificate).wrap_socket(plain, server_hostname="localhost")
    until(client, b"* OK")
    for tag, line in ((b"a", f'LOGIN "{user(number)}" "{PASSWORD}"'.encode()), (b"b", b"SELECT INBOX")):
        client.sendall(tag + b" " + line + b"\r\n")
        until(client, tag + b" OK")
    client.sendall(b"c IDLE\r\n")
    until(client, b"+")
    return client


def until(client: ssl.SSLSocket, beginning: bytes) -> None:
    """Read up to a line that begins so. Raises ConnectionError, ValueError for NO and BAD."""
    heard = b""
    while not (heard.endswith(b"\r\n") and heard[:-2].rpartition(b"\n")[2].startswith(beginning)):
        more = client.recv(65_536)
        if not more:
            raise ConnectionError("the server closed the connection")
        heard += more
        if any(word in heard for word in (b" NO ", b" BAD ")):
            raise ValueError(heard[-200:].decode("latin-1"))


def hold(port: int, certificate: Path, numbers: Sequence[int], parent: Connection) -> None:
    """A process of clients: they come, say so, and stay until the parent hangs up."""
    allow_files()
    clients = [come(port, certificate, number) for number in numbers]
    parent.send(len(clients))
    try:
        parent.recv()
    except EOFError:
        pass


def allow_files() -> None:
    """As many open files as this user may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def open_files(peer: Peer) -> tuple[int, int]:
    """Open files of all processes of a server, and how many of them are files of mail."""
    count = mail = 0
    for pid in family(peer.process.pid):
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it ended while we looked
        for name in names:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            count += 1
            mail += target.startswith(f"{peer.mail}{'' if peer.kind == DOVECOT else '/accounts'}/")
    return count, mail


def rest(peer: Peer, accounts: int, sleeps: bool) -> None:
    """Wait until the server does next to nothing, and all accounts sleep where it has them sleep."""
    pause(2 * HIBERNATE_S)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        before = cpu_ms(peer.process.pid)
        pause(2.0)
        is_quiet = cpu_ms(peer.process.pid) - before < 2000 * QUIET_SHARE
        processes = len(family(peer.process.pid))
        if is_quiet and (not sleeps or (open_files(peer)[1] < 50 and processes < accounts / 2 + 30)):
            return
    raise TimeoutError("the server does not come to rest")


class Sample:
    """The sessions of the first accounts, looked at by this process."""

    def __init__(self, peer: Peer, count: int) -> None:
        self._peer = peer
        self._clients = [come(peer.ports["imaps"], peer.certificate, number) for number in range(count)]

    def told(self) -> list[float]:
        """From LMTP's reply to EXISTS, account after account."""
        taken = []
        mailer = self._peer.lmtp()
        for number, client in enumerate(self._clients):
            pause(GAP_S)
            mailer.deliver(user(number).encode(), mail_sample.plain_10k(number))
            began = time.perf_counter()
            with selectors.DefaultSelector() as looking:
                looking.register(client, selectors.EVENT_READ)
                heard = b""
                while b" EXISTS" not in heard:
                    if not client.pending() and not looking.select(60):
                        raise TimeoutError("a session in IDLE was not told of new mail")
                    heard += client.recv(65_536)
            taken.append(1000 * (time.perf_counter() - began))
        mailer.close()
        return taken

    def asked(self) -> list[float]:
        """From DONE and NOOP to the reply."""
        taken = []
        for client in self._clients:
            pause(GAP_S)
            began = time.perf_counter()
            client.sendall(b"DONE\r\nd NOOP\r\n")
            until(client, b"d OK")
            taken.append(1000 * (time.perf_counter() - began))
        return taken

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client.close()


def all_come(peer: Peer, accounts: int, sample: int, stack: ExitStack) -> tuple[Sample, int]:
    """One session for each account, until ``stack`` is left: those of the sample, and how many there are."""
    parts = []
    for part in range(CLIENTS):
        ours, theirs = multiprocessing.Pipe()
        numbers = range(sample + part, accounts, CLIENTS)
        arguments = (peer.ports["imaps"], peer.certificate, numbers, theirs)
        process = multiprocessing.get_context("spawn").Process(target=hold, args=arguments)
        process.start()
        theirs.close()
        stack.callback(process.join)
        stack.callback(ours.close)
        parts.append(ours)
    watched = Sample(peer, sample)
    stack.callback(watched.close)
    return watched, sample + sum(part.recv() for part in parts)


def measure(peer: Peer, accounts: int, sample: int, sleeps: bool, say: Callable[[str], None]) -> Found:
    """All figures of one server that has just been started."""
    with ExitStack() as stack:
        for number in range(2 * (os.cpu_count() or 1)):  # what the first sessions cost is no figure of these
            client = come(peer.ports["imaps"], peer.certificate, accounts + number)
            stack.callback(client.close)
        rest(peer, accounts, sleeps)
        before = peer.look_at_memory().pss
        began = time.monotonic()
        watched, came = all_come(peer, accounts, sample, stack)
        say(f"{peer.kind}: {came} sessions in {time.monotonic() - began:.0f} s")
        rest(peer, accounts, sleeps)
        mib = peer.look_at_memory().pss
        files, mail_files = open_files(peer)
        ran = cpu_ms(peer.process.pid)
        pause(REST_S)
        share = (cpu_ms(peer.process.pid) - ran) / 1000 / REST_S
        told = watched.told()
        rest(peer, accounts, sleeps)
        asked = watched.asked()
        return Found((mib - before) * 1024 / came, mib, files, mail_files, share, told, asked)


def start(folder: Path, kind: str, accounts: int) -> Peer:
    """One server with its accounts."""
    tls = folder / "certificate.pem", folder / "private-key.pem"
    make_certificate(*tls)
    base = free_port_base(None)
    ports = {"imaps": base + 93, "pop3s": base + 95, "lmtp": base + 24}
    if kind == DOVECOT:
        peer = start_dovecot(folder / kind, tls, ports, PLAIN, _HIBERNATE)
    else:
        users = map(user, range(accounts + 2 * (os.cpu_count() or 1)))
        after_s = HIBERNATE_S if kind == ASLEEP else 0
        more = f"[store]\nhibernate_after_s = {after_s}\n"
        peer = start_ours(folder / kind, tls, ports, users, sealbox_root.TINY, 0, more)
    peer.kind = kind
    return peer


def percentile(taken: Sequence[float], percent: int) -> float:
    """The latency within which so many of them were."""
    return sorted(taken)[min(len(taken) * percent // 100, len(taken) - 1)]


def table(found: dict[str, Found]) -> str:
    """All figures, in Markdown."""
    rows: list[tuple[str, Callable[[Found], str]]] = [
        ("memory of one connection, KiB", lambda one: f"{one.kib_each:.1f}"),
        ("memory in all, MiB", lambda one: f"{one.mib:.0f}"),
        ("open files", lambda one: f"{one.files:,}"),
        ("open files of mail", lambda one: f"{one.mail_files:,}"),
        ("CPU at rest, % of a core", lambda one: f"{100 * one.cpu_share:.2f}"),
        ("LMTP reply to EXISTS, p50, ms", lambda one: f"{percentile(one.told, 50):.1f}"),
        ("LMTP reply to EXISTS, p99, ms", lambda one: f"{percentile(one.told, 99):.1f}"),
        ("DONE and NOOP to the reply, p50, ms", lambda one: f"{percentile(one.asked, 50):.1f}"),
        ("DONE and NOOP to the reply, p99, ms", lambda one: f"{percentile(one.asked, 99):.1f}"),
    ]
    lines = [
        "| | " + " | ".join(NAMES[kind] for kind in found) + " |",
        "|---|" + "---:|" * len(found),
        *(f"| {name} | " + " | ".join(value(one) for one in found.values()) + " |" for name, value in rows),
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--accounts", type=int, default=100, help="and as many connections")
    parser.add_argument("--sample", type=int, default=50, help="of them to which mail is delivered")
    parser.add_argument("--peers", default=f"{ASLEEP},{DOVECOT}", help=f"of {', '.join(NAMES)}")
    options = parser.parse_args()
    kinds = options.peers.split(",")
    if unknown := set(kinds) - NAMES.keys():
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    allow_files()
    say(machine())
    found: dict[str, Found] = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="sealbox-idle-") as scratch:
            folder = Path(scratch)
            folder.chmod(0o755)  # Dovecot runs as users of its own
            peer = start(folder, kind, options.accounts)
            try:
                peer.until_ready()
                found[kind] = measure(peer, options.accounts, options.sample, kind != AWAKE, say)
                say(table({kind: found[kind]}))
            finally:
                peer.stop()
    print(table(found))


if __name__ == "__main__":
    main()
