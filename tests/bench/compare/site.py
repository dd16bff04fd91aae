"""All servers of a comparison, filled with the same mail, in one folder and on ports of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from deploy.first_run import make_certificate
from mailstore.keys import Argon2Params
from tests.bench import mail_sample, sealbox_root
from tests.bench.compare import corpus
from tests.bench.compare.peers import OURS, USER, Peer, fill, start_dovecot, start_ours, until_indexed
from tests.bench.compare.rows_live import LISTENER, load_user
from tests.bench.compare.rows_write import RECIPIENTS
from tests.bench.compare.size import Size
from tests.ports import free_port_base

MAILBOXES = ("Large", "Appended", "Copies", "Moved", "Gone")
OFFSETS = {"imaps": 93, "pop3s": 95, "lmtp": 24}
Say = Callable[[str], None]


class Site:
    """The servers; a context that ends them."""

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self._folder = folder
        self._kinds = kinds
        self._stack = ExitStack()
        self.peers: list[Peer] = []
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # Dovecot runs as users of its own
        self._tls = (folder / "certificate.pem", folder / "private-key.pem")
        make_certificate(*self._tls)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, users: Sequence[str], params: Argon2Params = sealbox_root.TINY, workers: int = 0) -> None:
        """Start all, ours with an account for each user. Raises RuntimeError when one does not start."""
        base: int | None = None
        for kind in self._kinds:
            base = free_port_base(base)
            ports = {service: base + offset for service, offset in OFFSETS.items()}
            place = self._folder / kind
            if kind == OURS:
                peer = start_ours(place, self._tls, ports, users, params, workers)
            else:
                peer = start_dovecot(place, self._tls, ports, kind)
            self._stack.callback(peer.stop)
            self.peers.append(peer)
            peer.until_ready()

    def fill_inbox(self, size: Size, say: Say) -> float:
        """The inbox and the mailboxes of the rows; seconds until our search index was complete after that."""
        waited = 0.0
        for peer in self.peers:
            began = time.monotonic()
            client = peer.imap()
            for name in MAILBOXES:
                client.play(b"CREATE " + name.encode())
            fill(client, "INBOX", corpus.messages(0, size.messages))
            fill(
                client, "Large", ((mail_sample.large(number), 1_700_000_000) for number in range(size.large))
            )
            said = f"{peer.kind}: filled in {time.monotonic() - began:.1f} s"
            if peer.kind == OURS:
                # While somebody is in: nobody indexes what cannot be read.
                waited = until_indexed(peer)
                said += f", all in the search index {waited:.1f} s later"
            client.close()
            say(said)
        return waited

    def fill_load(self, size: Size) -> None:
        """The accounts of the mixed load."""
        for peer in self.peers:
            for number in range(size.load_users):
                client = peer.imap(load_user(number))
                client.play(b"CREATE Copies")
                fill(client, "INBOX", corpus.messages(10_000 * (number + 1), size.load_messages))
                client.close()


def all_users(size: Size) -> list[str]:
    """Everybody that any row logs in as or delivers to."""
    return [USER, LISTENER, *RECIPIENTS, *(load_user(number) for number in range(size.load_users))]
