"""kill -9 while mail is delivered and while keyslots change: nothing promised is lost, nothing is half."""

import subprocess
import sys

import pytest

from mailstore.account import (
    NewAccount,
    account_paths,
    create_account,
    destroy_account,
    init_root,
    open_directory,
)
from mailstore.keys import Argon2Params
from mailstore.opening import open_as_owner
from mailstore.sealed import clean_leftovers, open_sealed, pending, read_sealed

pytestmark = pytest.mark.crash

NAME, PASSWORD = "joe@example.org", b"correct horse battery staple"
TINY = Argon2Params(1, 64, 1)

PREAMBLE = """
import sys
from pathlib import Path
from mailstore.account import account_paths, open_directory
from mailstore.keys import Argon2Params, Scope
from mailstore.keyring import Keyring
from mailstore.opening import open_as_owner
from mailstore.sealed import Facts, deliver, new_sealed_id, seal
root = Path(sys.argv[1])
directory = open_directory(root)
record = directory.login("joe@example.org")
"""

DELIVER = (
    PREAMBLE
    + """
inbox = account_paths(root, record.account_id).inbox
while True:
    sealed_id = new_sealed_id()
    deliver(inbox, sealed_id, seal(record.public_key, record.account_id, sealed_id, b"x" * 5000, Facts(5)))
    print(sealed_id, flush=True)
"""
)

CHANGE = (
    PREAMBLE
    + """
tiny = Argon2Params(1, 64, 1)
opened = open_as_owner(root, directory, record.name, b"correct horse battery staple", now=0, params=tiny)
keyring = Keyring(root, directory, record.account_id, opened.master, tiny)
while True:
    slot = keyring.add_app_password("phone", Scope()).slot
    print("added", slot.id, flush=True)
    keyring.revoke(slot.id)
    print("revoked", slot.id, flush=True)
"""
)


@pytest.fixture
def root(tmp_path):
    """A root with one account."""
    init_root(tmp_path)
    directory = open_directory(tmp_path)
    create_account(tmp_path, directory, NewAccount(NAME, PASSWORD), params=TINY)
    directory.close()
    return tmp_path


def killed_after(script, root, lines):
    """Run ``script``, kill it hard when it has said so many lines, and give what it said in whole lines."""
    with subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE) as process:
        said = [process.stdout.readline() for _line in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    return [line.decode().split() for line in said if line.endswith(b"\n")]


def opened(root):
    """The account, opened with its password, and its paths."""
    directory = open_directory(root)
    account = open_as_owner(root, directory, NAME, PASSWORD, now=0, params=TINY)
    directory.close()
    return account, account_paths(root, account.record.account_id)


@pytest.mark.parametrize("lines", [1, 7, 40])
def test_killed_while_delivering(root, lines):
    """Each delivery that was reported is there and opens; every file with a final name is whole."""
    promised = {words[0] for words in killed_after(DELIVER, root, lines)}
    account, paths = opened(root)
    found = pending(paths.inbox)
    assert promised <= set(found)
    assert len(found) <= len(promised) + 1
    for sealed_id in found:
        blob = read_sealed(paths.inbox, sealed_id)
        assert open_sealed(account.private_key, account.record.account_id, sealed_id, blob)[1] == b"x" * 5000
    clean_leftovers(paths.inbox, now=2.0**40)
    assert len(list(paths.inbox.iterdir())) == len(found)


@pytest.mark.parametrize("lines", [1, 2, 9, 30])
def test_killed_while_changing_keyslots(root, lines):
    """The account opens, with the keyslots of the last change that was reported or of the next one."""
    words = killed_after(CHANGE, root, lines)
    account, _paths = opened(root)
    there = {slot.id for slot in account.header.slots if not slot.is_owner}
    last, slot_id = words[-1]
    if last == "added":
        assert there in ({slot_id}, set())
    else:
        assert slot_id not in there
        assert len(there) <= 1
    assert len(words) <= account.header.generation - 1 <= len(words) + 1


def test_killed_then_destroyed(root):
    """What a crash leaves behind does not stand in the way of deleting the account."""
    killed_after(DELIVER, root, 3)
    directory = open_directory(root)
    record = directory.login(NAME)
    destroy_account(root, directory, record.account_id)
    assert not account_paths(root, record.account_id).folder.exists()
    assert directory.accounts() == []
    directory.close()
