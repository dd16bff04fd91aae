"""Invitations: a link works once, for a while, and for nothing but what it was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from keys_world import NAME, NOW, PASSWORD, TINY, World, make_world

from mailstore import invitations as module
from mailstore.account import NewAccount, create_account, destroy_account, orphan_folders
from mailstore.errors import (
    AccountDisabled,
    AddressInvalid,
    AuthenticationFailed,
    NoSuchInvitation,
    PasswordUnusable,
    ScopeDenied,
    StorageFull,
)
from mailstore.invitation_files import invitations, read_invitation, remove_expired, write_invitation
from mailstore.invitations import Place, create_account_for_owner, invite, join, welcome, withdraw
from mailstore.keys import InvitationFacts, Scope, SlotKind, Token, read_header, read_token
from mailstore.model import AccessProtocol
from mailstore.opening import complete, prepare

DAY_S = 86_400
CHOSEN = b"a password of my own"
IMAP_ONLY = Scope(frozenset({AccessProtocol.IMAP}), read_only=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A root with one account."""
    yield from make_world(tmp_path)


def place(world: World, at_s: float = NOW) -> Place:
    """Where its invitations are opened, at that time."""
    return Place(world.root, world.directory, TINY, world.argon2, lambda: at_s)


def facts(scope: Scope = IMAP_ONLY, label: str = "phone") -> InvitationFacts:
    """An invitation for a day."""
    return InvitationFacts(label, int(NOW), int(NOW) + DAY_S, scope)


def invite_owner(world: World) -> Token:
    """The link to a new account."""
    header = read_header(world.paths.folder).header
    return module.invite_owner(world.root, header, world.keyring().master, int(NOW) + DAY_S)


def by_app_password(world: World, secret: str, protocol: AccessProtocol = AccessProtocol.IMAP) -> Scope:
    """Log in with it; the scope of its keyslot."""
    proven = complete(
        world.root, world.directory, prepare(world.root, world.directory, NAME, secret.encode(), TINY)
    )
    try:
        return proven.admit(protocol, NOW).scope
    finally:
        proven.wipe()


def files(world: World) -> list[str]:
    """What is in the folder of invitations."""
    return sorted(path.name for path in (world.root / "invitations").iterdir())


def test_a_link_is_exchanged_for_an_app_password(world: World) -> None:
    """With the scope and the label that the invitation has, and without an end."""
    token = invite(world.keyring(), facts())
    assert files(world) == [token.id]
    made = join(place(world), token)
    assert made.name == NAME
    assert by_app_password(world, made.app_password) == IMAP_ONLY
    with pytest.raises(ScopeDenied):
        by_app_password(world, made.app_password, AccessProtocol.POP3)
    slot = next(slot for slot in world.keyring().slots() if slot.kind is SlotKind.APP_PASSWORD)
    assert (slot.id, slot.label, slot.scope.not_after) == (token.id, "phone", None)
    assert slot.scram is not None
    assert files(world) == []


def test_a_link_works_once(world: World) -> None:
    """Whoever comes second gets nothing, and changes nothing."""
    token = invite(world.keyring(), facts())
    join(place(world), token)
    before = world.keyring().slots()
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)
    assert world.keyring().slots() == before


def test_of_two_who_open_a_link_at_once_one_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one comes in between, where the first has read the invitation and not written its keyslot."""
    token = invite(world.keyring(), facts())
    won = []
    make = module.Keyring.make_app_password

    def slow(*args: Any) -> Any:
        monkeypatch.setattr(module.Keyring, "make_app_password", make)
        won.append(join(place(world), token))
        return make(*args)

    monkeypatch.setattr(module.Keyring, "make_app_password", slow)
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)
    assert [slot.id for slot in world.keyring().slots() if slot.kind is SlotKind.APP_PASSWORD] == [token.id]
    assert by_app_password(world, won[0].app_password) == IMAP_ONLY


def test_a_link_is_used_up_when_the_power_fails_before_its_file_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keyslot says so, and when that is revoked the file goes as well."""
    token = invite(world.keyring(), facts())
    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_invitation", lambda *_: None)
        join(place(world), token)
    assert files(world) == [token.id]
    kept = read_invitation(world.root, token.id)
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)
    assert files(world) == []
    assert kept is not None
    write_invitation(world.root, kept)
    world.keyring().revoke(token.id)
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)


def test_a_link_is_not_used_up_where_its_scope_is_of_no_use(world: World) -> None:
    """It costs no Argon2 run, and works where one of its protocols is there."""
    token = invite(world.keyring(), facts(Scope(frozenset({AccessProtocol.POP3}))))
    runs = len(world.argon2.runs)
    with pytest.raises(ScopeDenied):
        join(place(world), token, frozenset({AccessProtocol.IMAP, AccessProtocol.SMTP}))
    assert len(world.argon2.runs) == runs
    assert join(place(world), token, frozenset({AccessProtocol.POP3})).name == NAME


