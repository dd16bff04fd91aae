"""The servers that are compared: Sealbox, Dovecot as it comes, and Dovecot that encrypts and compresses."""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mailstore.account import account_paths
from mailstore.account_database import search_key
from mailstore.engine import open_connection
from mailstore.keys import Argon2Params
from mailstore.ops import search_index
from tests import dovecot
from tests.bench import sealbox_root
from tests.bench.process_figures import Memory, memory
from tests.bench.raw_imap import RawImap
from tests.bench.raw_mail import RawLmtp, RawPop3

OURS, PLAIN, CRYPT = "ours", "plain", "crypt"
NAMES = {OURS: "Sealbox", PLAIN: "Dovecot", CRYPT: "Dovecot, encrypting"}
START_S = 60.0
INDEX_S = 7200.0
BATCH_BYTES = 8_000_000
BATCH = 500
PASSWORD = sealbox_root.PASSWORD
assert PASSWORD == dovecot.PASSWORD
USER = sealbox_root.USER

# As durable as Sealbox, which fsyncs every change; as many connections as the rows need; and RETR does not
# mark messages as read, since it does not in Sealbox.
_SETTINGS = """\
protocols = imap pop3 lmtp
mail_fsync = always
mail_max_userip_connections = 5000
default_client_limit = 10000
# Its cache of a million messages is larger than a process may be by default.
default_vsz_limit = 4G
pop3_no_flag_updates = yes
service imap-login {{
  process_limit = 5000
}}
service imap {{
  process_limit = 5000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = 0
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
{login_more}}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""
_CRYPT = """\
mail_plugins = $mail_plugins mail_crypt zlib
mail_attribute_dict = file:%h/attributes
plugin {
  mail_crypt_curve = prime256v1
  mail_crypt_save_version = 2
  zlib_save = zstd
}
"""


def missing() -> str:
    """What a comparison with Dovecot still needs, in a sentence; empty when all is there."""
    if not Path(dovecot.BINARY).exists():
        return "There is no Dovecot here: apt install dovecot-imapd dovecot-pop3d dovecot-lmtpd."
    lacking = [
        f"dovecot-{name}d" for name in ("pop3", "lmtp") if not Path(f"/usr/lib/dovecot/{name}").exists()
    ]
    return f"Dovecot lacks protocols: apt install {' '.join(lacking)}." if lacking else ""


@dataclass
class Peer:
    """One running server."""

    kind: str
    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    certificate: Path
    mail: Path
    """The folder that all mail lies in."""

    peak_mib: float = 0.0
    """The most memory of all its processes (PSS) that :meth:`look_at_memory` has seen."""

    _kept: dict[str, RawImap] = field(default_factory=dict)
    _closing: list[Callable[[], None]] = field(default_factory=list)

    def imap(self, user: str = USER) -> RawImap:
        """A new connection, logged in."""
        client = RawImap(self.ports["imaps"], self.certificate)
        client.play(f'LOGIN "{user}" "{PASSWORD}"'.encode())
        return client

    def session(self, mailbox: str, name: str = "") -> RawImap:
        """This row's session with a mailbox selected; further ones of the same mailbox have names."""
        key = f"{mailbox} {name}"
        if key not in self._kept:
            self._kept[key] = self.imap()
            self._kept[key].play(b"SELECT " + mailbox.encode())
        return self._kept[key]

    def keep(self, close: Callable[[], None]) -> None:
        """Call ``close`` when this row has been played."""
        self._closing.append(close)

    def pop3(self) -> RawPop3:
        """A new POP3 connection, logged in."""
        client = RawPop3(self.ports["pop3s"], self.certificate)
        client.command(b"USER " + USER.encode())
        client.command(b"PASS " + PASSWORD.encode())
        return client

    def lmtp(self) -> RawLmtp:
        """A new LMTP connection."""
        return RawLmtp(self.ports["lmtp"])

    def end_row(self) -> None:
        """Hang up everything that the row has kept."""
        for one in [*(client.close for client in self._kept.values()), *self._closing]:
            one()
        self._kept.clear()
        self._closing.clear()

    def last_words(self) -> str:
        """The end of the server's log."""
        logs = sorted(self.mail.parent.glob("*.log"))
        return "".join(log.read_text("utf-8", "replace")[-2000:] for log in logs)

    def look_at_memory(self) -> Memory:
        """Memory of all its processes now."""
        found = memory(self.process.pid)
        self.peak_mib = max(self.peak_mib, found.pss)
        return found

    def _try(self) -> None:
        """Without a login, because a row measures what the first logins take."""
        client = RawImap(self.ports["imaps"], self.certificate)
        client.play(b"CAPABILITY")
        client.close()

    def stop(self) -> None:
        """End it and wait."""
        self.end_row()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def until_ready(self) -> None:
        """Wait until a session can begin: Dovecot listens before its own processes have found each other."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._try()
                return
            except (OSError, ValueError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{NAMES[self.kind]} does not start") from None
                pause(0.1)


def pause(seconds: float) -> None:
    """Wait: between two polls of something that has a deadline, or between two messages."""
    select.select([], [], [], seconds)


def fill(client: RawImap, mailbox: str, mail: Iterable[tuple[bytes, int]]) -> None:
    """Append messages with MULTIAPPEND (RFC 3502) and LITERAL+ (RFC 7888)."""
    pieces: list[bytes] = []
    size = 0
    for data, date in itertools.chain(mail, [(b"", 0)]):
        if pieces and (not data or len(pieces) == BATCH or size > BATCH_BYTES):
            client.play(b"".join([b"APPEND " + mailbox.encode(), *pieces]))
            pieces, size = [], 0
        if data:
            pieces.append(appended(data, date))
            size += len(data)


def appended(data: bytes, date: int) -> bytes:
    """One message of APPEND: its internal date and its literal."""
    stamp = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(date)).encode()
    return b' "%s" {%d+}\r\n%s' % (stamp, len(data), data)


def until_indexed(peer: Peer) -> float:
    """Wait until all of ``USER``'s mail is in our search index; seconds waited. Dovecot has none."""
    began = time.monotonic()
    if peer.kind != OURS:
        return 0.0
    with sealbox_root.unlocked(peer.mail) as opened:
        key = search_key(opened.master)
        paths = account_paths(peer.mail, opened.record.account_id)
    mail = sealbox_root.open_database(peer.mail)
    try:
        last = mail.read(0, search_index.identity)[1]
        client = peer.imap()  # an index is filled while its account is open
        try:
            while not paths.search_db.exists():
                _wait_for_index(client, began)
            index = open_connection(paths.search_db, key)
            try:
                while not index.read(0, search_index.is_made) or index.read(0, search_index.up_to) < last:
                    _wait_for_index(client, began)
            finally:
                index.close()
        finally:
            client.close()
    finally:
        mail.close()
    return time.monotonic() - began


