"""One mailbox of 100,000 messages: Sealbox and Debian's Dovecot on this machine, over TLS.

    PYTHONPATH=. .venv/bin/python tests/bench/mailbox_100k.py [--messages N] [--only sealbox|dovecot]
        [--dovecot-format mdbox|sdbox|maildir] [--sealbox-root FOLDER]

Needs Debian's dovecot-imapd. Both get the same messages; loading is not measured. Prints a Markdown
table: for every command the first time it was given, the median of all times, and the median of the CPU
time that the server's processes spent (which other work on the machine disturbs less), in milliseconds;
then memory. Data lies in a temporary folder that is removed afterwards; ``--sealbox-root`` names a root that
``store_reads.py --root`` has filled, and which is copied.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dovecot_root
import mail_sample
import sealbox_root
from process_figures import Memory, cpu_ms, family, memory
from raw_imap import RawImap

from deploy.first_run import make_certificate
from tests import dovecot as dovecot_server

START_DEADLINE_S = 60.0
NEWEST = 50
THUNDERBIRD = (
    b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority"
    b" X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"
)

Login = Callable[[], RawImap]
Line = Callable[[int], bytes]


@dataclass
class Figures:
    """What was measured on one server; times in milliseconds."""

    name: str
    pid: int
    times: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    memory: list[Memory] = field(default_factory=list)
    disk_mib: float = 0.0

    def ask(self, client: RawImap, what: str, line: bytes) -> None:
        """Give a command and keep its wall time and the CPU time that the server's processes took."""
        pids = family(self.pid)
        before = cpu_ms(pids)
        reply = client.command(line)
        self.cpu.setdefault(what, []).append(cpu_ms(pids) - before)
        self.times.setdefault(what, []).append(reply.seconds * 1000)

    def cell(self, what: str) -> str:
        """First wall time, median wall time and median CPU time as the table shows them."""
        times = self.times[what]
        figures = (times[0], statistics.median(times), statistics.median(self.cpu[what]))
        return " | ".join(f"{figure:.1f}" for figure in figures)


def measure(figures: Figures, login: Login, count: int, runs: int) -> None:
    """Give every command ``runs`` times; the cheap ones more often, the costly ones less."""
    for _ in range(runs):
        client = login()
        figures.ask(client, "SELECT after login", b"SELECT INBOX")
        figures.ask(client, "SELECT again", b"SELECT INBOX")
        client.close()
    client = login()
    client.command(b"SELECT INBOX")
    for what, times, line in few_messages(count, runs):
        repeat(figures, client, times, what, line)
    for at in range(3):
        figures.ask(client, "STORE 1:* +FLAGS (\\Seen)", b"STORE 1:* +FLAGS (\\Seen)")
        again = min(12, count) if at == 2 else count
        client.command(b"STORE 1:%d -FLAGS.SILENT (\\Seen)" % again)
    repeat(figures, client, runs, "SEARCH UNSEEN, 12 match", lambda _: b"SEARCH UNSEEN")
    word = mail_sample.RARE_WORD.encode()
    repeat(figures, client, 3, "SEARCH SUBJECT word, 1 % match", lambda _: b"SEARCH SUBJECT " + word)
    every = b"UID FETCH 1:* " + THUNDERBIRD
    repeat(figures, client, 2, "UID FETCH 1:* headers as Thunderbird asks", lambda _: every)
    client.close()


def few_messages(count: int, runs: int) -> list[tuple[str, int, Line]]:
    """The commands that leave most messages as they are: name, how often, and the line of each run."""
    pages = [(max(count - NEWEST * at - NEWEST, 0) + 1, count - NEWEST * at) for at in range(runs)]
    step = count // (4 * runs) or 1

    def headers(at: int) -> bytes:
        return b"UID FETCH %d:%d %s" % (*pages[at], THUNDERBIRD)

    return [
        ("FETCH 1:* (FLAGS)", runs, lambda _: b"FETCH 1:* (FLAGS)"),
        ("FETCH 1:* (UID FLAGS)", runs, lambda _: b"FETCH 1:* (UID FLAGS)"),
        ("UID FETCH of 50: headers as Thunderbird asks, not asked before", runs, headers),
        ("the same again", runs, headers),
        (
            "UID FETCH of 50: (ENVELOPE BODYSTRUCTURE)",
            runs,
            lambda at: b"UID FETCH %d:%d (UID FLAGS ENVELOPE BODYSTRUCTURE)" % pages[at],
        ),
        ("UID FETCH one BODY.PEEK[]", 3 * runs, lambda at: b"UID FETCH %d (BODY.PEEK[])" % (1 + at * step)),
        (
            "STORE one +FLAGS (\\Flagged)",
            3 * runs,
            lambda at: b"STORE %d +FLAGS (\\Flagged)" % (1 + at * step),
        ),
        ("NOOP", 9 * runs, lambda _: b"NOOP"),
        ("SEARCH UNSEEN, all match", runs, lambda _: b"SEARCH UNSEEN"),
    ]


