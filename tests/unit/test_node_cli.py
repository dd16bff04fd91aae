"""sealbox node, and what other commands say of accounts of other nodes."""

from __future__ import annotations

import pytest
from command_world import PASSWORD, answer

from mailstore.directory import call_node

JOE = "joe@example.org"


@pytest.fixture
def named(joe, tmp_path):
    """Run, on a server that has an account and has got the name a since."""
    (tmp_path / "data" / "sealbox.toml").write_text('[node]\nname = "a"\n')
    yield joe
    call_node(tmp_path / "data", None)


def test_a_server_that_gets_a_name_claims_its_accounts(named):
    """Then it has them under a generation, and so has it each that is made later."""
    assert named("node", "claim")[0] == 3  # the directory does not know it yet
    assert answer(named("node", "add", "a", "192.0.2.1:2424", "--json")) == {
        "added": "a",
        "address": "192.0.2.1:2424",
    }
    assert "1 account of no node: see 'sealbox node claim'" in named("node", "list")[1]
    assert answer(named("node", "claim", "--json")) == {"node": "a", "claimed": 1, "left": 0}
    assert answer(named("node", "claim", "--json")) == {"node": "a", "claimed": 0, "left": 0}
    named("account", "add", "ann@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")
    [ann, joe] = answer(named("account", "list", "--json"))["accounts"]
    assert [(one["node"], one["node_generation"]) for one in (ann, joe)] == [("a", 1), ("a", 1)]
    assert answer(named("account", "show", JOE, "--json"))["node"] == "a"
    assert "node a (1)" in named("account", "show", JOE)[1]
    assert answer(named("node", "list", "--json")) == {
        "nodes": [{"name": "a", "address": "192.0.2.1:2424", "accounts": 2}], "this": "a", "without": 0
    }  # fmt: skip
    assert named("node", "remove", "a")[0] == 3
    assert named("recovery-key", JOE, "--password-stdin", stdin=f"{PASSWORD}\n")[0] == 0


def test_accounts_are_made_on_nodes_that_the_directory_knows(named):
    """What to do is said; without a name nothing has changed."""
    code, _out, err = named("account", "add", "ann@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (code, "sealbox node add NAME HOST:PORT" in err) == (3, True)
    assert "node" not in answer(named("account", "list", "--json"))["accounts"][0]


def test_nodes_say_where_a_proxy_reaches_them(joe):
    """What is not said again stays, until it is taken away."""
    doors = ("--imap", "192.0.2.1:1143", "--pop3", "192.0.2.1:1110", "--submission", "[2001:db8::1]:1587")
    said = answer(joe("node", "add", "a", "192.0.2.1:24", *doors, "--json"))
    places = {"imap": "192.0.2.1:1143", "pop3": "192.0.2.1:1110", "submission": "[2001:db8::1]:1587"}
    assert said == {"added": "a", "address": "192.0.2.1:24"} | places
    [node] = answer(joe("node", "list", "--json"))["nodes"]
    assert node == {"name": "a", "address": "192.0.2.1:24", "accounts": 0} | places
    assert "   submission of a proxy: [2001:db8::1]:1587\n" in joe("node", "list")[1]
    joe("node", "add", "a", "192.0.2.9:24", "--imap", "192.0.2.1:1144", "--pop3", "none")
    [node] = answer(joe("node", "list", "--json"))["nodes"]
    left = {"imap": "192.0.2.1:1144", "submission": "[2001:db8::1]:1587"}
    assert node == {"name": "a", "address": "192.0.2.9:24", "accounts": 0} | left
    code, _out, err = joe("node", "add", "a", "192.0.2.1:24", "--imap", "mail.example.org:143")
    assert (code, "IP:PORT" in err) == (3, True)


def test_without_a_name_nothing_is_claimed(joe):
    """The setting is named."""
    code, _out, err = joe("node", "claim")
    assert (code, "[node] name" in err) == (3, True)


COMMANDS = {
    "show": ("account", "show", JOE),
    "delete": ("account", "delete", JOE, "--yes"),
    "vacuum": ("account", "vacuum", JOE, "--password-stdin"),
    "check": ("account", "check", JOE, "--password-stdin"),
    "rekey": ("account", "rekey", JOE, "--password-stdin"),
    "passwd": ("account", "passwd", JOE, "--password-stdin"),
    "usage": ("account", "usage", JOE),
    "app passwords": ("app-password", "list", JOE),
    "recovery key": ("recovery-key", JOE, "--password-stdin"),
    "export": ("export", JOE, "--to", "maildir:/nowhere", "--password-stdin"),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_commands_refuse_an_account_of_another_node(named, tmp_path, arguments):
    """They say where to look, and leave its files alone."""
    for name in "ab":
        named("node", "add", name, "192.0.2.1:2424")
    named("node", "claim")
    (tmp_path / "data" / "sealbox.toml").write_text('[node]\nname = "b"\n')
    before = sorted((tmp_path / "data" / "accounts").rglob("*"))
    code, _out, err = named(*arguments, stdin=f"{PASSWORD}\n{PASSWORD}x\n")
    assert (code, "another node has this account" in err) == (3, True), err
    assert sorted((tmp_path / "data" / "accounts").rglob("*")) == before
    assert answer(named("account", "list", "--json"))["accounts"][0]["node"] == "a"


def test_a_wrong_name_is_a_mistake_of_the_configuration(joe, tmp_path):
    """It has to fit into a certificate."""
    (tmp_path / "data" / "sealbox.toml").write_text('[node]\nname = "A b"\n')
    code, _out, err = joe("account", "list")
    assert (code, "[node]" in err) == (2, True)
