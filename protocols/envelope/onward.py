"""What is asked of whoever brings mail on to the node that has its account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocols.envelope.replies import Reply


@dataclass(frozen=True, slots=True)
class OnwardMail:
    """A message for recipients of one node. ``octets`` begin with the Received field of this server."""

    sender: bytes = field(repr=False)
    smtputf8: bool
    recipients: tuple[bytes, ...] = field(repr=False)
    octets: bytes = field(repr=False)


class Onward(Protocol):
    """Takes mail to other nodes."""

    async def pass_on(self, node: str, mail: OnwardMail) -> Sequence[Reply]:
        """What that node says of each recipient, in order; a temporary reply where it says nothing."""
