"""SCRAM over the wire: binding to the TLS connection, and nothing that tells users apart."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import ISSLTransport
from zope.interface import implementer

from mailstore.keys.scram import scram_keys
from mailstore.model import ScramExchange, ScramSetup
from protocols import scram
from protocols.limits import LoginLimits
from protocols.sasl import SaslError
from tests.wire import Client, ImapWorld, WireTransport

BINDING = bytes(range(32))
HEADER = b"p=tls-exporter,,"


class Handle:
    """What is asked of an OpenSSL connection."""

    def __init__(self, version: str) -> None:
        self._version = version

    def get_protocol_version_name(self) -> str:
        """The version of TLS."""
        return self._version

    def export_keying_material(self, label: bytes, size: int, context: bytes) -> bytes:
        """RFC 9266 section 2: this label, these many octets, an empty context."""
        assert (label, size, context) == (b"EXPORTER-Channel-Binding", 32, b"")
        return BINDING


@implementer(ISSLTransport)
class TlsTransport(WireTransport):
    """A transport whose handshake a test completes."""

    def __init__(self, version: str = "TLSv1.3") -> None:
        super().__init__()
        self.version = version

    def getHandle(self) -> Handle:
        """The connection."""
        return Handle(self.version)


def over_tls(world: ImapWorld, version: str = "TLSv1.3") -> tuple[Client, bytes]:
    """A connection after its handshake, and its greeting."""
    client = Client(world.factory, TlsTransport(version))
    assert client.hear() == b""
    client.protocol.handshakeCompleted()
    return client, client.hear()


def run(client: Client, header: bytes, binding: bytes, mechanism: bytes, secret: bytes = b"secret") -> bytes:
    """What the server says in the end to a client that speaks SCRAM."""
    bare = b"n=joe,r=abc"
    first = base64.b64encode(header + bare)
    said = client.say(b"a AUTHENTICATE %b %b\r\n" % (mechanism, first))
    if not said.startswith(b"+ "):
        return said
    challenge = base64.b64decode(said[2:])
    fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
    keys = scram_keys(secret, ScramSetup(base64.b64decode(fields[b"s"]), int(fields[b"i"])))
    unproven = b"c=%b,r=%b" % (base64.b64encode(header + binding), fields[b"r"])
    signature = hmac.digest(keys.stored_key, b",".join((bare, challenge, unproven)), "sha256")
    proof = bytes(one ^ other for one, other in zip(keys.client_key, signature, strict=True))
    said = client.say(base64.b64encode(unproven + b",p=" + base64.b64encode(proof)) + b"\r\n")
    if not said.startswith(b"+ "):
        return said
    expected = hmac.digest(keys.server_key, b",".join((bare, challenge, unproven)), "sha256")
    assert base64.b64decode(said[2:]) == b"v=" + base64.b64encode(expected)
    return client.say(b"\r\n")


def test_bound_to_the_connection() -> None:
    """SCRAM-SHA-256-PLUS is offered over TLS 1.3 and succeeds with the connection's own binding."""
    client, greeting = over_tls(ImapWorld())
    assert b" AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS]" in greeting
    assert run(client, HEADER, BINDING, scram.SCRAM_PLUS).startswith(b"a OK [CAPABILITY")


def test_somebody_in_between() -> None:
    """Bound to another connection, or talked out of binding: both fail like a wrong password."""
    failed = b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n"
    client, _ = over_tls(ImapWorld())
    assert run(client, HEADER, bytes(32), scram.SCRAM_PLUS) == failed
    assert run(client, b"y,,", b"", scram.SCRAM) == failed
    client, _ = over_tls(ImapWorld())
    assert run(client, HEADER, BINDING, scram.SCRAM_PLUS, secret=b"wrong") == failed
    assert run(client, b"n,,", b"", scram.SCRAM).startswith(b"a OK ")


def test_what_cannot_be_bound() -> None:
    """Other kinds of binding are refused, and TLS 1.2 is not offered -PLUS (RFC 9266 section 4.2)."""
    client, _ = over_tls(ImapWorld())
    said = run(client, b"p=tls-unique,,", BINDING, scram.SCRAM_PLUS)
    assert said == b"a BAD channel binding does not go with the mechanism\r\n"
    client, greeting = over_tls(ImapWorld(), "TLSv1.2")
    assert b"PLUS" not in greeting
    assert run(client, HEADER, BINDING, scram.SCRAM_PLUS).startswith(b"a NO [CANNOT] ")
    assert run(client, b"y,,", b"", scram.SCRAM).startswith(b"a OK ")


