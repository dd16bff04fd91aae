"""Addresses to accounts, aliases, domains, login names; several threads and processes at once."""

import multiprocessing
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailstore.account import init_root, open_directory, read_server_key
from mailstore.directory import AccountRecord, Alias, EmbeddedDirectory
from mailstore.directory import embedded as directory_module
from mailstore.errors import (
    AccountExists,
    AddressInvalid,
    DomainInUse,
    NoSuchAccount,
    NoSuchAddress,
    NoSuchDomain,
    NotInitialised,
    ServerKeyLost,
    StorageFailed,
    TooNew,
)
from mailstore.keys import AccountId, PublicKey
from mailstore.model import Pop3Settings

JOE, ANN = AccountId("a" * 32), AccountId("b" * 32)


def record(account_id=JOE, name="joe@example.org", quota=None):
    """A directory entry."""
    return AccountRecord(account_id, name, PublicKey(b"key of " + account_id.encode()), 1, quota, 5, False)


@pytest.fixture
def root(tmp_path):
    """An empty data root."""
    init_root(tmp_path)
    return tmp_path


@pytest.fixture
def directory(root):
    """A directory with one account."""
    directory = open_directory(root)
    directory.add_account(record())
    yield directory
    directory.close()


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("joe@example.org", None),
        (b"joe@example.org", None),
        ("JOE@EXAMPLE.ORG", None),
        ("joe+lists@example.org", "lists"),
        ("Joe+Lists.Python@Example.Org", "Lists.Python"),
        ("joe+a+b@example.org", "a+b"),
        ("joe+@example.org", None),
    ],
)
def test_resolve(directory, address, hint):
    """Case does not count; the detail is handed on as written."""
    recipient = directory.resolve(address)
    assert (recipient.account_id, recipient.mailbox_hint) == (JOE, hint)
    assert recipient.public_key == record().public_key


@pytest.mark.parametrize(
    "address",
    [
        "", "@", "joe", "joe@", "@example.org", "+x@example.org", "ann@example.org", "joe@example.com",
        "joe@example.org.", "joe@@example.org", " joe@example.org", "joe@example.org ", '"joe"@example.org',
        "joe\0@example.org", "joe@exam\0ple.org", "joe%@example.org", "jo_@example.org", "joe:x@example.org",
        "j" * 65 + "@example.org", "joe@" + "x" * 64 + ".org", "joe@" + "x." * 200 + "org", "x" * 10**6,
        b"\xff@example.org", "joe@-example.org", "joe\n@example.org", "\ud800@example.org", "..@example.org",
        "' OR 1=1 --@example.org", "joe@[127.0.0.1]",
    ],
)  # fmt: skip
def test_odd_addresses_are_unknown(directory, address):
    """Whatever a peer sends, the answer is an address or nothing."""
    assert directory.resolve(address) is None


@pytest.mark.parametrize("name", ["joe", "JOE", b"joe", "joe@example.org", "Joe@Example.ORG"])
def test_login(directory, name):
    """An account is called by its address, or by the bare name in the default domain."""
    assert directory.login(name).account_id == JOE


@pytest.mark.parametrize(
    "name", ["", "joe+x", "joe@", "@", "info", "joe\0", b"\xff", "j" * 10**6, "joe@example.com"]
)
def test_odd_login_names_are_unknown(directory, name):
    """Details and aliases are not login names."""
    directory.add_alias("info@example.org", JOE)
    assert directory.login(name) is None


def test_bare_name_without_default_domain(root):
    """Before there is a domain no bare name means anything."""
    directory = open_directory(root)
    assert directory.login("joe") is None
    directory.close()


def test_default_domain(directory):
    """The first domain is the default until another is chosen."""
    directory.add_domain("example.com")
    assert directory.default_domain() == "example.org"
    directory.set_default_domain("EXAMPLE.com")
    assert directory.login("joe") is None
    with pytest.raises(NoSuchDomain):
        directory.set_default_domain("example.net")


def test_registered_plus_goes_first(directory):
    """An address registered with its + is not a detail of another."""
    directory.add_account(record(ANN, "joe+ann@example.org"))
    assert directory.resolve("joe+ann@example.org").account_id == ANN
    assert directory.resolve("joe+bob@example.org").account_id == JOE


def test_international_names(directory):
    """Local parts and domains in UTF-8 compare in NFC without case (RFC 6531)."""
    directory.add_account(record(ANN, "Änne@Bücher.example"))
    assert directory.resolve("a\u0308NNE@bu\u0308CHER.example").account_id == ANN
    assert directory.domains() == ["bücher.example", "example.org"]


