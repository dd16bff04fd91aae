"""What a client of Dovecot's authentication protocol asks, as values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Version:
    """VERSION, the first line."""

    major: int


@dataclass(frozen=True, slots=True)
class ClientPid:
    """CPID: the client's handshake is complete."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH: somebody wants to log in at the client.

    ``address`` is that person's, empty if the client does not say; ``is_private`` tells that nobody could
    listen in there. ``initial`` is the initial response in base64, None if there is none.
    """

    id: int
    mechanism: bytes
    service: bytes
    address: str
    is_private: bool
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Continue:
    """CONT: the response to a challenge, in base64."""

    id: int
    response: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cancel:
    """CANCEL: nobody waits for the answer any more."""

    id: int


Question = Auth | Continue | Cancel
"""What may be said once the handshake is complete."""

Request = Version | ClientPid | Question
