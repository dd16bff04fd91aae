"""A Dovecot as transcripts see it: each has a user of its own, told from others by the client's address."""

from __future__ import annotations

import re
import select
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.first_run import make_certificate
from mailstore.names import superiors
from tests import dovecot
from tests.ports import free_port
from tests.transcripts.memory_world import SAMPLE, SAMPLE_DATE, mail_of
from tests.transcripts.runner import ANSWER_S, NotHere, steps
from tests.transcripts.socket_peer import SocketPeer

START_S = 60.0
READINESS = "127.0.3.1"
"""The address of a user who only sees whether he can log in."""
_FORMAT = "sdbox"
_USERS = """\
passdb {{
  driver = passwd-file
  args = {folder}/passwords
}}
userdb {{
  driver = passwd-file
  args = username_format=%r {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
"""
_MORE = """\
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = 0
mail_max_userip_connections = 100
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
mail_plugins = quota acl
imap_metadata = yes
mail_attribute_dict = file:%h/attributes
namespace inbox {
  mailbox Sent {
    special_use = \\Sent
  }
}
protocol imap {
  mail_plugins = quota acl imap_quota imap_acl imap_zlib
}
plugin {
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
}
"""


def is_installed() -> bool:
    """Whether there is a Dovecot with IMAP on this machine."""
    return Path(dovecot.BINARY).exists() and Path("/usr/lib/dovecot/imap").exists()


class DovecotServer:
    """One Dovecot for all transcripts: the address a client comes from decides whose mail it sees."""

    def __init__(self, folder: Path, transcripts: Sequence[Path]) -> None:
        self.folder = folder
        self._tls = (folder / "certificate.pem", folder / "private-key.pem")
        folder.mkdir(parents=True, exist_ok=True)
        make_certificate(*self._tls)
        self.ports = {"imaps": free_port(), "imap": free_port()}
        self.sources = {path.stem: f"127.0.2.{at}" for at, path in enumerate(transcripts, 1)}
        self._write_users(transcripts)
        setup = dovecot.Setup(
            self.ports["imaps"],
            *self._tls,
            _FORMAT,
            plain_port=self.ports["imap"],
            users=_USERS.format(folder=folder),
            mail="~/mail",
            more=_MORE,
        )
        self._process = dovecot.start(folder, setup)
        try:
            self._until_ready()
        except BaseException:
            self.stop()
            raise

    def _write_users(self, transcripts: Sequence[Path]) -> None:
        owner = dovecot.mail_owner()
        lines = []
        for path in transcripts:
            source = self.sources[path.stem]
            found = steps(path) if path.exists() else ()
            rules = [step.text.split()[1:] for step in found if step.text.startswith("quota ")]
            rule = "".join(
                f"userdb_quota_rule=*:storage={kib}K:messages={messages}" for kib, messages in rules
            )
            home = self.folder / "home" / source
            lines.append(f"{source}::{owner.pw_uid}:{owner.pw_gid}::{home}::{rule}\n")
        home = self.folder / "home" / READINESS
        lines.append(f"{READINESS}::{owner.pw_uid}:{owner.pw_gid}::{home}::\n")
        (self.folder / "users").write_text("".join(lines))
        (self.folder / "passwords").write_text("joe:{PLAIN}secret\n")

    def _until_ready(self) -> None:
        """Wait until it lets somebody in: it listens before its own processes have found each other."""
        deadline = time.monotonic() + START_S
        while not self._lets_in():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Dovecot does not start")
            # A poll with a deadline: the login above decides, not this pause.
            select.select([], [], [], 0.1)

    def _lets_in(self) -> bool:
        try:
            peer = self.connect(READINESS)
        except OSError:
            return False
        try:
            peer.send(b"a LOGIN joe secret\r\n")
            return _until(peer, b"a ").splitlines()[-1].startswith(b"a OK")
        except (OSError, AssertionError):
            return False
        finally:
            peer.close()

    def doveadm(self, *arguments: str) -> None:
        """Run ``doveadm`` with this server's configuration."""
        command = ["doveadm", "-c", str(self.folder / "dovecot.conf"), *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=30)

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts the server's certificate and checks its name."""
        return ssl.create_default_context(cafile=str(self._tls[0]))

    def connect(self, source: str, implicit_tls: bool = True) -> SocketPeer:
        """A connection from the address ``source``."""
        port = self.ports["imaps" if implicit_tls else "imap"]
        return SocketPeer(port, self.tls(), source=source, implicit_tls=implicit_tls)

    def session(self, name: str) -> SideConnection:
        """A session of the user that one transcript has."""
        return SideConnection(self.connect(self.sources[name]))

    def stop(self) -> None:
        """End it and wait."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


class SideConnection:
    """A session of joe's that no transcript sees."""

    def __init__(self, peer: SocketPeer) -> None:
        self._peer = peer
        self._count = 0
        self.say(b"LOGIN joe secret")

    def __enter__(self) -> SideConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.close()

    def ask(self, command: bytes) -> bytes:
        """Everything that is answered up to the tagged response."""
        self._count += 1
        tag = b"side%d" % self._count
        self._peer.send(tag + b" " + command + b"\r\n")
        return _until(self._peer, tag + b" ")

    def say(self, command: bytes) -> None:
        """Give a command that has to succeed."""
        answer = self.ask(command)
        assert b" OK " in answer.splitlines()[-1], answer


