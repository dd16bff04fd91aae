"""Two servers that share a directory in PostgreSQL: mail comes in at either, each account is on one."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from running import SEALBOX, eventually
from test_auth_socket import Wire
from two_nodes import ANN, BOB, MESSAGE, SECRET, Cluster, Node

from tests import postgresql as postgresql_server
from tests.node_certificates import Authority
from tests.postgresql import PostgreSql

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Both serve."""
    postgresql_server.require()
    database = PostgreSql()
    found: Cluster | None = None
    try:
        found = Cluster(tmp_path_factory.mktemp("nodes"), database.start())
        yield found
    finally:
        if found is not None:
            found.stop()
        database.stop()


def test_mail_that_comes_in_at_one_node_is_read_at_the_other(cluster: Cluster) -> None:
    """One transaction for both, each recipient answered by its own node; octet for octet."""
    assert cluster.a.replies(BOB, "nobody@localhost", ANN, "bob+lists@localhost") == [250, 550, 250, 250]
    assert (cluster.a.count(ANN), cluster.b.count(BOB)) == (1, 2)
    assert cluster.b.replies(ANN) == [250]
    assert cluster.a.count(ANN) == 2
    client = cluster.b.server.imap(BOB, SECRET)
    client.select("INBOX", readonly=True)
    [(_, octets), _] = client.fetch("1", "(RFC822)")[1]
    assert octets.endswith(b"\r\n" + MESSAGE)
    assert octets.count(b"Received: ") == 2
    assert octets.startswith(b"Return-Path: <sender@example.org>\r\nDelivered-To: bob@localhost\r\n")
    client.logout()


def test_the_other_node_is_named_to_nobody_and_opens_nothing(cluster: Cluster) -> None:
    """A temporary error for its user, and its id in the log."""
    said = cluster.a.login_error(BOB)
    assert "[UNAVAILABLE]" in said and "node" not in said
    [record] = [one for one in accounts(cluster) if one["name"] == BOB]
    line = f"account {record['account']} is not opened here, node a: the directory says node b, generation 1"
    eventually(lambda: line in cluster.a.server.errors())
    assert BOB not in cluster.a.server.errors() + cluster.b.server.errors()
    assert not list(cluster.a.server.data.glob(f"accounts/??/{record['account']}"))
    done = subprocess.run(
        [*SEALBOX, "account", "show", BOB, "--config", str(cluster.a.config)],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"another node has this account" in done.stderr) == (3, True)


def accounts(cluster: Cluster) -> list[dict[str, str]]:
    """What the directory says."""
    found: list[dict[str, str]] = cluster.a.cli("account", "list")["accounts"]  # type: ignore[assignment]  # JSON
    return found


def test_while_a_node_is_away_senders_keep_the_mail_of_its_accounts(cluster: Cluster) -> None:
    """All others get theirs; afterwards it takes mail at once."""
    before = cluster.a.count(ANN), cluster.b.count(BOB)
    assert cluster.b.server.stop() == 0
    assert cluster.a.replies(BOB, ANN, "bob+x@localhost") == [451, 250, 451]
    cluster.b.start()
    assert (cluster.a.count(ANN), cluster.b.count(BOB)) == (before[0] + 1, before[1])
    assert cluster.a.replies(BOB) == [250]
    assert cluster.b.count(BOB) == before[1] + 1


def sasl_answer(node: Node, name: str, password: str, number: int = 1) -> bytes:
    """What Postfix or Exim hears at a node of a client 192.0.2.(number + 2); nothing: try again later."""
    with Wire(node.server.info["auth"]) as wire:
        wire.greet()
        found = wire.log_in(number, name, password)
    return found.split(b"\t")[0] + b" " + found.rpartition(b"\t")[2] if found else b""


WRONG = b"FAIL reason=wrong name or password, or not one for sending mail"


def test_passwords_are_checked_at_the_node_that_has_the_account(cluster: Cluster) -> None:
    """Whichever is asked; a name that nobody has is answered alike, wherever it seems to be."""
    for number, (node, who) in enumerate(product(cluster.nodes.values(), (ANN, BOB))):
        assert sasl_answer(node, who, SECRET) == b"OK user=" + who.encode()
        assert sasl_answer(node, who, "wrong", 10 + number) == WRONG
    for number in range(8):
        assert sasl_answer(cluster.a, f"nobody{number}@localhost", SECRET, 20 + number) == WRONG
    # Nothing is out of order, and nobody is named.
    assert "is not opened here, node b" not in cluster.b.server.errors()
    assert not any("does not check" in one.server.errors() for one in cluster.nodes.values())


def test_an_app_password_sends_from_any_node_if_its_scope_says_so(cluster: Cluster) -> None:
    """The scope is that of ``smtp``, though nodes ask each other by LMTP."""
    for scope in ("smtp", "imap"):
        made = cluster.b.cli(
            *("app-password", "add", BOB, "--label", scope, "--protocol", scope, "--password-stdin"),
            stdin=f"{SECRET}\n",
        )
        answer = sasl_answer(cluster.a, BOB, str(made["app_password"]), 30)
        assert answer == (b"OK user=" + BOB.encode() if scope == "smtp" else WRONG)


