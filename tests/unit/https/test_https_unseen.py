"""Buttons pressed twice, in vain or by guessers: what counts, and who sees the password."""

from __future__ import annotations

import pytest
from https_world import APP_PASSWORD, TOKEN, HttpsWorld
from twisted.internet.defer import Deferred

from mailstore.errors import Busy
from mailstore.model import AccessProtocol
from protocols.limits import LoginLimits
from tests.wire import Client

INVITE = f"/invite/{TOKEN}"


def test_guessing_is_slowed_like_a_login() -> None:
    """Per site: after some failures the next attempt waits, from whatever connection it comes."""
    world = HttpsWorld(LoginLimits(free_failures=2, first_delay_s=8.0, waiting_per_address_max=1))
    guess = f"/invite/{'0' * 40}"
    for _ in range(3):
        assert world.post(guess, b"").status == 410
    body = b"as=other"
    head = f"POST {guess} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    waiting = world.connect()
    assert waiting.say(head + body) == b""
    assert world.post(guess, b"").status == 429  # more wait already than may
    assert world.ask(head + body, address="198.51.100.9").status == 410  # elsewhere it is the first
    for _ in range(20):
        world.clock.advance(1.0)
    assert waiting.hear().startswith(b"HTTP/1.1 410 ")


def press(world: HttpsWorld, address: str = "192.0.2.7", body: bytes = b"as=other") -> Client:
    """Somebody presses the button; the server is at work."""
    client = world.connect(address)
    head = f"POST {INVITE} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert client.say(head + body) == b""
    return client


@pytest.mark.parametrize("again_before", [True, False])
def test_who_presses_the_button_twice_sees_the_password(world: HttpsWorld, again_before: bool) -> None:
    """The browser drops the first request; the second gets what that has brought, done already or not."""
    world.accounts.gate = Deferred()
    first = press(world)
    first.hang_up()
    if again_before:
        second = press(world)
        world.accounts.gate.callback(None)
        assert APP_PASSWORD.encode() in second.hear()
    else:
        world.accounts.gate.callback(None)
        assert APP_PASSWORD in world.post(INVITE, b"as=other").text
    assert world.post(INVITE, b"as=other").status == 410


def test_what_was_not_seen_is_for_no_other_site(world: HttpsWorld) -> None:
    """Nor for another one who opens the link while the first still waits."""
    world.accounts.gate = Deferred()
    first = press(world)
    assert b"410" in world.connect("198.51.100.9").say(
        f"POST {INVITE} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
    )
    first.hang_up()
    world.accounts.gate.callback(None)
    other = world.ask(
        f"POST {INVITE} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode(), address="198.51.100.9"
    )
    assert other.status == 410


def test_of_two_who_wait_for_one_link_the_first_gets_the_password(world: HttpsWorld) -> None:
    """The other one from the same site is told that it is used up, and so is whoever comes later."""
    world.accounts.gate = Deferred()
    first, second = press(world), press(world)
    world.accounts.gate.callback(None)
    assert APP_PASSWORD.encode() in first.hear()
    assert second.hear().startswith(b"HTTP/1.1 410 ")
    assert world.post(INVITE, b"as=other").status == 410
    assert world.accounts.asked.count(TOKEN) == 2


def test_who_waits_for_one_who_hangs_up_gets_the_password(world: HttpsWorld) -> None:
    """The server may learn of the second request before it learns that the first is gone."""
    world.accounts.gate = Deferred()
    first, second = press(world), press(world)
    first.hang_up()
    world.accounts.gate.callback(None)
    assert APP_PASSWORD.encode() in second.hear()


def test_when_all_who_waited_have_hung_up_the_password_is_kept(world: HttpsWorld) -> None:
    """It is not lost to the one who had not got it, and no timer outlives it."""
    world.accounts.gate = Deferred()
    for client in (press(world), press(world)):
        client.hang_up()
    world.accounts.gate.callback(None)
    assert APP_PASSWORD in world.post(INVITE, b"as=other").text
    assert world.clock.getDelayedCalls() == []
    assert world.post(INVITE, b"as=other").status == 410


