"""Restore accounts to scratch and compare them with the living ones. A backup nobody has restored is a hope.

No user's key is needed: key header and database have to look sound (``backup.soundness``), and every page
that has not changed since the snapshot must be identical to the living database's.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backup.errors import BackupError
from backup.image import TRIES, Disturbed, image_of
from backup.limits import BackupLimits
from backup.rebuild import Rebuilder, Rebuilt
from backup.retention import chains
from backup.segment import PAGE_BYTES, SERVER, SegmentName
from backup.soundness import wrong_database, wrong_keys_in
from backup.source import Source
from backup.state import Segment, State, Stream
from backup.stores import ObjectStore
from mailstore.account import account_paths, shared_lock
from mailstore.durable import storage_errors
from mailstore.errors import StoreError
from mailstore.keys import AccountId

Opens = Callable[[AccountId, Path], str | None]
"""Opens a rebuilt account with a configured secret and compares it; what is wrong, or None."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """One account's drill. ``trouble`` is None when its restore is proven."""

    account: str
    pages: int = 0
    compared: int = 0
    """Pages that were the same as in the living database."""

    opened: bool = False
    trouble: str | None = field(default=None)


class Drill:
    """Drills over one data root. Methods block."""

    def __init__(
        self,
        root: Path,
        state: State,
        store: ObjectStore,
        scratch: Path,
        limits: BackupLimits,
        opens: Opens | None = None,
    ) -> None:
        self._root = root
        self._state = state
        self._store = store
        self._scratch = scratch
        self._limits = limits
        self._opens = opens

    def choose(self, count: int, chance: random.Random) -> list[Stream]:
        """Accounts with snapshots, those with the oldest proof first, in random order among equals."""
        streams = [one for one in self._state.streams() if one.account != SERVER and one.gone_ms is None]
        chance.shuffle(streams)
        streams.sort(key=lambda one: one.proven_ms or 0)
        return [one for one in streams if self._stored(one)][:count]

    def _stored(self, stream: Stream) -> dict[SegmentName, Segment]:
        """The stored segments that this server can open."""
        segments = self._state.segments(stream.stream)
        return {one.name: one for one in segments if one.stored and one.content_key}

    def run(self, stream: Stream, now_ms: int) -> Drilled:
        """Restore one account's newest snapshot to scratch and compare it."""
        folder = self._scratch / f"drill-{stream.stream}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            drilled = self._run(stream, folder)
        except (BackupError, StoreError) as error:
            return Drilled(stream.account, trouble=f"{type(error).__name__}: {error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if drilled.trouble is None:
            self._state.proven(stream.stream, now_ms)
        return drilled

    def _run(self, stream: Stream, folder: Path) -> Drilled:
        stored = self._stored(stream)
        chain = chains(stored)[-1].segments
        sizes = {name: one.size_bytes for name, one in stored.items()}
        source = Source(self._store, lambda name: stored[name].content_key, sizes)
        rebuilder = Rebuilder(source, self._scratch, self._limits.upload_threads)
        hashes = {name.sequence: one.sha256 for name, one in stored.items()}
        rebuilt = rebuilder.rebuild(chain, folder, expected=hashes)
        trouble = wrong_keys_in(folder, stream.account) or wrong_database(folder / "mail.db", rebuilt.pages)
        if trouble is not None:
            return Drilled(stream.account, rebuilt.pages, trouble=trouble)
        newest = self._state.segments(stream.stream)[-1].name == rebuilt.newest
        compared, trouble = self._compare(stream, folder, rebuilt) if newest else (0, None)
        opened = trouble is None and self._opens is not None and rebuilt.pages > 0
        if opened and self._opens is not None:
            trouble = self._opens(AccountId(stream.account), folder)
        return Drilled(stream.account, rebuilt.pages, compared, opened, trouble)

    def _compare(self, stream: Stream, folder: Path, rebuilt: Rebuilt) -> tuple[int, str | None]:
        """Compare the pages that have not changed since the snapshot."""
        for _ in range(TRIES):
            try:
                return self._compare_now(stream, folder, rebuilt)
            except Disturbed:
                continue
        return 0, "it could not be compared: writers kept restarting the write-ahead log"

    def _compare_now(self, stream: Stream, folder: Path, rebuilt: Rebuilt) -> tuple[int, str | None]:
        paths = account_paths(self._root, AccountId(stream.account))
        with (
            shared_lock(paths, self._limits.lock_wait_s),
            storage_errors(),
            image_of(paths, stream.position, keep_notes=False) as image,
        ):
            if image is None or image.changed is None or not rebuilt.pages:
                return 0, None
            same = 0
            with (folder / "mail.db").open("rb") as file:
                for number in range(1, min(rebuilt.pages, image.pages) + 1):
                    if number in image.changed:
                        continue
                    file.seek((number - 1) * PAGE_BYTES)
                    if file.read(PAGE_BYTES) != image.page(number):
                        image.check()
                        return same, f"page {number} is not the living database's"
                    same += 1
            return same, None
