"""The directory in PostgreSQL: what its owner sees, several nodes at once, and what happens without it."""

from __future__ import annotations

import base64
import hmac
import select
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from directory_worlds import ANN, JOE, record

from mailstore.directory import Contents, DomainLimits, PostgresPlace, pg_connection, pg_schema, places
from mailstore.directory.pg_cache import Cache
from mailstore.directory.postgresql import PostgresDirectory, is_made_in, make_in
from mailstore.directory.sealing import Sealer, account_of, account_value
from mailstore.errors import (
    AccountExists,
    Busy,
    DatabaseDamaged,
    DirectoryEmpty,
    DirectoryKeyWrong,
    DirectoryOutdated,
    DirectoryRefused,
    DirectoryUnavailable,
    DomainInUse,
    NoSuchDomain,
    OutcomeUnknown,
    TooNew,
)
from mailstore.keys import AccountId, PublicKey
from mailstore.limits import DirectoryLimits
from mailstore.model import Pop3Settings

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


@pytest.fixture
def site(postgresql):
    """A new directory."""
    found = Site(postgresql, postgresql.new_place())
    make_in(found.url, KEY, LIMITS)
    yield found
    for one in found.opened:
        one.close()


@pytest.fixture
def opened():
    """Opens directories anywhere, until the end of the test."""
    found = []

    def open_one(url):
        found.append(PostgresDirectory(url, KEY, LIMITS))
        return found[-1]

    yield open_one
    for one in found:
        one.close()


@pytest.fixture
def directory(site):
    """A node's, with one account."""
    found = site.node()
    found.add_account(record())
    return found


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


# -- what the owner of the database sees -----------------------------------------------------------


def test_a_dump_shows_no_address_no_domain_and_no_account(site, directory, opened):
    """Neither as they are nor in another spelling; and nothing that other servers' dumps have, too."""
    directory.add_alias("info@example.org", JOE)
    directory.set_pop3(JOE, Pop3Settings("Archive", login_delay_s=77))
    dump = site.server.dump(site.url)
    assert b"sealbox_address" in dump
    for secret in (b"joe", b"example", b"info", b"Archive", JOE.encode(), bytes(record().public_key)):
        for spelled in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")):
            assert spelled not in dump, secret
    other = opened(site.server.new_place())
    make_in(other._database._url, KEY, LIMITS)
    other.add_account(record())
    hashes = {bytes(one[0]) for one in site.sql("SELECT id FROM sealbox_address")}
    theirs = {
        bytes(one[0]) for one in site.server.sql_at(other._database._url, "SELECT id FROM sealbox_address")
    }
    assert not hashes & theirs


SWAPS = {
    "records of accounts": "UPDATE sealbox_account a SET sealed = b.sealed, changed = b.changed"
    " FROM sealbox_account b WHERE a.id <> b.id",
    "whose an address is": "UPDATE sealbox_address a SET account = b.account FROM sealbox_address b"
    " WHERE a.account <> b.account AND NOT a.is_name",
    "the account below a name": "UPDATE sealbox_address SET is_name = NOT is_name; UPDATE sealbox_address SET"
    " account = (SELECT id FROM sealbox_account a WHERE a.id <> account)",
    "domains": "UPDATE sealbox_account a SET domain = b.id FROM sealbox_domain b WHERE b.id <> a.domain",
    "octets": "UPDATE sealbox_account SET sealed = sealed || '\\x00'::bytea",
    "numbers of changes": "UPDATE sealbox_account SET changed = changed + 1",
    "keys": "UPDATE sealbox_account SET key_id = '\\x00'::bytea",
}


@pytest.mark.parametrize("statement", SWAPS.values(), ids=SWAPS)
def test_no_row_can_be_exchanged_or_altered(site, directory, statement, caplog):
    """Mail for one never goes to another, whoever writes there; the log names the row, no address."""
    directory.add_domain("example.com")
    directory.add_account(record(ANN, "ann@example.org"))
    directory.add_alias("info@example.org", JOE)
    for one in statement.split("; "):
        site.sql(one)
    with pytest.raises(DatabaseDamaged):
        directory.resolve("info@example.org")
    assert "sealbox_" in caplog.text
    assert not [word for word in ("joe", "ann", "info", "example", JOE, ANN) if word in caplog.text]


