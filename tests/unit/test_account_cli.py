"""The commands: secrets from standard input only, JSON on request, exit codes, one clear sentence."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from command_world import PASSWORD, answer

from deploy.cli import sentences
from deploy.cli.main import main
from deploy.cli.man_pages import commands_of
from deploy.cli.root import explain
from deploy.texts import size_text
from mailstore.account import open_directory
from mailstore.errors import StoreError

NEW_PASSWORD = "staple battery horse"


def test_damaged_waiting_mail_is_shown(joe):
    """A message that cannot be opened waits for the operator, and is said to be there."""
    folder = Path(answer(joe("account", "show", "joe", "--json"))["folder"])
    assert "\ndamaged" not in joe("account", "show", "joe")[1]
    (folder / "inbox" / "0123456789abcdef-0123456789abcdef.damaged").write_bytes(b"x")
    assert answer(joe("account", "show", "joe", "--json"))["damaged_messages"] == 1
    said = joe("account", "show", "joe")[1]
    assert "damaged  1 in inbox/*.damaged: see deploy/OPERATIONS.md" in said


def test_progress_of_the_search_index_is_shown(joe):
    """As far as it can be known without the account's key, which is two counts at most."""
    folder = Path(answer(joe("account", "show", "joe", "--json"))["folder"])

    def shown():
        return joe("account", "show", "joe")[1].split("\nsearch   ")[1].split("\n")[0]

    none = answer(joe("account", "show", "joe", "--json"))["search_index"]
    assert none == {"state": "none", "indexed": None, "messages": None}
    assert shown() == "no index yet: it is made while the account is open"
    (folder / "search.db").write_bytes(b"")
    assert shown() == "some messages are not indexed yet"
    (folder / "search.db-progress").write_bytes(b"000000000000 000000000000\n")
    assert shown() == "all messages were indexed when the index was last filled"
    (folder / "search.db-progress").write_bytes(b"")
    assert shown() == "some messages are not indexed yet"
    (folder / "search.db-progress").write_bytes(b"000000000012 000000000345\n")
    some = answer(joe("account", "show", "joe", "--json"))["search_index"]
    assert some == {"state": "partial", "indexed": 12, "messages": 345}
    assert shown() == "12 of 345 messages are indexed; more while the account is open"


def test_add_list_show(joe):
    """An account is added with its domain and can be seen."""
    added = answer(joe("account", "list", "--json"))["accounts"][0]
    assert added["name"] == "joe@example.org"
    shown = answer(joe("account", "show", "joe", "--json"))
    assert shown["account"] == added["account"]
    assert [slot["kind"] for slot in shown["keyslots"]] == ["password"]
    domains = answer(joe("domain", "list", "--json"))
    assert domains == {"domains": ["example.org"], "default": "example.org", "limits": {}}
    for arguments in (("account", "list"), ("account", "show", "joe"), ("domain", "list")):
        assert "example.org" in joe(*arguments)[1]


def test_quota(run):
    """Sizes are read with their unit."""
    added = run(
        "account", "add", "a@b.c", "--quota", "2G", "--password-stdin", "--json", stdin=PASSWORD + "\r\n"
    )
    assert answer(added)["quota_bytes"] == 2 * 2**30
    code, _out, err = run("account", "add", "d@b.c", "--quota", "much", "--password-stdin")
    assert (code, err[:60]) == (2, "sealbox: that is not a size: write it like 500M or 2G, 'none'"[:60])


