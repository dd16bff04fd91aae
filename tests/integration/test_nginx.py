"""Debian's nginx with the recipe of deploy/nginx in front of two nodes: each login where the account is."""

from __future__ import annotations

import base64
import imaplib
import json
import poplib
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from itertools import count

import pytest
from proxied import WAIT_S, Proxied
from running import eventually
from two_nodes import ANN, BOB, SECRET

from protocols.limits import ImapLimits, Pop3Limits
from tests import nginx, postgresql
from tests.nginx import RECIPE
from tests.postgresql import PostgreSql

pytestmark = pytest.mark.integration

_sources = count(2)


def new_source() -> str:
    """An address of loopback that no other test of this module comes from."""
    return f"127.0.7.{next(_sources)}"


FIRST_WRONG = 10


def cost_of_wrong_logins(proxied: Proxied) -> tuple[float, float]:
    """Runs of Argon2 and attempts that have ended, after the first ``FIRST_WRONG`` of all."""
    for number in range(FIRST_WRONG):
        who = (ANN, BOB, "nobody@localhost", "someone@localhost", "no address")[number % 5]
        with proxied.wire(new_source()) as client:
            assert client.ask(f'LOGIN "{who}" wrong-{SECRET}'.encode()).startswith(b"a NO")
    eventually(lambda: proxied.runs_and_logins()[1] >= FIRST_WRONG)
    return proxied.runs_and_logins()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxied, tuple[float, float]]]:
    """All of it, running, and what it counted while nobody else had logged in yet."""
    nginx.require()
    postgresql.require()
    database = PostgreSql()
    found: Proxied | None = None
    try:
        found = Proxied(tmp_path_factory.mktemp("proxied"), database.start())
        found.start()
        yield found, cost_of_wrong_logins(found)
    finally:
        if found is not None:
            found.stop()
        database.stop()


@pytest.fixture
def proxied(begun: tuple[Proxied, tuple[float, float]]) -> Proxied:
    """All of it, running."""
    return begun[0]


def test_a_wrong_login_costs_one_run_of_argon2(begun: tuple[Proxied, tuple[float, float]]) -> None:
    """Whoever it is meant for: nothing that was said before the node's own check had a price."""
    assert begun[1] == (FIRST_WRONG, FIRST_WRONG)


