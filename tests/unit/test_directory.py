"""What every directory promises: addresses to accounts, aliases, domains, login names, news of changes.

It holds for all of ``KINDS``; what only one of them promises is tested beside this file.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from directory_worlds import ANN, JOE, KINDS, Reactor, record

from mailstore.changes import Watcher
from mailstore.directory import (
    Alias,
    Contents,
    Directory,
    DomainLimits,
    Doors,
    Node,
    door_for,
    lines_of,
    read_lines,
)
from mailstore.errors import (
    AccountExists,
    AddressInvalid,
    DirectoryNotEmpty,
    DomainInUse,
    NodeGenerationPast,
    NodeInUse,
    NodeNameInvalid,
    NoSuchAccount,
    NoSuchAddress,
    NoSuchDomain,
    NoSuchNode,
    StorageFailed,
)
from mailstore.keys import AccountId, PublicKey
from mailstore.model import Pop3Settings


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
    assert recipient.name == directory.account(recipient.account_id).name
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


@pytest.mark.parametrize("name", ["joe", b"JOE", "Joe@example.ORG"])
def test_all_spellings_of_a_login_name_mean_one(directory, name):
    """What counts attempts for an account goes by this, so it tells nothing of whether there is one."""
    assert directory.login_name(name) == "joe@example.org" == directory.login(name).name
    directory.remove_account(JOE)
    assert directory.login(name) is None
    assert directory.login_name(name) == "joe@example.org"
    assert directory.login_name("joe@") is None


def test_bare_name_without_default_domain(another):
    """Before there is a domain no bare name means anything."""
    directory = another()
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


def test_no_addresses_in_repr(directory):
    """Records and recipients can be logged without telling whose they are."""
    directory.add_alias("info@example.org", JOE)
    shown = [directory.login("joe"), directory.resolve("joe+tag@example.org"), directory.aliases()]
    assert not [word for word in ("joe", "info", "example", "tag") if word in repr(shown)]


def test_an_account_is_on_one_node_and_its_generation_only_grows(directory):
    """Whoever moves it has to know of the move before: of two at once, one is refused."""
    assert (directory.account(JOE).node, directory.account(JOE).node_generation) == (None, 0)
    directory.put_node(Node("b", "b.example.org:24"))
    directory.put_node(Node("a", "192.0.2.1:24"))
    directory.set_node(JOE, "a", 3)
    for found in (directory.account(JOE), directory.login("joe"), directory.resolve("joe+x@example.org")):
        assert (found.node, found.node_generation) == ("a", 3)
    for past in (3, 2, 0):
        with pytest.raises(NodeGenerationPast):
            directory.set_node(JOE, "b", past)
    with pytest.raises(NoSuchNode):
        directory.set_node(JOE, "c", 9)
    with pytest.raises(NoSuchAccount):
        directory.set_node(ANN, "b", 9)
    assert directory.account(JOE).node == "a"
    directory.set_quota(JOE, 5)
    directory.set_node(JOE, "b", 4)
    assert [(one.node, one.node_generation) for one in directory.accounts()] == [("b", 4)]


def test_nodes(directory):
    """They have addresses, which may change; a node with accounts stays, and accounts are of known ones."""
    directory.put_node(Node("b", "b.example.org:24"))
    directory.put_node(Node("a", "192.0.2.1:24"))
    directory.put_node(Node("b", "[2001:db8::2]:2424"))
    assert directory.nodes() == [Node("a", "192.0.2.1:24"), Node("b", "[2001:db8::2]:2424")]
    directory.set_node(JOE, "b", 1)
    with pytest.raises(NodeInUse):
        directory.remove_node("b")
    directory.remove_node("a")
    with pytest.raises(NoSuchNode):
        directory.remove_node("a")
    with pytest.raises(NoSuchNode):
        directory.add_account(replace(record(ANN, "ann@example.org"), node="a"))
    assert directory.nodes() == [Node("b", "[2001:db8::2]:2424")]


def test_doors_of_nodes(directory, another):
    """What is put is what the node has, and all of it."""
    some = Node("a", "a.example.org:24", Doors(imap="192.0.2.1:1143", submission="[2001:db8::1]:1587"))
    directory.put_node(some)
    directory.put_node(Node("b", "b.example.org:24", Doors(pop3="192.0.2.2:1110")))
    other = another()
    assert other.nodes() == [some, Node("b", "b.example.org:24", Doors(pop3="192.0.2.2:1110"))]
    other.close()
    directory.put_node(Node("a", "a.example.org:24", Doors(pop3="192.0.2.1:1110")))
    assert directory.nodes()[0].doors == Doors(None, "192.0.2.1:1110", None)


def test_a_login_is_sent_to_a_door_of_its_node(directory, caplog, monkeypatch):
    """One of a name that nobody has, too, and one of an account that no node has yet, always to the same."""
    monkeypatch.setattr("mailstore.directory.doors._tell_from_s", {})
    assert door_for(directory, b"joe", "imap") is None
    for name in "abc":
        directory.put_node(Node(name, "192.0.2.1:24", Doors(imap=f"192.0.2.{ord(name)}:1")))
    directory.set_node(JOE, "b", 1)
    for name in (b"joe", b"JOE@example.org", b"joe@example.org"):
        assert door_for(directory, name, "imap") == "192.0.2.98:1"
    strangers = {f"nobody{number}".encode() for number in range(40)}
    sent = {name: door_for(directory, name, "imap") for name in strangers}
    assert set(sent.values()) == {"192.0.2.97:1", "192.0.2.98:1", "192.0.2.99:1"}
    assert {name: door_for(directory, name.upper() + b"@EXAMPLE.org", "imap") for name in strangers} == sent
    directory.add_account(record(ANN, "nobody7@example.org"))
    assert door_for(directory, b"nobody7", "imap") == sent[b"nobody7"]
    assert door_for(directory, b"\xff", "imap") in sent.values()
    assert door_for(directory, b"joe", "pop3") is None
    assert "cannot be sent to node b with a login for pop3" in caplog.text
    assert "joe" not in caplog.text


ODD_DOORS = (
    "", "a.example.org:143", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "2001:db8::1:143",
    "[192.0.2.1]:143", "[fe80::1%eth0]:143", "192.0.2.1:143\n", "unix:/x", "192.0.2.1:\u0662",
)  # fmt: skip


@pytest.mark.parametrize("door", ODD_DOORS)
@pytest.mark.parametrize("kind", ["imap", "pop3", "submission"])
def test_odd_doors_are_refused(directory, kind, door):
    """A proxy connects to an address, and asks for no name."""
    with pytest.raises(NodeNameInvalid):
        directory.put_node(Node("a", "a.example.org:24", Doors(**{kind: door})))
    assert directory.nodes() == []


@pytest.mark.parametrize(
    "node",
    [
        Node("", "a:24"), Node("A", "a:24"), Node("a.b", "a:24"), Node("-a", "a:24"), Node("a" * 64, "a:24"),
        Node("a\n", "a:24"), Node("a", ""), Node("a", "host"), Node("a", "host:0"), Node("a", "host:65536"),
        Node("a", ":24"), Node("a", "ho st:24"), Node("a", "host:x"), Node("a", "host:24\n"),
        Node("a", "host:\u0662\u0664"), Node("a", "unix:/x"),
    ],
)  # fmt: skip
def test_odd_nodes_are_refused(directory, node):
    """A name is what certificates can have, an address what can be connected to."""
    with pytest.raises(NodeNameInvalid):
        directory.put_node(node)
    assert directory.nodes() == []


def test_a_name_that_nobody_has_seems_to_be_on_one_node_for_all(directory, another):
    """In each spelling, for each node that asks, and on each node some of them."""
    assert directory.seeming_node("nobody") is None
    for name in "abc":
        directory.put_node(Node(name, "192.0.2.1:24"))
    other, names = another(), [f"nobody{number}" for number in range(60)]
    seeming = {name: directory.seeming_node(name) for name in names}
    assert set(seeming.values()) == {"a", "b", "c"}
    assert {name: other.seeming_node(f"{name.upper()}@Example.org") for name in names} == seeming
    directory.remove_node("c")
    for name, before in seeming.items():
        assert before == "c" or directory.seeming_node(name) == before
    assert directory.seeming_node(b"\xff") in "ab"
    other.close()


CHANGES = {
    "an account": lambda directory: directory.add_account(record(ANN, "ann@example.org")),
    "an account that goes": lambda directory: directory.remove_account(JOE),
    "the lock": lambda directory: directory.set_disabled(JOE, True),
    "the quota": lambda directory: directory.set_quota(JOE, 5),
    "a domain's quota": lambda directory: directory.limit_domain("example.org", quota_bytes=5),
    "how many aliases a domain may have": lambda directory: directory.limit_domain("example.org", aliases=5),
    "POP3": lambda directory: directory.set_pop3(JOE, Pop3Settings("Lists")),
    "a header": lambda directory: directory.advance_header_generation(JOE, 7),
    "a restored header": lambda directory: directory.set_header(JOE, PublicKey(b"other"), 1),
    "an alias": lambda directory: directory.add_alias("info@example.org", JOE),
    "a domain": lambda directory: directory.add_domain("example.com"),
    "a node": lambda directory: directory.put_node(Node("a", "a.example.org:24")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_heard_of_in_other_processes_and_makes_a_new_version(directory, another, change):
    """Sessions of a disabled account end at once, and the snapshot job lists the accounts anew."""
    reactor, heard = Reactor(), []
    watcher = Watcher(reactor)
    other = another()
    other.on_change(watcher, lambda: heard.append(True))
    before = other.version()
    reactor.listen()
    assert heard == [] and directory.version() == before
    change(directory)
    assert directory.version() == other.version() != before
    until = time.monotonic() + 20
    while not heard and time.monotonic() < until:
        reactor.listen()
    assert heard == [True]
    watcher.stop()
    other.close()


def test_looking_is_no_change(directory, another):
    """Neither reading, nor opening and closing, nor a change that is refused makes a new version."""
    before = directory.version()
    directory.accounts()
    directory.login("joe")
    other = another()
    other.resolve("joe@example.org")
    other.close()
    with pytest.raises(NoSuchAccount):
        directory.set_quota(ANN, 5)
    with pytest.raises(AccountExists):
        directory.add_account(record())
    assert directory.version() == before


def test_a_directory_can_be_used_after_whatever_was_refused(directory):
    """A refusal leaves nothing half done, and no transaction open that would keep others out."""
    for _ in range(20):
        with pytest.raises(NoSuchDomain):
            directory.add_alias("joe@nowhere.example", JOE)
    directory.add_alias("info@example.org", JOE)
    assert directory.domains() == ["example.org"]


@pytest.mark.parametrize("other", KINDS)
def test_what_is_exported_fills_another_which_is_equal_then(directory, other, tmp_path, request):
    """From each kind to each: all that was asked of the one, the other answers in the same way."""
    directory.add_account(record(ANN, "Änne@Bücher.example", 10**12))
    directory.set_pop3(ANN, Pop3Settings("Archive", True, True, 60))
    directory.set_disabled(ANN, True)
    directory.add_domain("empty.example")
    directory.put_node(Node("a", "192.0.2.1:24"))
    directory.put_node(Node("b", "[2001:db8::2]:24", Doors("192.0.2.2:1143", None, "192.0.2.2:1587")))
    directory.set_node(ANN, "b", 7)
    directory.limit_domain("example.org", quota_bytes=50, accounts=0, aliases=99)
    directory.set_default_domain("bücher.example")
    for number in range(30):
        directory.add_alias(f"alias{number}@example.org", ANN)
    place = tmp_path / "other"
    place.mkdir()
    target = KINDS[other](place, request)()
    contents = read_lines(lines_of(directory.contents()))
    assert target.fill(contents)
    for asked in (
        Directory.accounts,
        Directory.aliases,
        Directory.domains,
        Directory.domain_limits,
        Directory.nodes,
        Directory.default_domain,
        Directory.largest_pop3_login_delay_s,
        Directory.contents,
    ):
        assert getattr(target, asked.__name__)() == getattr(directory, asked.__name__)()
    for name in ("änne", "joe@example.org"):
        assert target.login(name) == directory.login(name)
    for address in ("alias7+x@example.org", "joe@example.org", "nobody@example.org"):
        assert target.resolve(address) == directory.resolve(address)
    version = target.version()
    assert not target.fill(contents)
    assert target.version() == version
    target.add_alias("more@example.org", ANN)
    with pytest.raises(DirectoryNotEmpty):
        target.fill(contents)
    target.close()


def test_filling_is_all_or_nothing(another):
    """What cannot be there as a whole leaves an empty directory empty."""
    directory = another()
    twice = Contents(None, (("example.org", DomainLimits()),), (record(), record(ANN)), ())
    with pytest.raises((AccountExists, StorageFailed)):
        directory.fill(twice)
    assert directory.contents() == Contents.of(None, {}, [], [])
    directory.close()
