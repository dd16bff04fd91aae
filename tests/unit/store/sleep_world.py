"""An account that falls asleep, and what sessions hear of it."""

from __future__ import annotations

import os

from store_world import World, now

from mailstore import hibernation
from mailstore.limits import StoreLimits
from mailstore.mailbox import Mailbox
from mailstore.open_account import OpenAccount
from mailstore.store import Account

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
AFTER_S = StoreLimits().hibernate_after_s


def opened(world: World) -> OpenAccount:
    """The account that is open in the store."""
    (found,) = world.store._open.values()
    return found


def sleep(world: World) -> None:
    """Let the time pass after which the account falls asleep."""
    for _ in range(4):
        world.clock.advance(AFTER_S / 2)
    assert opened(world)._rest.is_asleep


def settle_files(world: World) -> None:
    """As if what was written last had been written some time ago: files are dated by another clock."""
    for path in (world.paths.mail_db, world.paths.wal):
        if path.exists():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10 * hibernation.SETTLED_NS))


def heard(world: World, *names: str) -> None:
    """The watch of the account's folder tells that these files have changed."""
    world.watcher.callbacks[world.paths.folder](frozenset(names))


def listening(account: Account, name: str = "INBOX") -> tuple[Mailbox, list[str]]:
    """A session in IDLE, and what it is told."""
    mailbox = now(account.select(name, False))
    told: list[str] = []
    mailbox.on_change(lambda: told.append(name))
    told.clear()  # whoever begins to listen is to look once
    return mailbox, told
