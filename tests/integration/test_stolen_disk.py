"""A thief has every file of the server, the server's key too, and the program; not the password.

Nothing found on the disk may serve as a key: neither raw, nor derived, nor as a secret for Argon2.
"""

import base64
import binascii
import itertools
import json
import re

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailstore.account import (
    NewAccount,
    account_paths,
    create_account,
    init_root,
    open_directory,
    read_server_key,
)
from mailstore.errors import AuthenticationFailed, HeaderTampered, PasswordUnusable, SealedMessageDamaged
from mailstore.keyring import Keyring
from mailstore.keys import (
    Argon2Params,
    KeyLabel,
    Scope,
    ServerKeyLabel,
    derive,
    load_private_key,
    open_slot,
    parse_secret,
    read_header,
)
from mailstore.keys.pair import unwrap_private_key
from mailstore.keys.slots import slot_associated_data
from mailstore.opening import open_as_owner
from mailstore.sealed import Facts, deliver, new_sealed_id, open_sealed, pending, read_sealed, seal

TINY = Argon2Params(time_cost=1, memory_kib=64, parallelism=1)
NAME, PASSWORD = "joe@example.org", b"correct horse battery staple"
SUBJECT = b"Subject: the plan\r\n\r\nmeet at noon\r\n"


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A data root with an account, an app password, a recovery key and a sealed message; and the keys."""
    root = tmp_path_factory.mktemp("disk")
    init_root(root)
    directory = open_directory(root)
    record = create_account(root, directory, NewAccount(NAME, PASSWORD), params=TINY)
    opened = open_as_owner(root, directory, NAME, PASSWORD, now=0, params=TINY)
    keyring = Keyring(root, directory, record.account_id, opened.master, TINY)
    printed = [
        keyring.add_app_password("phone", Scope()).printed,
        keyring.replace_recovery_key().printed,
    ]
    sealed_id = new_sealed_id()
    facts = Facts(1_800_000_000, b"ann@example.net", NAME.encode())
    blob = seal(record.public_key, record.account_id, sealed_id, SUBJECT, facts)
    deliver(account_paths(root, record.account_id).inbox, sealed_id, blob)
    secrets = {
        "master": bytes(opened.master),
        "password": PASSWORD,
        "database": derive(opened.master, KeyLabel.DATABASE, 32),
        "header": derive(opened.master, KeyLabel.HEADER, 32),
        "app password": printed[0].canonical.encode(),
        "recovery key": printed[1].canonical.encode(),
    }
    directory.close()
    return root, record, secrets


def everything(root):
    """All bytes of all files."""
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def decoded_strings(tree):
    """All base64 and plain strings of a JSON tree, as bytes."""
    match tree:
        case dict():
            yield from itertools.chain.from_iterable(map(decoded_strings, tree.values()))
        case list():
            yield from itertools.chain.from_iterable(map(decoded_strings, tree))
        case str():
            yield tree.encode()
            try:
                yield base64.b64decode(tree, validate=True)
            except binascii.Error:
                pass
        case _:
            yield str(tree).encode()


def material(root, record):
    """Everything on the disk that could be a key: the server's key, header fields, names, file starts."""
    header = read_header(account_paths(root, record.account_id).folder)
    yield read_server_key(root)
    yield (root / "server.key").read_bytes().strip()
    yield from decoded_strings(json.loads(header.body))
    yield header.tag
    yield record.account_id.encode()
    yield bytes.fromhex(record.account_id)
    for path, raw in everything(root).items():
        yield path.name.encode()
        yield raw[:32]
        yield raw[-32:]
        for run in re.findall(rb"[0-9a-f]{64}", raw):
            yield bytes.fromhex(run.decode())


def candidate_keys(root, record):
    """32-byte keys: every window of the small pieces, and each piece through every derivation."""
    for piece in set(material(root, record)):
        for start in range(0, max(1, len(piece) - 31), 8):
            window = piece[start : start + 32]
            if len(window) == 32:
                yield window
        padded = piece[:32].ljust(32, b"\0")
        yield padded
        for label in (*KeyLabel, *ServerKeyLabel):
            yield derive(piece, label, 32)
            yield derive(padded, label, 32)