def test_the_client_is_counted_and_not_the_node_that_asks(cluster: Cluster) -> None:
    """At the other node, too, whose access log names the client."""
    assert sasl_answer(cluster.a, BOB, "wrong", 177) == WRONG

    def recorded() -> list[str]:
        files = (cluster.b.server.data / "log").glob("access-*")
        lines = "".join(one.read_text() for one in files).splitlines()
        return [line for line in lines if "LMTP AUTH" in line and "192.0.2.179" in line]

    [line] = eventually(recorded, 60)
    assert "535" in line and "bob" not in line


def test_while_a_node_is_away_nobody_hears_that_a_password_is_wrong(cluster: Cluster) -> None:
    """Nor that it is right: who wants to send mail tries again; the log says so once."""
    assert cluster.b.server.stop() == 0
    for number in (50, 51):
        assert sasl_answer(cluster.a, BOB, SECRET, number) == b""
    assert sasl_answer(cluster.a, ANN, SECRET, 52) == b"OK user=" + ANN.encode()
    cluster.b.start()
    assert sasl_answer(cluster.a, BOB, SECRET, 50) == b"OK user=" + BOB.encode()
    eventually(lambda: "node b checks passwords again" in cluster.a.server.errors())
    assert cluster.a.server.errors().count("node b does not check the passwords of its accounts (") == 1


def test_a_large_message_is_passed_on_whole(cluster: Cluster) -> None:
    """Lines with dots, octets without an end of line, and more than any buffer holds."""
    before = cluster.b.count(BOB)
    message = b"Subject: large\r\n\r\n" + b".\xff" * 2_000_000 + b"\r\n..\r\n"
    assert cluster.a.replies(BOB, message=message) == [250]
    client = cluster.b.server.imap(BOB, SECRET)
    client.select("INBOX", readonly=True)
    [(_, octets), _] = client.fetch(str(before + 1), "(RFC822)")[1]
    assert octets.endswith(message)
    client.logout()


def connected(node: Node, authority: Authority, pair: tuple[Path, Path] | None) -> smtplib.LMTP:
    """A connection to its door for nodes, with a certificate or none."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if pair is not None:
        context.load_cert_chain(*pair)
    context.set_alpn_protocols(["lmtp"])
    plain = socket.create_connection(("127.0.0.1", node.port), 30)
    client = smtplib.LMTP(local_hostname="x")
    client.sock = context.wrap_socket(plain, server_hostname=node.name)
    client.getreply()
    return client


def test_strangers_are_not_heard_at_the_door_of_the_nodes(cluster: Cluster) -> None:
    """Neither without a certificate nor with one of another authority."""
    other = Authority(cluster.folder, "strangers")
    for pair in (None, other.certificate("a")):
        with pytest.raises((ssl.SSLError, smtplib.SMTPServerDisconnected, ConnectionError)):
            connected(cluster.b, cluster.authority, pair)


def test_what_was_passed_on_is_not_passed_on_again(cluster: Cluster) -> None:
    """Two nodes that disagree on who has an account would do so for ever."""
    with connected(cluster.b, cluster.authority, cluster.authority.certificate("a")) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("sender@example.org")
        assert client.rcpt(ANN)[0] == 451
        assert client.rcpt(BOB)[0] == 250
        client.rset()
        for who, code in ((ANN, 454), (BOB, 235)):
            response = base64.b64encode(f"\0{who}\0{SECRET}".encode()).decode()
            assert client.docmd("AUTH", f"PLAIN {response}")[0] == code


def test_a_certificate_of_another_node_takes_no_mail(cluster: Cluster) -> None:
    """Also if it is one of the same authority."""
    assert cluster.b.server.stop() == 0
    settings = cluster.b.config.read_text()
    cluster.b.config.write_text(settings.replace("nodes-b.", "nodes-a."))
    cluster.b.start()
    assert cluster.a.replies(BOB, ANN) == [451, 250]
    assert cluster.b.server.stop() == 0
    cluster.b.config.write_text(settings)
    cluster.b.start()
    assert cluster.a.replies(BOB) == [250]


def test_a_node_with_a_stale_directory_opens_nothing_that_has_moved(cluster: Cluster) -> None:
    """Its own folder says that it has been opened under a later generation."""
    [record] = [one for one in accounts(cluster) if one["name"] == BOB]
    [folder] = cluster.b.server.data.glob(f"accounts/??/{record['account']}")
    cluster.b.count(BOB)
    assert (folder / "node").read_text() == "1\n"
    (folder / "node").write_text("2\n")
    assert "[UNAVAILABLE]" in cluster.b.login_error(BOB)
    assert cluster.b.replies(BOB) == cluster.a.replies(BOB) == [451]
    (folder / "node").write_text("1\n")
    assert cluster.b.replies(BOB) == [250]
