"""UNAUTHENTICATE: the account is let go at once, compression ends behind the answer."""

from __future__ import annotations

import zlib

from tests.wire import ImapWorld


def test_the_account_is_let_go_at_once() -> None:
    """No session holds the account any more, and no grace is left to it."""
    world = ImapWorld()
    client = world.selected()
    assert client.say(b"a UNAUTHENTICATE\r\n").startswith(b"a OK [CAPABILITY")
    assert world.account.sessions == []
    assert world.account.released_at_once == 1
    assert client.say(b"b LOGIN joe secret\r\n").startswith(b"b OK [CAPABILITY")
    client.hang_up()
    assert world.account.released_at_once == 1
    assert world.account.sessions == []


def test_compression_ends_behind_the_answer() -> None:
    """The tagged answer is deflated, what follows is not, and COMPRESS can begin anew."""
    client = ImapWorld().logged_in()
    assert client.say(b"a COMPRESS DEFLATE\r\n") == b"a OK DEFLATE active\r\n"
    out, back = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
    said = client.say(out.compress(b"b UNAUTHENTICATE\r\n") + out.flush(zlib.Z_SYNC_FLUSH))
    assert back.decompress(said).startswith(b"b OK [CAPABILITY")
    assert client.say(b"c NOOP\r\n") == b"c OK done\r\n"
    assert b" COMPRESS=DEFLATE]" in client.say(b"d LOGIN joe secret\r\n")
    assert client.say(b"e COMPRESS DEFLATE\r\n") == b"e OK DEFLATE active\r\n"


def test_the_limits_are_those_before_login() -> None:
    """What only a logged-in client may send is refused again."""
    client = ImapWorld().logged_in()
    client.say(b"a UNAUTHENTICATE\r\n")
    assert client.say(b"b LOGIN {5000}\r\n").startswith(b"b NO [TOOBIG]")


def test_failed_logins_still_count() -> None:
    """Logging in and out does not buy another row of guesses."""
    client = ImapWorld().connect()
    client.say(b"a LOGIN joe wrong\r\n")
    client.say(b"b LOGIN joe secret\r\n")
    client.say(b"c UNAUTHENTICATE\r\n")
    said = b"".join(client.say(b"d LOGIN x {1+}\r\n\0\r\n") for _ in range(5))
    assert b"BYE" in said
    assert client.closed
