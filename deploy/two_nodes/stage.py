"""Everything that is started, in order, and how all of it goes away again."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from backup.keypair import generate
from deploy.first_run import make_certificate
from deploy.two_nodes import nginx, r2
from deploy.two_nodes.authority import Authority
from deploy.two_nodes.node import BUCKET, PORTS, DemoNode, Shared
from deploy.two_nodes.postgresql import PostgreSqlServer, binaries
from deploy.two_nodes.programs import CannotStart, Pause, Program
from mailstore.directory import PostgresPlace, has_driver
from mailstore.durable import write_new

NODES = ("a", "b")
NODE_STEP = 100
R2_PORT = 70
ACCOUNTS = {"ada@example.org": "a", "bob@example.org": "b"}
"""Who is made at which node."""

USERS = ("postgres", "nobody")
"""Whom root becomes: the first that there is."""


@dataclass
class Stage:
    """What runs, for those who describe it. Its repr shows no password."""

    folder: Path
    postgresql: PostgreSqlServer
    bucket: r2.LocalR2
    certificate: Path
    backup_private_key: Path
    proxy: dict[str, int]
    nginx: Program | None = None
    nodes: dict[str, DemoNode] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict, repr=False)

    def programs(self) -> list[Program]:
        """All that have been started."""
        own = [self.postgresql.program, *(node.program for node in self.nodes.values())]
        return [one for one in (*own, self.bucket.program, self.nginx) if one is not None]


def missing() -> list[str]:
    """What has to be installed first, one sentence each."""
    found = []
    if binaries() is None:
        found.append("PostgreSQL is not installed (Debian: apt install postgresql)")
    if not has_driver():
        found.append("psycopg is not installed (pip install 'sealbox[postgresql]')")
    if not nginx.is_installed():
        found.append("nginx is not installed (Debian: apt install nginx libnginx-mod-mail)")
    if not r2.is_installed():
        found.append("the local S3 server is not installed (deploy/two-nodes does it with npm)")
    return found


def become_unprivileged() -> None:
    """As root, become a user who may do nothing: PostgreSQL refuses root, and nothing else here needs it.

    Raises CannotStart: that user cannot read the program.
    """
    if os.getuid() != 0:
        return
    there = {found.pw_name: found for found in pwd.getpwall()}
    user = next(there[name] for name in USERS if name in there)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if not os.access(__file__, os.R_OK):
        raise CannotStart(
            f"user {user.pw_name}, as whom root runs this, cannot read {Path(__file__).parents[2]}: "
            "move the checkout, or run it as an ordinary user"
        )


def check_ports(base: int) -> None:
    """Raises CannotStart: another program has one of the ports."""
    bases = [base + NODE_STEP * (number + 1) for number in range(len(NODES))]
    own = (R2_PORT, nginx.AUTH_PORT, *nginx.PORTS.values())
    for port in [*(base + one for one in own), *(one + offset for one in bases for offset in PORTS.values())]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as exc:
                raise CannotStart(
                    f"port {port} of 127.0.0.1 cannot be used ({exc.strerror}): --port-base chooses others"
                ) from None


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def set_up(base: int, ends: ExitStack, pause: Pause) -> Stage:
    """Start everything. Whatever happens, closing ``ends`` undoes what has been done.

    Raises CannotStart, StoreError, OSError, and what ``pause`` raises.
    """
    check_ports(base)
    # A short path: it is part of a Unix socket's name.
    folder = Path(tempfile.mkdtemp(prefix="two-nodes-"))
    ends.callback(_remove, folder)
    bucket = r2.LocalR2(folder / "r2", base + R2_PORT, (BUCKET,))
    ends.callback(bucket.stop)
    place = folder / "postgresql"
    place.mkdir(mode=0o700)
    postgresql = PostgreSqlServer(place)
    ends.callback(postgresql.stop)
    postgresql.start(pause)
    shared = _shared(folder, postgresql, bucket)
    proxy = {"imaps": base + nginx.PORTS[993], "pop3s": base + nginx.PORTS[995]}
    stage = Stage(folder, postgresql, bucket, shared.certificate, folder / "backup-private.key", proxy)
    for number, name in enumerate(NODES):
        stage.nodes[name] = DemoNode(name, base + NODE_STEP * (number + 1), shared)
        stage.nodes[name].make_known()
    for account, name in ACCOUNTS.items():
        stage.passwords[account] = stage.nodes[name].add_account(account)
    bucket.wait(pause)
    for node in stage.nodes.values():
        ends.callback(_end, node)
        node.start()
    for node in stage.nodes.values():
        node.wait(pause)
    asked = [node.ports["auth_http"] for node in stage.nodes.values()]
    files = shared.certificate, shared.private_key
    stage.nginx = nginx.start_nginx(folder / "nginx", base, asked, *files)
    ends.callback(stage.nginx.stop)
    stage.nginx.wait_until(partial(_is_open, proxy["imaps"]), pause)
    # Through one of them: it brings half of the mail to the other.
    stage.nodes[NODES[0]].deliver_samples(ACCOUNTS)
    return stage


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(node: DemoNode) -> None:
    if node.program is not None:
        node.program.stop()


def _shared(folder: Path, postgresql: PostgreSqlServer, bucket: r2.LocalR2) -> Shared:
    key_file, credentials = folder / "directory.key", folder / "s3.toml"
    write_new(key_file, secrets.token_hex(32).encode("ascii") + b"\n")
    key_id, secret = r2.ACCESS_KEY_ID, r2.SECRET_ACCESS_KEY
    write_new(credentials, f'access_key_id = "{key_id}"\nsecret_access_key = "{secret}"\n'.encode("ascii"))
    public, private = folder / "backup-public.key", folder / "backup-private.key"
    generate(private, public)
    certificate, private_key = folder / "certificate.pem", folder / "private-key.pem"
    make_certificate(certificate, private_key)
    # Mail programs of other users have to read the certificate. They may enter the folder, not list it.
    folder.chmod(0o711)
    certificate.chmod(0o644)
    return Shared(
        folder,
        PostgresPlace(postgresql.url(), key_file),
        Authority(folder),
        bucket,
        certificate,
        private_key,
        public,
        credentials,
    )
