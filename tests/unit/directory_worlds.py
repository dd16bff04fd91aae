"""What the tests of directories have in common."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mailstore.account import init_root, open_directory
from mailstore.directory import AccountRecord, Directory, PostgresPlace, put_directory
from mailstore.keys import AccountId, PublicKey
from mailstore.limits import DirectoryLimits

JOE, ANN = AccountId("a" * 32), AccountId("b" * 32)


def record(account_id=JOE, name="joe@example.org", quota=None):
    """A directory entry."""
    return AccountRecord(account_id, name, PublicKey(b"key of " + account_id.encode()), 1, quota, 5, False)


class Reactor(Clock):
    """A clock that hears of what the kernel has to say when it is asked."""

    def __init__(self):
        super().__init__()
        self.readers = []
        self.from_threads = deque()

    def addReader(self, reader):
        """Called by what wants to read."""
        self.readers.append(reader)

    def removeReader(self, reader):
        """Called by what has ended."""
        self.readers = [one for one in self.readers if one is not reader]

    removeWriter = removeReader

    def callFromThread(self, call):
        """Called by other threads."""
        self.from_threads.append(call)

    def listen(self):
        """Hear what has happened until now."""
        for reader in self.readers:
            reader.doRead()
        while self.from_threads:
            self.from_threads.popleft()()
        self.advance(1)


def embedded(place: Path, _request: pytest.FixtureRequest) -> Callable[[], Directory]:
    """The one that lies in the data root."""
    init_root(place)
    return lambda: open_directory(place)


def postgresql(place: Path, request: pytest.FixtureRequest) -> Callable[[], Directory]:
    """The one that lies in PostgreSQL."""
    url = request.getfixturevalue("postgresql").new_place()
    put_directory(place, PostgresPlace(url, limits=PATIENT))
    request.addfinalizer(lambda: put_directory(place, None))
    return embedded(place, request)


PATIENT = DirectoryLimits(connect_timeout_s=60.0, query_timeout_s=60.0)
"""A slow machine is no server that is away."""

KINDS = {"embedded": embedded, "postgresql": postgresql}
"""For each kind what begins one in a folder of the test; the result opens it, as often as it is called."""
