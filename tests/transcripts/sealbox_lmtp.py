"""Our server over TCP as LMTP's transcripts see it: three accounts of a fresh domain, nobody logged in."""

from __future__ import annotations

from collections.abc import Callable

from mailstore.account import AccountPaths, NewAccount, account_paths, create_account
from mailstore.keys import AccountId
from tests.transcripts.sealbox_server import CHEAP, SealboxServer
from tests.transcripts.socket_peer import SocketPeer

NAMES = ("joe", "ann", "max")
HEARD_AS = b"mx.example.org"
"""What the server is called in the transcripts."""
ANNOUNCED_BYTES = 100
"""SIZE in the transcript of full accounts; the message that follows is larger."""


def _after_starttls(data: bytes) -> bytes:
    return b"220 2.0.0 start TLS now" if b"STARTTLS\r\n" in data.upper() else b""


class LmtpSealboxWorld:
    """See ``World``, and ``TranscriptWorld`` of the server in memory for the actions."""

    def __init__(self, server: SealboxServer, domain: str, source: str) -> None:
        self._server = server
        self._domain = domain.encode()
        self._source = source
        self._peers: list[SocketPeer] = []
        self._ids = {name: self._account(f"{name}@{domain}") for name in NAMES}
        self._actions: dict[str, Callable[[str], None]] = {
            "failing": self._failing,
            "full": lambda name: self._server.directory.set_quota(self._ids[name], 0),
            "filled": lambda name: self._server.directory.set_quota(self._ids[name], ANNOUNCED_BYTES),
            "kept": self._kept,
        }

    def __enter__(self) -> LmtpSealboxWorld:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> SocketPeer:
        """See ``World``."""
        peer = SocketPeer(
            self._server.ports["lmtp"],
            self._server.tls(),
            source=self._source,
            implicit_tls=False,
            heard_as=lambda data: data.replace(b"localhost", HEARD_AS),
            sent_as=lambda data: data.replace(b"@example.org", b"@" + self._domain),
            upgrade_after=_after_starttls,
        )
        self._peers.append(peer)
        return peer

    def _account(self, name: str) -> AccountId:
        server = self._server
        return create_account(
            server.root, server.directory, NewAccount(name, b"secret"), params=CHEAP
        ).account_id

    def _paths(self, name: str) -> AccountPaths:
        return account_paths(self._server.root, self._ids[name])

    def _failing(self, name: str) -> None:
        """Nothing can be put into a folder that is a file."""
        inbox = self._paths(name).inbox
        inbox.rename(inbox.with_name("inbox-away"))
        inbox.touch()

    def _kept(self, count: str) -> None:
        kept = sum(len(list(self._paths(name).inbox.glob("*.sealed"))) for name in NAMES)
        assert kept == int(count)
