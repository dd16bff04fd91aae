"""For how long an account is away when it moves to another node, by the size of its mailbox.

    .venv/bin/python -m tests.bench.account_move [--messages 200,20000] [--moves 4]

Two nodes by ``deploy/two-nodes`` (needs PostgreSQL and what its bucket needs), an account that is filled by
``sealbox import`` and then moves back and forth, with a new message before each move. What counts is seen by
a client: from the BYE of its session to its next login, at the other node, each tried every 50 ms.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import os
import re
import smtplib
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.bench.mail_sample import messages
from tests.ports import free_port_base

NAME = "ada@example.org"
TRY_S = 0.05
START_S = 180


class Client(threading.Thread):
    """Somebody who is in, and comes in again as soon as that is possible."""

    def __init__(self, info: dict[str, Any], source: str, target: str) -> None:
        super().__init__()
        self._info, self._source, self._target = info, source, target
        self._is_in = threading.Event()
        self.away_s = 0.0

    def _opened(self, node: str) -> imaplib.IMAP4_SSL:
        tls = ssl.create_default_context(cafile=self._info["cafile"])
        client = imaplib.IMAP4_SSL(
            "127.0.0.1", self._info["nodes"][node]["imaps"], ssl_context=tls, timeout=60
        )
        client.login(NAME, self._info["accounts"][NAME]["password"])
        client.select("INBOX")
        return client

    def come_in(self) -> None:
        """Start, and wait until the session has begun."""
        self.start()
        self._is_in.wait(60)

    def run(self) -> None:
        """Until it is in at the target."""
        client = self._opened(self._source)
        self._is_in.set()
        with suppress(imaplib.IMAP4.error, OSError):
            while True:
                client.noop()
                time.sleep(TRY_S)
        begun = time.monotonic()
        while True:
            try:
                self._opened(self._target).logout()
            except (imaplib.IMAP4.error, OSError):
                time.sleep(TRY_S)
            else:
                self.away_s = time.monotonic() - begun
                return


@contextmanager
def two_nodes() -> Iterator[dict[str, Any]]:
    """What ``deploy/two-nodes`` says of itself, while it runs."""
    words = [sys.executable, "-m", "deploy.two_nodes", "--json", "--port-base", str(free_port_base())]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        found: dict[str, Any] = json.loads(process.stdout.readline())
        yield found
    finally:
        process.terminate()
        process.wait(START_S)


def sealbox(info: dict[str, Any], node: str, *words: str, said: str = "") -> dict[str, Any]:
    """A command at a node; its answer."""
    command = [sys.executable, "-m", "deploy", *words, "--config", info["nodes"][node]["config"], "--json"]
    done = subprocess.run(command, input=said.encode(), stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fill(info: dict[str, Any], count: int) -> None:
    """Put so many messages into INBOX, and have them in the bucket."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        mbox = Path(place, "INBOX.mbox")
        with mbox.open("wb") as file:
            for data, _ in messages(count):
                quoted = re.sub(rb"(?m)^(>*From )", rb">\1", data.replace(b"\r\n", b"\n"))
                file.write(b"From x@example.org Mon Jan  1 00:00:00 2024\n" + quoted + b"\n")
        mbox.chmod(0o644)
        password = f"{info['accounts'][NAME]['password']}\n"
        sealbox(info, "a", "import", NAME, "--from", f"mbox:{mbox}", "--password-stdin", said=password)
    sealbox(info, "a", "backup", "run")


def moved(info: dict[str, Any], source: str, target: str) -> dict[str, Any]:
    """One move, while a client is in and a message has just come."""
    with smtplib.LMTP("127.0.0.1", info["nodes"][source]["lmtp"], local_hostname="x", timeout=60) as lmtp:
        lmtp.sendmail("x@example.org", NAME, b"Subject: just now\r\n\r\nx\r\n")
    client = Client(info, source, target)
    client.come_in()
    answer = sealbox(info, source, "account", "move", NAME, target)
    client.join()
    return {**answer, "away_seconds": round(client.away_s, 2)}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", default="200,20000", help="sizes of the mailbox, ascending")
    parser.add_argument("--moves", type=int, default=4)
    wishes = parser.parse_args()
    with two_nodes() as info:
        filled = 0
        for count in map(int, wishes.messages.split(",")):
            fill(info, count - filled)
            filled = count
            for number in range(wishes.moves):
                source, target = ("a", "b") if number % 2 == 0 else ("b", "a")
                found = moved(info, source, target)
                [used] = sealbox(info, target, "account", "usage", NAME)["accounts"]
                said = {name: found[name] for name in ("seconds", "closed_seconds", "away_seconds")}
                size = {"messages": count, "database_bytes": used["database_bytes"]}
                print(json.dumps({**size, **said}), flush=True)


if __name__ == "__main__":
    main()