NAMELESS = {
    "IMAP": (993, b"a AUTHENTICATE PLAIN AABwdw==", b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n"),
    "POP3": (995, b"AUTH PLAIN AABwdw==", b"-ERR [AUTH] authentication failed\r\n"),
    "SMTP": (465, b"AUTH PLAIN AABwdw==", b"535 5.7.8 authentication failed\r\n"),
}


@pytest.mark.parametrize(("port", "said", "answer"), NAMELESS.values(), ids=NAMELESS)
def test_a_login_without_a_name_is_a_wrong_one(
    proxied: Proxied, port: int, said: bytes, answer: bytes
) -> None:
    """nginx passes it on; the log of the node says nothing."""
    with proxied.wire(new_source(), port) as client:
        if port == 465:
            client.say(b"EHLO client.example.org")
            client.until(b"250 ")
        client.say(said)
        assert client.line() == answer
    assert "a question cannot be read" not in proxied.cluster.a.server.errors()


@pytest.mark.parametrize("who", [ANN, BOB, "nobody@localhost", "someone@localhost", "no address"])
def test_a_wrong_login_says_the_same_to_all(proxied: Proxied, who: str) -> None:
    """Of a user of either node, and of nobody: what the proxy is told shows no difference."""
    with proxied.wire(new_source()) as client:
        reply = client.ask(f'LOGIN "{who}" wrong-{SECRET}'.encode())
        assert reply == b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n"
    with proxied.wire(new_source(), 995) as client:
        client.say(b"USER " + who.encode())
        assert client.line().startswith(b"+OK")
        client.say(b"PASS wrong")
        assert client.line().startswith(b"-ERR [AUTH] ")


@pytest.mark.parametrize("who", [ANN, BOB])
def test_users_of_both_nodes_read_their_mail_at_one_address(proxied: Proxied, who: str) -> None:
    """IMAP and POP3, and never more runs of Argon2 than logins."""
    assert proxied.cluster.a.replies(who) == [250]
    with proxied.imap() as imap:
        assert imap.login(who, SECRET)[0] == "OK"
        assert imap.select("INBOX", readonly=True) == ("OK", [b"1"])
        assert imap.fetch("1", "(BODY.PEEK[TEXT])")[1][0][1] == b"world\r\n"  # type: ignore[index]  # a pair
    pop = proxied.pop()
    pop.user(who)
    pop.pass_(SECRET)
    assert len(pop.list()[1]) == 1
    pop.quit()
    runs, logins = proxied.runs_and_logins()
    assert runs <= logins


def test_the_node_sees_the_client(proxied: Proxied) -> None:
    """In its access log, and among those that are logged in; not the proxy."""
    source = new_source()
    with proxied.wire(source) as client:
        assert client.ask(f"LOGIN {ANN} {SECRET}".encode()).startswith(b"a OK")
        sessions = proxied.cluster.a.cli("who")["sessions"]
        assert source in json.dumps(sessions)
    folder = proxied.cluster.a.server.data / "log"
    eventually(lambda: any(source in path.read_text() for path in folder.glob("access-*")))


def plain(who: str) -> bytes:
    """The one response of SASL PLAIN."""
    return base64.b64encode(f"\0{who}\0{SECRET}".encode())


LOGINS = {
    "quoted": [f'a LOGIN "{BOB}" "{SECRET}"'.encode()],
    "literals": [b"a LOGIN {%d}" % len(BOB), BOB.encode() + b" {%d}" % len(SECRET), SECRET.encode()],
    "literals at once": [
        b"a LOGIN {%d+}\r\n%b {%d+}\r\n%b" % (len(BOB), BOB.encode(), len(SECRET), SECRET.encode())
    ],
    "PLAIN": [b"a AUTHENTICATE PLAIN", plain(BOB)],
    "PLAIN at once": [b"a AUTHENTICATE PLAIN " + plain(BOB)],
    "LOGIN": [
        b"a AUTHENTICATE LOGIN",
        base64.b64encode(BOB.encode()),
        base64.b64encode(SECRET.encode()),
    ],
    "without a domain": [f"a LOGIN {BOB.partition('@')[0]} {SECRET}".encode()],
    "in capitals": [f"a LOGIN {BOB.upper()} {SECRET}".encode()],
}


@pytest.mark.parametrize("lines", LOGINS.values(), ids=LOGINS)
def test_programs_log_in_as_they_do_elsewhere(proxied: Proxied, lines: list[bytes]) -> None:
    """Each way that nginx knows."""
    with proxied.wire(new_source()) as client:
        for line in lines[:-1]:
            client.say(line)
            assert client.line().startswith(b"+")
        client.say(lines[-1])
        assert client.until(b"a ")[-1].startswith(b"a OK")
        assert client.ask(b"SELECT INBOX").startswith(b"a OK")


def test_a_user_name_of_two_spellings_is_one_user(proxied: Proxied) -> None:
    """A name with a percent sign, blanks or other letters comes to the node as it was typed."""
    for name in ("b%6fb@localhost", "b ob@localhost", "b\u00f6b@localhost"):
        with proxied.wire(new_source()) as client:
            octets = name.encode()
            client.say(b"a LOGIN {%d+}\r\n%b {5+}\r\nwrong" % (len(octets), octets))
            assert b"[AUTHENTICATIONFAILED]" in client.until(b"a ")[-1]


def test_what_nginx_says_before_the_login_is_true(proxied: Proxied) -> None:
    """Each capability that it names, the node has, too; it has more, and clients ask again."""
    with proxied.wire(new_source()) as client:
        client.say(b"a CAPABILITY")
        before = set(client.until(b"a ")[0].split()[2:])
        assert client.ask(f"LOGIN {ANN} {SECRET}".encode()).startswith(b"a OK")
        client.say(b"a CAPABILITY")
        after = set(client.until(b"a ")[0].split()[2:])
    assert before == {b"IMAP4rev1", b"LITERAL+", b"SASL-IR", b"IDLE", b"AUTH=PLAIN", b"AUTH=LOGIN"}
    assert before - {b"AUTH=PLAIN", b"AUTH=LOGIN", b"SASL-IR"} <= after
    with proxied.wire(new_source(), 995) as client:
        client.say(b"CAPA")
        before = set(client.until(b"."))
        client.say(f"USER {ANN}\r\nPASS {SECRET}".encode())
        assert [client.line()[:3] for _ in range(2)] == [b"+OK", b"+OK"]
        client.say(b"CAPA")
        after = set(client.until(b"."))
    assert before - {b"+OK Capability list follows\r\n", b"SASL PLAIN\r\n"} <= after


def test_starttls_comes_before_a_login(proxied: Proxied) -> None:
    """On the ports for that, nginx takes no password before."""
    ports = proxied.nginx.ports
    with imaplib.IMAP4("127.0.0.1", ports[143], WAIT_S) as imap:
        with pytest.raises(imaplib.IMAP4.error):
            imap.login(BOB, SECRET)
        imap.starttls(proxied.tls())
        assert imap.login(BOB, SECRET)[0] == "OK"
    pop = poplib.POP3("127.0.0.1", ports[110], WAIT_S)
    with pytest.raises(poplib.error_proto):
        pop.user(BOB)
    pop.stls(proxied.tls())
    pop.user(BOB)
    pop.pass_(SECRET)
    pop.quit()


def test_mail_is_told_in_idle(proxied: Proxied) -> None:
    """By way of the proxy, as soon as it is there."""
    with proxied.wire(new_source()) as client:
        client.ask(f"LOGIN {BOB} {SECRET}".encode())
        client.ask(b"SELECT INBOX")
        client.say(b"a IDLE")
        assert client.line().startswith(b"+")
        assert proxied.cluster.a.replies(BOB) == [250]
        assert client.until(b"* ")[-1].endswith(b" EXISTS\r\n")
        client.say(b"DONE")
        assert client.until(b"a ")[-1].startswith(b"a OK")


def reload_b(proxied: Proxied, old: str, new: str) -> None:
    """Change a setting of b, as an operator does."""
    server = proxied.cluster.b.server
    file, said = server.data.parent / f"{server.data.name}.toml", server.errors().count("reloaded")
    file.write_text(file.read_text().replace(old, new))
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: server.errors().count("reloaded") > said)


