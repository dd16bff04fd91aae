"""A directory in PostgreSQL that several nodes share, and who hears of its changes."""

from __future__ import annotations

import select
import time

from mailstore.directory.postgresql import PostgresDirectory, make_in
from mailstore.limits import DirectoryLimits

KEY = bytes(range(32))
LIMITS = DirectoryLimits(connect_timeout_s=60.0, query_timeout_s=60.0)
"""A slow machine is no server that is away."""


class Site:
    """One directory in PostgreSQL; every node opens it for itself."""

    def __init__(self, server, url):
        self.server, self.url = server, url
        self.opened = []

    def node(self, key=KEY, limits=LIMITS):
        """A node's own."""
        self.opened.append(PostgresDirectory(self.url, key, limits))
        return self.opened[-1]

    def sql(self, statement):
        """What the owner of the database does."""
        return self.server.sql_at(self.url, statement)


def make_site(postgresql):
    """A new directory, for a fixture."""
    found = Site(postgresql, postgresql.new_place())
    make_in(found.url, KEY, LIMITS)
    yield found
    for one in found.opened:
        one.close()


class Hears:
    """Stands for a worker's watcher."""

    def __init__(self):
        self.heard = 0

    def from_any_thread(self, _callback):
        """What the listening thread calls."""

        def call():
            self.heard += 1

        return call


def listen(directory):
    """Let it listen, from now on; gives what hears."""
    hears = Hears()
    directory.on_change(hears, lambda: None)
    assert eventually(lambda: directory._listener._last is not None)
    return hears


def eventually(condition):
    """Whether it comes true, at a deadline at the latest."""
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            return False
        select.select([], [], [], 0.005)
    return True
