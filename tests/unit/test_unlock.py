"""Logins: one Argon2 run each, the cache, shared runs, the queue, revocation, wiping."""

import gc

import pytest
from keys_world import NAME, NOW, PASSWORD, TINY, Later, World, at_once, is_unlocked, make_world, outcome
from twisted.internet.defer import CancelledError, Deferred

from mailstore.errors import (
    AccountClosed,
    AccountDisabled,
    AuthenticationFailed,
    HeaderTampered,
    ScopeDenied,
    TooManyLogins,
)
from mailstore.keys import Argon2Params, Scope
from mailstore.model import AccessProtocol, Origin
from mailstore.unlock import Unlocked, Unlocker, UnlockLimits

IMAP, POP3, SMTP = AccessProtocol.IMAP, AccessProtocol.POP3, AccessProtocol.SMTP


@pytest.fixture
def world(tmp_path):
    """A root with one account."""
    yield from make_world(tmp_path)


def unlocker(world: World, run=at_once, **limits) -> Unlocker:
    """An Unlocker with tiny Argon2 parameters and a stopped clock."""
    limits = UnlockLimits(**{"params": TINY, **limits})
    return Unlocker(world.root, world.directory, run, limits=limits, argon2=world.argon2, clock=lambda: NOW)


def login(unlock: Unlocker, secret=PASSWORD, protocol=IMAP, name=NAME, site="") -> Deferred[Unlocked]:
    """Start a login."""
    return Deferred.fromCoroutine(unlock.unlock(name, secret, protocol, Origin(site)))


def test_password_opens(world):
    """The right password gives the master key that wraps nothing but this account."""
    unlocked = outcome(login(unlocker(world)))
    assert unlocked.account_id == world.record.account_id
    assert unlocked.master == world.open().master
    assert unlocked.scope == Scope()


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        (NAME, b"wrong"),
        ("nobody@example.org", PASSWORD),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        (b"\xff\xfe", PASSWORD),
        ('"joe"@example.org', PASSWORD),
        ("joe%@example.org", PASSWORD),
        ("joe:@example.org", PASSWORD),
        ("joe\0@example.org", PASSWORD),
        ("\ud800@example.org", PASSWORD),
        ("j" * 100_000, PASSWORD),
        ("../../etc/passwd", PASSWORD),
        ("joe' OR '1'='1", PASSWORD),
        (NAME, b""),
        (NAME, b"\0"),
        (NAME, b"\xff"),
        (NAME, b"x" * 100_000),
    ],
)
def test_every_failure_is_the_same(world, name, secret):
    """A wrong secret, an unknown and an impossible name: same class, same text, one Argon2 run."""
    error = outcome(login(unlocker(world), secret, name=name))
    assert type(error) is AuthenticationFailed
    assert error.args == ()
    assert world.argon2.runs == [TINY]


def test_one_run_however_many_slots(world):
    """The slot of an app password is found by its public prefix."""
    keyring = world.keyring()
    made = [keyring.add_app_password(f"app {number}", Scope()) for number in range(10)]
    for number, secret in enumerate(
        [PASSWORD, made[0].printed.text().encode(), made[9].printed.text().encode()]
    ):
        world.argon2.runs.clear()
        fresh = unlocker(world)
        assert isinstance(outcome(login(fresh, secret)), Unlocked), number
        assert len(world.argon2.runs) == 1


def test_wrong_app_password_costs_one_run(world):
    """A known prefix with a wrong rest, and an unknown prefix, run Argon2 once."""
    text = world.keyring().add_app_password("phone", Scope()).printed.text()
    for secret in (text[:-1] + ("0" if text[-1] != "0" else "1"), "0000" + text[4:]):
        world.argon2.runs.clear()
        assert type(outcome(login(unlocker(world), secret.encode()))) is AuthenticationFailed
        assert len(world.argon2.runs) == 1


def test_second_login_skips_argon2(world):
    """While the account is unlocked the same secret is recognised."""
    unlock = unlocker(world)
    first, second = outcome(login(unlock)), outcome(login(unlock))
    assert (len(world.argon2.runs), second.master) == (1, first.master)


def test_cache_ends_with_the_last_session(world):
    """After the last session a login derives the key again."""
    unlock = unlocker(world)
    first, second = outcome(login(unlock)), outcome(login(unlock))
    first.wipe()
    assert is_unlocked(unlock, world.record.account_id)
    second.wipe()
    assert not is_unlocked(unlock, world.record.account_id)
    assert isinstance(outcome(login(unlock)), Unlocked)
    assert len(world.argon2.runs) == 2


