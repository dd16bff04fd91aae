"""A node's lease: what a process remembers of it, and what PostgreSQL keeps."""

from __future__ import annotations

import logging
from dataclasses import replace
from threading import Event, Thread

import pytest
from directory_worlds import JOE, record
from pydantic import ValidationError

from deploy.cli import root
from deploy.config_node import NodeSection
from mailstore import lease as leases
from mailstore.directory import Move, MoveId, Node, Phase, Side, call_node
from mailstore.directory.pg_lease import lease_in
from mailstore.directory.postgresql import PostgresDirectory, make_in
from mailstore.errors import (
    DirectoryUnavailable,
    LeaseOver,
    LeaseRefused,
    NodeGenerationPast,
    NodeIsLost,
    NodeNotLost,
    NodeServes,
    NoSuchNode,
)
from mailstore.lease import Lease, forget_lease
from mailstore.limits import DirectoryLimits

KEY = bytes(range(32))
LIMITS = DirectoryLimits(connect_timeout_s=60.0, query_timeout_s=60.0)


class Elsewhere:
    """PostgreSQL and a clock, as one process sees them."""

    def __init__(self):
        self.now_s = 5000.0
        self.takes_s = 0.0
        self.error = None
        self.ended = 0
        self.times_lost = 0
        self.lease = Lease("a", 100.0, self.renew, 10.0, self.end, lambda: self.now_s, margin_s=10.0)

    def renew(self):
        """A renewal, which may take long or fail."""
        self.now_s += self.takes_s
        if self.error is not None:
            raise self.error
        return self.times_lost

    def end(self):
        """What happens at the end."""
        self.ended += 1


@pytest.fixture
def world(caplog):
    """A node with a lease of 100 s."""
    caplog.set_level(logging.WARNING, "sealbox.nodes")
    return Elsewhere()


def test_a_process_may_serve_for_nine_tenths_of_its_lease(world):
    """Counted from before it asked, however long the answer was on its way."""
    assert not world.lease.is_held
    world.takes_s = 7.0
    assert world.lease.renew()
    assert world.lease.left_s == pytest.approx(83.0)
    world.now_s += 82.9
    assert world.lease.is_held
    world.lease.require()
    world.now_s += 0.2
    assert (world.lease.is_held, world.lease.left_s) == (False, 0.0)


def test_an_answer_that_is_too_late_gives_nothing(world):
    """The lease that it tells of is over."""
    world.takes_s = 95.0
    world.lease.renew()
    assert not world.lease.is_held


def test_a_lease_that_cannot_be_renewed_lasts_until_its_end(world, caplog):
    """An outage that is shorter is noticed by nobody but the log, which is told each thing once."""
    world.lease.renew()
    world.error = DirectoryUnavailable()
    for _ in range(8):
        world.now_s += 10
        assert not world.lease.renew()
        assert world.lease.is_held
    world.now_s += 11
    world.lease.renew()
    world.lease.renew()
    assert (world.lease.is_held, world.ended) == (False, 1)
    world.error = None
    assert world.lease.renew()
    assert world.lease.left_s == 90.0
    assert [one.getMessage() for one in caplog.records] == [
        "node a: its lease cannot be renewed (DirectoryUnavailable); it serves for 80 s more",
        "node a: its lease is over: until it is renewed no account is open",
        "node a: its lease is renewed",
    ]


@pytest.mark.parametrize("error", [NodeIsLost(), NoSuchNode()])
def test_a_node_that_is_told_no_serves_no_longer(world, caplog, error):
    """It says what the operator has to do, and what it had left counts no more."""
    world.lease.renew()
    world.error = error
    assert not world.lease.renew()
    assert (world.lease.is_held, world.ended) == (False, 1)
    assert "sealbox node add" in caplog.text
    world.lease.start = lambda: None
    with pytest.raises(LeaseRefused):
        world.lease.require()


def test_a_process_that_slept_through_the_loss_of_its_node_never_serves_again(world, caplog):
    """Others may have its accounts, and it remembers what was before; a new process may serve."""
    world.times_lost = 1
    world.lease.renew()
    world.now_s += 1000.0
    world.times_lost = 2
    for _ in range(2):
        assert not world.lease.renew()
        assert not world.lease.is_held
    assert "restart the server" in caplog.text
    assert Lease("a", 100.0, world.renew, 10.0, None, lambda: world.now_s).renew()


