"""A data root with a configuration that stores snapshots in a folder, and the commands run over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from store_world import NAME, PASSWORD, TINY, World, now

from backup.keypair import generate, read_private_key
from deploy.cli.main import main
from deploy.first_run import make_certificate
from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.model import NewMessage


class CommandsWorld:
    """One account, no server. The folder for the snapshots is not there yet."""

    def __init__(self, place: Path) -> None:
        self.root = place / "root"
        self.objects = place / "objects"
        self.config = place / "sealbox.toml"
        make_certificate(place / "c.pem", place / "k.pem")
        generate(place / "private", place / "public")
        self.private_key_file = place / "private"
        self.private_key = read_private_key(place / "private")
        self.config.write_text(
            f'data = "{self.root}"\nallow_unencrypted_volume = true\n'
            f'[listen]\nlmtp = ["unix:{place}/lmtp.sock"]\n'
            f'[tls]\ncertificate = "{place}/c.pem"\nprivate_key = "{place}/k.pem"\n'
            f'[backup]\nstore = "file://{self.objects}"\npublic_key = "{place}/public"\n'
            f"[argon2]\ntime_cost = {TINY.time_cost}\nmemory_kib = {TINY.memory_kib}\n"
            f"parallelism = {TINY.parallelism}\n"
        )
        init_root(self.root)
        self.add_account(NAME.decode())

    def add_account(self, name: str) -> str:
        """An account with the usual password; its id."""
        directory = open_directory(self.root)
        made = create_account(self.root, directory, NewAccount(name, PASSWORD), params=TINY)
        directory.close()
        return made.account_id

    def append(self, subject: str) -> None:
        """Append a message to INBOX, in a server that lives no longer."""
        mail = World(self.root)
        account = mail.login()
        now(account.append("INBOX", [NewMessage(f"Subject: {subject}\r\n\r\n".encode())]))
        account.release()
        mail.close()

    def run(self, *arguments: object, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        done = CliRunner().invoke(main, ["--config", str(self.config), *map(str, arguments)], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    def answer(self, *arguments: object, codes: tuple[int, ...] = (0,), stdin: str = "") -> dict[str, Any]:
        """The JSON answer of a command."""
        code, out, err = self.run(*arguments, "--json", stdin=stdin)
        assert code in codes, (code, out, err)
        found: dict[str, Any] = json.loads(out)
        return found
