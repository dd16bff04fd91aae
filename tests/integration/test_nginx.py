"""Debian's nginx with the recipe of deploy/nginx in front of two nodes: each login where the account is."""

from __future__ import annotations

import imaplib
import poplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import eventually
from two_nodes import ANN, BOB, SECRET, Cluster, More

from tests import nginx, postgresql
from tests.nginx import Nginx
from tests.ports import free_port
from tests.postgresql import PostgreSql

pytestmark = pytest.mark.integration


class Proxied:
    """Both nodes with nginx in front, which asks a."""

    def __init__(self, folder: Path, database: PostgreSql) -> None:
        ports = {name: {"imap": free_port(), "pop3": free_port()} for name in "ab"}
        self.ports, asking = ports, free_port()
        more = {
            name: More(
                listen=f'imap_proxied = ["127.0.0.1:{mine["imap"]}"]\n'
                f'pop3_proxied = ["127.0.0.1:{mine["pop3"]}"]\n'
                + (f'auth_http = ["127.0.0.1:{asking}"]\n' if name == "a" else ""),
                doors=("--imap", f"127.0.0.1:{mine['imap']}", "--pop3", f"127.0.0.1:{mine['pop3']}"),
            )
            for name, mine in ports.items()
        }
        self.cluster = Cluster(folder, database, more=more)
        self.nginx = Nginx(
            folder / "nginx",
            *(self.cluster.a.server.data / "tls" / one for one in ("certificate.pem", "private-key.pem")),
            f"http://127.0.0.1:{asking}/",
        )

    def start(self) -> None:
        """Start what is in front, and wait for it."""
        self.nginx.start()
        eventually(self.nginx.listens)

    def tls(self) -> ssl.SSLContext:
        """A client that trusts the certificate."""
        return self.cluster.a.server.tls()

    def imap(self) -> imaplib.IMAP4_SSL:
        """A client at port 993."""
        return imaplib.IMAP4_SSL("127.0.0.1", self.nginx.ports[993], ssl_context=self.tls(), timeout=60)

    def pop(self) -> poplib.POP3_SSL:
        """A client at port 995."""
        return poplib.POP3_SSL("127.0.0.1", self.nginx.ports[995], context=self.tls(), timeout=60)

    def runs(self) -> float:
        """How often Argon2 has run, on both nodes."""
        return sum(
            node.server.number("sealbox_argon2_wait_seconds_count") or 0
            for node in self.cluster.nodes.values()
        )

    def stop(self) -> None:
        """End all of it."""
        self.nginx.stop()
        self.cluster.stop()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """All of it, running."""
    nginx.require()
    postgresql.require()
    database = PostgreSql()
    found: Proxied | None = None
    try:
        found = Proxied(tmp_path_factory.mktemp("proxied"), database.start())
        found.start()
        yield found
    finally:
        if found is not None:
            found.stop()
        database.stop()


@pytest.mark.parametrize("who", [ANN, BOB])
def test_users_of_both_nodes_read_their_mail_at_one_address(proxied: Proxied, who: str) -> None:
    """IMAP and POP3; one run of Argon2 is enough, for the POP3 client shows what has just been proven."""
    assert proxied.cluster.a.replies(who) == [250]
    before = proxied.runs()
    with proxied.imap() as imap:
        assert imap.login(who, SECRET)[0] == "OK"
        assert imap.select("INBOX", readonly=True) == ("OK", [b"1"])
        assert imap.fetch("1", "(BODY.PEEK[TEXT])")[1][0][1] == b"world\r\n"
    pop = proxied.pop()
    pop.user(who)
    pop.pass_(SECRET)
    assert len(pop.list()[1]) == 1
    pop.quit()
    eventually(lambda: proxied.runs() > before)
    assert proxied.runs() == before + 1
