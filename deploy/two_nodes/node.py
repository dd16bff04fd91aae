"""One of the nodes: its data root, its settings, the accounts that are made there, and its server."""

from __future__ import annotations

import json
import smtplib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from deploy.first_run import new_password
from deploy.samples import sample_messages
from deploy.two_nodes.authority import Authority
from deploy.two_nodes.programs import CannotStart, Pause, Program
from deploy.two_nodes.r2 import LocalR2
from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.directory import Doors, Node, PostgresPlace, call_node, put_directory

BUCKET = "snapshots"
PORTS = {
    "imap": 43,
    "imaps": 93,
    "pop3": 10,
    "pop3s": 95,
    "lmtp": 24,
    "node_lmtp": 25,
    "imap_proxied": 44,
    "pop3_proxied": 11,
    "auth_http": 81,
}
"""Beyond a node's base, as in the quick start where that has them."""

LEASE_S = 20.0
"""Sooner over than is right for real nodes, so that a lost one can be recovered at once."""


GREETING_S = 5.0
DELIVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What all nodes have in common. ``folder`` is where everything lies."""

    folder: Path
    directory: PostgresPlace = field(repr=False)
    authority: Authority
    bucket: LocalR2
    certificate: Path
    private_key: Path
    backup_public_key: Path
    credentials: Path


class DemoNode:
    """A node and its server, which can be ended and started again."""

    def __init__(self, name: str, base: int, shared: Shared) -> None:
        """Make its data root and its settings. Raises StoreError, OSError."""
        self.name = name
        self.ports = {service: base + offset for service, offset in PORTS.items()}
        self.data = shared.folder / name
        self.config = shared.folder / f"{name}.toml"
        self.program: Program | None = None
        self._folder = shared.folder
        self.config.write_text(self._settings(shared), "utf-8")
        put_directory(self.data, shared.directory)
        call_node(self.data, name)
        init_root(self.data)

    def _settings(self, shared: Shared) -> str:
        certificate, private_key = shared.authority.certificate(self.name)
        text: dict[str, dict[str, object]] = {
            "": {
                "data": self.data,
                "hostname": f"{self.name}.localhost",
                "workers": 1,
                "allow_unencrypted_volume": True,
            },
            "tls": {"certificate": shared.certificate, "private_key": shared.private_key},
            "listen": {service: [f"127.0.0.1:{port}"] for service, port in self.ports.items()},
            "directory": {"url": shared.directory.url, "key_file": shared.directory.key_file},
            "node": {
                "name": self.name,
                "certificate": certificate,
                "private_key": private_key,
                "ca": shared.authority.file,
                "lease_s": LEASE_S,
                "lease_margin_s": LEASE_S / 10,
            },
            "backup": {
                "store": f"s3://{BUCKET}/{self.name}",
                "public_key": shared.backup_public_key,
                "endpoint": shared.bucket.endpoint,
                "credentials": shared.credentials,
            },
            # Sooner than is right for real mail: whoever tries things out does not wait for minutes.
            "snapshots": {"scan_interval_s": 1.0, "settle_s": 2.0, "longest_wait_s": 10.0},
        }
        head = "# Written by deploy/two-nodes: for trying out on this machine, not for real mail.\n"
        return head + "".join(_section(name, values) for name, values in text.items())

    def make_known(self) -> None:
        """Put it into the directory. Raises StoreError."""
        directory = open_directory(self.data)
        try:
            here = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
            doors = Doors(imap=here["imap_proxied"], pop3=here["pop3_proxied"])
            directory.put_node(Node(self.name, here["node_lmtp"], doors))
        finally:
            directory.close()

    def add_account(self, name: str) -> str:
        """Make an account here; its password. Its domain becomes one of the directory. Raises StoreError."""
        password, domain = new_password(), name.rpartition("@")[2]
        directory = open_directory(self.data)
        try:
            if domain not in directory.domains():
                directory.add_domain(domain)
            create_account(self.data, directory, NewAccount(name, password.encode()))
        finally:
            directory.close()
        return password

    def start(self) -> None:
        """Start its server. Raises OSError."""
        words = (sys.executable, "-m", "deploy", "serve", "--config", self.config)
        environment = {"HOME": str(self._folder)}
        self.program = Program(f"node-{self.name}", words, self._folder, environment=environment)

    def wait(self, pause: Pause) -> None:
        """Return when it serves. Raises CannotStart, and what ``pause`` raises."""
        assert self.program is not None
        self.program.wait_until(self._greets, pause)

    def _greets(self) -> bool:
        try:
            smtplib.LMTP("127.0.0.1", self.ports["lmtp"], "localhost", timeout=GREETING_S).close()
        except (OSError, smtplib.SMTPException):
            return False
        return True

    def deliver_samples(self, names: Iterable[str]) -> None:
        """Bring a handful of messages to accounts, wherever they are. Raises CannotStart."""
        try:
            with smtplib.LMTP("127.0.0.1", self.ports["lmtp"], "localhost", timeout=DELIVERY_S) as lmtp:
                for name in names:
                    for sender, message in sample_messages(name, datetime.now(UTC)):
                        lmtp.sendmail(sender, [name], message, mail_options=["BODY=8BITMIME"])
        except (OSError, smtplib.SMTPException) as exc:
            what = f"node {self.name} does not take the sample mail ({type(exc).__name__})"
            raise CannotStart(what) from None


def _section(name: str, values: dict[str, object]) -> str:
    lines = [f"{key} = {json.dumps(value, default=str)}" for key, value in values.items()]
    return "\n".join([*([f"\n[{name}]"] if name else []), *lines, ""])
