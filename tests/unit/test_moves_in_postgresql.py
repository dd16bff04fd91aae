"""The moves of a directory in PostgreSQL: the rules of ``test_moves``, in transactions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from directory_worlds import ANN, JOE, record
from move_worlds import WAY, move, steps_to

from mailstore.account import init_root, open_directory
from mailstore.directory import Node
from mailstore.directory.moves import Phase, Side, Trouble, moves_of
from mailstore.directory.postgresql import PostgresDirectory, make_in
from mailstore.errors import DirectoryNotShared, MoveOver, NoSuchAccount, NoSuchNode
from mailstore.limits import DirectoryLimits

KEY = bytes(32)
LIMITS = DirectoryLimits(connect_timeout_s=60.0, query_timeout_s=60.0)


@dataclass
class Site:
    """One directory with nodes a and b and an account of a's, opened as often as there are processes."""

    server: object
    url: str
    opened: list[PostgresDirectory] = field(default_factory=list)

    def open(self) -> PostgresDirectory:
        """Once more."""
        self.opened.append(PostgresDirectory(self.url, KEY, LIMITS))
        return self.opened[-1]

    def sql(self, statement: str) -> object:
        """What the owner of the database does."""
        return self.server.sql_at(self.url, statement)  # type: ignore[attr-defined]  # a PostgreSql


@pytest.fixture
def site(postgresql) -> Iterator[Site]:
    """A new one."""
    found = Site(postgresql, postgresql.new_place())
    make_in(found.url, KEY, LIMITS)
    directory = found.open()
    for name in "ab":
        directory.put_node(Node(name, f"{name}.example.org:2424"))
    directory.add_account(replace(record(), node="a", node_generation=1))
    yield found
    for one in found.opened:
        one.close()


def test_every_step_is_seen_by_the_other_node(site: Site) -> None:
    """And the last one gives it the account, in one transaction with the end of the move."""
    mine, other = site.open().moves(), site.open()
    mine.begin(move())
    ticket = {"segments": ["x"], "address": "joe@example.org"}
    mine.step(move(), Side.SOURCE, Phase.COPYING, ticket=ticket)
    [seen] = other.moves().all()
    assert (seen.move.ticket, seen.move.phase, seen.silent_s >= 0) == (ticket, Phase.COPYING, True)
    other.moves().step(move(), Side.TARGET, Phase.COPYING, copied_bytes=7)
    assert mine.view(JOE).seen.move == replace(seen.move, copied_bytes=7)
    steps_to(other.moves(), move(), Phase.COPIED, Phase.LAST)
    assert other.account(JOE).node == "a"
    after = other.moves().finish(move())
    assert (after.node, after.node_generation) == ("b", 2)
    assert site.open().account(JOE) == after and mine.all() == []


def test_a_dump_shows_neither_account_nor_nodes_nor_ticket(site: Site) -> None:
    """And a row that somebody has altered is no move."""
    moves = site.open().moves()
    moves.begin(replace(move(), ticket={"address": "joe@example.org"}))
    dumped = str(site.sql("SELECT * FROM sealbox_move"))
    assert JOE not in dumped and "joe" not in dumped
    site.sql("UPDATE sealbox_move SET changed = changed + 1")
    assert moves.all() == [] and moves.view(JOE).seen is None
    with pytest.raises(MoveOver):
        moves.finish(move())


def test_a_step_is_no_news(site: Site) -> None:
    """Hundreds of moves would have every process read everything again; the end of one is."""
    directory = site.open()
    before = directory.version()
    directory.moves().begin(move())
    steps_to(directory.moves(), move(), *WAY)
    assert directory.version() == before
    directory.moves().finish(move())
    assert directory.version() != before


