"""Warnings that a stranger may cause: each is said once in a while, and hides no other."""

from __future__ import annotations

from typing import Any

TELL_AGAIN_S = 3600.0


class Seldom:
    """Lets each thing be said once in ``TELL_AGAIN_S``. What may be said are a few fixed texts of ours."""

    def __init__(self, clock: Any) -> None:
        """``clock`` is the reactor."""
        self._clock = clock
        self._from_s: dict[str, float] = {}

    def may_say(self, what: str) -> bool:
        """Whether it is time to say this, which it is not again for a while then."""
        now_s: float = self._clock.seconds()
        if now_s < self._from_s.get(what, now_s):
            return False
        self._from_s[what] = now_s + TELL_AGAIN_S
        return True