def test_an_unexpected_error_is_one_like_others(world, caplog):
    """Were the thread to end, nobody would renew the lease; its text stays out of the log."""
    world.error = ValueError("joe@example.org")
    assert not world.lease.renew()
    assert "ValueError" in caplog.text and "joe" not in caplog.text


def test_who_asks_first_waits_for_the_answer():
    """A command that begins needs no pause before it; the thread is the only one that renews."""
    asked = []
    lease = Lease("a", 100.0, lambda: asked.append(1), 10.0)
    for _ in range(3):
        lease.require()
    assert asked == [1]
    lease.stop()
    refused = Lease("a", 100.0, lambda: 1 / 0, 10.0)
    with pytest.raises(LeaseOver):
        refused.require()
    refused.stop()


def test_a_command_ends_with_the_lease(tmp_path, monkeypatch, capsys):
    """Whatever it is doing: it may be killed at any step. A server that is started says otherwise."""
    codes = []
    monkeypatch.setattr(root.os, "_exit", codes.append)
    config = tmp_path / "sealbox.toml"
    config.write_text('[node]\nname = "a"\nlease_s = 77\nlease_margin_s = 7\n')
    root.put_directory_of(config, None, tmp_path)
    lease_s, margin_s, at_end = leases._settings[tmp_path]
    at_end()
    assert (lease_s, margin_s, codes) == (77.0, 7.0, [root.EXIT_BUSY])
    assert "this server's lease is over" in capsys.readouterr().err
    leases.put_lease(tmp_path, 77.0, 7.0)
    assert leases._settings[tmp_path] == (77.0, 7.0, None)
    forget_lease(tmp_path)
    assert tmp_path not in leases._settings
    call_node(tmp_path, None)


def test_the_end_does_not_wait_for_a_renewal_that_hangs():
    """PostgreSQL may not answer for as long as it likes."""
    now_s, hangs, goes_on, ended = [5000.0], Event(), Event(), Event()
    lease = Lease("a", 100.0, lambda: 0, 10.0, ended.set, lambda: now_s[0], margin_s=10.0)
    lease.require()

    def renew():
        hangs.set()
        goes_on.wait(60.0)
        return 0

    lease._renew = renew
    renewing = Thread(target=lease.renew, daemon=True)
    renewing.start()
    assert hangs.wait(60.0) and not ended.is_set()
    now_s[0] += 91.0
    assert ended.wait(60.0)
    goes_on.set()
    renewing.join()
    assert lease.left_s == 0.0
    lease.stop()


def test_a_lease_is_longer_than_its_margin():
    """Otherwise it would be over before it is renewed."""
    assert NodeSection(lease_s=90.0).lease_margin_s == 30.0
    with pytest.raises(ValidationError, match="lease_margin_s"):
        NodeSection(lease_s=89.0)


# -- in PostgreSQL ---------------------------------------------------------------------------------


@pytest.fixture
def site(postgresql):
    """A directory with nodes a and b, and an account of a; how to renew a lease there; SQL."""

    class Site:
        url = postgresql.new_place()

        def renew(self, node="a", lease_s=300.0):
            return lease_in(self.url, KEY, LIMITS, node, lease_s)()

        def sql(self, statement):
            return postgresql.sql_at(self.url, statement)

        def left_s(self, node="a"):
            return next(one.left_s for one in self.directory.leases() if one.name == node)

    found = Site()
    make_in(found.url, KEY, LIMITS)
    found.directory = PostgresDirectory(found.url, KEY, LIMITS)
    for name in "ab":
        found.directory.put_node(Node(name, "192.0.2.1:24"))
    found.directory.add_account(record())
    found.directory.set_node(JOE, "a", 1)
    yield found
    found.directory.close()


def test_a_renewal_lasts_by_the_clock_of_postgresql(site):
    """It changes nothing that anybody is told of; the longest that was given counts."""
    version = site.directory.version()
    assert site.left_s() is None
    site.renew()
    assert 0 < site.left_s() <= 300
    site.renew(lease_s=9000.0)
    site.renew()
    assert 300 < site.left_s() <= 9000
    assert (site.left_s("b"), site.directory.version()) == (None, version)
    with pytest.raises(NoSuchNode):
        site.renew("nobody")


