"""kill -9 before every single step of delivery, filing, checkpoint and change: see ``stepper``.

After each death the next login has to find every message that was reported as delivered exactly once,
nothing twice, a database that both integrity checks call clean, and no leftovers.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from store_world import NAME, PASSWORD, TINY, World, now

from mailstore.account import AccountPaths
from mailstore.account_database import mail_key
from mailstore.engine import open_connection
from mailstore.inbox_size import SUFFIX, waiting_bytes
from mailstore.limits import StoreLimits
from mailstore.mime import SectionSpec
from mailstore.model import Flags, ModSeq, NewMessage, SectionRead, SystemFlag, Uid
from mailstore.opening import open_as_owner
from mailstore.sealed import LEFTOVER_AGE_S, pending
from mailstore.uidset import UidSet

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

WHOLE = SectionRead(SectionSpec())
LIMITS = StoreLimits()
BODY = b"\r\n\r\n" + b"a line of the body\r\n" * 300
WAITING = (b"Subject: one" + BODY, b"Subject: two" + BODY, b"Subject: three" + BODY)
KEPT = (b"Subject: kept" + BODY, b"Subject: moved" + BODY)


def settle(world: World) -> None:
    """Let an account without sessions close, and the world with it."""
    world.clock.advance(LIMITS.close_grace_s + 1)
    world.close()


def everything(world: World) -> Counter[bytes]:
    """All messages of all mailboxes after a fresh login."""
    account = world.login()
    found: Counter[bytes] = Counter()
    for info in now(account.list_mailboxes()).mailboxes:
        mailbox = now(account.select(info.name, False))
        uids = list(mailbox.opened.uids)
        if uids:
            rows = now(mailbox.content(uids, [WHOLE], 10_000_000))
            assert [row.uid for row in rows] == uids
            found.update(row.sections[0].data for row in rows)
        mailbox.close()
    account.release()
    return found


def assert_intact(root: Path) -> AccountPaths:
    """Both integrity checks of the account's database are clean; its files."""
    world = World(root)
    paths = world.paths
    opened = open_as_owner(root, world.directory, NAME.decode(), PASSWORD, now=0, params=TINY)
    key = mail_key(opened.master)
    world.close()
    database = open_connection(paths.mail_db, key)
    assert database.pragma("PRAGMA integrity_check") == [("ok",)]
    assert database.pragma("PRAGMA cipher_integrity_check") == []
    assert database.pragma("PRAGMA foreign_key_check") == []
    database.close()
    return paths


def assert_sound(root: Path) -> None:
    """Both integrity checks are clean, nothing waits, and no file is left from the death."""
    paths = assert_intact(root)
    assert pending(paths.inbox) == []
    left = {path.name for path in paths.folder.iterdir()} - {
        "keys",
        "keys.lock",
        "lock",
        "filing.lock",
        "write.lock",
        "inbox-size",
        "mail-size",
        "search.db-progress",
        "search.db-users",
        "search.db-write",
    }
    assert left <= {"mail.db", "made", "search.db", "inbox"}
    assert list(paths.inbox.iterdir()) == []


def age_leftovers(root: Path) -> None:
    """Make temporary files of dead deliveries old enough to be cleaned away at the next login."""
    for path in root.glob("accounts/*/*/inbox/.*.tmp"):
        os.utime(path, (path.stat().st_mtime - LEFTOVER_AGE_S - 1,) * 2)


def assert_counted(world: World) -> None:
    """The size of waiting mail is what it is."""
    inbox = world.paths.inbox
    assert waiting_bytes(inbox) == sum(path.stat().st_size for path in inbox.glob("*" + SUFFIX))


def after_death(root: Path) -> Counter[bytes]:
    """What the next login finds; it leaves everything sound."""
    age_leftovers(root)
    world = World(root)
    assert_counted(world)
    found = everything(world)
    assert_counted(world)
    settle(world)
    assert_sound(root)
    return found


def make_fresh(root: Path) -> Path:
    """A root whose account nobody has ever logged in to, with mail waiting."""
    world = World(root)
    for message in WAITING:
        world.deliver(message)
    assert_counted(world)  # from here on the size is known
    world.close()
    return root


