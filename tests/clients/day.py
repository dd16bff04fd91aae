"""A working day of one mail program against a server of its own, and what the server must hold at its end.

Every program does the same day as far as it can, so that one picture of the evening serves all of them; where
a program has no such operation, it says so with ``Day.without`` and changes the picture itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from imapclient import IMAPClient
from running import Server, eventually

from tests.ports import free_port_base

T = TypeVar("T")

PROJECT = "Projects"
NESTED = "Projects/Größe"
ELSEWHERE = "Elsewhere"
NEEDLE = "needle"
"""A word that only the sixth message has."""

MORNING = range(1, 11)
AWAY = range(11, 13)
STANDARD = ("Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash")
OBSERVER = "observer"
_SUBJECT = re.compile(rb"day message ([0-9]+)")
_EXPECTED_WARNING = "the data root does not lie on a LUKS volume"

Flags = frozenset[str]


class DayFailed(AssertionError):
    """The evening is not what the day should have led to."""


def message(number: int) -> bytes:
    """One of the day's messages; the subject tells which."""
    word = NEEDLE if number == 6 else "hay"
    return (
        f"From: Sender {number} <sender{number}@example.org>\r\nTo: demo@localhost\r\n"
        f"Subject: day message {number}\r\nDate: Sat, 21 Nov 2026 08:{number:02d}:00 +0000\r\n"
        f"Message-ID: <day.{number}@example.org>\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"Größe {number}\r\nIn this stack of {word} is a line.\r\n"
    ).encode()


@dataclass
class Picture:
    """Mailboxes with their messages (number in the subject) and flags, and the subscribed names."""

    mailboxes: dict[str, dict[int, Flags]]
    subscribed: set[str]


def evening() -> Picture:
    """What the whole day leads to."""
    boxes: dict[str, dict[int, Flags]] = {name: {} for name in (*STANDARD, PROJECT, NESTED, ELSEWHERE)}
    boxes["INBOX"] = {
        3: frozenset({"\\Flagged"}),
        4: frozenset({"\\Seen"}),
        5: frozenset({"\\Answered"}),
        6: frozenset(),
        9: frozenset(),
        11: frozenset({"\\Flagged"}),
        12: frozenset({"\\Seen"}),
    }
    boxes[NESTED] = {1: frozenset(), 2: frozenset()}
    boxes["Archive"] = {9: frozenset()}
    return Picture(boxes, set(boxes))