@pytest.mark.parametrize(("again", "shown"), [(b"as=apple", b"signed "), (b"as=other", b"Your settings")])
def test_who_hangs_up_while_the_profile_is_signed_sees_the_password(
    world: HttpsWorld, again: bytes, shown: bytes
) -> None:
    """The link is used up by then. The second time it may be the other button."""
    world.signing = Deferred()
    press(world, body=b"as=apple").hang_up()
    world.signing.callback(None)
    answer = world.post(INVITE, again)
    assert answer.status == 200
    assert shown in answer.body
    assert APP_PASSWORD.encode() in answer.body


@pytest.mark.parametrize("trouble", [MemoryError(), ValueError("not this key"), OSError(5, "no")], ids=repr)
def test_a_profile_that_cannot_be_signed_is_given_without_a_signature(
    world: HttpsWorld, trouble: Exception
) -> None:
    """The link is used up by then, and its password is in the profile."""
    world.signing_trouble = trouble
    answer = world.post(INVITE, b"as=apple")
    assert answer.status == 200
    assert answer.body == world.signed[0]
    assert APP_PASSWORD.encode() in answer.body


def test_the_wrong_button_is_no_failed_attempt() -> None:
    """The secret of the link is right, and so the other button works at once."""
    world = HttpsWorld(LoginLimits(free_failures=2, first_delay_s=8.0))
    world.accounts.protocols = frozenset({AccessProtocol.SMTP})
    assert [world.post(INVITE, b"as=apple").status for _ in range(5)] == [409] * 5
    assert APP_PASSWORD in world.post(INVITE, b"as=other").text


@pytest.mark.parametrize("token", [TOKEN[:-1], TOKEN + "s", "x", TOKEN[:8] + "-" * 32])
def test_a_link_of_which_a_part_is_missing_is_no_guess(token: str) -> None:
    """Nothing is looked for, and nobody's next login waits for it; what is said is what all are told."""
    world = HttpsWorld(LoginLimits(free_failures=2, first_delay_s=8.0))
    answers = [world.post(f"/invite/{token}", b"as=other") for _ in range(5)]
    answers += [world.post(f"/welcome/{token}", b"password=12345678&again=12345678") for _ in range(5)]
    assert {(one.status, one.body) for one in answers} == {(410, world.post(f"/invite/{'0' * 40}", b"").body)}
    assert world.accounts.asked == ["0" * 40]
    assert world.post(INVITE, b"as=other").status == 200


def test_unseen_kept_s() -> None:
    """Then it is forgotten."""
    world = HttpsWorld(unseen_kept_s=30.0)
    world.accounts.gate = Deferred()
    press(world).hang_up()
    world.accounts.gate.callback(None)
    world.clock.advance(31.0)
    assert world.post(INVITE, b"as=other").status == 410


def test_unseen_kept_s_begins_when_the_password_is_there() -> None:
    """However long that has taken since its visitor went."""
    world = HttpsWorld(unseen_kept_s=30.0)
    world.accounts.gate = Deferred()
    press(world).hang_up()
    world.clock.advance(31.0)
    world.accounts.gate.callback(None)
    assert APP_PASSWORD in world.post(INVITE, b"as=other").text


def test_a_failure_that_nobody_saw_is_forgotten(world: HttpsWorld) -> None:
    """The next request begins again, and nothing is left unhandled."""
    world.accounts.gate = Deferred()
    press(world).hang_up()
    world.accounts.gate.errback(Busy())
    world.clock.advance(31.0)
    world.accounts.gate = None
    world.accounts.unused.add(TOKEN)
    assert world.post(INVITE, b"as=other").status == 200


def test_a_guesser_counts_although_he_hangs_up() -> None:
    """An attempt has failed until it is known to have succeeded."""
    world = HttpsWorld(LoginLimits(free_failures=0, first_delay_s=8.0))
    world.post(f"/invite/{'0' * 40}", b"")
    client = world.connect()
    assert client.say(f"POST {INVITE} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()) == b""
    client.hang_up()
    world.clock.advance(60.0)
    assert TOKEN in world.accounts.unused