def test_no_secret_lies_on_the_disk(disk):
    """Neither master key nor derived keys, secrets, subjects or addresses, raw, hex or base64."""
    root, _record, secrets = disk
    plain = {**secrets, "subject": b"the plan", "body": b"noon", "sender": b"ann@", "name": b"joe"}
    for path, raw in everything(root).items():
        for what, secret in plain.items():
            for form in (secret, secret.hex().encode(), base64.b64encode(secret)[: len(secret) * 4 // 3]):
                assert form not in raw, (what, path)


def test_nothing_on_the_disk_unwraps_a_keyslot(disk):
    """No key-like value is the key of a slot."""
    root, record, _secrets = disk
    header = read_header(account_paths(root, record.account_id).folder).header
    assert len(header.slots) == 3
    bound = [(slot, slot_associated_data(record.account_id, slot)) for slot in header.slots]
    tried = 0
    for key in set(candidate_keys(root, record)):
        for slot, data in bound:
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(slot.nonce, slot.wrapped, data)
            tried += 1
    assert tried > 1000


def test_nothing_on_the_disk_is_the_master_key(disk):
    """No key-like value opens the private key, and through it the mail, or passes for the header's key."""
    root, record, secrets = disk
    signed = read_header(account_paths(root, record.account_id).folder)
    for key in set(candidate_keys(root, record)):
        assert key not in secrets.values()
        with pytest.raises(HeaderTampered):
            unwrap_private_key(record.account_id, signed.header.private_key, key)
        with pytest.raises(HeaderTampered):
            signed.verify(key)


def test_nothing_on_the_disk_is_a_password(disk):
    """No string on the disk logs in."""
    root, record, _secrets = disk
    header = read_header(account_paths(root, record.account_id).folder).header
    for piece in set(material(root, record)):
        try:
            secret = parse_secret(piece)
        except PasswordUnusable:
            continue
        for slot in header.slots:
            with pytest.raises(AuthenticationFailed):
                open_slot(record.account_id, slot, secret.password)


def test_sealed_mail_stays_sealed(disk):
    """A sealed message opens with no private key made from what lies on the disk."""
    root, record, _secrets = disk
    inbox = account_paths(root, record.account_id).inbox
    (sealed_id,) = pending(inbox)
    blob = read_sealed(inbox, sealed_id)
    keys = sorted(set(candidate_keys(root, record)))
    for first, second, third in zip(keys, keys[1:], keys[2:], strict=False):
        for raw in (first + second + third, first * 3):
            with pytest.raises(SealedMessageDamaged):
                open_sealed(load_private_key(raw), record.account_id, sealed_id, blob)


def test_the_password_opens_everything(disk):
    """The same files with the password give the message: the tests above failed for want of it alone."""
    root, record, secrets = disk
    directory = open_directory(root)
    opened = open_as_owner(root, directory, NAME, PASSWORD, now=0, params=TINY)
    directory.close()
    inbox = account_paths(root, record.account_id).inbox
    (sealed_id,) = pending(inbox)
    _facts, message = open_sealed(
        opened.private_key, record.account_id, sealed_id, read_sealed(inbox, sealed_id)
    )
    assert (message, opened.master) == (SUBJECT, secrets["master"])


def test_thief_who_writes(disk):
    """Replacing the public key in header and directory does not open old mail and stops the login."""
    root, record, _secrets = disk
    directory = open_directory(root)
    theirs = load_private_key(bytes(96))
    directory.set_header(record.account_id, theirs.public, 3)
    try:
        with pytest.raises(HeaderTampered):
            open_as_owner(root, directory, NAME, PASSWORD, now=0, params=TINY)
    finally:
        directory.set_header(record.account_id, record.public_key, 3)
        directory.close()