def test_the_node_ends_a_silent_session_before_the_proxy_does(proxied: Proxied) -> None:
    """With the recipe it says so: nginx waits longer than any node."""
    recipe = (RECIPE / "mail.conf").read_text()
    minutes = int(re.findall(r"^ *proxy_timeout (\d+)m;$", recipe, re.MULTILINE)[0])
    assert minutes * 60 > max(ImapLimits().idle_timeout_s, Pop3Limits().idle_timeout_s)
    reload_b(proxied, "\n[directory]\n", "\n[imap]\nidle_timeout_s = 2\n[directory]\n")
    with proxied.wire(new_source()) as client:
        client.ask(f"LOGIN {BOB} {SECRET}".encode())
        client.ask(b"SELECT INBOX")
        client.say(b"a IDLE")
        assert client.until(b"* BYE")[-1].startswith(b"* BYE")
        assert client.line() == b""
    reload_b(proxied, "[imap]\nidle_timeout_s = 2\n", "")


def test_a_proxy_with_less_patience_cuts_sessions_in_idle(proxied: Proxied) -> None:
    """Without a word: therefore the recipe has more; the node lets go of the session."""
    other = proxied.another("impatient", replace={"proxy_timeout 35m": "proxy_timeout 1s"}).start()
    try:
        eventually(other.listens)
        source = new_source()
        with proxied.wire(source, at=other) as client:
            client.ask(f"LOGIN {BOB} {SECRET}".encode())
            client.ask(b"SELECT INBOX")
            client.say(b"a IDLE")
            assert client.line().startswith(b"+")
            assert client.line() == b""
        eventually(lambda: source not in json.dumps(proxied.cluster.b.cli("who")))
    finally:
        other.stop()


