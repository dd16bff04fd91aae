"""sealbox account move: what it says, and with which exit code, however the two nodes do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from command_world import answer
from move_worlds import WAY, ModelMoves, steps_to

from deploy.cli import account_move
from mailstore.account import account_paths, open_directory
from mailstore.directory import Move, Phase, Side, Trouble, View, call_node
from mailstore.keys import AccountId
from mailstore.move_mark import put_mark

JOE = "joe@example.org"
SETTINGS = '[node]\nname = "a"\n'


class Nodes(ModelMoves):
    """The directory's moves, while others take one step whenever the command looks."""

    steps: Iterator[Callable[[], object]] = iter(())

    def view(self, account_id: AccountId) -> View:
        """See there."""
        found = super().view(account_id)
        for step in self.steps:
            step()
            break
        return found

    def begun(self) -> Move:
        """The one move."""
        assert self.move is not None
        return self.move


@pytest.fixture
def named(joe, tmp_path):
    """Run, on node a, which has an account and no snapshots yet."""
    (tmp_path / "data" / "sealbox.toml").write_text(SETTINGS)
    joe("node", "add", "a", "192.0.2.1:2424")
    joe("node", "claim")
    yield joe
    call_node(tmp_path / "data", None)


@pytest.fixture
def nodes(named, tmp_path, monkeypatch) -> Nodes:
    """Node a has snapshots, and shares its directory with b."""
    directory = open_directory(tmp_path / "data")
    [record] = directory.accounts()
    directory.close()
    found = Nodes(record)
    monkeypatch.setattr(account_move, "moves_of", lambda _directory: found)
    monkeypatch.setattr(account_move, "_POLL_S", 0.0)
    monkeypatch.setattr(account_move, "configured", lambda _cli: _Config())
    return found


class _Config:
    """Stands for a configuration with a store."""

    class node:
        """Its section."""

        @staticmethod
        def move_limits():
            """The defaults."""
            return account_move.MoveLimits()


def test_a_server_that_shares_its_directory_with_nobody_has_nowhere_to_move_to(joe, named, tmp_path) -> None:
    """Whether it has a name or not; and snapshots are needed."""
    code, _out, err = named("account", "move", JOE, "b")
    assert code == 3 and "the directory has to be in PostgreSQL" in err
    (tmp_path / "data" / "sealbox.toml").write_text("")
    code, _out, err = joe("account", "move", JOE, "b")
    assert code == 3 and "this server has no name" in err


def test_an_account_that_has_moved_is_told_with_its_times(named, nodes: Nodes) -> None:
    """And where it is now."""
    nodes.steps = iter(
        [
            *(lambda phase=phase: steps_to(nodes, nodes.begun(), phase) for phase in WAY),
            lambda: nodes.finish(nodes.begun()),
        ]
    )
    said = answer(named("account", "move", JOE, "b", "--json"))
    assert (said["from"], said["node"], said["node_generation"]) == ("a", "b", 2)
    assert said["seconds"] >= said["closed_seconds"] >= 0


@pytest.mark.parametrize("trouble", [one for one in Trouble if one is not Trouble.NONE])
@pytest.mark.parametrize("side", Side)
def test_every_failure_names_the_node_and_the_next_step(named, nodes: Nodes, trouble, side) -> None:
    """The account stays, and the next move may begin."""
    nodes.steps = iter([lambda: nodes.step(nodes.begun(), side, Phase.FAILED, failed=side, trouble=trouble)])
    code, _out, err = named("account", "move", JOE, "b")
    assert code in (3, 5, 6) and "the account stays here, and is open: " in err
    assert f"node {'b' if side is Side.TARGET else 'a'}" in err
    assert nodes.all() == []


def test_servers_of_which_neither_answers_are_given_up(named, nodes: Nodes) -> None:
    """By the command itself."""
    nodes.steps = iter([lambda: setattr(nodes, "silent_s", 1_000.0)])
    code, _out, err = named("account", "move", JOE, "b")
    assert code == 5 and "node a did not answer in time" in err
    assert nodes.all() == []


def test_a_move_that_somebody_cancels_is_told(named, nodes: Nodes) -> None:
    """Where it was begun."""
    nodes.steps = iter([lambda: nodes.cancel(nodes.begun())])
    code, _out, err = named("account", "move", JOE, "b")
    assert code == 5 and "the move was cancelled: the account stays here, and is open" in err


def test_ctrl_c_cancels(named, nodes: Nodes) -> None:
    """The account stays; a second word cancels what nobody waits for."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    nodes.steps = iter([interrupt])
    code, _out, err = named("account", "move", JOE, "b")
    assert code == 5 and "cancelled: the account stays here, and is open" in err and nodes.all() == []
    assert named("account", "move", JOE, "--cancel")[0] == 3
    nodes.begin(Move(nodes.record.account_id, account_move.MoveId("m"), "a", "b", 1))
    for words in (("move", JOE, "b"), ("delete", JOE, "--yes")):
        code, _out, err = named("account", *words)
        assert code == 3 and "is being moved already" in err
    assert answer(named("account", "move", JOE, "--cancel", "--json"))["cancelled"] is True
    assert nodes.all() == []


def test_an_account_that_is_still_closed_is_told(named, nodes: Nodes, tmp_path, monkeypatch) -> None:
    """With what opens it."""
    monkeypatch.setattr(account_move, "_REOPEN_S", 0.0)
    assert nodes.record is not None
    moving = account_paths(tmp_path / "data", nodes.record.account_id).moving

    def give_up() -> None:
        put_mark(moving, nodes.begun().move_id)
        failed = {"failed": Side.TARGET, "trouble": Trouble.SILENCE}
        nodes.step(nodes.begun(), Side.SOURCE, Phase.FAILED, **failed)

    nodes.steps = iter([give_up])
    code, _out, err = named("account", "move", JOE, "b")
    assert code == 5 and "stays here, but is still closed" in err and "snapshot process" in err
    moving.unlink()