def test_limits_of_account_and_domain(joe, tmp_path):
    """Set at any time; 'none' and 'default' are different things, and it is shown who has set it."""

    def shown():
        of_all = answer(joe("account", "usage", "--json"))["accounts"][0]
        of_one = answer(joe("account", "show", "joe", "--json"))
        assert of_one["limit_bytes"] == of_all["limit_bytes"]
        return of_one["quota_bytes"], of_one["limit_bytes"], of_one["limit_from"]

    def limit(kind, name, size):
        return answer(joe(kind, "limit", name, "--quota", size, "--json"))

    assert shown() == (None, None, None)
    limit("domain", "example.org", "2G")
    assert shown() == (None, 2 * 2**30, "domain")
    assert "2.00 GiB (by its domain)" in joe("account", "list")[1]
    assert "example.org  (default)  2.00 GiB for each account without its own" in joe("domain", "list")[1]
    assert limit("account", "joe", "500M")["limit_bytes"] == 500 * 2**20
    assert shown() == (500 * 2**20, 500 * 2**20, "account")
    limit("account", "joe", "none")
    assert shown() == (None, None, "account")
    limit("account", "joe", "default")
    limit("domain", "example.org", "default")
    (tmp_path / "data" / "sealbox.toml").write_text("[store]\nquota_bytes = 7168\n")
    assert shown() == (None, 7168, "server")
    for wrong, words in (("much", "that is not a size"), ("9" * 12 + "T", "more than any disk has")):
        code, _out, err = joe("account", "limit", "joe", "--quota", wrong)
        assert (code, words in err) == (2, True)
    assert joe("domain", "limit", "example.net", "--quota", "1G")[0] == 3


def test_a_domain_has_no_more_than_it_may(joe):
    """What is there stays; one more is refused with what to do, and leaves no folder."""
    limited = answer(joe("domain", "limit", "example.org", "--accounts", "1", "--aliases", "0", "--json"))
    assert limited == {"name": "example.org", "quota_bytes": None, "accounts": 1, "aliases": 0}
    text = "example.org  (default)  the server's quota for each account without its own, 1 account at most"
    assert joe("domain", "list")[1] == f"{text}, 0 aliases at most\n"
    added = joe("account", "add", "ann@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")
    for code, _out, err in (added, joe("alias", "add", "info@example.org", "joe")):
        assert (code, "'sealbox domain limit' raises it" in err) == (3, True)
    folder = Path(answer(joe("account", "show", "joe", "--json"))["folder"])
    assert [one for two in folder.parent.parent.iterdir() for one in two.iterdir()] == [folder]
    joe("domain", "limit", "example.org", "--accounts", "none", "--aliases", "none")
    assert answer(joe("domain", "list", "--json"))["limits"] == {}
    assert joe("alias", "add", "info@example.org", "joe")[0] == 0
    for wrong in ((), ("--accounts", "many"), ("--aliases", "-1")):
        assert joe("domain", "limit", "example.org", *wrong)[0] == 2


def test_a_young_account_is_held(joe, tmp_path, monkeypatch):
    """Where the operator has said so: nobody removes the traces of abuse by one command."""
    config = tmp_path / "data" / "sealbox.toml"
    config.write_text("[accounts]\ndeletion_hold_days = 14\n")
    code, _out, err = joe("account", "delete", "joe", "--yes")
    assert code == 3
    assert "the account is held until" in err and "--confirm-hold deletes it now" in err
    assert answer(joe("account", "show", "joe", "--json"))["name"] == "joe@example.org"
    config.write_text("[accounts]\ndeletion_hold_days = -1\n")
    code, _out, err = joe("account", "delete", "joe", "--yes")
    assert (code, "[accounts] is wrong" in err) == (2, True)
    config.write_text("[accounts]\ndeletion_hold_days = 14\n")
    made = answer(joe("account", "show", "joe", "--json"))["created"]
    with monkeypatch.context() as later:
        later.setattr("deploy.cli.account.time.time", lambda: made + 14 * 86_400 + 1)
        code, _out, err = joe("account", "delete", "joe")
        assert "there is no terminal to ask on" in err  # it is no longer held, and asks as ever
    assert answer(joe("account", "delete", "joe", "--yes", "--confirm-hold", "--json"))["deleted"]


def test_no_account_is_held_by_default(joe):
    """A user's wish that everything goes is followed at once."""
    assert answer(joe("account", "delete", "joe", "--yes", "--json"))["deleted"] == "joe@example.org"


def test_a_name_without_a_domain_is_completed(run, joe):
    """What to type is said, before a password is asked for."""
    code, _out, err = joe("account", "add", "ada", "--password-stdin")
    said = "sealbox: an account's name is a whole address: type 'sealbox account add ada@example.org'\n"
    assert (code, err) == (3, said)


