"""Exim with the recipe of deploy/exim: users send with their password, and mail comes in."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import ANN, BOB, MESSAGE, PASSWORD, MailServer
from running import eventually

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


def test_a_user_sends_with_the_password_of_the_account(mail: MailServer) -> None:
    """By PLAIN and by LOGIN; the mail for another account here comes back by LMTP."""
    for method in ("plain", "login"):
        before = mail.waiting()
        with mail.submit() as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = BOB, PASSWORD
            assert smtp.auth(method, getattr(smtp, f"auth_{method}"))[0] == 235
            smtp.sendmail(BOB, [ANN], MESSAGE)
        eventually(lambda: mail.waiting() == before + 1)  # noqa: B023  # called before the next round


def test_without_an_initial_response(mail: MailServer) -> None:
    """Exim then sends an empty one, and asks when it is told to."""
    with mail.submit() as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = BOB, PASSWORD
        assert smtp.auth("plain", smtp.auth_plain, initial_response_ok=False)[0] == 235


def test_a_password_is_not_taken_in_clear(mail: MailServer) -> None:
    """Port 587 offers AUTH after STARTTLS only; port 25 never does."""
    with smtplib.SMTP("127.0.0.1", mail.ports.submission, "localhost", 60) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        smtp.starttls(context=mail.trusting())
        smtp.login(BOB, PASSWORD)
    with smtplib.SMTP("127.0.0.1", mail.ports.smtp, "localhost", 60) as smtp:
        smtp.starttls(context=mail.trusting())
        smtp.ehlo()
        assert not smtp.has_extn("auth")


def test_a_wrong_password_is_refused(mail: MailServer) -> None:
    """535: not a temporary error, so that mail programs ask for another one."""
    with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.login(BOB, "wrong")
    assert refused.value.smtp_code == 535


def test_nobody_sends_from_the_address_of_somebody_else(mail: MailServer) -> None:
    """Nor without having logged in."""
    with mail.submit() as smtp:
        smtp.ehlo()
        assert smtp.mail(BOB)[0] == 550
        smtp.login(BOB, PASSWORD)
        for sender, code in ((BOB, 250), ("bob+list@example.org", 250), (ANN, 550)):
            assert smtp.mail(sender)[0] == code
            smtp.rset()


def test_nothing_is_taken_for_somebody_who_is_not_here(mail: MailServer) -> None:
    """Refused at RCPT, as LMTP answers it."""
    assert mail.rcpt(BOB)[0] == 250
    assert mail.rcpt("bob+folder@example.org")[0] == 250
    assert mail.rcpt("nobody@example.org")[0] == 550
    assert mail.rcpt("bob@example.net")[0] == 550


def test_a_full_account_is_told_at_rcpt(mail: MailServer) -> None:
    """A temporary error, so that the sender's server keeps the mail."""
    full = "full@example.org"
    mail.cli("account", "add", full, "--password-stdin", "--quota", "2K", stdin=f"{PASSWORD}\n")
    with smtplib.LMTP("127.0.0.1", mail.lmtp, local_hostname="mta.test") as lmtp:
        lmtp.sendmail("a@example.net", [full], MESSAGE.ljust(1900, b"x"))
    assert mail.rcpt(full)[0] in (450, 451, 452)


def test_nothing_is_lost_while_sealbox_is_away(mail: MailServer) -> None:
    """What Exim has taken waits in its queue; what it is asked meanwhile is "try again later"."""
    before = mail.waiting()
    with mail.submit() as known, smtplib.SMTP("127.0.0.1", mail.ports.smtp, "localhost", 60) as smtp:
        known.ehlo()
        smtp.ehlo()
        smtp.mail("sender@example.net")
        assert smtp.rcpt(BOB)[0] == 250
        mail.stop_server()
        try:
            assert smtp.data(MESSAGE)[0] == 250
            smtp.mail("sender@example.net")
            assert smtp.rcpt(BOB)[0] == 451
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                known.login(BOB, PASSWORD)
            assert refused.value.smtp_code == 435
        finally:
            mail.serve()
        known.login(BOB, PASSWORD)
    queue = [exim.BINARY, "-C", str(mail.folder / "exim" / "exim.conf"), "-qff"]

    def delivered() -> bool:
        subprocess.run(queue, check=True)
        return mail.waiting() == before + 1

    eventually(delivered, 60)
