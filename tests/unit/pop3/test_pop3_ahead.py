"""Reading ahead: fewer readings for a program that downloads, the same answers for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pop3_world import Pop3World

from mailstore.errors import StorageFailed
from mailstore.model import Uid
from tests.memory_mailbox import SelectedMailbox
from tests.wire import Client


def message(number: int, size: int = 100) -> bytes:
    """A message with a number in it."""
    return b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * size)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Which messages the store is asked for at a time."""
    readings: list[list[int]] = []
    content = SelectedMailbox.content

    async def watched(self: SelectedMailbox, uids: Sequence[Uid], *how: Any) -> Any:
        readings.append(list(uids))
        return await content(self, uids, *how)

    monkeypatch.setattr(SelectedMailbox, "content", watched)
    return readings


def retr(client: Client, *numbers: int) -> list[bytes]:
    """The answers to RETR."""
    return [client.say(b"RETR %d\r\n" % number) for number in numbers]


def test_who_asks_for_one_after_the_other_is_read_ahead_for(asked: list[list[int]]) -> None:
    """From the second in a row on, as many at once as the limit allows, and each only once."""
    world = Pop3World(*map(message, range(1, 11)), retr_ahead_bytes=3 * 1024)
    client = world.logged_in()
    answers = retr(client, *range(1, 11))
    assert asked == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10]]
    assert [answer.partition(b"\r\n")[2] for answer in answers] == [
        message(number) + b".\r\n" for number in range(1, 11)
    ]


def test_nothing_is_read_that_nobody_is_likely_to_ask_for(asked: list[list[int]]) -> None:
    """One new message, every other one, backwards, and with the limit at nothing."""
    world = Pop3World(*map(message, range(1, 7)))
    client = world.logged_in()
    retr(client, 6, 1, 3, 5, 4, 2)
    assert asked == [[6], [1], [3], [5], [4], [2]]
    asked.clear()
    client = Pop3World(*map(message, range(1, 4)), retr_ahead_bytes=0).logged_in()
    retr(client, 1, 2, 3)
    assert asked == [[1], [2], [3]]


def test_large_and_deleted_messages_end_what_is_read_ahead(asked: list[list[int]]) -> None:
    """What does not fit is read when it is asked for."""
    world = Pop3World(
        *(message(1), message(2), message(3), message(4, 5000), message(5)), retr_ahead_bytes=4096
    )
    client = world.logged_in()
    retr(client, 1, 2, 3, 4, 5)
    assert asked == [[1], [2, 3], [4, 5]]
    asked.clear()
    client = Pop3World(*map(message, range(1, 6))).logged_in()
    client.say(b"DELE 4\r\n")
    retr(client, 1, 2, 3)
    assert asked == [[1], [2, 3]]


def test_a_message_that_is_gone_is_not_taken_for_the_next() -> None:
    """It had not been read; the one behind it had."""
    world = Pop3World(*map(message, range(1, 5)))
    client = world.logged_in()
    retr(client, 1)
    box = world.account.mailboxes["INBOX"]
    box.remove([2], box.bump())
    assert retr(client, 2) == [b"-ERR the message is gone\r\n"]
    assert message(3) in retr(client, 3)[0]


def test_a_damaged_message_costs_no_other(asked: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before it and behind it are there, whatever they are read with."""
    content = SelectedMailbox.content

    async def damaged(self: SelectedMailbox, uids: Sequence[Uid], *how: Any) -> Any:
        rows = await content(self, uids, *how)
        if 6 in uids:
            raise StorageFailed("a content frame is damaged")
        return rows

    monkeypatch.setattr(SelectedMailbox, "content", damaged)
    client = Pop3World(*map(message, range(1, 11)), retr_ahead_bytes=3 * 1024).logged_in()
    answers = retr(client, *range(1, 11))
    assert [number for number, answer in enumerate(answers, 1) if message(number) not in answer] == [6]
    assert answers[5].startswith(b"-ERR [SYS")
    # Beyond the place all is as before.
    assert asked == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [6], [7], [8], [9], [10]]


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.sampled_from((0, 10, 900, 3000)), min_size=1, max_size=8),
    commands=st.lists(
        st.tuples(st.sampled_from(("RETR", "RETR", "TOP", "DELE", "RSET")), st.integers(1, 9)), max_size=25
    ),
    chunk=st.sampled_from((7, 1000, 4096)),
)
def test_answers_are_the_same_without_it(
    sizes: list[int], commands: list[tuple[str, int]], chunk: int
) -> None:
    """Whatever a program asks for, in whatever order."""
    mail = [message(number, size) for number, size in enumerate(sizes, 1)]
    heard = []
    for ahead in (0, 2048, 1 << 20):
        client = Pop3World(*mail, retr_ahead_bytes=ahead, retr_chunk_bytes=chunk).logged_in()
        told = []
        for name, number in [*commands, *(("RETR", number) for number in range(1, len(mail) + 1))]:
            rest = {"TOP": f" {number} 1", "RSET": ""}.get(name, f" {number}")
            told.append(client.say(f"{name}{rest}\r\n".encode()))
        heard.append(told)
    assert heard[0] == heard[1] == heard[2]
