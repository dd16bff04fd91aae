"""What the tests of directories have in common."""

from collections import deque

from twisted.internet.task import Clock

from mailstore.directory import AccountRecord
from mailstore.keys import AccountId, PublicKey

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