def test_an_older_row_put_back_is_not_noticed(site, directory):
    """What SECURITY.md says the owner of the database can do."""
    kept = site.sql("SELECT sealed, changed FROM sealbox_account")[0]
    directory.set_disabled(JOE, True)
    assert directory.login("joe").disabled
    sealed = bytes(kept[0]).hex()
    site.sql(f"UPDATE sealbox_account SET sealed = '\\x{sealed}'::bytea, changed = {kept[1]}")
    assert not directory.login("joe").disabled


# -- what keeps a node from using it ---------------------------------------------------------------


def test_another_key_is_refused(site, directory):
    """And changes nothing."""
    with pytest.raises(DirectoryKeyWrong):
        site.node(bytes(32)).login("joe@example.org")
    with pytest.raises(DirectoryKeyWrong):
        make_in(site.url, bytes(32), LIMITS)
    assert directory.login("joe") is not None


def test_a_newer_directory_is_refused(site, directory):
    """It is left alone."""
    directory.close()
    site.sql("UPDATE sealbox_directory SET version = version + 1")
    with pytest.raises(TooNew):
        site.node().accounts()
    with pytest.raises(TooNew):
        make_in(site.url, KEY, LIMITS)


def test_an_older_directory_is_no_missing_one(postgresql, opened, monkeypatch):
    """Until a server of this version has brought it up to date, commands say that this is the next step."""
    url = postgresql.new_place()
    with monkeypatch.context() as earlier:
        earlier.setattr(pg_schema, "MIGRATIONS", pg_schema.MIGRATIONS[:1])
        earlier.setattr(pg_schema, "SCHEMA_VERSION", 1)
        make_in(url, KEY, LIMITS)
    with pytest.raises(DirectoryOutdated):
        opened(url).accounts()
    assert is_made_in(url, LIMITS)
    make_in(url, KEY, LIMITS)
    assert opened(url).accounts() == []


def test_a_database_without_directory_is_not_an_empty_directory(postgresql, opened):
    """Nobody is to be told that there is no such address."""
    url = postgresql.new_place()
    assert not is_made_in(url, LIMITS)
    with pytest.raises(DirectoryEmpty):
        opened(url).resolve("joe@example.org")


