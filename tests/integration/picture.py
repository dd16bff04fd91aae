"""A client's picture of a mailbox, kept from untagged responses alone, and its rules (RFC 3501 section 7)."""

from __future__ import annotations

import random
import re
from typing import Self

from imap_wire import Answer, Wire

_NUMBERED = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?\Z", re.DOTALL)
_UID = re.compile(rb"\bUID (\d+)")
_FLAGS = re.compile(rb"\bFLAGS \(([^)]*)\)")
FLAGS = (b"\\Seen", b"\\Flagged", b"\\Answered", b"$A", b"$B")


class Seen:
    """What the client knows of one message."""

    __slots__ = ("flags", "uid")

    def __init__(self) -> None:
        self.uid: int | None = None
        self.flags: frozenset[bytes] | None = None


class Client:
    """One session that does random things and believes what it is told."""

    def __init__(self, wire: Wire, mailboxes: tuple[bytes, bytes], rng: random.Random) -> None:
        self.wire = wire
        self.mailbox, self.other = mailboxes
        self.rng = rng
        self.messages: list[Seen] = []
        self.heard_idle = 0
        self.done: dict[bytes, int] = {}
        self._appended = 0
        self.select()

    # -- listening -------------------------------------------------------------------------------

    def hear(self, response: bytes) -> None:
        """Take one untagged response into the picture."""
        assert not response.startswith(b"* BYE"), "the server ended the session"
        found = _NUMBERED.match(response)
        if found is None:
            return
        number = int(found[1])
        match found[2]:
            case b"EXISTS":
                assert number >= len(self.messages), "EXISTS may not take messages away"
                self.messages += [Seen() for _ in range(number - len(self.messages))]
            case b"EXPUNGE":
                assert 0 < number <= len(self.messages), "EXPUNGE of a message the client does not have"
                del self.messages[number - 1]
            case b"FETCH":
                assert 0 < number <= len(self.messages), "FETCH of a message the client does not have"
                self._fetched(self.messages[number - 1], found[3])

    def _fetched(self, message: Seen, items: bytes) -> None:
        uid, flags = _UID.search(items), _FLAGS.search(items)
        if uid is not None:
            assert message.uid in (None, int(uid[1])), "a sequence number means another message now"
            message.uid = int(uid[1])
        if flags is not None:
            message.flags = frozenset(flags[1].split()) - {b"\\Recent"}

    def command(self, text: bytes, *allowed: bytes) -> Answer:
        """Send a command; BAD is never right, NO only when ``allowed`` names its response code."""
        word = text.split(b" ")[0]
        number_based = word in (b"FETCH", b"STORE", b"SEARCH")
        answer = self.wire.command(text)
        for response in answer.untagged:
            if number_based:
                # RFC 3501 section 7.4.1.
                gone = response.endswith(b" EXPUNGE") or response.startswith(b"* VANISHED ")
                assert not gone, "EXPUNGE during a command with numbers"
            self.hear(response)
        code = answer.tagged.split(b" ")[2].strip(b"[]")
        assert answer.status == b"OK" or (answer.status == b"NO" and code in allowed), (word, answer.tagged)
        self.done[word] = self.done.get(word, 0) + 1
        return answer

    # -- acting ----------------------------------------------------------------------------------

    def select(self) -> None:
        """Begin anew."""
        self.messages = []
        self.command(b"SELECT " + self.mailbox)
        self.look()

    def look(self) -> None:
        """Ask for everything that is not known yet."""
        unknown = [n for n, one in enumerate(self.messages, 1) if one.uid is None or one.flags is None]
        if unknown:
            self.command(b"FETCH %d:%d (UID FLAGS)" % (unknown[0], unknown[-1]), b"EXPUNGEISSUED")

    def numbers(self) -> bytes:
        """A random sequence set."""
        first = self.rng.randint(1, len(self.messages))
        return b"%d:%d" % (first, min(len(self.messages), first + self.rng.randrange(4)))

    def uids(self) -> bytes:
        """The UIDs of a random run of messages; empty when none of them is known."""
        first = self.rng.randrange(len(self.messages))
        known = [one.uid for one in self.messages[first : first + 4] if one.uid is not None]
        return b",".join(b"%d" % uid for uid in known)

    def flag(self) -> bytes:
        """A few random flags."""
        return b" ".join(self.rng.sample(FLAGS, self.rng.randint(1, 3)))

    def act(self) -> None:
        """Do one random thing."""
        actions = [self.append, self.idle, self.look, self.noop]
        if self.messages:
            actions += [self.store, self.store_silent, self.fetch, self.copy, self.move, self.expunge] * 2
        if len(self.messages) > 60:
            actions += [self.expunge] * 20
        if self.rng.random() < 0.02:
            self.select()
        self.rng.choice(actions)()

    def append(self) -> None:
        """APPEND one or two messages, here or there."""
        target = self.rng.choice((self.mailbox, self.other))
        self._appended += 1
        text = b"Subject: %d\r\n\r\n" % self._appended + b"text\r\n" * self.rng.randrange(1, 300)
        answer = self.wire.append(target, text, b"(%s)" % self.flag())
        for response in answer.untagged:
            self.hear(response)
        assert answer.status == b"OK", answer.tagged
        self.done[b"APPEND"] = self.done.get(b"APPEND", 0) + 1

    def noop(self) -> None:
        """NOOP."""
        self.command(b"NOOP")

    def store(self) -> None:
        """STORE by sequence number."""
        sign = self.rng.choice((b"+", b"-", b""))
        self.command(b"STORE %s %sFLAGS (%s)" % (self.numbers(), sign, self.flag()), b"EXPUNGEISSUED")

    def store_silent(self) -> None:
        """UID STORE .SILENT: what the server does not say, the client has to know by itself."""
        uids, flags = self.uids(), self.flag()
        if not uids:
            return
        meant = {int(uid) for uid in uids.split(b",")}
        for message in self.messages:
            if message.uid in meant and message.flags is not None:
                message.flags |= frozenset(flags.split())
        self.command(b"UID STORE %s +FLAGS.SILENT (%s)" % (uids, flags))

    def fetch(self) -> None:
        """FETCH that sets \\Seen."""
        self.command(b"FETCH %s (UID FLAGS BODY[TEXT])" % self.numbers(), b"EXPUNGEISSUED")

    def copy(self) -> None:
        """COPY to the other mailbox or to this one."""
        target = self.rng.choice((self.mailbox, self.other))
        self.command(b"COPY %s %s" % (self.numbers(), target), b"EXPUNGEISSUED")

    def move(self) -> None:
        """UID MOVE or MOVE to the other mailbox."""
        uids = self.uids()
        if uids and self.rng.random() < 0.5:
            self.command(b"UID MOVE %s %s" % (uids, self.other))
        else:
            self.command(b"MOVE %s %s" % (self.numbers(), self.other), b"EXPUNGEISSUED")

    def expunge(self) -> None:
        """Mark some messages and EXPUNGE, or UID EXPUNGE."""
        uids = self.uids()
        if not uids:
            return
        self.command(b"UID STORE %s +FLAGS (\\Deleted)" % uids)
        self.command(self.rng.choice((b"EXPUNGE", b"UID EXPUNGE " + uids)))

    def idle(self) -> None:
        """IDLE until a few things were heard or a moment has passed."""
        self.wire.send(b"idle IDLE\r\n")
        for response in self.wire.until(b"+ ").untagged:
            self.hear(response)
        self.wire.socket.settimeout(self.rng.uniform(0.01, 0.2))
        try:
            for _ in range(3):
                self.hear(self.wire.line())
                self.heard_idle += 1
        except TimeoutError:
            pass
        self.wire.socket.settimeout(30)
        self.wire.send(b"DONE\r\n")
        answer = self.wire.until(b"idle ")
        for response in answer.untagged:
            self.hear(response)
        assert answer.status == b"OK"

    # -- comparing -------------------------------------------------------------------------------

    def settled_picture(self) -> list[tuple[int | None, frozenset[bytes] | None]]:
        """The picture once the client has asked for everything it was told of."""
        self.noop()
        self.look()
        self.noop()
        return self.picture()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.wire.close()

    def picture(self) -> list[tuple[int | None, frozenset[bytes] | None]]:
        """UID and flags of every message, in order of sequence number."""
        uids = [one.uid for one in self.messages if one.uid is not None]
        assert uids == sorted(set(uids)), "UIDs ascend"
        return [(one.uid, one.flags) for one in self.messages]
