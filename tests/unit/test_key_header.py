"""The file ``keys``: strict, authenticated as a whole, and never older than the directory knows."""

import base64
import errno
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from keys_world import PASSWORD, TINY, make_world

from mailstore import durable
from mailstore.errors import (
    AddressInvalid,
    AuthenticationFailed,
    Busy,
    HeaderTampered,
    LastKeyslot,
    LimitExceeded,
    NoSuchAccount,
    NoSuchKeyslot,
    PasswordUnusable,
    StorageFull,
    StoreError,
    TooNew,
)
from mailstore.keys import (
    HeaderLimits,
    Scope,
    SlotId,
    SlotKind,
    check_header,
    choose_slot,
    decode_header,
    has_public_key,
    load_private_key,
    new_private_key,
    open_slot,
    parse_secret,
    read_header,
)
from mailstore.keys.header import encode_header
from mailstore.locks import locked
from mailstore.opening import expected


@pytest.fixture
def world(tmp_path):
    """A root with one account."""
    yield from make_world(tmp_path)


def test_round_trip(world):
    """What was written is read, and the tag holds under the master key only."""
    keyring = world.keyring()
    keyring.add_app_password("phone", Scope(read_only=True, not_after=5))
    signed = read_header(world.paths.folder)
    assert signed.verify(keyring.master) == signed.header
    assert encode_header(signed.header, keyring.master) == world.paths.keys.read_bytes()
    with pytest.raises(HeaderTampered):
        signed.verify(bytes(32))


def test_the_public_key_can_be_asked_for_without_decoding(world):
    """It has to stand where the header has it, in whole; a label that looks like it is none."""
    key, other = world.record.public_key, load_private_key(new_private_key()).public
    assert has_public_key(world.paths.folder, key)
    assert not has_public_key(world.paths.folder, other)
    text = base64.b64encode(key).decode("ascii")
    inside = json.dumps({"keyslots": [{"public_key": text, "label": f'"public_key": "{text}",'}]}, indent=1)
    for raw in (b"", world.paths.keys.read_bytes().replace(text[:10].encode(), b"A" * 10), inside.encode()):
        world.paths.keys.write_bytes(raw)
        assert not has_public_key(world.paths.folder, key)
    world.paths.keys.unlink()
    with pytest.raises(NoSuchAccount):
        has_public_key(world.paths.folder, key)


def opens(world, raw):
    """Whether these bytes as a header open the account: the steps of a login, without the disk."""
    try:
        signed = decode_header(raw)
        slot, secret = choose_slot(signed.header.slots, parse_secret(PASSWORD)) or (None, b"")
        if slot is None:
            return False
        master = open_slot(world.record.account_id, slot, secret, argon2=world.argon2)
        check_header(signed, master, expected(world.record))
    except (HeaderTampered, AuthenticationFailed, TooNew):
        return False
    return True


def test_every_flipped_bit_is_refused(world):
    """No single bit of the file can change without the unlock failing."""
    world.keyring().add_app_password("phone", Scope())
    good = world.paths.keys.read_bytes()
    assert opens(world, good)
    for at in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[at] ^= 1 << bit
            assert not opens(world, bytes(damaged)), (at, bit)


def test_every_truncation_is_refused(world):
    """A header cut short anywhere, or with something behind it, is malformed."""
    good = world.paths.keys.read_bytes()
    for size in range(len(good)):
        with pytest.raises(HeaderTampered):
            decode_header(good[:size])
    with pytest.raises(HeaderTampered):
        decode_header(good + b"\n")


def body_of(world):
    """The JSON tree of the header on disk."""
    return json.loads(read_header(world.paths.folder).body)


