"""A directory whose PostgreSQL is away, slow, or lost in the midst of a change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from directory_worlds import ANN, JOE, record
from postgresql_world import LIMITS, eventually, listen, make_site

from mailstore.directory import pg_connection
from mailstore.directory.pg_cache import Cache
from mailstore.errors import (
    Busy,
    DirectoryUnavailable,
    OutcomeUnknown,
)
from mailstore.keys import AccountId, PublicKey


@pytest.fixture
def site(postgresql):
    """A new directory."""
    yield from make_site(postgresql)


@pytest.fixture
def directory(site):
    """A node's, with one account."""
    found = site.node()
    found.add_account(record())
    return found


@pytest.fixture
def listening(site, directory):
    """The directory of a worker, which listens, and has been asked for joe."""
    listen(directory)
    assert directory.login("joe").account_id == JOE
    directory.version()
    return directory


@pytest.fixture
def away(monkeypatch):
    """Lets a directory lose PostgreSQL; gives how often it was tried to connect."""
    tries = []

    def refuse(*_arguments, **_more):
        tries.append(True)
        raise pg_connection.psycopg.OperationalError("connection refused")

    def lose(directory):
        monkeypatch.setattr(pg_connection._Connection, "connect", refuse)
        directory._database._close_idle()
        return tries

    return lose


def test_known_accounts_are_answered_from_memory(listening, away):
    """By name, address and id, whichever was asked for; whatever else is asked may succeed later."""
    before = listening.version()
    away(listening)
    assert listening.login("JOE").account_id == JOE
    assert listening.resolve("joe@example.org").name == "joe@example.org"
    assert listening.account(JOE).account_id == JOE
    assert listening.login_name("joe") == "joe@example.org"
    assert listening.version() == before
    for question in (
        lambda: listening.login("ann"),
        lambda: listening.resolve("info@example.org"),  # joe's, but nobody has asked for it
        lambda: listening.resolve("ann@example.org"),
        lambda: listening.resolve("joe+ann@example.org"),  # may be somebody's own address
        lambda: listening.account(ANN),
        listening.accounts,
        lambda: listening.set_disabled(JOE, True),
        lambda: listening.add_domain("example.com"),
    ):
        with pytest.raises(DirectoryUnavailable):
            question()


def test_who_does_not_listen_knows_nobody(directory, away):
    """What was asked an hour ago may have changed since."""
    assert directory.login("joe") is not None
    away(directory)
    with pytest.raises(DirectoryUnavailable):
        directory.login("joe")


def test_nobody_waits_for_a_server_that_is_gone(listening, away):
    """One in a while tries to connect; the others are answered at once."""
    tries = away(listening)
    listening._database._limits = replace(LIMITS, retry_max_s=3600.0)
    for _ in range(50):
        with pytest.raises(DirectoryUnavailable):
            listening.login("ann")
        assert listening.login("joe") is not None
    assert len(tries) == 1
    listening._database._away_until_s = 0.0  # time to try again, which is for nobody whom memory can answer
    assert listening.login("joe") is not None
    assert len(tries) == 1
    with pytest.raises(DirectoryUnavailable):
        listening.login("ann")
    assert len(tries) == 2


IMPATIENT = replace(LIMITS, query_timeout_s=0.2)


def test_no_answer_is_waited_for_without_an_end(site):
    """Whether the server keeps to the time, or hangs itself."""
    node = site.node(limits=IMPATIENT)
    with pytest.raises(DirectoryUnavailable):
        node._database.ask(lambda txn: txn.rows("SELECT pg_sleep(60)"))

    def hang(txn):
        txn.rows("SELECT set_config('statement_timeout', '0', false)")
        return txn.rows("SELECT pg_sleep(60)")

    with pytest.raises(DirectoryUnavailable):
        node._database.ask(hang)
    assert node._database._idle.empty()


def test_whoever_waits_for_another_nodes_change_is_told_to_try_again(site, directory):
    """One that stopped in the midst of a change does not keep all others waiting."""
    node = site.node(limits=IMPATIENT)

    def meanwhile(txn):
        txn.rows("SELECT changes FROM sealbox_directory FOR UPDATE")
        with pytest.raises(Busy):
            node.add_domain("example.com")
        assert node.login("joe") is not None  # asking takes no lock

    directory._database.write(meanwhile)
    node.add_domain("example.com")


def test_as_many_records_are_remembered_as_the_limit_says(site, directory, away):
    """``cached_records``: an account with its name takes two."""
    directory.add_account(record(ANN, "ann@example.org"))
    node = site.node(limits=replace(LIMITS, cached_records=2))
    listen(node)
    for name in ("joe@example.org", "ann@example.org"):
        node.login(name)
    away(node)
    assert node.login("ann@example.org").account_id == ANN
    with pytest.raises(DirectoryUnavailable):
        node.login("joe@example.org")