@dataclass
class Day:
    """The server, a folder for the program's files, and what happened."""

    client: str
    server: Server
    folder: Path
    picture: Picture = field(default_factory=evening)
    explained: dict[str, str] = field(default_factory=dict)
    """"COMMAND RESULT" of the access log, and why that answer is right."""
    version: str = "?"
    began: float = field(default_factory=time.monotonic)
    observers: int = 0

    def step(self, text: str) -> None:
        """Say what has been done and seen."""
        print(f"  {self.client:<12} {time.monotonic() - self.began:5.1f} s  {text}", flush=True)

    def without(self, text: str) -> None:
        """Say what this program does not have."""
        self.step(f"(not there: {text})")

    def sees(self, what: str, expected: object, found: object) -> None:
        """Compare what the program shows with what it should show."""
        if expected != found:
            raise DayFailed(f"{self.client}: {what}: expected {expected!r}, found {found!r}")
        self.step(f"sees {what}")

    def until(self, what: str, ready: Callable[[], T | None], seconds: float = 30.0) -> T:
        """Wait for something that has to happen; its value."""
        try:
            value: T = eventually(ready, seconds)
        except AssertionError as error:
            raise DayFailed(f"{self.client}: {what}: did not happen in {seconds} s") from error
        self.step(what)
        return value

    @contextmanager
    def observer(self) -> Iterator[IMAPClient]:
        """A connection of ours, told apart in the access log by its ID."""
        server = self.server
        self.observers += 1
        client = IMAPClient("localhost", server.info["imaps"], ssl_context=server.tls(), timeout=30)
        try:
            client.id_({"name": OBSERVER})
            client.login(server.user, server.password)
            yield client
        finally:
            client.logout()

    def begin(self) -> None:
        """An empty INBOX, then the morning's mail, delivered while nobody is there."""
        with self.observer() as client:
            client.select_folder("INBOX")
            client.delete_messages(client.search("ALL"))
            client.expunge()
        self.server.deliver(*map(message, MORNING))
        self.step(f"server is up, {len(MORNING)} messages were delivered")

    def elsewhere(self) -> None:
        """What the user does on another device meanwhile: a folder, a flag, a message gone."""
        with self.observer() as client:
            client.create_folder(ELSEWHERE)
            client.subscribe_folder(ELSEWHERE)
            client.select_folder("INBOX")
            client.add_flags(client.search(["SUBJECT", "day message 5"]), [b"\\Answered"])
            client.delete_messages(client.search(["SUBJECT", "day message 10"]))
            client.expunge()
        self.step("meanwhile, on another device: new folder, 5 answered, 10 expunged")

    def restart(self) -> None:
        """The server goes and comes back; mail is delivered before the program is there again."""
        code = self.server.stop()
        if code:
            raise DayFailed(f"the server ended with {code}")
        self.server.start()
        self.server.deliver(*map(message, AWAY))
        self.step(f"the server was restarted, {len(AWAY)} messages were delivered")

    def look(self) -> Picture:
        """What the server holds now."""
        boxes: dict[str, dict[int, Flags]] = {}
        with self.observer() as client:
            names = [str(name) for _, _, name in client.list_folders()]
            subscribed = {str(name) for _, _, name in client.list_sub_folders()}
            for name in names:
                client.select_folder(name, readonly=True)
                found = client.fetch(client.search("ALL"), ["FLAGS", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"])
                boxes[name] = {}
                for one in found.values():
                    subject = next(value for key, value in one.items() if key.startswith(b"BODY["))
                    numbered = _SUBJECT.search(subject)
                    number = int(numbered[1]) if numbered else 0
                    if number in boxes[name]:
                        raise DayFailed(f"{self.client}: message {number} twice in one mailbox")
                    flags = {flag.decode() for flag in one[b"FLAGS"]} - {"\\Recent"}
                    boxes[name][number] = frozenset(flags)
        return Picture(boxes, subscribed)

    def entries(self) -> list[dict[str, str]]:
        """The program's own lines of the access log; a restart or a second has brought them to disk."""
        lines = []
        for path in sorted((self.server.data / "log").glob("access-*.log")):
            lines += [json.loads(line) for line in path.read_text("ascii").splitlines()]
        return [
            line for line in lines if line["command"].startswith("IMAP ") and line["user_agent"] != OBSERVER
        ]

    def end(self) -> None:
        """Compare the evening with the plan, stop the server, read its logs. Raises DayFailed."""
        found, planned = self.look(), self.picture
        for name in sorted(found.mailboxes.keys() | planned.mailboxes.keys()):
            self.sees(
                f"on the server: {name} as planned", planned.mailboxes.get(name), found.mailboxes.get(name)
            )
        self.sees("on the server: subscriptions as planned", planned.subscribed, found.subscribed)
        code = self.server.stop()
        if code:
            raise DayFailed(f"the server ended with {code}")
        self._read_logs()

    def _read_logs(self) -> None:
        entries = self.entries()
        counts = Counter(line["command"].removeprefix("IMAP ") for line in entries)
        # The one command that IMAPClient sends before it may say who it is.
        counts["CAPABILITY"] -= self.observers
        if not counts["LOGIN"] + counts["AUTHENTICATE"]:
            raise DayFailed(f"{self.client}: the access log shows no login")
        agents = sorted({line["user_agent"] for line in entries} - {""})
        self.step(f"called itself {', '.join(agents) or 'nothing (no ID)'}")
        self.step("sent " + ", ".join(f"{name} {count}" for name, count in sorted((+counts).items())))
        refused = Counter(
            f"{line['command'].removeprefix('IMAP ')} {line['result']}"
            for line in entries
            if line["result"] != "OK"
        )
        for answer, count in refused.items():
            if answer not in self.explained:
                raise DayFailed(f"{self.client}: unexplained answer {answer} ({count} times)")
            self.step(f"was answered {answer} {count} times: {self.explained[answer]}")
        said = self.server.errors().splitlines()
        logged = [line for line in said if _EXPECTED_WARNING not in line and " INFO " not in line]
        if logged:
            raise DayFailed(f"{self.client}: the server's error log is not empty: {logged[:3]}")
        self.step("the server's error log is empty")

    def run(self, *command: str, home: Path | None = None, seconds: float = 120.0) -> bytes:
        """Run a program to its end; its output. Raises DayFailed when it fails."""
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env={**os.environ, "HOME": str(home or self.folder), "LC_ALL": "C.UTF-8"},
            check=False,
        )
        if done.returncode:
            raise DayFailed(f"{command[0]} ended with {done.returncode}: {done.stdout[-3000:]!r}")
        return done.stdout


def spend(client: str, work: Callable[[Day], None], folder: Path, base: int | None = None) -> float:
    """One whole day in an empty folder; its seconds. ``base`` is for the server's ports. Raises DayFailed."""
    began = time.monotonic()
    state = {"XDG_STATE_HOME": str(folder / "state")}
    server = Server(folder / "data", base or free_port_base(), environment=state).start()
    try:
        home = folder / "home"
        home.mkdir()
        day = Day(client, server, home)
        day.begin()
        work(day)
        day.end()
    finally:
        if server.process is not None:
            server.stop()
    took = time.monotonic() - began
    print(f"  {client:<12} {day.version}: a whole day in {took:.1f} s", flush=True)
    return took
