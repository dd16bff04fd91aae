"""What a session is made of, as command handlers see it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mailstore.model import MailboxName, ModSeq, Progress, Uid
from mailstore.uidset import UidSet
from protocols.access_log import AccessLog
from protocols.budget import MemoryBudget, Reservation
from protocols.imap.connection import Connection
from protocols.imap.grammar.table import CommandSpec, State
from protocols.imap.output import Output
from protocols.imap.picture.live import LiveSearch
from protocols.imap.picture.view import EVERYTHING, View, WantedEvents, Wording
from protocols.imap.picture.watch import Hint, Watch
from protocols.imap.responses import lines
from protocols.limits import AccessLogLimits, ImapLimits, LoadLimits
from protocols.load import Load, idle
from protocols.login import LoginGuard
from protocols.sites import site_of
from protocols.store_api import AccountApi, MailboxApi
from protocols.transport import Channel, IdleTimeout

log = logging.getLogger("sealbox.imap")


@dataclass(frozen=True, slots=True)
class ImapServices:
    """What all sessions of a server share. ``tls`` is None where STARTTLS cannot be offered.

    ``literals`` bounds the memory for literals being received. ``random(n)`` returns n random bytes.
    """

    login: LoginGuard
    access_log: AccessLog
    clock: Any
    literals: MemoryBudget
    tls: Any = None
    limits: ImapLimits = field(default_factory=ImapLimits)
    log_limits: AccessLogLimits = field(default_factory=AccessLogLimits)
    random: Callable[[int], bytes] = os.urandom
    load: Callable[[], Load] = idle
    load_limits: LoadLimits = field(default_factory=LoadLimits)


_NO_MODSEQ = ModSeq(0)


@dataclass(slots=True)
class Selected:
    """The selected mailbox and the client's picture of it."""

    mailbox: MailboxApi
    view: View
    name: MailboxName
    read_only: bool
    live: dict[bytes, LiveSearch] = field(default_factory=dict)
    """Searches kept up to date, by the tag of their command (RFC 5267 section 4)."""
    live_modseq: ModSeq = _NO_MODSEQ
    """The modseq up to which their results are current."""
    own: UidSet = field(default_factory=UidSet)
    """Messages that the session itself has put here, and that the client does not know yet."""


class Moment(Enum):
    """When something is told unasked, which decides about EXPUNGE (RFC 3501 section 7.4.1)."""

    NUMBERS_IN_USE = "while sequence numbers must not change"
    FREE = "during any other command"
    EXPUNGING = "during a command that expunges"
    BETWEEN = "while there is no command"

    @classmethod
    def during(cls, spec: CommandSpec) -> Moment:
        """The moment that a command is."""
        if not spec.may_expunge:
            return cls.NUMBERS_IN_USE
        return cls.EXPUNGING if spec.expunges else cls.FREE


class Hangup(Exception):
    """The connection has to end without another word: the middle of a response cannot be finished."""


class Unanswered(Exception):
    """The session ends with its BYE, and the running command without a tagged response."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The tagged response of a command that succeeded (or, with another status, did not)."""

    text: bytes
    code: bytes = b""
    status: bytes = b"OK"


