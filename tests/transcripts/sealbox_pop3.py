"""Our server over TCP as POP3's transcripts see it."""

from __future__ import annotations

from mailstore.engine import Txn
from mailstore.keys import Scope
from mailstore.model import Pop3Settings
from mailstore.ops import mailboxes
from tests.memory_mailbox import SAVED
from tests.transcripts.memory_world import SAMPLE_DATE, SHORT_SAMPLE, changed_settings
from tests.transcripts.sealbox_server import SealboxServer
from tests.transcripts.sealbox_world import SealboxWorld


def _after_stls(data: bytes) -> bytes:
    return b"+OK begin TLS now" if b"STLS\r\n" in data.upper() else b""


class Pop3SealboxWorld(SealboxWorld):
    """See ``SealboxWorld``. PASS sends an app password, which ``@revoke`` revokes."""

    services = ("pop3s", "pop3")
    upgrade_after = staticmethod(_after_stls)

    def __init__(self, server: SealboxServer, domain: str, source: str) -> None:
        super().__init__(server, domain, source)
        self._settings = Pop3Settings()
        with self._keyring() as keyring:
            self._app_password = keyring.add_app_password("phone", Scope())
        self._app_secret = self._app_password.printed.text().encode()
        self._actions |= {
            "messages": self._short_messages,
            "pop3": self._pop3,
            "seen": self._seen,
            "revoke": self._revoke_app_password,
        }

    def _sent_as(self, data: bytes) -> bytes:
        return data.replace(b"PASS secret", b"PASS " + self._app_secret)

    def _heard_as(self, data: bytes) -> bytes:
        """Without TLS there is nothing to bind to."""
        return data.replace(b" SCRAM-SHA-256-PLUS", b"").replace(b"SCRAM-SHA-256-PLUS\r\n", b"")

    def _short_messages(self, count: str) -> None:
        for number in range(1, int(count) + 1):
            self._add(SHORT_SAMPLE % (number, number), "INBOX", SAMPLE_DATE)

    def _pop3(self, setting: str, value: str) -> None:
        self._settings = changed_settings(self._settings, setting, value)
        self._server.directory.set_pop3(self._record.account_id, self._settings)

    def _seen(self, mailbox: str, count: str) -> None:
        def seen(txn: Txn) -> int:
            found = mailboxes.status(txn, mailbox)
            return found.messages - found.unseen

        if self._database.read(SAVED, seen) != int(count):
            raise AssertionError("another number of messages is marked as read")

    def _revoke_app_password(self) -> None:
        with self._keyring() as keyring:
            keyring.revoke(self._app_password.slot.id)
        self._app_secret = self._secret
