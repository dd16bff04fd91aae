"""The memory for literals on their way: shared, divided fairly, given back however a command ends."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from collections.abc import Callable

import pytest

from mailstore.errors import StorageFailed
from protocols.budget import MemoryBudget, Reservation
from protocols.imap.grammar.table import COMMANDS
from protocols.limits import KIB, MIB, ImapLimits
from tests.wire import Client, ImapWorld

LIMITS = dataclasses.replace(
    ImapLimits(),
    line_max_bytes=4 * KIB,
    literals_total_max_bytes=1 * KIB,
    append_max_bytes=10 * KIB,
    append_total_max_bytes=20 * KIB,
    literals_worker_max_bytes=40 * KIB,
    swallow_max_bytes=8 * KIB,
)
BUSY = b"too much is being sent at once, please try later"


def begun(world: ImapWorld, size_kib: int = 10) -> Client:
    """A connection with an APPEND whose message has come but for its last octets."""
    client = world.logged_in()
    assert client.say(b"a APPEND INBOX {%d}\r\n" % (size_kib * KIB)) == b"+ go ahead\r\n"
    assert client.say(b"x" * (size_kib * KIB - 2)) == b""
    return client


def test_unfinished_messages_of_all_connections_have_a_common_bound() -> None:
    """An account has half of the memory at most, however many connections it opens."""
    world = ImapWorld(limits=LIMITS)
    begun(world)
    begun(world)
    assert world.literals.used_bytes == 18 * KIB
    third = world.logged_in()
    assert third.say(b"a APPEND INBOX {10240}\r\n") == b"a NO [UNAVAILABLE] " + BUSY + b"\r\n"
    assert world.literals.used_bytes == 18 * KIB
    # What every command may have needs no memory of the others.
    assert third.say(b"b APPEND INBOX {5+}\r\nhello\r\n").startswith(b"b OK [APPENDUID")
    # A refusal for want of memory is no bad command.
    for _ in range(LIMITS.bad_commands_max + 1):
        assert third.say(b"c APPEND INBOX {10240}\r\n").startswith(b"c NO [UNAVAILABLE] ")


def test_both_ports_of_a_worker_share_the_memory() -> None:
    """Each port has a factory of its own; what is on its way on one counts on the other."""
    world = ImapWorld(limits=LIMITS)
    begun(world)
    begun(world)
    world.factory = world.factory_for(implicit_tls=True)
    assert b"a NO [UNAVAILABLE] " in world.logged_in().say(b"a APPEND INBOX {10240}\r\n")


def test_a_refused_message_that_comes_unasked_is_swallowed_or_ends_the_connection() -> None:
    """As for other refused literals (RFC 7888 section 4); up to swallow_max_bytes is swallowed."""
    world = ImapWorld(limits=LIMITS)
    begun(world)
    begun(world)
    client = world.logged_in()
    said = client.say(b"a APPEND INBOX {8000+}\r\n" + b"x" * 8000 + b"\r\nb NOOP\r\n")
    assert said == b"a NO [UNAVAILABLE] " + BUSY + b"\r\nb OK done\r\n"
    assert world.literals.used_bytes == 18 * KIB
    assert client.say(b"c APPEND INBOX {10000+}\r\n") == b"* BYE " + BUSY + b"\r\n"
    assert client.closed
    assert world.literals.used_bytes == 18 * KIB


def test_a_later_message_of_the_same_command_can_be_refused() -> None:
    """MULTIAPPEND grows what the command has; without room all of it goes."""
    world = ImapWorld(limits=LIMITS)
    begun(world)
    client = begun(world, size_kib=5)
    assert world.literals.used_bytes == 13 * KIB
    assert client.say(b"xx {8000}\r\n") == b"a NO [UNAVAILABLE] " + BUSY + b"\r\n"
    assert world.literals.used_bytes == 9 * KIB


def finish(world: ImapWorld, client: Client) -> None:
    """The message is stored."""
    assert client.say(b"xx\r\n").startswith(b"a OK [APPENDUID")


def misspell(world: ImapWorld, client: Client) -> None:
    """The command turns out to be malformed behind the message."""
    assert client.say(b"xx (\r\n").startswith(b"a BAD ")


def go_on_too_large(world: ImapWorld, client: Client) -> None:
    """The next message of the command is over a limit."""
    assert client.say(b"xx {11000}\r\n") == b"a NO [TOOBIG] literal too large\r\n"


def go_on_without_end(world: ImapWorld, client: Client) -> None:
    """The line behind the message is too long."""
    assert client.say(b"xx" + b" " * (LIMITS.line_max_bytes + 1)) == b"a BAD line too long\r\n"


def die(world: ImapWorld, client: Client) -> None:
    """The next message is too large to swallow."""
    assert client.say(b"xx {11000+}\r\n") == b"* BYE literal too large\r\n"


def hang_up(world: ImapWorld, client: Client) -> None:
    """The client goes away in the middle of the message."""
    client.hang_up()


def hang_up_while_it_is_stored(world: ImapWorld, client: Client) -> None:
    """The client goes away while the store is at work, which cancels the session."""
    world.hold()
    assert client.say(b"xx\r\n") == b""
    assert world.literals.used_bytes > 0
    client.hang_up()


def fall_silent(world: ImapWorld, client: Client) -> None:
    """The client says nothing more."""
    world.clock.advance(LIMITS.idle_timeout_s)
    assert client.hear() == b"* BYE idle timeout\r\n"


def fail(world: ImapWorld, client: Client) -> None:
    """The store fails."""
    world.account.failure = StorageFailed("no")
    assert client.say(b"xx\r\n").startswith(b"a NO ")


@pytest.mark.parametrize(
    "end",
    [
        finish,
        misspell,
        go_on_too_large,
        go_on_without_end,
        die,
        hang_up,
        hang_up_while_it_is_stored,
        fall_silent,
        fail,
    ],
)
def test_memory_is_given_back_however_a_command_ends(end: Callable[[ImapWorld, Client], None]) -> None:
    """Nothing is left of the reservation, and others may send again."""
    world = ImapWorld(limits=LIMITS)
    client = begun(world)
    assert world.literals.used_bytes == 9 * KIB
    end(world, client)
    assert world.literals.used_bytes == 0


def test_memory_is_given_back_when_the_mailbox_is_not_there() -> None:
    """The command ends before its message comes."""
    world = ImapWorld(limits=LIMITS)
    said = world.logged_in().say(b"a APPEND Nowhere {10240}\r\n")
    assert said == b"a NO [TRYCREATE] no such mailbox\r\n"
    assert world.literals.used_bytes == 0
    assert world.access_log.entries[-1].command == "IMAP APPEND"


def test_the_table_says_whose_mailbox_is_looked_for_before_messages_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command whose row names no destination is asked for its literal; so is one that is not known."""
    spec = COMMANDS[b"APPEND"]
    monkeypatch.setitem(COMMANDS, b"APPEND", dataclasses.replace(spec, destination=None))
    client = ImapWorld(limits=LIMITS).logged_in()
    assert client.say(b"a APPEND Nowhere {10}\r\n") == b"+ go ahead\r\n"
    monkeypatch.delitem(COMMANDS, b"APPEND")
    client = ImapWorld(limits=LIMITS).logged_in()
    assert client.say(b"a APPEND Nowhere {10}\r\n") == b"+ go ahead\r\n"


