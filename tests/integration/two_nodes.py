"""Two servers that share a directory in PostgreSQL, with an account each."""

from __future__ import annotations

import imaplib
import smtplib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import Server, answer_of

from tests.node_certificates import Authority
from tests.ports import free_port, free_port_base
from tests.postgresql import PostgreSql

MESSAGE = b"Subject: hello\r\n\r\nworld\r\n"
SECRET = "correct-horse-battery"
ANN, BOB = "ann@localhost", "bob@localhost"


@dataclass
class Node:
    """One of the servers."""

    name: str
    server: Server
    config: Path
    port: int

    def start(self) -> None:
        """Serve."""
        self.server.start_with(lambda _settings: self.config.read_text())

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, object]:
        """A command of the operator there."""
        return answer_of(*arguments, "--config", str(self.config), stdin=stdin)

    def add(self, name: str) -> None:
        """Make an account there."""
        self.cli("account", "add", name, "--password-stdin", stdin=f"{SECRET}\n")

    def count(self, who: str) -> int:
        """Messages in an INBOX."""
        client = self.server.imap(who, SECRET)
        found = int(client.select("INBOX", readonly=True)[1][0] or 0)
        client.logout()
        return found

    def login_error(self, who: str) -> str:
        """What IMAP says to a login that fails."""
        info = self.server.info
        client = imaplib.IMAP4_SSL("127.0.0.1", info["imaps"], ssl_context=self.server.tls(), timeout=30)
        with client, pytest.raises(imaplib.IMAP4.error) as caught:
            client.login(who, SECRET)
        return str(caught.value)

    def replies(self, *to: str, message: bytes = MESSAGE) -> list[int]:
        """The codes of the replies to one message, in order: to RCPT where that is refused."""
        with smtplib.LMTP("127.0.0.1", self.server.info["lmtp"], local_hostname="x", timeout=60) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("sender@example.org")
            codes = [lmtp.rcpt(one)[0] for one in to]
            if 250 in codes:
                first = lmtp.data(message)[0]
                others = [lmtp.getreply()[0] for _ in range(codes.count(250) - 1)]
                said = iter([first, *others])
                codes = [next(said) if code == 250 else code for code in codes]
        return codes


def _lease(lease_s: float) -> str:
    return f"lease_s = {lease_s}\nlease_margin_s = {lease_s / 10}\n"


@dataclass(frozen=True)
class More:
    """What a node has beyond the usual: lines of ``[listen]``, other settings, options of ``node add``."""

    listen: str = ""
    settings: str = ""
    doors: tuple[str, ...] = ()


class Cluster:
    """Nodes a and b, with an account each."""

    def __init__(
        self,
        folder: Path,
        database: PostgreSql,
        directory: str = "",
        lease_s: Mapping[str, float] | None = None,
        more: Mapping[str, More] | None = None,
    ) -> None:
        """With more settings of the directory, other leases than the default, and more of each node."""
        self.folder = folder
        self.authority = Authority(folder)
        url, key = database.new_place(), folder / "directory.key"
        base, self.nodes = free_port_base(), dict[str, Node]()
        for name in "ab":
            server = Server(folder / name, base, environment={"XDG_STATE_HOME": str(folder / "state")})
            server.start()
            assert server.stop() == 0
            if not key.exists():
                server.cli("directory", "key", str(key))
            for file in server.data.glob("directory.db*"):
                file.unlink()
            for file in server.data.glob("accounts/??/*"):
                file.rename(folder / file.name)
            port = free_port()
            certificate, private_key = self.authority.certificate(name)
            settings = (server.data / "sealbox.toml").read_text()
            extra = (more or {}).get(name, More())
            door = f'[listen]\nnode_lmtp = ["127.0.0.1:{port}"]\n{extra.listen}'
            config = folder / f"{name}-node.toml"
            config.write_text(
                "workers = 1\n"
                + settings.replace("[listen]\n", door)
                + f'\n[directory]\nurl = "{url}"\nkey_file = "{key}"\n{directory}\n[node]\nname = "{name}"\n'
                + (_lease(lease_s[name]) if lease_s and name in lease_s else "")
                + f'certificate = "{certificate}"\nprivate_key = "{private_key}"\n'
                + f'ca = "{self.authority.file}"\nconnect_timeout_s = 60\n'
                + extra.settings
            )
            self.nodes[name] = Node(name, server, config, port)
            base = free_port_base(base)
        self.a, self.b = self.nodes["a"], self.nodes["b"]
        self.a.cli("domain", "add", "localhost")
        for node in self.nodes.values():
            doors = (more or {}).get(node.name, More()).doors
            self.a.cli("node", "add", node.name, f"127.0.0.1:{node.port}", *doors)
        self.a.add(ANN)
        self.b.add(BOB)
        self.a.start()
        self.b.start()

    def stop(self) -> None:
        """Stop those that serve."""
        for node in self.nodes.values():
            if node.server.process is not None:
                node.server.stop()
