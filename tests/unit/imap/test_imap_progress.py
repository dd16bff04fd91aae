"""Signs of life: in step with compression, and over when the connection is."""

from __future__ import annotations

import zlib

import pytest

from tests.wire import ImapWorld


def test_signs_of_life_are_compressed() -> None:
    """They belong to the deflate stream like everything else (RFC 4978)."""
    world = ImapWorld()
    client = world.selected()
    client.say(b"a COMPRESS DEFLATE\r\n")
    out, back = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
    gate = world.hold()
    client.say(out.compress(b"b SEARCH ALL\r\n") + out.flush(zlib.Z_SYNC_FLUSH))
    world.clock.advance(world.limits.progress_interval_s)
    said = back.decompress(client.hear())
    assert said == b'* OK [INPROGRESS ("b" NIL NIL)] in progress\r\n'
    gate.callback(None)
    assert back.decompress(client.hear()) == b"* SEARCH\r\nb OK done\r\n"


@pytest.mark.parametrize("command", [b"SEARCH", b"SORT (DATE) UTF-8", b"THREAD REFS UTF-8"])
def test_a_search_says_how_many_messages_it_has_read(command: bytes) -> None:
    """Of how many that have to be: what the index knows nothing of yet (RFC 9585 section 4)."""
    for done, goal, expected in (
        (0, 0, b"NIL NIL"),
        (0, 3000, b"0 3000"),
        (1234, 3000, b"1234 3000"),
        (3000, 3000, b"NIL NIL"),
    ):
        world = ImapWorld()
        client = world.selected()
        gate = world.hold()
        client.say(b"b %b TEXT a\r\n" % command)
        progress = world.account.mailboxes["INBOX"].searching
        progress.done, progress.goal = done, goal
        world.clock.advance(world.limits.progress_interval_s)
        assert client.hear() == b'* OK [INPROGRESS ("b" %b)] in progress\r\n' % expected
        gate.callback(None)
        assert client.hear().endswith(b"b OK done\r\n")


def test_nothing_ticks_after_the_connection() -> None:
    """A client that hangs up in the middle leaves no timer behind."""
    world = ImapWorld()
    client = world.selected()
    world.hold()
    client.say(b"b SEARCH ALL\r\n")
    world.clock.advance(world.limits.progress_interval_s)
    client.hang_up()
    assert world.clock.getDelayedCalls() == []