def recoded(tree):
    """A file with ``tree`` as its body and a tag of zeros: enough for the decoder."""
    return json.dumps(tree, indent=1).encode() + b"\nhmac-sha256 " + b"0" * 64 + b"\n"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "other"),
        (("version",), 0),
        (("version",), "1"),
        (("version",), True),
        (("account",), "../../../../etc/passwd"),
        (("account",), 5),
        (("generation",), 0),
        (("generation",), 1.0),
        (("generation",), 2**60),
        (("public_key",), "AAAA"),
        (("public_key",), None),
        (("private_key",), []),
        (("private_key", "nonce"), "!"),
        (("private_key", "more"), "x"),
        (("more",), 1),
        (("keyslots",), None),
        (("keyslots",), [1]),
        (("keyslots", 0, "id"), "short"),
        (("keyslots", 0, "id"), 12345678),
        (("keyslots", 0, "kind"), "key"),
        (("keyslots", 0, "label"), None),
        (("keyslots", 0, "label"), ["x"]),
        (("keyslots", 0, "label"), "\ud800"),
        (("keyslots", 0, "label"), "x" * 101),
        (("keyslots", 0, "created"), -1),
        (("keyslots", 0, "protocols"), ["ftp"]),
        (("keyslots", 0, "protocols"), ["pop3", "imap"]),
        (("keyslots", 0, "protocols"), ["imap", "imap"]),
        (("keyslots", 0, "protocols"), "imap"),
        (("keyslots", 0, "read_only"), 0),
        (("keyslots", 0, "not_after"), "never"),
        (("keyslots", 0, "time_cost"), 0),
        (("keyslots", 0, "time_cost"), 65),
        (("keyslots", 0, "memory_kib"), 2**30),
        (("keyslots", 0, "memory_kib"), 7),
        (("keyslots", 0, "parallelism"), 9),
        (("keyslots", 0, "salt"), "AAAA"),
        (("keyslots", 0, "wrapped"), "AAAA"),
        (("keyslots", 0, "more"), 1),
        (("keyslots", 0, "scram"), {}),
        (("keyslots", 0, "scram"), {"stored_key": "AAAA", "nonce": "AAAA", "wrapped": "AAAA"}),
        (("scram", "iterations"), 4095),
        (("scram", "iterations"), 10**9),
        (("scram", "salt"), ""),
    ],
)
def test_strict_decoding(world, path, value):
    """Unknown fields, wrong types and values out of bounds are refused before any Argon2 run."""
    tree = body_of(world)
    decode_header(recoded(tree))
    at = tree
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(HeaderTampered):
        decode_header(recoded(tree))


LIMITS = HeaderLimits()


@pytest.mark.parametrize(
    ("path", "fits", "beyond"),
    [
        (("generation",), (1, 2**53), (0, 2**53 + 1)),
        (("scram", "iterations"), (4096, LIMITS.scram_iterations), (4095, LIMITS.scram_iterations + 1)),
        (("keyslots", 0, "id"), ("0" * 8,), ("0" * 7, "0" * 9)),
        (("keyslots", 0, "label"), ("", "x" * LIMITS.label_chars), ("x" * (LIMITS.label_chars + 1),)),
        (("keyslots", 0, "created"), (0, 2**53), (-1, 2**53 + 1)),
        (("keyslots", 0, "not_after"), (0, 2**53), (-1, 2**53 + 1)),
        (("keyslots", 0, "time_cost"), (1, LIMITS.argon2_time_cost), (0, LIMITS.argon2_time_cost + 1)),
        (("keyslots", 0, "memory_kib"), (8, LIMITS.argon2_memory_kib), (7, LIMITS.argon2_memory_kib + 1)),
        (("keyslots", 0, "parallelism"), (1, 8), (0, 9)),
    ],
)
def test_fields_at_their_bounds(world, path, fits, beyond):
    """The largest and the smallest value are read, the next ones are not."""
    for values, good in ((fits, True), (beyond, False)):
        for value in values:
            tree = body_of(world)
            at = tree
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = value
            assert decodes(recoded(tree)) is good, (path, value)


@pytest.mark.parametrize("most", [1, LIMITS.argon2_parallelism])
def test_parallelism_at_its_bounds(world, most):
    """It is bounded by itself, and by the memory, of which each lane has 8 KiB."""
    limits = HeaderLimits(argon2_parallelism=most)
    for lanes, memory_kib, good in (
        (most, 8 * most, True),
        (most, 8 * most - 1, False),
        (most + 1, 1000, False),
    ):
        tree = body_of(world)
        tree["keyslots"][0] |= {"parallelism": lanes, "memory_kib": memory_kib}
        assert decodes(recoded(tree), limits) is good


def test_size_of_a_header_at_its_bound(world):
    """As many slots and octets as there may be are read, one more is not, from the disk as from memory."""
    tree = body_of(world)
    other = {**tree["keyslots"][0], "kind": "app-password"}
    tree["keyslots"] += [{**other, "id": f"{number:08}"} for number in range(2)]
    raw = recoded(tree)
    for limits, good in (
        (HeaderLimits(slots=3, file_bytes=len(raw)), True),
        (HeaderLimits(slots=2), False),
        (HeaderLimits(file_bytes=len(raw) - 1), False),
    ):
        assert decodes(raw, limits) is good
        world.paths.keys.write_bytes(raw)
        try:
            read_header(world.paths.folder, limits)
        except HeaderTampered:
            assert not good
        else:
            assert good
    world.paths.keys.write_bytes(raw + b"\n")
    with pytest.raises(HeaderTampered):
        read_header(world.paths.folder, HeaderLimits(file_bytes=len(raw)))


