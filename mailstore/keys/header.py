"""The key header: the file ``keys`` of an account. FORMAT.md section 5 is the specification.

The body is JSON that an operator can read; the last line authenticates every byte before it under a
key derived from the master key. Decoding is strict: only the bytes that encoding would produce are
accepted, so there is one spelling of every header and nothing can hide in another.
"""

import base64
import binascii
import hmac
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mailstore.durable import replace_file, storage_errors
from mailstore.errors import (
    HeaderTampered,
    LastKeyslot,
    LimitExceeded,
    NoSuchAccount,
    NoSuchKeyslot,
    TooNew,
)
from mailstore.keys.hierarchy import (
    MASTER_KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    AccountId,
    KeyLabel,
    derive,
)
from mailstore.keys.pair import (
    PRIVATE_KEY_BYTES,
    PUBLIC_KEY_BYTES,
    PrivateKey,
    PublicKey,
    WrappedKey,
    unwrap_private_key,
)
from mailstore.keys.printed import SlotId, SlotKind, is_slot_id
from mailstore.keys.scram import STORED_KEY_BYTES
from mailstore.keys.slots import Argon2Params, Keyslot, Scope, ScramWrap
from mailstore.model import SCRAM_ITERATIONS, AccessProtocol, ScramSetup

FORMAT_NAME = "sealbox-keys"
FORMAT_VERSION = 1
KEYS_FILE = "keys"
KEYS_LOCK = "keys.lock"
NEW_KEYS_FILE = "keys-new"
"""A header with a new master key that is to take the place of ``keys``; see ``mailstore.staged_keys``."""

_SEAL_PREFIX = b"hmac-sha256 "
_SEAL_LINE_BYTES = len(_SEAL_PREFIX) + 64 + 1
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_SINGLE_KINDS = (SlotKind.PASSWORD, SlotKind.RECOVERY_KEY)


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """Bounds on what a header may ask for before it is authenticated."""

    file_bytes: int = 256 * 1024
    slots: int = 64
    label_chars: int = 100
    argon2_time_cost: int = 64
    argon2_memory_kib: int = 2 * 1024 * 1024
    argon2_parallelism: int = 64
    scram_iterations: int = 1_000_000


DEFAULT_LIMITS = HeaderLimits()