def make_used(root: Path) -> Path:
    """A root whose account has mail, and mail waiting, some of it for a folder."""
    world = World(root)
    account = world.login()
    now(account.create("Lists"))
    now(account.append("Drafts", [NewMessage(one) for one in KEPT]))
    account.release()
    world.clock.advance(LIMITS.close_grace_s + 1)
    for number, message in enumerate(WAITING):
        world.deliver(message, NAME.replace(b"@", b"+lists@") if number else NAME)
    assert_counted(world)
    world.close()
    return root


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See ``make_fresh``."""
    return make_fresh(tmp_path_factory.mktemp("fresh") / "root")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See ``make_used``."""
    return make_used(tmp_path_factory.mktemp("used") / "root")


def deliver(root: Path, say: Say, begin: Begin) -> None:
    """Two deliveries, each reported when it has returned, as LMTP would."""
    world = World(root)
    begin()
    for number in (b"1", b"2"):
        world.deliver(b"Subject: new " + number + BODY)
        say(number)


def check_delivered(root: Path, said: bytes) -> None:
    """What was reported is there once; what was not is there once or not at all; nothing else is."""
    found = after_death(root)
    for number in (b"1", b"2"):
        times = found.pop(b"Subject: new " + number + BODY, 0)
        assert (number in said) <= times <= 1
    assert found == Counter([*WAITING, *KEPT])


def test_killed_at_every_step_of_delivery(used: Path, tmp_path: Path) -> None:
    """See ``check_delivered``."""
    assert each_step(used, tmp_path, deliver, check_delivered) >= 2 * 5


def file_and_close(root: Path, say: Say, begin: Begin) -> None:
    """A login that files what waits, more mail while it is open, checkpoint, and the orderly close."""
    world = World(root)
    begin()
    account = world.login()
    world.clock.advance(LIMITS.checkpoint_delay_s + 1)
    account.release()
    settle(world)
    say(b"closed")


def check_filed(root: Path, said: bytes) -> None:
    """All that waited is there once, however often filing was begun."""
    kept = [] if "fresh" in str(root) else KEPT
    assert after_death(root) == Counter([*WAITING, *kept])


def test_killed_at_every_step_of_the_first_login(fresh: Path, tmp_path: Path) -> None:
    """The database is made, migrated and filled: dying anywhere in it loses and doubles nothing."""
    place = tmp_path / "fresh"
    place.mkdir()
    assert each_step(fresh, place, file_and_close, check_filed) > 30


def test_killed_at_every_step_of_filing(used: Path, tmp_path: Path) -> None:
    """Insert, commit, unlink, checkpoint, close: dying anywhere in it loses and doubles nothing."""
    assert each_step(used, tmp_path, file_and_close, check_filed) > 20


def move_and_expunge(root: Path, say: Say, begin: Begin) -> None:
    """A user's changes after which a message must be in one place, and another gone."""
    world = World(root)
    account = world.login()
    drafts = now(account.select("Drafts", False))
    begin()
    now(drafts.move(UidSet.of([Uid(2)]), "Archive", ModSeq(0)))
    say(b"m")
    now(account.append("Drafts", [NewMessage(b"Subject: appended" + BODY, Flags(SystemFlag.DELETED))]))
    say(b"a")
    say(b"e")
    now(drafts.expunge(None, ModSeq(0)))
    say(b"x")
    world.clock.advance(LIMITS.checkpoint_delay_s + 1)


def check_changed(root: Path, said: bytes) -> None:
    """MOVE, APPEND and EXPUNGE: what was answered holds, what was not holds entirely or not at all."""
    found = after_death(root)
    times = found.pop(b"Subject: appended" + BODY, 0)
    least = b"a" in said and b"e" not in said
    assert least <= times <= (b"x" not in said)
    assert found == Counter([*WAITING, *KEPT])
    world = World(root)
    account = world.login()
    moved = now(account.status("Archive")).messages
    assert (b"m" in said) <= moved <= 1
    account.release()
    settle(world)


def test_killed_at_every_step_of_changes(used: Path, tmp_path: Path) -> None:
    """See ``check_changed``."""
    assert each_step(used, tmp_path, move_and_expunge, check_changed) > 10
