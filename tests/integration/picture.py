"""A client's picture of a mailbox, kept from untagged responses alone, and its rules (RFC 3501 section 7)."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Self

from imap_wire import Answer, Wire
from picture_names import INBOX, MOVABLE_NAMES, MailboxId, Revision
from picture_sort import LIVE, NOW, SortedResult, sorted_now

_NUMBERED = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?\Z", re.DOTALL)
_UID = re.compile(rb"\bUID (\d+)")
_FLAGS = re.compile(rb"\bFLAGS \(([^)]*)\)")
_SELECTED_ID = re.compile(rb"\[MAILBOXID \((\S+)\)\]")
_BY_NUMBER = (b"FETCH", b"STORE", b"SEARCH")

FLAGS = (b"\\Seen", b"\\Flagged", b"\\Answered", b"$A", b"$B")


class Seen:
    """What the client knows of one message."""

    __slots__ = ("flags", "recent", "uid")

    def __init__(self) -> None:
        self.uid: int | None = None
        self.recent = False
        self.flags: frozenset[bytes] | None = None


class Picture:
    """One session that believes what it is told, in a mailbox that others change and rename."""

    recent_in: ClassVar[dict[tuple[MailboxId, int], object]] = {}
    """In which session of all clients a message was ``\\Recent``; there may be one only (section 2.3.2)."""

    def __init__(
        self,
        connect: Callable[[], Wire],
        revision: Revision,
        at_home: bool,
        rng: random.Random,
        wire: Wire | None = None,
    ) -> None:
        """``connect`` makes a logged-in connection; ``wire`` is the first one when there is one already.

        At home the client has INBOX selected, otherwise the mailbox that changes its name.
        """
        self.connect = connect
        self.revision = revision
        self.rng = rng
        self.messages: list[Seen] = []
        self.sorted: SortedResult | None = None
        self.session = object()
        self.done: Counter[bytes] = Counter()
        self.wire = wire or connect()
        self.names: dict[MailboxId, str] = {}
        self.lasting: frozenset[MailboxId] = frozenset()
        self.begin()
        (inbox,) = (one for one, name in self.names.items() if name == INBOX)
        (movable,) = (one for one, name in self.names.items() if name in MOVABLE_NAMES)
        self.movable, self.lasting = movable, frozenset((inbox, movable))
        self.mailbox, self.other = (inbox, movable) if at_home else (movable, inbox)
        self.select()

    def begin(self) -> None:
        """What every connection begins with."""
        enabling = self.revision.enabling()
        if enabling:
            self.command(enabling)
        self.learn_names()

    # -- listening -------------------------------------------------------------------------------

    def hear(self, response: bytes) -> None:
        """Take one untagged response into the picture."""
        assert not response.startswith(b"* BYE"), response
        self.revision.check(response)
        if self.sorted is not None and self.sorted.hear(response):
            return
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
            message.recent |= b"\\Recent" in flags[1].split()
        if message.recent and message.uid is not None:
            session = self.recent_in.setdefault((self.mailbox, message.uid), self.session)
            assert session is self.session, "a message is \\Recent in two sessions"

    def command(self, text: bytes, *allowed: bytes, name: bytes = b"") -> Answer:
        """Send a command; BAD is never right, NO only when ``allowed`` names its response code.

        ``name`` is what it is counted as when it has succeeded, its first words by default.
        """
        answer = self.wire.command(text)
        for response in answer.untagged:
            if text.startswith(_BY_NUMBER):
                # RFC 3501 section 7.4.1.
                gone = response.endswith(b" EXPUNGE") or response.startswith(b"* VANISHED ")
                assert not gone, "EXPUNGE during a command with numbers"
            self.hear(response)
        words = text.split(b" ")
        name = name or b" ".join(words[: 2 if words[0] == b"UID" else 1])
        self.check(answer, name, allowed)
        return answer

    def check(self, answer: Answer, name: bytes, allowed: tuple[bytes, ...] = ()) -> None:
        """Whether a command ended as it may; successes are counted."""
        code = answer.tagged.split(b" ")[2].strip(b"[]") if answer.tagged else b""
        assert answer.status == b"OK" or (answer.status == b"NO" and code in allowed), (name, answer.tagged)
        self.done[name] += answer.status == b"OK"

    # -- the mailboxes ---------------------------------------------------------------------------

    def learn_names(self) -> None:
        """Ask what all mailboxes are called now.

        One that is renamed between LIST and its STATUS has no STATUS (RFC 5819 section 2): ask again.
        """
        while True:
            self.names = self.revision.names(self.command(b'LIST "" "*" RETURN (STATUS (MAILBOXID))'))
            if self.lasting <= self.names.keys():
                return
            self.done[b"LIST again"] += 1

    def name(self, mailbox: MailboxId) -> bytes:
        """What the client believes a mailbox is called, as it goes on the wire."""
        return self.revision.wire(self.names[mailbox])

    def at(self, text: bytes, target: MailboxId, *allowed: bytes) -> Answer:
        """A command that ends in a mailbox name; when somebody has renamed it, the client learns that."""
        answer = self.command(text + self.name(target), b"TRYCREATE", b"NONEXISTENT", *allowed)
        if b"[TRYCREATE]" in answer.tagged or b"[NONEXISTENT]" in answer.tagged:
            self.done[b"renamed meanwhile"] += 1
            self.learn_names()
        return answer

    def open_mailbox(self, parameters: Callable[[], bytes], hear: Callable[[Answer], None]) -> Answer:
        """SELECT by the name the mailbox has; ``hear`` takes the responses of the one that succeeds."""
        self.sorted = None
        while True:
            answer = self.wire.command(b"SELECT " + self.name(self.mailbox) + parameters())
            self.check(answer, b"SELECT", (b"NONEXISTENT",))
            if answer.status == b"OK":
                break
            self.done[b"renamed meanwhile"] += 1
            self.learn_names()
        found = [one for response in answer.untagged for one in _SELECTED_ID.findall(response)]
        # RFC 8474 section 4: a renamed mailbox keeps its id.
        assert found == [self.mailbox], "another mailbox under the same name"
        listed = [one for one in answer.untagged if one.startswith(b"* LIST ")]
        assert len(listed) == self.revision.rev2, "RFC 9051 section 6.3.2: SELECT tells the name by LIST"
        self.session = object()
        hear(answer)
        return answer

    def select(self) -> None:
        """Begin anew."""
        self.messages = []

        def hear(answer: Answer) -> None:
            for response in answer.untagged:
                self.hear(response)

        self.open_mailbox(bytes, hear)
        self.look()

    def look(self) -> None:
        """Ask for everything that is not known yet."""
        unknown = [n for n, one in enumerate(self.messages, 1) if one.uid is None or one.flags is None]
        if unknown:
            self.command(b"FETCH %d:%d (UID FLAGS)" % (unknown[0], unknown[-1]), b"EXPUNGEISSUED")

    def keep_sorted(self) -> None:
        """Have a sorted result kept up to date from here on, unless there is one."""
        if self.sorted is not None and not self.sorted.ended:
            return
        answer = self.wire.command(LIVE)
        self.sorted = SortedResult(answer)
        for response in answer.untagged:
            self.hear(response)
        self.check(answer, b"UID SORT")

    # -- comparing -------------------------------------------------------------------------------

    def settled_picture(self) -> list[tuple[int | None, frozenset[bytes] | None]]:
        """The picture once the client has asked for everything it was told of."""
        self.command(b"NOOP")
        self.look()
        self.command(b"NOOP")
        return self.picture()

    def check_sorted(self) -> None:
        """The result that was kept is the one that a SORT of now finds."""
        if self.sorted is None or self.sorted.ended:
            return
        self.done[b"sorted result followed"] += self.sorted.changes
        answer = self.wire.command(NOW)
        for response in answer.untagged:
            self.hear(response)
        assert self.sorted.uids == sorted_now(answer), "another order than the client was told"

    def picture(self) -> list[tuple[int | None, frozenset[bytes] | None]]:
        """UID and flags of every message, in order of sequence number."""
        uids = [one.uid for one in self.messages if one.uid is not None]
        assert uids == sorted(set(uids)), "UIDs ascend"
        return [(one.uid, one.flags) for one in self.messages]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.wire.close()
