"""A node is lost, and others take its accounts from its snapshots: commands over two data roots."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World, now

from backup.recover import Recovering
from deploy.cli import node_recover
from mailstore.account import account_paths, open_directory
from mailstore.directory import Move, MoveId, Phase, Side, call_node, moves_of, put_directory
from mailstore.errors import MoveOver, StorageFailed
from mailstore.keys import AccountId, PublicKey
from mailstore.lease import forget_lease
from mailstore.move_mark import put_mark
from tests.postgresql import PostgreSql

BUSY, STORAGE, REFUSED, USAGE = 5, 6, 3, 2
PATIENCE = "connect_timeout_s = 60\nquery_timeout_s = 60\n"


class Node(CommandsWorld):
    """One of the servers; the folder with the snapshots is shared, with a place for each."""

    def __init__(self, place: Path, name: str, url: str, key: Path, objects: Path) -> None:
        place.mkdir()
        super().__init__(place)
        for path in (*self.root.glob("directory.db*"), *self.root.glob("accounts/*")):
            path.unlink() if path.is_file() else shutil.rmtree(path)
        self.name = name
        settings = self.config.read_text().replace(str(self.objects), str(objects / name))
        self.objects = objects / name
        self.objects.mkdir(parents=True)
        self.config.write_text(
            settings + f'[directory]\nurl = "{url}"\nkey_file = "{key}"\n{PATIENCE}[node]\nname = "{name}"\n'
        )

    def add(self, name: str) -> AccountId:
        """An account of this node, by the command."""
        password = PASSWORD.decode() + "\n"
        self.answer("account", "add", name, "--password-stdin", stdin=password)
        listed = self.answer("account", "list")["accounts"]
        return AccountId(next(one["account"] for one in listed if one["name"] == name))

    def append(self, subject: str) -> None:
        """As :meth:`CommandsWorld.append`; the lease is that of this process."""
        super().append(subject)
        forget_lease(self.root)

    def messages(self) -> int:
        """How many the first account has in its INBOX."""
        mail = World(self.root)
        try:
            account = mail.login()
            found = int(now(account.status("INBOX")).messages)
            account.release()
            return found
        finally:
            mail.close()
            forget_lease(self.root)


class Site:
    """Nodes a and b; the snapshots of b have two accounts, and it is gone."""

    def __init__(self, place: Path, postgresql: PostgreSql) -> None:
        self.place, self.postgresql = place, postgresql
        self.url, self.key = postgresql.new_place(), place / "directory.key"
        self.key.write_text("77" * 32 + "\n")
        self.nodes: list[Node] = []
        self.a, self.b = self.node("a"), self.node("b")
        self.ann, self.bob = self.b.add(NAME.decode()), self.b.add("bob@example.org")
        self.b.append("one")
        assert self.b.answer("backup", "run")["stored"]
        self.b.append("after the last snapshot")

    def node(self, name: str) -> Node:
        """One more."""
        made = Node(self.place / name, name, self.url, self.key, self.place / "objects")
        self.nodes.append(made)
        if len(self.nodes) == 1:
            made.answer("domain", "add", "example.org")
        made.answer("node", "add", name, "192.0.2.1:24")
        return made

    def time_passes(self) -> None:
        """All leases are over."""
        self.postgresql.sql_at(self.url, "UPDATE sealbox_node SET leased_until = now() - interval '1 s'")

    def recover(self, by: Node, *options: object, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """The command."""
        key = ("--private-key", self.b.private_key_file)
        return by.answer("node", "recover", "b", *key, *options, codes=codes)

    def owners(self) -> dict[str, tuple[str, int]]:
        """Node and generation of each account."""
        listed = self.a.answer("account", "list")["accounts"]
        return {one["account"]: (one["node"], one["node_generation"]) for one in listed}


@pytest.fixture
def site(tmp_path: Path, postgresql: PostgreSql) -> Iterator[Site]:
    """With both lost node and its leases over."""
    made = Site(tmp_path, postgresql)
    made.time_passes()
    yield made
    for node in made.nodes:
        put_directory(node.root, None)
        call_node(node.root, None)
        forget_lease(node.root)


def test_the_accounts_of_a_lost_node_are_opened_by_another(site: Site) -> None:
    """With what its newest snapshots have, and UIDs that clients do not trust."""
    found = site.recover(site.a)
    assert {one["account"]: one["trouble"] for one in found["accounts"]} == {site.ann: None, site.bob: None}
    assert site.owners() == {site.ann: ("a", 2), site.bob: ("a", 2)}
    assert site.a.messages() == 1
    again = site.recover(site.a)
    assert (again["accounts"], again["by_others"]) == ([], 0)


def test_a_node_that_serves_is_not_recovered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before its lease is over nor if it is renewed while that is waited for."""
    site.b.messages()

    def renewed(_seconds: float) -> None:
        site.postgresql.sql_at(
            site.url, "UPDATE sealbox_node SET leased_until = leased_until + interval '9 s'"
        )

    monkeypatch.setattr(node_recover.time, "sleep", renewed)
    code, _out, err = site.a.run("node", "recover", "b", "--private-key", site.b.private_key_file)
    assert (code, "has renewed its lease, so it serves" in err) == (BUSY, True)
    monkeypatch.setattr(node_recover.time, "sleep", lambda _seconds: site.time_passes())
    site.b.messages()
    assert len(site.recover(site.a)["accounts"]) == 2