def test_aliases(directory):
    """Aliases lead to the account, can be listed and removed; account names cannot be removed so."""
    directory.add_alias("Info@example.org", JOE)
    assert directory.aliases() == [Alias("info@example.org", "joe@example.org")]
    assert directory.aliases(ANN) == []
    assert directory.resolve("info+x@example.org").mailbox_hint == "x"
    directory.remove_alias("INFO@example.org")
    for address in ("info@example.org", "joe@example.org", "", "x"):
        with pytest.raises(NoSuchAddress):
            directory.remove_alias(address)


def test_alias_refusals(directory):
    """Taken, unknown domain, unknown account, malformed."""
    with pytest.raises(AccountExists):
        directory.add_alias("joe@example.org", JOE)
    with pytest.raises(NoSuchDomain):
        directory.add_alias("joe@example.com", JOE)
    with pytest.raises(NoSuchAccount):
        directory.add_alias("info@example.org", ANN)
    with pytest.raises(AddressInvalid):
        directory.add_alias("info", JOE)


def test_name_taken(directory):
    """Neither a name nor an alias can be an account's name again; nothing is half added."""
    directory.add_alias("info@example.org", JOE)
    for name in ("JOE@example.org", "info@example.org"):
        with pytest.raises(AccountExists):
            directory.add_account(record(ANN, name))
    with pytest.raises(AddressInvalid):
        directory.add_account(record(ANN, "ann"))
    assert [entry.account_id for entry in directory.accounts()] == [JOE]


def test_domains(directory):
    """A domain in use stays; an unused one goes; adding twice is fine."""
    directory.add_domain("Example.COM")
    directory.add_domain("example.com")
    with pytest.raises(DomainInUse):
        directory.remove_domain("example.org")
    directory.remove_domain("example.com")
    assert directory.domains() == ["example.org"]
    with pytest.raises(NoSuchDomain):
        directory.remove_domain("example.com")
    with pytest.raises(AddressInvalid):
        directory.add_domain("not a domain")


def test_removed_account(directory):
    """Its addresses go with it; removing it again is no error."""
    directory.add_alias("info@example.org", JOE)
    directory.remove_account(JOE)
    directory.remove_account(JOE)
    assert (directory.accounts(), directory.aliases(), directory.resolve("info@example.org")) == (
        [],
        [],
        None,
    )


def test_changing_a_record(directory):
    """Quota, lock and generation; the generation only grows unless a restore says so."""
    directory.set_quota(JOE, 10**12)
    directory.set_disabled(JOE, True)
    directory.advance_header_generation(JOE, 7)
    directory.advance_header_generation(JOE, 3)
    entry = directory.account(JOE)
    assert (entry.quota_bytes, entry.disabled, entry.header_generation) == (10**12, True, 7)
    assert directory.resolve("joe@example.org").disabled
    directory.set_header(JOE, PublicKey(b"other"), 2)
    assert directory.account(JOE).header_generation == 2
    with pytest.raises(NoSuchAccount):
        directory.set_quota(ANN, None)


def test_nothing_readable_on_disk(directory, root):
    """No file of the root shows an address, and nobody else may read any."""
    for path in root.rglob("*"):
        if path.is_file():
            assert b"joe" not in path.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        else:
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path.name


def test_wrong_server_key(directory, root):
    """Another key does not open the directory, and does not damage it."""
    with pytest.raises(StorageFailed):
        EmbeddedDirectory(root / "directory.db", bytes(32))
    assert directory.login("joe") is not None


def test_lost_server_key(root):
    """A missing key is not replaced beside an existing directory; a malformed one is refused."""
    (root / "server.key").rename(root / "elsewhere")
    with pytest.raises(StorageFailed):
        init_root(root)
    with pytest.raises(ServerKeyLost):
        open_directory(root)
    (root / "elsewhere").rename(root / "server.key")
    (root / "directory.db").rename(root / "elsewhere")
    with pytest.raises(NotInitialised):
        open_directory(root)
    (root / "server.key").write_bytes(b"short\n")
    with pytest.raises(StorageFailed):
        read_server_key(root)


def test_init_root_twice(root):
    """Initialising again keeps key and directory."""
    key = read_server_key(root)
    init_root(root)
    assert read_server_key(root) == key
    assert not list(root.glob(".*"))


def test_newer_directory(root):
    """A directory of a newer program is left alone."""
    directory = open_directory(root)
    with directory._change() as connection:
        connection.execute("PRAGMA user_version = 99")
    directory.close()
    with pytest.raises(TooNew):
        open_directory(root)


