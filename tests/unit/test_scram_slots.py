"""App passwords by SCRAM: the server never sees the secret and the account opens."""

import base64
import errno
import hmac

import pytest
from keys_world import NAME, NOW, TINY, Later, at_once, is_unlocked, make_world, outcome
from twisted.internet.defer import Deferred

from mailstore import opening, staged_keys
from mailstore.errors import AccountDisabled, AuthenticationFailed, ScopeDenied
from mailstore.keys import AccountId, Scope, open_scram_wrap, read_header
from mailstore.keys.scram import scram_keys
from mailstore.model import AccessProtocol, ScramExchange, ScramSetup
from mailstore.unlock import Unlocker, UnlockLimits

IMAP = AccessProtocol.IMAP
AUTH_MESSAGE = b"n=joe,r=abc,r=abcdef,s=c2FsdA==,i=4096,c=biws,r=abcdef"


@pytest.fixture
def world(tmp_path):
    """A root with one account."""
    yield from make_world(tmp_path)


def unlocker(world, run=at_once):
    """An Unlocker with a stopped clock."""
    return Unlocker(
        world.root,
        world.directory,
        run,
        limits=UnlockLimits(params=TINY),
        argon2=world.argon2,
        clock=lambda: NOW,
    )


def prove(text, setup, auth_message=AUTH_MESSAGE):
    """What a SCRAM client sends, and the ServerSignature it expects."""
    keys = scram_keys(text.encode(), setup)
    signature = hmac.digest(keys.stored_key, auth_message, "sha256")
    proof = bytes(one ^ other for one, other in zip(keys.client_key, signature, strict=True))
    return ScramExchange(auth_message, proof), hmac.digest(keys.server_key, auth_message, "sha256")


def setup_of(unlock, name=NAME):
    """The salt and iterations told to a client."""
    return outcome(Deferred.fromCoroutine(unlock.scram_setup(name)))


def login(unlock, exchange, name=NAME, protocol=IMAP):
    """Start a login."""
    return Deferred.fromCoroutine(unlock.unlock_by_scram(name, exchange, protocol))