def decodes(raw, limits=LIMITS):
    """Whether it can be a header."""
    try:
        decode_header(raw, limits)
    except HeaderTampered:
        return False
    return True


@pytest.mark.parametrize("missing", ["version", "keyslots", "public_key"])
def test_missing_field(world, missing):
    """All fields are required."""
    tree = body_of(world)
    del tree[missing]
    with pytest.raises(HeaderTampered):
        decode_header(recoded(tree))


def test_other_spellings_are_refused(world):
    """The same JSON written differently, or twice the same key, is not a header."""
    tree = body_of(world)
    tail = b"\nhmac-sha256 " + b"0" * 64 + b"\n"
    for body in (json.dumps(tree), json.dumps(tree, indent=2), json.dumps(tree, indent=1, sort_keys=True)):
        with pytest.raises(HeaderTampered):
            decode_header(body.encode() + tail)
    twice = json.dumps(tree, indent=1).replace('"version": 1,', '"version": 1,\n "version": 1,', 1)
    with pytest.raises(HeaderTampered):
        decode_header(twice.encode() + tail)
    with pytest.raises(HeaderTampered):
        decode_header(recoded(tree).replace(b"0" * 64, b"A" * 64))


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 100_000, b"null", b"\xff", b'{"format": NaN}'])
def test_hostile_json(body):
    """Deep, long and odd JSON is refused without harm."""
    with pytest.raises(HeaderTampered):
        decode_header(body + b"\nhmac-sha256 " + b"0" * 64 + b"\n")


def test_later_version_says_so(world):
    """A header of a newer program is told apart from a damaged one."""
    tree = {**body_of(world), "version": 2, "new_field": 1}
    with pytest.raises(TooNew):
        decode_header(recoded(tree))


def test_two_password_slots_are_refused(world):
    """More than one password would mean more than one Argon2 run."""
    tree = body_of(world)
    tree["keyslots"].append({**tree["keyslots"][0], "id": "00000000"})
    with pytest.raises(HeaderTampered):
        decode_header(recoded(tree))


def test_directory_and_header_must_agree_on_the_public_key(world):
    """Either side changed: the account does not open."""
    other = load_private_key(new_private_key()).public
    world.directory.set_header(world.record.account_id, other, 1)
    with pytest.raises(HeaderTampered):
        world.open()


def test_header_of_another_account(world):
    """A whole folder's header put in another folder does not open, even with a shared password."""
    from mailstore.account import NewAccount, account_paths, create_account

    other = create_account(world.root, world.directory, NewAccount("ann@example.org", PASSWORD), params=TINY)
    stolen = account_paths(world.root, other.account_id).keys.read_bytes()
    world.paths.keys.write_bytes(stolen)
    with pytest.raises((HeaderTampered, AuthenticationFailed)):
        world.open()


def test_keyslots_come_and_go(world):
    """Add, list, revoke; each change is one generation, in the header and in the directory."""
    keyring = world.keyring()
    made = keyring.add_app_password("phone", Scope())
    assert [slot.label for slot in keyring.slots()] == ["password", "phone"]
    assert world.directory.account(world.record.account_id).header_generation == 2
    keyring.revoke(made.slot.id)
    assert [slot.label for slot in keyring.slots()] == ["password"]
    assert read_header(world.paths.folder).header.generation == 3
    with pytest.raises(NoSuchKeyslot):
        keyring.revoke(made.slot.id)


def test_last_keyslot(world):
    """An account keeps a password or a recovery key; app passwords do not count."""
    keyring = world.keyring()
    keyring.add_app_password("phone", Scope())
    password = keyring.slots()[0].id
    with pytest.raises(LastKeyslot):
        keyring.revoke(password)
    keyring.replace_recovery_key()
    keyring.revoke(password)
    with pytest.raises(AuthenticationFailed):
        world.open()


def test_recovery_key(world):
    """It opens without the password; a new one replaces it; it can set a new password."""
    first = world.keyring().replace_recovery_key().printed.text().encode()
    second = world.keyring().replace_recovery_key().printed.text().encode()
    with pytest.raises(AuthenticationFailed):
        world.open(first)
    world.keyring(second).change_password(b"a new password")
    assert world.open(b"a new password").master == world.open(second).master
    kinds = [slot.kind for slot in read_header(world.paths.folder).header.slots]
    assert kinds == [SlotKind.RECOVERY_KEY, SlotKind.PASSWORD]