def repeat(figures: Figures, client: RawImap, runs: int, what: str, line: Line) -> None:
    """Measure one command ``runs`` times; ``line`` is told the number of the run."""
    for at in range(runs):
        figures.ask(client, what, line(at))


def until_ready(server: subprocess.Popen[bytes], port: int, certificate: Path) -> None:
    """Wait until the server greets."""
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            RawImap(port, certificate).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server does not start") from None
            time.sleep(0.05)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and wait for it."""
    server.send_signal(signal.SIGTERM)
    server.wait(60)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def disk_mib(folder: Path) -> float:
    """MiB that the files below take on the disk."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 2**20


def run(
    figures: Figures,
    server: subprocess.Popen[bytes],
    login: Login,
    options: argparse.Namespace,
    mail: Path,
    fill: Callable[[], None] | None,
) -> Figures:
    """Measure a server that has been started, then stop it."""
    try:
        if fill is not None:
            fill()
        figures.memory.append(memory(server.pid))
        measure(figures, login, options.messages, options.runs)
        client = login()
        client.command(b"SELECT INBOX")
        figures.memory.append(memory(server.pid))
        client.close()
    finally:
        stop(server)
    figures.disk_mib = disk_mib(mail)
    return figures


def sealbox(options: argparse.Namespace, folder: Path, tls: tuple[Path, Path]) -> Figures:
    """Measure Sealbox."""
    root = folder / "root"
    if options.sealbox_root:
        shutil.copytree(options.sealbox_root, root)
    else:
        sealbox_root.make_account(root)
        sealbox_root.fill(root, mail_sample.messages(options.messages))
    port = free_port()
    server = sealbox_root.start(root, folder, port, *tls)

    def login() -> RawImap:
        client = RawImap(port, tls[0])
        client.command(f'LOGIN "{sealbox_root.USER}" "{sealbox_root.PASSWORD}"'.encode())
        return client

    until_ready(server, port, tls[0])
    return run(Figures("Sealbox", server.pid), server, login, options, root, None)


def dovecot(options: argparse.Namespace, folder: Path, tls: tuple[Path, Path]) -> Figures:
    """Measure Dovecot."""
    place = folder / "dovecot"
    place.mkdir()
    port = free_port()

    def login() -> RawImap:
        client = RawImap(port, tls[0])
        client.command(f'LOGIN "{dovecot_root.USER}" "{dovecot_server.PASSWORD}"'.encode())
        return client

    def fill() -> None:
        client = login()
        dovecot_root.fill(client, mail_sample.messages(options.messages))
        client.close()

    server = dovecot_server.start(place, dovecot_server.Setup(port, *tls, options.dovecot_format))
    until_ready(server, port, tls[0])
    name = f"{dovecot_server.version()} {options.dovecot_format}"
    return run(Figures(name, server.pid), server, login, options, place / "mail", fill)


def table(found: list[Figures]) -> str:
    """Everything measured, in Markdown."""
    lines = [
        "| ms | " + " | ".join(f"{one.name}: first | median | CPU" for one in found) + " |",
        "|---|" + "---:|---:|---:|" * len(found),
    ]
    lines += [f"| {what} | " + " | ".join(one.cell(what) for one in found) + " |" for what in found[0].times]
    lines += [
        _memory_line("memory of all processes (PSS, MiB): before, after", found, lambda m: m.pss),
        _memory_line(
            "peak of the largest process (VmHWM, MiB): before, after", found, lambda m: m.largest_peak
        ),
        _memory_line("processes: before, after", found, lambda m: m.processes),
        "| mailbox on the disk (MiB) |" + "".join(f" | {one.disk_mib:.0f} | |" for one in found),
    ]
    return "\n".join(lines)


def _memory_line(what: str, found: list[Figures], value: Callable[[Memory], float]) -> str:
    return (
        f"| {what} | "
        + " | ".join(f"{value(one.memory[0]):.0f} | {value(one.memory[1]):.0f} |" for one in found)
        + " |"
    )


def machine() -> str:
    """One line about where this ran, and how busy it was with other things."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f} before"
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", choices=("sealbox", "dovecot"))
    parser.add_argument("--dovecot-format", choices=("mdbox", "sdbox", "maildir"), default="mdbox")
    parser.add_argument("--sealbox-root", type=Path)
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="sealbox-bench-") as scratch:
        folder = Path(scratch)
        tls = (folder / "certificate.pem", folder / "private-key.pem")
        make_certificate(*tls)
        found = []
        for name, one in (("sealbox", sealbox), ("dovecot", dovecot)):
            if options.only in (None, name):
                found.append(one(options, folder, tls))
                print(f"{name} measured", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