def test_example_of_the_rfc():
    """RFC 7677, 3: the published exchange gives the published proof and signature."""
    setup = ScramSetup(base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=%b,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=%b" % (
        nonce,
        nonce,
    )
    exchange, signature = prove("pencil", setup, message)
    assert base64.b64encode(exchange.proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_proof_opens_the_account(world):
    """The right proof gives the master key and a signature that the client accepts; no Argon2 runs."""
    keyring = world.keyring()
    made = [keyring.add_app_password(f"app {number}", Scope()).printed for number in range(3)]
    world.argon2.runs.clear()
    unlock = unlocker(world)
    setup = setup_of(unlock)
    for printed in made:
        exchange, expected = prove(printed.text(), setup)
        unlocked, signature = outcome(login(unlock, exchange))
        assert (unlocked.master, unlocked.slot_id) == (keyring.master, printed.slot_id)
        assert signature == expected
    assert world.argon2.runs == []


def test_wrong_proofs(world):
    """Wrong secret, other exchange, flipped bits, odd lengths, unknown name: the same refusal."""
    text = world.keyring().add_app_password("phone", Scope()).printed.text()
    unlock = unlocker(world)
    setup = setup_of(unlock)
    good, _signature = prove(text, setup)
    wrong = [
        prove(text[:-1] + ("0" if text[-1] != "0" else "1"), setup)[0],
        ScramExchange(AUTH_MESSAGE + b"x", good.proof),
        ScramExchange(AUTH_MESSAGE, b""),
        ScramExchange(AUTH_MESSAGE, good.proof + b"\0"),
        ScramExchange(AUTH_MESSAGE, bytes([good.proof[0] ^ 1]) + good.proof[1:]),
    ]
    for exchange in wrong:
        assert type(outcome(login(unlock, exchange))) is AuthenticationFailed
    assert type(outcome(login(unlock, good, name="nobody"))) is AuthenticationFailed


def test_unknown_names_get_a_stable_salt(world):
    """The salt of an unknown name looks like any other and stays the same, on every worker."""
    spellings = ["nobody", b"NOBODY", "nobody@example.org", b"Nobody@Example.ORG"]
    salts = {setup_of(unlocker(world), spelling) for spelling in spellings}
    (first,) = salts
    real = setup_of(unlocker(world))
    assert {setup_of(unlocker(world), spelling) for spelling in ("joe", b"JOE@example.org")} == {real}
    assert setup_of(unlocker(world), "somebody@example.org") != first
    assert (len(first.salt), first.iterations) == (len(real.salt), real.iterations)
    assert real == setup_of(unlocker(world))


def test_password_has_no_such_door(world):
    """Neither the password nor the recovery key can be used by SCRAM."""
    recovery = world.keyring().replace_recovery_key().printed.text()
    unlock = unlocker(world)
    for text in ("correct horse battery staple", recovery):
        exchange, _signature = prove(text, setup_of(unlock))
        assert type(outcome(login(unlock, exchange))) is AuthenticationFailed


def test_scope_revocation_and_lock(world):
    """The doors' rules hold here too."""
    keyring = world.keyring()
    made = keyring.add_app_password("phone", Scope(frozenset({AccessProtocol.POP3})))
    unlock = unlocker(world)
    exchange, _signature = prove(made.printed.text(), setup_of(unlock))
    assert type(outcome(login(unlock, exchange))) is ScopeDenied
    assert not is_unlocked(unlock, world.record.account_id)
    world.directory.set_disabled(world.record.account_id, True)
    assert type(outcome(login(unlock, exchange, protocol=AccessProtocol.POP3))) is AccountDisabled
    world.directory.set_disabled(world.record.account_id, False)
    keyring.revoke(made.slot.id)
    assert type(outcome(login(unlock, exchange, protocol=AccessProtocol.POP3))) is AuthenticationFailed


def test_both_ways_share_the_account(world):
    """A session by SCRAM counts as a session, and an upgraded slot keeps its SCRAM door."""
    made = world.keyring().add_app_password("phone", Scope())
    later = Later()
    unlock = unlocker(world, later)
    challenge = Deferred.fromCoroutine(unlock.scram_setup(NAME))
    later.run_all()
    exchange, _signature = prove(made.printed.text(), outcome(challenge))
    waiting = login(unlock, exchange)
    later.run_all()
    unlocked, _signature = outcome(waiting)
    world.keyring().upgrade(made.slot, made.printed.canonical.encode())
    assert next(slot for slot in world.keyring().slots() if slot.id == made.slot.id).scram == made.slot.scram
    unlocked.wipe()
    assert not is_unlocked(unlock, world.record.account_id)


def test_wrap_belongs_to_its_account(world):
    """A wrap copied to another account does not open there."""
    made = world.keyring().add_app_password("phone", Scope())
    exchange, _signature = prove(made.printed.text(), setup_of(unlocker(world)))
    with pytest.raises(AuthenticationFailed):
        open_scram_wrap(AccountId("f" * 32), [made.slot], exchange)


@pytest.mark.parametrize("known", [True, False])
def test_unknown_names_cost_the_same_reads(world, monkeypatch, known):
    """Setting up an exchange reads one header, of the same length whether there is an account or not."""
    name = NAME if known else "nobody@example.org"
    setup_of(unlocker(world), name)
    lengths = []

    def reading(folder):
        found = read_header(folder)
        lengths.append(len(found.body))
        return found

    for module in (opening, staged_keys):
        monkeypatch.setattr(module, "read_header", reading)
    setup_of(unlocker(world), name)
    assert len(lengths) == 1
    assert abs(lengths[0] - len(read_header(world.paths.folder).body)) < 32


def test_a_full_disk_does_not_tell_who_is_unknown(world, monkeypatch):
    """Where the decoy cannot be written an unknown name is answered all the same."""

    def full(*_args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(opening, "replace_file", full)
    unlock = unlocker(world)
    assert setup_of(unlock, "nobody@example.org") == setup_of(unlock, "nobody@example.org")
