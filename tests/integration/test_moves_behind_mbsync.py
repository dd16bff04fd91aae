"""A mail program goes on by way of nginx while its account moves from node to node, ten times."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
import subprocess
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


def delivered(info: dict[str, Any], node: str, number: int) -> bool:
    """Whether a node has answered 250 for a message; otherwise its sender would keep it."""
    try:
        with smtplib.LMTP("127.0.0.1", info["nodes"][node]["lmtp"], "localhost", timeout=STEP_S) as lmtp:
            lmtp.sendmail("me@example.net", [ADA], f"Subject: number {number}\r\n\r\nworld\r\n")
    except (smtplib.SMTPException, OSError):
        return False
    return True


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
    before, samples, taken = validity(info), len(maildir(tmp_path / "one")), 0
    for turn in range(MOVES):
        here, there = ("a", "b") if turn % 2 == 0 else ("b", "a")
        move = subprocess.Popen(
            [*SEALBOX, "account", "move", ADA, there, "--config", info["nodes"][here]["config"], "--json"],
            stdout=subprocess.DEVNULL,
        )
        while move.poll() is None:
            taken += delivered(info, "ab"[taken % 2], taken)
            mbsync(config)
        assert move.returncode == 0
        eventually(lambda: mbsync(config), STEP_S)
        mark(inbox)
        eventually(lambda: mbsync(config), STEP_S)
    assert validity(info) == before
    here, found = maildir(tmp_path / "one"), sum(1 for _ in inbox.glob("[cn]*/*"))
    assert taken >= MOVES and len(here) == found == samples + taken
    again = mbsync_config(tmp_path / "two", account)
    assert mbsync(again)
    assert maildir(tmp_path / "two") == here
    assert sum("F" in flags for flags in here.values()) == MOVES