def test_a_lost_node_that_comes_back_opens_nothing(site: Site) -> None:
    """Not before it is added again, and then nothing that others have; its mail stays where it is."""
    site.recover(site.a)
    password = PASSWORD.decode() + "\n"
    there = account_paths(site.b.root, site.ann)
    for _ in range(2):
        code, _out, err = site.b.run("recovery-key", NAME.decode(), "--password-stdin", stdin=password)
        assert (code, "gets no lease" in err or "another node has" in err) == (REFUSED, True), err
        site.a.answer("node", "add", "b", "192.0.2.1:24")
    listed = {one["name"]: one for one in site.a.answer("node", "list")["nodes"]}
    assert (listed["b"]["lost"], listed["a"]["lost"]) == (True, False)
    site.a.answer("node", "add", "b", "192.0.2.1:24", "--again")
    code, _out, err = site.b.run("recovery-key", NAME.decode(), "--password-stdin", stdin=password)
    assert (code, "another node has this account" in err) == (REFUSED, True), err
    assert there.mail_db.exists()
    assert site.a.messages() == 1


def test_accounts_that_come_back_to_a_node_do_not_meet_their_old_folders(site: Site) -> None:
    """What lay there is kept beside: it may have mail that nobody else has."""
    site.recover(site.a)
    site.a.append("two")
    assert site.a.answer("backup", "run")["stored"]
    site.a.answer("node", "add", "b", "192.0.2.1:24", "--again")
    site.time_passes()
    key = ("--private-key", site.a.private_key_file)
    found = site.b.answer("node", "recover", "a", *key)
    assert site.owners() == {site.ann: ("b", 3), site.bob: ("b", 3)}
    assert site.b.messages() == 2
    kept = {one["account"]: one["kept"] for one in found["accounts"]}
    assert Path(kept[site.ann]).is_dir() and Path(kept[site.ann]).parent == site.b.root / "replaced"