def test_a_node_that_is_away_costs_its_own_users_alone(proxied: Proxied) -> None:
    """They hear that something is wrong, not that their password is; and come in again once it is back."""
    with proxied.wire(new_source()) as client:
        assert client.ask(f"LOGIN {BOB} {SECRET}".encode()).startswith(b"a OK")
        assert proxied.cluster.b.server.stop() == 0
        assert client.until(b"* BYE")[-1].startswith(b"* BYE")
    with proxied.wire(new_source()) as client:
        client.say(f"a LOGIN {BOB} {SECRET}".encode())
        assert client.line() == b"* BAD internal server error\r\n"
    with proxied.wire(new_source(), 995) as client:
        client.say(f"USER {BOB}\r\nPASS {SECRET}".encode())
        assert client.until(b"-ERR")[-1] == b"-ERR internal server error\r\n"
    with proxied.wire(new_source()) as client:
        assert client.ask(f"LOGIN {ANN} {SECRET}".encode()).startswith(b"a OK")
    proxied.cluster.b.start()
    with proxied.wire(new_source()) as client:
        assert client.ask(f"LOGIN {BOB} {SECRET}".encode()).startswith(b"a OK")


def test_a_node_without_a_door_is_a_temporary_error(proxied: Proxied) -> None:
    """The log says what is missing."""
    a = proxied.cluster.a
    address = f"127.0.0.1:{proxied.cluster.b.port}"
    a.cli("node", "add", "b", address, "--pop3", "none")
    with proxied.wire(new_source(), 995) as client:
        client.say(f"USER {BOB}\r\nPASS {SECRET}".encode())
        assert client.until(b"-ERR")[-1] == b"-ERR [SYS/TEMP] try again later\r\n"
    eventually(lambda: "a proxy cannot be sent to node b with a login for pop3" in a.server.errors())
    a.cli("node", "add", "b", address, "--pop3", proxied.doors["b"]["pop3"])


def test_strangers_are_not_heard_at_the_doors(proxied: Proxied) -> None:
    """Neither a mail program that comes without a proxy, nor one without a certificate of the nodes."""
    host, _, port = proxied.doors["a"]["imap"].rpartition(":")
    with socket.create_connection((host, int(port)), WAIT_S) as plain:
        plain.sendall(f"a LOGIN {ANN} {SECRET}\r\n".encode())
        with pytest.raises(ConnectionResetError):
            plain.recv(100)
    eventually(lambda: "does not begin with a header" in proxied.cluster.a.server.errors())
    context = ssl.create_default_context(cafile=str(proxied.cluster.authority.file))
    place = "127.0.0.1", proxied.asking_nodes["a"]
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(place, WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname="a") as client,
    ):
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.recv(100)


def over_tls(proxied: Proxied, port: int, first: str) -> str:
    """The block of the recipe for an nginx on a machine of its own; ``first`` is asked before b is."""
    text = (RECIPE / "auth-http.conf").read_text()
    certificate, key = proxied.cluster.authority.certificate("front")
    for old, new in {
        "127.0.0.1:9143": f"127.0.0.1:{port}",
        "https://192.0.2.1:9144": first,
        "https://192.0.2.2:9144": f"https://127.0.0.1:{proxied.asking_nodes['b']}",
        "/etc/sealbox/tls/node.pem": str(certificate),
        "/etc/sealbox/tls/node.key": str(key),
        "/etc/sealbox/tls/nodes-ca.pem": str(proxied.cluster.authority.file),
    }.items():
        assert old in text
        text = text.replace(old, new)
    return f"http {{ {text} }}"


