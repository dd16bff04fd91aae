"""POP3 on one large maildrop: logging in, STAT, LIST and UIDL over TLS.

    PYTHONPATH=. .venv/bin/python tests/bench/maildrop_100k.py [--messages 100000] [--root FOLDER]

Prints a Markdown table: medians of the time and of the CPU time that the server's processes spent, in
milliseconds. With ``--root`` the folder is filled when it is missing, and kept (as for ``store_reads.py``).
"""

from __future__ import annotations

import argparse
import poplib
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mail_sample
import sealbox_root
from mailbox_100k import free_port, stop
from process_figures import cpu_ms, family

from deploy.first_run import make_certificate

START_DEADLINE_S = 60.0
RUNS = 7


class Figures:
    """What was measured; times in milliseconds."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._found: dict[str, list[tuple[float, float]]] = {}

    def take(self, what: str, do: Callable[[], object]) -> None:
        """Do something and keep what it cost."""
        processes = family(self._pid)
        cpu, began = cpu_ms(processes), time.perf_counter()
        do()
        took_ms = (time.perf_counter() - began) * 1000
        self._found.setdefault(what, []).append((took_ms, cpu_ms(processes) - cpu))

    def table(self) -> str:
        """All of it, in Markdown."""
        lines = ["| | ms | CPU, ms |", "|---|---:|---:|"]
        for what, runs in self._found.items():
            wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            lines.append(f"| {what} | {wall:.1f} | {cpu:.1f} |")
        return "\n".join(lines)


def connect(port: int, certificate: Path) -> poplib.POP3_SSL:
    """A connection, as soon as the server answers."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            return poplib.POP3_SSL("127.0.0.1", port, context=context, timeout=60)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def measure(figures: Figures, port: int, certificate: Path) -> None:
    """A session, several times; the account stays open in between, as for a client that comes again."""
    for _ in range(RUNS):
        client = connect(port, certificate)

        def log_in(client: poplib.POP3_SSL = client) -> None:
            client.user(sealbox_root.USER)
            client.pass_(sealbox_root.PASSWORD)

        figures.take("USER and PASS", log_in)
        figures.take("STAT", client.stat)
        figures.take("LIST", client.list)
        figures.take("UIDL", client.uidl)
        figures.take("UIDL of one", lambda client=client: client.uidl(1))
        figures.take("QUIT", client.quit)


def main() -> None:
    """See the module's docstring."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=100_000)
    options.add_argument("--root", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = given.root or folder / "root"
        if not root.exists():
            sealbox_root.make_account(root)
            sealbox_root.fill(root, mail_sample.messages(given.messages))
        tls = (folder / "certificate.pem", folder / "private-key.pem")
        make_certificate(*tls)
        port = free_port()
        server = sealbox_root.start(root, folder, port, *tls, workers=1, service="pop3s")
        try:
            connect(port, tls[0]).quit()
            figures = Figures(server.pid)
            measure(figures, port, tls[0])
            print(figures.table())
        finally:
            stop(server)


if __name__ == "__main__":
    main()
