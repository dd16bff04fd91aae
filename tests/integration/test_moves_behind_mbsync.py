"""A mail program goes on by way of nginx while its account moves from node to node, ten times."""

from __future__ import annotations

import imaplib
import re
import smtplib
import ssl
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from running import SEALBOX, eventually
from test_clients import maildir, mbsync_config
from test_two_nodes_script import ADA, Script, script

__all__ = ["script"]  # the fixture

pytestmark = pytest.mark.integration

MOVES = 10
STEP_S = 120
"""Seconds after which a program that says nothing is taken to hang."""


def mbsync(config: Path) -> bool:
    """Whether a run of it has done everything."""
    command = ["mbsync", "-c", str(config), "c"]
    done = subprocess.run(command, capture_output=True, timeout=STEP_S, check=False)
    return done.returncode == 0


@dataclass
class Sent:
    """Messages that were brought to the nodes in turn, each with a number of its own."""

    count: int = 0
    taken: list[int] = field(default_factory=list)
    """Those that were answered 250. All others come again in life, so they may be there or not."""

    def bring(self, info: dict[str, Any]) -> None:
        """One more."""
        self.count += 1
        text = f"From: me@example.net\r\nSubject: day message {self.count}\r\n\r\nworld\r\n"
        port = info["nodes"]["ab"[self.count % 2]]["lmtp"]
        with suppress(smtplib.SMTPException, OSError):
            with smtplib.LMTP("127.0.0.1", port, "localhost", timeout=STEP_S) as lmtp:
                lmtp.sendmail("me@example.net", [ADA], text)
            self.taken.append(self.count)

    def agrees(self, found: list[int]) -> bool:
        """Whether what was taken is there, and nothing is there twice; 0 is mail of others."""
        mine = [number for number in found if number]
        return set(self.taken) <= set(mine) and len(set(mine)) == len(mine)


def numbers(inbox: Path) -> list[int]:
    """Those of the messages in a Maildir."""
    texts = (path.read_bytes() for path in inbox.glob("[cn]*/*"))
    return [int(found[1]) for text in texts if (found := re.search(rb"day message ([0-9]+)", text))]


def begun(info: dict[str, Any], turn: int) -> subprocess.Popen[bytes]:
    """The command that moves the account to the other node."""
    here, there = ("a", "b") if turn % 2 == 0 else ("b", "a")
    command = [*SEALBOX, "account", "move", ADA, there, "--json", "--config", info["nodes"][here]["config"]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def validity(info: dict[str, Any]) -> bytes:
    """What STATUS says of UIDVALIDITY, by way of nginx."""
    tls = ssl.create_default_context(cafile=info["cafile"])
    with imaplib.IMAP4_SSL("localhost", info["proxy"]["imaps"], ssl_context=tls, timeout=STEP_S) as client:
        client.login(ADA, info["accounts"][ADA]["password"])
        found: bytes = client.status("INBOX", "(UIDVALIDITY)")[1][0]
        return found


def mark(inbox: Path) -> None:
    """Flag a message of the Maildir as a reader does, one that has no flag yet."""
    path = next(one for one in sorted(inbox.glob("[cn][eu]*/*")) if "F" not in one.name.partition(":2,")[2])
    name, _, flags = path.name.partition(":2,")
    path.rename(inbox / "cur" / f"{name}:2,{''.join(sorted({*flags, 'F'}))}")


def test_a_mail_program_goes_on_while_its_account_moves(script: Script, tmp_path: Path) -> None:
    """What was answered 250 is there once, flags go up, and nothing is fetched twice: UIDs stay."""
    info = script.info()
    account: Any = SimpleNamespace(
        info={"imaps": info["proxy"]["imaps"], "cafile": info["cafile"]},
        user=ADA,
        password=info["accounts"][ADA]["password"],
    )
    config = mbsync_config(tmp_path / "one", account)
    inbox = tmp_path / "one" / "mail" / "INBOX"
    assert mbsync(config)
    before, sent = validity(info), Sent()
    for turn in range(MOVES):
        move = begun(info, turn)
        while move.poll() is None:
            sent.bring(info)
            mbsync(config)
        assert move.returncode == 0
        eventually(lambda: mbsync(config), STEP_S)
        mark(inbox)
        eventually(lambda: mbsync(config), STEP_S)
    assert validity(info) == before
    here = maildir(tmp_path / "one")
    assert len(here) == sum(1 for _ in inbox.glob("[cn]*/*"))
    assert len(sent.taken) >= MOVES and sent.agrees(numbers(inbox))
    again = mbsync_config(tmp_path / "two", account)
    assert mbsync(again)
    assert maildir(tmp_path / "two") == here
    assert sum("F" in flags for flags in here.values()) == MOVES
