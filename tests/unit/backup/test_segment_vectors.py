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
from backup.signing import Signer, Trust
from backup.source import Source
from backup.store_file import FileStore
from mailstore.keys import load_private_key

FOLDER = Path(__file__).parents[2] / "vectors"
VERSIONS = {number: json.loads((FOLDER / f"segments-{number}.json").read_text()) for number in (1, 2)}
NEW = VERSIONS[2]
KEY = load_private_key(base64.b64decode(NEW["private_key"]))
EACH = [pytest.param(one, id=str(number)) for number, one in VERSIONS.items()]


def all_of(part: str, label: str) -> list[Any]:
    """One part of the vectors of every version."""
    return [
        pytest.param(vector, id=f"{number} {vector[label]}")
        for number, one in VERSIONS.items()
        for vector in one[part]
    ]


def written(folder: Path, vector: dict[str, Any]) -> tuple[SegmentName, Path]:
    """An object of the vectors as a file."""
    name = parse_name(vector["name"])
    assert name is not None
    path = folder / vector["name"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(base64.b64decode(vector["object"]))
    return name, path


@pytest.mark.parametrize("vectors", EACH)
def test_the_key_pair_is_the_one_of_the_vectors(vectors: dict[str, Any]) -> None:
    """Private to public key; one pair for all versions."""
    assert base64.b64decode(vectors["private_key"]) == base64.b64decode(NEW["private_key"])
    assert hashlib.sha256(KEY.public).hexdigest() == vectors["public_key_sha256"]


def test_the_signing_key_is_derived_from_the_servers() -> None:
    """By its label."""
    assert Signer(bytes.fromhex(NEW["server_key"])).public.hex() == NEW["signing_key"]


@pytest.mark.parametrize("vector", all_of("objects", "name"))
def test_objects_open_both_ways(vector: dict[str, Any], tmp_path: Path) -> None:
    """By the private key and by the content key; their hash is the one that is named."""
    name, path = written(tmp_path, vector)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == vector["sha256"]
    for key in (KEY, bytes.fromhex(vector["content_key"])):
        with open_file(path, name, key) as segment:
            segment.check()


@pytest.mark.parametrize("vectors", EACH)
def test_the_stream_leads_to_its_state(vectors: dict[str, Any], tmp_path: Path) -> None:
    """Pages replaced, added and cut; files added, replaced and removed."""
    (tmp_path / "objects").mkdir()
    names = [written(tmp_path / "objects", vector)[0] for vector in vectors["objects"][:3]]
    folder = tmp_path / "state"
    store = FileStore(tmp_path / "objects")
    trust = Trust(bytes.fromhex(NEW["signing_key"]))
    source = Source(store, lambda _name: KEY, list_store(store).sizes, trust)
    Rebuilder(source, tmp_path, 1).rebuild(names, folder)
    state = vectors["state"]
    assert hashlib.sha256((folder / "mail.db").read_bytes()).hexdigest() == state["mail.db_sha256"]
    files = [folder / "keys", *(folder / "inbox").iterdir()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes().hex() for path in files}
    assert found == state["files"]


@pytest.mark.parametrize("vector", all_of("refused", "why"))
def test_broken_objects_are_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    """Whichever key is used."""
    name, path = written(tmp_path, vector)
    for key in (KEY, bytes.fromhex(vector["content_key"])):
        with pytest.raises(SegmentDamaged, match=str(name)), open_file(path, name, key) as segment:
            segment.check()


@pytest.mark.parametrize("vector", NEW["not_signed_by_the_server"], ids=lambda one: one["why"])
def test_what_the_server_did_not_sign_is_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    """It opens; who wrote it is another question."""
    name, path = written(tmp_path, vector)
    trust = Trust(bytes.fromhex(NEW["signing_key"]))
    with open_file(path, name, KEY) as segment, pytest.raises(SegmentDamaged, match="did not sign"):
        trust.check(name, signed=segment.signed, path=path)


def test_no_signature_is_none_from_where_the_server_signs(tmp_path: Path) -> None:
    """An object of version 1 is good before that number, and refused from there on."""
    name, path = written(tmp_path, VERSIONS[1]["objects"][1])
    public = bytes.fromhex(NEW["signing_key"])
    for first in (None, name.sequence + 1):
        Trust(public, {} if first is None else {name.stream: first}).check(name, signed=False, path=path)
    for first in (name.sequence, 1):
        with pytest.raises(SegmentDamaged, match="not signed"):
            Trust(public, {name.stream: first}).check(name, signed=False, path=path)
