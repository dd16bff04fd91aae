"""POP3 on one large maildrop: logging in, STAT, LIST and UIDL over TLS.

    .venv/bin/python -m tests.bench.maildrop_100k [--messages 100000]

Prints a Markdown table: medians of the time and of the CPU time that the server's processes spent, in
milliseconds.
"""

from __future__ import annotations

import argparse
import poplib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import mail_sample, sealbox_root
from tests.bench.compare.peers import OURS, fill
from tests.bench.compare.site import Site
from tests.bench.process_figures import cpu_ms
from tests.bench.raw_imap import client_context

RUNS = 7


class Figures:
    """What was measured; times in milliseconds."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._found: dict[str, list[tuple[float, float]]] = {}

    def take(self, what: str, do: Callable[[], object]) -> None:
        """Do something and keep what it cost."""
        cpu, began = cpu_ms(self._pid), time.perf_counter()
        do()
        took_ms = (time.perf_counter() - began) * 1000
        self._found.setdefault(what, []).append((took_ms, cpu_ms(self._pid) - cpu))

    def table(self) -> str:
        """All of it, in Markdown."""
        lines = ["| | ms | CPU, ms |", "|---|---:|---:|"]
        for what, runs in self._found.items():
            wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            lines.append(f"| {what} | {wall:.1f} | {cpu:.1f} |")
        return "\n".join(lines)


def connect(port: int, certificate: Path) -> poplib.POP3_SSL:
    """A connection that has been greeted."""
    return poplib.POP3_SSL("127.0.0.1", port, context=client_context(certificate), timeout=60)


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
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder), [OURS]) as site:
        site.start([sealbox_root.USER], workers=1)
        (peer,) = site.peers
        client = peer.imap()
        fill(client, "INBOX", mail_sample.messages(given.messages))
        client.close()
        figures = Figures(peer.process.pid)
        measure(figures, peer.ports["pop3s"], peer.certificate)
        print(figures.table())


if __name__ == "__main__":
    main()