def test_a_limit_that_keeps_the_largest_messages_out_is_refused() -> None:
    """Nobody may have more than half, so half has to be enough for one APPEND."""
    with pytest.raises(ValueError, match="literals_worker_max_bytes"):
        dataclasses.replace(LIMITS, literals_worker_max_bytes=40 * KIB - 1)


def test_whoever_takes_all_he_can_leaves_something() -> None:
    """However many have taken all they can, one more finds room, and nothing is shared out twice."""
    budget = MemoryBudget(1000)
    for number in range(1, 9):
        reservation = Reservation(budget)
        had = 0
        while reservation.grow_to(had + 1, (f"account {number}", f"site {number}")):
            had += 1
        assert had > 0
        assert budget.used_bytes <= 1000
        if number == 1:
            assert had == 500


def test_a_holder_is_bound_over_all_connections_and_by_each_of_its_names() -> None:
    """Many addresses help an account no more than many accounts help an address."""
    for names in (("account a", "site {}"), ("account {}", "site a")):
        budget = MemoryBudget(1000)
        taken = [budget.take(100, tuple(name.format(n) for name in names)) for n in range(10)]
        assert taken == [True] * 5 + [False] * 5
        assert budget.take(100, ("account z", "site z"))
        budget.give_back(100, ("account z", "site z"))
        for n in range(5):
            budget.give_back(100, tuple(name.format(n) for name in names))
        assert budget.used_bytes == 0
        assert budget.take(500, ("account a", "site a"))


@pytest.mark.parametrize("end", [finish, hang_up, fall_silent])
def test_what_was_given_back_is_not_held_any_more(end: Callable[[ImapWorld, Client], None]) -> None:
    """A lost connection drops what it had at once; the cycle collector would come late."""
    world = ImapWorld()
    client = world.logged_in()
    gc.disable()
    tracemalloc.start()
    try:
        assert client.say(b"a APPEND INBOX {%d}\r\n" % MIB) == b"+ go ahead\r\n"
        for size in [16 * KIB] * 63 + [16 * KIB - 2]:
            client.say(bytes(size))
        held_bytes, _ = tracemalloc.get_traced_memory()
        end(world, client)
        world.account.mailboxes["INBOX"].messages.clear()
        left_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held_bytes > MIB
    assert left_bytes < MIB // 2
