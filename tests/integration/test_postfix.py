"""Debian's Postfix with the recipe of deploy/postfix: users send with their password, and mail comes in."""

from __future__ import annotations

import base64
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import ANN, BOB, MESSAGE, PASSWORD, MailServer
from running import eventually

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
        both.stop()
        shutil.rmtree(folder)


def command(mail: MailServer, name: str, *arguments: str) -> str:
    """One of Postfix's commands on this instance; what it says."""
    config = str(mail.folder / "postfix" / "config")
    done = subprocess.run([name, "-c", config, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


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


def test_a_password_is_not_taken_in_clear(mail: MailServer) -> None:
    """Port 587 offers AUTH after STARTTLS only; port 25 never does."""
    with smtplib.SMTP("127.0.0.1", mail.ports.submission, "localhost", 60) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        assert smtp.docmd("AUTH", "PLAIN")[0] in (503, 530)
        smtp.starttls(context=mail.trusting())
        smtp.login(BOB, PASSWORD)
    with smtplib.SMTP("127.0.0.1", mail.ports.smtp, "localhost", 60) as smtp:
        smtp.starttls(context=mail.trusting())
        smtp.ehlo()
        assert not smtp.has_extn("auth")


def test_a_wrong_password_is_refused(mail: MailServer) -> None:
    """535: not a temporary error, so that mail programs ask for another one."""
    for user, password in ((BOB, "wrong"), ("nobody@example.org", PASSWORD)):
        with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.login(user, password)
        assert refused.value.smtp_code == 535


def test_an_app_password_sends_if_its_scope_says_so(mail: MailServer) -> None:
    """One for reading mail alone is refused like a wrong one."""

    def made(protocol: str) -> str:
        words = ["app-password", "add", ANN, "--label", protocol, "--protocol", protocol, "--password-stdin"]
        return str(mail.cli(*words, stdin=f"{PASSWORD}\n")["app_password"])

    with mail.submit() as smtp:
        smtp.login(ANN, made("smtp"))
    with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.login(ANN, made("imap"))
    assert refused.value.smtp_code == 535


def test_nobody_sends_from_the_address_of_somebody_else(mail: MailServer) -> None:
    """Only from those for which the account gets mail: its name with any detail, and its aliases."""
    mail.cli("alias", "add", "info@example.org", BOB)
    with mail.submit() as smtp:
        smtp.login(BOB, PASSWORD)
        for sender, code in (
            (BOB, 250),
            ("bob+list@example.org", 250),
            ("info@example.org", 250),
            (ANN, 553),
        ):
            smtp.mail(sender)
            assert smtp.rcpt(ANN)[0] == code
            smtp.rset()


def test_nothing_is_taken_for_somebody_who_is_not_here(mail: MailServer) -> None:
    """Refused at RCPT: there is nothing that would have to be sent back."""
    assert mail.rcpt(BOB)[0] == 250
    assert mail.rcpt("bob+folder@example.org")[0] == 250
    assert mail.rcpt("nobody@example.org")[0] == 550
    assert mail.rcpt("nobody+bob@example.org")[0] == 550
    assert mail.rcpt("bob@example.net")[0] == 554  # of no domain that is here
    recipients = f"socketmap:unix:{mail.sockets}/recipients.sock:recipients"
    assert command(mail, "postmap", "-q", BOB, recipients) == "here"


def test_a_full_account_is_told_at_rcpt(mail: MailServer) -> None:
    """452, so that the sender's server keeps the mail; the other accounts go on, and the owner may send."""
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
    assert text.endswith(b"mailbox full")
    assert mail.rcpt(BOB)[0] == 250
    with mail.submit() as smtp:
        smtp.login(full, PASSWORD)
        smtp.mail(full)
        assert smtp.rcpt(BOB)[0] == 250


def test_a_disabled_account_gets_and_sends_nothing(mail: MailServer) -> None:
    """From then on; Postfix remembers nothing."""
    name = "locked@example.org"
    mail.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert mail.rcpt(name)[0] == 250
    mail.cli("account", "disable", name)
    assert mail.rcpt(name) == (
        550,
        b"5.2.1 <locked@example.org>: Recipient address rejected: mailbox disabled",
    )
    with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.login(name, PASSWORD)
    assert refused.value.smtp_code == 535


def test_nothing_is_lost_while_sealbox_is_away(mail: MailServer) -> None:
    """What Postfix has taken waits in its queue; what it is asked meanwhile is "try again later"."""
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
            assert refused.value.smtp_code == 454
        finally:
            mail.serve()
        known.login(BOB, PASSWORD)

    def delivered() -> bool:
        command(mail, "postqueue", "-f")
        return mail.waiting() == before + 1

    eventually(delivered, 60)


def test_no_password_is_in_a_log(mail: MailServer) -> None:
    """Neither in ours nor in Postfix's; ours have no name either."""
    written = [path.read_bytes() for path in (mail.folder / "err", *(mail.folder / "data" / "log").iterdir())]
    everything = b"".join((*written, (mail.folder / "postfix" / "log").read_bytes()))
    assert b"sasl_username=bob@example.org" in everything
    assert PASSWORD.encode() not in everything
    assert base64.b64encode(f"\0{BOB}\0{PASSWORD}".encode()) not in everything
    assert b'"command":"SASL AUTH"' in b"".join(written)
    for name in (b"bob", b"ann", b"nobody", b"example.org"):
        assert name not in b"".join(written)
