"""The tree of parts of a message: offsets into its bytes, and what the Content fields say."""

from __future__ import annotations

from dataclasses import dataclass

Parameters = tuple[tuple[bytes, bytes], ...]
"""Attribute and value of each parameter, as sent but without quoting (RFC 2045 section 5.1)."""


@dataclass(frozen=True, slots=True, repr=False)
class Disposition:
    """Content-Disposition: its type in lower case, and its parameters (RFC 2183)."""

    kind: bytes
    params: Parameters = ()


@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """The Content fields of one part (RFC 2045, 1864, 2183, 3282, 2557); None or () means absent.

    ``type``, ``subtype`` and ``encoding`` are in lower case.
    """

    type: bytes = b"text"
    subtype: bytes = b"plain"
    params: Parameters = ()
    encoding: bytes = b"7bit"
    content_id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    disposition: Disposition | None = None
    language: tuple[bytes, ...] = ()
    location: bytes | None = None

    @property
    def is_multipart(self) -> bool:
        """Whether the part holds parts of its own (RFC 2046 section 5.1)."""
        return self.type == b"multipart"

    @property
    def is_message(self) -> bool:
        """Whether the part holds a whole message (RFC 2046 section 5.2.1, RFC 6532 section 3.7)."""
        return self.type == b"message" and self.subtype in (b"rfc822", b"global")


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """One part; the offsets are byte positions in the whole message.

    The header is ``[header_start, body_start)``, its blank line included; the body is
    ``[body_start, body_end)``. The line end before a boundary belongs to the boundary.
    ``lines``: line feeds in the body of a text or message part, 0 for others. A last line without
    a line end is not counted, as in Dovecot.
    ``children`` are the parts of a multipart; ``message`` is what a message/rfc822 part holds.
    """

    header_start: int
    body_start: int
    body_end: int
    content: Content
    lines: int = 0
    children: tuple[Part, ...] = ()
    message: Part | None = None

    @property
    def header_end(self) -> int:
        """The end of the header, its blank line included; the body begins here."""
        return self.body_start

    @property
    def body_size(self) -> int:
        """The length of the body in bytes, as stored and still encoded."""
        return self.body_end - self.body_start
