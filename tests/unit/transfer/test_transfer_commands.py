"""sealbox import and export: what they ask, say and refuse, and with which exit code."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from transfer_world import PASSWORD, TINY

from deploy.cli import root as root_module
from deploy.cli import transfer
from deploy.cli.main import main
from mailstore.transfer import imap_client

LINE = PASSWORD.decode() + "\n"
HARDENED: list[bool] = []
ADA = "ada@example.org"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run sealbox with a data root of its own and cheap Argon2; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr(root_module, "argon2_params", lambda _config, _data: TINY)
    monkeypatch.setattr(transfer, "process_hardening", lambda: HARDENED.append(True))

    def command(*arguments, stdin=LINE):
        result = CliRunner().invoke(main, ["--data", str(tmp_path / "data"), *arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    for name in (ADA, "bob@example.org"):
        assert command("account", "add", name, "--password-stdin")[0] == 0
    return command


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    """A Maildir with two messages."""
    for part in ("cur", "new", "tmp"):
        (tmp_path / "Maildir" / part).mkdir(parents=True)
    (tmp_path / "Maildir" / "cur" / "1.a:2,S").write_bytes(b"Subject: a\n\nA\n")
    (tmp_path / "Maildir" / "new" / "2.b").write_bytes(b"Subject: b\n\nB\n")
    return tmp_path / "Maildir"


def taken_in(run, place: str, *more: str, stdin=LINE):
    """Import into Ada's account."""
    return run("import", ADA, "--from", place, "--password-stdin", *more, stdin=stdin)


def test_in_and_out(run, maildir: Path, tmp_path: Path) -> None:
    """What is said for people, and in JSON."""
    code, out, _err = taken_in(run, f"maildir:{maildir}")
    assert (code, out) == (0, "2 messages imported, 34 B, in 1 mailbox; there already: 0\n")
    code, out, _err = taken_in(run, f"maildir:{maildir}", "--json")
    assert code == 0
    assert json.loads(out) == {
        "mailboxes": 1,
        "messages": 0,
        "size_bytes": 0,
        "already_there": 2,
        "older": 0,
        "deleted_in_source": 0,
        "keywords_left_out": 0,
        "unusable_count": 0,
        "unusable": [],
    }
    target = f"mbox:{tmp_path / 'out'}"
    code, out, err = run("export", ADA, "--to", target, "--password-stdin")
    assert code == 0
    assert out == f"exported to {target}: 2 messages in 6 mailboxes, 34 B\n"
    assert err == "it is not encrypted: keep it where only its owner can read it\n"
    code, out, _err = run("export", ADA, "--to", target, "--password-stdin", "--update", "--json")
    assert json.loads(out) == {
        "mailboxes": 6,
        "messages": 2,
        "size_bytes": 34,
        "written": 0,
        "gone_meanwhile": 0,
        "damaged_count": 0,
        "damaged": [],
    }
    code, out, _err = run(
        "import", "bob@example.org", "--from", f"mbox:{tmp_path / 'out'}", "--password-stdin"
    )
    assert (code, out) == (0, "2 messages imported, 34 B, in 6 mailboxes; there already: 0\n")


def test_damaged_messages_are_named_and_end_with_6(run, maildir: Path) -> None:
    """And everything else is imported."""
    os.mkfifo(maildir / "cur" / "3.c:2,S")
    code, out, err = taken_in(run, f"maildir:{maildir}")
    assert (code, out[:19]) == (6, "2 messages imported")
    assert err == "1 of 1: 'INBOX'\nnot imported: 'cur/3.c:2,S': no ordinary file\n"


@pytest.mark.parametrize("place", ["nothing", "maildir:", "mbox", "zip:x", ":x", "imap:x"])
def test_what_is_no_place_is_wrong_usage(run, place: str) -> None:
    """In both directions, before a password is asked for."""
    assert taken_in(run, place, stdin="")[2].startswith("sealbox: say where the mail is")
    code, _out, err = run("export", ADA, "--to", place, "--password-stdin", stdin="")
    assert (code, err[:20]) == (2, "sealbox: say where t")


def test_wrong_secrets_and_missing_sources(run, maildir: Path, tmp_path: Path) -> None:
    """Exit codes as everywhere: 4 for a wrong secret, 3 for what is not there."""
    assert taken_in(run, f"maildir:{maildir}", stdin="wrong\n")[0] == 4
    assert taken_in(run, f"maildir:{tmp_path / 'nothing'}")[0] == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert run("export", ADA, "--to", f"mbox:{tmp_path / 'full'}", "--password-stdin")[0] == 3
    (tmp_path / "file").touch()
    assert run("export", ADA, "--to", f"mbox:{tmp_path / 'file'}", "--password-stdin")[0] in (3, 6)