def test_password_change_leaves_the_mailbox_alone(world):
    """Only ``keys`` changes when a password does."""
    world.paths.mail_db.write_bytes(b"ciphertext" * 1000)
    before = {path: path.read_bytes() for path in world.paths.folder.iterdir() if path.is_file()}
    master = world.open().master
    world.keyring().change_password(b"a new password")
    after = {path: path.read_bytes() for path in world.paths.folder.iterdir() if path.is_file()}
    assert {path.name for path in before if before[path] != after[path]} == {"keys"}
    assert after.keys() == before.keys()
    assert world.open(b"a new password").master == master


def test_generated_secret_as_password(world):
    """A password in the form of one of the account's generated secrets would never be asked: refused."""
    keyring = world.keyring()
    app = keyring.add_app_password("phone", Scope())
    recovery = keyring.replace_recovery_key()
    for made in (app, recovery):
        with pytest.raises(PasswordUnusable):
            keyring.change_password(made.printed.text().encode())


def test_the_longest_label(world):
    """As many characters as there may be, of whatever script."""
    label = "\u00e4" * LIMITS.label_chars
    assert world.keyring().add_app_password(label, Scope()).slot.label == label
    assert [slot.label for slot in world.keyring().slots()] == ["password", label]


@pytest.mark.parametrize("label", ["", "x" * 101, "line\nbreak", "\x1b[2J"])
def test_labels(world, label):
    """A label is short printable text."""
    with pytest.raises(AddressInvalid):
        world.keyring().add_app_password(label, Scope())


def test_number_of_slots_is_bounded(world):
    """One slot more than the limit is refused and changes nothing."""
    keyring = replace(world.keyring(), limits=HeaderLimits(slots=2))
    keyring.add_app_password("phone", Scope())
    before = world.paths.keys.read_bytes()
    with pytest.raises(LimitExceeded):
        keyring.add_app_password("tablet", Scope())
    assert world.paths.keys.read_bytes() == before


def test_changes_wait_for_each_other(world):
    """Whoever changes the header holds its lock."""
    with locked(world.paths.keys_lock, exclusive=True), pytest.raises(Busy):
        world.keyring().add_app_password("phone", Scope())


def test_changes_at_once(world):
    """Changes from several threads all arrive, one generation each."""
    keyring = replace(world.keyring(), lock_timeout_s=10.0)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: keyring.add_app_password(f"app {number}", Scope()), range(8)))
    header = read_header(world.paths.folder).header
    assert {slot.id for slot in header.slots} >= {one.slot.id for one in made}
    assert (header.generation, len(header.slots)) == (9, 9)


@pytest.mark.parametrize("step", ["write_new", "sync_folder"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "killed"]
)
def test_interrupted_change(world, monkeypatch, step, error):
    """Whatever step of a change fails, the account opens with the old header or the new one."""

    def fail(*_arguments):
        raise error

    keyring = world.keyring()
    with monkeypatch.context() as patch:
        patch.setattr(durable, step, fail)
        with pytest.raises((StorageFull, KeyboardInterrupt)):
            keyring.add_app_password("phone", Scope())
    assert len(world.open().header.slots) == (1 if step == "write_new" else 2)
    keyring.add_app_password("tablet", Scope())
    assert {path.name for path in world.paths.folder.iterdir()} == {"inbox", "keys", "keys.lock", "lock"}


def test_change_after_destruction(world):
    """A header that is gone is not written again."""
    keyring = world.keyring()
    world.paths.keys.unlink()
    with pytest.raises(NoSuchAccount):
        keyring.revoke(SlotId("00000000"))
    assert not world.paths.keys.exists()


def test_no_temporary_files_stay(world):
    """Changing the header leaves the folder as it was, but for what a killed change left there."""
    before = {path.name for path in world.paths.folder.iterdir()}
    (world.paths.folder / ".keys.1a2b.01234567.tmp").write_bytes(world.paths.keys.read_bytes())
    world.keyring().replace_recovery_key()
    assert {path.name for path in world.paths.folder.iterdir()} == before
    assert world.paths.keys.stat().st_mode & 0o777 == 0o600


def test_errors_carry_no_text():
    """Errors of the store have no arguments, so nothing secret can travel in them."""
    assert all(not kind().args for kind in StoreError.__subclasses__())
