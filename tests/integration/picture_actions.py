"""A client that does random things to its mailbox, to another one and to their names."""

from __future__ import annotations

from picture import FLAGS, Picture, Seen
from picture_names import MOVABLE_NAMES, MailboxId
from picture_search import KEYS, compare, result_of

_MANY = 60
"""Messages above which a client prefers to expunge."""


class Client(Picture):
    """See the module's docstring."""

    heard_idle = 0

    def act(self) -> None:
        """Do one random thing, or two."""
        chance = self.rng.random()
        if chance < 0.02:
            self.select()
        elif chance < 0.023:
            self.empty_inbox()
        actions = [self.append, self.idle, self.look, self.noop, self.rename, self.search, self.keep_sorted]
        if self.messages:
            actions += [self.store, self.store_silent, self.fetch, self.copy, self.move, self.expunge] * 2
            actions += [self.search, self.search_and_use]
        if len(self.messages) > _MANY:
            actions += [self.expunge] * 20
        self.rng.choice(actions)()

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

    def somewhere(self) -> MailboxId:
        """One of the two mailboxes."""
        return self.rng.choice((self.mailbox, self.other))

    def append(self) -> None:
        """APPEND a message, here or there."""
        text = b"Subject: %d\r\n\r\n" % self.done[b"APPEND"] + b"text\r\n" * self.rng.randrange(1, 300)
        answer = self.wire.append(self.name(self.somewhere()), text, b"(%s)" % self.flag())
        for response in answer.untagged:
            self.hear(response)
        self.check(answer, b"APPEND", (b"TRYCREATE",))
        if answer.status == b"NO":
            self.learn_names()

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
        self.at(b"COPY %s " % self.numbers(), self.somewhere(), b"EXPUNGEISSUED")

    def move(self) -> None:
        """UID MOVE or MOVE to the other mailbox."""
        uids = self.uids()
        if uids and self.rng.random() < 0.5:
            self.at(b"UID MOVE %s " % uids, self.other)
        else:
            self.at(b"MOVE %s " % self.numbers(), self.other, b"EXPUNGEISSUED")

    def expunge(self) -> None:
        """Mark some messages and EXPUNGE, or UID EXPUNGE."""
        uids = self.uids()
        if not uids:
            return
        self.command(b"UID STORE %s +FLAGS (\\Deleted)" % uids)
        self.command(self.rng.choice((b"EXPUNGE", b"UID EXPUNGE " + uids)))

    def rename(self) -> None:
        """RENAME the other mailbox, under whoever has it selected."""
        new = self.rng.choice([name for name in MOVABLE_NAMES if name != self.names[self.movable]])
        text = b"RENAME %s %s" % (self.name(self.movable), self.revision.wire(new))
        if self.command(text, b"NONEXISTENT").status == b"OK":
            self.names[self.movable] = new
        else:
            self.learn_names()

    def empty_inbox(self) -> None:
        """RENAME of INBOX takes all its messages away (RFC 3501 section 6.3.5)."""
        away = b"Away%d" % self.rng.randrange(10**9)
        self.command(b"RENAME INBOX " + away, name=b"RENAME INBOX")
        self.command(b"DELETE " + away)

    def search(self) -> None:
        """SEARCH finds what the picture says."""
        by_uid = self.rng.random() < 0.5
        returned = self.rng.random() < 0.5
        extended = returned or self.revision.rev2
        key = self.rng.choice(list(KEYS))
        name = b"UID SEARCH" if by_uid else b"SEARCH"
        text = b"%s %s%s" % (name, b"RETURN (ALL) " if returned else b"", key)
        answer = self.wire.command(text)
        results = 0
        missing: list[Seen] = []
        for response in answer.untagged:
            if self.sorted is not None and self.sorted.hear(response):
                continue
            found = result_of(response, extended, answer.tagged.split(b" ")[0], by_uid)
            if found is None:
                self.hear(response)
            else:
                results += 1
                missing = compare(self.messages, found, by_uid, key)
        self.check(answer, name)
        assert results == 1, "one result for one SEARCH"
        self.noop()
        assert not set(map(id, missing)) & set(map(id, self.messages)), "SEARCH missed a message"

    def search_and_use(self) -> None:
        """The saved result names messages in later commands (RFC 5182)."""
        key = self.rng.choice(list(KEYS))
        self.command(b"UID SEARCH RETURN (SAVE) %s" % key)
        self.command(b"FETCH $ (UID FLAGS)", b"EXPUNGEISSUED")
        if self.rng.random() < 0.3:
            self.command(b"UID STORE $ -FLAGS (%s)" % self.flag())

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
        self.check(answer, b"IDLE")
