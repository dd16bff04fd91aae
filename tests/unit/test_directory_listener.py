"""What listens for changes of other nodes: nothing that happens while nobody listens stays unnoticed."""

from __future__ import annotations

import fcntl
import os
import resource
from collections import deque
from contextlib import contextmanager
from queue import Queue

import pytest

from mailstore.directory.pg_listener import Listener
from mailstore.errors import DirectoryUnavailable
from mailstore.limits import DirectoryLimits

LIMITS = DirectoryLimits(retry_max_s=0.02, heartbeat_s=0.02)
PATIENCE_S = 20.0
HIGH = 2000


class Connection:
    """One that a test speaks for: ``said`` is told, then ``versions`` are answered; it ends after those."""

    def __init__(self, *versions, said=()):
        self.versions = deque(versions)
        self.said = deque(said)
        self.readable, self.writer = os.pipe()
        if said:
            os.write(self.writer, b"x")

    def fileno(self):
        """Readable while something was said."""
        return self.readable

    def version(self):
        """The next one."""
        if not self.versions:
            raise DirectoryUnavailable
        return self.versions.popleft()

    def news(self):
        """All that was said."""
        os.read(self.readable, 1)
        told, self.said = list(self.said), deque()
        return told

    def close(self):
        """After the test."""
        os.close(self.readable)
        os.close(self.writer)


class Play:
    """Listens to one connection after the other; gives what was heard in order, with "lost" for each end."""

    def __init__(self, *connections, known=None):
        self.left = deque(connections)
        self.heard = Queue()
        self.ended = []
        self.listener = Listener(self._opened, LIMITS, self._hear)
        self.listener.start(lambda: known)

    @contextmanager
    def _opened(self):
        if not self.left:
            self.heard.put("nothing left")
            raise DirectoryUnavailable
        connection = self.left.popleft()
        try:
            yield connection
        finally:
            self.heard.put("lost")
            self.ended.append(connection)

    def _hear(self, told):
        self.heard.put(told)
        return told

    def all(self):
        """What was heard until nothing was left."""
        found = []
        while (one := self.heard.get(timeout=PATIENCE_S)) != "nothing left":
            found.append(one)
        self.listener.stop()
        for connection in self.ended:
            connection.close()
        return found


def test_what_is_told_is_heard_once():
    """And leads to a version that is no news when it is asked for."""
    assert Play(Connection("1", "2", said=["2"]), known="1").all() == ["2", "lost"]


def test_a_change_before_the_first_connection_is_heard():
    """What was known then is older than what listens begins with; so is what could not be known."""
    assert Play(Connection("2"), known="1").all() == ["", "lost"]
    assert Play(Connection("1"), known=False).all() == ["", "lost"]
    assert Play(Connection("1"), known=None).all() == ["lost"]  # nobody has asked for anything


def test_no_change_is_none():
    """A connection that ends and comes back is no news by itself."""
    assert Play(Connection("1"), Connection("1"), known="1").all() == ["lost", "lost"]


def test_a_change_between_two_connections_is_heard():
    """What was told meanwhile is lost; the version is another."""
    assert Play(Connection("1"), Connection("2"), known="1").all() == ["lost", "", "lost"]


def test_a_change_that_was_not_told_is_noticed_by_asking():
    """A pooler between may swallow what is told."""
    assert Play(Connection("1", "1", "2"), known="1").all() == ["", "lost"]


def test_whatever_goes_wrong_it_listens_again(caplog):
    """A thread that has ended hears of nothing, and nobody would notice."""

    class Odd(Connection):
        def version(self):
            raise ValueError("joe@example.org")

    assert Play(Odd(), Connection("2"), known="1").all() == ["lost", "", "lost"]
    assert "ValueError" in caplog.text
    assert "joe" not in caplog.text


def test_many_open_files_do_not_keep_it_from_waiting(monkeypatch):
    """Its descriptors may be beyond what select(2) takes."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] <= HIGH + 10:
        pytest.skip("this user may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], HIGH + 10), limits[1]))
    monkeypatch.setattr(os, "pipe", high_pipe(os.pipe))
    assert Play(Connection("1"), Connection("2"), known="1").all() == ["lost", "", "lost"]


def high_pipe(pipe):
    """As ``os.pipe``, with high descriptors."""

    def made():
        found = []
        for low in pipe():
            found.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH))
            os.close(low)
        return tuple(found)

    return made


def test_it_ends_at_once_while_it_listens_or_waits():
    """Whoever stops it waits for no pause."""
    slow = DirectoryLimits(retry_max_s=3600.0, heartbeat_s=3600.0)
    connection = Connection("1")

    @contextmanager
    def opened():
        yield connection

    for source in (opened, Play._opened.__get__(type("Nothing", (), {"left": (), "heard": Queue()})())):
        listener = Listener(source, slow, lambda told: told)
        listener.start(lambda: "1")
        listener.stop()
        assert not listener._thread.is_alive()
    connection.close()