@pytest.mark.parametrize("first", ["a", "closed"])
def test_nodes_are_asked_over_mutual_tls(proxied: Proxied, first: str) -> None:
    """The first that is there answers for all."""
    asking, closed = nginx.free_port(), nginx.free_port()
    places = {"a": proxied.asking_nodes["a"], "closed": closed}
    http = over_tls(proxied, asking, f"https://127.0.0.1:{places[first]}")
    other = proxied.another(f"tls-{first}", auth_http=f"http://127.0.0.1:{asking}/", http=http).start()
    try:
        eventually(other.listens)
        for who in (ANN, BOB):
            with proxied.wire(new_source(), at=other) as client:
                assert client.ask(f"LOGIN {who} {SECRET}".encode()).startswith(b"a OK"), other.log()
    finally:
        other.stop()


def test_no_password_leaves_the_proxy_to_ask_where_an_account_is(proxied: Proxied) -> None:
    """The recipe for a machine of its own leaves it out."""
    asking = nginx.free_port()
    with socket.create_server(("127.0.0.1", 0)) as node:
        first = f"http://127.0.0.1:{node.getsockname()[1]}"
        http = over_tls(proxied, asking, first)
        other = proxied.another("seen", auth_http=f"http://127.0.0.1:{asking}/", http=http).start()
        try:
            eventually(other.listens)
            with proxied.wire(new_source(), at=other) as client:
                client.say(f"a LOGIN {ANN} {SECRET}".encode())
                accepted, _ = node.accept()
                with accepted:
                    seen = b""
                    while not seen.endswith(b"\r\n\r\n"):
                        seen += accepted.recv(65_536)
        finally:
            other.stop()
    assert ANN.encode() in seen and SECRET.encode() not in seen and b"Auth-Pass" not in seen


def test_no_log_has_names_or_passwords(proxied: Proxied) -> None:
    """Neither that of nginx, at the level of the recipe, nor those of the nodes, which tell of each login."""
    sources = {who: new_source() for who in (ANN, BOB, "nobody@localhost")}
    for who, source in sources.items():
        for secret in (f"wrong-{SECRET}", SECRET):
            with proxied.wire(source) as client:
                client.ask(f"LOGIN {who} {secret}".encode())

    def read() -> str:
        logs = [
            path
            for folder in ("nginx", "impatient", "a/log", "b/log")
            for path in (proxied.folder / folder).glob("*.log")
        ]
        logs += proxied.folder.glob("?.err")
        return "".join(path.read_text() for path in logs)

    eventually(lambda: all(source in read() for source in sources.values()))
    said = proxied.cluster.a.server.errors()
    text = read()
    assert (proxied.folder / "nginx" / "mail.log").exists() and said and said in text
    assert not re.findall(rf"{SECRET}|{ANN}|{BOB}|nobody@|bob@", text, re.IGNORECASE)


def test_many_sessions_at_once_hear_of_mail(proxied: Proxied) -> None:
    """More than one address may have: the bound is on clients, and not on the proxy."""
    clients = []
    try:
        for number in range(300):
            client = proxied.wire(f"127.0.8.{number % 100 + 1}")
            clients.append(client)
            assert client.ask(f"LOGIN {(ANN, BOB)[number % 2]} {SECRET}".encode()).startswith(b"a OK")
            client.ask(b"SELECT INBOX")
            client.say(b"a IDLE")
            assert client.line().startswith(b"+")
        assert proxied.cluster.b.replies(ANN, BOB) == [250, 250]
        for client in clients:
            assert client.until(b"* ")[-1].endswith(b" EXISTS\r\n")
    finally:
        for client in clients:
            client.__exit__()