def test_a_role_without_rights_is_told_so(site, directory, postgresql, caplog, opened):
    """Whether it may not make tables, or not read them."""
    role = f"weak_{site.url.rpartition('%3Ds')[2]}"
    postgresql.sql(f"CREATE ROLE {role} LOGIN")
    weak = site.url.replace("owner@", f"{role}@")
    with pytest.raises(DirectoryEmpty):  # it does not even see the schema
        opened(weak).accounts()
    with pytest.raises(DirectoryRefused):
        make_in(postgresql.url("postgres", role), KEY, LIMITS)
    schema = site.url.rpartition("%3D")[2]
    postgresql.sql(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    with pytest.raises(DirectoryRefused):
        opened(weak).accounts()
    assert "right" in caplog.text


def test_an_unreachable_database_is_told_with_libpqs_reason(postgresql, caplog, opened):
    """The line says what to look at."""
    for url in (postgresql.url("nothing"), "postgresql:///x?host=/nowhere"):
        with pytest.raises(DirectoryUnavailable):
            opened(url).accounts()
    assert 'database "nothing" does not exist' in caplog.text
    assert "/nowhere" in caplog.text


def test_the_key_of_a_place_is_the_files_or_the_servers(tmp_path):
    """A file that is missing or has no key is no reason to take another one."""
    file = tmp_path / "key"
    assert PostgresPlace("").cluster_key(KEY) != KEY
    with pytest.raises(DirectoryKeyWrong):
        PostgresPlace("", file).cluster_key(KEY)
    file.write_text("short\n")
    with pytest.raises(DirectoryKeyWrong):
        PostgresPlace("", file).cluster_key(KEY)
    file.write_text(KEY.hex() + "\n")
    assert PostgresPlace("", file).cluster_key(bytes(32)) == KEY


def test_the_written_key_is_the_one_in_use(tmp_path):
    """So that a second node can be added to a directory under a key that was derived."""
    root, file = tmp_path / "root", tmp_path / "key"
    places.write_cluster_key(root, KEY, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert PostgresPlace("", file).cluster_key(bytes(32)) == PostgresPlace("").cluster_key(KEY)


# -- several nodes at once -------------------------------------------------------------------------


def at_once(*calls):
    """Call all in threads; what each gave or raised."""

    def outcome(call):
        try:
            return call()
        except (AccountExists, NoSuchDomain, DomainInUse) as error:
            return type(error)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


def test_nodes_that_make_it_at_once_make_one(postgresql):
    """Tables are made under an advisory lock."""
    url = postgresql.new_place()
    assert at_once(*[lambda: make_in(url, KEY, LIMITS)] * 4) == [None] * 4
    assert postgresql.sql_at(url, "SELECT count(*) FROM sealbox_directory") == [(1,)]


def test_one_address_is_had_by_one_account_whoever_is_first(site):
    """Of several nodes that add it at the same time all but one are refused, and leave nothing."""
    nodes = [site.node() for _ in range(4)]
    ids = [AccountId(str(number) * 32) for number in range(4)]
    for turn in range(5):
        name = f"joe{turn}@example.org"
        told = at_once(
            *[lambda n=n, i=i, a=name: n.add_account(record(i, a)) for n, i in zip(nodes, ids, strict=True)]
        )
        assert sorted(map(str, told)) == sorted(map(str, [None, AccountExists, AccountExists, AccountExists]))
        owner = nodes[0].resolve(name).account_id
        assert [one.account_id for one in nodes[1].accounts()] == [owner]
        nodes[2].remove_account(owner)


def test_a_domain_goes_or_gets_an_address_but_not_both(site, directory):
    """Whichever comes first."""
    other = site.node()
    for turn in range(6):
        domain = f"d{turn}.example"
        directory.add_domain(domain)
        added, removed = at_once(
            lambda d=domain: directory.add_alias(f"info@{d}", JOE), lambda d=domain: other.remove_domain(d)
        )
        assert (added, removed) in ((None, DomainInUse), (NoSuchDomain, None))
        assert (domain in directory.domains()) is (added is None)
        assert (other.resolve(f"info@{domain}") is not None) is (added is None)


def test_of_two_imports_at_once_one_does_it(site):
    """The other finds all of it there."""
    contents = Contents.of(
        "example.org", {"example.org": DomainLimits()}, [record()], [("info@example.org", JOE)]
    )
    nodes = [site.node() for _ in range(3)]
    told = at_once(*[lambda n=node: n.fill(contents) for node in nodes])
    assert sorted(told) == [False, False, True]
    assert site.node().contents() == contents


def test_generations_of_several_nodes_never_go_backwards(site, directory):
    """The greatest counts, in whatever order they arrive; and no change is lost."""
    nodes = [directory, site.node(), site.node()]
    at_once(*[lambda n=n, g=g: n.advance_header_generation(JOE, g) for g in range(2, 20) for n in nodes])
    assert directory.account(JOE).header_generation == 19


def test_a_change_of_any_node_is_told_and_forgotten(site, directory):
    """At once, without anybody asking; what is remembered of others stays."""
    directory.add_account(record(ANN, "ann@example.org"))
    node = site.node(limits=replace(LIMITS, heartbeat_s=3600.0))
    hears = listen(node)
    for name in ("joe@example.org", "ann@example.org"):
        node.login(name)
    directory.set_disabled(JOE, True)
    assert eventually(lambda: hears.heard)
    assert node._cache.get(("address", "joe@example.org")) is None
    assert node._cache.get(("address", "ann@example.org")).account_id == ANN
    directory.limit_domain("example.org", quota_bytes=7)
    assert eventually(lambda: hears.heard == 2)
    assert node._cache.get(("address", "ann@example.org")) is None


# -- without it ------------------------------------------------------------------------------------


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


# -- pure ------------------------------------------------------------------------------------------


def test_sealing_is_bound_to_place_number_and_key():
    """What is at one place opens there alone; lengths tell little."""
    place = pg_schema.Place("account", b"row", 7)
    sealer = Sealer(KEY, b"d" * 16)
    sealed = sealer.seal(place, {"name": "joe"})
    assert sealer.open(place, sealed) == {"name": "joe"}
    assert len(sealed) == len(sealer.seal(place, {"name": "somebody else"}))
    assert sealed != sealer.seal(place, {"name": "joe"})
    for other in (replace(place, table="domain"), replace(place, row=b"roW"), replace(place, changed=8)):
        with pytest.raises(ValueError, match="belong"):
            sealer.open(other, sealed)
    for stranger in (Sealer(bytes(32), b"d" * 16), Sealer(KEY, b"e" * 16)):
        with pytest.raises(ValueError, match="belong"):
            stranger.open(place, sealed)
    assert sealer.hashed("address", "joe") != sealer.hashed("domain", "joe")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://me@db.example.org/x", [("db.example.org", 5432)]),
        ("postgresql://a:1,b:2/x?target_session_attrs=read-write", [("a", 1), ("b", 2)]),
        ("postgresql://a,b:7/x", [("a", 5432), ("b", 7)]),
        ("postgresql://[::1]:9/x", [("::1", 9)]),
        ("postgresql:///x?host=/run/postgresql", []),
        ("postgresql:///x", []),
        ("postgresql://h/x?colour=blue", []),
        ("postgresql://h/x?port=many", [("h", 5432)]),
    ],
)
def test_hosts_of_a_url_are_those_that_libpq_connects_to(url, hosts):
    """So that 'sealbox privacy check' knows whom the server may call."""
    assert PostgresPlace(url).hosts() == hosts


