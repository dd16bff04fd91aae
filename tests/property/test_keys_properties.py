"""Keys, headers, sealed messages and addresses hold for whatever they are given."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mailstore.address import read_address, read_domain, read_login_name
from mailstore.errors import HeaderTampered, PasswordUnusable, SealedMessageDamaged, TooNew
from mailstore.keys import (
    AccountId,
    Argon2Params,
    Header,
    Keyslot,
    PublicKey,
    Scope,
    SlotId,
    SlotKind,
    decode_header,
    load_private_key,
    meant_as_recovery_key,
    new_app_password,
    new_recovery_key,
    parse_secret,
    recovery_key_typo,
)
from mailstore.keys.header import encode_header
from mailstore.keys.pair import WrappedKey
from mailstore.keys.printed import ALPHABET, read_printed
from mailstore.keys.slots import ScramWrap, slot_associated_data
from mailstore.model import AccessProtocol, ScramSetup
from mailstore.sealed import MAGIC, Facts, SealedId, open_sealed, padded_size, seal

MASTER = bytes(range(32))
ACCOUNT = AccountId("0123456789abcdef" * 2)
ID = SealedId("0" * 16 + "-" + "0" * 16)
PAIR = load_private_key(bytes(range(96)))

slot_ids = st.text(ALPHABET, min_size=8, max_size=8).map(SlotId)
scopes = st.builds(
    Scope,
    st.none() | st.frozensets(st.sampled_from(AccessProtocol)),
    st.booleans(),
    st.none() | st.integers(0, 2**40),
)
params = st.builds(Argon2Params, st.integers(1, 64), st.integers(512, 2**20), st.integers(1, 64))
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


def binary(size):
    """Exactly ``size`` bytes."""
    return st.binary(min_size=size, max_size=size)


slots = st.builds(
    Keyslot,
    id=slot_ids,
    kind=st.just(SlotKind.APP_PASSWORD),
    label=labels,
    created=st.integers(0, 2**40),
    scope=scopes,
    params=params,
    salt=binary(16),
    nonce=binary(12),
    wrapped=binary(48),
    scram=st.none() | st.builds(ScramWrap, binary(32), binary(12), binary(80)),
)
headers = st.builds(
    Header,
    account_id=st.just(ACCOUNT),
    generation=st.integers(1, 2**53),
    public_key=binary(1216).map(PublicKey),
    private_key=st.builds(WrappedKey, binary(12), binary(112)),
    scram=st.builds(ScramSetup, binary(16), st.integers(4096, 10**6)),
    slots=st.lists(slots, max_size=5, unique_by=lambda slot: slot.id).map(tuple),
)


@settings(max_examples=40)
@given(headers)
def test_header_round_trip(header):
    """decode(encode(x)) is x, for every label and scope."""
    raw = encode_header(header, MASTER)
    assert decode_header(raw).verify(MASTER) == header
    json.loads(raw[: raw.rindex(b"hmac-sha256 ")])


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_as_header(raw, with_seal):
    """Any bytes are a header or an error of ours."""
    try:
        decode_header(raw + b"\nhmac-sha256 " + b"0" * 64 + b"\n" if with_seal else raw)
    except (HeaderTampered, TooNew):
        pass


@given(slots, slots)
def test_associated_data_is_unambiguous(first, second):
    """Two slots share associated data only if their metadata is the same."""

    def facts(slot):
        return (slot.id, slot.kind, slot.label, slot.created, slot.scope, slot.params, slot.salt)

    same = slot_associated_data(ACCOUNT, first) == slot_associated_data(ACCOUNT, second)
    assert same == (facts(first) == facts(second))


@given(labels, labels, st.integers(0, 999))
def test_fields_do_not_run_into_each_other(one, two, number):
    """Text that looks like the next field stays in its own."""
    rest = (Scope(), Argon2Params(), bytes(16), bytes(12), b"")
    first, second = (
        slot_associated_data(ACCOUNT, Keyslot(SlotId("k7qm2x9a"), SlotKind.PASSWORD, label, created, *rest))
        for label, created in ((one, number), (two, 0))
    )
    assert (first == second) == (one == two and number == 0)


@given(slot_ids, st.sampled_from([new_app_password, new_recovery_key]), st.data())
def test_printed_secrets_are_read_back(slot_id, make, data):
    """Whatever case, grouping and look-alikes a person chooses."""
    printed = make(slot_id, lambda count: data.draw(st.binary(min_size=count, max_size=count)))
    look_alikes = {"1": "1lIiL", "0": "0oO"}
    typed = ""
    for char in printed.canonical:
        typed += data.draw(st.sampled_from(look_alikes.get(char, char + char.upper())))
        typed += data.draw(st.sampled_from(["", "-", " "]))
    assert read_printed(typed) == printed
    assert parse_secret(typed.encode()).printed == printed


@given(st.text())
def test_any_text_as_secret(text):
    """Any text is read or refused, never a crash; a typo is named for everything that is no key."""
    printed = read_printed(text)
    is_recovery_key = printed is not None and printed.kind is SlotKind.RECOVERY_KEY
    assert (recovery_key_typo(text) is None) == is_recovery_key
    meant_as_recovery_key(text)


@given(st.binary())
def test_any_bytes_as_secret(raw):
    """Any bytes from a client are a secret or unusable."""
    try:
        secret = parse_secret(raw)
    except PasswordUnusable:
        return
    assert secret.password.decode("utf-8")


facts_values = st.builds(
    Facts,
    received=st.integers(-(2**63), 2**63 - 1),
    envelope_from=st.binary(max_size=50),
    envelope_to=st.binary(max_size=50),
    mailbox_hint=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    trace_header=st.binary(max_size=200),
    flags=st.lists(st.binary(max_size=10), max_size=5).map(tuple),
)


@given(st.binary(max_size=5000), facts_values)
def test_sealed_round_trip(message, facts):
    """open(seal(x)) is x."""
    assert open_sealed(PAIR, ACCOUNT, ID, seal(PAIR.public, ACCOUNT, ID, message, facts)) == (facts, message)


@given(st.binary(max_size=3000), st.booleans())
def test_any_bytes_as_sealed(raw, with_magic):
    """Any bytes are damage."""
    try:
        open_sealed(PAIR, ACCOUNT, ID, MAGIC + raw if with_magic else raw)
    except SealedMessageDamaged:
        return
    raise AssertionError("opened")


@given(st.integers(0, 2**50))
def test_padme(size):
    """Padding never shortens, never costs 12 %, grows with the size and is stable."""
    padded = padded_size(size)
    assert size <= padded <= max(size * 1.12, size)
    assert padded_size(padded) == padded
    assert padded_size(size + 1) >= padded


@given(st.text() | st.binary())
def test_any_text_as_address(text):
    """Odd text is no address; what is read is read again the same."""
    address = read_address(text)
    if address is not None:
        again = read_address(address.full)
        assert again is not None
        assert again.full == address.full
        assert again.base == address.base
    domain = read_domain(text)
    assert domain is None or read_domain(domain) == domain
    name = read_login_name(text, "example.org")
    assert name is None or read_login_name(name, None) == name


@given(st.from_regex(r"[a-zA-Z0-9.]{1,20}(\+[a-zA-Z0-9]{0,5})?", fullmatch=True))
def test_case_of_addresses(local):
    """Upper and lower case are one address; the detail keeps its case."""
    lower, upper = read_address(f"{local.lower()}@example.org"), read_address(f"{local.upper()}@EXAMPLE.ORG")
    assert (lower is None) == (upper is None)
    assert lower is None or (lower.base, lower.full) == (upper.base, upper.full)