class DovecotWorld:
    """See ``World``; what happens aside comes over a connection of its own, or by ``doveadm``."""

    def __init__(self, server: DovecotServer, name: str) -> None:
        self._server = server
        self._source = server.sources[name]
        self._peers: list[SocketPeer] = []
        self._prelude: list[bytes] = []
        self._shows_greeting = True
        self._implicit_tls = True
        self._validities: dict[str, str] = {}
        self._side = server.session(name)
        self._actions: dict[str, Callable[..., None]] = {
            "plain": self._plain,
            "login": self._login,
            "select": self._select,
            "messages": self._messages,
            "deliver": self._deliver,
            "mail": self._mail,
            "flag": self._flag,
            "mailbox": self._mailbox,
            "subscribe": self._subscribe,
            "quota": lambda *_: None,  # in the users' file since the start
            "validity": self._validity,
            "read_only": lambda: _cannot("a password cannot be limited to reading"),
            "revoke": lambda: _cannot("a session outlives its password"),
            "hold": lambda: _cannot("a real store cannot be told to wait"),
            "clock": lambda _: _cannot("the clock of a real server goes its own way"),
            "limit": lambda *_: _cannot("its limits are not ours"),
            "load": lambda _: _cannot("the load of a real server is its own"),
            "nonce": lambda: _cannot("a real server's nonce and salt are its own"),
        }

    def __enter__(self) -> DovecotWorld:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()
        self._side.__exit__()

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> SocketPeer:
        """See ``World``."""
        peer = self._server.connect(self._source, self._implicit_tls)
        self._peers.append(peer)
        if not self._shows_greeting:
            _until(peer, b"* OK")
        for line in self._prelude:
            peer.send(line)
            _until(peer, line.split()[0] + b" ")
        return peer

    def validity(self, mailbox: str) -> str:
        """The UIDVALIDITY that the mailbox had when it was asked for first; 0 for one that is not there."""
        if mailbox not in self._validities:
            answer = self._side.ask(b"STATUS " + mailbox.encode() + b" (UIDVALIDITY)")
            found = re.search(rb"UIDVALIDITY ([0-9]+)", answer)
            if found is None:
                return "0"
            self._validities[mailbox] = found[1].decode()
        return self._validities[mailbox]

    def _plain(self) -> None:
        self._implicit_tls = False

    def _login(self) -> None:
        self._shows_greeting = False
        self._prelude.append(b"L LOGIN joe secret\r\n")

    def _select(self, name: str) -> None:
        self._login()
        self._prelude.append(b"S SELECT " + name.encode() + b"\r\n")

    def _append(self, data: bytes, mailbox: str, date: int) -> None:
        stamp = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(date)).encode()
        self._side.say(b'APPEND %b "%b" {%d+}\r\n%b' % (mailbox.encode(), stamp, len(data), data))

    def _messages(self, count: str, mailbox: str = "INBOX") -> None:
        for number in range(1, int(count) + 1):
            self._append(SAMPLE % (number, number, number), mailbox, SAMPLE_DATE)

    def _deliver(self, mailbox: str = "INBOX") -> None:
        self._append(SAMPLE % (99, 99, 99), mailbox, 0)

    def _mail(self, *fields: str) -> None:
        data, date = mail_of(fields)
        self._append(data, "INBOX", date)

    def _flag(self, uid: str, *words: str) -> None:
        """STORE would need a session that takes ``\\Recent`` away from the others."""
        self._server.doveadm(
            "flags", "replace", "-u", self._source, " ".join(words), "mailbox", "INBOX", "uid", uid
        )

    def _mailbox(self, name: str, use: str = "") -> None:
        named = name.encode("utf-7").replace(b"+", b"&") if not name.isascii() else name.encode()
        # Dovecot's special uses stand in its configuration; transcripts ask for Sent alone.
        assert use in ("", "\\Sent") and (name == "Sent") == bool(use)
        # Superiors too: made along with their inferiors they could not hold messages.
        for one in (*superiors(named.decode()), named.decode()):
            if b" OK" not in self._side.ask(b"STATUS " + one.encode() + b" (MESSAGES)"):
                self._side.say(b"CREATE " + one.encode())

    def _subscribe(self, name: str) -> None:
        """A name that is no mailbox is subscribed to while it is one for a moment."""
        is_there = b" OK" in self._side.ask(b"STATUS " + name.encode() + b" (MESSAGES)")
        for word in (b"SUBSCRIBE",) if is_there else (b"CREATE", b"SUBSCRIBE", b"DELETE"):
            self._side.say(word + b" " + name.encode())

    def _validity(self, name: str, number: str) -> None:
        self.validity(name)
        self._server.doveadm("mailbox", "update", "-u", self._source, "--uid-validity", number, name)


def _cannot(reason: str) -> None:
    raise NotHere(reason)


def _until(peer: SocketPeer, start: bytes) -> bytes:
    """Everything up to the line that begins so."""
    heard = b""
    while not any(line.startswith(start) for line in heard.splitlines()):
        more = peer.receive(ANSWER_S)
        assert more, "Dovecot does not answer"
        heard += more
    return heard
