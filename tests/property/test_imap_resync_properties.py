"""A QRESYNC client that comes and goes, and believes what it is told, agrees with the mailbox."""

from __future__ import annotations

import re

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from mailstore.model import Flags, ModSeq, SystemFlag
from mailstore.uidset import UidSet
from tests.wire import ImapWorld

HIGHEST = re.compile(rb"HIGHESTMODSEQ (\d+)\]")
VANISHED = re.compile(rb"\* VANISHED (\(EARLIER\) )?([0-9:,]+)\r\n")
FETCH = re.compile(rb"\* (\d+) FETCH \(UID (\d+) FLAGS \(([^)]*)\) MODSEQ \((\d+)\)\)\r\n")
NAMES = (b"\\Seen", b"\\Flagged", b"\\Answered")
VALIDITY = 7


def uids_in(text: bytes) -> set[int]:
    """The members of a set on the wire."""
    ends = [one.split(b":") for one in text.split(b",")]
    return {uid for pair in ends for uid in range(int(pair[0]), int(pair[-1]) + 1)}


class Returning(RuleBasedStateMachine):
    """One mailbox that changes, and one client with a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ImapWorld()
        self.box = self.world.account.mailboxes["INBOX"]
        self.reader = self.world.logged_in()
        assert self.reader.say(b"q ENABLE QRESYNC\r\n").startswith(b"* ENABLED QRESYNC")
        self.cache: dict[int, set[bytes]] = {}
        self.modseq = 1
        self.counted: set[int] = set()
        self.selected = False

    def believe(self, said: bytes) -> None:
        """Take in what was said."""
        for line in said.splitlines(keepends=True):
            if found := VANISHED.fullmatch(line):
                gone = uids_in(found.group(2))
                # What is told as EARLIER was not counted in this session; the rest was.
                assert (gone & self.counted == set()) if found.group(1) else gone <= self.counted
                self.counted -= gone
                for uid in gone:
                    self.cache.pop(uid, None)
            elif found := FETCH.fullmatch(line):
                uid = int(found.group(2))
                self.counted.add(uid)
                assert sorted(self.counted)[int(found.group(1)) - 1] == uid
                self.cache[uid] = set(found.group(3).split()) - {b"\\Recent"}
                self.modseq = max(self.modseq, int(found.group(4)))
            assert b"EXPUNGE" not in line
            if found := HIGHEST.search(line):
                self.modseq = max(self.modseq, int(found.group(1)))

    def agree(self) -> None:
        """The cache is the mailbox."""
        names = dict(zip((SystemFlag.SEEN, SystemFlag.FLAGGED, SystemFlag.ANSWERED), NAMES, strict=True))
        assert self.cache == {
            uid: {name for flag, name in names.items() if one.flags.system & flag}
            for uid, one in self.box.messages.items()
        }

    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        """Mail arrives."""
        for _ in range(count):
            self.world.account.deliver(b"Subject: x\r\n\r\nbody\r\n")

    @rule(at=st.integers(0, 99), bits=st.integers(0, 7))
    def flag(self, at: int, bits: int) -> None:
        """Somebody changes flags."""
        if uids := sorted(self.box.messages):
            one = self.box.messages[uids[at % len(uids)]]
            one.flags, one.modseq = Flags(SystemFlag(bits)), ModSeq(self.box.bump())

    @rule(places=st.lists(st.integers(0, 99), min_size=1, max_size=4))
    def expunge(self, places: list[int]) -> None:
        """Somebody expunges."""
        uids = sorted(self.box.messages)
        chosen = {uids[at % len(uids)] for at in places if uids}
        if chosen:
            self.box.remove(chosen, self.box.bump())

    @rule(names_uids=st.booleans())
    def come_back(self, names_uids: bool) -> None:
        """SELECT with what is remembered; then ask for what is new."""
        known = UidSet.of(self.cache).to_bytes() if names_uids else b""
        self.counted = set(self.box.messages)
        resync = b"%d %d %b" % (VALIDITY, self.modseq, known)
        self.believe(self.reader.say(b"s SELECT INBOX (QRESYNC (%b))\r\n" % resync.rstrip()))
        self.selected = True
        self.catch_up(self.modseq)

    def catch_up(self, since: int) -> None:
        """The UIDs the cache lacks."""
        lacking = UidSet.of(set(self.box.messages) - set(self.cache))
        if lacking:
            self.believe(self.reader.say(b"f UID FETCH %b (FLAGS)\r\n" % lacking.to_bytes()))
        self.agree()

    @rule(ask=st.sampled_from([b"NOOP", b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d VANISHED)"]))
    def stay(self, ask: bytes) -> None:
        """A command that brings everything."""
        if self.selected:
            command = ask % self.modseq if b"%d" in ask else ask
            self.believe(self.reader.say(b"n " + command + b"\r\n"))
            self.counted |= set(self.box.messages)
            self.catch_up(self.modseq)

    @rule()
    def go(self) -> None:
        """Leave the mailbox."""
        if self.selected:
            assert self.reader.say(b"u UNSELECT\r\n") == b"u OK done\r\n"
            self.selected = False


TestReturning = Returning.TestCase
TestReturning.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
