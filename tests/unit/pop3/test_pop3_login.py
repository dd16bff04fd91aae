"""Logging in over POP3: SASL, what is said while a login waits, and accounts that close meanwhile."""

from __future__ import annotations

import base64
import hmac

from pop3_world import Pop3World
from twisted.internet.defer import Deferred

from mailstore.keys.scram import scram_keys
from mailstore.model import ScramSetup
from protocols.limits import LoginLimits
from tests.wire import Client

SETUP = ScramSetup(b"sixteen octets!!")
BARE = b"n=joe,r=abc"


def in_base64(text: bytes) -> bytes:
    """A line of SASL without its end."""
    return base64.b64encode(text)


def first_message(binding: bytes = b"n,,") -> bytes:
    """``client-first-message`` of joe."""
    return in_base64(binding + BARE)


def proof_for(challenge_line: bytes, secret: bytes = b"secret") -> tuple[bytes, bytes]:
    """``client-final-message`` that answers a challenge, and the ``server-final-message`` to be expected."""
    assert challenge_line.startswith(b"+ ") and challenge_line.endswith(b"\r\n")
    challenge = base64.b64decode(challenge_line[2:])
    nonce = challenge.partition(b",")[0]
    unproven = b"c=%s,%s" % (in_base64(b"n,,"), nonce)
    keys = scram_keys(secret, SETUP)
    message = b",".join((BARE, challenge, unproven))
    signature = hmac.digest(keys.stored_key, message, "sha256")
    proof = bytes(one ^ other for one, other in zip(keys.client_key, signature, strict=True))
    verifier = in_base64(hmac.digest(keys.server_key, message, "sha256"))
    return in_base64(b"%s,p=%s" % (unproven, in_base64(proof))), in_base64(b"v=" + verifier)


def proven(client: Client, secret: bytes = b"secret") -> bytes:
    """SCRAM with initial response up to the server's proof; what the server says then."""
    challenge = client.say(b"AUTH SCRAM-SHA-256 " + first_message() + b"\r\n")
    return client.say(proof_for(challenge, secret)[0] + b"\r\n")


def test_auth_alone_lists_the_mechanisms() -> None:
    """As clients ask that do not know CAPA; SCRAM where the operator lists it, as in CAPA."""
    world = Pop3World()
    assert world.connect().say(b"AUTH\r\n") == b"+OK mechanisms\r\nPLAIN\r\nLOGIN\r\n.\r\n"
    assert b"\r\nSASL PLAIN LOGIN\r\n" in world.connect().say(b"CAPA\r\n")
    world.guard.limits = LoginLimits(list_scram=True)
    assert world.connect().say(b"AUTH\r\n") == b"+OK mechanisms\r\nPLAIN\r\nLOGIN\r\nSCRAM-SHA-256\r\n.\r\n"
    assert b"\r\nSASL PLAIN LOGIN SCRAM-SHA-256\r\n" in world.connect().say(b"CAPA\r\n")
    assert Pop3World(implicit_tls=False).connect().say(b"AUTH\r\n") == b"-ERR use STLS first\r\n"


def test_auth_login() -> None:
    """Name and secret in two responses, the name as initial response too."""
    client = Pop3World().connect()
    assert client.say(b"AUTH LOGIN\r\n") == b"+ VXNlcm5hbWU6\r\n"
    assert client.say(in_base64(b"joe") + b"\r\n") == b"+ UGFzc3dvcmQ6\r\n"
    assert client.say(in_base64(b"secret") + b"\r\n") == b"+OK 0 messages\r\n"
    client = Pop3World().connect()
    assert client.say(b"AUTH LOGIN " + in_base64(b"joe") + b"\r\n") == b"+ UGFzc3dvcmQ6\r\n"
    assert client.say(in_base64(b"secret") + b"\r\n") == b"+OK 0 messages\r\n"


def test_scram_with_initial_response() -> None:
    """RFC 5034 section 4: our proof is a challenge, the client answers it with an empty line."""
    client = Pop3World(b"Subject: x\r\n\r\n").connect()
    challenge = client.say(b"AUTH SCRAM-SHA-256 " + first_message() + b"\r\n")
    final, verifier = proof_for(challenge)
    assert client.say(final + b"\r\n") == b"+ " + verifier + b"\r\n"
    assert client.say(b"\r\n") == b"+OK 1 messages\r\n"


def test_scram_without_initial_response() -> None:
    """The client speaks when it is asked to."""
    client = Pop3World().connect()
    assert client.say(b"AUTH SCRAM-SHA-256\r\n") == b"+ \r\n"
    final, verifier = proof_for(client.say(first_message() + b"\r\n"))
    assert client.say(final + b"\r\n") == b"+ " + verifier + b"\r\n"
    assert client.say(b"\r\n") == b"+OK 0 messages\r\n"


def test_scram_refuses_what_is_wrong_and_leaves_no_session() -> None:
    """A wrong secret, giving up at our proof, an answer to it, and binding without anything to bind to."""
    world = Pop3World()
    assert proven(world.connect(), b"wrong") == b"-ERR [AUTH] wrong name or secret\r\n"
    client = world.connect()
    assert proven(client).startswith(b"+ ")
    assert client.say(b"*\r\n") == b"-ERR authentication aborted\r\n"
    assert proven(client).startswith(b"+ ")
    assert client.say(b"AAAA\r\n") == b"-ERR empty response expected\r\n"
    bound = first_message(b"p=tls-exporter,,")
    assert client.say(b"AUTH SCRAM-SHA-256-PLUS " + bound + b"\r\n") == b"-ERR mechanism not supported\r\n"
    assert client.say(b"STAT\r\n") == b"-ERR log in first\r\n"
    assert proven(client).startswith(b"+ ")
    client.hang_up()
    assert not world.account.sessions


def test_what_is_answered_goes_out_before_a_login_waits() -> None:
    """A client that pipelines USER and PASS hears of the first while the second takes its time."""
    world = Pop3World()
    client = world.connect()
    world.store.hold_logins = Deferred()
    assert client.say(b"CAPA\r\nUSER joe\r\nPASS secret\r\n").endswith(b"\r\n.\r\n+OK send PASS\r\n")
    world.store.hold_logins.callback(None)
    assert client.hear() == b"+OK 0 messages\r\n"


def test_a_secret_revoked_while_the_maildrop_opens_gives_no_session() -> None:
    """What closes the account before the login is answered ends the session all the same."""
    world = Pop3World(b"Subject: x\r\n\r\n")
    client = world.connect()
    world.account.hold = Deferred()
    assert client.say(b"USER joe\r\nPASS secret\r\n") == b"+OK send PASS\r\n"
    world.account.close_sessions()
    world.account.hold.callback(None)
    client.hear()
    assert client.closed and not world.account.sessions


def test_a_secret_revoked_while_scram_waits_for_the_client_gives_no_session() -> None:
    """The account is open while the client checks our proof; what happens then counts too."""
    world = Pop3World(b"Subject: x\r\n\r\n")
    client = world.connect()
    assert proven(client).startswith(b"+ ")
    world.account.close_sessions()
    assert b"Subject" not in client.say(b"\r\nRETR 1\r\n")
    assert client.closed and not world.account.sessions