@pytest.mark.parametrize("step", ["_set_aside", "_take"])
def test_what_was_interrupted_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Nobody opens what lies there meanwhile, and nothing is fetched twice."""

    def died(*_args: object) -> None:
        raise StorageFailed

    monkeypatch.setattr(Recovering, step, died)
    found = site.recover(site.a, codes=(STORAGE,))
    assert all(one["trouble"] for one in found["accounts"])
    assert site.owners() == {site.ann: ("b", 1), site.bob: ("b", 1)}
    code, _out, err = site.a.run("account", "usage", NAME.decode(), "--password-stdin", stdin="x\n")
    assert (code, "another node has this account" in err) == (REFUSED, True), err
    monkeypatch.undo()
    if step == "_take":
        monkeypatch.setattr(Recovering, "_build", died)  # it is there
    assert len(site.recover(site.a)["accounts"]) == 2
    assert site.a.messages() == 1


def test_what_is_left_of_a_move_that_was_thrown_away_is_in_nobodys_way(site: Site) -> None:
    """The removal of its folder was killed: the generation to come is there, and the keys are not."""
    left = account_paths(site.a.root, site.ann)
    left.folder.mkdir(parents=True)
    left.node.write_text("2\n")
    site.recover(site.a)
    assert site.owners() == {site.ann: ("a", 2), site.bob: ("a", 2)}
    assert site.a.messages() == 1


def test_of_two_nodes_the_first_has_an_account(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other leaves nothing behind."""
    c = site.node("c")
    take = Recovering._take

    def later(self: Recovering, record: Any, header: Any) -> bool:
        monkeypatch.setattr(Recovering, "_take", take)
        store = ("--store", f"file://{site.b.objects}")
        site.a.answer("node", "recover", "b", "--private-key", site.b.private_key_file, *store)
        return take(self, record, header)

    monkeypatch.setattr(Recovering, "_take", later)
    found = site.recover(c)
    assert set(site.owners().values()) == {("a", 2), ("c", 2)} or set(site.owners().values()) == {("a", 2)}
    taken = {one["account"] for one in found["accounts"]}
    assert {account for account, (node, _) in site.owners().items() if node == "c"} == taken
    folders = {path.name for path in c.root.glob("accounts/??/*")}
    assert folders == taken


def move_of(site: Site, account_id: AccountId, *steps: tuple[Side, Phase]) -> Move:
    """A move of an account to node a that has come so far."""
    directory = open_directory(site.a.root)
    move = Move(account_id, MoveId("77" * 16), "b", "a", 1)
    moves = moves_of(directory)
    moves.begin(move)
    for side, phase in steps:
        move = moves.step(move, side, phase)
    directory.close()
    return move


COPIED = ((Side.SOURCE, Phase.COPYING), (Side.TARGET, Phase.COPIED))


def test_a_move_that_its_source_cannot_go_on_with_is_over(site: Site) -> None:
    """What its target has built comes too late, whatever it does."""
    move = move_of(site, site.ann, *COPIED)
    assert len(site.recover(site.a)["accounts"]) == 2
    directory = open_directory(site.a.root)
    assert moves_of(directory).all() == []
    with pytest.raises(MoveOver):
        moves_of(directory).finish(move)
    directory.close()
    assert site.a.messages() == 1


def test_an_account_that_is_about_to_arrive_is_left_to_its_move(site: Site) -> None:
    """Its target has what no snapshot of the lost node tells; for as long as there is hope for it."""
    move_of(site, site.ann, *COPIED, (Side.SOURCE, Phase.LAST))
    found = site.recover(site.a, codes=(BUSY,))
    assert {one["account"]: bool(one["trouble"]) for one in found["accounts"]} == {
        site.ann: True,
        site.bob: False,
    }
    site.postgresql.sql_at(site.url, "UPDATE sealbox_move SET touched = now() - interval '1 h'")
    assert [one["account"] for one in site.recover(site.a)["accounts"]] == [site.ann]


def test_after_a_move_that_failed_at_its_end_the_snapshots_of_before_are_to_be_named(site: Site) -> None:
    """The lost node ended it, and had no time for its next snapshot; what it had is in its own prefix."""
    move = move_of(site, site.ann, *COPIED, (Side.SOURCE, Phase.LAST))
    directory = open_directory(site.a.root)
    assert moves_of(directory).cancel(move)
    directory.close()
    found = site.recover(site.a, codes=(STORAGE,))
    troubles = {one["account"]: one["trouble"] for one in found["accounts"]}
    assert "--before-move" in troubles[site.ann] and troubles[site.bob] is None
    site.recover(site.a, "--before-move", "--store", f"file://{site.b.objects}")
    assert site.owners()[site.ann] == ("a", 3)
    assert site.a.messages() == 1


