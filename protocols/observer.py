"""Who counts what happens, without learning to whom: the rooms call it, and know nothing of metrics."""

from __future__ import annotations

from typing import Literal, Protocol

from mailstore.model import AccessProtocol

LoginResult = Literal["ok", "wrong", "later", "error"]
"""``later``: too many wait already; ``error``: the failure is ours."""


class Observer(Protocol):
    """Methods neither block nor raise. Nothing that a client has sent is handed to them."""

    def login(self, protocol: AccessProtocol, result: LoginResult, took_s: float) -> None:
        """An attempt to log in has ended, ``took_s`` seconds after it came."""

    def login_throttled(self) -> None:
        """An attempt to log in has to wait because of earlier failures."""

    def limit(self, name: str) -> None:
        """The setting of this name, as in ``imap.line_max_bytes``, has turned something away."""


class Unobserved:
    """Nobody counts."""

    def login(self, protocol: AccessProtocol, result: LoginResult, took_s: float) -> None:
        """See ``Observer``."""

    def login_throttled(self) -> None:
        """See ``Observer``."""

    def limit(self, name: str) -> None:
        """See ``Observer``."""