class Context:
    """The state of one session. Handlers change it; only the session itself runs them."""

    def __init__(self, channel: Channel, services: ImapServices, secure: bool) -> None:
        self.services = services
        self.limits = services.limits
        self.channel = channel
        self.address = channel.address
        self.output = Output(channel, services.limits.write_chunk_bytes)
        self.literals = Reservation(services.literals)
        self.connection = self.new_connection()
        self.state = State.NOT_AUTHENTICATED if secure else State.PLAINTEXT
        self.account: AccountApi | None = None
        self.selected: Selected | None = None
        self.watch: Watch | None = None
        self.wanted_events: WantedEvents = EVERYTHING
        """What the client is told of the selected mailbox unasked."""
        self.notified = False
        """NOTIFY has been used, so it alone decides what is sent (RFC 5465)."""
        self.forget_enabled()
        self.compressed = False
        self.user_agent = ""
        self.tag = b""
        self.progress = Progress()
        """How far the running command has come, where that is counted."""
        self.respelled: Mapping[str, str] = {}
        """Mailbox names of the running command that are not in NFC, as the client wrote them."""
        self.login_deadline_s = 0.0
        self.expect_login()
        self.failed_logins = 0
        self.goodbye: bytes | None = None
        self.after_answer: Callable[[], None] | None = None

    def new_connection(self) -> Connection:
        """A new receiving half."""
        return Connection(self.limits, self._hold_literals)

    def _hold_literals(self, size_bytes: int) -> bool:
        """Whether there is memory for so much of the command that is being received."""
        name = self.account.name if self.account is not None else ""
        holders = ("account", name), ("site", site_of(self.address))
        return self.literals.grow_to(size_bytes, tuple(f"{kind} {who}" for kind, who in holders if who))

    def expect_login(self) -> None:
        """From now on the client has ``login_timeout_s`` to log in."""
        self.login_deadline_s = self.services.clock.seconds() + self.limits.login_timeout_s

    def patience_s(self) -> float:
        """Seconds to wait for input: the idle timeout after login, before it the time left to log in.

        Only a login ends the deadline; neither octets nor commands extend it.

        Raises:
            IdleTimeout: the deadline has passed.
        """
        if self.account is not None:
            return self.limits.idle_timeout_s
        left_s = float(self.login_deadline_s - self.services.clock.seconds())
        if left_s <= 0:
            raise IdleTimeout
        return left_s

    def the_account(self) -> AccountApi:
        """The account; the table of commands lets nobody ask before login."""
        assert self.account is not None
        return self.account

    def the_mailbox(self) -> Selected:
        """The selected mailbox; the table of commands lets nobody ask before SELECT."""
        assert self.selected is not None
        return self.selected

    def end(self, reason: bytes) -> None:
        """End the session with BYE after the running command; the first reason counts."""
        if self.goodbye is None:
            self.goodbye = reason
        self.channel.wake()

    def leave_mailbox(self) -> None:
        """Nothing is selected any more."""
        if self.selected is not None:
            if self.watch is not None:
                view, mailbox_id = self.selected.view, self.selected.mailbox.opened.mailbox_id
                self.watch.picture.left(mailbox_id, None if view.has_pending() else view.modseq)
                # What the client was not told while the mailbox was selected is due now.
                self.watch.hint.note()
            self.selected.mailbox.close()
            self.selected = None
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def release(self) -> None:
        """The session is over."""
        # Release memory at once instead of waiting for the garbage collector.
        self.connection.abandon()
        self.literals.release()
        self.stop_watching()
        self.leave_mailbox()
        account, self.account = self.account, None
        if account is not None:
            account.release()

    def has_put(self, mailbox: MailboxName, uids: Sequence[Uid]) -> None:
        """This session added messages to a mailbox, so its client need not be notified of them (RFC 5465)."""
        if self.selected is not None and self.selected.name == mailbox:
            self.selected.own |= UidSet.of(uids)
        elif self.watch is not None:
            self.watch.picture.grew(mailbox, len(uids))

    def tell_respelled(self, name: str, old: str, attributes: tuple[bytes, ...] = ()) -> None:
        """What a name that was not written in NFC has become (RFC 9051 section 6.3.9.7).

        ``old`` is the name the command began with, which RENAME tells beside the new one.
        """
        if self.rev2 and (name in self.respelled or old in self.respelled):
            supplied = self.respelled.get(old, old)
            self.output.put(lines.list_line(attributes, name, self.utf8, old_name=supplied))

    def new_hint(self) -> Hint:
        """A hint that wakes this session."""
        return Hint(self.channel.wake, self.services.clock, self.limits.notify_rest_factor)

    def stop_watching(self) -> None:
        """Nothing but the selected mailbox is watched any more."""
        if self.watch is not None:
            self.watch.stop()
            self.watch = None

    async def give_way(self) -> None:
        """Yield to other sessions if this one has been running for long."""
        if self.channel.turn_is_over:
            await self.channel.turn()

    async def turn(self) -> None:
        """Yield to the other sessions of this worker."""
        await self.channel.turn()

    async def turn_after(self, count: int) -> None:
        """Yield to other sessions after work on ``count`` messages, if that is many."""
        if count > self.limits.lines_batch_rows:
            await self.turn()

    async def put_in_turns(self, blocks: Iterable[bytes]) -> None:
        """Send blocks of lines, yielding to other sessions now and then."""
        blocks_a_turn = max(self.limits.lines_batch_rows // lines.BLOCK_ROWS, 1)
        for at, block in enumerate(blocks, 1):
            self.output.put(block)
            await self.output.drain()
            if at % blocks_a_turn == 0:
                await self.turn()

    def forget_enabled(self) -> None:
        """Disable all extensions and stop watching, as at the start of a session."""
        self.stop_watching()
        self.wanted_events = EVERYTHING
        self.notified = False
        self.condstore = False
        self.qresync = False
        self.rev2 = False
        self.uid_only = False
        self.utf8_accept = False
        # Mailbox names are UTF-8, which more than one extension asks for.
        self.utf8 = False

    @property
    def wording(self) -> Wording:
        """How this client is to be told of changes."""
        return Wording(self.qresync or self.uid_only, not self.rev2, self.uid_only)

    def enable_qresync(self) -> None:
        """ENABLE QRESYNC, which enables CONDSTORE too (RFC 7162 section 3.2.3)."""
        self.enable_condstore()
        self.qresync = True
        if self.selected is not None:
            self.selected.view.wording = self.wording

    def enable_condstore(self) -> None:
        """A CONDSTORE enabling command was used (RFC 7162 section 3.1)."""
        if self.condstore:
            return
        self.condstore = True
        if self.selected is not None:
            code = b"HIGHESTMODSEQ %d" % self.selected.view.modseq
            self.output.put(lines.tagged(b"*", b"OK", b"CONDSTORE is on", code))