def test_what_a_move_has_put_in_place_is_left_to_the_server(site: Site) -> None:
    """It may be taking it away at this moment."""
    paths = account_paths(site.a.root, site.ann)
    shutil.copytree(account_paths(site.b.root, site.ann).folder, paths.folder)
    put_mark(paths.arrived, MoveId("88" * 16))
    paths.node.write_bytes(b"2\n")
    found = site.recover(site.a, codes=(BUSY,))
    assert site.owners()[site.ann] == ("b", 1) and found["by_others"] == 0
    shutil.rmtree(paths.folder)
    assert [one["account"] for one in site.recover(site.a)["accounts"]] == [site.ann]


def test_what_cannot_be_recovered_is_named_and_the_rest_goes_on(site: Site) -> None:
    """It stays the lost node's."""
    new = site.b.add("new@example.org")
    site.time_passes()
    found = site.recover(site.a, codes=(STORAGE,))
    assert {one["account"]: one["trouble"] for one in found["accounts"]} == {
        site.ann: None,
        site.bob: None,
        new: "there is no snapshot of this account",
    }
    assert site.owners()[new] == ("b", 1)


def test_keys_that_the_directory_does_not_know_are_not_taken(site: Site) -> None:
    """Whoever may write into the bucket could have mail sealed to a key of theirs."""
    directory = open_directory(site.a.root)
    directory.set_header(site.bob, PublicKey(b"x" * 1216), 9)
    directory.close()
    found = site.recover(site.a, codes=(STORAGE,))
    troubles = {one["account"]: one["trouble"] for one in found["accounts"]}
    assert troubles[site.ann] is None and "not those that the directory knows" in troubles[site.bob]
    signed_by = site.b.answer("backup", "status")["signing_key"]
    found = site.recover(site.a, "--signed-by", signed_by)
    [one] = found["accounts"]
    assert (one["account"], one["old_master_key"]) == (site.bob, True)


def test_a_node_of_which_no_lease_is_known_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one whole lease, in which it would renew it."""
    site.postgresql.sql_at(site.url, "UPDATE sealbox_node SET leased_until = NULL")
    left: list[float] = []

    def waited(_seconds: float) -> None:
        listed = {one["name"]: one for one in site.a.answer("node", "list")["nodes"]}
        left.append(listed["b"]["lease_left_s"])
        site.time_passes()

    monkeypatch.setattr(node_recover.time, "sleep", waited)
    assert len(site.recover(site.a)["accounts"]) == 2
    assert len(left) >= 1 and 0 < left[0] <= 300


REFUSALS = {
    "itself": (("a", "--private-key", "KEY"), REFUSED, "another node recovers it"),
    "no key": (("b",), USAGE, "--private-key"),
    "nobody": (("nobody", "--private-key", "KEY"), REFUSED, "there is no such node"),
    "another bucket": (("b", "--private-key", "KEY", "--store", "file:///nowhere"), None, ""),
}


@pytest.mark.parametrize(("arguments", "code", "said"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_refused_marks_nobody(
    site: Site, arguments: tuple[str, ...], code: int | None, said: str
) -> None:
    """A node that was marked by mistake would serve nobody."""
    words = [str(site.b.private_key_file) if one == "KEY" else one for one in arguments]
    found, _out, err = site.a.run("node", "recover", *words)
    assert found != 0 and (code is None or found == code) and said in err
    assert not any(one["lost"] for one in site.a.answer("node", "list")["nodes"])


def test_a_server_whose_directory_is_its_own_recovers_nobody(tmp_path: Path) -> None:
    """There is nobody to recover."""
    alone = CommandsWorld(tmp_path)
    code, _out, err = alone.run("node", "recover", "b", "--private-key", alone.private_key_file)
    assert (code, "has to be in PostgreSQL" in err) == (REFUSED, True)


def test_mail_that_only_the_old_node_has_can_be_brought_in(site: Site, tmp_path: Path) -> None:
    """As deploy/OPERATIONS.md says: a data root beside, with a copy of the directory and of the folder."""
    site.recover(site.a)
    old, beside = account_paths(site.b.root, site.ann).folder, tmp_path / "beside"
    assert site.b.run("directory", "export", tmp_path / "export")[0] == 0
    config = tmp_path / "beside.toml"
    config.write_text(f'data = "{beside}"\n[node]\nname = "a"\n')
    options = ("--config", config)
    assert site.b.run("directory", "import", tmp_path / "export", *options)[0] == 0
    shutil.copytree(old, account_paths(beside, site.ann).folder)
    mail = tmp_path / "mail"
    password = ("--password-stdin",)
    words = ("export", NAME.decode(), "--to", f"maildir:{mail}", *password, *options)
    code, _out, err = site.b.run(*words, stdin=PASSWORD.decode() + "\n")
    assert code == 0, err
    words = ("import", NAME.decode(), "--from", f"maildir:{mail}", *password)
    code, _out, err = site.a.run(*words, stdin=PASSWORD.decode() + "\n")
    assert code == 0, err
    assert site.a.messages() == 2  # what it had already comes no second time


def given(site: Site, account_id: AccountId, *nodes: str) -> None:
    """The account goes to one node after the other, as moves do it; its folders are where they are."""
    directory = open_directory(site.a.root)
    for generation, node in enumerate(nodes, 2):
        directory.set_node(account_id, node, generation)
    directory.close()


def test_what_the_node_stores_while_its_end_is_waited_for_counts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is not over yet when the command begins."""
    mark = node_recover._mark

    def meanwhile(*args: Any) -> None:
        assert site.b.answer("backup", "run")["stored"]
        site.time_passes()
        mark(*args)

    monkeypatch.setattr(node_recover, "_mark", meanwhile)
    site.recover(site.a)
    assert site.a.messages() == 2


