"""Signs of life: in step with compression, and over when the connection is."""

from __future__ import annotations

import zlib

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


def test_nothing_ticks_after_the_connection() -> None:
    """A client that hangs up in the middle leaves no timer behind."""
    world = ImapWorld()
    client = world.selected()
    world.hold()
    client.say(b"b SEARCH ALL\r\n")
    world.clock.advance(world.limits.progress_interval_s)
    client.hang_up()
    assert world.clock.getDelayedCalls() == []
