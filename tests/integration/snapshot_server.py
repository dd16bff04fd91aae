"""The real server with snapshots into a bucket, started as an operator does: ``sealbox serve``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from running import SEALBOX, STOP_S, Server, eventually

from deploy.first_run import make_certificate
from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.keys import Argon2Params
from tests.ports import BASE_OFFSETS, free_port_base
from tests.r2_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY

PORTS = dict(zip(("imap", "imaps", "pop3", "pop3s", "lmtp"), BASE_OFFSETS, strict=False))
PASSWORDS = {"ada@example.org": "a-long-enough-secret", "bob@example.org": "another-long-secret"}
ADA, BOB = PASSWORDS
CHEAP = Argon2Params(1, 64, 1)


@dataclass(frozen=True)
class Site:
    """What is not lost with a server: certificate, keys of the bucket, backup key pair. ``url`` is s3://."""

    place: Path
    base: int
    url: str
    endpoint: str

    @property
    def store_options(self) -> list[str]:
        """The bucket as commands take it."""
        return [
            *("--store", self.url, "--endpoint", self.endpoint),
            *("--credentials", str(self.place / "s3.toml"), "--private-key", str(self.place / "private")),
        ]


def make_site(place: Path, url: str, endpoint: str) -> Site:
    """Everything but a server, fresh."""
    make_certificate(place / "certificate.pem", place / "private-key.pem")
    (place / "s3.toml").write_text(
        f'access_key_id = "{ACCESS_KEY_ID}"\nsecret_access_key = "{SECRET_ACCESS_KEY}"\n'
    )
    sealbox("backup", "keygen", "--private", place / "private", "--public", place / "public")
    return Site(place, free_port_base(), url, endpoint)


def configuration(site: Site, root: Path) -> str:
    """A sealbox.toml with snapshots a second after a change."""
    quoted = json.dumps
    return "\n".join(
        (
            f"data = {quoted(str(root))}",
            'hostname = "localhost"',
            "workers = 1",
            "allow_unencrypted_volume = true",
            "[tls]",
            f"certificate = {quoted(str(site.place / 'certificate.pem'))}",
            f"private_key = {quoted(str(site.place / 'private-key.pem'))}",
            "[listen]",
            *(f'{name} = ["127.0.0.1:{site.base + offset}"]' for name, offset in PORTS.items()),
            "[argon2]",
            f"time_cost = {CHEAP.time_cost}",
            f"memory_kib = {CHEAP.memory_kib}",
            f"parallelism = {CHEAP.parallelism}",
            "[backup]",
            f"store = {quoted(site.url)}",
            f"endpoint = {quoted(site.endpoint)}",
            f"credentials = {quoted(str(site.place / 's3.toml'))}",
            f"public_key = {quoted(str(site.place / 'public'))}",
            "[snapshots]",
            "settle_s = 1.0\nlongest_wait_s = 3.0\nscan_interval_s = 1.0",
            "",
        )
    )


class SnapshotServer(Server):
    """A server of a site on a data root; its configuration lies in the root."""

    def __init__(self, site: Site, root: Path) -> None:
        super().__init__(root, site.base)
        self.site = site
        root.mkdir(exist_ok=True)
        self.config = root / "sealbox.toml"
        self.config.write_text(configuration(site, root))
        self.info = {name: site.base + offset for name, offset in PORTS.items()}
        self.info |= {"user": ADA, "password": PASSWORDS[ADA], "cafile": str(site.place / "certificate.pem")}

    def start(self) -> SnapshotServer:
        """Start and wait until IMAP answers."""
        with (self.site.place / f"{self.data.name}.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [*SEALBOX, "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "NOTIFY_SOCKET": ""},
            )
        eventually(self._answers, 60.0)
        return self

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.errors()
        try:
            self.imap().logout()
        except ConnectionRefusedError:
            return False
        return True

    def end(self) -> None:
        """Stop it if it runs still: a test has failed."""
        if self.process is not None:
            self.stop()

    def add_accounts(self) -> None:
        """Both accounts, before the first start."""
        init_root(self.data)
        directory = open_directory(self.data)
        for name, password in PASSWORDS.items():
            create_account(self.data, directory, NewAccount(name, password.encode()), params=CHEAP)
        directory.close()

    def _newest_s(self) -> dict[str, float]:
        """When the newest stored snapshot of each account was taken, in whole seconds."""
        status = sealbox("backup", "status", "--config", self.config)
        found = {one["name"]: one["newest"] for one in status["accounts"]}
        return {name: datetime.fromisoformat(when).timestamp() for name, when in found.items() if when}

    def wait_stored(self, since_s: dict[str, float]) -> None:
        """Until the server has stored snapshots by itself since then, and all changes are in one."""
        eventually(
            lambda: all(
                found >= int(since_s[name])
                for name, found in (dict.fromkeys(since_s, 0.0) | self._newest_s()).items()
            ),
            STOP_S,
        )
        # They may have been taken in the same second, before the last change.
        assert sealbox("backup", "run", "--config", self.config)["stored"]


def sealbox(*arguments: Any, stdin: str = "", codes: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a command; its JSON answer."""
    done = subprocess.run(
        [*SEALBOX, *map(str, arguments), "--json"],
        input=stdin.encode(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in codes, (arguments[:2], done.returncode, done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