def test_an_app_password_does_what_its_scope_allows(run, maildir: Path, tmp_path: Path) -> None:
    """Reading is enough for an export, too little for an import; another protocol is too little for both."""

    def secret(*scope: str) -> str:
        made = run("app-password", "add", ADA, "--label", "phone", *scope, "--password-stdin", "--json")
        return json.loads(made[1])["app_password"] + "\n"

    code, _out, err = taken_in(run, f"maildir:{maildir}", stdin=secret("--read-only"))
    assert (code, err) == (4, "sealbox: this secret may not do that: use the password or the recovery key\n")
    assert taken_in(run, f"maildir:{maildir}", stdin=secret("--protocol", "pop3"))[0] == 4
    assert taken_in(run, f"maildir:{maildir}", stdin=secret())[0] == 0
    out = f"mbox:{tmp_path / 'out'}"
    assert run("export", ADA, "--to", out, "--password-stdin", stdin=secret("--protocol", "pop3"))[0] == 4
    assert run("export", ADA, "--to", out, "--password-stdin", stdin=secret("--read-only"))[0] == 0


def test_quota_ends_an_import_with_what_fits(run, maildir: Path) -> None:
    """The sentence says that it can be continued."""
    assert run("account", "add", "eve@example.org", "--quota", "20", "--password-stdin")[0] == 0
    code, _out, err = run("import", "eve@example.org", "--from", f"maildir:{maildir}", "--password-stdin")
    assert (code, err.splitlines()[1][:29]) == (3, "sealbox: the account is full:")


def test_many_accounts_from_a_file(run, maildir: Path, tmp_path: Path) -> None:
    """One account after the other; one that fails stops no other, and gives the exit code."""
    table = tmp_path / "accounts.csv"
    table.write_text(
        f"# account, password, place, password there\n\n{ADA}, {PASSWORD.decode()}, maildir:{maildir},\n"
        f'"bob@example.org", wrong, maildir:{maildir},\n'
        f"bob@example.org, {PASSWORD.decode()}, mbox:{tmp_path}/no, x\n"
    )
    code, out, err = run("import", "--csv", str(table))
    assert (code, out) == (4, "1 of 3 accounts imported\n")
    assert err.splitlines() == [
        "1 of 1: 'INBOX'",
        f"{ADA}  2 messages imported, 34 B, in 1 mailbox; there already: 0",
        "bob@example.org  NOT imported: wrong name or secret: check both and try again",
        f"bob@example.org  NOT imported: {tmp_path}/no is not there: check the path",
    ]
    code, out, _err = run("import", "--csv", str(table), "--json")
    assert code == 4
    assert [one.get("already_there", one.get("exit_code")) for one in json.loads(out)["accounts"]] == [
        2,
        4,
        3,
    ]
    assert PASSWORD.decode() not in out


@pytest.mark.parametrize("text", ["a,b,c\n", "a,b,c,d,e\n", "a,b,zip:x,d\n", 'a,"b\n', "\xff"])
def test_a_file_of_accounts_that_is_none_is_refused(run, tmp_path: Path, text: str) -> None:
    """Before anything is imported; the sentence names the line, and no secret."""
    table = tmp_path / "accounts.csv"
    table.write_bytes(text.encode("latin-1"))
    code, out, err = run("import", "--csv", str(table))
    assert (code, out) == (2, "")
    assert err.startswith("sealbox: ")
    assert run("import", "--csv", str(tmp_path / "nothing"))[0] == 2
    assert run("import", ADA, "--csv", str(table))[0] == 2


def test_options_choose(run, maildir: Path) -> None:
    """A dry run says what would be imported; dates and sizes that are none are wrong usage."""
    (maildir / ".Old" / "cur").mkdir(parents=True)
    (maildir / ".Old" / "cur" / "1.x:2,").write_bytes(b"x")
    os.utime(maildir / ".Old" / "cur" / "1.x:2,", (0, 0))
    place = f"maildir:{maildir}"
    code, out, err = taken_in(run, place, "--dry-run", "--since", "2020-01-01", "--into", "Home")
    assert (code, out) == (0, "2 messages would be imported, 34 B, in 2 mailboxes; there already: 0\n")
    assert err == "1 of 2: 'Home/INBOX'\n2 of 2: 'Home/Old'\nleft out: 1 older than --since\n"
    assert taken_in(run, place, "--folder", "O*")[1].startswith("1 message imported")
    assert taken_in(run, place, "--exclude", "INBOX", "--json")[1].startswith(
        '{"mailboxes": 1, "messages": 0,'
    )
    for wrong in (("--since", "yesterday"), ("--rate", "fast")):
        assert taken_in(run, place, *wrong)[0] == 2


