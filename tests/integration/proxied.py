"""Two nodes behind nginx, and a client that comes from any address of loopback."""

from __future__ import annotations

import imaplib
import poplib
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from running import eventually
from two_nodes import Cluster, More

from tests.nginx import Nginx
from tests.ports import free_port
from tests.postgresql import PostgreSql

WAIT_S = 60.0


class Proxied:
    """Both nodes with nginx in front, which asks a. The doors of b are at ::1."""

    def __init__(self, folder: Path, database: PostgreSql, more: Mapping[str, str] | None = None) -> None:
        """``more`` are settings of each node."""
        self.folder, self.asking = folder, free_port()
        self.asking_nodes = {name: free_port() for name in "ab"}
        self.doors = {
            name: {kind: f"{host}:{free_port()}" for kind in ("imap", "pop3")}
            for name, host in (("a", "127.0.0.1"), ("b", "[::1]"))
        }
        self.cluster = Cluster(
            *(folder, database), more={name: self._more(name, (more or {}).get(name, "")) for name in "ab"}
        )
        self.nginx = self.another("nginx")

    def _more(self, name: str, settings: str) -> More:
        mine = self.doors[name]
        listen = "".join(f'{kind}_proxied = ["{place}"]\n' for kind, place in mine.items())
        listen += f'node_auth_http = ["127.0.0.1:{self.asking_nodes[name]}"]\n'
        if name == "a":
            listen += f'auth_http = ["127.0.0.1:{self.asking}"]\n'
        return More(listen, settings, ("--imap", mine["imap"], "--pop3", mine["pop3"]))

    def another(self, name: str, **changes: object) -> Nginx:
        """Another nginx in front of both, with other settings; not started yet."""
        tls = self.cluster.a.server.data / "tls"
        settings = {"auth_http": f"http://127.0.0.1:{self.asking}/", **changes}
        return Nginx(self.folder / name, tls / "certificate.pem", tls / "private-key.pem", **settings)  # type: ignore[arg-type]  # as its fields

    def start(self) -> None:
        """Start what is in front, and wait for it."""
        self.nginx.start()
        eventually(self.nginx.listens)

    def tls(self) -> ssl.SSLContext:
        """A client that trusts the certificate."""
        return self.cluster.a.server.tls()

    def imap(self) -> imaplib.IMAP4_SSL:
        """A client at port 993."""
        return imaplib.IMAP4_SSL("127.0.0.1", self.nginx.ports[993], ssl_context=self.tls(), timeout=WAIT_S)

    def pop(self) -> poplib.POP3_SSL:
        """A client at port 995."""
        return poplib.POP3_SSL("127.0.0.1", self.nginx.ports[995], context=self.tls(), timeout=WAIT_S)

    def wire(self, source: str = "127.0.0.1", port: int = 993, at: Nginx | None = None) -> Wire:
        """A bare connection over TLS from this address."""
        place = "127.0.0.1", (at or self.nginx).ports[port]
        plain = socket.create_connection(place, WAIT_S, source_address=(source, 0))
        return Wire(self.tls().wrap_socket(plain, server_hostname="localhost"))

    def runs_and_logins(self) -> tuple[float, float]:
        """How often Argon2 has run, and how many attempts to log in have ended, on both nodes."""
        (one, some), (two, more) = (node.server.runs_and_logins() for node in self.cluster.nodes.values())
        return one + two, some + more

    def stop(self) -> None:
        """End all of it."""
        self.nginx.stop()
        self.cluster.stop()


class Wire:
    """Lines of a connection that has been greeted."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.socket = connection
        self._lines = connection.makefile("rb")
        self.greeting = self.line()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_error: object) -> None:
        self._lines.close()
        self.socket.close()

    def line(self) -> bytes:
        """The next line; empty when the server has hung up."""
        return self._lines.readline()

    def say(self, line: bytes) -> None:
        """Send a line."""
        self.socket.sendall(line + b"\r\n")

    def until(self, beginning: bytes) -> list[bytes]:
        """All lines up to the one that begins so, or the end."""
        heard = [self.line()]
        while heard[-1] and not heard[-1].startswith(beginning):
            heard.append(self.line())
        return heard

    def ask(self, line: bytes) -> bytes:
        """The tagged reply to a command of IMAP."""
        self.say(b"a " + line)
        return self.until(b"a ")[-1]
