"""LMTP around the envelope: one reply for each recipient (RFC 2033 section 4.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from protocols.envelope.delivery import Delivery
from protocols.envelope.dialect import Dialect
from protocols.envelope.replies import Reply
from protocols.lmtp import grammar


async def _deliver(delivery: Delivery, send: Callable[[Reply], Awaitable[None]]) -> None:
    for accepted in delivery.accepted:
        await send(await delivery.deliver_to(accepted))


LMTP = Dialect(b"LMTP", grammar.VERBS, grammar.HELP, grammar.FOREIGN, grammar.LHLO_FIRST, _deliver)

LMTP_OF_NODES = replace(LMTP, verbs=grammar.NODE_VERBS, capabilities=(b"XCLIENT ADDR",))
"""As nodes speak it among themselves."""
