"""What a process goes on with while PostgreSQL is away: the records that it was asked for last."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
Question = tuple[str, str]
"""What was asked, and for which name."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    row: bytes = field(repr=False)
    answer: T = field(repr=False)


class Cache(Generic[T]):
    """Answers by question, the oldest of which go first. An answer goes when its account has changed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Question, _Kept[T]] = OrderedDict()
        self._lock = Lock()
        self._heard = 0

    @property
    def heard(self) -> int:
        """A number to note before asking: it grows with every change that is heard of."""
        return self._heard

    def get(self, question: Question) -> T | None:
        """The last answer, None if there is none or it may be out of date."""
        with self._lock:
            kept = self._kept.get(question)
            return None if kept is None else kept.answer

    def keep(self, question: Question, row: bytes, answer: T, since: int) -> None:
        """Keep an answer about the account of ``row``, unless a change was heard of after ``since``."""
        with self._lock:
            self._kept.pop(question, None)
            if since == self._heard and self._most:
                self._kept[question] = _Kept(row, answer)
                if len(self._kept) > self._most:
                    self._kept.popitem(last=False)

    def drop(self, question: Question) -> None:
        """The answer is nothing now."""
        with self._lock:
            self._kept.pop(question, None)

    def changed(self, row: bytes) -> None:
        """The account of this row has changed; anything may have if it is empty."""
        with self._lock:
            self._heard += 1
            for question in [one for one, kept in self._kept.items() if not row or kept.row == row]:
                del self._kept[question]
