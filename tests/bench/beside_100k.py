"""How long another session waits while one session works on a mailbox of 100,000 messages.

    .venv/bin/python -m tests.bench.beside_100k [--messages N]

One worker serves both sessions. While the first gives a command about every message, the second sends
NOOP every few milliseconds with no mailbox selected; a third one, where it says so, has the same mailbox
selected and waits in IDLE. Prints a Markdown table in milliseconds: what the command took (median of the
runs), and the median, 99th percentile and maximum that NOOP took meanwhile, over all runs; then the
worker's peak memory after each command.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import mail_sample
from tests.bench.compare.peers import OURS, USER, fill
from tests.bench.compare.rows_read import THUNDERBIRD
from tests.bench.compare.site import Site
from tests.bench.process_figures import machine, memory
from tests.bench.raw_imap import RawImap

PAUSE_S = 0.003
COMMANDS: tuple[tuple[str, bytes], ...] = (
    ("SELECT", b"SELECT INBOX"),
    ("FETCH 1:* (FLAGS)", b"FETCH 1:* (FLAGS)"),
    ("UID FETCH 1:* headers as Thunderbird asks", b"UID FETCH 1:* " + THUNDERBIRD),
    ("SEARCH ALL", b"SEARCH ALL"),
    ("UID SEARCH RETURN (ALL) ALL", b"UID SEARCH RETURN (ALL) ALL"),
    ("STORE 1:* +FLAGS (\\Seen)", b"STORE 1:* +FLAGS (\\Seen)"),
    ("STORE 1:* -FLAGS.SILENT (\\Seen)", b"STORE 1:* -FLAGS.SILENT (\\Seen)"),
)
WITH_IDLE = "the same with a session in IDLE"
LAST: tuple[tuple[str, bytes], ...] = (
    ("COPY 1:*", b"COPY 1:* Archive"),
    ("MOVE 1:*", b"MOVE 1:* Archive"),
)


@dataclass
class Noops:
    """A session that asks for nothing, again and again, and notes how long that takes."""

    client: RawImap
    taken: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def _ask(self) -> None:
        while not self._ended.wait(PAUSE_S):
            self.taken.append(self.client.command(b"NOOP").seconds * 1000)

    def during(self, work: Callable[[], float]) -> float:
        """Ask while ``work`` runs; what it returns."""
        self._ended.clear()
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            return work()
        finally:
            self._ended.set()
            thread.join()


@dataclass
class Bench:
    """The server under test."""

    login: Callable[[], RawImap]
    server_pid: int
    lines: list[str] = field(default_factory=list)

    def measure(self, what: str, line: bytes, runs: int, prepare: tuple[bytes, ...] = ()) -> None:
        """Give a command ``runs`` times, each after the commands in ``prepare``."""
        client = self.login()
        client.command(b"SELECT INBOX")
        noops = Noops(self.login())
        times = []
        for _ in range(runs):
            for before in prepare:
                client.command(before)
            times.append(noops.during(lambda: client.command(line).seconds * 1000))
        client.close()
        noops.client.close()
        waited = sorted(noops.taken)
        slow = waited[min(len(waited) * 99 // 100, len(waited) - 1)]
        figures = (statistics.median(times), statistics.median(waited), slow, waited[-1])
        peak = memory(self.server_pid).largest_peak
        self.lines.append(f"| {what} | " + " | ".join(f"{one:.1f}" for one in figures) + f" | {peak:.0f} |")
        print(self.lines[-1], flush=True)


def idle_reader(client: RawImap, ended: threading.Event) -> None:
    """IDLE in the mailbox, reading whatever comes."""
    client.command(b"SELECT INBOX")
    client.listen(b"IDLE", ended)


def run_all(bench: Bench, runs: int) -> None:
    """Every command of the table."""
    for what, line in COMMANDS:
        bench.measure(what, line, runs)
    ended = threading.Event()
    thread = threading.Thread(target=idle_reader, args=(bench.login(), ended))
    thread.start()
    time.sleep(1.0)
    bench.measure(f"STORE 1:* +FLAGS (\\Flagged), {WITH_IDLE}", b"STORE 1:* +FLAGS (\\Flagged)", 1)
    ended.set()
    thread.join()
    for what, line in LAST:
        bench.measure(what, line, 1)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as folder, Site(Path(folder), [OURS]) as site:
        site.start([USER], workers=1)
        (peer,) = site.peers
        client = peer.imap()
        fill(client, "INBOX", mail_sample.messages(options.messages))
        client.close()
        print("| ms | command | NOOP beside it: median | 99 % | maximum | peak MiB |")
        print("|---|---:|---:|---:|---:|---:|")
        run_all(Bench(peer.imap, peer.process.pid), options.runs)


if __name__ == "__main__":
    main()
