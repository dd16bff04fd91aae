"""Every transcript is played; every capability advertised has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protocols.imap.grammar.table import State
from protocols.imap.responses.capabilities import capabilities
from protocols.limits import ImapLimits
from tests.transcripts.memory_world import MemoryWorld
from tests.transcripts.runner import Transcript

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))
WITH_NUMBERS = ("APPENDLIMIT=", "MESSAGELIMIT=", "SAVELIMIT=")
COVERS = re.compile(r"^# covers: (.+)$", re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """The server says exactly what is written."""
    Transcript(path, MemoryWorld()).play()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript_names_its_sections(path: Path) -> None:
    """Each transcript says which section of which RFC it shows."""
    assert re.search(r"^# .*RFC \d+ section \d", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_capability_has_a_transcript() -> None:
    """Nothing is advertised that no transcript covers, in any state."""
    advertised = {
        name.partition("=")[0] if name.startswith(WITH_NUMBERS) else name
        for state in State
        for name in capabilities(state, ImapLimits(), compressed=False, scram=True).decode().split()
    }
    covered = {
        name
        for path in FILES
        for names in COVERS.findall(path.read_text(encoding="utf-8"))
        for name in names.split()
    }
    assert advertised - covered == set()
