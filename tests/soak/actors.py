"""Who uses the server: each actor does one thing over and over, and starts again when its worker dies.

A broken connection is what killing workers brings; an answer that is wrong is not, and goes into the ledger.
"""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import random
import re
import smtplib
import ssl
import threading
import time
from collections.abc import Callable
from email import message_from_bytes

from tests.soak.ledger import Account, Ledger
from tests.soak.site import PASSWORD, Site

TIMEOUT_S = 60.0
BROKEN = (OSError, EOFError, ssl.SSLError, imaplib.IMAP4.abort, poplib.error_proto, smtplib.SMTPException)
_SUBJECT = re.compile(rb"^Subject: (\S+)", re.MULTILINE)
Step = Callable[[random.Random], None]


def message(token: str, choose: random.Random) -> bytes:
    """A message with the token in subject and text; most are small, some have a large attachment."""
    size = choose.choice((200, 2_000, 2_000, 10_000, 10_000, 200_000))
    filler = choose.randbytes(size // 2).hex()
    text = "\r\n".join(filler[start : start + 70] for start in range(0, len(filler), 70))
    return (
        f"From: sender@example.org\r\nTo: user@example.org\r\nSubject: {token}\r\n"
        f"Message-ID: <{token}@soak>\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\n"
        f"The word is {token}.\r\n{text}\r\n"
    ).encode("ascii")


def _hang_up(client: imaplib.IMAP4_SSL) -> None:
    with contextlib.suppress(OSError):
        client.shutdown()  # fails behind a LOGOUT, which has closed it


class Actors:
    """All steps that actors repeat."""

    def __init__(self, site: Site, ledger: Ledger, over: threading.Event) -> None:
        self.site = site
        self.ledger = ledger
        self.over = over
        self._tls = site.tls()

    def repeat(self, what: str, step: Step, seed: str, pause_s: float) -> None:
        """Do ``step`` again and again until it is over; for a thread."""
        choose = random.Random(seed)
        while not self.over.is_set():
            began = time.monotonic()
            try:
                step(choose)
            except BROKEN as error:
                self.ledger.broke(what, error)
            except imaplib.IMAP4.error as error:
                if "[UNAVAILABLE]" in str(error):
                    self.ledger.broke(what, error)  # everybody is coming back at once, and may wait for it
                else:
                    self.ledger.is_wrong(f"{what}: {str(error)[:200]}")
            except Exception as error:  # noqa: BLE001  # the soak goes on and reports it
                self.ledger.is_wrong(f"{what}: {type(error).__name__} {str(error)[:200]}")
            else:
                self.ledger.done(what, time.monotonic() - began)
            self.over.wait(pause_s * choose.random())

    def _imap(self, account: Account, mailbox: str = "INBOX") -> imaplib.IMAP4_SSL:
        client = imaplib.IMAP4_SSL("127.0.0.1", self.site.imaps, ssl_context=self._tls, timeout=TIMEOUT_S)
        client.login(account.name, PASSWORD)
        if mailbox:
            client.select(mailbox)
        return client

    def deliver(self, choose: random.Random) -> None:
        """Ten messages over one LMTP connection, to accounts at random."""
        with smtplib.LMTP("127.0.0.1", self.site.lmtp, local_hostname="localhost", timeout=TIMEOUT_S) as lmtp:
            for _ in range(10):
                account, token = choose.choice(self.ledger.accounts), self.ledger.token("lmtp")
                self.ledger.unsure(account, token)
                lmtp.sendmail("sender@example.org", [account.name], message(token, choose))
                self.ledger.answered(account, token)

    def append(self, choose: random.Random) -> None:
        """Messages by APPEND, one of them moved to the archive and flagged."""
        account = choose.choice(self.ledger.accounts)
        client = self._imap(account)
        try:
            for _ in range(5):
                token = self.ledger.token("append")
                self.ledger.unsure(account, token)
                status, answer = client.append("INBOX", "", "", message(token, choose))
                if status != "OK":
                    self.ledger.is_wrong(f"APPEND: {status}")
                    return
                self.ledger.answered(account, token)
            if account.kept:
                found = re.search(rb"APPENDUID \d+ (\d+)", answer[0] or b"")
                if found:
                    client.uid("STORE", found[1].decode(), "+FLAGS", r"(\Flagged)")
                    client.uid("MOVE", found[1].decode(), "Archive")
            client.logout()
        finally:
            _hang_up(client)

    def synchronise(self, choose: random.Random) -> None:
        """What a mail program does on its way in: names, counters, flags of all, headers of the newest."""
        account = choose.choice([one for one in self.ledger.accounts if one.kept])
        client = self._imap(account, "")
        try:
            client.list()
            client.status("Archive", "(MESSAGES UNSEEN UIDNEXT)")
            _, count = client.select("INBOX")
            exists = int(count[0] or b"0")
            client.uid("FETCH", "1:*", "(FLAGS)")
            # Others move mail away meanwhile, and this command may say so.
            exists -= len([number for number in client.response("EXPUNGE")[1] if number])
            if exists:
                newest = f"{max(1, exists - 50)}:{exists}"
                client.fetch(newest, "(UID ENVELOPE BODYSTRUCTURE)")
                client.fetch(str(choose.randint(1, exists)), "(BODY.PEEK[])")
                client.store(str(choose.randint(1, exists)), "+FLAGS", r"(\Seen)")
            client.logout()
        finally:
            _hang_up(client)

    def search(self, choose: random.Random) -> None:
        """A message that the server has is found by a word of its text."""
        account = choose.choice([one for one in self.ledger.accounts if one.kept])
        known = self.ledger.known(account)
        if not known:
            return
        token = choose.choice(known)
        client = self._imap(account, "")
        try:
            found = 0
            for mailbox in ("INBOX", "Archive"):
                client.select(mailbox, readonly=True)
                _, numbers = client.search(None, "TEXT", f'"{token}"')
                found += len((numbers[0] or b"").split())
            # It may be on its way from one mailbox to the other between the two looks.
            if found > 1:
                self.ledger.is_wrong(f"TEXT finds {token} {found} times")
            if not found:
                client.select("INBOX", readonly=True)
                _, numbers = client.search(None, "TEXT", f'"{token}"')
                _, again = client.select("Archive", readonly=True), client.search(None, "TEXT", f'"{token}"')
                if not (numbers[0] or again[1][0]):
                    self.ledger.is_wrong(f"TEXT does not find {token}")
            client.logout()
        finally:
            _hang_up(client)

    def pop(self, choose: random.Random) -> None:
        """Download all there is and delete it, as a POP3 program does."""
        account = choose.choice([one for one in self.ledger.accounts if not one.kept])
        client = poplib.POP3_SSL("127.0.0.1", self.site.pop3s, context=self._tls, timeout=TIMEOUT_S)
        try:
            client.user(account.name)
            client.pass_(PASSWORD)
            count, _ = client.stat()
            for number in range(1, min(count, 40) + 1):
                lines = client.retr(number)[1]
                subject = message_from_bytes(b"\r\n".join(lines[:12]))["Subject"]
                self.ledger.downloaded(account, subject)
                client.dele(number)
            client.quit()
        finally:
            client.close()


def everything_in(site: Site, account: Account) -> list[str]:
    """The subjects of all messages in all mailboxes of an account."""
    client = imaplib.IMAP4_SSL("127.0.0.1", site.imaps, ssl_context=site.tls(), timeout=600)
    client.login(account.name, PASSWORD)
    found: list[str] = []
    for mailbox in ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"):
        client.select(mailbox, readonly=True)
        _, answers = client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        for answer in answers:
            if isinstance(answer, tuple):
                match = _SUBJECT.search(answer[1])
                found.append(match[1].decode("ascii") if match else "?")
    client.logout()
    return found
