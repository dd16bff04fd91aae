"""What commands say to somebody who sees them for the first time: what is meant, and the next step."""

import pytest
from command_world import PASSWORD, answer

LISTS = {
    "accounts": (("account", "list"), "sealbox account add ADDRESS"),
    "domains": (("domain", "list"), "sealbox domain add NAME"),
    "aliases": (("alias", "list"), "sealbox alias add ADDRESS ACCOUNT"),
    "nodes": (("node", "list"), "sealbox node add NAME HOST:PORT"),
    "invitations": (("invite", "--list"), "sealbox invite ACCOUNT"),
}


@pytest.mark.parametrize(("command", "next_step"), LISTS.values(), ids=LISTS)
def test_an_empty_list_says_so_and_how_to_fill_it(run, command, next_step):
    """Beside standard output, which a program reads; a program is told by JSON."""
    run("domain", "add", "example.org")
    run("domain", "delete", "example.org")
    code, out, err = run(*command)
    assert (code, out) == (0, "")
    assert err.startswith("there are no ") and f"'{next_step}'" in err
    assert run(*command, "--json")[2] == ""


def test_a_list_that_is_not_empty_says_nothing_besides(joe):
    """Nor one of app passwords, once there is one."""
    assert "there are no app passwords" in joe("app-password", "list", "joe")[2]
    add = ("app-password", "add", "joe", "--label", "phone", "--password-stdin")
    assert joe(*add, stdin=PASSWORD)[0] == 0
    for command in (("account", "list"), ("domain", "list"), ("app-password", "list", "joe")):
        assert joe(*command)[2] == ""


def test_what_no_size_is_meant_by(joe):
    """0 is no word for 'as much as you like', and 'unlimited' is none either."""
    for command in (("account", "limit", "joe"), ("domain", "limit", "example.org")):
        code, _out, err = joe(*command, "--quota", "unlimited")
        assert (code, "'none' for no limit, or 'default'" in err) == (2, True)
        assert "with a limit of 0 no mail is taken; 'none' is no limit" in joe(*command, "--quota", "0")[2]
        assert joe(*command, "--quota", "none")[2] == ""
    added = joe("account", "add", "a@b.c", "--quota", "none", "--password-stdin", "--json", stdin=PASSWORD)
    assert answer(added)["limit_from"] == "account"


def test_usage_compares_mail_with_the_limit_and_not_the_disk(joe):
    """Files are larger than the mail in them, or smaller."""
    joe("account", "limit", "joe", "--quota", "2G")
    assert joe("account", "usage", "joe")[1].startswith(
        "joe@example.org  mail 0 B of 2.00 GiB; on disk 0 B (database 0 B, log 0 B, search 0 B, inbox 0 B), "
    )
    assert answer(joe("account", "usage", "--json"))["accounts"][0]["mail_bytes"] == 0


def test_app_passwords_of_one_label_are_told_apart(joe):
    """Somebody who has a new telephone should know which one is the old one's."""
    add = ("app-password", "add", "joe", "--label", "phone", "--password-stdin")
    _code, _out, err = joe(*add, stdin=PASSWORD)
    first = err.split()[1].rstrip(";")
    assert "labelled so" not in err
    assert f"other app passwords are labelled so, too: {first};" in joe(*add, stdin=PASSWORD)[2]
    ids = [one["id"] for one in answer(joe("app-password", "list", "joe", "--json"))["app_passwords"]]
    code, _out, err = joe("app-password", "revoke", "joe", "phone")
    assert (code, f"is a label, and one is revoked by its id: {', '.join(ids)}" in err) == (3, True)
    code, _out, err = joe("app-password", "revoke", "joe", first)
    assert (code, "give the password or recovery key with --password-stdin" in err) == (2, True)
    assert joe("app-password", "revoke", "joe", first, "--password-stdin", stdin=PASSWORD)[0] == 0


def test_an_export_needs_a_folder(joe, tmp_path):
    """It is not the disk that is full."""
    for command in ("export", "key"):
        code, _out, err = joe("directory", command, str(tmp_path / "no" / "file"))
        assert (code, f"there is no folder {tmp_path / 'no'}: make it first" in err) == (3, True)
    (tmp_path / "file").write_text("")
    code, _out, err = joe("directory", "export", str(tmp_path / "file" / "x"))
    assert (code, "there is no folder" in err) == (3, True)
    said = joe("directory", "export", str(tmp_path / "new"))[1]
    assert said == f"1 domain, 1 account, 0 aliases written to {tmp_path / 'new'}\n"


def test_a_node_of_a_directory_that_nobody_shares_is_odd(joe):
    """The others would never see it."""
    assert "put it into PostgreSQL first" in joe("node", "add", "a", "192.0.2.1:24")[2]
    assert joe("node", "add", "a", "192.0.2.1:24", "--json")[2] == ""


def test_nothing_is_said_of_snapshots_where_none_are_taken(joe):
    """Neither that they are under an old key, nor of the key that signs them."""
    rekeyed = ("account", "rekey", "joe", "--password-stdin")
    assert "snapshot" not in "".join(map(str, joe(*rekeyed, stdin=PASSWORD)))
    assert answer(joe(*rekeyed, "--json", stdin=PASSWORD))["old_snapshots_until"] is None
    said = joe("server-key", "rotate")[1].splitlines()
    assert said == ["the server has a new key, and everything is under it", "start the server again"]
