"""The test vectors of mailstore/FORMAT.md: what was written by version 1 opens for ever."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from mailstore.errors import AuthenticationFailed, HeaderTampered, SealedMessageDamaged, TooNew
from mailstore.former_key import former_key_id, is_former_key, open_former_keys
from mailstore.keys import (
    AccountId,
    Expected,
    KeyLabel,
    PublicKey,
    ServerKeyLabel,
    check_header,
    choose_slot,
    decode_header,
    derive,
    load_private_key,
    open_slot,
    parse_secret,
)
from mailstore.keys.header import encode_header
from mailstore.keys.slots import slot_associated_data
from mailstore.sealed import Facts, SealedId, open_sealed, padded_size

VECTORS = Path(__file__).parents[1] / "vectors"
KEYS = json.loads((VECTORS / "keys.json").read_text("utf-8"))
FORMER = json.loads((VECTORS / "former-keys.json").read_text("utf-8"))
SEALED = json.loads((VECTORS / "sealed.json").read_text("utf-8"))
ACCOUNT = AccountId(KEYS["account"])
MASTER = bytes.fromhex(KEYS["master"])
SIGNED = decode_header(KEYS["header"].encode())


@pytest.mark.parametrize("label", KEYS["derive"])
def test_derive(label):
    """HKDF-SHA256 of the master key."""
    assert derive(MASTER, label, 32).hex() == KEYS["derive"][label]


def test_labels_are_all_there():
    """A new label needs a vector."""
    assert set(KEYS["derive"]) == {label.value for label in (*KeyLabel, *ServerKeyLabel)}


@pytest.mark.parametrize("case", KEYS["secrets"], ids=lambda case: case["slot"])
def test_secrets(case):
    """Each printed secret selects its slot, is fed to Argon2 in the given bytes, and opens the account."""
    chosen = choose_slot(SIGNED.header.slots, parse_secret(case["typed"].encode()))
    slot, secret = chosen
    assert (slot.id, secret.hex()) == (case["slot"], case["argon2_input"])
    assert slot_associated_data(ACCOUNT, slot).hex() == case["associated_data"]
    assert open_slot(ACCOUNT, slot, secret) == MASTER


def test_header():
    """The file is authentic, encodes to the same bytes and holds the key pair."""
    assert encode_header(SIGNED.verify(MASTER), MASTER).decode() == KEYS["header"]
    pair = load_private_key(bytes.fromhex(KEYS["private_key"]))
    assert hashlib.sha256(pair.public).hexdigest() == KEYS["public_key_sha256"]
    assert check_header(SIGNED, MASTER, Expected(ACCOUNT, pair.public, 7)).public == pair.public


@pytest.mark.parametrize("name", KEYS["broken"])
def test_broken_headers(name):
    """No broken file gets past decoding, the password and the tag."""
    pair = load_private_key(bytes.fromhex(KEYS["private_key"]))
    with pytest.raises((HeaderTampered, AuthenticationFailed, TooNew)):
        signed = decode_header(base64.b64decode(KEYS["broken"][name]))
        check_header(signed, MASTER, Expected(ACCOUNT, PublicKey(pair.public), 7))


def test_broken_headers_are_broken():
    """None of them is the good one."""
    assert len({*KEYS["broken"].values(), base64.b64encode(KEYS["header"].encode()).decode()}) == 16


def pair_and_name():
    """The context of the sealed vectors."""
    return load_private_key(bytes.fromhex(SEALED["private_key"])), SealedId(SEALED["sealed_id"])


@pytest.mark.parametrize("case", SEALED["good"], ids=["full", "bare"])
def test_sealed(case):
    """Sealed messages of version 1 open."""
    pair, sealed_id = pair_and_name()
    facts = Facts(
        case["received"],
        case["envelope_from"].encode(),
        case["envelope_to"].encode(),
        case["mailbox_hint"],
        case["trace_header"].encode(),
        tuple(flag.encode() for flag in case["flags"]),
    )
    opened = open_sealed(pair, ACCOUNT, sealed_id, base64.b64decode(case["blob"]))
    assert opened == (facts, case["message"].encode())


@pytest.mark.parametrize("name", SEALED["broken"])
def test_broken_sealed(name):
    """Broken ones do not."""
    pair, sealed_id = pair_and_name()
    with pytest.raises(SealedMessageDamaged):
        open_sealed(pair, ACCOUNT, sealed_id, base64.b64decode(SEALED["broken"][name]))


def test_former_keys():
    """Private keys of before open, under the name that follows from the public key."""
    pair, sealed_id = load_private_key(bytes.fromhex(FORMER["private_key"])), SealedId(FORMER["sealed_id"])
    assert former_key_id(pair.public) == sealed_id and is_former_key(sealed_id)
    found = open_former_keys(pair, ACCOUNT, sealed_id, base64.b64decode(FORMER["blob"]))
    assert [key.hex() for key in found] == FORMER["former"]


@pytest.mark.parametrize("name", FORMER["broken"])
def test_broken_former_keys(name):
    """Broken ones do not."""
    pair, sealed_id = load_private_key(bytes.fromhex(FORMER["private_key"])), SealedId(FORMER["sealed_id"])
    with pytest.raises(SealedMessageDamaged):
        open_former_keys(pair, ACCOUNT, sealed_id, base64.b64decode(FORMER["broken"][name]))


@pytest.mark.parametrize("size", SEALED["padme"])
def test_padme(size):
    """Padded sizes."""
    assert padded_size(int(size)) == SEALED["padme"][size]