def test_what_is_stored_is_what_the_format_says():
    """FORMAT.md section 16, once more from what every language has."""

    def derive(key, label, length):
        extracted = hmac.digest(bytes(32), key, "sha256")
        return hmac.digest(extracted, label.encode() + b"\x01", "sha256")[:length]

    directory_id, row, nonce = b"d" * 16, b"r" * 32, bytes(range(12))
    sealer = Sealer(KEY, directory_id, random=lambda size: nonce[:size])
    lookup = derive(KEY, "sealbox/1/directory-lookup", 32)
    said = directory_id.hex().encode() + b"\0address\0" + "änne@bücher.example".encode()
    assert sealer.hashed("address", "änne@bücher.example") == hmac.digest(lookup, said, "sha256")
    key_id = derive(KEY, "sealbox/1/directory-key-id", 8)
    assert sealer.key_id == key_id
    data = b"sealbox/1/directory-row\0" + key_id + directory_id + b"domain\0" + (258).to_bytes(8, "big") + row
    text = '{"name":"bücher.example","quota_bytes":null}'.encode()
    rows = AESGCM(derive(KEY, "sealbox/1/directory-rows", 32))
    sealed = nonce + rows.encrypt(nonce, text + b" " * (128 - len(text)), data)
    value = {"name": "bücher.example", "quota_bytes": None}
    assert sealer.seal(pg_schema.Place("domain", row, 258), value) == sealed
    assert PostgresPlace("").cluster_key(KEY) == derive(KEY, "sealbox/1/directory-cluster", 32)


def test_records_survive_sealing():
    """All fields."""
    pop3 = Pop3Settings("Archive", True, True, 5)
    full = replace(record(quota=3), disabled=True, pop3=pop3, public_key=PublicKey(bytes(1216)))
    assert account_of(account_value(full), 9) == replace(full, domain_quota_bytes=9)
