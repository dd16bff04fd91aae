"""Write keys.json, sealed.json, former-keys.json, invitations.json: only when a format changes (FORMAT.md).

All randomness but HPKE's comes from SHAKE-256 of a name; the library takes none for HPKE, so sealed
messages differ in each run while everything that opens them stays the same.
"""

import base64
import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

from backup.signing import Signer
from mailstore.former_key import former_key_id, seal_former_keys
from mailstore.keys import (
    AccountId,
    Argon2Params,
    Header,
    InvitationFacts,
    KeyLabel,
    Scope,
    ServerKeyLabel,
    SlotFacts,
    SlotId,
    SlotKind,
    derive,
    encode_invitation,
    load_private_key,
    make_invitation,
    make_scram_wrap,
    make_slot,
    new_app_password,
    new_private_key,
    new_recovery_key,
    new_scram_setup,
    wrap_private_key,
)
from mailstore.keys.header import encode_header
from mailstore.keys.slots import slot_associated_data
from mailstore.model import AccessProtocol
from mailstore.sealed import Facts, SealedId, padded_size, seal
from mailstore.server_key import key_text, seal_handover, seal_note

HERE = Path(__file__).parent
ACCOUNT = AccountId("00112233445566778899aabbccddeeff")
SEALED_ID = SealedId("17979cfe362a0000-0123456789abcdef")
PARAMS = Argon2Params(time_cost=1, memory_kib=64, parallelism=1)
PASSWORD = "correct horse battery stäple"


def fixed(name):
    """Bytes that depend on ``name`` and the number of the call alone."""
    counter = itertools.count()
    return lambda count: hashlib.shake_256(f"{name} {next(counter)}".encode()).digest(count)


def b64(data):
    """Base 64 as text."""
    return base64.b64encode(data).decode()


