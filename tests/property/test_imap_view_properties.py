"""Several sessions on one mailbox: a client that only reads untagged lines agrees with the server."""

from __future__ import annotations

import re
import time
from array import array
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mailstore.model import (
    Delta,
    Flags,
    MailboxId,
    MailboxStatus,
    MessageFlags,
    ModSeq,
    Opened,
    SystemFlag,
    Uid,
    UidValidity,
)
from mailstore.uidset import STAR, SequenceSet, UidSet
from protocols.imap.picture.view import View
from protocols.imap.responses import lines

LINE = re.compile(
    rb"\* (\d+) (EXISTS|EXPUNGE|FETCH \((?:UID (\d+) )?FLAGS \(([^)]*)\)(?: MODSEQ \((\d+)\))?\))\Z"
)


def uid_of(view: View, seq: int) -> Uid:
    """What a sequence number means to the view."""
    (uid,) = view.resolve(SequenceSet(((seq, seq),)), by_uid=False)
    return uid


@dataclass
class Server:
    """The mailbox itself: flags and modseq by UID, and when which UID went."""

    messages: dict[int, MessageFlags] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    modseq: int = 1
    uid_next: int = 1

    def opened(self) -> Opened:
        """What SELECT returns now."""
        status = MailboxStatus(
            MailboxId(1),
            len(self.messages),
            0,
            0,
            0,
            0,
            Uid(self.uid_next),
            UidValidity(1),
            ModSeq(self.modseq),
            "m",
        )
        return Opened(MailboxId(1), "x", False, status, array("I", sorted(self.messages)), None, (), UidSet())

    def delta(self, since: ModSeq) -> Delta:
        """What changed after ``since``."""
        return Delta(
            since,
            ModSeq(self.modseq),
            Uid(self.uid_next),
            tuple(row for _, row in sorted(self.messages.items()) if row.modseq > since),
            UidSet.of(uid for modseq, uid in self.gone if modseq > since),
        )


@dataclass
class Client:
    """A client that believes what it reads; UIDs and flags of new messages it asks for."""

    view: View
    known: list[tuple[int, bytes]]

    def read(self, said: list[bytes], server: Server, may_expunge: bool) -> None:
        """Follow untagged lines, checking that each is legal when it comes."""
        for line in b"".join(said).splitlines():
            if line.endswith(b" RECENT") or line.startswith((b"* FLAGS", b"* OK [PERMANENTFLAGS")):
                continue
            found = LINE.match(line)
            assert found is not None
            number = int(found.group(1))
            if found.group(2) == b"EXPUNGE":
                assert may_expunge
                del self.known[number - 1]
            elif found.group(2) == b"EXISTS":
                assert number > len(self.known)
                for seq in range(len(self.known) + 1, number + 1):
                    new = uid_of(self.view, seq)
                    self.known.append((new, flags_of(server.messages.get(new))))
            else:
                uid = self.known[number - 1][0]
                assert found.group(3) in {None, b"%d" % uid}
                self.known[number - 1] = (uid, found.group(4).removesuffix(b"\\Recent").rstrip())


def flags_of(row: MessageFlags | None) -> bytes:
    """The flags as the wire shows them."""
    return lines.flags(row.flags) if row is not None else b""


class Sessions(RuleBasedStateMachine):
    """Deliveries, flag changes and expunges, seen by several sessions at different times."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.clients: list[Client] = []

    def pick(self, at: int) -> int | None:
        """One of the existing UIDs."""
        uids = sorted(self.server.messages)
        return uids[at % len(uids)] if uids else None

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        """New messages arrive in one transaction."""
        self.server.modseq += 1
        for _ in range(count):
            new = self.server.uid_next
            self.server.uid_next += 1
            self.server.messages[new] = MessageFlags(Uid(new), ModSeq(self.server.modseq), Flags())

    @rule(at=st.integers(0, 99), bits=st.integers(0, 31), word=st.sampled_from([(), ("$a",)]))
    def store(self, at: int, bits: int, word: tuple[str, ...]) -> None:
        """Somebody changes flags."""
        uid = self.pick(at)
        if uid is not None:
            self.server.modseq += 1
            flags = Flags(SystemFlag(bits), word)
            self.server.messages[uid] = MessageFlags(Uid(uid), ModSeq(self.server.modseq), flags)

    @rule(places=st.lists(st.integers(0, 99), min_size=1, max_size=6))
    def expunge(self, places: list[int]) -> None:
        """Somebody expunges a few messages."""
        self.server.modseq += 1
        for uid in {picked for at in places if (picked := self.pick(at)) is not None}:
            del self.server.messages[uid]
            self.server.gone.append((self.server.modseq, uid))

    @rule()
    def select(self) -> None:
        """Another session opens the mailbox."""
        if len(self.clients) < 4:
            known = [(uid, flags_of(row)) for uid, row in sorted(self.server.messages.items())]
            self.clients.append(Client(View(self.server.opened()), known))

    @rule(at=st.integers(0, 3), may_expunge=st.booleans(), modseqs=st.booleans())
    def command(self, at: int, may_expunge: bool, modseqs: bool) -> None:
        """A session hears what changed and tells its client what is legal."""
        if at < len(self.clients):
            client = self.clients[at]
            client.view.apply(self.server.delta(client.view.modseq))
            pending = client.view.has_pending(may_expunge=may_expunge)
            said = client.view.flush(may_expunge, modseqs)
            assert pending == bool(said)
            assert not client.view.has_pending(may_expunge=may_expunge)
            client.read(said, self.server, may_expunge)
            if may_expunge:
                assert [uid for uid, _ in client.known] == sorted(self.server.messages)
            for uid, flags in client.known:
                if uid in self.server.messages:
                    assert flags == flags_of(self.server.messages[uid])

    @rule(at=st.integers(0, 3))
    def hear_only(self, at: int) -> None:
        """A session takes note without saying anything (the client is in the middle of something)."""
        if at < len(self.clients):
            client = self.clients[at]
            client.view.apply(self.server.delta(client.view.modseq))
            # Whatever came and went meanwhile: no message has had a larger UID.
            assert client.view.uid_ceiling == self.server.uid_next - 1

    @invariant()
    def numbers_agree(self) -> None:
        """At any time both sides mean the same message by a sequence number."""
        for client in self.clients:
            assert client.view.exists == len(client.known)
            for seq, (known, _) in enumerate(client.known, 1):
                assert uid_of(client.view, seq) == known
                assert client.view.seq_of(known) == seq
            if client.known:
                everything = SequenceSet(((1, STAR),))
                assert client.view.resolve(everything, by_uid=False) == [uid for uid, _ in client.known]


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_expunging_a_large_mailbox_is_linear() -> None:
    """Half of 100,000 messages go at once, well within a second."""
    server = Server(uid_next=100_001)
    server.messages = {uid: MessageFlags(Uid(uid), ModSeq(1), Flags()) for uid in range(1, 100_001)}
    view = View(server.opened())
    gone = UidSet.of(range(1, 100_001, 2))
    started = time.process_time()
    view.apply(Delta(ModSeq(1), ModSeq(2), Uid(100_001), (), gone))
    said = view.flush(allow_expunge=True, modseqs=False)
    spent = time.process_time() - started
    assert view.exists == 50_000
    assert b"".join(said).startswith(b"* 99999 EXPUNGE\r\n* 99997 EXPUNGE\r\n")
    assert spent < 2
