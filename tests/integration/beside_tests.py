"""What every mail server beside Sealbox does with its recipe; each has a class of tests that inherits it."""

from __future__ import annotations

import base64
import smtplib
from pathlib import Path

import pytest
from beside import ANN, BOB, MESSAGE, PASSWORD, MailServer
from running import eventually


def refusal(smtp: smtplib.SMTP, name: str, password: str) -> int:
    """The code by which a login is refused."""
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.login(name, password)
    return int(refused.value.smtp_code)


class OfEveryMailServer:
    """The fixture ``mail`` is the server with Sealbox; codes are those that servers do not agree on."""

    NOT_NOW: int
    """To AUTH, while Sealbox is away."""
    NOT_YOURS: int
    """To a sender that is not the user's."""
    NO_RELAY: int
    """To another server's mail for a domain that is not here."""

    def try_again(self, mail: MailServer) -> None:
        """Have the server deliver what waits in its queue."""
        raise AssertionError("each server has its command")

    def log(self, mail: MailServer) -> Path:
        """Where the server logs."""
        raise AssertionError("each server has its own")

    def test_a_user_sends_with_the_password_of_the_account(self, mail: MailServer) -> None:
        """By PLAIN, at once or when asked, and by LOGIN; the mail for another account comes back by LMTP."""
        for method, at_once in (("plain", True), ("plain", False), ("login", True)):
            before = mail.waiting()
            with mail.submit() as smtp:
                smtp.ehlo()
                smtp.user, smtp.password = BOB, PASSWORD
                respond = getattr(smtp, f"auth_{method}")
                assert smtp.auth(method, respond, initial_response_ok=at_once)[0] == 235
                smtp.sendmail(BOB, [ANN], MESSAGE)
            eventually(lambda: mail.waiting() == before + 1)  # noqa: B023  # called before the next round

    def test_a_password_is_not_taken_in_clear(self, mail: MailServer) -> None:
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

    def test_a_wrong_password_is_refused(self, mail: MailServer) -> None:
        """535: not a temporary error, so that mail programs ask for another one."""
        for name, password in ((BOB, "wrong"), ("nobody@example.org", PASSWORD)):
            with mail.submit() as smtp:
                assert refusal(smtp, name, password) == 535

    def test_an_app_password_sends_if_its_scope_says_so(self, mail: MailServer) -> None:
        """One for reading mail alone is refused like a wrong one."""

        def made(protocol: str) -> str:
            words = ["--label", protocol, "--protocol", protocol, "--password-stdin"]
            answer = mail.cli("app-password", "add", ANN, *words, stdin=f"{PASSWORD}\n")
            return str(answer["app_password"])

        with mail.submit() as smtp:
            smtp.login(ANN, made("smtp"))
        with mail.submit() as smtp:
            assert refusal(smtp, ANN, made("imap")) == 535

    def test_nobody_sends_from_the_address_of_somebody_else(self, mail: MailServer) -> None:
        """From the account's name, with any detail."""
        with mail.submit() as smtp:
            smtp.login(BOB, PASSWORD)
            for sender, expected in ((BOB, 250), ("bob+list@example.org", 250), (ANN, self.NOT_YOURS)):
                code = smtp.mail(sender)[0]
                assert (smtp.rcpt(ANN)[0] if code == 250 else code) == expected
                smtp.rset()

    def test_nothing_is_taken_for_somebody_who_is_not_here(self, mail: MailServer) -> None:
        """Refused at RCPT: there is nothing that would have to be sent back."""
        assert mail.rcpt(BOB)[0] == 250
        assert mail.rcpt("bob+folder@example.org")[0] == 250
        assert mail.rcpt("nobody@example.org")[0] == 550
        assert mail.rcpt("nobody+bob@example.org")[0] == 550
        assert mail.rcpt("bob@example.net")[0] == self.NO_RELAY

    def test_a_disabled_account_gets_and_sends_nothing(self, mail: MailServer) -> None:
        """From then on; the mail server remembers nothing."""
        name = "locked@example.org"
        mail.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
        assert mail.rcpt(name)[0] == 250
        mail.cli("account", "disable", name)
        assert mail.rcpt(name)[0] == 550
        with mail.submit() as smtp:
            assert refusal(smtp, name, PASSWORD) == 535

    def test_nothing_is_lost_while_sealbox_is_away(self, mail: MailServer) -> None:
        """What has been taken waits in the queue; what is asked meanwhile is answered "try again later"."""
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
                assert refusal(known, BOB, PASSWORD) == self.NOT_NOW
            finally:
                mail.serve()
            known.login(BOB, PASSWORD)

        def delivered() -> bool:
            self.try_again(mail)
            return mail.waiting() == before + 1

        eventually(delivered, 60)

    def test_no_password_is_in_a_log(self, mail: MailServer) -> None:
        """Neither in ours nor in the mail server's; ours have no name either."""
        with mail.submit() as smtp:
            smtp.login(BOB, PASSWORD)
        ours, theirs = mail.logged(), self.log(mail).read_bytes()
        assert BOB.encode() in theirs
        assert b'"command":"SASL AUTH"' in ours
        for word in (PASSWORD.encode(), base64.b64encode(f"\0{BOB}\0{PASSWORD}".encode())):
            assert word not in ours + theirs
        for name in (b"bob", b"ann", b"nobody", b"example.org"):
            assert name not in ours
