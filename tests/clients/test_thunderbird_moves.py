"""Thunderbird goes on by way of nginx while its account moves from node to node, ten times."""

from __future__ import annotations

import base64
import shutil
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from day import Day
from day_thunderbird import NEEDS, SETTLE_IN, Thunderbird, preferences_of
from imapclient import IMAPClient
from marionette import MarionetteError
from running import eventually
from test_moves_behind_mbsync import MOVES, STEP_S, Sent, begun, validity
from test_two_nodes_script import ADA, Script, script

__all__ = ["script"]  # the fixture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not all(map(shutil.which, NEEDS)), reason="Thunderbird or Xvfb is not installed"),
]


_SHOWN = 'folder("INBOX").updateFolder(null); return shown("INBOX")'


def agree(bird: Thunderbird, sent: Sent) -> bool:
    """Whether the INBOX shows what was taken, when it is opened again; its connection may just have ended."""
    with suppress(MarionetteError):
        return sent.agrees(bird.run(_SHOWN))
    return False


def flagged(info: dict[str, Any]) -> int:
    """How many messages are flagged on the server."""
    tls = ssl.create_default_context(cafile=info["cafile"])
    with IMAPClient("localhost", info["proxy"]["imaps"], ssl_context=tls) as client:
        client.login(ADA, info["accounts"][ADA]["password"])
        client.select_folder("INBOX", readonly=True)
        return len(client.search("FLAGGED"))


def moved_about(bird: Thunderbird, day: Day, info: dict[str, Any]) -> None:
    """Ten moves, with mail and flags before, during and after each."""
    before, validity_before, sent = flagged(info), validity(info), Sent()
    for turn in range(MOVES):
        sent.bring(info)
        assert sent.taken[-1] == sent.count
        eventually(partial(agree, bird, sent), STEP_S)
        move = begun(info, turn)
        bird.run('folder("INBOX").markMessagesFlagged(headers("INBOX", ...given), true)', sent.count)
        while move.poll() is None:
            sent.bring(info)
        assert move.returncode == 0
        eventually(partial(agree, bird, sent), STEP_S)
        day.step(f"move {turn + 1}: {len(sent.taken)} of {sent.count} messages")
    assert validity(info) == validity_before
    eventually(lambda: flagged(info) == before + MOVES, STEP_S)


def test_thunderbird_goes_on_while_its_account_moves(script: Script, tmp_path: Path) -> None:
    """It shows every message that was answered 250 once, and what it flags meanwhile is flagged."""
    info = script.info()
    proxied = {"imaps": info["proxy"]["imaps"], "cafile": info["cafile"]}
    account: Any = SimpleNamespace(info=proxied, user=ADA, password=info["accounts"][ADA]["password"])
    day = Day("Thunderbird", account, tmp_path)
    bird = Thunderbird(day, preferences_of(day))
    try:
        certificate = base64.b64encode(ssl.PEM_cert_to_DER_cert(Path(info["cafile"]).read_text("ascii")))
        bird.run(SETTLE_IN, certificate.decode(), proxied["imaps"], ADA, account.password)
        moved_about(bird, day, info)
        assert bird.quit() == 0
    finally:
        bird.kill()
