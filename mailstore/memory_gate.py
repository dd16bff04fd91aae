"""Which Argon2 run may start next: the queue for memory, in which sites take turns."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from mailstore.errors import TooManyLogins
from mailstore.model import Origin


@dataclass(frozen=True, slots=True)
class Pass:
    """A run that may start: its share of the memory, and the site it counts for."""

    share_kib: int
    site: str


_Queues = OrderedDict[str, deque[tuple[int, Deferred[Pass]]]]
"""The queue, by site; the site at the front has the next turn."""


class MemoryGate:
    """Lets runs pass while their memory fits the budget; sites take turns, in order of arrival within one.

    An attempt from a site that has opened the account before goes first. A site never gets more than half of
    the budget (but always one run), so a site that sends many attempts slows down only itself.
    """

    def __init__(self, budget_kib: int, waiting: int) -> None:
        self._free_kib = self._budget_kib = budget_kib
        self._most_waiting = waiting
        self._trusted: _Queues = OrderedDict()
        self._others: _Queues = OrderedDict()
        self._used_kib: Counter[str] = Counter()
        self._waiting = 0
        self._is_letting_pass = False

    def enter(self, wanted_kib: int, origin: Origin) -> Deferred[Pass]:
        """Fires with what to hand to :meth:`leave`; a request above the budget counts as all of it.

        When the queue is full, the site with most entries loses its last one, a trusted one only to another
        trusted one. Raises TooManyLogins when that would be this one; the Deferred fails with it when it is
        that later.
        """
        share = min(wanted_kib, self._budget_kib)
        if self._waiting >= self._most_waiting:
            self._make_room(origin)
        queues = self._trusted if origin.trusted else self._others
        turn: Deferred[Pass] = Deferred(lambda turn: self._forget(queues, origin.site, turn))
        queues.setdefault(origin.site, deque()).append((share, turn))
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
        # A run that starts may leave at once, because nobody waits for it any more, and hundreds may do so in
        # a row: hence a loop, where calls would overflow the stack.
        if self._is_letting_pass:
            return
        self._is_letting_pass = True
        try:
            while (found := self._next()) is not None:
                passed, turn = found
                turn.callback(passed)
        finally:
            self._is_letting_pass = False

    def _next(self) -> tuple[Pass, Deferred[Pass]] | None:
        """Remove from the queue the runs that may start now."""
        for queues in (self._trusted, self._others):
            site = self._next_site(queues)
            if site is None:
                continue
            share, turn = queues[site][0]
            if share > self._free_kib:
                return None  # it waits for memory, and so do all behind it
            queues[site].popleft()
            self._waiting -= 1
            queues.move_to_end(site)
            self._drop_if_empty(queues, site)
            self._free_kib -= share
            self._used_kib[site] += share
            return Pass(share, site), turn
        return None

    def _next_site(self, queues: _Queues) -> str | None:
        """The first site in turn that may use more memory."""
        for site, queue in queues.items():
            used = self._used_kib[site]
            if not used or used + queue[0][0] <= self._budget_kib // 2:
                return site
        return None

    def _make_room(self, newcomer: Origin) -> None:
        queues = self._others or self._trusted
        longest = max(queues, key=lambda site: len(queues[site]))
        displaces = newcomer.trusted and queues is self._others
        if not displaces and (
            (queues is self._trusted and not newcomer.trusted)
            or len(queues[longest]) <= len(queues.get(newcomer.site, ())) + 1
        ):
            raise TooManyLogins
        _, turn = queues[longest].pop()
        self._waiting -= 1
        self._drop_if_empty(queues, longest)
        turn.errback(TooManyLogins())

    def _forget(self, queues: _Queues, site: str, turn: Deferred[Pass]) -> None:
        if site in queues:
            kept = deque(entry for entry in queues[site] if entry[1] is not turn)
            self._waiting -= len(queues[site]) - len(kept)
            queues[site] = kept
            self._drop_if_empty(queues, site)

    @staticmethod
    def _drop_if_empty(queues: _Queues, site: str) -> None:
        if not queues[site]:
            del queues[site]