def test_a_link_runs_out(world: World) -> None:
    """And its file is removed by the next cleaning."""
    token = invite(world.keyring(), facts())
    with pytest.raises(AuthenticationFailed):
        join(place(world, NOW + DAY_S + 1), token)
    assert remove_expired(world.root, NOW + DAY_S) == 0
    assert remove_expired(world.root, NOW + DAY_S + 1) == 1
    assert files(world) == []
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)


def test_another_secret_opens_nothing_and_costs_no_argon2(world: World) -> None:
    """Strangers cannot make the server spend memory, and what they try uses no link up."""
    token = invite(world.keyring(), facts())
    runs = len(world.argon2.runs)
    for wrong in (Token(token.id, "0" * 32), Token(read_token("0" * 40).id, token.secret)):
        with pytest.raises(AuthenticationFailed):
            join(place(world), wrong)
        with pytest.raises(AuthenticationFailed):
            welcome(place(world), wrong, CHOSEN)
    assert len(world.argon2.runs) == runs
    assert join(place(world), token).name == NAME


def test_a_link_that_was_withdrawn_is_useless(world: World) -> None:
    """The operator needs no password for that; what is not there can not be withdrawn."""
    token = invite(world.keyring(), facts())
    withdraw(world.root, token.id)
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)
    with pytest.raises(NoSuchInvitation):
        withdraw(world.root, token.id)


def test_a_link_withdrawn_while_it_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either the operator or the visitor is told that it worked, never both."""
    token = invite(world.keyring(), facts())
    make = module.Keyring.make_app_password

    def slow(*args: Any) -> Any:
        withdraw(world.root, token.id)
        return make(*args)

    monkeypatch.setattr(module.Keyring, "make_app_password", slow)
    with pytest.raises(AuthenticationFailed):
        join(place(world), token)
    assert all(slot.kind is SlotKind.PASSWORD for slot in world.keyring().slots())


def test_nobody_joins_a_disabled_account(world: World) -> None:
    """The link works again once the account is enabled."""
    token = invite(world.keyring(), facts())
    world.directory.set_disabled(world.record.account_id, True)
    with pytest.raises(AccountDisabled):
        join(place(world), token)
    world.directory.set_disabled(world.record.account_id, False)
    assert join(place(world), token).name == NAME


def test_a_deleted_account_takes_its_links_along(world: World) -> None:
    """They hold its master key, so they go first; those of others stay."""
    invite(world.keyring(), facts())
    other = create_account(world.root, world.directory, NewAccount("ann@example.org", PASSWORD), params=TINY)
    opened = world.open(PASSWORD, "ann@example.org")
    keyring = module.Keyring(world.root, world.directory, other.account_id, opened.master, TINY, world.argon2)
    kept = invite(keyring, facts())
    destroy_account(world.root, world.directory, world.record.account_id)
    assert files(world) == [kept.id]
    assert [one.id for one in invitations(world.root)] == [kept.id]
    assert invitations(world.root, world.record.account_id) == []


def test_the_owner_of_a_new_account_chooses_its_password(world: World) -> None:
    """The one that it was made with opens nothing any more; a recovery key and another link come along."""
    token = invite_owner(world)
    made = welcome(place(world), token, CHOSEN)
    world.open(CHOSEN).wipe()
    world.open(made.recovery_key.encode()).wipe()
    with pytest.raises(AuthenticationFailed):
        world.open(PASSWORD)
    assert files(world) == [made.device.id]
    joined = join(place(world, NOW + 3600), made.device)
    assert by_app_password(world, joined.app_password) == Scope()


@pytest.mark.parametrize("failing", ["mailstore.invitations.write_invitation", "add_account"])
def test_an_account_by_link_that_could_not_be_made_is_not_there(
    world: World, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Neither in the directory, where it would take mail that nobody could ever open, nor its invitation."""

    def full(*_args: object) -> None:
        raise StorageFull("the disk is full")

    wanted = NewAccount("ann@example.org", b"nobody knows this")
    with monkeypatch.context() as patch:
        if failing == "add_account":
            patch.setattr(type(world.directory), failing, full)
        else:
            patch.setattr(failing, full)
        with pytest.raises(StorageFull):
            create_account_for_owner(world.root, world.directory, wanted, int(NOW) + DAY_S, params=TINY)
    assert world.directory.login("ann@example.org") is None
    assert orphan_folders(world.root, world.directory) == []
    assert invitations(world.root) == []
    record, token = create_account_for_owner(
        world.root, world.directory, wanted, int(NOW) + DAY_S, params=TINY
    )
    assert (record.name, welcome(place(world), token, CHOSEN).name) == ("ann@example.org", "ann@example.org")


