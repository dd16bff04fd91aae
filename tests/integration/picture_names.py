"""What differs between clients of IMAP4rev1 and IMAP4rev2 (RFC 9051 appendix E), and names of mailboxes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from imap_wire import Answer

MailboxId = NewType("MailboxId", bytes)

INBOX = "INBOX"
MOVABLE_NAMES = {
    "Other": b"Other",
    "Bücher": b"B&APw-cher",
    "日本語": b"&ZeVnLIqe-",
    "Shelf/Täglich": b"Shelf/T&AOQ-glich",
}
"""Names that the second mailbox has in turn, with their modified UTF-7 (RFC 3501 section 5.1.3)."""

_LISTED = re.compile(rb'\* STATUS (?:"([^"]*)"|(\S+)) \(MAILBOXID \((\S+)\)\)\Z')


@dataclass(frozen=True, slots=True)
class Revision:
    """One of the two protocols that ENABLE switches between."""

    name: str
    rev2: bool

    def enabling(self, *more: bytes) -> bytes:
        """The ENABLE command that a client begins with; empty when there is nothing to enable."""
        words = ((b"IMAP4rev2",) if self.rev2 else ()) + more
        return b"ENABLE " + b" ".join(words) if words else b""

    def wire(self, name: str) -> bytes:
        """A mailbox name as a client sends it."""
        return b'"%s"' % (name.encode() if self.rev2 else MOVABLE_NAMES.get(name, name.encode()))

    def names(self, answer: Answer) -> dict[MailboxId, str]:
        """The name of every mailbox by its id, from LIST with STATUS."""
        wire_names = {wire: name for name, wire in MOVABLE_NAMES.items()}
        found: dict[MailboxId, str] = {}
        for response in answer.untagged:
            match = _LISTED.match(response)
            if match is not None:
                wire = match[1] if match[2] is None else match[2]
                if not self.rev2:
                    assert wire.isascii(), "UTF-8 for a client that has not asked for it"
                    wire = wire_names.get(wire, wire.decode()).encode()
                found[MailboxId(match[3])] = wire.decode()
        return found

    def check(self, response: bytes) -> None:
        """What IMAP4rev2 has done away with may not come (RFC 9051 appendix E)."""
        if self.rev2:
            gone = (
                response.endswith(b" RECENT") or b"\\Recent" in response or response.startswith(b"* SEARCH")
            )
            assert not gone, "a response that IMAP4rev2 does not have"


REV1 = Revision("IMAP4rev1", rev2=False)
REV2 = Revision("IMAP4rev2", rev2=True)
