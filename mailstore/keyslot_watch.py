"""The sessions of an open account, and whether their keyslots still open it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from mailstore.clock import Clock, DelayedCall
from mailstore.errors import (
    AccountClosed,
    AuthenticationFailed,
    HeaderTampered,
    LeaseOver,
    OnAnotherNode,
    StoreError,
)
from mailstore.unlock import Unlocked

RECHECK_RETRY_S = 1.0
"""Seconds until sessions are checked again whose keyslot could not be read."""

EXPIRY_MARGIN_S = 1.0
"""Seconds to wait beyond a keyslot's expiry, which is inclusive."""

EXPIRY_LOOK_S = 3600.0
"""Seconds after which a keyslot's expiry is compared with the clock again."""


class Session(Protocol):
    """What an open account needs of a session."""

    @property
    def unlocked(self) -> Unlocked:
        """The session's own hold on the account, through the keyslot it logged in with."""

    def closed_by_store(self) -> None:
        """The account closes under the session: key revoked, account deleted, shutdown."""


class KeyslotWatch:
    """Ends the sessions that may not go on. All methods run on the reactor's thread."""

    def __init__(
        self,
        clock: Clock,
        keys: Path,
        recheck: Callable[[Unlocked], Awaitable[None]],
        start: Callable[[Callable[[], Coroutine[Any, Any, None]], str], object],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """``keys`` is the account's key header, without which ``close`` is called; ``start`` begins work.

        ``recheck`` raises as ``Unlocker.recheck``.
        """
        self.sessions: set[Session] = set()
        self._clock = clock
        self._keys = keys
        self._recheck = recheck
        self._start = start
        self._close = close
        self._call: DelayedCall | None = None
        self._call_s = 0.0
        """When it comes, by the clock."""
        self._is_over = False

    def add(self, session: Session) -> None:
        """A session has begun; it ends when its keyslot expires, at the latest."""
        self.sessions.add(session)
        self._check_at_expiry()

    def check_soon(self) -> None:
        """Ask, in the background, whether the sessions' keyslots still open the account."""
        if not self._is_over:
            self._start(self._check, "keyslot check")

    def end(self) -> None:
        """The account closes: tell all sessions, and check nothing any more."""
        self._is_over = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for session in tuple(self.sessions):
            session.closed_by_store()
        self.sessions.clear()

    async def _check(self) -> None:
        """End the sessions whose keyslot has been revoked; all when the account is gone or another node's."""
        unanswered: StoreError | None = None
        is_elsewhere = False
        for session in tuple(self.sessions):
            try:
                await self._recheck(session.unlocked)
            except AccountClosed:
                continue  # it has ended meanwhile; the others still have to be checked
            except (AuthenticationFailed, HeaderTampered):
                self.sessions.discard(session)
                session.closed_by_store()
            except (OnAnotherNode, LeaseOver):
                is_elsewhere = True
                break  # they all end
            except StoreError as error:
                unanswered = error
        if is_elsewhere or not self._keys.exists():
            await self._close()
        elif unanswered is not None:
            self._check_after(RECHECK_RETRY_S)
            raise unanswered
        else:
            self._check_at_expiry()

    def _check_at_expiry(self) -> None:
        ends = [end for one in self.sessions if (end := one.unlocked.scope.not_after) is not None]
        if ends:
            # The wall clock may be set meanwhile, so check it now and then.
            self._check_after(min(max(min(ends) - time.time(), 0.0) + EXPIRY_MARGIN_S, EXPIRY_LOOK_S))

    def _check_after(self, seconds: float) -> None:
        """Check within so many seconds; a check that is due earlier is not put off."""
        due_s = self._clock.seconds() + seconds
        if self._is_over or (self._call is not None and self._call_s <= due_s):
            return
        if self._call is not None:
            self._call.cancel()
        self._call, self._call_s = self._clock.callLater(seconds, self._check_now), due_s

    def _check_now(self) -> None:
        self._call = None
        self.check_soon()