def test_an_account_that_came_back_is_not_restored_as_it_was_before(site: Site) -> None:
    """The old snapshots do not have what it got elsewhere; those that are taken from now on count."""
    given(site, site.ann, "a", "b")
    found = site.recover(site.a, codes=(STORAGE,))
    troubles = {one["account"]: one["trouble"] for one in found["accounts"]}
    assert troubles[site.bob] is None
    assert "is from before the account was on another node" in troubles[site.ann]
    assert "--before-move" in troubles[site.ann]
    assert site.owners() == {site.ann: ("b", 3), site.bob: ("a", 2)}
    site.a.answer("node", "add", "b", "192.0.2.1:24", "--again")
    assert site.b.answer("backup", "run")["stored"]
    site.time_passes()
    site.recover(site.a)
    assert site.owners()[site.ann] == ("a", 4)
    assert site.a.messages() == 2


def test_what_was_sound_before_the_account_came_back_is_none_the_less_old(site: Site) -> None:
    """Although the newest sound state is asked for; and in a second run, which finds it rebuilt."""
    given(site, site.ann, "a", "b")
    before = {path for path in site.b.objects.rglob("*") if path.is_file()}
    assert site.b.answer("backup", "run")["stored"]
    site.time_passes()
    streams = {path.parent for path in before}
    [newest] = [max(one.glob("*-full")) for one in streams if len(list(one.glob("*-full"))) == 2]
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for _ in range(2):
        found = site.recover(site.a, "--newest-sound", codes=(STORAGE,))
        troubles = {one["account"]: one["trouble"] for one in found["accounts"]}
        assert "is from before the account was on another node" in troubles[site.ann]


def test_an_account_without_snapshots_is_taken_as_it_came_from_the_snapshots_of_before(site: Site) -> None:
    """Of the node that gave it away; and only if that is asked for."""
    site.recover(site.a)
    assert site.a.answer("backup", "run")["stored"]
    site.a.answer("node", "add", "b", "192.0.2.1:24", "--again")
    directory = open_directory(site.a.root)
    directory.set_node(site.ann, "b", 3)
    directory.set_node(site.bob, "b", 3)
    directory.close()
    site.time_passes()
    found = site.recover(site.a, codes=(STORAGE,))
    assert all("--before-move" in one["trouble"] for one in found["accounts"])
    here = ("--private-key", site.a.private_key_file, "--store", f"file://{site.a.objects}")
    found = site.a.answer("node", "recover", "b", *here, codes=(STORAGE,))
    assert {one["account"] for one in found["accounts"] if one["trouble"]} == {site.ann, site.bob}
    site.a.answer("node", "recover", "b", *here, "--before-move")
    assert site.owners() == {site.ann: ("a", 4), site.bob: ("a", 4)}
    assert site.a.messages() == 1
