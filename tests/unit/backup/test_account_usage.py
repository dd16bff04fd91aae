"""sealbox account usage: what an account takes, without its password and with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD

from deploy.cli import account_usage, transfer
from mailstore.account import destroy_account, open_directory


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandsWorld:
    """Two accounts; the first has been used."""
    monkeypatch.setattr(transfer, "process_hardening", lambda: None)
    made = CommandsWorld(tmp_path)
    made.add_account("bob@example.org")
    made.append("one")
    return made


def of(world: CommandsWorld, name: str, *arguments: str, stdin: str = "") -> dict[str, object]:
    """What is said of one account among those asked for."""
    found = world.answer("account", "usage", *arguments, stdin=stdin)["accounts"]
    return {one["name"]: one for one in found}[name]


def test_files_waiting_mail_and_the_newest_snapshot_need_no_password(world: CommandsWorld) -> None:
    """Octets of each kind of file as they are, and nothing is made or changed in the database."""
    name = NAME.decode()
    said = of(world, name)
    (database,) = (world.root / "accounts").rglob("mail.db")
    before = database.read_bytes()
    folder = database.parent
    assert said["account"] == folder.name
    assert said["database_bytes"] == len(before) > 0
    assert (said["log_bytes"], said["search_bytes"], said["inbox_bytes"], said["waiting_messages"]) == (
        0,
        0,
        0,
        0,
    )
    assert said["newest_snapshot"] is None
    assert "0 waiting, no snapshot in the store" in world.run("account", "usage", name)[1]
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    (folder / "inbox-size").unlink(missing_ok=True)
    (folder / "inbox" / "0123456789abcdef-0123456789abcdef.sealed").write_bytes(bytes(500))
    (folder / "inbox" / "0123456789abcdef-0123456789abcde0.damaged").write_bytes(bytes(70))
    (folder / "mail.db-wal").write_bytes(bytes(1_000))
    (folder / "search.db").write_bytes(bytes(30))
    (folder / "search.db-wal").write_bytes(bytes(3))
    said = of(world, name, name)
    assert (said["log_bytes"], said["search_bytes"], said["inbox_bytes"]) == (1_000, 33, 500)
    assert (said["waiting_messages"], said["damaged_messages"]) == (1, 1)
    assert said["total_bytes"] == len(before) + 1_533
    assert str(said["newest_snapshot"]).startswith("20")
    assert "mailboxes" not in said
    assert database.read_bytes() == before
    assert of(world, "bob@example.org")["database_bytes"] == 0
    code, out, _err = world.run("account", "usage")
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == [name, "bob@example.org"]
    assert "1 waiting, 1 DAMAGED, snapshot 20" in out


def test_mailboxes_are_counted_with_the_password_alone(world: CommandsWorld) -> None:
    """Of one account; the names of mailboxes are the owner's to see."""
    name, line = NAME.decode(), PASSWORD.decode() + "\n"
    said = of(world, name, name, "--password-stdin", stdin=line)["mailboxes"]
    assert {"name": "INBOX", "messages": 1, "size_bytes": len("Subject: one\r\n\r\n")} in said
    assert {"name": "Sent", "messages": 0, "size_bytes": 0} in said
    assert (
        "  INBOX  1 message, 16 B" in world.run("account", "usage", name, "--password-stdin", stdin=line)[1]
    )
    assert world.run("account", "usage", name, "--password-stdin", stdin="wrong\n")[0] == 4
    for names in ((), (name, "bob@example.org")):
        assert world.run("account", "usage", *names, "--password-stdin", stdin=line)[0] == 2


def test_an_account_deleted_meanwhile_is_left_out_of_all_and_refused_by_name(
    world: CommandsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for all is told of all that are there."""
    directory = open_directory(world.root)
    gone = directory.login("bob@example.org")
    look = account_usage.disk_use

    def meanwhile(paths):
        """The account goes before it is looked at."""
        if paths.folder.exists() and paths.folder.name == gone.account_id:
            destroy_account(world.root, directory, gone.account_id)
        return look(paths)

    monkeypatch.setattr(account_usage, "disk_use", meanwhile)
    assert [one["name"] for one in world.answer("account", "usage")["accounts"]] == [NAME.decode()]
    directory.close()
    assert world.run("account", "usage", "nobody@example.org")[0] == 3
