"""Every transcript against our server as its own processes, over TLS (LMTP: over TCP)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.transcripts.runner import Transcript, World
from tests.transcripts.sealbox_lmtp import LmtpSealboxWorld
from tests.transcripts.sealbox_pop3 import Pop3SealboxWorld
from tests.transcripts.sealbox_server import SealboxServer
from tests.transcripts.sealbox_world import SealboxWorld

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))
POP3_FILES = sorted((FOLDER / "pop3").glob("*.txt"))
LMTP_FILES = sorted((FOLDER / "lmtp").glob("*.txt"))
MESSAGE_LIMIT = re.compile(r"^@quota \d+ (\d+)$", re.MULTILINE)
LEFT_OUT = {
    "append_memory": ("limit append_max_bytes 3000000", "limits are a setting of the whole server"),
    "idle": ("clock 1801", "the clock of a real server goes its own way"),
    "messagelimit": ("limit message_limit 5", "limits are a setting of the whole server"),
    "savelimit": ("limit message_limit 0", "limits are a setting of the whole server"),
    "load_shedding": ("load 0.3", "the load of a real server is its own"),
    "inprogress": ("hold", "a real store cannot be told to wait"),
    "scram": ("nonce", "a real server's nonce and salt are its own"),
    "pop3_scram": ("nonce", "a real server's nonce and salt are its own"),
    "within": ("clock 0", "the clock of a real server goes its own way"),
}
"""What is played in memory alone from some line on, and why."""

Servers = Callable[[int], SealboxServer]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers by the most messages an account may hold, a setting of the whole server; 0 for no limit."""
    started: dict[int, SealboxServer] = {}

    def server(limit: int) -> SealboxServer:
        if limit not in started:
            store = {"max_messages": limit} if limit else {}
            started[limit] = SealboxServer(tmp_path_factory.mktemp("server"), store)
        return started[limit]

    yield server
    for one in started.values():
        assert one.stop() == 0
        assert "Traceback" not in one.errors()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript_over_tcp(path: Path, servers: Servers) -> None:
    """The server says exactly what is written; what cannot be played is known, with the reason."""
    limit = MESSAGE_LIMIT.search(path.read_text(encoding="utf-8"))
    server = servers(int(limit[1]) if limit else 0)
    with SealboxWorld(server, domain_of(path), f"127.0.1.{FILES.index(path) + 1}") as world:
        play(path, world)


@pytest.mark.parametrize("path", POP3_FILES, ids=lambda path: path.stem)
def test_pop3_transcript_over_tcp(path: Path, servers: Servers) -> None:
    """The same for POP3."""
    source = f"127.0.2.{POP3_FILES.index(path) + 1}"
    with Pop3SealboxWorld(servers(0), domain_of(path), source) as world:
        play(path, world)


@pytest.mark.parametrize("path", LMTP_FILES, ids=lambda path: path.stem)
def test_lmtp_transcript_over_tcp(path: Path, servers: Servers) -> None:
    """The same for LMTP; accounts are full, and disks fail, for real."""
    source = f"127.0.3.{LMTP_FILES.index(path) + 1}"
    with LmtpSealboxWorld(servers(0), domain_of(path), source) as world:
        play(path, world)


def domain_of(path: Path) -> str:
    """A domain for one transcript."""
    return path.stem.replace("_", "-") + ".example.org"


def play(path: Path, world: World) -> None:
    """Play a transcript, and compare what was left out of it with what is known."""
    left_out = Transcript(path, world).play()
    found = None if left_out is None else (left_out[0].text, left_out[1])
    assert found == LEFT_OUT.get(path.stem)
