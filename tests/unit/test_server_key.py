"""What is derived from the server's key is listed, and the formats of its exchange are fixed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_house_rules import FILES, ROOT, name_of, tree_of

from backup.former_keys import is_signed, succession
from backup.signing import Signer
from mailstore.errors import ServerKeyLost
from mailstore.keys import KeyLabel, ServerKeyLabel
from mailstore.server_key import (
    DECOY_NOTE,
    FORMER_KEYS_NOTE,
    decoy_secret,
    key_text,
    open_handover,
    parse_server_key,
    read_note,
    read_notes,
    write_handover,
    write_note,
)

FORMAT = (ROOT / "mailstore/FORMAT.md").read_text("utf-8")
VECTORS = json.loads((Path(__file__).parents[1] / "vectors/server-key.json").read_text("utf-8"))
OLD, NEW = (bytes.fromhex(VECTORS[name]) for name in ("old", "new"))


def listed() -> dict[str, str]:
    """Of each label in the table of the server's key what an exchange does to what it makes."""
    table = FORMAT.partition("### 2.1 ")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(sealbox/[^`]+)` \| (\d+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    return {label: fate for label, _size, _purpose, fate in rows}


def test_whatever_the_server_key_makes_is_listed_with_what_an_exchange_does_to_it() -> None:
    """A new label has to be thought about first: copied, carried over, begun anew?"""
    assert set(listed()) == {label.value for label in ServerKeyLabel}
    assert all(len(fate) > 10 for fate in listed().values())


def test_every_other_label_is_in_the_format() -> None:
    """So that no label is a way around the list."""
    assert [label for label in KeyLabel if f"`{label}" not in FORMAT and f'"{label}' not in FORMAT] == []


def derivations() -> Iterator[tuple[str, str, str]]:
    """Of each call of ``derive``: the file, what it derives from, the label."""
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("derive", "HKDF"):
                arguments = [*map(ast.unparse, node.args), *(ast.unparse(one.value) for one in node.keywords)]
                yield name_of(path), arguments[0], arguments[1] if len(arguments) > 1 else ""


def test_nothing_is_derived_from_the_server_key_by_another_label() -> None:
    """Each derivation names a label of one of the two lists; the server's key only one of its own."""
    known = set()
    for file, secret, label in derivations():
        if file in ("mailstore/keys/hierarchy.py", "backup/sealing.py"):
            continue  # ``derive`` itself, and content keys of segments
        assert label.startswith(("KeyLabel.", "ServerKeyLabel.")), (file, label)
        is_servers = re.search(r"server_key|\bold\b|\bnew\b", secret) is not None
        assert is_servers is label.startswith("ServerKeyLabel."), (file, secret, label)
        known.add(label.partition(".")[2])
    assert known >= {label.name for label in ServerKeyLabel}


def test_what_an_old_key_leaves_to_a_new_one() -> None:
    """FORMAT.md section 11."""
    raw = bytes.fromhex(VECTORS["handover"])
    assert open_handover(raw, NEW) == OLD
    assert open_handover(raw, OLD) is None
    for at in range(len(raw)):
        assert open_handover(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], NEW) is None
        assert open_handover(raw[:at], NEW) is None


def test_a_signing_key_names_its_successor() -> None:
    """backup/FORMAT.md section 6."""
    old, new = Signer(OLD), Signer(NEW)
    assert (old.public.hex(), new.public.hex()) == (VECTORS["signing_key_old"], VECTORS["signing_key_new"])
    assert old.name_successor(new.public).hex() == VECTORS["proof"]
    assert is_signed(old.public, bytes.fromhex(VECTORS["proof"]), succession(new.public))
    assert not is_signed(new.public, bytes.fromhex(VECTORS["proof"]), succession(new.public))
    assert not is_signed(b"no key", b"", b"")


def test_the_decoy_secret_outlives_its_key(tmp_path: Path) -> None:
    """And is then the same whatever the key is, also in the midst of an exchange."""
    secret = decoy_secret(tmp_path, OLD)
    assert secret.hex() == VECTORS["decoy_secret"]
    assert decoy_secret(tmp_path, NEW) != secret
    write_handover(tmp_path, OLD, NEW)
    assert decoy_secret(tmp_path, NEW) == secret
    write_note(tmp_path, OLD, DECOY_NOTE, "11" * 32)
    assert decoy_secret(tmp_path, OLD) == decoy_secret(tmp_path, NEW) == b"\x11" * 32
    write_note(tmp_path, NEW, DECOY_NOTE, "22" * 32)
    assert decoy_secret(tmp_path, NEW) == b"\x22" * 32


def test_notes_are_sealed_under_the_key_and_bound_to_their_names(tmp_path: Path) -> None:
    """FORMAT.md section 11."""
    write_note(tmp_path, NEW, DECOY_NOTE, "00" * 32)
    path = tmp_path / "notes" / DECOY_NOTE
    path.write_bytes(bytes.fromhex(VECTORS["decoy_note"]))
    assert read_notes(tmp_path, NEW) == {DECOY_NOTE: "00" * 32}
    assert read_note(tmp_path, OLD, DECOY_NOTE) is None
    path.rename(path.with_name(FORMER_KEYS_NOTE))
    assert read_notes(tmp_path, NEW) == {}


def test_the_file_of_a_key() -> None:
    """64 digits, with or without the end of the line, and nothing else."""
    assert key_text(NEW).decode() == VECTORS["file"]
    assert parse_server_key(key_text(NEW)) == parse_server_key(key_text(NEW)[:-1]) == NEW
    for wrong in (b"", key_text(NEW)[1:], key_text(NEW) + b"\n", key_text(NEW).upper(), b"\0" * 65):
        with pytest.raises(ServerKeyLost):
            parse_server_key(wrong)
