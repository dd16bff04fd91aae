"""A power cut at any moment of delivery, filing, checkpoint, changes and keys: see ``power``.

Of the next login everything is asked that is asked of it after kill -9 (``test_every_step``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from power import each_cut
from recorder import record
from steps import Begin, Say
from store_world import NAME, PASSWORD, TINY, World, now
from test_every_step import (
    KEPT,
    WAITING,
    after_death,
    check_changed,
    check_delivered,
    deliver,
    file_and_close,
    make_fresh,
    make_used,
    move_and_expunge,
)
from test_every_step_of_keys import (
    MESSAGE,
    change_keys,
    check_created,
    check_destroyed,
    check_key_changes,
    create,
    destroy,
    opens,
)
from test_every_step_of_snapshots import account_of

from backup.keypair import generate, read_private_key, read_public_key
from mailstore import inbox_size
from mailstore.account import AccountPaths, NewAccount, account_paths, create_account

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]


def with_one_message(root: Path) -> Path:
    """A root with one account and one message that waits."""
    world = World(root)
    world.deliver(MESSAGE)
    world.close()
    return root


def paths_of(root: Path) -> AccountPaths:
    """The only account's files."""
    return account_paths(root, account_of(root))


def cut_at_every_moment(
    place: Path,
    root: Path,
    function: Callable[[Path, Say, Begin], None],
    check: Callable[[Path, bytes], None],
) -> int:
    """Run the function once, and have every state checked that a power cut may have left; how many."""
    made, _ = record(root, lambda say, begin: function(root, say, begin))
    with pytest.MonkeyPatch.context() as patch:
        # Power cuts are looked at after another boot.
        patch.setattr(inbox_size, "_boot", lambda: b"0" * 36)
        return each_cut(made, place, check)


def test_power_cut_in_a_delivery(place: Path) -> None:
    """See ``check_delivered``."""
    assert cut_at_every_moment(place, make_used(place / "root"), deliver, check_delivered) > 15


@pytest.mark.parametrize(("make", "kept"), [(make_fresh, ()), (make_used, KEPT)])
def test_power_cut_in_filing(place: Path, make: Callable[[Path], Path], kept: tuple[bytes, ...]) -> None:
    """Database made, mail inserted, files unlinked, checkpoint, close: all that waited is there once."""

    def check(root: Path, _said: bytes) -> None:
        assert after_death(root) == Counter([*WAITING, *kept])

    assert cut_at_every_moment(place, make(place / "root"), file_and_close, check) > 50


def test_power_cut_in_changes(place: Path) -> None:
    """See ``check_changed``."""
    assert cut_at_every_moment(place, make_used(place / "root"), move_and_expunge, check_changed) > 50


def test_power_cut_in_key_changes(place: Path) -> None:
    """See ``check_key_changes``: nobody is locked out, and nothing opens that was revoked."""
    root = with_one_message(place / "root")
    assert cut_at_every_moment(place, root, change_keys, check_key_changes) > 30


def test_power_cut_in_making_an_account(place: Path) -> None:
    """See ``check_created``."""
    root = with_one_message(place / "root")
    assert cut_at_every_moment(place, root, create, check_created) > 20


def test_power_cut_in_deleting_an_account(place: Path) -> None:
    """See ``check_destroyed``; and what would open the account is gone before anything else is."""
    root = with_one_message(place / "root")
    assert opens(root, PASSWORD)
    keys = paths_of(root).keys.read_bytes()

    def check(root: Path, said: bytes) -> None:
        if list(root.glob("accounts/??/*")) and paths_of(root).keys.exists():
            assert paths_of(root).mail_db.exists() or paths_of(root).keys.read_bytes() != keys
        check_destroyed(root, said)

    assert cut_at_every_moment(place, root, destroy, check) > 10


def test_power_cut_in_making_backup_keys(place: Path) -> None:
    """Once it was reported the private key is there: without it no snapshot would ever open."""
    folder = place / "keys"
    folder.mkdir()

    def work(folder: Path, say: Say, begin: Begin) -> None:
        begin()
        generate(folder / "private", folder / "public")
        say(b"made")

    def check(folder: Path, said: bytes) -> None:
        if said:
            private = read_private_key(folder / "private")
            assert private.public == read_public_key(folder / "public")

    assert cut_at_every_moment(place, folder, work, check) > 10


def test_power_cut_in_the_first_start(place: Path) -> None:
    """An account that was reported as made is there with its mail, whatever was made for it before."""
    folder = place / "all"
    folder.mkdir()

    def start(folder: Path, say: Say, begin: Begin) -> None:
        begin()
        world = World(folder / "srv" / "root")
        say(b"created ")
        world.deliver(MESSAGE)
        say(b"delivered ")

    def check(folder: Path, said: bytes) -> None:
        root = folder / "srv" / "root"
        assert said == b"" or root.exists()
        world = World(root)
        there = world.directory.login(NAME.decode()) is not None
        assert there or said == b""
        if not there:
            create_account(root, world.directory, NewAccount(NAME.decode(), PASSWORD), params=TINY)
        account = world.login()
        assert (b"delivered" in said) <= now(account.status("INBOX")).messages <= 1
        account.release()
        world.close()

    assert cut_at_every_moment(place, folder, start, check) > 30