def test_where_there_are_no_data_it_is_said_where(run, tmp_path):
    """The wrong --data is the most likely reason."""
    code, _out, err = run("account", "list")
    where = tmp_path / "data"
    assert (code, err) == (
        3,
        f"sealbox: there is no data in {where} yet: check --data, or add the first account\n",
    )
    said = "sealbox: an account's name is a whole address: type 'sealbox account add ada@example.org'\n"
    assert run("account", "add", "ada", "--password-stdin")[2] == said


def test_a_short_password_is_a_note(run):
    """It was taken, and does not look like an error."""
    code, _out, err = run("account", "add", "ada@example.org", "--password-stdin", stdin="short\n")
    assert code == 0
    note = "note: the password was taken, but it is short; 8 characters or more protect the mail better\n"
    assert err.startswith(note)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (5 * 2**30, "5.00 GiB")]
)
def test_sizes_for_people(size, text):
    """Whole octets have no fractions."""
    assert size_text(size) == text


def test_password_change(joe):
    """First line the current secret, second the new one; the old one stops working."""
    both = f"{PASSWORD}\n{NEW_PASSWORD}\n"
    assert answer(joe("account", "passwd", "joe", "--password-stdin", "--json", stdin=both))["changed"]
    code, _out, err = joe("account", "passwd", "joe", "--password-stdin", stdin=both)
    assert (code, err) == (4, "sealbox: wrong name or secret: check both and try again\n")


def test_recovery_key_is_a_way_back(joe):
    """Printed once; accepted as the current secret in any spelling; a typo is told."""
    made = joe("recovery-key", "joe", "--password-stdin", stdin=PASSWORD)
    assert made[0] == 0
    key = made[1].strip()
    both = f"{key.upper().replace('-', '')}\n{NEW_PASSWORD}\n"
    assert joe("account", "passwd", "joe", "--password-stdin", stdin=both)[0] == 0
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    code, _out, err = joe("recovery-key", "joe", "--password-stdin", stdin=wrong)
    assert (code, err) == (4, "sealbox: the recovery key has a typing error: compare it with your print\n")
    again = answer(joe("recovery-key", "joe", "--password-stdin", "--json", stdin=NEW_PASSWORD))
    assert again["recovery_key"] != key
    assert joe("recovery-key", "joe", "--password-stdin", stdin=key)[0] == 4


def test_app_passwords(joe):
    """Add with a scope, list without a secret, revoke; an app password administers nothing."""
    added = answer(
        joe("app-password", "add", "joe", "--label", "phone", "--protocol", "imap", "--protocol", "smtp",
            "--read-only", "--until", "2030-12-31", "--password-stdin", "--json", stdin=PASSWORD)
    )  # fmt: skip
    assert (added["protocols"], added["read_only"], added["not_after"]) == (
        ["imap", "smtp"],
        True,
        1924991999,
    )
    listed = answer(joe("app-password", "list", "joe", "--json"))["app_passwords"]
    assert listed == [{name: added[name] for name in listed[0]}]
    assert "phone" in joe("app-password", "list", "joe")[1]
    code, _out, err = joe("recovery-key", "joe", "--password-stdin", stdin=added["app_password"])
    assert (code, err) == (4, "sealbox: this secret may not do that: use the password or the recovery key\n")
    revoke = ("app-password", "revoke", "joe", added["app_password"][:9], "--password-stdin")
    assert answer(joe(*revoke, "--json", stdin=PASSWORD)) == {"revoked": added["id"]}
    assert joe(*revoke, stdin=PASSWORD)[0] == 3
    assert answer(joe("app-password", "list", "joe", "--json")) == {"app_passwords": []}


def test_a_day_that_is_over_ends_no_app_password(joe):
    """It would never open anything."""
    add = ("app-password", "add", "joe", "--label", "x", "--until", "2020-01-01", "--password-stdin")
    code, _out, err = joe(*add, stdin=PASSWORD)
    assert code == 2
    assert "that day is over" in err


def test_password_slot_is_no_app_password(joe):
    """Revoking goes for app passwords only."""
    slot = answer(joe("account", "show", "joe", "--json"))["keyslots"][0]["id"]
    assert joe("app-password", "revoke", "joe", slot, "--password-stdin", stdin=PASSWORD)[0] == 3