def flipped(data, at):
    """``data`` with the lowest bit of one byte changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def make_slots(master, setup):
    """A slot of each kind; the secrets that open them come along."""
    app = new_app_password(SlotId("k7qm2x9a"), fixed("app password"))
    recovery = new_recovery_key(SlotId("r3c0very"), fixed("recovery key"))
    scope = Scope(frozenset({AccessProtocol.IMAP, AccessProtocol.SMTP}), True, 1_924_991_999)
    cases = [
        (SlotFacts(SlotId("pa55w0rd"), SlotKind.PASSWORD, "password", 1_700_000_000), PASSWORD.encode()),
        (
            SlotFacts(app.slot_id, SlotKind.APP_PASSWORD, "Handy \u2706", 1_700_000_001, scope),
            app.canonical.encode(),
        ),
        (
            SlotFacts(recovery.slot_id, SlotKind.RECOVERY_KEY, "recovery key", 1_700_000_002),
            recovery.canonical.encode(),
        ),
    ]
    slots = [
        make_slot(ACCOUNT, facts, PARAMS, secret, master, random=fixed(f"slot {facts.id}"))
        for facts, secret in cases
    ]
    wrap = make_scram_wrap(ACCOUNT, app, setup, master, fixed("scram nonce"))
    slots[1] = dataclasses.replace(slots[1], scram=wrap)
    return tuple(slots), [PASSWORD, app.text(), recovery.text()], [secret for _facts, secret in cases]


def broken_headers(good, header, master):
    """Files that no reader may accept, with the reason."""
    body_end = good.rindex(b"hmac-sha256 ")
    other = encode_header(header, bytes(32))
    return {
        "empty": b"",
        "no tag line": good[:body_end],
        "tag of another key": good[:body_end] + other[other.rindex(b"hmac-sha256 ") :],
        "tag in upper case": good[:body_end]
        + good[body_end:].upper().replace(b"HMAC-SHA256", b"hmac-sha256"),
        "last newline missing": good[:-1],
        "trailing byte": good + b"\n",
        "unknown version": good.replace(b'"version": 1', b'"version": 2', 1),
        "version as text": good.replace(b'"version": 1', b'"version": "1"', 1),
        "unknown field": good.replace(b' "version"', b' "extra": 0,\n "version"', 1),
        "field twice": good.replace(b' "version": 1,', b' "version": 1,\n "version": 1,', 1),
        "generation changed": good.replace(b'"generation": 7', b'"generation": 8', 1),
        "slot widened": good.replace(b'"read_only": true', b'"read_only": false', 1),
        "slot prolonged": good.replace(b"1924991999", b"2924991999", 1),
        "argon2 memory out of bounds": good.replace(b'"memory_kib": 64', b'"memory_kib": 999999999', 1),
        "compact JSON": json.dumps(json.loads(good[:body_end])).encode() + b"\n" + good[body_end:],
    }


def keys_vectors():
    """keys.json."""
    master = fixed("master key")(32)
    raw_private = new_private_key(fixed("private key"))
    setup = new_scram_setup(fixed("scram salt"))
    slots, printed, secrets = make_slots(master, setup)
    public = load_private_key(raw_private).public
    wrapped = wrap_private_key(ACCOUNT, raw_private, master, fixed("private key nonce"))
    header = Header(ACCOUNT, 7, public, wrapped, setup, slots)
    good = encode_header(header, master)
    return {
        "account": ACCOUNT,
        "master": master.hex(),
        "derive": {label.value: derive(master, label, 32).hex() for label in (*KeyLabel, *ServerKeyLabel)},
        "private_key": raw_private.hex(),
        "public_key_sha256": hashlib.sha256(public).hexdigest(),
        "secrets": [
            {
                "typed": text,
                "argon2_input": secret.hex(),
                "slot": slot.id,
                "associated_data": slot_associated_data(ACCOUNT, slot).hex(),
            }
            for text, secret, slot in zip(printed, secrets, slots, strict=True)
        ],
        "header": good.decode(),
        "broken": {name: b64(raw) for name, raw in broken_headers(good, header, master).items()},
    }


def invitation_vectors():
    """Invitations with the tokens that open them, and files that no reader may accept."""
    master = fixed("master key")(32)
    scope = Scope(frozenset({AccessProtocol.IMAP, AccessProtocol.SMTP}), True)
    device = InvitationFacts("Handy \u2706", 1_700_000_000, 1_700_086_400, scope)
    owner = InvitationFacts("new account", 1_700_000_000, 1_700_086_400, Scope(), SlotId("pa55w0rd"))
    made = [
        make_invitation(ACCOUNT, SlotId(slot_id), facts, master, random=fixed(f"invitation {slot_id}"))
        for slot_id, facts in (("d3v1ce00", device), ("0wner000", owner))
    ]
    good = encode_invitation(made[0][0])
    broken = {
        "empty": b"",
        "widened": good.replace(b'"read_only": true', b'"read_only": false'),
        "other protocols": good.replace(b' "imap",\n', b""),
        "prolonged": good.replace(b"1700086400", b"1800086400"),
        "another account": good.replace(b"00112233", b"10112233"),
        "for the owner": good.replace(b'"replaces": null', b'"replaces": "pa55w0rd"'),
        "another label": good.replace(b"Handy", b"Hardy"),
        "another id": good.replace(b"d3v1ce00", b"d3v1ce01"),
        "unknown version": good.replace(b'"version": 1', b'"version": 2'),
        "unknown field": good.replace(b' "version"', b' "extra": 0,\n "version"'),
        "trailing byte": good + b"\n",
        "compact JSON": json.dumps(json.loads(good)).encode(),
        "deep": b"[" * 4000,
        "too long": good.replace(b"Handy", b"H" * 5000),
    }
    return {
        "master": master.hex(),
        "good": [
            {"token": token.text(), "file": encode_invitation(invitation).decode()}
            for invitation, token in made
        ],
        "broken": {name: b64(raw) for name, raw in broken.items()},
    }


def server_key_vectors():
    """server-key.json: what outlives an old key, and the signature on its successor."""
    old, new = fixed("old server key")(32), fixed("new server key")(32)
    return {
        "old": old.hex(),
        "new": new.hex(),
        "file": key_text(new).decode(),
        "handover": seal_handover(old, new, fixed("handover")).hex(),
        "signing_key_old": Signer(old).public.hex(),
        "signing_key_new": Signer(new).public.hex(),
        "proof": Signer(old).name_successor(Signer(new).public).hex(),
        "decoy_secret": derive(old, ServerKeyLabel.SCRAM_DUMMY_SALT, 32).hex(),
        "decoy_note": seal_note(new, "decoy_secret", "00" * 32, fixed("note")).hex(),
    }


def sealed_vectors():
    """sealed.json."""
    raw_private = new_private_key(fixed("private key"))
    public = load_private_key(raw_private).public
    facts = Facts(
        1_700_000_000, b"ann@example.net", b"joe+lists@example.org", "lists",
        b"Return-Path: <ann@example.net>\r\n", (b"\\Seen", b"$Junk"),
    )  # fmt: skip
    message = b"Subject: hello\r\n\r\nworld\r\n"
    blob = seal(public, ACCOUNT, SEALED_ID, message, facts)
    bare = seal(public, ACCOUNT, SEALED_ID, b"", Facts(0))
    return {
        "private_key": raw_private.hex(),
        "account": ACCOUNT,
        "sealed_id": SEALED_ID,
        "padme": {str(size): padded_size(size) for size in (0, 1, 9, 100, 1025, 10**6, 25 * 10**6 + 1)},
        "good": [
            {
                "blob": b64(blob),
                "message": message.decode(),
                "received": facts.received,
                "envelope_from": facts.envelope_from.decode(),
                "envelope_to": facts.envelope_to.decode(),
                "mailbox_hint": facts.mailbox_hint,
                "trace_header": facts.trace_header.decode(),
                "flags": [flag.decode() for flag in facts.flags],
            },
            {
                "blob": b64(bare), "message": "", "received": 0, "envelope_from": "", "envelope_to": "",
                "mailbox_hint": None, "trace_header": "", "flags": [],
            },
        ],
        "broken": {
            "empty": "",
            "other magic": b64(flipped(blob, 0)),
            "other version": b64(flipped(blob, 7)),
            "encapsulated key changed": b64(flipped(blob, 8)),
            "X25519 share changed": b64(flipped(blob, 8 + 1119 - 16)),
            "ciphertext changed": b64(flipped(blob, 8 + 1120)),
            "tag changed": b64(flipped(blob, len(blob) - 1)),
            "cut short": b64(blob[:-1]),
            "trailing byte": b64(blob + b"\0"),
            "other account": b64(seal(public, AccountId("f" * 32), SEALED_ID, message, facts)),
            "other name": b64(seal(public, ACCOUNT, SealedId("0" * 16 + "-" + "0" * 16), message, facts)),
        },
    }  # fmt: skip


def former_key_vectors():
    """former-keys.json."""
    raw_private = new_private_key(fixed("private key"))
    public = load_private_key(raw_private).public
    former = [new_private_key(fixed("former")), new_private_key(fixed("before that"))]
    name = former_key_id(public)
    blob = seal_former_keys(public, ACCOUNT, former)
    return {
        "private_key": raw_private.hex(),
        "account": ACCOUNT,
        "sealed_id": name,
        "former": [key.hex() for key in former],
        "blob": b64(blob),
        "broken": {
            "empty": "",
            "other magic": b64(flipped(blob, 0)),
            "ciphertext changed": b64(flipped(blob, 8 + 1120)),
            "cut short": b64(blob[:-1]),
            "no key": b64(seal_former_keys(public, ACCOUNT, [])),
            "a cut key": b64(seal_former_keys(public, ACCOUNT, [former[0][:-1]])),
            "other account": b64(seal_former_keys(public, AccountId("f" * 32), former)),
            "a message": b64(seal(public, ACCOUNT, name, former[0], Facts(0))),
        },
    }


if __name__ == "__main__":
    for name, vectors in (
        ("keys", keys_vectors()),
        ("sealed", sealed_vectors()),
        ("server-key", server_key_vectors()),
        ("former-keys", former_key_vectors()),
        ("invitations", invitation_vectors()),
    ):
        (HERE / f"{name}.json").write_text(json.dumps(vectors, indent=1) + "\n", "utf-8")
