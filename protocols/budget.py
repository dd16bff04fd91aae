"""Memory that all connections of a worker share. Pure."""

from __future__ import annotations

from collections import Counter


class MemoryBudget:
    """Bytes that unfinished input may occupy, all connections of a worker together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_holder: Counter[str] = Counter()
        self.used_bytes = 0

    def take(self, size_bytes: int, holders: tuple[str, ...] = ()) -> bool:
        """Reserve; False and nothing reserved when it does not fit.

        None of the holders may have more than is left free for everybody else: one gets half at most, the
        next half of the rest, and so on, so that whoever comes after them finds room.
        """
        free_bytes = self._max_bytes - self.used_bytes - size_bytes
        if free_bytes < 0 or any(self._by_holder[holder] + size_bytes > free_bytes for holder in holders):
            return False
        self.used_bytes += size_bytes
        for holder in holders:
            self._by_holder[holder] += size_bytes
        return True

    def give_back(self, size_bytes: int, holders: tuple[str, ...] = ()) -> None:
        """Release a reservation, for the same holders."""
        self.used_bytes -= size_bytes
        for holder in holders:
            self._by_holder[holder] -= size_bytes
            if not self._by_holder[holder]:
                del self._by_holder[holder]


class Reservation:
    """One connection's share of a budget. ``release`` must be called in the end."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._holders: tuple[str, ...] = ()
        self._held_bytes = 0

    def grow_to(self, size_bytes: int, holders: tuple[str, ...]) -> bool:
        """Hold ``size_bytes`` in all in the name of ``holders``; False, and no change, if there is no room.

        The holders are those of the first call after ``release``.
        """
        if not self._held_bytes:
            self._holders = holders
        if not self._budget.take(size_bytes - self._held_bytes, self._holders):
            return False
        self._held_bytes = size_bytes
        return True

    def release(self) -> None:
        """Give everything back."""
        self._budget.give_back(self._held_bytes, self._holders)
        self._held_bytes = 0
