"""sealbox directory, and what other commands say of a directory in PostgreSQL."""

from __future__ import annotations

import json
import stat

import pytest
from command_world import PASSWORD, answer

from deploy import first_run, serving
from mailstore.directory import directory_place, pg_connection, put_directory
from mailstore.errors import OutcomeUnknown

JOE = "joe@example.org"
PATIENCE = "connect_timeout_s = 60\nquery_timeout_s = 60\n"
"""A slow machine is no server that is away."""


@pytest.fixture
def data(tmp_path):
    """The data root, which has its directory in itself again afterwards."""
    root = tmp_path / "data"
    yield root
    put_directory(root, None)


@pytest.fixture
def move(data, postgresql, tmp_path):
    """Lets the configuration name a new place in PostgreSQL; with more settings if they are given."""

    def moved(more=""):
        url = postgresql.new_place()
        (data / "sealbox.toml").write_text(f'[directory]\nurl = "{url}"\n{PATIENCE}{more}\n')
        return url

    return moved


def test_an_export_fills_postgresql_and_comes_back(joe, data, move, tmp_path):
    """The same accounts, and each command as before; a second import does nothing."""
    joe("alias", "add", "info@example.org", JOE)
    before = answer(joe("account", "list", "--json"))
    export, back = tmp_path / "export", tmp_path / "back"
    assert answer(joe("directory", "export", str(export), "--json")) == {
        "exported": str(export), "domains": 1, "accounts": 1, "aliases": 1
    }  # fmt: skip
    assert stat.S_IMODE(export.stat().st_mode) == 0o600
    move()
    assert joe("account", "list")[0] == 6  # nobody has filled it
    counts = {"domains": 1, "accounts": 1, "aliases": 1}
    assert answer(joe("directory", "import", str(export), "--json")) == {"imported": True, **counts}
    assert answer(joe("directory", "import", str(export), "--json")) == {"imported": False, **counts}
    assert answer(joe("account", "list", "--json")) == before
    assert joe("recovery-key", JOE, "--password-stdin", stdin=f"{PASSWORD}\n")[0] == 0
    joe("directory", "export", str(back))
    put_directory(data, None)
    (data / "sealbox.toml").unlink()
    for file in data.glob("directory.db*"):
        file.rename(tmp_path / file.name)
    assert joe("directory", "import", "-", stdin=back.read_text())[0] == 0
    assert answer(joe("account", "list", "--json")) == before
    assert joe("directory", "export", "-")[1] == back.read_text()


def test_what_is_there_is_not_written_over(joe, tmp_path):
    """Neither a file nor a directory."""
    export = tmp_path / "export"
    export.write_text("mine")
    assert joe("directory", "export", str(export))[0] == 3
    assert joe("directory", "key", str(export))[0] == 3
    assert export.read_text() == "mine"
    export.unlink()
    joe("directory", "export", str(export))
    joe("domain", "add", "example.com")
    code, _out, err = joe("directory", "import", str(export))
    assert (code, "only an empty one" in err) == (3, True)
    text = export.read_text()
    export.write_text(text[: len(text) // 2])
    code, _out, err = joe("directory", "import", str(export))
    assert (code, "export it again" in err) == (3, True)
    assert joe("directory", "import", str(tmp_path / "none"))[0] == 3


def test_a_new_server_begins_in_postgresql(run, data, move):
    """The first account makes the tables, and no file of its own."""
    data.mkdir()
    move()
    assert run("account", "list")[0] == 3
    assert run("account", "add", JOE, "--password-stdin", stdin=f"{PASSWORD}\n")[0] == 0
    assert not list(data.glob("directory.db*"))
    assert [one["name"] for one in answer(run("account", "list", "--json"))["accounts"]] == [JOE]


def test_two_directories_are_one_too_many(run, data, move):
    """A server that asked the wrong one would tell senders that nobody lives here."""
    assert run("domain", "add", "example.org")[0] == 0
    move()
    assert run("domain", "add", "example.com")[0] == 0
    with pytest.raises(serving.CannotServe, match=r"move directory\.db and"):
        serving.check_made(data)
    for file in data.glob("directory.db*"):
        file.unlink()
    serving.check_made(data)


def test_a_quick_start_that_was_moved_goes_on_there(run, data, move, monkeypatch):
    """Whatever else is wrong in its settings, it makes no second directory."""
    data.mkdir()
    move('[imap]\ncolour = "blue"')
    assert run("domain", "add", "example.org")[0] == 0
    found = []

    def prepare(root, _port_base):
        found.append(directory_place(root))
        raise first_run.CannotPrepare("enough")

    monkeypatch.setattr(first_run, "prepare", prepare)
    assert run("quickstart", "--data", str(data), data=False)[0] == 3
    assert found[0] is not None
    (data / "sealbox.toml").write_text("[directory]\nurl = 5\n")
    code, _out, err = run("quickstart", "--data", str(data), data=False)
    assert (code, "[directory] is wrong" in err, len(found)) == (2, True, 1)


def test_an_account_whose_making_nobody_knows_of_keeps_its_folder(run, data, move, monkeypatch):
    """If the directory knows it after all, its key header is there; if not, it is as after a crash."""
    data.mkdir()
    move()
    assert run("domain", "add", "example.org")[0] == 0

    def commit(_self, _connection):
        raise OutcomeUnknown

    monkeypatch.setattr(pg_connection.Database, "_commit", commit)
    code, _out, err = run("account", "add", "ann@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (code, "look whether it was done" in err) == (5, True)
    assert len(list((data / "accounts").glob("??/*/keys"))) == 1


def test_a_second_node_needs_the_key_of_the_first(run, data, move, postgresql, tmp_path):
    """With it both have the same accounts; without it the sentence names the setting."""
    key = tmp_path / "key"
    data.mkdir()
    url = move()
    run("account", "add", JOE, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert run("directory", "key", str(key))[0] == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (data / "server.key").rename(tmp_path / "of the first")
    (data / "accounts").rename(tmp_path / "accounts of the first")
    code, _out, err = run("domain", "add", "example.com")
    assert (code, "server.key is missing" in err) == (6, True)
    (data / "sealbox.toml").write_text(
        f'[directory]\nurl = "{url}"\n{PATIENCE}key_file = "{tmp_path}/none"\n'
    )
    assert run("domain", "add", "example.com")[0] == 6
    (data / "server.key").unlink(missing_ok=True)
    (data / "sealbox.toml").write_text(f'[directory]\nurl = "{url}"\n{PATIENCE}key_file = "{key}"\n')
    assert run("domain", "add", "example.com")[0] == 0
    assert (data / "server.key").read_bytes() != (tmp_path / "of the first").read_bytes()
    assert answer(run("domain", "list", "--json"))["domains"] == ["example.com", "example.org"]


ODD = {
    "nobody there": ("postgresql:///x?host=/nowhere", 5, "cannot be reached"),
    "no such database": (None, 5, "cannot be reached"),
    "no url": ("postgresql://me:secret@db/x", 2, "[directory] is wrong"),
}


@pytest.mark.parametrize(("url", "exit_code", "said"), ODD.values(), ids=ODD)
def test_every_trouble_has_a_sentence_and_a_code(joe, data, postgresql, url, exit_code, said):
    """For whoever is called at night."""
    url = url or postgresql.url("nothing")
    (data / "sealbox.toml").write_text(f'[directory]\nurl = "{url}"\n')
    code, _out, err = joe("account", "list", "--json")
    told = json.loads(err.splitlines()[-1])
    assert (code, told["exit_code"], said in told["error"]) == (exit_code, exit_code, True)
    assert "secret" not in err
