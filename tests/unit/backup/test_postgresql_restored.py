"""Snapshots of a server whose directory is in PostgreSQL: they have it, and bring it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD

from mailstore.directory import put_directory
from tests.postgresql import PostgreSql

EXIT_STORAGE = 6
PATIENCE = "connect_timeout_s = 60\nquery_timeout_s = 60\n"
"""A slow machine is no server that is away."""


@pytest.fixture
def world(tmp_path: Path, postgresql: PostgreSql) -> Iterator[CommandsWorld]:
    """Two accounts and an alias, moved into PostgreSQL."""
    made = CommandsWorld(tmp_path)
    made.add_account("bob@example.org")
    made.objects.mkdir()
    assert made.run("alias", "add", "al@example.org", NAME.decode())[0] == 0
    export = tmp_path / "export"
    assert made.run("directory", "export", export)[0] == 0
    for path in made.root.glob("directory.db*"):
        path.unlink()
    made.config.write_text(
        made.config.read_text() + f'[directory]\nurl = "{postgresql.new_place()}"\n{PATIENCE}'
    )
    assert made.run("directory", "import", export)[0] == 0
    yield made
    put_directory(made.root, None)


def test_a_directory_that_postgresql_has_lost_is_filled_from_the_snapshots(
    world: CommandsWorld, postgresql: PostgreSql
) -> None:
    """Accounts that are there stay as they are; their secrets open them as before."""
    assert world.answer("backup", "run")["stored"]
    before = world.answer("account", "list"), world.answer("alias", "list"), world.answer("domain", "list")
    url = world.config.read_text().rpartition('url = "')[2].partition('"')[0]
    world.config.write_text(world.config.read_text().replace(url, postgresql.new_place()))
    code, _out, err = world.run("account", "list")
    assert (code, "has no directory" in err) == (EXIT_STORAGE, True)
    code, out, err = world.run("restore", "--all", "--private-key", world.private_key_file)
    assert (code, out.count("already exists, left alone")) == (0, 2), (out, err)
    assert (
        world.answer("account", "list"), world.answer("alias", "list"), world.answer("domain", "list")
    ) == before  # fmt: skip
    assert not list(world.root.glob("directory.db*"))
    password = PASSWORD.decode() + "\n"
    assert world.run("recovery-key", NAME.decode(), "--password-stdin", stdin=password)[0] == 0


def test_a_restore_elsewhere_leaves_the_living_directory_alone(world: CommandsWorld, tmp_path: Path) -> None:
    """What is restored to look at has a directory of its own, in its folder."""
    assert world.answer("backup", "run")["stored"]
    assert world.run("account", "delete", "bob@example.org", "--yes")[0] == 0
    new = tmp_path / "new"
    key = ("--private-key", world.private_key_file, "--signed-by", "anybody")
    code, out, err = world.run("restore", "--all", *key, "--into", new)
    assert code == 0, (out, err)
    assert (new / "directory.db").exists()
    assert [one["name"] for one in world.answer("account", "list")["accounts"]] == [NAME.decode()]
