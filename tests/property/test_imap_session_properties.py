"""Several clients over the wire, reading nothing but what the server says, agree with the mailbox."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mailstore.model import SystemFlag
from tests.wire import Client, ImapWorld

EXISTS = re.compile(rb"\* (\d+) EXISTS\r\n")
EXPUNGE = re.compile(rb"\* (\d+) EXPUNGE\r\n")
FETCH = re.compile(rb"\* (\d+) FETCH \(.*?FLAGS \(([^)]*)\).*\)\r\n")
NAMES = ("\\Seen", "\\Flagged", "\\Deleted", "work")
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@dataclass
class Reader:
    """A client's picture: for each message its flags, None before it has heard of them."""

    wire: Client
    flags: list[set[str] | None] = field(default_factory=list)
    number: int = 0

    def run(self, command: str, may_expunge: bool, silent: tuple[int, str, str] | None = None) -> bytes:
        """Send a command and believe the untagged lines; returns all that was said."""
        self.number += 1
        tag = b"t%d" % self.number
        said = self.wire.say(tag + b" " + command.encode() + b"\r\n")
        assert said.splitlines()[-1].startswith(tag + b" OK"), said.splitlines()[-1]
        if silent is not None:
            self._believe_own(*silent)
        for line in said.splitlines(keepends=True):
            if found := EXISTS.fullmatch(line):
                assert int(found.group(1)) >= len(self.flags)
                self.flags += [None] * (int(found.group(1)) - len(self.flags))
            elif found := EXPUNGE.fullmatch(line):
                assert may_expunge
                del self.flags[int(found.group(1)) - 1]
            elif found := FETCH.fullmatch(line):
                words = {word for word in found.group(2).decode().split() if word != "\\Recent"}
                self.flags[int(found.group(1)) - 1] = words
        return said

    def _believe_own(self, seq: int, sign: str, name: str) -> None:
        """What STORE with .SILENT leaves to the client to work out."""
        known = self.flags[seq - 1]
        if sign == "":
            self.flags[seq - 1] = {name}
        elif known is not None:
            known.add(name) if sign == "+" else known.discard(name)


class Clients(RuleBasedStateMachine):
    """Three sessions with INBOX selected, and deliveries."""

    @initialize(condstore=st.lists(st.booleans(), min_size=3, max_size=3), messages=st.integers(0, 4))
    def begin(self, condstore: list[bool], messages: int) -> None:
        """Everybody selects the mailbox."""
        self.world = ImapWorld()
        self.world.account.create("Other")
        for _ in range(messages):
            self.world.account.deliver(MESSAGE)
        self.readers = []
        for wants in condstore:
            reader = Reader(self.world.logged_in())
            reader.run("SELECT INBOX" + (" (CONDSTORE)" if wants else ""), may_expunge=False)
            reader.run("FETCH 1:* FLAGS", may_expunge=False)
            self.readers.append(reader)

    @rule()
    def deliver(self) -> None:
        """A message arrives."""
        self.world.account.deliver(MESSAGE)

    @rule(who=st.integers(0, 2), command=st.sampled_from(["FETCH 1:* FLAGS", "SEARCH ALL", "SEARCH UNSEEN"]))
    def look(self, who: int, command: str) -> None:
        """Commands during which numbers must not change."""
        if self.readers[who].flags:
            self.readers[who].run(command, may_expunge=False)

    @rule(
        who=st.integers(0, 2),
        at=st.integers(0, 9),
        sign=st.sampled_from(["", "+", "-"]),
        name=st.sampled_from(NAMES),
        silent=st.booleans(),
    )
    def store(self, who: int, at: int, sign: str, name: str, silent: bool) -> None:
        """Flags of one message."""
        reader = self.readers[who]
        if reader.flags:
            seq = at % len(reader.flags) + 1
            command = f"STORE {seq} {sign}FLAGS{'.SILENT' if silent else ''} ({name})"
            reader.run(command, may_expunge=False, silent=(seq, sign, name) if silent else None)

    @rule(
        who=st.integers(0, 2), command=st.sampled_from(["EXPUNGE", "NOOP", "UID FETCH 1:* FLAGS", "LSUB x y"])
    )
    def change(self, who: int, command: str) -> None:
        """Commands during which anything may be told."""
        self.readers[who].run(command, may_expunge=True)

    @rule(who=st.integers(0, 2), at=st.integers(0, 9), command=st.sampled_from(["COPY", "MOVE"]))
    def carry(self, who: int, at: int, command: str) -> None:
        """One message goes elsewhere."""
        reader = self.readers[who]
        if reader.flags:
            reader.run(f"{command} {at % len(reader.flags) + 1} Other", may_expunge=True)

    def teardown(self) -> None:
        """In the end everybody agrees."""
        for who in range(len(getattr(self, "readers", ()))):
            self.agree(who)

    @rule(who=st.integers(0, 2))
    def agree(self, who: int) -> None:
        """After NOOP the picture is the mailbox: same messages, same flags as far as they were told."""
        reader = self.readers[who]
        reader.run("NOOP", may_expunge=True)
        box = self.world.account.mailboxes["INBOX"]
        assert len(reader.flags) == len(box.messages)
        for known, (_, message) in zip(reader.flags, sorted(box.messages.items()), strict=True):
            if known is not None:
                assert known == names_of(message.flags.system, message.flags.keywords)


def names_of(system: SystemFlag, keywords: tuple[str, ...]) -> set[str]:
    """Flags as the wire names them."""
    return {"\\" + flag.name.capitalize() for flag in SystemFlag if flag & system and flag.name} | set(
        keywords
    )


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