def test_an_owner_is_welcomed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the power failed before the file was gone, and whatever the password has become since."""
    token = invite_owner(world)
    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_invitation", lambda *_: None)
        welcome(place(world), token, CHOSEN)
    world.keyring(CHOSEN).change_password(b"yet another one")
    (device,) = set(files(world)) - {token.id}
    with pytest.raises(AuthenticationFailed):
        welcome(place(world), token, b"somebody else's")
    assert files(world) == [device], "who comes too late leaves no link of his own"
    world.open(b"yet another one").wipe()


def test_a_password_that_nobody_can_have_does_not_use_the_link_up(world: World) -> None:
    """The owner tries again."""
    token = invite_owner(world)
    with pytest.raises(PasswordUnusable):
        welcome(place(world), token, b"with a \0 in it")
    assert welcome(place(world), token, CHOSEN).name == NAME


def test_a_link_for_a_device_does_not_change_the_password(world: World) -> None:
    """Nor does the owner's become an app password: each is good for one thing."""
    device = invite(world.keyring(), facts())
    owner = invite_owner(world)
    with pytest.raises(AuthenticationFailed):
        welcome(place(world), device, CHOSEN)
    with pytest.raises(AuthenticationFailed):
        join(place(world), owner)
    assert {one.id for one in invitations(world.root)} == {device.id, owner.id}


def test_an_invitation_opens_no_account_by_a_login(world: World) -> None:
    """Its secret is no password."""
    token = invite(world.keyring(), facts())
    for text in (token.text(), token.secret, token.text()[:28]):
        with pytest.raises(AuthenticationFailed):
            by_app_password(world, text)


@pytest.mark.parametrize("label", ["", "x" * 101, "a\nb"])
def test_labels_are_those_of_app_passwords(world: World, label: str) -> None:
    """They become one."""
    with pytest.raises(AddressInvalid):
        invite(world.keyring(), facts(label=label))


def test_the_secret_is_stored_nowhere(world: World) -> None:
    """In no file, whole or in part."""
    token = invite(world.keyring(), facts())
    for path in world.root.rglob("*"):
        if path.is_file():
            assert token.secret[:16].encode() not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0


def test_a_full_disk_leaves_the_link_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be used once there is room."""
    token = invite(world.keyring(), facts())

    def full(*_args: object) -> None:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mailstore.keyring.write_header", full)
        with pytest.raises(StorageFull):
            join(place(world), token)
    assert join(place(world), token).name == NAME


def test_a_disk_that_is_full_half_way_leaves_the_link_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header is written by then, and nobody has seen the new secret: it is taken out again."""
    device, owner = invite(world.keyring(), facts()), invite_owner(world)
    advance = world.directory.advance_header_generation
    failures: list[Exception] = [StorageFull("the disk is full")]

    def full(*args: Any) -> None:
        if failures:
            raise failures.pop()
        advance(*args)

    monkeypatch.setattr(world.directory, "advance_header_generation", full)
    before = {slot.id for slot in world.keyring().slots()}
    with pytest.raises(StorageFull):
        join(place(world), device)
    assert {slot.id for slot in world.keyring().slots()} == before
    failures.append(StorageFull("the disk is full"))
    with pytest.raises(StorageFull):
        welcome(place(world), owner, CHOSEN)
    assert by_app_password(world, join(place(world), device).app_password)
    assert welcome(place(world), owner, CHOSEN).recovery_key


def test_what_is_no_invitation_goes_after_an_hour(world: World) -> None:
    """What a killed process left half written, and what somebody damaged."""
    token = invite(world.keyring(), facts())
    folder = world.root / "invitations"
    half = folder / f".{token.id}.1.tmp"
    half.write_bytes(b"{")
    written_s = half.stat().st_mtime
    assert remove_expired(world.root, written_s) == 0
    assert [one.id for one in invitations(world.root)] == [token.id]
    assert remove_expired(world.root, min(written_s + 3601, NOW)) == 1
    assert files(world) == [token.id]


@pytest.mark.parametrize("exchange", [join, lambda at, token: welcome(at, token, CHOSEN)])
def test_the_master_key_is_overwritten_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch, exchange: Callable[..., Any]
) -> None:
    """Also when it fails."""
    held = []
    opening = module.open_invitation

    def noting(*args: Any) -> bytearray:
        held.append(opening(*args))
        assert any(held[-1])
        return held[-1]

    monkeypatch.setattr(module, "open_invitation", noting)
    keyring = world.keyring()
    for token in (invite(keyring, facts()), invite_owner(world)):
        try:
            exchange(place(world), token)
        except AuthenticationFailed:
            continue
    world.directory.set_disabled(world.record.account_id, True)
    with pytest.raises(AuthenticationFailed):
        join(place(world), invite(keyring, facts()))
    assert len(held) == 2
    assert not any(any(one) for one in held)
