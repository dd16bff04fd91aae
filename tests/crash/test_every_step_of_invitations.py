"""kill -9 before every step of making, opening and revoking invitations: none ever works twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from store_world import NAME, PASSWORD, TINY, World

from mailstore.account import NewAccount, account_paths
from mailstore.errors import AuthenticationFailed, NoSuchInvitation
from mailstore.invitation_files import invitations
from mailstore.invitations import (
    Place,
    create_account_for_owner,
    invite,
    invite_owner,
    join,
    welcome,
    withdraw,
)
from mailstore.keyring import Keyring
from mailstore.keys import InvitationFacts, Keyslot, Scope, SlotKind, Token, read_header, read_token
from mailstore.opening import open_as_owner

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

CHOSEN = b"a password of my own"
DAY_S = 86_400


def keyring_of(world: World, secret: bytes) -> Keyring:
    """The account's keys."""
    opened = open_as_owner(world.root, world.directory, NAME.decode(), secret, now=0, params=TINY)
    return Keyring(world.root, world.directory, opened.record.account_id, opened.master, TINY)


def facts() -> InvitationFacts:
    """An invitation of a device, for a day."""
    now = int(time.time())
    return InvitationFacts("phone", now, now + DAY_S, Scope())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one account and no invitation."""
    root = tmp_path_factory.mktemp("template") / "root"
    World(root).close()
    return root


def place(world: World) -> Place:
    """Where invitations are opened."""
    return Place(world.root, world.directory, TINY)


def token_of(root: Path) -> Token:
    """The token of the link that was sent."""
    found = read_token((root / "token").read_text("ascii"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def invited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one account and an invitation of a device."""
    root = tmp_path_factory.mktemp("invited") / "root"
    world = World(root)
    (root / "token").write_text(invite(keyring_of(world, PASSWORD), facts()).text(), "ascii")
    world.close()
    return root


def app_slots(world: World, secret: bytes = PASSWORD) -> list[Keyslot]:
    """Keyslots of app passwords."""
    return [one for one in keyring_of(world, secret).slots() if one.kind is SlotKind.APP_PASSWORD]


def open_link(root: Path, say: Say, begin: Begin) -> None:
    """Somebody presses the button."""
    world, token = World(root), token_of(root)
    begin()
    made = join(place(world), token)
    say(made.app_password.encode())


def check_opened(root: Path, said: bytes) -> None:
    """There is one app password at most, and once there is one the link is used up."""
    world = World(root)
    there = app_slots(world)
    assert len(there) == (1 if said else len(there)) <= 1
    if said:
        world.login(said).release()
    if there:
        with pytest.raises(AuthenticationFailed):
            join(place(world), token_of(root))
    else:
        world.login(join(place(world), token_of(root)).app_password.encode()).release()
    assert len(app_slots(world)) == 1
    assert invitations(root) == []
    world.close()


def test_killed_at_every_step_of_opening_a_link(invited: Path, tmp_path: Path) -> None:
    """See ``check_opened``."""
    assert each_step(invited, tmp_path, open_link, check_opened) > 8


def revoke_link(root: Path, say: Say, begin: Begin) -> None:
    """The operator takes it back."""
    token = token_of(root)
    begin()
    withdraw(root, token.id)
    say(b"revoked")


def check_revoked(root: Path, said: bytes) -> None:
    """What was reported as revoked opens for nobody; before, it can be revoked again."""
    if said != b"revoked":
        try:
            withdraw(root, token_of(root).id)
        except NoSuchInvitation:
            assert invitations(root) == []
    world = World(root)
    with pytest.raises(AuthenticationFailed):
        join(place(world), token_of(root))
    world.close()


def test_killed_at_every_step_of_revoking_a_link(invited: Path, tmp_path: Path) -> None:
    """See ``check_revoked``."""
    assert each_step(invited, tmp_path, revoke_link, check_revoked) > 3


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a new account that waits for its owner."""
    root = tmp_path_factory.mktemp("owner") / "root"
    world = World(root)
    keyring = keyring_of(world, PASSWORD)
    header = read_header(account_paths(root, keyring.account_id).folder).header
    token = invite_owner(root, header, keyring.master, int(time.time()) + DAY_S)
    (root / "token").write_text(token.text(), "ascii")
    world.close()
    return root


def choose(root: Path, say: Say, begin: Begin) -> None:
    """The owner chooses a password."""
    world, token = World(root), token_of(root)
    begin()
    made = welcome(place(world), token, CHOSEN)
    say(made.recovery_key.encode())


def opens(world: World, secret: bytes) -> bool:
    """Whether a secret opens the account."""
    try:
        world.login(secret).release()
    except AuthenticationFailed:
        return False
    return True


def check_chosen(root: Path, said: bytes) -> None:
    """The old password opens the account or the new one does; the link works as long as it is the old one."""
    world = World(root)
    new = opens(world, CHOSEN)
    assert new != opens(world, PASSWORD)
    assert not said or (new and opens(world, said))
    if new:
        with pytest.raises(AuthenticationFailed):
            welcome(place(world), token_of(root), b"somebody else's")
    else:
        welcome(place(world), token_of(root), CHOSEN)
    assert opens(world, CHOSEN)
    world.close()


def test_killed_at_every_step_of_choosing_a_password(expected: Path, tmp_path: Path) -> None:
    """See ``check_chosen``."""
    assert each_step(expected, tmp_path, choose, check_chosen) > 10


def make(root: Path, say: Say, begin: Begin) -> None:
    """The operator makes a link."""
    world = World(root)
    keyring = keyring_of(world, PASSWORD)
    begin()
    say(invite(keyring, facts()).text().encode())


def check_made(root: Path, said: bytes) -> None:
    """A link that was printed works; half a one does no harm."""
    world = World(root)
    if said:
        token = read_token(said.decode())
        assert token is not None
        assert join(place(world), token).name == NAME.decode()
    assert len(invitations(root)) <= 1
    assert opens(world, PASSWORD)
    world.close()


def test_killed_at_every_step_of_making_a_link(template: Path, tmp_path: Path) -> None:
    """See ``check_made``."""
    assert each_step(template, tmp_path, make, check_made) > 3


NEW = "ann@example.org"


def add(root: Path) -> tuple[World, Token]:
    """The operator makes an account by link."""
    world = World(root)
    not_after = int(time.time()) + DAY_S
    wanted = NewAccount(NEW, b"nobody knows this")
    return world, create_account_for_owner(root, world.directory, wanted, not_after, params=TINY)[1]


def add_by_link(root: Path, say: Say, begin: Begin) -> None:
    """See ``add``."""
    begin()
    say(add(root)[1].text().encode())


def check_added(root: Path, said: bytes) -> None:
    """A link that was printed works; an account that takes mail has one; otherwise it can be added again."""
    world = World(root)
    record = world.directory.login(NEW)
    if said:
        token = read_token(said.decode())
        assert token is not None
        assert welcome(place(world), token, CHOSEN).name == NEW
    elif record is not None:
        assert [one.replaces is not None for one in invitations(root, record.account_id)] == [True]
    world.close()
    if record is None:
        world, token = add(root)
        assert welcome(place(world), token, CHOSEN).name == NEW
        world.close()


def test_killed_at_every_step_of_adding_an_account_by_link(template: Path, tmp_path: Path) -> None:
    """See ``check_added``."""
    assert each_step(template, tmp_path, add_by_link, check_added) > 10
