"""Every transcript against our server as its own processes, over TLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.transcripts.runner import Transcript
from tests.transcripts.sealbox_server import SealboxServer
from tests.transcripts.sealbox_world import SealboxWorld

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))
MESSAGE_LIMIT = re.compile(r"^@quota \d+ (\d+)$", re.MULTILINE)
LEFT_OUT = {
    "idle": ("clock 1801", "the clock of a real server goes its own way"),
    "messagelimit": ("limit message_limit 5", "limits are a setting of the whole server"),
    "savelimit": ("limit message_limit 0", "limits are a setting of the whole server"),
    "load_shedding": ("load 0.3", "the load of a real server is its own"),
    "inprogress": ("hold", "a real store cannot be told to wait"),
    "scram": ("nonce", "a real server's nonce and salt are its own"),
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
    number = FILES.index(path)
    domain = path.stem.replace("_", "-") + ".example.org"
    with SealboxWorld(servers(int(limit[1]) if limit else 0), domain, f"127.0.1.{number + 1}") as world:
        left_out = Transcript(path, world).play()
    found = None if left_out is None else (left_out[0].text, left_out[1])
    assert found == LEFT_OUT.get(path.stem)
