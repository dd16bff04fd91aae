"""Exim with the recipe of deploy/exim: users send with their password, and mail comes in."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import BOB, MESSAGE, PASSWORD, MailServer
from beside_tests import OfEveryMailServer

from tests import exim

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(exim.missing() is not None, reason=str(exim.missing())),
]


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    """Both, running."""
    folder = Path(tempfile.mkdtemp(prefix="sealbox-exim-"))
    both = MailServer(folder, exim.GROUP)
    for path in (both.certificate, both.private_key):
        shutil.chown(path, group=exim.GROUP)
        path.chmod(0o640)
    try:
        both.serve()
        settings = {
            "AUTH_SOCKET": both.sockets / "auth.sock",
            "LMTP_PORT": both.lmtp,
            "CERTIFICATE": both.certificate,
            "PRIVATE_KEY": both.private_key,
            "PORT_25": both.ports.smtp,
            "PORT_465": both.ports.submissions,
            "PORT_587": both.ports.submission,
        }
        both.beside = exim.start(folder / "exim", settings)
        both.wait_for_smtp()
        yield both
    finally:
        both.stop()
        shutil.rmtree(folder)


class TestExim(OfEveryMailServer):
    """Which asks LMTP who is here."""

    NOT_NOW, NOT_YOURS, NO_RELAY = 435, 550, 550

    def try_again(self, mail: MailServer) -> None:
        """See ``OfEveryMailServer``."""
        subprocess.run([exim.BINARY, "-C", str(mail.folder / "exim" / "exim.conf"), "-qff"], check=True)

    def log(self, mail: MailServer) -> Path:
        """See ``OfEveryMailServer``."""
        return mail.folder / "exim" / "log" / "main"

    def test_a_user_has_to_log_in(self, mail: MailServer) -> None:
        """On the ports for users nothing is taken before."""
        with mail.submit() as smtp:
            smtp.ehlo()
            assert smtp.mail(BOB)[0] == 550

    def test_a_full_account_is_told_at_rcpt(self, mail: MailServer) -> None:
        """A temporary error, so that the sender's server keeps the mail."""
        full = "full@example.org"
        mail.cli("account", "add", full, "--password-stdin", "--quota", "2K", stdin=f"{PASSWORD}\n")
        with smtplib.LMTP("127.0.0.1", mail.lmtp, local_hostname="mta.test") as lmtp:
            lmtp.sendmail("a@example.net", [full], MESSAGE.ljust(1900, b"x"))
        assert mail.rcpt(full)[0] in (450, 451, 452)
