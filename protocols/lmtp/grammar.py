"""The verbs of LMTP, and the replies that name it (RFC 2033). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.envelope.grammar import VERBS as SHARED
from protocols.envelope.grammar import Parse, always, parse_auth, parse_greeting, parse_xclient
from protocols.envelope.replies import Reply

HELP = Reply(214, b"2.0.0", b"LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT")
FOREIGN = Reply(421, b"4.7.0", b"this is an LMTP server")
USE_LHLO = Reply(500, b"5.5.1", b"this is LMTP: use LHLO")
LHLO_FIRST = Reply(503, b"5.5.1", b"LHLO first")

VERBS: Mapping[bytes, Parse] = {
    **SHARED,
    b"LHLO": parse_greeting,
    # RFC 2033 section 4.1: neither may be answered positively.
    b"HELO": always(USE_LHLO),
    b"EHLO": always(USE_LHLO),
}

NODE_VERBS: Mapping[bytes, Parse] = {**VERBS, b"AUTH": parse_auth, b"XCLIENT": parse_xclient}
"""Those of the door for nodes, which also ask whether a password is right, and for whom."""
