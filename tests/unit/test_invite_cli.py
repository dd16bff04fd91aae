"""Invitations on the command line: links that work once, who may make them, and for how long."""

import re

import pytest
from command_world import PASSWORD, answer

from deploy.first_run import make_certificate


@pytest.fixture
def door(joe, tmp_path):
    """Run, with an account and settings that have the HTTPS door."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    (tmp_path / "data" / "sealbox.toml").write_text(
        f'data = "{tmp_path}/data"\nhostname = "mail.example.org"\n[listen]\nhttps = ["127.0.0.1:8443"]\n'
        f'[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n',
        "utf-8",
    )
    return joe


def test_an_invitation_is_printed_listed_and_revoked(door):
    """The link alone is on standard output; the list shows no secret and needs none."""
    code, out, err = door("invite", "joe", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert code == 0
    found = re.fullmatch(r"https://mail\.example\.org/invite/([0-9a-z]{8})([0-9a-z]{32})\n", out)
    assert found is not None
    assert err == f"sealbox: invitation {found[1]}; the link is not shown again\n".removeprefix("sealbox: ")
    listed = door("invite", "--list")[1]
    assert listed.startswith(f"{found[1]}  joe@example.org  'invitation'  until 20")
    assert found[2] not in listed
    assert answer(door("invite", "joe", "--list", "--json"))["invitations"][0]["id"] == found[1]
    assert door("invite", "--revoke", found[1])[0] == 0
    assert answer(door("invite", "--list", "--json")) == {"invitations": []}
    code, _out, err = door("invite", "--revoke", found[1])
    assert (code, err) == (
        3,
        "sealbox: there is no such invitation: it was used, has run out, or see 'sealbox invite --list'\n",
    )


@pytest.mark.parametrize("valid", ["", "1", "h", "-1h", "31d", "0m", "99999d", "1w", "1h30m"])
def test_a_time_that_is_none_is_refused(door, valid):
    """Before a secret is asked for."""
    code, _out, err = door("invite", "joe", "--valid", valid, "--password-stdin")
    assert (code, err) == (2, "sealbox: --valid is a time like 30m, 24h or 7d, up to 30d\n")


@pytest.mark.parametrize(
    ("valid", "seconds"), [("30m", 1800), ("24h", 86_400), ("7d", 604_800), (None, 86_400)]
)
def test_how_long_a_link_works(door, valid, seconds):
    """Or what invitation_valid_s says."""
    more = [] if valid is None else ["--valid", valid]
    made = answer(door("invite", "joe", "--json", *more, "--password-stdin", stdin=f"{PASSWORD}\n"))
    listed = answer(door("invite", "--list", "--json"))["invitations"][0]
    assert (listed["id"], listed["not_after"]) == (made["id"], made["not_after"])
    assert listed["not_after"] - listed["created"] == seconds


def test_a_link_is_for_what_is_offered(door, tmp_path):
    """Its user could set up nothing with it otherwise; said before a secret is asked for."""
    config = tmp_path / "data" / "sealbox.toml"
    config.write_text(config.read_text("utf-8") + "[setup]\npop3_port = 0\n", "utf-8")
    code, _out, err = door("invite", "joe", "--protocol", "pop3", "--protocol", "imap", "--password-stdin")
    assert (code, err) == (2, "sealbox: not offered here: pop3; its port in [setup] is 0\n")
    assert door("invite", "joe", "--protocol", "imap", "--password-stdin", stdin=f"{PASSWORD}\n")[0] == 0


@pytest.mark.parametrize("command", [("invite", "joe"), ("app-password", "add", "joe", "--label", "x")])
def test_a_protocol_that_there_is_not_is_not_offered(door, command):
    """No server here speaks it; it is a scope that keyslots can have already."""
    assert "[imap|pop3|smtp]" in door(*command, "--help")[1]
    assert door(*command, "--protocol", "dav", "--password-stdin")[0] == 2


def test_who_may_not_invite(door):
    """A wrong password, an app password; and a server without the door tells so."""
    app = answer(
        door(
            "app-password", "add", "joe", "--label", "x", "--json", "--password-stdin", stdin=f"{PASSWORD}\n"
        )
    )
    for secret in ("wrong", app["app_password"]):
        assert door("invite", "joe", "--password-stdin", stdin=f"{secret}\n")[0] == 4
    assert door("invite")[0] == 2
    assert answer(door("invite", "--list", "--json")) == {"invitations": []}


def test_without_a_door_there_is_no_link(joe, tmp_path):
    """Nothing is made: neither an invitation nor an account that nobody could open."""
    for arguments in (["invite", "joe"], ["account", "add", "ann@example.org", "--invite"]):
        code, _out, err = joe(*arguments)
        assert (code, err) == (2, "sealbox: a link needs the configuration: see 'sealbox check-config'\n")
    assert joe("account", "show", "ann@example.org")[0] == 3
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    (tmp_path / "data" / "sealbox.toml").write_text(
        f'data = "{tmp_path}/data"\n[tls]\ncertificate = "{tmp_path}/c.pem"\n'
        f'private_key = "{tmp_path}/k.pem"\n'
    )
    code, _out, err = joe("account", "add", "ann@example.org", "--invite")
    assert (code, err) == (
        2, "sealbox: there is no HTTPS door to open a link: set 'https' in [listen] and restart\n",
    )  # fmt: skip


def test_a_new_account_by_link(door):
    """Nobody knows its password; the list says that the link is for its owner."""
    code, out, err = door("account", "add", "ann@example.org", "--invite", "--quota", "1G")
    assert code == 0
    found = re.fullmatch(r"https://mail\.example\.org/welcome/([0-9a-z]{8})[0-9a-z]{32}\n", out)
    assert found is not None
    assert "ann@example.org added" in err
    assert answer(door("account", "show", "ann@example.org", "--json"))["quota_bytes"] == 2**30
    (listed,) = answer(door("invite", "ann@example.org", "--list", "--json"))["invitations"]
    assert (listed["id"], listed["new_account"]) == (found[1], True)
    assert door("account", "add", "ann@example.org", "--invite")[0] == 3
    assert door("account", "delete", "ann@example.org", "--yes")[0] == 0
    assert answer(door("invite", "--list", "--json")) == {"invitations": []}