def test_a_secret_that_is_only_checked_leaves_no_key(world):
    """The account's name is given; the key is forgotten, unless a session has it anyway."""
    unlock = unlocker(world)

    def prove(secret=PASSWORD, protocol=SMTP):
        return outcome(Deferred.fromCoroutine(unlock.prove(NAME, secret, protocol)))

    assert prove() == NAME
    assert unlock._live == {}
    assert type(prove(b"wrong")) is AuthenticationFailed
    session = outcome(login(unlock))
    runs = len(world.argon2.runs)
    assert (prove(), len(world.argon2.runs)) == (NAME, runs)
    assert not session.is_wiped
    assert is_unlocked(unlock, world.record.account_id)


@pytest.mark.parametrize(("protocol", "opens"), [(SMTP, True), (IMAP, False)])
def test_an_app_password_may_send_only_if_its_scope_says_so(world, protocol, opens):
    """Whatever else it opens."""
    text = world.keyring().add_app_password("phone", Scope(frozenset({protocol}))).printed.text().encode()
    result = outcome(Deferred.fromCoroutine(unlocker(world).prove(NAME, text, SMTP)))
    assert result == NAME if opens else type(result) is ScopeDenied


def test_share_keeps_the_account_unlocked(world):
    """A hold for the grace period outlives the session it came from."""
    unlock = unlocker(world)
    first = outcome(login(unlock))
    grace = first.share()
    first.wipe()
    outcome(login(unlock))
    assert len(world.argon2.runs) == 1
    assert grace.master == world.open().master


def test_cache_knows_the_account(world, tmp_path):
    """The same password does not open another account that is unlocked (Dovecot CVE-2025-30189)."""
    from mailstore.account import NewAccount, create_account

    wanted = NewAccount("ann@example.org", b"another password")
    create_account(world.root, world.directory, wanted, params=TINY)
    unlock = unlocker(world)
    holds = [outcome(login(unlock)), outcome(login(unlock, b"another password", name="ann@example.org"))]
    assert type(outcome(login(unlock, PASSWORD, name="ann@example.org"))) is AuthenticationFailed
    assert holds[0].account_id != holds[1].account_id


def test_failures_are_not_remembered(world):
    """A wrong password costs a run every time."""
    unlock = unlocker(world)
    hold = outcome(login(unlock))
    for _attempt in range(3):
        outcome(login(unlock, b"wrong"))
    assert len(world.argon2.runs) == 4
    assert not hold.is_wiped


def test_revoked_slot_is_refused_although_cached(world):
    """Revoking takes effect at once, for new logins and at the recheck of a running session."""
    made = world.keyring().add_app_password("phone", Scope())
    secret = made.printed.text().encode()
    unlock = unlocker(world)
    session = outcome(login(unlock, secret))
    assert outcome(Deferred.fromCoroutine(unlock.recheck(session))) is None
    world.keyring().revoke(made.slot.id)
    assert type(outcome(login(unlock, secret))) is AuthenticationFailed
    assert type(outcome(Deferred.fromCoroutine(unlock.recheck(session)))) is AuthenticationFailed


def test_old_password_is_refused_although_cached(world):
    """A changed password locks out the old one at once."""
    unlock = unlocker(world)
    session = outcome(login(unlock))
    world.keyring().change_password(b"the new one")
    assert type(outcome(login(unlock))) is AuthenticationFailed
    assert isinstance(outcome(login(unlock, b"the new one")), Unlocked)
    assert type(outcome(Deferred.fromCoroutine(unlock.recheck(session)))) is AuthenticationFailed


def test_revoked_while_queueing(world):
    """A slot revoked between reading the header and the Argon2 run does not open."""
    made = world.keyring().add_app_password("phone", Scope())
    later = Later()
    waiting = login(unlocker(world, later), made.printed.text().encode())
    later.run()
    world.keyring().revoke(made.slot.id)
    later.run_all()
    assert type(outcome(waiting)) is AuthenticationFailed


@pytest.mark.parametrize(
    ("scope", "protocol"),
    [
        (Scope(frozenset({POP3})), IMAP),
        (Scope(not_after=int(NOW) - 1), IMAP),
        (Scope(frozenset({IMAP})), None),
        (Scope(), None),
    ],
)
def test_scope(world, scope, protocol):
    """An app password opens nothing outside its scope, cached or not; never administration."""
    secret = world.keyring().add_app_password("phone", scope).printed.text().encode()
    unlock = unlocker(world)
    keep = outcome(login(unlock))
    assert type(outcome(login(unlock, secret, protocol))) is ScopeDenied
    assert type(outcome(login(unlock, secret, protocol))) is ScopeDenied
    assert type(outcome(login(unlock, b"wrong", protocol))) is AuthenticationFailed
    assert not keep.is_wiped


