"""Sealbox with a mail server beside it, on 127.0.0.1 and in one folder that the server's user can reach."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import SEALBOX, START_S, STOP_S, answer_of, eventually

from deploy.first_run import make_certificate
from mailstore.sealed import pending
from tests.ports import free_port_base
from tests.readiness import Readiness

BOB, ANN = "bob@example.org", "ann@example.org"
PASSWORD = "correct horse battery staple"
MESSAGE = b"Subject: hello\r\n\r\nfrom a program beside Sealbox\r\n"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the mail server listens: for other servers, for users with TLS at once, and with STARTTLS."""

    smtp: int
    submissions: int
    submission: int


class MailServer:
    """Sealbox, and the ports of a mail server beside it; ``beside`` is that server's process.

    Its folder has to have a short name, for the sake of the sockets in it.
    """

    def __init__(self, folder: Path, group: str) -> None:
        self.folder, self.sockets = folder, folder / "run"
        self.certificate, self.private_key = folder / "c.pem", folder / "k.pem"
        make_certificate(self.certificate, self.private_key)
        self.sockets.mkdir()
        for place in (folder, self.sockets):
            place.chmod(0o755)
        base = free_port_base()
        self.ports, self.lmtp = Ports(base + 24, base + 43, base + 93), base + 95
        self.config = folder / "sealbox.toml"
        self.config.write_text(
            f'data = "{folder}/data"\nhostname = "mail.test"\nworkers = 2\nallow_unencrypted_volume = true\n'
            f'socket_group = "{group}"\n'
            f'[tls]\ncertificate = "{self.certificate}"\nprivate_key = "{self.private_key}"\n'
            f"[listen]\nimaps = []\npop3s = []\n"
            f'lmtp = ["unix:{self.sockets}/lmtp.sock", "127.0.0.1:{self.lmtp}"]\n'
            f'auth = ["unix:{self.sockets}/auth.sock"]\n'
            f'recipients = ["unix:{self.sockets}/recipients.sock"]\n'
            "[argon2]\nmemory_kib = 64\n"
        )
        for name in (BOB, ANN):
            self.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
        self.server: subprocess.Popen[bytes] | None = None
        self.beside: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        """A command of the operator; its JSON answer."""
        return answer_of(*arguments, "--config", str(self.config), stdin=stdin)

    def serve(self) -> None:
        """Start Sealbox."""
        ready = Readiness()
        with (self.folder / "err").open("ab") as errors:
            self.server = subprocess.Popen(
                [*SEALBOX, "serve", "--config", str(self.config)], stderr=errors, env=ready.environment
            )
        ready.wait(self.server, START_S, lambda: (self.folder / "err").read_text())

    def stop_server(self) -> None:
        """Stop Sealbox."""
        assert self.server is not None
        self.server.terminate()
        assert self.server.wait(STOP_S) == 0
        self.server = None

    def stop(self) -> None:
        """Stop both."""
        if self.beside is not None:
            self.beside.terminate()
            self.beside.wait(STOP_S)
        if self.server is not None:
            self.stop_server()

    def wait_for_smtp(self) -> None:
        """Until the mail server answers."""

        def answers() -> bool:
            try:
                smtplib.SMTP("127.0.0.1", self.ports.smtp, "localhost", 10).quit()
            except OSError:
                return False
            return True

        eventually(answers)

    def trusting(self) -> ssl.SSLContext:
        """A client's settings for TLS; the certificate is for another name."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        return context

    def submit(self) -> smtplib.SMTP_SSL:
        """A connection for a user's mail."""
        return smtplib.SMTP_SSL(
            "127.0.0.1", self.ports.submissions, "localhost", timeout=60, context=self.trusting()
        )

    def rcpt(self, address: str) -> tuple[int, bytes]:
        """What another mail server hears that has mail for an address."""
        with smtplib.SMTP("127.0.0.1", self.ports.smtp, "localhost", 60) as smtp:
            smtp.ehlo()
            assert smtp.mail("sender@example.net")[0] == 250
            return smtp.rcpt(address)

    def logged(self) -> bytes:
        """All that Sealbox has logged, once its access log knows of a login."""
        folder = self.folder / "data" / "log"
        eventually(lambda: any(b"SASL AUTH" in path.read_bytes() for path in folder.iterdir()))
        return b"".join(path.read_bytes() for path in (self.folder / "err", *folder.iterdir()))

    def waiting(self) -> int:
        """Messages in all inboxes."""
        return sum(len(pending(one)) for one in (self.folder / "data" / "accounts").glob("*/*/inbox"))
