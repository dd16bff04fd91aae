"""Passwords of accounts of other nodes: who is asked, what the client hears, and who is counted."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from mailstore.errors import AuthenticationFailed, OnAnotherNode
from mailstore.model import AccessProtocol
from protocols.limits import LoginLimits
from protocols.sasl_service.session import WRONG
from tests.unit.sasl.sasl_world import SaslWorld, auth, plain

CLIENT = "198.51.100.7"
STRICT = LoginLimits(free_failures=0, account_free_failures=100)


def theirs(login_limits: LoginLimits | None = None, account: str | None = "joe@example.org") -> SaslWorld:
    """All accounts are node b's."""
    world = SaslWorld(login_limits)
    world.store.login_error = OnAnotherNode(node="b", account=account)
    return world


def test_their_node_says_whether_a_password_is_right() -> None:
    """It hears whose it is, and the client the account's name, as if it were here."""
    world = theirs()
    client = world.ready()
    assert client.say(auth(1, initial=plain(secret=b"theirs"))) == b"OK\t1\tuser=joe@example.org\n"
    assert client.say(auth(2, initial=plain(secret=b"wrong"))) == b"FAIL\t2\treason=" + WRONG + b"\n"
    assert world.nodes.asked == [("b", CLIENT, b"joe", b"theirs"), ("b", CLIENT, b"joe", b"wrong")]
    assert [one.result for one in world.access_log.entries] == ["OK", "FAIL"]


def test_a_node_that_is_away_says_neither_yes_nor_no() -> None:
    """The connection ends, as the module has it, and nobody is slowed for that."""
    world = theirs(STRICT)
    world.nodes.away = True
    for _ in range(3):
        client = world.ready()
        assert client.say(auth(1, initial=plain(secret=b"theirs"))) == b""
        assert client.closed
    world.nodes.away = False
    assert world.ready().say(auth(1, initial=plain(secret=b"theirs"))).startswith(b"OK\t1\t")


def test_who_guesses_is_slowed_here_too() -> None:
    """A wrong password there counts as one here."""
    world = theirs(STRICT)
    client = world.ready()
    assert client.say(auth(1, initial=plain(secret=b"guess"))).startswith(b"FAIL\t1\t")
    assert client.say(auth(2, initial=plain(secret=b"theirs"))) == b""
    assert len(world.nodes.asked) == 1, "it waits for its time"
    world.clock.advance(2)
    assert client.hear().startswith(b"OK\t2\t")


def test_a_name_that_is_too_long_is_counted_and_no_node_is_asked() -> None:
    """``name_max_bytes`` ends the attempt here."""
    world = theirs(STRICT)
    client = world.ready()
    long = plain(name=b"x" * (STRICT.name_max_bytes + 1), secret=b"theirs")
    assert client.say(auth(1, initial=long)).startswith(b"FAIL\t1\treason=" + WRONG)
    assert client.say(auth(2, initial=long)) == b"", "it waits"
    world.clock.advance(2)
    assert client.hear().startswith(b"FAIL\t2\t") and world.nodes.asked == []


def test_a_client_that_leaves_has_had_its_guess_and_ends_the_question() -> None:
    """As at every other door."""
    world = theirs(STRICT)
    asked: list[type] = []
    world.nodes.answer = Deferred()
    world.nodes.answer.addErrback(lambda failure: asked.append(failure.type))
    client = world.ready()
    client.say(auth(1, initial=plain(secret=b"guess")))
    client.hang_up()
    assert asked == [CancelledError]
    world.nodes.answer = None
    assert world.ready().say(auth(1, initial=plain(secret=b"theirs"))) == b""
    assert len(world.nodes.asked) == 1


def test_a_name_that_nobody_has_is_asked_about_as_well_and_never_let_in(caplog) -> None:
    """Even if that node says yes."""
    world = theirs(account=None)
    client = world.ready()
    assert client.say(auth(1, initial=plain(secret=b"guess"))).startswith(b"FAIL\t1\treason=" + WRONG)
    assert client.say(auth(2, initial=plain(secret=b"theirs"))) == b""
    assert client.closed and len(world.nodes.asked) == 2
    assert caplog.records == []


def test_nobody_is_asked_of_whom_nothing_is_known_or_for_another_protocol() -> None:
    """An account of no node; and nodes ask each other for sending mail alone."""
    world = theirs()
    world.store.login_error = OnAnotherNode()
    assert world.ready().say(auth(1, initial=plain(secret=b"theirs"))) == b""
    world.store.login_error = OnAnotherNode(node="b", account="joe")
    for protocol, nodes in ((AccessProtocol.IMAP, world.nodes), (AccessProtocol.SMTP, None)):
        failed: list[type] = []
        done = Deferred.fromCoroutine(world.guard.prove(CLIENT, b"joe", b"theirs", protocol, nodes))
        done.addErrback(lambda failure, failed=failed: failed.append(failure.type))
        assert failed == [OnAnotherNode]
    assert world.nodes.asked == []


def test_accounts_of_this_node_concern_no_other() -> None:
    """Whether their passwords are right or wrong."""
    world = SaslWorld()
    client = world.ready()
    assert client.say(auth(1, initial=plain())) == b"OK\t1\tuser=joe\n"
    world.store.login_error = AuthenticationFailed()
    assert client.say(auth(2, initial=plain(secret=b"theirs"))).startswith(b"FAIL\t2\t")
    assert world.nodes.asked == []