def test_places_on_servers_are_checked_before_anything_is_asked(run, maildir: Path, tmp_path: Path) -> None:
    """No password in the address, no server without a user; the second line is the password there."""
    both = LINE + "theirs\n"
    for place in ("imap://ada:secret@host", "imap://host", "imap+starttls://@host"):
        code, out, err = taken_in(run, place, stdin=both)
        assert (code, out) == (3, "")
        assert "secret" not in err
    assert taken_in(run, "imap://ada@host")[2].startswith("sealbox: standard input ended before the secret")
    place = "imap://ada@localhost:1"
    assert taken_in(run, place, "--tls-ca", str(tmp_path / "no"), stdin=both)[2].startswith(
        "sealbox: the file of --tls"
    )
    assert taken_in(run, place, "--source-password-file", str(tmp_path / "no"))[0] == 2
    (tmp_path / "password").write_text("theirs\nmore\n")
    (tmp_path / "ca").write_text("no PEM")
    with_file = ("--source-password-file", str(tmp_path / "password"), "--tls-ca", str(tmp_path / "ca"))
    assert taken_in(run, place, *with_file)[2].startswith("sealbox: the file of --tls")


def test_what_is_not_there_is_named(run) -> None:
    """Also where a shell has not done what its user expected of it."""
    code, _out, err = taken_in(run, "maildir:/nowhere/Mail")
    assert (code, err) == (3, "sealbox: /nowhere/Mail is not there: check the path\n")
    code, _out, err = taken_in(run, "maildir:~/Mail")
    assert (code, err) == (
        3,
        "sealbox: no shell replaces the ~ of ~/Mail there: write the whole path, or $HOME instead of ~\n",
    )


def test_mailboxes_are_named_as_they_are_read(run, maildir: Path) -> None:
    """With what a terminal cannot take for a command, and not in JSON."""
    for part in ("cur", "new", "tmp"):
        (maildir / ".Lists.\x1b[31mred" / part).mkdir(parents=True)
    code, _out, err = taken_in(run, f"maildir:{maildir}")
    assert code == 0
    assert sorted(err.splitlines()) == ["1 of 2: 'INBOX'", r"2 of 2: 'Lists/\x1b[31mred'"]
    assert taken_in(run, f"maildir:{maildir}", "--json")[2] == ""


def test_a_server_that_cannot_be_reached_is_named_with_the_reason(run, monkeypatch) -> None:
    """A dead port, a name that does not exist, a port without TLS."""
    monkeypatch.setattr(imap_client, "FIRST_PAUSE_S", 0.0)
    both = LINE + "theirs\n"
    with socket.create_server(("127.0.0.1", 0)) as dead:
        port = dead.getsockname()[1]
    code, _out, err = taken_in(run, f"imap://ada@127.0.0.1:{port}", stdin=both)
    assert code == 5
    assert err.startswith(f"sealbox: the connection to 127.0.0.1:{port} fails (Connection refused): check")
    monkeypatch.setattr(
        imap_client._Tls, "open", lambda *_a, **_k: (_ for _ in ()).throw(socket.gaierror(-2, "Name unknown"))
    )
    code, _out, err = taken_in(run, "imap://ada@nowhere.invalid", stdin=both)
    assert (code, "nowhere.invalid:993 fails (Name unknown)" in err) == (5, True)


def test_an_encrypted_file_needs_a_passphrase(run, maildir: Path, tmp_path: Path) -> None:
    """The second line; only SQLite can be encrypted, and only then nothing is said of plain text."""
    taken_in(run, f"maildir:{maildir}")
    place = f"sqlite:{tmp_path / 'out.db'}"
    out = ("export", ADA, "--encrypt", "--password-stdin", "--to")
    assert run(*out, f"eml:{tmp_path / 'out'}")[0] == 2
    assert run(*out, place)[0] == 2  # the line is missing
    assert run(*out, place, stdin=LINE + "\n")[0] == 2  # empty
    code, said, err = run(*out, place, stdin=LINE + "open sesame\n")
    assert (code, err) == (0, "")
    assert said == f"exported to {place}: 2 messages in 6 mailboxes, 34 B\n"
    again = run(*out, place, "--update", stdin=LINE + "other\n")
    assert again == (3, "", "sealbox: the file is something else, or has another passphrase\n")


def test_no_core_dump_holds_mail_or_keys(run, maildir: Path, tmp_path: Path) -> None:
    """Both commands hold an account's key, and its mail, as a worker does."""
    HARDENED.clear()
    taken_in(run, f"maildir:{maildir}")
    assert len(HARDENED) == 1
    run("export", ADA, "--to", f"mbox:{tmp_path / 'out'}", "--password-stdin")
    assert len(HARDENED) == 2
