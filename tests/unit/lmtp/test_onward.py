"""Mail for accounts of other nodes: who is asked, what the sender hears, what a strange node can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from lmtp_world import MESSAGE, LmtpWorld
from nodes_world import Connection
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from protocols.envelope.message import RECEIVED_FIELD_MAX_BYTES, Trace
from protocols.envelope.onward import OnwardMail
from protocols.envelope.replies import Reply
from protocols.lmtp.dialogue import Dialogue

FULL = Reply(452, b"4.2.2", b"mailbox full")
DONE = Reply(250, b"2.0.0", b"delivered there")


class Nodes:
    """Answers with what a test has given for a node, and keeps what it was asked."""

    def __init__(self, **answers: list[Reply]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, OnwardMail]] = []

    async def pass_on(self, node: str, mail: OnwardMail) -> Sequence[Reply]:
        """See ``Onward``."""
        self.asked.append((node, mail))
        return self.answers[node]


def test_each_recipient_is_answered_in_order_with_what_its_node_said() -> None:
    """A node is asked once for all of its recipients (RFC 2033 section 4.2)."""
    nodes = Nodes(b=[DONE, FULL], c=[DONE])
    world = LmtpWorld(onward=nodes)
    world.store.elsewhere = {"ann": "b", "max": "c"}
    client = world.ready(b"ann@example.org", b"joe@example.org", b"max@example.org", b"ann+x@example.org")
    client.say(b"DATA\r\n")
    assert client.say(MESSAGE + b".\r\n") == b"".join(
        (DONE.wire, b"250 2.0.0 delivered\r\n", DONE.wire, FULL.wire)
    )
    assert [(node, mail.recipients) for node, mail in nodes.asked] == [
        ("b", (b"ann@example.org", b"ann+x@example.org")),
        ("c", (b"max@example.org",)),
    ]
    [mail, _] = [mail for _, mail in nodes.asked]
    assert mail.octets.startswith(b"Received: from relay.example.net")
    assert (mail.octets.endswith(b"\r\n" + MESSAGE), mail.sender) == (True, b"bob@example.net")
    assert [one.account for one in world.store.kept] == ["joe"]


@pytest.mark.parametrize(("onward", "node"), [(None, "b"), (None, None), (Nodes(), None)])
def test_what_cannot_be_passed_on_is_put_off_at_rcpt(onward, node) -> None:
    """No door for nodes passes on, and an account of no node is nowhere."""
    world = LmtpWorld(onward=onward)
    world.store.elsewhere = {"ann": node}
    client = world.ready()
    answer = client.say(b"RCPT TO:<ann@example.org>\r\n")
    assert answer == b"451 4.3.0 the mailbox is on another server, try again later\r\n"


def test_a_fault_of_ours_while_passing_on_puts_mail_off() -> None:
    """All recipients are answered; the others are not concerned."""
    world = LmtpWorld(onward=Nodes())
    world.store.elsewhere = {"ann": "b"}
    client = world.ready(b"ann@example.org", b"joe@example.org", b"ann+x@example.org")
    client.say(b"DATA\r\n")
    later = b"451 4.3.0 local error, try again later\r\n"
    assert client.say(MESSAGE + b".\r\n") == later + b"250 2.0.0 delivered\r\n" + later


def test_a_message_that_was_refused_goes_to_nobody() -> None:
    """It may be a loop, or larger than what is taken here."""
    nodes = Nodes(b=[DONE])
    world = LmtpWorld(onward=nodes, message_max_bytes=10)
    world.store.elsewhere = {"ann": "b"}
    client = world.ready(b"ann@example.org")
    client.say(b"DATA\r\n")
    assert client.say(MESSAGE + b".\r\n").startswith(b"552 ")
    assert nodes.asked == []


def test_the_field_that_is_added_has_a_bound() -> None:
    """So that what is taken here is not too large there."""
    longest = Trace(b"LMTP", b"", b"x" * 255, "f" * 39, b"y" * 255, True, True, b"0" * 16, 0)
    assert len(longest.received_field()) < RECEIVED_FIELD_MAX_BYTES


@pytest.fixture
def dialogue() -> tuple[Dialogue, Connection, Clock]:
    """A dialogue with a node, its connection, and the clock."""
    clock, transport = Clock(), Connection()
    made = Dialogue(clock, 30.0)
    made.makeConnection(transport)
    return made, transport, clock


def asked(dialogue: Dialogue) -> list[Any]:
    """What the next reply is, or why there is none, once that is known."""
    found: list[Any] = []
    done = Deferred.fromCoroutine(dialogue.reply())
    done.addCallbacks(found.append, lambda failure: found.append(failure.value.reason))
    return found


def test_replies_are_heard_octet_by_octet(dialogue) -> None:
    """The last line of each counts."""
    talk, _transport, _clock = dialogue
    said = b"250-x\r\n250-y\r\n250 z\r\n452 4.2.2 mailbox full\r\n"
    first = asked(talk)
    for number in range(len(said)):
        talk.dataReceived(said[number : number + 1])
    assert first + asked(talk) == [Reply(250, b"", b"z"), FULL]


GARBAGE = {
    "no reply": b"hello\r\n",
    "another code": b"354 go on\r\n",
    "octets": b"250 \xff\r\n",
    "no end": b"2" * 3000,
    "a bare LF": b"250 x\n250 y\r\n",
    "shutting down": b"421 4.3.2 bye\r\n",
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_whatever_a_node_says_instead_puts_mail_off(dialogue, said) -> None:
    """Nothing of it is said to the sender, and nothing is kept of what has no end."""
    talk, transport, _clock = dialogue
    waiting = asked(talk)
    talk.dataReceived(said)
    assert len(waiting) == 1 and isinstance(waiting[0], str)
    assert transport.aborted is not said.startswith(b"421")


def test_a_node_that_says_nothing_is_waited_for_so_long(dialogue) -> None:
    """Then the connection ends."""
    talk, transport, clock = dialogue
    waiting = asked(talk)
    clock.advance(29.9)
    assert waiting == []
    clock.advance(0.2)
    assert (waiting, transport.aborted) == (["no answer in time"], True)
    assert asked(talk) == ["no answer in time"]


def test_a_lost_connection_answers_nobody_positively(dialogue) -> None:
    """What came before counts."""
    talk, _transport, _clock = dialogue
    talk.dataReceived(b"250 2.0.0 delivered there\r\n")
    talk.connectionLost()
    assert asked(talk) + asked(talk) == [DONE, "the connection was lost"]


def test_a_message_is_sent_in_spans_as_the_node_takes_them(dialogue) -> None:
    """Not all of it into a buffer."""
    talk, transport, _clock = dialogue
    octets = bytes(range(256)) * 1000
    talk.send_chunk(octets)
    assert transport.value() == b"BDAT 256000 LAST\r\n"
    sizes = []
    while transport.producer is not None:
        before = len(transport.value())
        transport.producer.resumeProducing()
        sizes.append(len(transport.value()) - before)
    assert transport.value().endswith(octets) and max(sizes) == 64 * 1024


def test_who_leaves_in_the_middle_of_a_message_sends_nothing_more(dialogue) -> None:
    """A QUIT would be taken for a part of it, and the node deliver what nobody has written."""
    talk, transport, _clock = dialogue
    talk.send_chunk(b"x" * 200_000)
    transport.producer.resumeProducing()
    talk.end()
    assert transport.aborted
    assert b"QUIT" not in transport.value()
