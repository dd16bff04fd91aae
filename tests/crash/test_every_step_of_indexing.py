"""kill -9 before every step of filling a search index and of taking expunged mail out: see ``stepper``."""

from __future__ import annotations

from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from store_world import World, now

from mailstore import search
from mailstore.limits import StoreLimits
from mailstore.model import ModSeq, NewMessage
from mailstore.ops import search as search_ops
from mailstore.uidset import UidSet

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]

LIMITS = StoreLimits(index_batch_messages=3)
WORDS = ("okapi", "zebra", "giraffe", "tapir", "lemur")


def index(world: World) -> None:
    """Let the background index all there is."""
    for _ in range(60):
        world.clock.advance(0.5)


def assert_right(root: Path) -> None:
    """The next process finds what is there, before it goes on indexing and afterwards."""
    world = World(root, LIMITS)
    account = world.login()
    mailbox = now(account.select("Drafts", True))
    for _ in range(2):
        for word in WORDS:
            key = search.BodyText(word)
            read = now(account._opened.read(search_ops.run, mailbox.opened.mailbox_id, key, ModSeq(0)))
            assert now(mailbox.search(key, ModSeq(0))).uids == read.uids
        index(world)
    searchers = account._opened._rest._databases.searching._searchers
    both = search.And((search.BodyText("zebra"), search.HeaderText("SUBJECT", "s")))
    known = now(searchers.run(lambda one: one.index.candidates(one.mail, both)))
    assert known is not None and known.up_to == 5
    in_body, in_subject = known.found.values()
    assert len(in_body.possible) == int("zebra" in texts(account)) and not in_subject.possible
    assert len(in_subject.certain) == len(mailbox.opened.uids)
    world.close()


def texts(account: object) -> str:
    """All that is in the mailbox."""
    mailbox = now(account.select("Drafts", True))  # type: ignore[attr-defined]  # a session
    return " ".join(word for uid, word in enumerate(WORDS, 1) if uid in mailbox.opened.uids)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A root with five messages and no index."""
    root = tmp_path / "template"
    world = World(root, LIMITS)
    now(
        world.login().append(
            "Drafts", [NewMessage(b"Subject: s\r\n\r\na %s\r\n" % word.encode()) for word in WORDS]
        )
    )
    world.close()
    return root


def test_dying_while_an_index_is_made(template: Path, tmp_path: Path) -> None:
    """It is whole up to a batch, or there is none."""

    def make(root: Path, _say: Say, begin: Begin) -> None:
        world = World(root, LIMITS)
        world.login()
        begin()
        index(world)

    assert each_step(template, tmp_path, make, lambda root, _said: assert_right(root)) > 20


def test_dying_while_expunged_mail_is_taken_out(template: Path, tmp_path: Path) -> None:
    """What is gone from the mail leaves the index with the next process at the latest."""
    world = World(template, LIMITS)
    account = world.login()
    index(world)
    now(now(account.select("Drafts", False)).remove(UidSet.of([2, 4])))
    world.close()

    def sweep(root: Path, _say: Say, begin: Begin) -> None:
        world = World(root, LIMITS)
        world.login()
        begin()
        index(world)

    assert each_step(template, tmp_path, sweep, lambda root, _said: assert_right(root)) > 10
