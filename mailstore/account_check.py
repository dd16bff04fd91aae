"""Looking through everything in an account's database for flaws, and making anew what is derived.

It works beside the account's sessions: each message is looked at in a transaction of its own, and repaired in
one. In memory is one message at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from mailstore import mime
from mailstore.account import AccountPaths, shared_lock
from mailstore.engine import Database
from mailstore.errors import DatabaseDamaged
from mailstore.flaws import Flaw
from mailstore.integrity import is_structure_sound, wrong_pages
from mailstore.ops import checking, repairing
from mailstore.progress import Progress
from mailstore.search_index import remove_index

PAGE_MESSAGES = 500
"""Messages that are listed at once."""

EXAMPLES = 10
"""Most messages or mailboxes that are named for each kind of flaw."""


class OpenAccount(Protocol):
    """An account that is open beside its sessions."""

    @property
    def paths(self) -> AccountPaths:
        """Its files."""

    @property
    def database(self) -> Database:
        """A connection of its own."""

    def give_way(self) -> None:
        """Between two steps. Raises Busy: it is to be restored; NoSuchAccount: it has been deleted."""


@dataclass(slots=True)
class Tally:
    """How often a flaw was found, how many of these were repaired, and the first of what has it, by id."""

    count: int = 0
    repaired: int = 0
    examples: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Checked:
    """What has been looked at so far, and what was found."""

    mailboxes: int = 0
    messages: int = 0
    size_bytes: int = 0
    outdated: int = 0
    """Messages about which other things are kept than this program would keep: no flaw."""
    renewed: int = 0
    index_removed: bool = False
    flaws: dict[Flaw, Tally] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or no longer."""
        return all(tally.count == tally.repaired for tally in self.flaws.values())

    def note(self, flaws: Iterable[Flaw], example: int | None = None) -> None:
        """These were found once more."""
        for flaw in flaws:
            tally = self.flaws.setdefault(flaw, Tally())
            tally.count += 1
            if example is not None and len(tally.examples) < EXAMPLES:
                tally.examples.append(example)

    def note_repaired(self, flaws: Iterable[Flaw]) -> None:
        """These are no longer."""
        for flaw in flaws:
            self.flaws[flaw].repaired += 1


def check_account(
    account: OpenAccount, limits: mime.MimeLimits, progress: Progress, done: Checked, *, repair: bool
) -> None:
    """Look at everything, and repair what can be; ``done`` says at any moment how far it has come.

    ``limits`` are those by which the account's mail is filed.

    Nothing is repaired where pages are damaged: what is left might be taken for all.

    Raises:
        Busy: the account is to be restored. NoSuchAccount: it has been deleted. StorageFailed, StorageFull.
    """
    _Checking(account, limits, progress, done, repair).run()


class _Checking:
    """One check of one account."""

    def __init__(
        self,
        account: OpenAccount,
        limits: mime.MimeLimits,
        progress: Progress,
        done: Checked,
        repair: bool,
    ) -> None:
        self._account = account
        self._database = account.database
        self._mime = limits
        self._progress = progress
        self._done = done
        self._repair = repair

    def run(self) -> None:
        """Pages, then what they are made up to, then message by message, then what counts them."""
        self._pages()
        self._structure()
        for step in (self._stray_content, self._messages, self._stray_rows, self._mailboxes):
            try:
                step()
            except DatabaseDamaged:
                self._done.note([Flaw.UNREADABLE])
                self._repair = False
        if self._repair:
            self._done.index_removed = remove_index(self._account.paths)

    def _pages(self) -> None:
        # A checkpoint writes to pages while they are read past SQLite; it needs this lock.
        with shared_lock(self._account.paths):
            wrong = wrong_pages(self._database)
        if wrong is not None:
            self._done.note([Flaw.PAGES])
            self._repair = False

    def _structure(self) -> None:
        if self._is_structure_sound():
            return
        self._done.note([Flaw.STRUCTURE])
        if not self._repair:
            return
        with suppress(DatabaseDamaged):
            self._database.write(_now(), repairing.rebuild_indexes)
        if self._is_structure_sound():
            self._done.note_repaired([Flaw.STRUCTURE])
        else:
            self._repair = False

    def _is_structure_sound(self) -> bool:
        try:
            return is_structure_sound(self._database)
        except DatabaseDamaged:
            return False
        finally:
            # A connection that has met a damaged page is of no use until it has been made again.
            with suppress(DatabaseDamaged):
                self._database.read(_now(), checking.listed_messages, 0, 1, 1)

    def _stray_content(self) -> None:
        after = -1
        while (found := self._database.read(_now(), checking.stray_content, after)) is not None:
            self._done.note([Flaw.STRAY_CONTENT], found)
            if self._repair and self._database.write(_now(), repairing.list_again, found, self._mime):
                self._done.note_repaired([Flaw.STRAY_CONTENT])
            self._account.give_way()
            after = found

    def _messages(self) -> None:
        # Not what is filed from now on: where mail comes in fast the end would never be reached.
        last, size_bytes = self._database.read(_now(), checking.last_and_all_bytes)
        self._progress.expect(size_bytes)
        after = -1
        while page := self._database.read(_now(), checking.listed_messages, after, last, PAGE_MESSAGES):
            for one in page:
                self._message(one.message_id)
                self._progress.advance(one.size_bytes)
                self._account.give_way()
            after = page[-1].message_id

    def _message(self, message_id: int) -> None:
        try:
            found = self._database.read(_now(), checking.examine, message_id, self._mime)
        except DatabaseDamaged:
            self._done.note([Flaw.UNREADABLE], message_id)
            self._done.messages += 1
            return
        if found is None:
            return
        left = found
        if self._repair and (found.flaws or found.is_outdated):
            both = self._database.write(_now(), repairing.repair_message, message_id, self._mime)
            if both is None:
                return
            found, left = both
        self._done.messages += 1
        self._done.size_bytes += found.size_bytes
        self._done.note(found.flaws, message_id)
        self._done.note_repaired(found.flaws - left.flaws)
        self._done.outdated += found.is_outdated
        self._done.renewed += found.is_outdated and not left.is_outdated

    def _stray_rows(self) -> None:
        count = self._database.read(_now(), checking.stray_rows)
        if not count:
            return
        tally = self._done.flaws.setdefault(Flaw.STRAY_ROWS, Tally())
        tally.count = count
        if self._repair:
            self._database.write(_now(), repairing.remove_stray_rows)
            tally.repaired = count - self._database.read(_now(), checking.stray_rows)

    def _mailboxes(self) -> None:
        if self._repair:
            found = self._database.write(_now(), repairing.repair_mailboxes)
        else:
            found = self._database.read(_now(), checking.mailbox_states)
        self._done.mailboxes = len(found)
        for state in found:
            self._done.note(state.flaws, state.mailbox_id)
        if self._repair:
            for state in self._database.read(_now(), checking.mailbox_states):
                was = next((one.flaws for one in found if one.mailbox_id == state.mailbox_id), frozenset())
                self._done.note_repaired(was - state.flaws)


def _now() -> int:
    return int(time.time())
