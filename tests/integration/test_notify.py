"""A session hears what happens in the whole account, whichever worker did it (NOTIFY, RFC 5465)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from imap_wire import Wire, session
from on_workers import one_on_each
from running import Server

pytestmark = pytest.mark.integration

DEADLINE_S = 5.0
"""Long for a machine that is busy with other tests; on an idle one it is some 20 ms."""
EVERYTHING = b"(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange)"


@pytest.fixture
def both(server: Server) -> Iterator[tuple[Wire, Wire]]:
    """A session that watches all mailboxes, and one on another worker that does things."""
    watcher, *others = one_on_each(server, mailbox=b"").values()
    # With a single worker it does both.
    doer = others[0] if others else session(server, b"")
    with watcher, contextlib.ExitStack() as closing:
        for wire in {doer, *others}:
            closing.enter_context(wire)
        assert watcher.command(b"ENABLE CONDSTORE").status == b"OK"
        answer = watcher.command(b"NOTIFY SET STATUS (personal " + EVERYTHING + b")")
        assert answer.status == b"OK"
        assert len(answer.texts(b"STATUS")) == len(watcher.command(b'LIST "" *').texts(b"LIST"))
        watcher.socket.settimeout(DEADLINE_S)
        yield watcher, doer


def done(wire: Wire, *commands: bytes) -> None:
    """All of them succeed."""
    for command in commands:
        assert wire.command(command).status == b"OK", command


def heard(watcher: Wire, *lines: bytes) -> None:
    """The watcher is told exactly this, without having asked, and in time."""
    began = time.monotonic()
    for expected in lines:
        line = watcher.line()
        start, _, end = expected.partition(b"<*>")
        assert line.startswith(start) and line.endswith(end), f"{line!r} instead of {expected!r}"
    assert time.monotonic() - began < DEADLINE_S


def test_mailboxes_that_the_other_worker_changes(both: tuple[Wire, Wire]) -> None:
    """Created, renamed with its inferiors, subscribed, annotated and deleted."""
    watcher, doer = both
    done(doer, b"CREATE Lists/one")
    heard(
        watcher,
        b'* LIST (\\HasChildren) "/" Lists',
        b'* LIST (\\HasNoChildren) "/" Lists/one',
        b"* STATUS Lists (MESSAGES 0 UIDNEXT 1 UIDVALIDITY <*> UNSEEN 0 HIGHESTMODSEQ 1)",
        b"* STATUS Lists/one (MESSAGES 0 UIDNEXT 1 UIDVALIDITY <*> UNSEEN 0 HIGHESTMODSEQ 1)",
    )
    done(doer, b"RENAME Lists Post")
    heard(watcher, b'* LIST (\\HasChildren) "/" Post ("OLDNAME" (Lists))')
    done(doer, b"SUBSCRIBE Post/one")
    heard(watcher, b'* LIST (\\HasNoChildren \\Subscribed) "/" Post/one')
    done(doer, b'SETMETADATA Post (/private/comment "x")')
    heard(watcher, b"* METADATA Post /private/comment")
    done(doer, b"UNSUBSCRIBE Post/one")
    heard(watcher, b'* LIST (\\HasNoChildren) "/" Post/one')
    done(doer, b"DELETE Post/one")
    heard(watcher, b'* LIST (\\NonExistent) "/" Post/one', b'* LIST (\\HasNoChildren) "/" Post')
    done(doer, b"DELETE Post")
    heard(watcher, b'* LIST (\\NonExistent) "/" Post')
    assert watcher.command(b"NOOP").untagged == ()


def test_mail_that_comes_and_goes(server: Server, both: tuple[Wire, Wire]) -> None:
    """Delivered into a mailbox that nobody has selected; read, flagged and expunged on the other worker."""
    watcher, doer = both
    local, _, domain = server.user.partition("@")
    server.deliver(b"Subject: new\r\n\r\ntext\r\n", to=f"{local}+archive@{domain}")
    heard(watcher, b"* STATUS Archive (MESSAGES 1 UIDNEXT 2 UIDVALIDITY <*>)")
    done(doer, b"SELECT Archive", b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
    heard(watcher, b"* STATUS Archive (UIDVALIDITY <*>)")
    done(doer, b"UID STORE 1 +FLAGS.SILENT (\\Flagged)")
    heard(watcher, b"* STATUS Archive (UIDVALIDITY <*>)")
    done(doer, b"UID MOVE 1 Trash")
    heard(
        watcher,
        b"* STATUS Archive (MESSAGES 0 UIDNEXT 2 UIDVALIDITY <*>)",
        b"* STATUS Trash (MESSAGES 1 UIDNEXT 2 UIDVALIDITY <*>)",
    )
    assert watcher.command(b"NOOP").untagged == ()


def test_the_selected_mailbox(server: Server, both: tuple[Wire, Wire]) -> None:
    """New messages come with their data, and what is expunged is told between commands."""
    watcher, doer = both
    done(watcher, b"CREATE Fresh", b"SELECT Fresh")
    done(watcher, b"NOTIFY SET (selected (MessageNew (FLAGS ENVELOPE) MessageExpunge FlagChange))")
    local, _, domain = server.user.partition("@")
    server.deliver(b"Subject: told\r\n\r\ntext\r\n", to=f"{local}+fresh@{domain}")
    heard(
        watcher,
        b"* 1 EXISTS",
        b"* 1 RECENT",
        b'* 1 FETCH (UID 1 FLAGS (\\Recent) ENVELOPE (NIL "told" <*>))',
    )
    done(doer, b"SELECT Fresh", b"STORE 1 +FLAGS.SILENT (\\Deleted)")
    heard(watcher, b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent) MODSEQ (<*>))")
    done(doer, b"EXPUNGE")
    heard(watcher, b"* 1 EXPUNGE")
    done(watcher, b"NOTIFY NONE")
    assert doer.append(b"Fresh", b"Subject: untold\r\n\r\ntext\r\n").status == b"OK"
    assert watcher.command(b"NOOP").untagged == ()


def test_many_changes_end_in_the_truth(server: Server, both: tuple[Wire, Wire]) -> None:
    """A hundred appends and deliveries may be told in few lines; the last of them is right."""
    watcher, doer = both
    (status,) = doer.command(b"STATUS INBOX (MESSAGES)").texts(b"STATUS")
    there = int(status.rpartition(b" ")[2].rstrip(b")"))
    for _ in range(50):
        assert doer.append(b"Drafts", b"Subject: x\r\n\r\nx\r\n").status == b"OK"
    server.deliver(*[b"Subject: y\r\n\r\ny\r\n"] * 50)
    expected = {b"Drafts": b"(MESSAGES 50 ", b"INBOX": b"(MESSAGES %d " % (there + 50)}
    last = dict.fromkeys(expected, b"")
    lines = 0
    while not all(last[name].startswith(expected[name]) for name in expected):
        _, word, name, values = watcher.line().split(b" ", 3)
        assert word == b"STATUS"
        last[name] = values
        lines += 1
    assert lines <= 100
    assert watcher.command(b"NOOP").untagged == ()