def _wait_for_index(client: RawImap, began: float) -> None:
    if time.monotonic() - began > INDEX_S:
        raise TimeoutError("the search index is not complete within two hours")
    client.play(b"NOOP")  # or the server would log it out after half an hour
    pause(1.0)


def start_ours(
    folder: Path,
    tls: tuple[Path, Path],
    ports: dict[str, int],
    users: Iterable[str],
    params: Argon2Params = sealbox_root.TINY,
    workers: int = 0,
    more: str = "",
    doors: dict[str, str] | None = None,
) -> Peer:
    """Sealbox with its defaults but for Argon2 and connections of one address; an account for each user.

    ``doors`` are further services, and where they listen.
    """
    folder.mkdir()
    root = folder / "root"
    sealbox_root.make_account(root, users, params)
    listen = {service: f"127.0.0.1:{ports[service]}" for service in ("imaps", "pop3s", "lmtp")}
    listen |= doors or {}
    process = sealbox_root.start(root, folder, listen, *tls, workers, params, more)
    return Peer(OURS, process, ports, tls[0], root)


def start_dovecot(
    folder: Path, tls: tuple[Path, Path], ports: dict[str, int], kind: str, further: str = ""
) -> Peer:
    """Dovecot's mdbox with its defaults but for ``_SETTINGS`` and ``further``; CRYPT encrypts, too."""
    folder.mkdir()
    more = _SETTINGS.format(**ports, login_more="" if os.geteuid() == 0 else "  chroot =\n")
    setup = dovecot.Setup(
        ports["imaps"],
        *tls,
        "mdbox",
        mail=f"{folder}/mail/%u",
        more=more + (_CRYPT if kind == CRYPT else "") + further,
    )
    return Peer(kind, dovecot.start(folder, setup), ports, tls[0], folder / "mail")
