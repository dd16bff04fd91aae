"""A data root as a server leaves it, and a process that holds its lock as a server does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.config import Config, parse
from deploy.first_run import make_certificate

ACCOUNT = "0123456789abcdef0123456789abcdef"


def made_root(place: Path) -> Config:
    """Files with the modes that the server gives them; the certificate may be read by all."""
    root = place / "data"
    account = root / "accounts" / "01" / ACCOUNT
    for folder in (account / "inbox", root / "tls", root / "log", root / "backup"):
        folder.mkdir(parents=True)
    make_certificate(root / "tls" / "certificate.pem", root / "tls" / "private-key.pem")
    for path in (root / "server.key", root / "serve.lock", account / "keys", account / "lock"):
        path.write_bytes(b"")
    (account / "mail.db").write_bytes(bytes(range(256)) * 16)
    for path in root.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for path in (root, root / "tls"):
        path.chmod(0o711)
    (root / "tls" / "certificate.pem").chmod(0o644)
    text = (
        f'data = "{root}"\n[tls]\ncertificate = "{root}/tls/certificate.pem"\n'
        f'private_key = "{root}/tls/private-key.pem"\n[listen]\nimaps = []\npop3s = []\n'
        f'auth = ["unix:{root}/auth.sock"]\n'
    )
    return parse(text, place / "sealbox.toml")


_PROGRAM = """
import ctypes, fcntl, os, resource, signal, socket, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
resource.setrlimit(resource.RLIMIT_CORE, (0, {hard}))
doors = [socket.create_server(("127.0.0.1", 0))]
if os.fork() == 0:
    def named(name):
        ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
    {child}
    print("ready", doors[0].getsockname()[1], flush=True)
    signal.pause()
os.wait()
"""


@contextmanager
def served(lock: Path, child: str, core_bytes: int = 0) -> Iterator[int]:
    """A process that holds ``lock``, with a child that has run ``child``; gives the port that it listens on.

    Neither writes core dumps, but may raise the limit up to ``core_bytes``.
    """
    program = _PROGRAM.format(child=child.replace("\n", "\n    "), hard=core_bytes)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)],
        stdout=subprocess.PIPE,
        process_group=0,
    ) as process:
        try:
            assert process.stdout is not None
            word, _, port = process.stdout.readline().decode().partition(" ")
            assert word == "ready"
            yield int(port)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
