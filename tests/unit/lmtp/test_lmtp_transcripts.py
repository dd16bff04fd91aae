"""LMTP's transcripts are played, and every capability has one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lmtp_world import CAPABILITIES, LmtpWorld

from mailstore.errors import OverQuota, StorageFailed
from tests.transcripts.memory_world import MemoryPeer
from tests.transcripts.runner import Transcript
from tests.wire import Client

FILES = sorted((Path(__file__).parents[2] / "transcripts" / "lmtp").glob("lmtp_*.txt"))
COVERS = re.compile(r"^# covers: (.+)$", re.MULTILINE)


class TranscriptWorld:
    """``@failing NAME`` makes an account's disk fail, ``@kept N`` counts what was delivered so far.

    ``@full NAME`` leaves no space, ``@filled NAME`` none for the message when it has come.
    """

    def __init__(self) -> None:
        self._world = LmtpWorld()
        self._actions: dict[str, Callable[[str], None]] = {
            "failing": self._failing,
            "full": self._world.store.full.add,
            "filled": self._filled,
            "kept": self._kept,
        }

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> MemoryPeer:
        """See ``World``."""
        return MemoryPeer(Client(self._world.factory))

    def _failing(self, account: str) -> None:
        self._world.store.failures[account] = StorageFailed("input/output error")

    def _filled(self, account: str) -> None:
        self._world.store.failures[account] = OverQuota("full")

    def _kept(self, count: str) -> None:
        assert len(self._world.store.kept) == int(count)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """The server says exactly what is written, and the file names its RFC."""
    Transcript(path, TranscriptWorld()).play()
    assert re.search(r"^# .*RFC \d+ section \d", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_capability_has_a_transcript() -> None:
    """Nothing is listed in LHLO's answer that no transcript covers."""
    listed = {line[4:].split()[0].decode() for line in CAPABILITIES.splitlines()[1:]}
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    covered = {name for text in texts for names in COVERS.findall(text) for name in names.split()}
    assert listed == covered
