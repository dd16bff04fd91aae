"""Whose Argon2 run may begin: the queue for memory, in which sites take turns."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from mailstore.errors import TooManyLogins


@dataclass(frozen=True, slots=True)
class Pass:
    """A run that may go on: its share of the memory, and the site it counts for."""

    share_kib: int
    site: str


class MemoryGate:
    """Lets runs pass while their memory fits the budget; sites take turns, in order of arrival within one.

    A site is whatever an attempt counts for (an address, a network). It never has more than half of the
    budget while runs are under way, so that who sends many attempts slows those behind his own only.
    """

    def __init__(self, budget_kib: int, waiting: int) -> None:
        self._free_kib = self._budget_kib = budget_kib
        self._most_waiting = waiting
        self._queues: OrderedDict[str, deque[tuple[int, Deferred[Pass]]]] = OrderedDict()
        """Who waits, by site; the site at the front is the next to have its turn."""
        self._used_kib: Counter[str] = Counter()
        self._waiting = 0

    def enter(self, wanted_kib: int, site: str) -> Deferred[Pass]:
        """Fires with what to give back to :meth:`leave`; more than the budget counts as all of it.

        When the queue is full, the longest one of a site loses its last. Raises TooManyLogins when that
        would be this one; the Deferred fails with it when it is that one later.
        """
        share = min(wanted_kib, self._budget_kib)
        if self._waiting >= self._most_waiting:
            self._make_room(site)
        turn: Deferred[Pass] = Deferred(lambda turn: self._forget(site, turn))
        self._queues.setdefault(site, deque()).append((share, turn))
        self._waiting += 1
        self._let_pass()
        return turn

    @property
    def waiting(self) -> int:
        """Runs that wait for memory."""
        return self._waiting

    def leave(self, passed: Pass) -> None:
        """Give memory back and let the next ones pass."""
        self._free_kib += passed.share_kib
        self._used_kib[passed.site] -= passed.share_kib
        if not self._used_kib[passed.site]:
            del self._used_kib[passed.site]
        self._let_pass()

    def _let_pass(self) -> None:
        while (site := self._next_site()) is not None:
            share, turn = self._queues[site].popleft()
            self._waiting -= 1
            self._queues.move_to_end(site)
            self._drop_if_empty(site)
            self._free_kib -= share
            self._used_kib[site] += share
            turn.callback(Pass(share, site))

    def _next_site(self) -> str | None:
        """The first in turn that may have more; None also while it waits for memory that is not free."""
        for site, queue in self._queues.items():
            share = queue[0][0]
            used = self._used_kib[site]
            if not used or used + share <= self._budget_kib // 2:
                return site if share <= self._free_kib else None
        return None

    def _make_room(self, newcomer: str) -> None:
        longest = max(self._queues, key=lambda site: len(self._queues[site]))
        if len(self._queues[longest]) <= len(self._queues.get(newcomer, ())) + 1:
            raise TooManyLogins
        _, turn = self._queues[longest].pop()
        self._waiting -= 1
        self._drop_if_empty(longest)
        turn.errback(TooManyLogins())

    def _forget(self, site: str, turn: Deferred[Pass]) -> None:
        queue = self._queues.get(site, deque())
        kept = deque(entry for entry in queue if entry[1] is not turn)
        if site in self._queues:
            self._waiting -= len(queue) - len(kept)
            self._queues[site] = kept
            self._drop_if_empty(site)

    def _drop_if_empty(self, site: str) -> None:
        if not self._queues[site]:
            del self._queues[site]
