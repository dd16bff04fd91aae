"""Searches of text answered twice: with the search index, and by reading every message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from store_world import World, now

from mailstore import search
from mailstore.mailbox import Mailbox
from mailstore.model import ModSeq
from mailstore.ops import search as search_ops

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
