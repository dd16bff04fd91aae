"""The directory in PostgreSQL: what its owner sees, what keeps a node out, and several nodes at once."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from directory_worlds import ANN, JOE, record
from postgresql_world import KEY, LIMITS, eventually, listen, make_site

from mailstore.directory import Contents, DomainLimits, PostgresPlace, pg_schema, places
from mailstore.directory.postgresql import PostgresDirectory, is_made_in, make_in
from mailstore.errors import (
    AccountExists,
    DatabaseDamaged,
    DirectoryEmpty,
    DirectoryKeyWrong,
    DirectoryOutdated,
    DirectoryRefused,
    DirectoryUnavailable,
    DomainInUse,
    NoSuchDomain,
    TooNew,
)
from mailstore.keys import AccountId
from mailstore.model import Pop3Settings


@pytest.fixture
def site(postgresql):
    """A new directory."""
    yield from make_site(postgresql)


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
