"""What a session watches, and whether it is time to look. Pure but for the clock it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.imap.picture.known import AccountPicture


class Hint:
    """Whether something may have changed since the last check; True at first."""

    def __init__(self, wake: Callable[[], None], clock: Any, rest_factor: float) -> None:
        """``wake`` runs the session.

        Between checks it rests ``rest_factor`` times as long as the last one took.
        """
        self._wake = wake
        self._clock = clock
        self._rest_factor = rest_factor
        self._rest: Any = None
        self.changed = True
        self.first_look = True
        """Nothing has been read since the watch began."""

    @property
    def due(self) -> bool:
        """Whether it is time to check."""
        return self.changed and self._rest is None

    def note(self) -> None:
        """Something may have changed."""
        self.changed = True
        if self._rest is None:
            self._wake()

    def looked(self, seconds: float) -> None:
        """A check took ``seconds``: delay the next one, so that other sessions are served."""
        rest_s = seconds * self._rest_factor
        if rest_s > 0 and self._rest is None:
            self._rest = self._clock.callLater(rest_s, self._rested)

    def _rested(self) -> None:
        self._rest = None
        if self.changed:
            self._wake()

    def stop(self) -> None:
        """Stop; there are no further checks."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None


class Watch:
    """What a session watches. ``pushes`` tells that the client listens between commands, too (NOTIFY)."""

    def __init__(self, hint: Hint, deaf: Callable[[], None], picture: AccountPicture, pushes: bool) -> None:
        """``deaf`` unsubscribes from the store's hints."""
        self.hint = hint
        self.picture = picture
        self.pushes = pushes
        self._deaf = deaf

    def stop(self) -> None:
        """Stop watching."""
        self._deaf()
        self.hint.stop()
