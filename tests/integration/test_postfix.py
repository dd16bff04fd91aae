"""Debian's Postfix with the recipe of deploy/postfix: users send with their password, and mail comes in."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import ANN, BOB, MESSAGE, PASSWORD, MailServer
from beside_tests import OfEveryMailServer
from running import STOP_S

from tests import postfix

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(postfix.missing() is not None, reason=str(postfix.missing())),
]


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    """Both, running."""
    folder = Path(tempfile.mkdtemp(prefix="sealbox-postfix-"))
    both = MailServer(folder, postfix.GROUP)
    try:
        both.serve()
        ports = both.ports
        setup = postfix.Setup(
            ports.smtp, ports.submissions, ports.submission, both.sockets, "example.org",
            both.certificate, both.private_key,
        )  # fmt: skip
        both.beside = postfix.start(folder / "postfix", setup)
        both.wait_for_smtp()
        yield both
    finally:
        if both.beside is not None:
            postfix.stop(folder / "postfix")
            both.beside.wait(STOP_S)
        both.stop()
        shutil.rmtree(folder)


def command(mail: MailServer, name: str, *arguments: str) -> str:
    """One of Postfix's commands on this instance; what it says."""
    config = str(mail.folder / "postfix" / "config")
    done = subprocess.run([name, "-c", config, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class TestPostfix(OfEveryMailServer):
    """With all that Postfix asks for at the three sockets."""

    NOT_NOW, NOT_YOURS, NO_RELAY = 454, 553, 554

    def try_again(self, mail: MailServer) -> None:
        """See ``OfEveryMailServer``."""
        command(mail, "postqueue", "-f")

    def log(self, mail: MailServer) -> Path:
        """See ``OfEveryMailServer``."""
        return mail.folder / "postfix" / "log"

    def test_a_user_sends_from_an_alias(self, mail: MailServer) -> None:
        """Mail for it comes to the same account."""
        mail.cli("alias", "add", "info@example.org", BOB)
        for name, code in ((BOB, 250), (ANN, 553)):
            with mail.submit() as smtp:
                smtp.login(name, PASSWORD)
                smtp.mail("info@example.org")
                assert smtp.rcpt(ANN)[0] == code

    def test_a_full_account_is_told_at_rcpt(self, mail: MailServer) -> None:
        """452, so that the sender's server keeps the mail; other accounts go on, and the owner may send."""
        full = "full@example.org"
        mail.cli("account", "add", full, "--password-stdin", "--quota", "2K", stdin=f"{PASSWORD}\n")
        with smtplib.LMTP(str(mail.sockets / "lmtp.sock"), local_hostname="mta.test") as lmtp:
            # Sealed it takes more than that.
            lmtp.sendmail("a@example.net", [full], MESSAGE.ljust(1900, b"x"))
            lmtp.mail("a@example.net")
            said_by_lmtp = lmtp.rcpt(full)
        code, text = mail.rcpt(full)
        assert (code, said_by_lmtp[0]) == (452, 452)
        assert text.startswith(b"4.2.2 ")
        assert text.endswith(b"no room in the mailbox for that")
        assert mail.rcpt(BOB)[0] == 250
        with mail.submit() as smtp:
            smtp.login(full, PASSWORD)
            smtp.mail(full)
            assert smtp.rcpt(BOB)[0] == 250

    def test_an_operator_asks_the_maps(self, mail: MailServer) -> None:
        """By Postfix's own command, as OPERATIONS.md has it."""
        recipients = f"socketmap:unix:{mail.sockets}/recipients.sock:recipients"
        assert command(mail, "postmap", "-q", BOB, recipients) == "here"
