"""The key hierarchy and keyslots."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from keys_world import TINY, CountingArgon2, fixed_random

from mailstore.errors import AuthenticationFailed, HeaderTampered, PasswordUnusable, TooManyLogins
from mailstore.keys import (
    MAX_SECRET_BYTES,
    AccountId,
    Argon2Params,
    KeyLabel,
    PublicKey,
    Scope,
    ServerKeyLabel,
    SlotFacts,
    SlotId,
    SlotKind,
    argon2id,
    choose_slot,
    derive,
    load_private_key,
    load_public_key,
    make_slot,
    new_app_password,
    new_private_key,
    new_recovery_key,
    new_slot_id,
    open_slot,
    parse_secret,
    wrap_private_key,
)
from mailstore.keys.pair import unwrap_private_key
from mailstore.model import AccessProtocol

ACCOUNT = AccountId("0123456789abcdef" * 2)
MASTER = bytes(range(32))


def slot(kind=SlotKind.PASSWORD, secret=b"secret", slot_id="abcdefgh", scope=None):
    """A keyslot around MASTER."""
    facts = SlotFacts(SlotId(slot_id), kind, "label", 1_700_000_000, scope or Scope())
    return make_slot(ACCOUNT, facts, TINY, secret, MASTER)


def test_derive_separates_purposes():
    """Each label gives another key, of the length asked for."""
    labels = [*KeyLabel, *ServerKeyLabel]
    keys = {derive(MASTER, label, 32) for label in labels}
    assert len(keys) == len(labels)
    assert len(derive(MASTER, KeyLabel.DATABASE_SALT, 16)) == 16
    assert MASTER not in keys


def test_slot_opens_with_its_secret_only():
    """A keyslot gives the master key for one secret."""
    assert open_slot(ACCOUNT, slot(), b"secret") == MASTER
    with pytest.raises(AuthenticationFailed):
        open_slot(ACCOUNT, slot(), b"Secret")


def test_slot_belongs_to_its_account():
    """A slot copied into another account's header does not open."""
    with pytest.raises(AuthenticationFailed):
        open_slot(AccountId("f" * 32), slot(), b"secret")


@pytest.mark.parametrize(
    "change",
    [
        {"id": SlotId("hgfedcba")},
        {"kind": SlotKind.APP_PASSWORD},
        {"label": "lab"},
        {"created": 1_700_000_001},
        {"scope": Scope(read_only=True)},
        {"scope": Scope(frozenset({AccessProtocol.IMAP}))},
        {"scope": Scope(frozenset())},
        {"scope": Scope(not_after=5)},
        {"params": Argon2Params(1, 65, 1)},
        {"salt": bytes(16)},
        {"nonce": bytes(12)},
        {"wrapped": bytes(48)},
    ],
)
def test_all_metadata_is_bound(change):
    """No field of a slot can be changed without closing it."""
    with pytest.raises(AuthenticationFailed):
        open_slot(ACCOUNT, replace(slot(), **change), b"secret")


def test_protocols_are_not_confused_with_all():
    """No protocols at all is not the same as all protocols."""
    nothing = Scope(frozenset())
    assert not nothing.allows(AccessProtocol.IMAP, 0)
    assert Scope().allows(AccessProtocol.IMAP, 0)


@pytest.mark.parametrize(("now", "allowed"), [(99.0, True), (100.0, True), (100.5, False), (101.0, False)])
def test_not_after(now, allowed):
    """The last second of a slot is included."""
    assert Scope(not_after=100).allows(AccessProtocol.DAV, now) is allowed


def test_password_in_nfc():
    """A composed and a decomposed spelling are one password."""
    assert parse_secret("Käse".encode()).password == parse_secret("Ka\u0308se".encode()).password


