"""Searches of text answered twice: with the search index, and by reading every message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from store_world import World, now

from mailstore import search
from mailstore.account_database import search_key
from mailstore.engine import Database, open_connection
from mailstore.mailbox import Mailbox
from mailstore.model import (
    Flags,
    ModSeq,
    NewMessage,
    SystemFlag,
)
from mailstore.ops import search as search_ops
from mailstore.store import Account

SOON_S = 2.5
"""Later than an index is begun after a change, earlier than all that is not about it."""


def stay_awake(world: World) -> None:
    """Accounts opened from now on do not close their databases while they wait for their index."""
    world.store.limits = replace(world.store.limits, hibernate_after_s=0.0)


def index(world: World, steps: int = 2_000) -> None:
    """Let the background index what there is, in so many steps at most."""
    for _ in range(steps):
        soon = [
            call for call in world.clock.getDelayedCalls() if call.getTime() - world.clock.seconds() < SOON_S
        ]
        if not soon:
            return
        world.clock.advance(0.1)


def found(mailbox: Mailbox, key: search.Key) -> list[int]:
    """The UIDs that a session is told."""
    return list(now(mailbox.search(key, ModSeq(0))).uids)


def scanned(mailbox: Mailbox, key: search.Key) -> list[int]:
    """The same, where nothing is known of the messages before they are read."""
    account = mailbox._account
    return list(now(account.read(search_ops.run, mailbox.opened.mailbox_id, key, ModSeq(0))).uids)


class Reading:
    """Counts the messages whose text a search looks at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages = 0
        original: Callable[..., Any] = search_ops.MessageText

        def counted(*args: Any) -> Any:
            self.messages += 1
            return original(*args)

        monkeypatch.setattr(search_ops, "MessageText", counted)

    def of(self, mailbox: Mailbox, key: search.Key) -> tuple[list[int], int]:
        """What is found, and how many messages were read for it."""
        self.messages = 0
        return found(mailbox, key), self.messages


PAGE = 4096
KEYS = {
    "BODY": search.BodyText("Zebra"),
    "TEXT": search.AnyText("zebra"),
    "SUBJECT": search.HeaderText("SUBJECT", "okapi"),
    "FROM": search.HeaderText("FROM", "tapir@example.org"),
    "HEADER": search.HeaderText("X-MARK", "gnu"),
    "two keys": search.And((search.HasFlag(SystemFlag.SEEN), search.BodyText("zebra"))),
    "one of two": search.Or(search.BodyText("zebra"), search.HeaderText("SUBJECT", "okapi")),
    "beside a flag": search.And(
        (
            search.Not(search.HasFlag(SystemFlag.DELETED)),
            search.Or(search.BodyText("zebra"), search.AnyText("okapi")),
        )
    ),
}


def mail(number: int, *, rare: bool = False) -> NewMessage:
    """One message; a rare one is what ``KEYS`` find."""
    subject, sender, mark, word = (
        ("okapi", "tapir", "gnu", "zebra") if rare else ("note", "cow", "ox", "horse")
    )
    text = (
        f"From: Somebody <{sender}@example.org>\r\nSubject: {subject} {number}\r\nX-Mark: {mark}\r\n\r\n"
        f"a {word} walks by {number}\r\n"
    )
    return NewMessage(text.encode(), Flags(SystemFlag.SEEN))


def fill(account: Account, count: int = 60, rare: int = 40) -> Mailbox:
    """A mailbox of ``count`` messages, of which one is rare."""
    now(account.append("Drafts", [mail(number, rare=number == rare) for number in range(1, count + 1)]))
    selected: Mailbox = now(account.select("Drafts", False))
    return selected


def opened_index(world: World, account: Account) -> Database:
    """The index, opened beside the server's own connections."""
    key = search_key(account._opened._hold.master)
    return open_connection(world.paths.search_db, key, autocheckpoint_pages=1000)
