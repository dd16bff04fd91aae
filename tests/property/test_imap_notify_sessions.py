"""A session with NOTIFY that only listens knows its whole account, whoever does what (RFC 5465)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from mailstore.model import SystemFlag
from tests.wire import Client, ImapWorld

MAIL = b"Subject: x\r\n\r\ntext\r\n"
NAMES = ("INBOX", "a", "b")
MESSAGES = b"MessageNew (UID FLAGS) MessageExpunge FlagChange"
NOTIFY = (
    b"n NOTIFY SET STATUS (selected%s ("
    + MESSAGES
    + b")) (personal (MessageNew MessageExpunge FlagChange))\r\n"
)
STATUS = re.compile(rb"\* STATUS (\S+) \(([^)]*)\)")
FETCH = re.compile(rb"\* (\d+) FETCH \(UID (\d+) FLAGS \(([^)]*)\)")
NUMBERED = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE)")


@dataclass
class Follower:
    """A client: what it believes of mailboxes that are not selected, and of the messages in one that is."""

    client: Client
    status: dict[str, dict[str, int]] = field(default_factory=dict)
    selected: str = ""
    messages: list[tuple[int, frozenset[bytes]] | None] = field(default_factory=list)
    """UID and flags in order of sequence numbers, None before they are known."""

    def hear(self, said: bytes) -> None:
        """Follow the untagged lines."""
        for line in said.split(b"\r\n"):
            if found := STATUS.match(line):
                words = found[2].split(b" ")
                values = zip(words[::2], map(int, words[1::2]), strict=True)
                self.status.setdefault(found[1].decode(), {}).update(
                    {word.decode(): value for word, value in values}
                )
            elif found := FETCH.match(line):
                flags = frozenset(found[3].split()) - {b"\\Recent"}
                self.messages[int(found[1]) - 1] = (int(found[2]), flags)
            elif found := NUMBERED.match(line):
                if found[2] == b"EXISTS":
                    assert int(found[1]) >= len(self.messages)
                    self.messages += [None] * (int(found[1]) - len(self.messages))
                else:
                    del self.messages[int(found[1]) - 1]

    def say(self, line: bytes) -> bytes:
        """A command of the client's own."""
        said = self.client.say(line)
        if b" SELECT " in line or b"UNSELECT" in line:
            before, _, said = said.rpartition(b"[CLOSED] the previous mailbox is closed\r\n")
            self.hear(before)
            self.messages = []
        self.hear(said)
        return said

    def leave(self) -> None:
        """What is known of the messages is known of the mailbox."""
        if None in self.messages:
            self.say(b"f UID FETCH 1:* (UID FLAGS)\r\n")
        known = [one for one in self.messages if one is not None]
        status = self.status.setdefault(self.selected, {})
        status["MESSAGES"] = len(known)
        status["UNSEEN"] = sum(b"\\Seen" not in flags for _, flags in known)
        status["UIDNEXT"] = max([status.get("UIDNEXT", 1), *(uid + 1 for uid, _ in known)])

    def choose(self, name: str) -> None:
        """SELECT, then learn what is there."""
        if self.selected:
            self.leave()
        self.selected = name
        assert b"s OK" in self.say(b"s SELECT %s\r\n" % name.encode())
        self.say(b"f UID FETCH 1:* (UID FLAGS)\r\n")

    def grew(self, name: str, count: int) -> None:
        """The client's own messages in another mailbox it counts itself; how many are unseen it asks."""
        if name != self.selected:
            self.status[name]["MESSAGES"] += count
            self.status[name]["UIDNEXT"] += count
            self.say(b"u STATUS %s (UNSEEN)\r\n" % name.encode())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["own", "other"]),
        st.sampled_from(
            ["flag", "unflag", "expunge", "copy", "move", "append", "select", "noop", "fetch", "idle"]
        ),
        st.sampled_from(NAMES),
        st.integers(1, 5),
    ),
    max_size=25,
)


def act(session: Client | Follower, kind: str, name: str, number: int) -> bytes:
    """A command of either session."""
    match kind:
        case "flag" | "unflag":
            sign = b"+" if kind == "flag" else b"-"
            return session.say(b"c UID STORE %d %sFLAGS (\\Seen)\r\n" % (number, sign))
        case "expunge":
            return session.say(b"c UID STORE %d +FLAGS (\\Deleted)\r\n" % number) + session.say(
                b"c EXPUNGE\r\n"
            )
        case "copy" | "move":
            return session.say(b"c UID %s %d %s\r\n" % (kind.encode(), number, name.encode()))
        case "append":
            return session.say(b"c APPEND %s {%d+}\r\n%s\r\n" % (name.encode(), len(MAIL), MAIL))
        case "fetch":
            return session.say(b"c FETCH 1:* (UID FLAGS)\r\n")
        case "idle":
            return session.say(b"c IDLE\r\n") + session.say(b"DONE\r\n")
        case _:
            return session.say(b"c NOOP\r\n")


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, delayed=st.booleans())
def test_followers_agree(steps: list[tuple[str, str, str, int]], delayed: bool) -> None:
    """Counters of all mailboxes and the messages of the selected one end as they are."""
    world = ImapWorld()
    for name in NAMES[1:]:
        world.account.create(name)
    for name in NAMES:
        for _ in range(2):
            world.account.deliver(MAIL, name)
    other, follower = world.selected(), Follower(world.logged_in())
    follower.say(NOTIFY % (b"-delayed" if delayed else b""))
    for who, kind, name, number in steps:
        if kind == "select":
            if who == "own":
                follower.choose(name)
            else:
                other.say(b"s SELECT %s\r\n" % name.encode())
        elif who == "other":
            act(other, kind, name, number)
        elif follower.selected or kind in ("append", "noop", "idle"):
            said = act(follower, kind, name, number)
            put = re.search(rb"\[(?:COPYUID \d+ \S+|APPENDUID \d+) (\d+)\]", said)
            if put:
                follower.grew(name, 1)
        follower.hear(follower.client.hear())
    follower.say(b"e NOOP\r\n")
    for name, box in world.account.mailboxes.items():
        truth = box.status()
        if name != follower.selected:
            believed = {word: follower.status[name][word] for word in ("MESSAGES", "UIDNEXT", "UNSEEN")}
            expected = {"MESSAGES": truth.messages, "UIDNEXT": truth.uid_next, "UNSEEN": truth.unseen}
            assert believed == expected, name
            continue
        # Of its own new messages the client is told no more than that they are there.
        assert len(follower.messages) == truth.messages
        for known, one in zip(follower.messages, box.messages.values(), strict=True):
            seen = {b"\\Seen"} if one.flags.system & SystemFlag.SEEN else set()
            deleted = {b"\\Deleted"} if one.flags.system & SystemFlag.DELETED else set()
            assert known in (None, (one.uid, frozenset(seen | deleted)))