def test_not_named() -> None:
    """Where SCRAM is not named, a client that could have bound was not talked out of it."""
    client, greeting = over_tls(ImapWorld(login_limits=LoginLimits(list_scram=False)))
    assert b"SCRAM" not in greeting
    assert run(client, b"y,,", b"", scram.SCRAM).startswith(b"a OK ")


def test_no_handshake() -> None:
    """A client that never completes the handshake is not waited for without end."""
    world = ImapWorld()
    client = Client(world.factory, TlsTransport())
    world.clock.advance(world.limits.login_timeout_s + 1)
    assert client.closed


def test_a_proof_by_guessing_waits_its_turn() -> None:
    """The delays for failed logins hold for SCRAM as well."""
    world = ImapWorld()
    for _ in range(2):
        assert b" NO " in run(world.connect(), b"n,,", b"", scram.SCRAM, b"wrong")
    assert b" NO " in run(world.connect(), b"n,,", b"", scram.SCRAM, b"wrong")
    late = world.connect()
    assert run(late, b"n,,", b"", scram.SCRAM) == b""
    world.clock.advance(1)
    assert late.hear().startswith(b"+ ")


def test_an_abandoned_exchange_is_an_attempt() -> None:
    """Whoever asks for salts and goes away is slowed as one who guesses."""
    world = ImapWorld()
    for _ in range(3):
        client = world.connect()
        client.say(b"a AUTHENTICATE SCRAM-SHA-256 biwsbj1qb2Uscj1hYmM=\r\n")
        client.hang_up()
    late = world.connect()
    assert run(late, b"n,,", b"", scram.SCRAM) == b""
    world.clock.advance(1)
    assert late.hear().startswith(b"+ ")


def shown_our_proof(world: ImapWorld) -> Client:
    """A client that has proved itself and now checks the server."""
    client = world.connect()
    client.say(b"a AUTHENTICATE SCRAM-SHA-256 biwsbj1qb2Uscj1hYmM=\r\n")
    client.say(
        b"Yz1iaXdzLHI9YWJjQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBLHA9"
        b"eHhPM3FlUE5sNHo3OFR1US9TRFZmMUhDMzR0K2tzSmpRRkc2d2MxL09lbz0=\r\n"
    )
    return client


def test_hanging_up_before_the_end_releases_the_account() -> None:
    """A client that goes away without the last response leaves no open account behind."""
    world = ImapWorld()
    client = shown_our_proof(world)
    assert len(world.account.sessions) == 1
    client.hang_up()
    assert world.account.sessions == []


def test_a_secret_revoked_while_the_client_checks_our_proof_gives_no_session() -> None:
    """The account is open by then; that it closes meanwhile ends the session as it would a running one."""
    world = ImapWorld()
    client = shown_our_proof(world)
    world.account.close_sessions()
    assert b"BYE this session has been ended, please log in again" in client.say(b"\r\nb SELECT INBOX\r\n")
    assert client.closed and world.account.sessions == []


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
def test_names_are_escaped(name: str) -> None:
    """Any name arrives as it was, commas and equals signs included (RFC 5802 section 5.1)."""
    escaped = name.encode().replace(b"=", b"=3D").replace(b",", b"=2C")
    assert scram.client_first(b"n,,n=%b,r=x" % escaped, scram.SCRAM, False).name == name.encode()


@given(st.binary(max_size=60))
def test_any_octets(message: bytes) -> None:
    """Whatever comes is a message or an error of the protocol."""
    first = scram.client_first(b"n,,n=joe,r=abc", scram.SCRAM, False)
    for read in (
        lambda: scram.client_first(message, scram.SCRAM, True),
        lambda: scram.client_final(message, first, b"r=abc,s=,i=1", None),
    ):
        try:
            result: object = read()
        except (SaslError, scram.BindingFailed):
            continue
        assert isinstance(result, scram.ClientFirst | ScramExchange)


@pytest.mark.parametrize(
    "message",
    [b"n,,n=joe", b"n,,n=,r=x", b"x,,n=joe,r=x", b"n,,n=j=o,r=x", b"n,,m=1,n=joe,r=x", b"n,,n=joe,r="],
)
def test_malformed_first_messages(message: bytes) -> None:
    """What the grammar of RFC 5802 section 7 does not allow, a mandatory extension included."""
    with pytest.raises(SaslError):
        scram.client_first(message, scram.SCRAM, False)