def test_aliases_and_domains(joe):
    """Aliases need their domain; a domain in use stays."""
    assert joe("alias", "add", "joe@example.com", "joe")[0] == 3
    assert answer(joe("domain", "add", "example.com", "--json"))["default"] == "example.org"
    assert joe("alias", "add", "joe@example.com", "joe")[0] == 0
    expected = {"aliases": [{"address": "joe@example.com", "account": "joe@example.org"}]}
    assert answer(joe("alias", "list", "--json")) == expected
    assert answer(joe("alias", "list", "joe", "--json")) == expected
    assert joe("domain", "delete", "example.com")[0] == 3
    assert joe("alias", "delete", "joe@example.com")[0] == 0
    assert joe("domain", "delete", "example.com")[0] == 0
    assert answer(joe("domain", "add", "example.net", "--default", "--json"))["default"] == "example.net"


def test_delete(joe):
    """Deleting asks, and says what is left and until when."""
    code, _out, err = joe("account", "delete", "joe")
    assert (code, err) == (2, "sealbox: there is no terminal to ask on: use --yes\n")
    gone = answer(joe("account", "delete", "joe", "--yes", "--json"))
    assert gone["deleted"] == "joe@example.org"
    assert gone["files_removed"] == 3
    assert [left["what"] for left in gone["left"]] == ["encrypted snapshots in the backup store"]
    assert gone["left"][0]["until"] > 1_700_000_000
    assert answer(joe("account", "list", "--json")) == {"accounts": []}
    code, out, err = joe("account", "delete", "joe", "--yes", "--json")
    assert (code, out) == (3, "")
    assert json.loads(err) == {
        "error": "there is no such account: see 'sealbox account list'",
        "exit_code": 3,
    }


def test_disable_and_enable(joe):
    """A disabled account cannot be administered by its owner until it is enabled."""
    assert answer(joe("account", "disable", "joe", "--json"))["disabled"]
    assert joe("recovery-key", "joe", "--password-stdin", stdin=PASSWORD)[0] == 4
    assert not answer(joe("account", "enable", "joe", "--json"))["disabled"]
    assert joe("recovery-key", "joe", "--password-stdin", stdin=PASSWORD)[0] == 0


def test_wrong_password_and_unknown_account_sound_the_same(joe):
    """The command that asks for a secret does not tell who exists."""
    wrong = joe("recovery-key", "joe", "--password-stdin", stdin="wrong password")
    unknown = joe("recovery-key", "nobody", "--password-stdin", stdin="wrong password")
    assert wrong == unknown


@pytest.mark.parametrize(("stdin", "code"), [("", 2), ("\n", 3), ("with a \0 inside\n", 3), ("x" * 5000, 3)])
def test_unusable_passwords(run, stdin, code):
    """Empty, missing, impossible: refused before anything is made."""
    assert run("account", "add", "joe@example.org", "--password-stdin", stdin=stdin)[0] == code


def test_no_terminal(joe):
    """Without a terminal and without --password-stdin there is nothing to ask."""
    code, _out, err = joe("recovery-key", "joe")
    assert (code, err) == (
        2,
        "sealbox: there is no terminal to ask on: give the password or recovery key with --password-stdin\n",
    )


def test_pop3_settings(joe):
    """Each is changed alone and shown; 'default' gives the delay back to the configuration."""
    default = {"maildrop": "INBOX", "retr_marks_seen": False, "dele_to_trash": False, "login_delay_s": None}
    assert answer(joe("account", "show", "joe", "--json"))["pop3"] == default
    changed = joe("account", "set", "joe", "--pop3-retr-seen", "--pop3-login-delay", "60", "--json")
    wanted = {**default, "retr_marks_seen": True, "login_delay_s": 60}
    assert answer(changed) == {"name": "joe@example.org", "pop3": wanted}
    assert answer(joe("account", "show", "joe", "--json"))["pop3"] == wanted
    assert "a login every 60 s at most" in joe("account", "show", "joe")[1]
    joe("account", "set", "joe", "--pop3-maildrop", "Lists/Daily/", "--pop3-dele-trash")
    shown = joe("account", "show", "joe")[1]
    assert "maildrop Lists/Daily; RETR marks as read; DELE moves to Trash" in shown
    joe("account", "set", "joe", "--no-pop3-retr-seen", "--no-pop3-dele-trash")
    back = joe("account", "set", "joe", "--pop3-maildrop", "inbox", "--pop3-login-delay", "default")
    assert back == (0, "account joe@example.org: pop3 maildrop INBOX; DELE removes for good\n", back[2])
    assert "has to exist" in back[2]
    assert answer(joe("account", "show", "joe", "--json"))["pop3"] == default