@dataclass(frozen=True, slots=True)
class Header:
    """What the file ``keys`` says. ``generation`` grows by one with every change."""

    account_id: AccountId
    generation: int
    public_key: PublicKey = field(repr=False)
    private_key: WrappedKey
    scram: ScramSetup
    slots: tuple[Keyslot, ...]

    def slot(self, slot_id: SlotId) -> Keyslot:
        """The keyslot with that id. Raises NoSuchKeyslot."""
        for slot in self.slots:
            if slot.id == slot_id:
                return slot
        raise NoSuchKeyslot

    def with_slot(self, slot: Keyslot, limits: HeaderLimits = DEFAULT_LIMITS) -> "Header":
        """The next header with ``slot`` in it; a password or recovery key takes its predecessor's place.

        Raises LimitExceeded when there are too many slots.
        """
        kept = tuple(
            old
            for old in self.slots
            if old.id != slot.id and not (slot.kind in _SINGLE_KINDS and old.kind is slot.kind)
        )
        if len(kept) >= limits.slots:
            raise LimitExceeded
        return replace(self, generation=self.generation + 1, slots=(*kept, slot))

    def without_slot(self, slot_id: SlotId) -> "Header":
        """The next header without that slot.

        Raises NoSuchKeyslot, and LastKeyslot if neither a password nor a recovery key would be left:
        app passwords cannot administer the account and may run out.
        """
        gone = self.slot(slot_id)
        kept = tuple(slot for slot in self.slots if slot is not gone)
        if not any(slot.is_owner for slot in kept):
            raise LastKeyslot
        return replace(self, generation=self.generation + 1, slots=kept)


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A decoded header that nobody has authenticated yet, with the bytes to do it."""

    header: Header
    body: bytes = field(repr=False)
    tag: bytes = field(repr=False)

    def verify(self, master: bytes | bytearray) -> Header:
        """The header, once its tag is right under ``master``. Raises HeaderTampered."""
        if not hmac.compare_digest(_tag(self.body, master), self.tag):
            raise HeaderTampered
        return self.header


def encode_header(header: Header, master: bytes | bytearray) -> bytes:
    """The bytes of the file ``keys``."""
    body = _encode_body(header)
    return body + _SEAL_PREFIX + _tag(body, master).hex().encode("ascii") + b"\n"


def decode_header(raw: bytes, limits: HeaderLimits = DEFAULT_LIMITS) -> SignedHeader:
    """Read the bytes of a file ``keys``; the result is not authenticated yet.

    Raises HeaderTampered if they are malformed or over a limit, TooNew for a later version.
    """
    if not _SEAL_LINE_BYTES < len(raw) <= limits.file_bytes:
        raise HeaderTampered
    body, seal = raw[:-_SEAL_LINE_BYTES], raw[-_SEAL_LINE_BYTES:]
    try:
        tag = bytes.fromhex(seal[len(_SEAL_PREFIX) : -1].decode("ascii"))
        header = _decode_body(json.loads(body.decode("utf-8")), limits)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HeaderTampered from None
    if _encode_body(header) != body or seal != _SEAL_PREFIX + tag.hex().encode("ascii") + b"\n":
        raise HeaderTampered
    return SignedHeader(header, body, tag)


def read_header(
    account_folder: Path, limits: HeaderLimits = DEFAULT_LIMITS, *, name: str = KEYS_FILE
) -> SignedHeader:
    """Read and decode the header of an account folder.

    Raises NoSuchAccount if the file is not there, HeaderTampered, TooNew, StorageFailed.
    """
    return decode_header(_read(account_folder / name, limits), limits)


def has_public_key(account_folder: Path, public_key: PublicKey) -> bool:
    """Whether the header of an account folder names this key; nothing else of it is looked at.

    For every delivery: decoding takes ten times as long as this. Raises NoSuchAccount, StorageFailed.
    """
    line = f'\n "public_key": "{_text(public_key)}",\n'
    return line.encode("ascii") in _read(account_folder / KEYS_FILE, DEFAULT_LIMITS)


def _read(path: Path, limits: HeaderLimits) -> bytes:
    with storage_errors():
        try:
            with path.open("rb") as file:
                return file.read(limits.file_bytes + 1)
        except FileNotFoundError:
            raise NoSuchAccount from None


def write_header(
    account_folder: Path, header: Header, master: bytes | bytearray, *, name: str = KEYS_FILE
) -> None:
    """Put ``header`` in place durably; the caller holds ``keys.lock``. Raises StorageFull, StorageFailed."""
    with storage_errors():
        # A process that was killed may have left a temporary header with slots that are revoked by now.
        for leftover in account_folder.glob(f".{name}.*.tmp"):
            leftover.unlink()
        replace_file(account_folder / name, encode_header(header, master))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the directory knows about an account's header."""

    account_id: AccountId
    public_key: PublicKey = field(repr=False)
    generation: int


def authenticate(signed: SignedHeader, master: bytes | bytearray, expected: Expected) -> Header:
    """The header, once it is authentic and what the directory expects.

    Raises HeaderTampered: wrong tag, another account's header, another public key than the
    directory's, or an older generation than the directory has seen (an old header put back).
    """
    header = signed.verify(master)
    if header.account_id != expected.account_id or header.generation < expected.generation:
        raise HeaderTampered
    if not hmac.compare_digest(header.public_key, expected.public_key):
        raise HeaderTampered
    return header


def check_header(signed: SignedHeader, master: bytes | bytearray, expected: Expected) -> PrivateKey:
    """Authenticate a header and open its private key.

    Raises HeaderTampered as :func:`authenticate` does, and if the two halves do not match.
    """
    header = authenticate(signed, master, expected)
    private_key = unwrap_private_key(header.account_id, header.private_key, master)
    if not hmac.compare_digest(private_key.public, header.public_key):
        raise HeaderTampered
    return private_key


def _tag(body: bytes, master: bytes | bytearray) -> bytes:
    return hmac.digest(derive(master, KeyLabel.HEADER, MASTER_KEY_BYTES), body, "sha256")


def _encode_body(header: Header) -> bytes:
    tree = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "account": header.account_id,
        "generation": header.generation,
        "public_key": _text(header.public_key),
        "private_key": {
            "nonce": _text(header.private_key.nonce),
            "wrapped": _text(header.private_key.wrapped),
        },
        "scram": {"salt": _text(header.scram.salt), "iterations": header.scram.iterations},
        "keyslots": [_encode_slot(slot) for slot in header.slots],
    }
    return json.dumps(tree, indent=1, ensure_ascii=True).encode("ascii") + b"\n"


def _encode_slot(slot: Keyslot) -> dict[str, object]:
    scope, scram = slot.scope, slot.scram
    return {
        "id": slot.id,
        "kind": slot.kind.value,
        "label": slot.label,
        "created": slot.created,
        "protocols": None if scope.protocols is None else sorted(scope.protocols),
        "read_only": scope.read_only,
        "not_after": scope.not_after,
        "time_cost": slot.params.time_cost,
        "memory_kib": slot.params.memory_kib,
        "parallelism": slot.params.parallelism,
        "salt": _text(slot.salt),
        "nonce": _text(slot.nonce),
        "wrapped": _text(slot.wrapped),
        "scram": None
        if scram is None
        else {
            "stored_key": _text(scram.stored_key),
            "nonce": _text(scram.nonce),
            "wrapped": _text(scram.wrapped),
        },
    }


