"""kill -9 before every step of making, changing and deleting accounts and their keyslots."""

from __future__ import annotations

from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from store_world import NAME, PASSWORD, TINY, World, now

from mailstore.account import NewAccount, create_account, destroy_account, orphan_folders
from mailstore.errors import AuthenticationFailed, NoSuchAccount
from mailstore.keyring import Keyring
from mailstore.keys import Scope
from mailstore.model import AccessProtocol
from mailstore.opening import open_as_owner

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

MESSAGE = b"Subject: kept\r\n\r\ntext\r\n"
NEW_PASSWORD = b"another quite long password"
BOB = "bob@example.org"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one account and one message."""
    root = tmp_path_factory.mktemp("template") / "root"
    world = World(root)
    world.deliver(MESSAGE)
    world.close()
    return root


def opens(root: Path, secret: bytes) -> bool:
    """Whether a secret opens the account, its mail included."""
    world = World(root)
    try:
        account = world.login(secret)
    except AuthenticationFailed:
        return False
    else:
        assert now(account.status("INBOX")).messages == 1
        account.release()
        return True
    finally:
        world.close()


def change_keys(root: Path, say: Say, begin: Begin) -> None:
    """An app password comes, the password changes, the app password goes."""
    world = World(root)
    begin()
    opened = open_as_owner(root, world.directory, NAME.decode(), PASSWORD, now=0, params=TINY)
    keyring = Keyring(root, world.directory, opened.record.account_id, opened.master, TINY)
    made = keyring.add_app_password("phone", Scope())
    say(made.printed.canonical.encode() + b" added ")
    keyring.change_password(NEW_PASSWORD)
    say(b"changed ")
    say(b"revoking ")
    keyring.revoke(made.slot.id)
    say(b"revoked ")


def check_key_changes(root: Path, said: bytes) -> None:
    """Exactly one of old and new password opens; what was reported as made or revoked is."""
    words = said.split()
    old, new = opens(root, PASSWORD), opens(root, NEW_PASSWORD)
    assert old != new
    assert new or b"changed" not in words
    if b"added" in words:
        by_app_password = opens(root, words[0])
        assert by_app_password or b"revoking" in words
        assert not by_app_password or b"revoked" not in words


def test_killed_at_every_step_of_key_changes(template: Path, tmp_path: Path) -> None:
    """See ``check_key_changes``."""
    assert each_step(template, tmp_path, change_keys, check_key_changes) > 15


def create(root: Path, say: Say, begin: Begin) -> None:
    """A second account."""
    world = World(root)
    begin()
    create_account(root, world.directory, NewAccount(BOB, PASSWORD), params=TINY)
    say(b"created")


def check_created(root: Path, said: bytes) -> None:
    """It is there and opens, or it is not there and can be made; the other account is untouched."""
    world = World(root)
    there = world.directory.login(BOB) is not None
    assert there or said != b"created"
    if not there:
        assert len(orphan_folders(root, world.directory)) <= 1
        create_account(root, world.directory, NewAccount(BOB, PASSWORD), params=TINY)
    account = now(world.store.login(BOB.encode(), PASSWORD, AccessProtocol.IMAP))
    assert now(account.status("INBOX")).messages == 0
    account.release()
    world.close()
    assert opens(root, PASSWORD)


def test_killed_at_every_step_of_making_an_account(template: Path, tmp_path: Path) -> None:
    """See ``check_created``."""
    assert each_step(template, tmp_path, create, check_created) > 5


def destroy(root: Path, say: Say, begin: Begin) -> None:
    """The account goes."""
    world = World(root)
    account_id = world.directory.accounts()[0].account_id
    begin()
    destroy_account(root, world.directory, account_id)
    say(b"destroyed")


def check_destroyed(root: Path, said: bytes) -> None:
    """Once it was reported no file is left; before, doing it again finishes it."""
    world = World(root)
    for record in world.directory.accounts():
        assert said != b"destroyed"
        destroy_account(root, world.directory, record.account_id)
    assert world.directory.accounts() == []
    assert orphan_folders(root, world.directory) == []
    with pytest.raises((AuthenticationFailed, NoSuchAccount)):
        world.login()
    world.close()


def test_killed_at_every_step_of_deleting_an_account(template: Path, tmp_path: Path) -> None:
    """See ``check_destroyed``."""
    assert each_step(template, tmp_path, destroy, check_destroyed) > 4