VERSION_1 = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE domain (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE account (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, public_key BLOB NOT NULL,
    header_generation INTEGER NOT NULL, quota_bytes INTEGER, created INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE address (
    name TEXT PRIMARY KEY, domain TEXT NOT NULL REFERENCES domain(name),
    account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX address_domain ON address(domain);
CREATE INDEX address_account ON address(account_id);
INSERT INTO domain VALUES('example.org');
INSERT INTO account VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'joe@example.org', x'0102', 3, 1000, 5, 1);
INSERT INTO account VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'ann@example.org', x'03', 1, NULL, 6, 0);
INSERT INTO address VALUES('joe@example.org', 'example.org', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO address VALUES('ann@example.org', 'example.org', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb');
PRAGMA user_version = 1
"""


@pytest.fixture
def version_1(tmp_path):
    """The file of a directory as version 1 left it, and its server's key."""
    key, path = os.urandom(32), tmp_path / "directory.db"
    empty = EmbeddedDirectory(path, key)
    raw_key = empty._raw_key
    empty.close()
    path.unlink()
    connection = directory_module._open(path, raw_key)
    for statement in VERSION_1.split(";"):
        connection.execute(statement)
    connection.close()
    return path, key


def test_a_directory_of_version_1_is_migrated(version_1):
    """All that was there is there; everybody uses POP3 as before, until it is set otherwise."""
    directory = EmbeddedDirectory(*version_1)
    assert directory.accounts() == [
        AccountRecord(ANN, "ann@example.org", PublicKey(b"\x03"), 1, None, 6, False),
        AccountRecord(JOE, "joe@example.org", PublicKey(b"\x01\x02"), 3, 1000, 5, True),
    ]
    assert directory.resolve("joe@example.org").account_id == JOE
    assert directory.account(JOE).pop3 == Pop3Settings()
    directory.set_pop3(JOE, Pop3Settings("Lists", True, True, 60))
    directory.close()
    directory = EmbeddedDirectory(*version_1)
    assert directory.login("joe@example.org").pop3 == Pop3Settings("Lists", True, True, 60)
    assert directory.account(ANN).pop3 == Pop3Settings()
    directory.close()


def test_a_migration_that_fails_leaves_version_1(version_1, monkeypatch):
    """It is one transaction: the next start does all of it."""
    monkeypatch.setattr(
        directory_module, "_MIGRATIONS", (VERSION_1, directory_module._VERSION_2 + "CREATE TABLE broken ()")
    )
    with pytest.raises(StorageFailed):
        EmbeddedDirectory(*version_1)
    monkeypatch.undo()
    directory = EmbeddedDirectory(*version_1)
    assert [one.name for one in directory.accounts()] == ["ann@example.org", "joe@example.org"]
    directory.close()


def test_pop3_settings(directory):
    """Set for one account alone; the largest delay is known without asking every account."""
    assert directory.largest_pop3_login_delay_s() == 0
    directory.add_account(record(ANN, "ann@example.org"))
    directory.set_pop3(ANN, Pop3Settings(login_delay_s=900))
    directory.set_pop3(JOE, Pop3Settings("Archive", dele_to_trash=True, login_delay_s=0))
    assert directory.largest_pop3_login_delay_s() == 900
    assert directory.account(JOE).pop3 == Pop3Settings("Archive", False, True, 0)
    directory.set_pop3(ANN, Pop3Settings())
    assert directory.largest_pop3_login_delay_s() == 0
    with pytest.raises(NoSuchAccount):
        directory.set_pop3(AccountId("c" * 32), Pop3Settings())


def test_threads(directory):
    """Many threads may use one directory at once."""

    def work(number):
        directory.add_alias(f"alias{number}@example.org", JOE)
        return directory.resolve(f"alias{number}@example.org").account_id

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(64))) == {JOE}
    assert len(directory.aliases()) == 64


def _add_aliases(root, first, count):
    init_root(root)
    directory = open_directory(root)
    directory.add_domain("example.org")
    if directory.account(JOE) is None:
        try:
            directory.add_account(record())
        except AccountExists:
            pass  # The other process was faster.
    for number in range(first, first + count):
        directory.add_alias(f"alias{number}@example.org", JOE)
    directory.close()


def test_processes_racing_from_the_first_start(tmp_path):
    """Several processes may create and fill one root at once: one server key, no lost change."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_aliases, args=(tmp_path / "root", 100 * n, 20)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    directory = open_directory(tmp_path / "root")
    assert len(directory.aliases()) == 60
    directory.close()


def test_no_addresses_in_repr(directory):
    """Records and recipients can be logged without telling whose they are."""
    directory.add_alias("info@example.org", JOE)
    shown = [directory.login("joe"), directory.resolve("joe+tag@example.org"), directory.aliases()]
    assert not [word for word in ("joe", "info", "example", "tag") if word in repr(shown)]


def test_a_change_is_announced_when_others_can_see_it(directory, monkeypatch):
    """Who watches the file looks at once, so the sign comes behind the commit."""
    other = open_directory(directory._path.parent)
    seen = []
    monkeypatch.setattr(os, "utime", lambda _path: seen.append(other.account(JOE).disabled))
    directory.set_disabled(JOE, True)
    other.close()
    assert seen == [True]