def test_a_step_ends_the_silence(site: Site) -> None:
    """By PostgreSQL's clock, which is the same for all."""
    moves = site.open().moves()
    moves.begin(move())
    site.sql("UPDATE sealbox_move SET touched = touched - interval '1 hour'")
    assert moves.view(JOE).seen.silent_s > 3600
    moves.step(move(), Side.SOURCE, Phase.COPYING)
    assert moves.view(JOE).seen.silent_s < 3600


@pytest.mark.parametrize("touched", ["infinity", "-infinity", "2999-01-01"])
def test_a_time_that_no_step_has_left_is_long_ago(site: Site, touched: str) -> None:
    """It neither keeps an account closed nor hinders other moves."""
    moves = site.open().moves()
    moves.begin(move())
    site.sql(f"UPDATE sealbox_move SET touched = '{touched}'")
    [seen] = moves.all()
    assert seen.silent_s > 3600


@pytest.mark.parametrize("ending", ["fail", "cancel"])
def test_what_was_offered_before_a_move_ended_cannot_be_taken_afterwards(site: Site, ending: str) -> None:
    """Even by one who has kept the row, and puts it back: mail has come since to where the account is."""
    directory = site.open()
    moves = directory.moves()
    moves.begin(move())
    steps_to(moves, move(), *WAY)
    site.sql("CREATE TABLE kept AS SELECT * FROM sealbox_move")
    if ending == "fail":
        moves.step(move(), Side.SOURCE, Phase.FAILED, trouble=Trouble.SILENCE)
    else:
        assert moves.cancel(move())
    assert (directory.account(JOE).node, directory.account(JOE).node_generation) == ("a", 2)
    site.sql("DELETE FROM sealbox_move; INSERT INTO sealbox_move SELECT * FROM kept")
    with pytest.raises(MoveOver):
        moves.finish(move())
    assert directory.account(JOE).node == "a"


def test_of_taking_and_giving_up_at_once_one_happens(site: Site) -> None:
    """However often; and the account is where the answer says."""
    directories = [site.open(), site.open()]
    moves, generation = [one.moves() for one in directories], 1
    for number in range(20):
        wanted = replace(move(f"m{number}"), generation=generation)
        moves[0].begin(wanted)
        steps_to(moves[0], wanted, *WAY)
        with ThreadPoolExecutor(2) as pool:
            given_up = pool.submit(moves[0].cancel, wanted)
            taken = pool.submit(moves[1].finish, wanted)
        is_taken = taken.exception() is None
        assert is_taken or isinstance(taken.exception(), MoveOver)
        assert given_up.result() is not is_taken
        assert directories[0].account(JOE).node == ("b" if is_taken else "a")
        directories[0].set_node(JOE, "a", generation := generation + 2)


def test_the_account_and_the_node_have_to_be_there(site: Site) -> None:
    """When it begins, and when it ends."""
    directory = site.open()
    with pytest.raises(NoSuchNode):
        directory.moves().begin(replace(move(), target="c"))
    with pytest.raises(NoSuchAccount):
        directory.moves().begin(replace(move(), account_id=ANN))
    directory.moves().begin(move())
    steps_to(directory.moves(), move(), *WAY)
    directory.remove_account(JOE)
    assert directory.moves().all() == []
    with pytest.raises(MoveOver):
        directory.moves().finish(move())


def test_why_a_move_has_failed_is_there_to_be_read(site: Site) -> None:
    """Until somebody ends it, or another one begins."""
    moves = site.open().moves()
    moves.begin(move())
    moves.step(move(), Side.TARGET, Phase.FAILED, failed=Side.TARGET, trouble=Trouble.DISK_FULL)
    [seen] = site.open().moves().all()
    assert (seen.move.failed, seen.move.trouble) == (Side.TARGET, Trouble.DISK_FULL)
    assert moves.cancel(move()) and not moves.cancel(move())


def test_a_directory_of_one_server_has_no_moves(tmp_path) -> None:
    """The command says so."""
    init_root(tmp_path)
    directory = open_directory(tmp_path)
    with pytest.raises(DirectoryNotShared):
        moves_of(directory)
    directory.close()