def test_a_node_with_another_address_keeps_its_lease(site):
    """It may be serving."""
    site.renew()
    site.directory.put_node(Node("a", "192.0.2.2:24"))
    assert site.left_s() > 0


def test_a_node_is_lost_when_its_lease_is_over_and_not_before(site):
    """From then on it gets none, until it is added again; processes of before are told by the number."""
    assert site.renew() == 0
    with pytest.raises(NodeServes):
        site.directory.mark_lost("a")
    site.renew()
    site.sql("UPDATE sealbox_node SET leased_until = now() - interval '1 second'")
    site.directory.mark_lost("a")
    assert [(one.name, one.is_lost) for one in site.directory.leases()] == [("a", True), ("b", False)]
    with pytest.raises(NodeIsLost):
        site.renew()
    assert site.left_s() < 0
    site.directory.put_node(Node("a", "192.0.2.1:24"))
    with pytest.raises(NodeIsLost):
        site.renew()
    site.directory.put_node(Node("a", "192.0.2.1:24"), again=True)
    assert site.renew() == 1
    assert site.left_s() > 0


def test_a_name_that_nobody_has_does_not_seem_to_be_on_a_lost_node(site):
    """Who is sent there would know then that there is no such account: the lost node has none."""
    names = [f"nobody{number}@example.org" for number in range(30)]
    before = {name: site.directory.seeming_node(name) for name in names}
    assert set(before.values()) == {"a", "b"}
    site.renew()
    site.sql("UPDATE sealbox_node SET leased_until = now() - interval '1 second'")
    site.directory.mark_lost("a")
    assert {site.directory.seeming_node(name) for name in names} == {"b"}
    assert [one.name for one in site.directory.nodes()] == ["a", "b"]
    site.sql("UPDATE sealbox_node SET is_lost = false")
    assert {name: site.directory.seeming_node(name) for name in names} == before


def test_a_lease_that_is_not_known_is_not_over(site):
    """The directory was imported, or the node removed and added, while it served."""
    with pytest.raises(NodeServes):
        site.directory.mark_lost("a")
    site.directory.begin_lease("a", 300.0)
    until_s = site.left_s()
    assert 0 < until_s <= 300
    site.directory.begin_lease("a", 9000.0)
    assert site.left_s() <= until_s
    with pytest.raises(NodeServes):
        site.directory.mark_lost("a")
    with pytest.raises(NoSuchNode):
        site.directory.begin_lease("nobody", 1.0)


def test_no_account_moves_to_a_node_that_is_lost(site):
    """Neither when that is asked for nor when the last step is left."""
    moves = site.directory.moves()
    move = Move(JOE, MoveId("77" * 16), "a", "b", 1)
    moves.begin(move)
    for side, phase in (
        (Side.SOURCE, Phase.COPYING),
        (Side.TARGET, Phase.COPIED),
        (Side.SOURCE, Phase.LAST),
    ):
        moves.step(move, side, phase)
    site.sql("UPDATE sealbox_node SET is_lost = true")
    with pytest.raises(NodeIsLost):
        moves.finish(move)
    assert site.directory.account(JOE).node == "a"
    moves.cancel(move)
    with pytest.raises(NodeIsLost):
        moves.begin(move)


class Header:
    """What the directory takes from one."""

    public_key, generation = b"another key", 9


def test_accounts_are_taken_from_lost_nodes_alone(site):
    """Once, with the header that they have there."""
    with pytest.raises(NodeNotLost):
        site.directory.take_from_lost(JOE, "a", "b", Header)
    site.renew()
    site.sql("UPDATE sealbox_node SET leased_until = now() - interval '1 second'")
    site.directory.mark_lost("a")
    site.directory.take_from_lost(JOE, "a", "b", Header)
    expected = replace(record(), node="b", node_generation=2, public_key=b"another key", header_generation=9)
    assert site.directory.account(JOE) == expected
    with pytest.raises(NodeGenerationPast):
        site.directory.take_from_lost(JOE, "a", "b", Header)
    site.directory.set_node(JOE, "a", 3)
    site.directory.put_node(Node("a", "192.0.2.1:24"), again=True)
    with pytest.raises(NodeNotLost):
        site.directory.take_from_lost(JOE, "a", "b", Header)
