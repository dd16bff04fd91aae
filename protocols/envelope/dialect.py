"""What LMTP and SMTP say differently around the same envelope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from protocols.envelope.delivery import Delivery
from protocols.envelope.grammar import Parse
from protocols.envelope.replies import Reply


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol. ``name``, ``LMTP`` or ``ESMTP``, is in greeting, trace header and access log.

    ``help``, ``foreign`` (the peer speaks something else) and ``greeting_first`` are replies that name the
    protocol or its verbs. ``deliver`` has a message delivered and sends the replies to it. ``capabilities``
    are announced together with what the envelope itself is able to do.
    """

    name: bytes
    verbs: Mapping[bytes, Parse]
    help: Reply
    foreign: Reply
    greeting_first: Reply
    deliver: Callable[[Delivery, Callable[[Reply], Awaitable[None]]], Awaitable[None]]
    capabilities: tuple[bytes, ...] = ()