def test_memory_is_bounded_and_forgets_what_has_changed():
    """The oldest go first; a change of an account, or of nobody knows what, makes its answers go."""
    cache = Cache(most=2)
    for name in ("a", "b", "c"):
        cache.keep(("name", name), name.encode(), name, cache.heard)
    assert [cache.get(("name", name)) for name in ("a", "b", "c")] == [None, "b", "c"]
    cache.changed(b"b")
    assert [cache.get(("name", name)) for name in ("b", "c")] == [None, "c"]
    since = cache.heard
    cache.changed(b"")
    assert cache.get(("name", "c")) is None
    cache.keep(("name", "c"), b"c", "c", since)  # it was asked for before the change
    assert cache.get(("name", "c")) is None


@pytest.mark.parametrize("happened", [True, False])
def test_a_commit_whose_answer_is_lost_is_asked_about(site, directory, monkeypatch, happened):
    """PostgreSQL knows what became of a transaction; the caller is told that and nothing else."""
    lose_commits(monkeypatch, happened)
    if happened:
        directory.add_domain("example.com")
    else:
        with pytest.raises(DirectoryUnavailable):
            directory.add_domain("example.com")
    monkeypatch.undo()
    assert ("example.com" in site.node().domains()) is happened


def test_an_outcome_that_nobody_knows_is_said_to_be_unknown(directory, monkeypatch, away):
    """Neither success nor failure."""
    lose_commits(monkeypatch, True)
    monkeypatch.setattr(pg_connection.Database, "_connect", refuse_to_connect)
    with pytest.raises(OutcomeUnknown):
        directory.add_domain("example.com")


def test_who_asks_for_certain_waits_for_a_change_that_is_being_committed(site, directory, monkeypatch):
    """Others are told what was before, as long as they may."""
    before = directory.accounts()[0]
    execute, held, release = pg_connection._Connection.execute, Event(), Event()

    def holding(self, query, *arguments, **more):
        if query == "COMMIT" and not held.is_set():
            held.set()
            assert release.wait(60)
        return execute(self, query, *arguments, **more)

    other = site.node()
    assert other.settled_account(before.account_id) == before
    assert other.settled_account(AccountId("f" * 32)) is None
    monkeypatch.setattr(pg_connection._Connection, "execute", holding)
    new_key = PublicKey(bytes(32))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as pool:
        try:
            change = pool.submit(directory.set_header, before.account_id, new_key, 9)
            assert held.wait(60)
            assert other.account(before.account_id) == before
            certain = pool.submit(other.settled_account, before.account_id)
            assert eventually(lambda: site.sql(waiting) == [(1,)])
        finally:
            release.set()
        change.result()
        assert certain.result().public_key == new_key


def refuse_to_connect(*_arguments, **_more):
    """What a server that is gone does."""
    raise pg_connection.psycopg.OperationalError("connection refused")


def lose_commits(monkeypatch, happens):
    """The connection ends at COMMIT: behind it, or before."""
    execute = pg_connection._Connection.execute

    def losing(self, query, *arguments, **more):
        if query != "COMMIT":
            return execute(self, query, *arguments, **more)
        execute(self, "COMMIT" if happens else "ROLLBACK")
        self.close()
        raise pg_connection.psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(pg_connection._Connection, "execute", losing)


def test_a_server_that_was_restarted_is_no_failure(site, directory, monkeypatch):
    """Idle connections have ended meanwhile, noticed or not: others are made."""
    directory.login("joe")
    site.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'sealbox' AND pid <> pg_backend_pid()"
    )
    assert directory.login("joe").account_id == JOE
    monkeypatch.setattr(pg_connection, "_has_ended", lambda _connection: False)
    directory._database._idle.queue[0].pgconn.finish()
    directory.set_disabled(JOE, True)
    assert directory.login("joe").disabled


def test_a_connection_that_is_in_use_is_closed_when_it_is_given_back(site):
    """Whoever closes the directory leaves nothing open, though others still ask."""
    node = site.node()

    def meanwhile(txn):
        node.close()
        return txn.rows("SELECT 1")

    assert node._database.ask(meanwhile) == [(1,)]
    assert node._database._idle.empty()


def test_threads_share_few_connections(site, directory):
    """However many ask at once."""
    node = site.node(limits=replace(LIMITS, connections=2))
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: node.account(JOE).account_id, range(200))) == {JOE}
    assert node._database._idle.qsize() <= 2
