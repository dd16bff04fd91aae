"""Debian's Postfix with the recipe of deploy/postfix: users send with their password, and mail comes in."""

from __future__ import annotations

import json
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SEALBOX, START_S, STOP_S, eventually, free_port_base

from deploy.first_run import make_certificate
from mailstore.sealed import pending
from tests import postfix
from tests.readiness import Readiness

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(postfix.missing() is not None, reason=str(postfix.missing())),
]

BOB, ANN = "bob@example.org", "ann@example.org"
PASSWORD = "password-of-bob"
MESSAGE = b"Subject: hello\r\n\r\nfrom a program beside Sealbox\r\n"


class Mail:
    """Sealbox and Postfix on one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_certificate(folder / "c.pem", folder / "k.pem")
        for name, place in (("c.pem", folder), ("", folder)):
            (place / name).chmod(0o755)
        self.config = folder / "sealbox.toml"
        sockets = folder / "run"
        sockets.mkdir(mode=0o755)
        self.config.write_text(
            f'data = "{folder}/data"\nhostname = "mail.test"\nworkers = 2\nallow_unencrypted_volume = true\n'
            f'socket_group = "{postfix.GROUP}"\n'
            f'[tls]\ncertificate = "{folder}/c.pem"\nprivate_key = "{folder}/k.pem"\n'
            f"[listen]\nimaps = []\npop3s = []\n"
            f'lmtp = ["unix:{sockets}/lmtp.sock"]\nauth = ["unix:{sockets}/auth.sock"]\n'
            f'recipients = ["unix:{sockets}/recipients.sock"]\n'
            "[argon2]\nmemory_kib = 64\n"
        )
        base = free_port_base()
        self.ports = postfix.Setup(
            base + 24, base + 43, base + 93, sockets, "example.org", folder / "c.pem", folder / "k.pem"
        )
        self.server: subprocess.Popen[bytes] | None = None
        self.postfix: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, str]:
        """A command of the operator; its JSON answer."""
        done = subprocess.run(
            [*SEALBOX, *arguments, "--config", str(self.config), "--json"],
            input=stdin.encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    def serve(self) -> None:
        """Start Sealbox."""
        ready = Readiness()
        with (self.folder / "err").open("ab") as errors:
            self.server = subprocess.Popen(
                [*SEALBOX, "serve", "--config", str(self.config)], stderr=errors, env=ready.environment
            )
        ready.wait(self.server, START_S, lambda: (self.folder / "err").read_text())

    def start_postfix(self) -> None:
        """Start Postfix, and wait until it listens."""
        self.postfix = postfix.start(self.folder / "postfix", self.ports)
        eventually(self.listens)

    def listens(self) -> bool:
        """Whether Postfix answers."""
        try:
            smtplib.SMTP("127.0.0.1", self.ports.smtp, "localhost", 10).quit()
        except OSError:
            return False
        return True

    def submit(self) -> smtplib.SMTP_SSL:
        """A connection for a user's mail."""
        context = ssl.create_default_context(cafile=str(self.folder / "c.pem"))
        context.check_hostname = False
        return smtplib.SMTP_SSL("127.0.0.1", self.ports.submissions, "localhost", timeout=60, context=context)

    def stop(self) -> None:
        """Stop both."""
        for process in (self.postfix, self.server):
            if process is not None:
                process.terminate()
                process.wait(STOP_S)

    def waiting(self) -> int:
        """Messages in all inboxes."""
        return sum(len(pending(one)) for one in (self.folder / "data" / "accounts").glob("*/*/inbox"))


@pytest.fixture(scope="module")
def mail() -> Iterator[Mail]:
    """Both, running. In a folder with a short name: the user postfix has to reach it, and so has a socket."""
    folder = Path(tempfile.mkdtemp(prefix="sealbox-postfix-"))
    both = Mail(folder)
    try:
        both.cli("account", "add", BOB, "--password-stdin", stdin=f"{PASSWORD}\n")
        both.serve()
        both.start_postfix()
        yield both
    finally:
        both.stop()
        shutil.rmtree(folder)


def test_a_user_sends_with_the_password_of_the_account(mail: Mail) -> None:
    """By PLAIN and by LOGIN; the mail for another account here comes back by LMTP."""
    for method in ("auth_plain", "auth_login"):
        before = mail.waiting()
        with mail.submit() as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = BOB, PASSWORD
            assert smtp.auth(method.removeprefix("auth_"), getattr(smtp, method))[0] == 235
            smtp.sendmail(BOB, [BOB], MESSAGE)
        eventually(lambda: mail.waiting() == before + 1)  # noqa: B023  # called before the next round


def test_a_wrong_password_is_refused(mail: Mail) -> None:
    """535: not a temporary error, so that mail programs ask for another one."""
    for user, password in ((BOB, "wrong"), ("nobody@example.org", PASSWORD)):
        with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.login(user, password)
        assert refused.value.smtp_code == 535
