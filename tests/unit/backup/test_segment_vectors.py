"""The format's test vectors: objects that open to what they should, and objects that must not."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from backup.errors import SegmentDamaged
from backup.reading import open_file
from backup.rebuild import Rebuilder
from backup.restore import list_store
from backup.segment import SegmentName, parse_name
from backup.source import Source
from backup.store_file import FileStore
from mailstore.keys import load_private_key

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "segments.json").read_text())
KEY = load_private_key(base64.b64decode(VECTORS["private_key"]))


def written(folder: Path, vector: dict[str, Any]) -> tuple[SegmentName, Path]:
    """An object of the vectors as a file."""
    name = parse_name(vector["name"])
    assert name is not None
    path = folder / vector["name"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(base64.b64decode(vector["object"]))
    return name, path


def test_the_key_pair_is_the_one_of_the_vectors() -> None:
    """Private to public key."""
    assert hashlib.sha256(KEY.public).hexdigest() == VECTORS["public_key_sha256"]


@pytest.mark.parametrize("vector", VECTORS["objects"], ids=lambda one: one["name"])
def test_objects_open_both_ways(vector: dict[str, Any], tmp_path: Path) -> None:
    """By the private key and by the content key; their hash is the one that is named."""
    name, path = written(tmp_path, vector)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == vector["sha256"]
    for key in (KEY, bytes.fromhex(vector["content_key"])):
        with open_file(path, name, key) as segment:
            segment.check()


def test_the_stream_leads_to_its_state(tmp_path: Path) -> None:
    """Pages replaced, added and cut; files added, replaced and removed."""
    (tmp_path / "objects").mkdir()
    names = [written(tmp_path / "objects", vector)[0] for vector in VECTORS["objects"][:3]]
    folder = tmp_path / "state"
    store = FileStore(tmp_path / "objects")
    source = Source(store, lambda _name: KEY, list_store(store).sizes)
    Rebuilder(source, tmp_path, 1).rebuild(names, folder)
    state = VECTORS["state"]
    assert hashlib.sha256((folder / "mail.db").read_bytes()).hexdigest() == state["mail.db_sha256"]
    files = [folder / "keys", *(folder / "inbox").iterdir()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes().hex() for path in files}
    assert found == state["files"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda one: one["why"])
def test_broken_objects_are_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    """Whichever key is used."""
    name, path = written(tmp_path, vector)
    for key in (KEY, bytes.fromhex(vector["content_key"])):
        with pytest.raises(SegmentDamaged, match=str(name)), open_file(path, name, key) as segment:
            segment.check()
