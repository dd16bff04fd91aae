"""Dovecot as a second opinion: it differs where DIFFERENCES.md says so, and nowhere else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dovecot import version
from tests.transcripts import search_causes, searches_beside_dovecot
from tests.transcripts.beside_dovecot import FILES, absent, explained, not_played, play_all
from tests.transcripts.dovecot_world import DovecotServer, is_installed
from tests.transcripts.structure_causes import CAUSES
from tests.transcripts.structures_beside_dovecot import causes_explained, differences

EXPLAINED_VERSION = "Dovecot 2.3.19"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="there is no Dovecot here: apt install dovecot-imapd"),
    pytest.mark.skipif(
        is_installed() and not version().startswith(EXPLAINED_VERSION),
        reason=f"DIFFERENCES.md is about {EXPLAINED_VERSION}",
    ),
]
EVERY = "all"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Dovecot's own users can reach.

    Not one of pytest's: another run that begins meanwhile closes the folder of all runs to others.
    """
    with tempfile.TemporaryDirectory(prefix="sealbox-dovecot-") as found:
        Path(found).chmod(0o755)
        yield Path(found) / "data"


def test_every_difference_is_explained(folder: Path) -> None:
    """The commands that Dovecot answers otherwise are those that are listed."""
    found: set[tuple[str, str]] = set()
    left_out: dict[str, tuple[str, str]] = {}
    for path, played in play_all(folder):
        found |= {(path.stem, one.tag) for one in played.differences}
        if played.left_out is not None:
            left_out[path.stem] = (played.left_out[0].text, played.left_out[1])
    listed = explained()
    whole = {name for name, tag in listed if tag == EVERY}
    assert whole <= {name for name, _ in found}
    assert {one for one in found if one[0] not in whole} == {one for one in listed if one[0] not in whole}
    assert left_out == not_played()


def test_extensions_that_are_said_to_be_absent_are(folder: Path) -> None:
    """What DIFFERENCES.md explains by an extension that Dovecot lacks is not in its CAPABILITY."""
    server = DovecotServer(folder, FILES[:1])
    try:
        with server.session(FILES[0].stem) as client:
            advertised = set(client.ask(b"CAPABILITY").decode().split())
    finally:
        server.stop()
    assert "CONDSTORE" in advertised
    assert advertised & absent() == set()


def test_every_unlike_structure_is_explained(folder: Path) -> None:
    """ENVELOPE and BODYSTRUCTURE of the difficult messages differ by the causes that are explained alone."""
    found = list(differences(folder))
    assert [str(one) for one in found if one.cause is None] == []
    assert {one.cause for one in found} == set(CAUSES) == causes_explained()


def test_every_unlike_search_is_explained(folder: Path) -> None:
    """Equal mailboxes are searched and sorted alike but for the causes that are explained."""
    size = searches_beside_dovecot.Size(messages=100, searches=260, sorts=60)
    outcome = searches_beside_dovecot.compare(folder, size)
    assert outcome.asked > 200
    assert [str(one) for one in outcome.found if one.cause is None] == []
    causes = {one.cause for one in outcome.found}
    assert causes == set(search_causes.CAUSES) == searches_beside_dovecot.causes_explained()
