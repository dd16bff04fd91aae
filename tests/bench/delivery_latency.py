"""How soon a session hears of new mail, beside Dovecot.

    PYTHONPATH=. .venv/bin/python tests/bench/delivery_latency.py [--messages N] [--gap-ms G] [--workers W]

A session waits in IDLE with the inbox selected. Then either a message is delivered over LMTP (Sealbox), and
the time runs from the final reply to EXISTS; or another session gives APPEND (both servers), and the time
runs from its tagged OK. Prints a Markdown table of milliseconds: median, 90th percentile, maximum; EXISTS
that comes before the reply counts as 0. Needs Debian's dovecot-imapd.
"""

from __future__ import annotations

import argparse
import smtplib
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dovecot_root
import mail_sample
import sealbox_root
from mailbox_100k import free_port, machine, stop, until_ready
from raw_imap import RawImap

from deploy.first_run import make_certificate
from tests import dovecot as dovecot_server

Login = Callable[[], RawImap]


class Listener:
    """A session in IDLE that notes when it is told of new mail."""

    def __init__(self, client: RawImap) -> None:
        client.command(b"SELECT INBOX")
        self.told: list[float] = []
        self.more = threading.Event()
        self._connection = client._socket
        self._connection.sendall(b"idle IDLE\r\n")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while data := self._connection.recv(65_536):
            if b" EXISTS" in data:
                self.told.append(time.perf_counter())
                self.more.set()


def measure(name: str, listener: Listener, send: Callable[[], None], count: int, gap_s: float) -> str:
    """A line of the table: ``send`` one message at a time."""
    taken = []
    for _ in range(count):
        listener.more.clear()
        send()
        answered = time.perf_counter()
        if not listener.more.wait(10):
            raise TimeoutError("no EXISTS within ten seconds")
        taken.append(max(listener.told[-1] - answered, 0.0) * 1000)
        time.sleep(gap_s)
    taken.sort()
    figures = (statistics.median(taken), taken[len(taken) * 9 // 10], taken[-1])
    return f"| {name} | " + " | ".join(f"{one:.2f}" for one in figures) + " |"


def appending(client: RawImap) -> Callable[[], None]:
    """Gives APPEND with a message of 10 KB."""
    data = mail_sample.plain_10k(1)
    line = b"APPEND INBOX {%d+}\r\n%s" % (len(data), data)
    return lambda: client.command(line) and None


def delivering(path: Path) -> Callable[[], None]:
    """Delivers the same message over the LMTP socket, by one connection."""
    lmtp = smtplib.LMTP(str(path), local_hostname="localhost")
    data = mail_sample.plain_10k(1)

    def send() -> None:
        lmtp.sendmail("sender@example.org", [sealbox_root.USER], data)

    return send


def sealbox(options: argparse.Namespace, folder: Path, tls: tuple[Path, Path]) -> None:
    """Our two lines."""
    root = folder / "root"
    sealbox_root.make_account(root)
    port = free_port()
    server = sealbox_root.start(root, folder, port, *tls, workers=options.workers)
    with ExitStack() as closing:
        closing.callback(stop, server)
        until_ready(server, port, tls[0])

        def login() -> RawImap:
            client = RawImap(port, tls[0])
            client.command(f'LOGIN "{sealbox_root.USER}" "{sealbox_root.PASSWORD}"'.encode())
            return client

        rest = options.messages, options.gap_ms / 1000
        print(measure("Sealbox, LMTP", Listener(login()), delivering(folder / "lmtp.sock"), *rest))
        print(measure("Sealbox, APPEND", Listener(login()), appending(login()), *rest), flush=True)


def dovecot(options: argparse.Namespace, folder: Path, tls: tuple[Path, Path]) -> None:
    """The line of the peer."""
    port = free_port()
    place = folder / "dovecot"
    place.mkdir()
    folder.chmod(0o755)
    server = dovecot_server.start(place, dovecot_server.Setup(port, *tls, "mdbox"))
    with ExitStack() as closing:
        closing.callback(stop, server)
        until_ready(server, port, tls[0])

        def login() -> RawImap:
            client = RawImap(port, tls[0])
            client.command(f'LOGIN "{dovecot_root.USER}" "{dovecot_server.PASSWORD}"'.encode())
            return client

        rest = options.messages, options.gap_ms / 1000
        print(
            measure(f"{dovecot_server.version()} mdbox, APPEND", Listener(login()), appending(login()), *rest)
        )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    parser.add_argument("--workers", type=int, default=0, help="of Sealbox; 0: one per core")
    options = parser.parse_args()
    socket.setdefaulttimeout(60)
    print(machine())
    print("| ms from the reply to EXISTS | median | 90 % | maximum |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as scratch:
        folder = Path(scratch)
        tls = (folder / "certificate.pem", folder / "private-key.pem")
        make_certificate(*tls)
        sealbox(options, folder, tls)
        dovecot(options, folder, tls)


if __name__ == "__main__":
    main()
