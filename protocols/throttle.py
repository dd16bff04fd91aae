"""The memory of failed logins, shared by all workers and kept over restarts.

Failures are counted for the site an attempt comes from and for the account it is about. A site that has
opened an account before is counted for that pair alone, so that neither attackers elsewhere nor a
colleague's typing errors lock an owner out. An attempt counts as failed from its start until it is known to
have succeeded: hanging up, or sending many at once, gains nothing.

The table has a fixed size, and names in it are keyed hashes, so the file tells nobody who logs in from
where. Its functions read and write a few hundred octets under a lock; they are for threads.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from protocols.limits import LoginLimits

log = logging.getLogger("sealbox.throttle")

FILE_NAME = "login-throttle"
FILE_MODE = 0o600

_ENTRY = struct.Struct("<16sQdd")
_WAYS = 8
"""Entries that share a place in the table; of those the one unused for longest makes room."""
_BUCKET_BYTES = _WAYS * _ENTRY.size
_HASH_BYTES = 16
KEY_BYTES = 32
_DAY_S = 86_400.0
_DOUBLINGS_MAX = 30
_SWEEP_BUCKETS = 256
_LOCK_WAIT_S, _LOCK_WAIT_AGAIN_S, _LOCK_POLL_S = 10.0, 1.0, 0.001
"""A slow disk may hold the lock for a while; a stopped process holds it for good."""

LOCK_PAUSE_S = 60.0
"""Seconds for which the lock is not waited for again after a timeout."""

_FAILURES_MAX = 1_000_000


class _Area(Enum):
    """What is counted; each kind has a part of the table, so that none pushes out another."""

    SITE = 0
    ACCOUNT = 1
    PAIR = 2


@dataclass(frozen=True, slots=True)
class _Entry:
    """Times in epoch seconds, 0 for never. ``failures`` includes attempts that are not decided yet."""

    key: bytes
    failures: int = 0
    tried_s: float = 0.0
    opened_s: float = 0.0

    def pack(self) -> bytes:
        return _ENTRY.pack(self.key, self.failures, self.tried_s, self.opened_s)

    @property
    def touched_s(self) -> float:
        return max(self.tried_s, self.opened_s)


_EMPTY = _Entry(bytes(_HASH_BYTES))


def _entry(key: bytes, failures: int, tried_s: float, opened_s: float) -> _Entry:
    """An entry as it was read; a damaged or edited file may hold anything."""
    if not (math.isfinite(tried_s) and math.isfinite(opened_s)):
        return _EMPTY
    return _Entry(key, min(failures, _FAILURES_MAX), tried_s, opened_s)


class Pages(Protocol):
    """Where the table lies."""

    def locked(self) -> AbstractContextManager[None]:
        """Lock the table against this and other processes. Raises OSError."""

    def read(self, offset: int, length: int) -> bytes:
        """Octets of the table. Raises OSError."""

    def write(self, offset: int, data: bytes) -> None:
        """Change octets of the table. Raises OSError."""


class MemoryPages:
    """A table of this process alone."""

    def __init__(self, size: int) -> None:
        self._data = bytearray(size)
        self._lock = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See ``Pages``."""
        with self._lock:
            yield

    def read(self, offset: int, length: int) -> bytes:
        """See ``Pages``."""
        return bytes(self._data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """See ``Pages``."""
        self._data[offset : offset + len(data)] = data


class FilePages:
    """A table in a file that all workers have open. All its blocks are reserved when it is made."""

    def __init__(self, path: Path, size: int) -> None:
        """Open or make the file. Raises OSError."""
        self._lock = threading.Lock()
        self._again_s = -math.inf
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            with self.locked():
                if os.fstat(self._descriptor).st_size != size:
                    # Another size is another layout: what was remembered is of no use in it.
                    os.ftruncate(self._descriptor, 0)
                    os.posix_fallocate(self._descriptor, 0, size)
        except BaseException:
            os.close(self._descriptor)
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See ``Pages``."""
        # flock is between processes; threads of one process share its descriptor and so its lock.
        with self._lock:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if not self.may_be_free():
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            self._acquire()
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def may_be_free(self) -> bool:
        """Whether to wait for the lock, as far as this process knows."""
        return time.monotonic() >= self._again_s

    def _acquire(self) -> None:
        """A worker that has been stopped while it holds the lock must not stop the others. Raises OSError."""
        # After a timeout, logins are not made to wait as long again.
        deadline = time.monotonic() + (_LOCK_WAIT_S if self._again_s == -math.inf else _LOCK_WAIT_AGAIN_S)
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._again_s = time.monotonic() + LOCK_PAUSE_S
                    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
                time.sleep(_LOCK_POLL_S)
            else:
                self._again_s = -math.inf
                return

    def read(self, offset: int, length: int) -> bytes:
        """See ``Pages``."""
        data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            # Another worker has found another size in the configuration, and made the file anew.
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def write(self, offset: int, data: bytes) -> None:
        """See ``Pages``."""
        os.pwrite(self._descriptor, data, offset)

    def close(self) -> None:
        """Close the file; what is asked of it afterwards fails."""
        # Under the lock: a thread on its way must not write into whatever gets this number next.
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)


def table_bytes(limits: LoginLimits) -> int:
    """How large a table is that remembers ``addresses_max`` sites, accounts and pairs each."""
    return len(_Area) * _buckets(limits) * _BUCKET_BYTES


def _buckets(limits: LoginLimits) -> int:
    return max(1, -(-limits.addresses_max // _WAYS))


@dataclass(frozen=True, slots=True)
class Start:
    """Whether an attempt may start: ``wait_s`` is 0 if so, and then it has been counted."""

    wait_s: float
    trusted: bool
    """Counted for the pair of site and account alone."""


class Throttle:
    """Decides when an attempt to log in may start. ``key``, ``KEY_BYTES`` long, makes the hashes."""

    def __init__(self, pages: Pages, key: bytes, limits: LoginLimits) -> None:
        self._pages = pages
        self._aside: FilePages | None = None
        """The file while another process keeps its lock."""
        self._spare: MemoryPages | None = None
        """What is counted meanwhile is kept, so guessers gain nothing."""
        self._switching = threading.Lock()
        """Of threads that begin and that give up together none may lose the file."""
        self._key = key
        self._buckets = _buckets(limits)
        self._size = table_bytes(limits)

    @classmethod
    def on_disk(cls, folder: Path, key: bytes, limits: LoginLimits) -> Throttle:
        """The table of a data root; one of this process's memory where the file cannot be used."""
        try:
            return cls(FilePages(folder / FILE_NAME, table_bytes(limits)), key, limits)
        except OSError as error:
            throttle = cls.in_memory(key, limits)
            throttle._explain(error)
            return throttle

    @classmethod
    def in_memory(cls, key: bytes, limits: LoginLimits) -> Throttle:
        """A table of this process alone."""
        return cls(MemoryPages(table_bytes(limits)), key, limits)

    def close(self) -> None:
        """Close the file, if there is one, and go on in memory."""
        pages, self._aside = self._aside or self._pages, None
        if isinstance(pages, FilePages):
            self._pages = MemoryPages(self._size)
            pages.close()

    @contextmanager
    def _locked(self) -> Iterator[Pages]:
        with self._switching:
            if self._aside is not None and self._aside.may_be_free():
                self._pages, self._aside = self._aside, None
            pages = self._pages
        with pages.locked():
            yield pages

    def start(self, site: str, account: str, limits: LoginLimits, now: float) -> Start:
        """Count an attempt and let it start, or say how many seconds are left until one may."""
        try:
            with self._locked() as pages:
                return self._start(pages, site, account, limits, now)
        except OSError as error:
            self._give_up(error)
            return self.start(site, account, limits, now)

    def _start(self, pages: Pages, site: str, account: str, limits: LoginLimits, now: float) -> Start:
        pair = self._find(pages, _Area.PAIR, site, account)
        opened_s = pair[1].opened_s
        trusted = opened_s > 0 and 0.0 <= now - opened_s <= limits.trusted_days * _DAY_S
        if trusted:
            # Somebody there knows the secret: all of their programs may log in at once, as after a restart.
            counted = [(pair, limits.account_free_failures)]
        else:
            counted = [
                (self._find(pages, _Area.SITE, site), limits.free_failures),
                (self._find(pages, _Area.ACCOUNT, account), limits.account_free_failures),
            ]
        # A clock that was set back must not make logins wait until it has caught up.
        wait_s = max(
            min(entry.tried_s, now) + _delay_s(entry, free, limits, now) - now for (_, entry), free in counted
        )
        if wait_s > 0:
            return Start(wait_s, trusted)
        for (place, entry), _ in counted:
            failures = 0 if _is_forgotten(entry, limits, now) else entry.failures
            pages.write(place, replace(entry, failures=failures + 1, tried_s=now).pack())
        return Start(0.0, trusted)

    def succeeded(self, site: str, account: str, trusted: bool, now: float) -> None:
        """Take back what ``start`` counted, and trust the site with this account from now on.

        Half of the failures of the two together are forgotten: an owner's typing errors are so after a few
        logins, and a guesser beside him gains little.
        """
        try:
            with self._locked() as pages:
                self._take_back(pages, site, account, trusted)
                place, pair = self._find(pages, _Area.PAIR, site, account)
                pages.write(place, replace(pair, failures=pair.failures // 2, opened_s=now).pack())
        except OSError as error:
            self._give_up(error)

    def take_back(self, site: str, account: str, trusted: bool) -> None:
        """Take back what ``start`` counted: whether the secret was right was never found out."""
        try:
            with self._locked() as pages:
                self._take_back(pages, site, account, trusted)
        except OSError as error:
            self._give_up(error)

    def _take_back(self, pages: Pages, site: str, account: str, trusted: bool) -> None:
        if trusted:
            counted = [self._find(pages, _Area.PAIR, site, account)]
        else:
            counted = [self._find(pages, _Area.SITE, site), self._find(pages, _Area.ACCOUNT, account)]
        for place, entry in counted:
            pages.write(place, replace(entry, failures=max(entry.failures - 1, 0)).pack())

    def sweep(self, limits: LoginLimits, now: float) -> None:
        """Blank what is older than it may count; the policy on logs allows no older trace of a visit."""
        kept_s = {
            _Area.SITE: limits.forget_after_s,
            _Area.ACCOUNT: limits.forget_after_s,
            # A day early, because the next sweep is a day later.
            _Area.PAIR: (limits.trusted_days - 1) * _DAY_S,
        }
        step = _SWEEP_BUCKETS * _BUCKET_BYTES
        try:
            for area in _Area:
                end = (area.value + 1) * self._buckets * _BUCKET_BYTES
                for offset in range(area.value * self._buckets * _BUCKET_BYTES, end, step):
                    with self._locked() as pages:
                        data = pages.read(offset, min(step, end - offset))
                        fresh = b"".join(
                            entry.pack() if now - entry.touched_s <= kept_s[area] else _EMPTY.pack()
                            for entry in (_entry(*fields) for fields in _ENTRY.iter_unpack(data))
                        )
                        if fresh != data:
                            pages.write(offset, fresh)
        except OSError as error:
            self._give_up(error)

    # -- the table -------------------------------------------------------------------------------

    def _find(self, pages: Pages, area: _Area, *names: str) -> tuple[int, _Entry]:
        """The entry of a name, and where it is or may be written; an empty one if there is none."""
        text = b"".join(
            struct.pack(">I", len(raw)) + raw for raw in (name.encode("utf-8", "replace") for name in names)
        )
        digest = blake2b(text, digest_size=_HASH_BYTES + 8, key=self._key, person=area.name.encode()).digest()
        bucket = area.value * self._buckets + int.from_bytes(digest[_HASH_BYTES:], "big") % self._buckets
        offset, key = bucket * _BUCKET_BYTES, digest[:_HASH_BYTES]
        data = pages.read(offset, _BUCKET_BYTES)
        entries = [_entry(*fields) for fields in _ENTRY.iter_unpack(data)]
        for number, entry in enumerate(entries):
            if entry.key == key:
                return offset + number * _ENTRY.size, entry
        oldest = min(range(_WAYS), key=lambda number: entries[number].touched_s)
        return offset + oldest * _ENTRY.size, _Entry(key)

    def _give_up(self, error: OSError) -> None:
        """Continue in memory: even with a broken disk guessers are slowed and owners admitted."""
        with self._switching:
            pages = self._pages
            if not isinstance(pages, FilePages):
                return  # if several threads fail together, the first has already switched
            if error.errno == errno.ETIMEDOUT:
                self._spare = self._spare or MemoryPages(self._size)
                self._aside, self._pages = pages, self._spare
        if error.errno == errno.ETIMEDOUT:
            log.warning(
                "the file %s in the data root is locked by a process that does not let it go:"
                " for %d seconds this worker counts failed logins for itself",
                FILE_NAME,
                LOCK_PAUSE_S,
            )
            return
        self.close()
        self._explain(error)

    def _explain(self, error: OSError) -> None:
        log.error(
            "the file %s in the data root cannot be used (%s): until the next start each worker"
            " counts failed logins for itself",
            FILE_NAME,
            os.strerror(error.errno or 0),
        )


def _is_forgotten(entry: _Entry, limits: LoginLimits, now: float) -> bool:
    return now - entry.tried_s > limits.forget_after_s


def _delay_s(entry: _Entry, free: int, limits: LoginLimits, now: float) -> float:
    beyond = entry.failures - free
    if beyond <= 0 or _is_forgotten(entry, limits, now):
        return 0.0
    return float(min(limits.delay_max_s, limits.first_delay_s * 2.0 ** min(beyond - 1, _DOUBLINGS_MAX)))
