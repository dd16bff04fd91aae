"""POP3's transcripts are played, and every capability has one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pop3_world import Pop3World

from protocols.pop3.commands import State, capabilities
from tests.transcripts.memory_world import MemoryPeer
from tests.transcripts.runner import Transcript
from tests.wire import Client

FILES = sorted((Path(__file__).parents[2] / "transcripts" / "pop3").glob("pop3_*.txt"))
COVERS = re.compile(r"^# covers: (.+)$", re.MULTILINE)


class TranscriptWorld:
    """``@plain`` starts without TLS, ``@messages N`` fills the INBOX, ``@revoke`` closes the account."""

    def __init__(self) -> None:
        self._world = Pop3World()
        self._actions: dict[str, Callable[..., None]] = {
            "plain": self._plain,
            "messages": self._messages,
            "revoke": lambda: self._world.account.close_sessions(),
        }

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> MemoryPeer:
        """See ``World``."""
        return MemoryPeer(Client(self._world.factory))

    def _plain(self) -> None:
        self._world = Pop3World(implicit_tls=False)

    def _messages(self, count: str) -> None:
        for number in range(1, int(count) + 1):
            text = b"Subject: Report %d\r\n\r\nHello number %d.\r\n.\r\n.a dot\r\n"
            self._world.account.deliver(text % (number, number))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """The server says exactly what is written, and the file names its RFC."""
    Transcript(path, TranscriptWorld()).play()
    assert re.search(r"^# .*RFC \d+ section \d", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_capability_has_a_transcript() -> None:
    """Nothing is listed in any state that no transcript covers."""
    listed = {one.split()[0].decode() for state in State for one in capabilities(state, stls_offered=True)}
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    covered = {name for text in texts for names in COVERS.findall(text) for name in names.split()}
    assert listed == covered
