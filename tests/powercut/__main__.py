"""Pull the plug of a whole machine under load, again and again: what it answered 250 or OK for is there.

    .venv/bin/python -m tests.powercut [--rounds 20] [--seed N] [--keep FOLDER] [--kvm]

A virtual machine (qemu) serves from ext4 on LUKS2 with snapshots to a folder outside; deliveries, APPEND,
MOVE, STORE, POP3 downloads and searches reach it over forwarded ports. After some seconds qemu is killed
with -9, which loses everything that was not synced. Then it is started again on the same disk: every message
answered for has to be there once, both integrity checks have to be clean, and the next snapshot of every
account, restored to scratch, has to have the living one's pages. Ends with 1 when anything is wrong.

Needs root, and Debian's qemu-system-x86 seabios busybox-static cryptsetup-bin e2fsprogs kmod cpio. ``--kvm``
is quicker where machines may hold machines.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.powercut import machine
from tests.soak.actors import Actors, everything_in
from tests.soak.ledger import Account, Ledger
from tests.soak.site import PASSWORD, PROJECT, Site

LOAD_S = (3.0, 12.0)
TASK_S = 900.0
GUEST_ROOT = "/data/root"
SHARED = "/tmp/shared"  # as the machine sees it


@dataclass
class Forwarded:
    """What the actors need to know of the server."""

    imaps: int
    pop3s: int
    lmtp: int
    certificate: Path

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the server."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def answers(self) -> bool:
        """Whether the server greets; qemu itself accepts connections before the guest does."""
        try:
            with socket.create_connection(("127.0.0.1", self.lmtp), 1.0) as plain:
                if not plain.recv(1):
                    return False
            with socket.create_connection(("127.0.0.1", self.imaps), 1.0) as plain:
                plain.settimeout(5.0)
                with self.tls().wrap_socket(plain, server_hostname="localhost") as greeting:
                    return bool(greeting.recv(1))
        except OSError:
            return False


def prepare(folder: Path, accounts: list[Account], accelerator: str) -> tuple[machine.Machine, Forwarded]:
    """The machine, and the data root that it begins with."""
    shared = folder / "shared"
    shared.mkdir()
    site = Site(shared, accounts)
    site.root.rename(shared / "seed")
    settings = site.config.read_text().replace(str(site.root), GUEST_ROOT).replace(str(shared), SHARED)
    # An emulated machine takes long to file a backlog, and what comes later than this would be missed.
    settings += f"[store]\nfiling_wait_s = {TASK_S}\n"
    site.config.write_text(settings.replace('"127.0.0.1:', '"0.0.0.0:'))
    ports = {port: port for port in (site.imaps, site.pop3s, site.lmtp)}
    kernel = machine.fetch_kernel(PROJECT / ".powercut")
    made = machine.Machine(folder, kernel, shared, ports, accelerator)
    made.prepare(PROJECT, sys.executable)
    return made, Forwarded(site.imaps, site.pop3s, site.lmtp, site.certificate)


def under_load(forwarded: Forwarded, ledger: Ledger, made: machine.Machine, seconds: float) -> None:
    """Let everybody in, and pull the plug in the midst of it."""
    over = threading.Event()
    actors = Actors(forwarded, ledger, over)  # type: ignore[arg-type]  # all that they use of a site
    steps = (
        *(("LMTP x10", actors.deliver) for _ in range(3)),
        *(("APPEND x5", actors.append) for _ in range(2)),
        ("synchronise", actors.synchronise),
        ("POP3 session", actors.pop),
    )
    threads = [
        threading.Thread(target=actors.repeat, args=(what, step, f"{what} {number} {time.time()}", 0.2))
        for number, (what, step) in enumerate(steps)
    ]
    for thread in threads:
        thread.start()
    try:
        time.sleep(seconds)
    finally:
        over.set()  # nobody begins anything new behind the cut
        made.pull_the_plug()
        for thread in threads:
            thread.join()


def look(forwarded: Forwarded, ledger: Ledger, made: machine.Machine) -> None:
    """Everything answered for is there; both checks are clean; a snapshot from now restores."""
    for account in ledger.accounts:
        ledger.check(account, Counter(everything_in(forwarded, account)))  # type: ignore[arg-type]
    python = f"cd {PROJECT} && {sys.executable} -m"
    made.run("integrity", f"{python} tests.powercut.look {GUEST_ROOT} {PASSWORD}", TASK_S)
    config = f"--config {SHARED}/sealbox.toml"
    made.run("snapshot", f"{python} deploy backup run {config}", TASK_S)
    count = len(ledger.accounts)
    said = made.run("drill", f"{python} deploy backup drill --accounts {count} {config} --json", TASK_S)
    drilled = json.loads(said.splitlines()[-1])["drilled"]
    if len(drilled) != count or not all(one["pages_compared"] for one in drilled):
        ledger.is_wrong("a restored account was not compared with the living one")


def rounds(folder: Path, options: argparse.Namespace) -> int:
    """All of it; the exit code."""
    accounts = [Account(f"user{number}@example.org", kept=number != 2) for number in range(3)]
    ledger, choose = Ledger(accounts), random.Random(options.seed)
    made, forwarded = prepare(folder, accounts, "kvm" if options.kvm else "tcg")
    said = 0
    try:
        made.start(forwarded.answers)
        for number in range(1, options.rounds + 1):
            seconds = choose.uniform(*LOAD_S)
            under_load(forwarded, ledger, made, seconds)
            began = time.monotonic()
            made.start(forwarded.answers)
            back_s = time.monotonic() - began
            look(forwarded, ledger, made)
            answered = sum(len(one.answered) for one in accounts)
            print(
                f"cut {number}: after {seconds:.1f} s of load, back in {back_s:.1f} s,"
                f" {answered:,} messages answered for, {len(ledger.wrong)} wrong",
                flush=True,
            )
            # At once: whatever breaks a later round, this is known.
            for text in ledger.wrong[said:]:
                print(f"WRONG: {text}", flush=True)
            said = len(ledger.wrong)
    finally:
        made.pull_the_plug()
    print("all is well" if not ledger.wrong else f"{len(ledger.wrong)} things are wrong")
    return int(bool(ledger.wrong))


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder for everything; it is not removed")
    parser.add_argument("--kvm", action="store_true")
    options = parser.parse_args()
    if missing := machine.missing():
        raise SystemExit(f"not there: {', '.join(missing)}; apt install {machine.PACKAGES}")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="sealbox-powercut-"))
    folder.mkdir(parents=True, exist_ok=True)
    code = rounds(folder.resolve(), options)
    if not options.keep and code == 0:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