def test_scope_within_cache(world):
    """A cached secret that is good for IMAP is still refused for POP3; read-only is handed on."""
    scope = Scope(frozenset({IMAP}), read_only=True)
    secret = world.keyring().add_app_password("phone", scope).printed.text().encode()
    unlock = unlocker(world)
    session = outcome(login(unlock, secret, IMAP))
    assert session.scope.read_only
    assert type(outcome(login(unlock, secret, POP3))) is ScopeDenied
    assert outcome(login(unlock, secret, IMAP)).scope == scope


def test_disabled(world):
    """A disabled account says so to the right secret only, cached or not."""
    unlock = unlocker(world)
    session = outcome(login(unlock))
    world.directory.set_disabled(world.record.account_id, True)
    assert type(outcome(login(unlock))) is AccountDisabled
    assert type(outcome(login(unlock, b"wrong"))) is AuthenticationFailed
    assert type(outcome(Deferred.fromCoroutine(unlock.recheck(session)))) is AccountDisabled


def test_logins_together_share_one_run(world):
    """Thunderbird opens five connections at once: one Argon2 run, five independent keys."""
    later = Later()
    unlock = unlocker(world, later)
    logins = [login(unlock) for _connection in range(5)]
    later.run_all()
    sessions = [outcome(deferred) for deferred in logins]
    assert len(world.argon2.runs) == 1
    sessions[0].wipe()
    assert sessions[1].master == world.open().master


def test_failed_logins_together_share_one_run(world):
    """Sharing holds for failures too, also for unknown names."""
    for name in (NAME, "nobody@example.org"):
        world.argon2.runs.clear()
        later = Later()
        unlock = unlocker(world, later)
        logins = [login(unlock, b"wrong", name=name) for _connection in range(5)]
        later.run_all()
        assert {type(outcome(deferred)) for deferred in logins} == {AuthenticationFailed}
        assert len(world.argon2.runs) == 1


def test_hanging_up_does_not_stop_the_others(world):
    """The login that started a shared run may go away."""
    later = Later()
    unlock = unlocker(world, later)
    logins = [login(unlock) for _connection in range(3)]
    later.run()
    logins[0].cancel()
    later.run_all()
    assert isinstance(outcome(logins[0]), CancelledError)
    assert isinstance(outcome(logins[1]), Unlocked)
    assert isinstance(outcome(logins[2]), Unlocked)


def test_everybody_hung_up(world):
    """A run nobody waits for leaves no key behind."""
    later = Later()
    unlock = unlocker(world, later)
    waiting = login(unlock)
    later.run()
    waiting.cancel()
    later.run_all()
    assert isinstance(outcome(waiting), CancelledError)
    assert not is_unlocked(unlock, world.record.account_id)


def test_storm_waits_within_the_memory_budget(world):
    """At most budget / slot memory runs at a time; those beyond the queue are turned away."""
    later = Later()
    params = Argon2Params(time_cost=1, memory_kib=512, parallelism=1)
    unlock = unlocker(world, later, argon2_memory_budget_mib=1, waiting_logins=3, params=params)
    logins = [login(unlock, name=f"nobody{number}", site=str(number)) for number in range(6)]
    later.run()
    assert len(later.jobs) == 2
    assert type(outcome(logins[5])) is TooManyLogins
    later.run_all()
    assert [type(outcome(deferred)) for deferred in logins[:5]] == [AuthenticationFailed] * 5


def test_run_that_nobody_waits_for_is_not_made(world):
    """Who hangs up while his login waits for memory costs no Argon2 run."""
    later = Later()
    params = Argon2Params(time_cost=1, memory_kib=1024, parallelism=1)
    unlock = unlocker(world, later, argon2_memory_budget_mib=1, params=params)
    logins = [login(unlock, name=f"nobody{number}", site=str(number)) for number in range(3)]
    later.run()
    logins[1].cancel()
    later.run_all()
    assert [type(outcome(deferred)) for deferred in logins] == [
        AuthenticationFailed,
        CancelledError,
        AuthenticationFailed,
    ]
    assert len(world.argon2.runs) == 2


