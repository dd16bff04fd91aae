"""One connection of Postfix that asks who gets mail: one question after the other.

The maps answer from the code that answers LMTP's RCPT, so nothing is accepted here that would be refused
there, and the other way round. ``recipients`` says whether somebody gets mail for an address
(virtual_mailbox_maps). ``quota`` says what RCPT has to be answered if not "yes" (check_recipient_access).
``senders`` says who may send from an address: the account that gets mail for it, by the name that the
authentication service gives (smtpd_sender_login_maps).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mailstore.directory import Recipient
from protocols.access_log import AccessLog, Entry
from protocols.envelope import replies
from protocols.envelope.recipients import DeliveryStore, find_recipient
from protocols.envelope.replies import Reply
from protocols.limits import SocketmapLimits
from protocols.output import Output
from protocols.socketmap import grammar
from protocols.socketmap.grammar import Lookup, Malformed, Requests
from protocols.transport import Channel, IdleTimeout

log = logging.getLogger("sealbox.socketmap")

COMMAND = "SOCKETMAP"
NO_OPINION = grammar.found(b"DUNNO")
"""An action of access(5): others decide, and parts of the address need not be looked up."""
NO_SUCH_MAP = grammar.permanent(b"there is no such map")


@dataclass(frozen=True, slots=True)
class SocketmapServices:
    """What all connections of a worker share."""

    store: DeliveryStore
    limits: SocketmapLimits
    access_log: AccessLog


def _recipients(found: Recipient | Reply) -> bytes:
    if isinstance(found, Recipient):
        return grammar.found(b"here")
    if found in (replies.UNKNOWN_RECIPIENT, replies.DISABLED_RECIPIENT):
        return grammar.NOT_FOUND
    return grammar.temporary(found.text)


def _quota(found: Recipient | Reply) -> bytes:
    if isinstance(found, Recipient):
        return NO_OPINION
    if found is replies.UNKNOWN_RECIPIENT:
        return grammar.NOT_FOUND  # other maps may know the address
    if found in (replies.MAILBOX_FULL, replies.DISABLED_RECIPIENT):
        return grammar.found(b"%d %b %b" % (found.code, found.status, found.text))
    return grammar.temporary(found.text)


def _senders(found: Recipient | Reply) -> bytes:
    if isinstance(found, Recipient):
        return grammar.found(found.name.encode("utf-8"))
    return _recipients(found)


@dataclass(frozen=True, slots=True)
class _Map:
    """What a map says of what was found, and for a message of which size that was asked (None: any mail)."""

    answer: Callable[[Recipient | Reply], bytes]
    size_bytes: int | None = None


MAPS: Mapping[bytes, _Map] = {
    b"recipients": _Map(_recipients),
    b"quota": _Map(_quota, 0),
    b"senders": _Map(_senders),
}


class SocketmapSession:
    """See the module's docstring."""

    def __init__(self, channel: Channel, services: SocketmapServices) -> None:
        self._channel = channel
        self._services = services
        self._requests = Requests(services.limits.request_max_bytes)
        self._output = Output()
        self._over = False

    def end(self, reason: bytes) -> None:
        """Close as soon as the running question is answered; ``reason`` is not said."""
        self._over = True
        self._channel.wake()

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        try:
            while not self._over:
                if self._channel.turn_is_over:
                    await self._output.flush(self._channel)
                    await self._channel.turn()
                await self._step()
        except IdleTimeout:
            return
        except Malformed as error:
            log.warning("a client of the recipient maps is cut off: %s", error)
        await self._output.flush(self._channel)

    async def refuse(self) -> None:
        """Close at once because there are too many; Postfix tries again."""

    async def _step(self) -> None:
        lookup = self._requests.next_request()
        if lookup is None:
            await self._output.flush(self._channel)
            if not self._over:
                data = await self._channel.read(self._services.limits.idle_timeout_s)
                self._requests.feed(data or b"")
            return
        reply = await self._answer(lookup)
        self._output += reply
        self._record(reply)

    async def _answer(self, lookup: Lookup) -> bytes:
        asked = MAPS.get(lookup.map)
        if asked is None:
            return NO_SUCH_MAP
        return asked.answer(await find_recipient(self._services.store, lookup.key, asked.size_bytes))

    def _record(self, reply: bytes) -> None:
        """Only what went wrong: each message is asked for several times, and the mail server logs it."""
        result = reply.partition(b":")[2].partition(b" ")[0]
        if result in (b"TEMP", b"PERM"):
            entry = Entry("", "", COMMAND, len(reply), result.decode("ascii"), failed=True)
            self._services.access_log.record(entry)
