"""What the server has answered for: every message it said it has, and what became of it."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Account:
    """One account's part of the ledger. Tokens are the subjects of messages, each used once."""

    name: str
    kept: bool
    """Nothing is ever removed; otherwise a POP3 client downloads and deletes."""
    answered: set[str] = field(default_factory=set)
    """Taken with 250 or OK: has to be there, or to have been downloaded."""
    unsure: set[str] = field(default_factory=set)
    """The connection broke before an answer: may be there, once at most."""
    downloaded: Counter[str] = field(default_factory=Counter)


class Ledger:
    """All accounts, what was done, and how long it took. Used by many threads."""

    def __init__(self, accounts: list[Account]) -> None:
        self.accounts = accounts
        self.lock = threading.Lock()
        self.taken_s: defaultdict[str, list[float]] = defaultdict(list)
        self.broken: Counter[str] = Counter()
        self.how: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._count = 0

    def token(self, kind: str) -> str:
        """A subject that no other message has."""
        with self.lock:
            self._count += 1
            return f"{kind}{self._count:08d}x"

    def answered(self, account: Account, token: str) -> None:
        """The server has it."""
        with self.lock:
            account.answered.add(token)

    def unsure(self, account: Account, token: str) -> None:
        """Nobody knows whether the server has it."""
        with self.lock:
            account.unsure.add(token)

    def downloaded(self, account: Account, token: str) -> None:
        """A client has all of it."""
        with self.lock:
            account.downloaded[token] += 1

    def done(self, what: str, seconds: float) -> None:
        """An operation came to its end."""
        with self.lock:
            self.taken_s[what].append(seconds)

    def broke(self, what: str, error: Exception) -> None:
        """An operation ended with its connection, as it does when a worker is killed."""
        with self.lock:
            self.broken[what] += 1
            self.how[f"{what}: {type(error).__name__} {str(error)[:60]}"] += 1

    def is_wrong(self, text: str) -> None:
        """The server has broken its word."""
        with self.lock:
            self.wrong.append(text)

    def known(self, account: Account) -> list[str]:
        """What has to be there now."""
        with self.lock:
            return list(account.answered)

    def check(self, account: Account, found: Counter[str]) -> None:
        """Compare with all that lies in the account in the end, by subject."""
        for token in account.answered:
            there = found[token]
            if account.kept and there != 1:
                self.is_wrong(f"{token} is there {there} times")
            if not account.kept and not there and not account.downloaded[token]:
                self.is_wrong(f"{token} is lost")
        for token in account.unsure:
            if found[token] > 1:
                self.is_wrong(f"{token} is there {found[token]} times")
        strange = set(found) - account.answered - account.unsure
        if strange:
            self.is_wrong(f"{len(strange)} messages that nobody sent")
