"""What the door asks of the accounts, as types; the composition root says who answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mailstore.model import AccessProtocol


@dataclass(frozen=True, slots=True)
class Joined:
    """What an invitation was exchanged for: an app password. ``protocols`` None means all."""

    name: str = field(repr=False)
    """The account's address."""
    app_password: str = field(repr=False)
    protocols: frozenset[AccessProtocol] | None

    def allows(self, protocol: AccessProtocol) -> bool:
        """Whether the app password is good for it."""
        return self.protocols is None or protocol in self.protocols


@dataclass(frozen=True, slots=True)
class Welcomed:
    """What the owner of a new account gets; ``device`` is the token of an invitation for the first device,
    which works for ``device_valid_s`` seconds."""

    name: str = field(repr=False)
    recovery_key: str = field(repr=False)
    device: str = field(repr=False)
    device_valid_s: int


class DoorAccounts(Protocol):
    """All methods may raise ``mailstore.errors.StoreError``."""

    async def domain(self, text: str) -> str | None:
        """The domain that ``text`` spells, None if it is none of this server's."""

    async def address(self, text: str) -> str | None:
        """The address that ``text`` spells, None if its domain is none of this server's.

        Whether anybody has that address is not looked at.
        """

    def is_token(self, text: str) -> bool:
        """Whether ``text`` has the form of an invitation's secret; none is looked for."""

    async def join(self, token: str, usable: frozenset[AccessProtocol]) -> Joined:
        """Exchange an invitation for an app password. Raises AuthenticationFailed, ScopeDenied: it is for
        nothing that is ``usable``, and is not used up."""

    async def welcome(self, token: str, password: bytes) -> Welcomed:
        """Exchange the invitation to a new account for a password. Raises AuthenticationFailed,
        PasswordUnusable."""