def test_weak_slot_is_upgraded_at_login(world):
    """Old Argon2 parameters are replaced after a login; id and label stay, the next login is normal."""
    stronger = Argon2Params(time_cost=2, memory_kib=128, parallelism=1)
    before = world.keyring().slots()[0]
    world.argon2.runs.clear()
    unlock = unlocker(world, params=stronger)
    assert isinstance(outcome(login(unlock)), Unlocked)
    after = world.keyring().slots()[0]
    assert (after.id, after.label, after.created, after.params) == (
        before.id,
        before.label,
        before.created,
        stronger,
    )
    assert world.argon2.runs[:2] == [TINY, stronger]
    assert world.directory.account(world.record.account_id).header_generation == 2


def test_failed_upgrade_is_not_a_failed_login(world):
    """A lock held elsewhere delays the upgrade to another login."""
    world.paths.keys_lock.unlink()
    world.paths.keys_lock.mkdir()
    unlock = unlocker(world, params=Argon2Params(2, 128, 1))
    assert isinstance(outcome(login(unlock)), Unlocked)
    assert world.keyring().slots()[0].params == TINY


def test_wipe_overwrites(world):
    """Ending a session overwrites its key; using it afterwards is an error."""
    unlocked = outcome(login(unlocker(world)))
    buffer = unlocked.master
    unlocked.wipe()
    unlocked.wipe()
    assert buffer == bytes(32)
    with pytest.raises(AccountClosed):
        _ = unlocked.master


def test_dropped_session_is_wiped(world):
    """A session that nobody wiped is wiped when it is collected."""
    unlock = unlocker(world)
    unlocked = outcome(login(unlock))
    buffer = unlocked.master
    del unlocked
    gc.collect()
    assert buffer == bytes(32)
    assert not is_unlocked(unlock, world.record.account_id)


def test_tampered_header_is_reported(world):
    """A header that cannot be read costs one run like any other and is called by its name."""
    raw = world.paths.keys.read_bytes()
    world.paths.keys.write_bytes(raw.replace(b'"generation": 1', b'"generation": 2'))
    assert type(outcome(login(unlocker(world)))) is HeaderTampered
    assert type(outcome(login(unlocker(world), b"wrong"))) is AuthenticationFailed
    world.paths.keys.write_bytes(raw[:-2])
    world.argon2.runs.clear()
    assert type(outcome(login(unlocker(world)))) is HeaderTampered
    assert len(world.argon2.runs) == 1


def test_old_header_put_back(world):
    """An earlier header with a valid tag is refused: the directory has seen a later generation."""
    raw = world.paths.keys.read_bytes()
    world.keyring().change_password(b"the new one")
    world.paths.keys.write_bytes(raw)
    assert type(outcome(login(unlocker(world)))) is HeaderTampered


def test_old_header_put_back_while_unlocked(world):
    """The cache does not help an old header either."""
    unlock = unlocker(world)
    session = outcome(login(unlock))
    raw = world.paths.keys.read_bytes()
    world.keyring().add_app_password("phone", Scope())
    world.paths.keys.write_bytes(raw)
    assert type(outcome(login(unlock))) is HeaderTampered
    assert type(outcome(Deferred.fromCoroutine(unlock.recheck(session)))) is HeaderTampered


def test_header_newer_than_directory(world):
    """A crash between header and directory is mended by the next login."""
    world.keyring().add_app_password("phone", Scope())
    world.directory.set_header(world.record.account_id, world.record.public_key, 1)
    assert isinstance(outcome(login(unlocker(world))), Unlocked)
    assert world.directory.account(world.record.account_id).header_generation == 2


def test_destroyed_account_is_unknown(world):
    """An account without its keys file answers like one that never was."""
    world.paths.keys.unlink()
    assert type(outcome(login(unlocker(world)))) is AuthenticationFailed
    assert world.argon2.runs == [TINY]


def test_secrets_never_show(world):
    """Neither repr nor exceptions carry secrets, names or keys."""
    unlock = unlocker(world)
    unlocked = outcome(login(unlock))
    error = outcome(login(unlock, b"a wrong secret"))
    texts = [
        repr(unlocked),
        str(unlocked),
        repr(error),
        str(error),
        repr(unlocked.record),
        repr(world.open()),
    ]
    forbidden = [
        PASSWORD.decode(),
        "wrong",
        NAME,
        "joe",
        bytes(unlocked.master).hex(),
        repr(bytes(unlocked.master)),
    ]
    for text in texts:
        assert not [word for word in forbidden if word in text]