# Any: json.loads has no better type; every value passes a check below before it is used.
def _decode_body(tree: Any, limits: HeaderLimits) -> Header:
    if tree["format"] != FORMAT_NAME:
        raise HeaderTampered
    if (version := _integer(tree["version"], 1)) != FORMAT_VERSION:
        raise TooNew if version > FORMAT_VERSION else HeaderTampered
    _exact(
        tree, ("format", "version", "account", "generation", "public_key", "private_key", "scram", "keyslots")
    )
    _exact(tree["private_key"], ("nonce", "wrapped"))
    _exact(tree["scram"], ("salt", "iterations"))
    if not _ACCOUNT_ID.fullmatch(tree["account"]) or len(tree["keyslots"]) > limits.slots:
        raise HeaderTampered
    slots = tuple(_decode_slot(slot, limits) for slot in tree["keyslots"])
    kinds = [slot.kind for slot in slots]
    if len({slot.id for slot in slots}) != len(slots) or any(kinds.count(kind) > 1 for kind in _SINGLE_KINDS):
        raise HeaderTampered
    private_key = WrappedKey(
        _data(tree["private_key"]["nonce"], NONCE_BYTES),
        _data(tree["private_key"]["wrapped"], PRIVATE_KEY_BYTES + TAG_BYTES),
    )
    scram = ScramSetup(
        _data(tree["scram"]["salt"], SALT_BYTES),
        _integer(tree["scram"]["iterations"], SCRAM_ITERATIONS, limits.scram_iterations),
    )
    return Header(
        account_id=AccountId(tree["account"]),
        generation=_integer(tree["generation"], 1),
        public_key=PublicKey(_data(tree["public_key"], PUBLIC_KEY_BYTES)),
        private_key=private_key,
        scram=scram,
        slots=slots,
    )


def _decode_slot(tree: Any, limits: HeaderLimits) -> Keyslot:
    _exact(tree, ("id", "kind", "label", "created", "protocols", "read_only", "not_after",
                  "time_cost", "memory_kib", "parallelism", "salt", "nonce", "wrapped", "scram"))  # fmt: skip
    if not is_slot_id(tree["id"]) or not isinstance(tree["read_only"], bool):
        raise HeaderTampered
    if not isinstance(tree["label"], str) or len(tree["label"]) > limits.label_chars:
        raise HeaderTampered
    tree["label"].encode("utf-8")
    if tree["memory_kib"] < 8 * tree["parallelism"]:  # Argon2's own lower bound
        raise HeaderTampered
    names, until = tree["protocols"], tree["not_after"]
    return Keyslot(
        id=SlotId(tree["id"]),
        kind=SlotKind(tree["kind"]),
        label=tree["label"],
        created=_integer(tree["created"], 0),
        scope=Scope(
            None if names is None else frozenset(AccessProtocol(name) for name in names),
            tree["read_only"],
            None if until is None else _integer(until, 0),
        ),
        params=Argon2Params(
            _integer(tree["time_cost"], 1, limits.argon2_time_cost),
            _integer(tree["memory_kib"], 8, limits.argon2_memory_kib),
            _integer(tree["parallelism"], 1, limits.argon2_parallelism),
        ),
        salt=_data(tree["salt"], SALT_BYTES),
        nonce=_data(tree["nonce"], NONCE_BYTES),
        wrapped=_data(tree["wrapped"], MASTER_KEY_BYTES + TAG_BYTES),
        scram=None if tree["scram"] is None else _decode_scram(tree["scram"]),
    )


def _decode_scram(tree: Any) -> ScramWrap:
    _exact(tree, ("stored_key", "nonce", "wrapped"))
    return ScramWrap(
        _data(tree["stored_key"], STORED_KEY_BYTES),
        _data(tree["nonce"], NONCE_BYTES),
        _data(tree["wrapped"], MASTER_KEY_BYTES + STORED_KEY_BYTES + TAG_BYTES),
    )


def _exact(tree: Any, names: tuple[str, ...]) -> None:
    if not isinstance(tree, dict) or tuple(tree) != names:
        raise HeaderTampered


def _integer(value: object, least: int, most: int = 2**53) -> int:
    if type(value) is not int or not least <= value <= most:
        raise HeaderTampered
    return value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _data(text: str, length: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise HeaderTampered from None
    if len(data) != length:
        raise HeaderTampered
    return data