def test_the_longest_secret():
    """As many octets as there may be, whatever they say; one more is not usable, as below."""
    assert parse_secret(b"x" * MAX_SECRET_BYTES).password == b"x" * MAX_SECRET_BYTES
    assert len(parse_secret("\u00e4".encode() * (MAX_SECRET_BYTES // 2)).password) == MAX_SECRET_BYTES


@pytest.mark.parametrize("raw", [b"", b"a\0b", b"\xe4", b"x" * (MAX_SECRET_BYTES + 1)])
def test_unusable_passwords(raw):
    """Empty, NUL, not UTF-8, too long."""
    with pytest.raises(PasswordUnusable):
        parse_secret(raw)


def test_spaces_and_case_of_a_password_count():
    """Only generated secrets are read leniently."""
    assert parse_secret(b" Pass-Word ").password == b" Pass-Word "


def choose(slots, text):
    """The id of the slot chosen for ``text``."""
    chosen = choose_slot(slots, parse_secret(text.encode()))
    return None if chosen is None else chosen[0].id


def test_choice_of_the_slot():
    """A generated secret names its slot; all else is for the password."""
    app, other = new_app_password(SlotId("aaaaaaaa")), new_app_password(SlotId("bbbbbbbb"))
    recovery = new_recovery_key(SlotId("cccccccc"))
    slots = [
        slot(slot_id="pppppppp"),
        slot(SlotKind.APP_PASSWORD, slot_id="aaaaaaaa"),
        slot(SlotKind.RECOVERY_KEY, slot_id="cccccccc"),
    ]
    assert choose(slots, app.text()) == "aaaaaaaa"
    assert choose(slots, recovery.text().upper()) == "cccccccc"
    assert choose(slots, other.text()) == "pppppppp"
    assert choose(slots, "hello") == "pppppppp"
    assert choose(slots[1:], "hello") is None


def test_kind_must_match_the_form():
    """An app password's form never selects a password slot or recovery slot of that id."""
    app = new_app_password(SlotId("aaaaaaaa"))
    assert choose([slot(slot_id="aaaaaaaa", kind=SlotKind.RECOVERY_KEY)], app.text()) is None


def test_password_that_looks_generated():
    """A password in the form of an app password opens the password slot, with one run."""
    argon2 = CountingArgon2()
    text = new_app_password(SlotId("zzzzzzzz")).text()
    own = slot(secret=text.encode())
    chosen = choose_slot([own, slot(SlotKind.APP_PASSWORD, slot_id="aaaaaaaa")], parse_secret(text.encode()))
    assert chosen is not None
    assert open_slot(ACCOUNT, chosen[0], chosen[1], argon2=argon2) == MASTER
    assert len(argon2.runs) == 1


def test_weaker_parameters():
    """More memory wins over more passes; equal is not weaker."""
    today = Argon2Params(3, 1024, 4)
    assert Argon2Params(9, 512, 4).weaker_than(today)
    assert Argon2Params(2, 1024, 4).weaker_than(today)
    assert not Argon2Params(1, 2048, 4).weaker_than(today)
    assert not today.weaker_than(today)


def test_defaults_follow_rfc_9106():
    """Three passes over 64 MiB in four lanes."""
    assert Argon2Params() == Argon2Params(time_cost=3, memory_kib=65536, parallelism=4)


def test_argon2_that_cannot_run_is_a_busy_server():
    """Refused memory is a temporary error, not a wrong password."""
    with pytest.raises(TooManyLogins):
        argon2id(b"secret", bytes(16), Argon2Params(1, 1, 1))


def test_slot_ids_are_not_reused():
    """A taken id is drawn again."""
    random = fixed_random("ids")
    first = new_slot_id((), fixed_random("ids"))
    assert new_slot_id((first,), random) != first


def test_private_key_round_trip():
    """The wrapped key pair comes back, and matches its public half."""
    raw = new_private_key()
    wrapped = wrap_private_key(ACCOUNT, raw, MASTER)
    pair = unwrap_private_key(ACCOUNT, wrapped, MASTER)
    assert pair.public == load_private_key(raw).public
    assert len(pair.public) == 1216
    load_public_key(pair.public)


def test_private_key_belongs_to_its_account():
    """Another account id or another master key does not open it."""
    wrapped = wrap_private_key(ACCOUNT, new_private_key(), MASTER)
    for account, master in ((AccountId("f" * 32), MASTER), (ACCOUNT, bytes(32))):
        with pytest.raises(HeaderTampered):
            unwrap_private_key(account, wrapped, master)


@pytest.mark.parametrize("raw", [b"", bytes(1215), bytes(1217), b"\xff" * 1216])
def test_public_key_that_is_none(raw):
    """Wrong lengths and impossible coefficients are refused (FIPS 203, 7.2)."""
    with pytest.raises(HeaderTampered):
        load_public_key(PublicKey(raw))


def test_no_secret_in_repr():
    """Slots, secrets and key pairs show no key material."""
    pair = load_private_key(new_private_key())
    texts = [
        repr(slot()),
        repr(parse_secret(b"hunter2")),
        repr(pair),
        repr(new_recovery_key(SlotId("cccccccc"))),
    ]
    assert "hunter2" not in "".join(texts)
    assert "\\x" not in "".join(texts)
    assert "sbrk" not in "".join(texts)


SECRETS = re.compile(r"secret|password|proof|signature|stored_key|client_key|master|private|(^|_)tag($|_)")


@pytest.mark.parametrize("name", ["keys/*", "unlock", "opening"])
def test_row_08_secrets_are_compared_in_constant_time(name):
    """Nothing that proves a secret meets ``==``; what does not open under AEAD meets ``compare_digest``."""
    import mailstore

    sources = sorted(Path(mailstore.__file__).parent.glob(f"{name}.py"))
    assert sources
    for node in (node for source in sources for node in ast.walk(ast.parse(source.read_text("utf-8")))):
        if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            for side in (node.left, *node.comparators):
                text = ast.unparse(side)
                assert not SECRETS.search(text) or text.startswith("len("), ast.unparse(node)
