"""A command that is answered NO or BAD. Texts are fixed; they never repeat what the client sent."""

from __future__ import annotations

IMPOSSIBLE_NAME = (b"invalid mailbox name", b"CANNOT")
"""Text and code of the refusal of a mailbox name, be it found by the grammar or by the store."""


class Refused(Exception):
    """Ends a command with a tagged NO or BAD (RFC 3501 section 7.1)."""

    def __init__(self, status: bytes, text: bytes, code: bytes = b"") -> None:
        super().__init__(text.decode("ascii"))
        self.status = status
        self.text = text
        self.code = code


class Disallowed(Refused):
    """NO: understood, not possible."""

    def __init__(self, text: bytes, code: bytes = b"") -> None:
        super().__init__(b"NO", text, code)


class Malformed(Refused):
    """BAD: not understood, or over a limit of the grammar."""

    def __init__(self, text: bytes, code: bytes = b"") -> None:
        super().__init__(b"BAD", text, code)