@pytest.mark.parametrize(
    "option", [("--pop3-login-delay", "86401"), ("--pop3-login-delay", "-1"), ("--pop3-maildrop", "a//b")]
)
def test_pop3_settings_that_make_no_sense(joe, option):
    """Nothing is changed."""
    before = joe("account", "show", "joe")
    assert joe("account", "set", "joe", *option)[0] == 2
    assert joe("account", "show", "joe") == before


def test_places(joe, tmp_path):
    """--data and --config on the group, on the command, in the environment; the nearest wins."""
    data = str(tmp_path / "data")
    config = tmp_path / "sealbox.toml"
    config.write_text(f'data = "{data}"\n')
    nowhere = str(tmp_path / "nowhere")
    listing = ("account", "list")
    assert joe(*listing, "--data", data, data=False)[0] == 0
    assert joe(*listing, "--config", str(config), data=False)[0] == 0
    assert joe("--config", str(config), *listing, data=False)[0] == 0
    assert joe(*listing, data=False, env={"SEALBOX_DATA": data})[0] == 0
    assert joe(*listing, data=False, env={"SEALBOX_CONFIG": str(config)})[0] == 0
    assert joe(*listing, "--config", str(config), data=False, env={"SEALBOX_DATA": nowhere})[0] == 0
    assert joe(*listing, "--data", nowhere)[0] == 3
    assert joe(*listing, "--config", nowhere, data=False)[0] == 2


def test_all_works_beside_an_open_directory(joe, tmp_path):
    """A running server holding the directory open is in nobody's way."""
    directory = open_directory(tmp_path / "data")
    assert directory.login("joe") is not None
    assert joe("alias", "add", "info@example.org", "joe")[0] == 0
    assert directory.resolve("info@example.org") is not None
    directory.close()


def leaves(command, path=()):
    """All commands below ``command`` with their path."""
    if isinstance(command, click.Group):
        return [leaf for name, child in commands_of(command) for leaf in leaves(child, (*path, name))]
    return [(path, command)]


OWN_GROUPS = {"account", "alias", "app-password", "domain", "recovery-key"}
LEAVES = [(path, command) for path, command in leaves(main) if path[0] in OWN_GROUPS]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _command in LEAVES])
def test_every_command_is_documented(run, path, command):
    """Help, exit codes, --json, --data and --config everywhere; no option takes a secret."""
    code, out, _err = run(*path, "--help")
    assert code == 0
    for text in ("--json", "--data", "--config", "Exit codes: 0 done"):
        assert text in out
    assert command.help
    for parameter in command.params:
        assert "password" not in parameter.name or parameter.is_flag


def all_errors(kind=StoreError):
    """Every class of the tree below StoreError."""
    return [kind, *(found for child in kind.__subclasses__() for found in all_errors(child))]


def test_every_error_this_module_can_meet_is_explained():
    """Sentences are lower case, without a full stop, and say what to do."""
    for kind, exit_code, sentence in sentences.SENTENCES:
        assert explain(kind()) == (sentence, exit_code)
        assert sentence[0].islower()
        assert not sentence.endswith(".")
    assert all(explain(kind())[0] for kind in all_errors())


def test_a_full_disk_is_named_with_its_volume_and_the_next_step(joe, monkeypatch):
    """Whoever reads it at night knows which disk, how full, and where to read on."""
    full = SimpleNamespace(f_blocks=1000, f_bavail=3, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    code, _out, err = joe("account", "list")
    assert code == 6
    said = (
        'the disk is full: make room and try again, see deploy/OPERATIONS.md, "The disk is full" (the data:'
    )
    assert said in err and ", 12 KiB free)" in err
