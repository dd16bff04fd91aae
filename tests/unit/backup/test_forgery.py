"""Whoever has the backup public key and may write to the bucket can seal anything, but not sign it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME

from backup import sealing
from backup.catalogue import stream_of_server
from backup.segment import SERVER, SERVER_FILE, Header, Kind, SegmentName, StreamId, parse_name
from backup.signing import Signer
from backup.staging import staged_name, write_segment

EXIT_REFUSED = 3
EXIT_STORAGE = 6


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """One account with one snapshot."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    assert made.answer("backup", "run")["stored"]
    return made


def newest(world: CommandsWorld, stream: StreamId) -> SegmentName:
    """The newest segment of a stream."""
    found = (parse_name(f"{stream}/{path.name}") for path in (world.objects / stream).iterdir())
    return max(name for name in found if name is not None)


def forge(
    world: CommandsWorld,
    stream: StreamId,
    account: str,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    *,
    version: int,
) -> SegmentName:
    """Put a full segment behind the newest, sealed to the right key, as another program would write it."""
    last = newest(world, stream)
    name = SegmentName(stream, last.sequence + 1, last.taken_ms + 1, Kind.FULL)
    sizes = tuple((one, len(data)) for one, data in files.items())
    header = Header(name, account, None, None, sizes, version=version)
    staging = world.root.parent
    with monkeypatch.context() as patch:
        signer = Signer(b"a forger's own key, 32 octets....")
        if version == 1:
            patch.setattr(sealing, "VERSION", 1)
            patch.setattr(Signer, "sign", lambda _self, _name, _digest: b"")
        write_segment(staging, header, files.values(), world.private_key.public, signer)
    (staging / staged_name(name)).rename(world.objects / str(name))
    return name


@pytest.mark.parametrize("version", [1, 2])
def test_a_forged_state_of_an_account_is_passed_over(
    world: CommandsWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """On a new machine, where the server's stream tells whose signature it has to be."""
    server = stream_of_server(world.private_key.public)
    (stream,) = {StreamId(path.name) for path in world.objects.iterdir()} - {server}
    (known,) = world.answer("backup", "list")["accounts"]
    files = {"keys": b"an attacker's keyslots"}
    forged = forge(world, stream, str(known["account"]), files, monkeypatch, version=version)
    done = world.answer(
        "restore", "--all", "--into", tmp_path / "new", "--private-key", world.private_key_file
    )
    (restored,) = done["restored"]
    assert restored["trouble"] is None
    assert [one.partition(":")[0] for one in restored["passed_over"]] == [str(forged)]
    kept = next((world.root / "accounts").glob("*/*/keys")).read_bytes()
    assert next((tmp_path / "new" / "accounts").glob("*/*/keys")).read_bytes() == kept
    found = world.answer("backup", "verify", "--private-key", world.private_key_file, codes=(EXIT_STORAGE,))
    assert [one["object"] for one in found["findings"]] == [str(forged)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_forged_server_is_passed_over_where_its_key_is_known(
    world: CommandsWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Configuration, server key and public keys of accounts are the genuine ones."""
    signing_key = world.answer("backup", "status")["signing_key"]
    content = json.dumps({"configuration": "forged", "server_key": "11" * 32, "accounts": {}}).encode()
    stream = stream_of_server(world.private_key.public)
    forged = forge(world, stream, SERVER, {SERVER_FILE: content}, monkeypatch, version=version)
    restore = partial(world.answer, "restore", "--all", "--private-key", world.private_key_file)
    done = restore("--into", tmp_path / "new", "--signed-by", signing_key)
    assert done["restored"][0]["name"] == NAME.decode()
    assert [one.partition(":")[0] for one in done["passed_over"]] == [str(forged)]
    assert (tmp_path / "new" / "sealbox.toml").read_text() != "forged"
    # The living server knows its own key.
    living = ("restore", NAME.decode(), "--private-key", world.private_key_file)
    assert world.answer(*living, codes=(EXIT_REFUSED,))["restored"][0]["skipped"]


def test_a_wrong_signing_key_is_said_to_be_wrong(world: CommandsWorld, tmp_path: Path) -> None:
    """And 'anybody' is the way round for those who know why."""
    restore = ("restore", "--all", "--into", tmp_path / "new", "--private-key", world.private_key_file)
    code, _out, err = world.run(*restore, "--signed-by", "00" * 31)
    assert code == 2 and "64 hexadecimal digits" in err
    code, _out, err = world.run(*restore, "--signed-by", Signer(bytes(32)).public.hex())
    assert code == EXIT_STORAGE and "this server did not sign it" in err
    assert world.answer(*restore, "--signed-by", "anybody")["restored"][0]["trouble"] is None
