"""The quick start: a data folder, a certificate, an account with sample mail, and what to type where."""

from __future__ import annotations

import json
import os
import re
import shlex
import smtplib
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.config import FILE_NAME, Config, ConfigError, parse
from deploy.samples import sample_messages
from mailstore.account import NewAccount, create_account, init_root, open_directory
from mailstore.directory import Directory
from mailstore.durable import replace_file, storage_errors, write_new
from mailstore.invitation_files import read_invitation, remove_invitations
from mailstore.invitations import invite
from mailstore.keyring import Keyring
from mailstore.keys import InvitationFacts, Scope, random_characters, read_token
from mailstore.opening import open_as_owner
from protocols.https.facts import link

Ready = Callable[[], None]

USER = "demo@localhost"
CERTIFICATE_DAYS = 397
PASSWORD_CHARS = 20
"""Characters of the generated password, five random bits each."""

INVITATION_S, INVITATION_LEFT_S = 86_400, 3600
"""How long the link that is printed works, and how long it has to work at least, in seconds."""

DELIVERY_S = 30.0
"""Patience with an answer to the samples; while they are delivered no worker is started again."""

PORTS = {"imap": 43, "imaps": 93, "pop3": 10, "pop3s": 95, "lmtp": 24, "https": 80}
METRICS_PORT = 90
"""Beyond the base, as the others; whoever does not want it removes its section."""

AUTH_SOCKET = "auth.sock"
SOCKET_PATH_MAX_BYTES = 107
"""Of a Unix socket (unix(7))."""

_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class CannotPrepare(Exception):
    """The quick start cannot go on; the text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the quick start prints. Its repr shows no secret."""

    config: Config
    ports: dict[str, int]
    password: str
    recovery_key: str | None
    certificate: Path
    note: Path
    is_new: bool
    invitation: str
    """The token of an invitation to the account."""

    def __repr__(self) -> str:
        return f"Prepared({self.config.data})"

    @property
    def invite(self) -> str | None:
        """A link that sets up a mail program; None where the settings have no door."""
        return link(self.config.setup_facts, self.invitation) if self.config.listen.https else None

    @property
    def auth(self) -> str | None:
        """The socket at which mail servers have passwords checked; None if the settings have none."""
        return next((one.removeprefix("unix:") for one in self.config.listen.auth), None)

    @property
    def metrics(self) -> int | None:
        """The port with numbers for Prometheus; None if the settings have none."""
        return next((int(one.rpartition(":")[2]) for one in self.config.metrics.listen), None)


def make_certificate(certificate: Path, private_key: Path) -> None:
    """Write a self-signed certificate for localhost and 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # An end-entity certificate: Mozilla refuses a CA's certificate as a server's.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_new(
        private_key,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    write_new(certificate, built.public_bytes(serialization.Encoding.PEM))


def _config_text(data: Path, ports: dict[str, int], metrics: int, name: str) -> str:
    def here(service: str) -> str:
        return json.dumps([f"127.0.0.1:{ports[service]}"])

    return "\n".join(
        (
            "# Written by the quick start: for trying out on this machine, not for real mail.",
            "# What you change here stays; run again, it puts in its data folder and ports and nothing else.",
            f"data = {json.dumps(str(data))}",
            'hostname = "localhost"',
            "# A real server keeps its data on a LUKS volume and leaves this line out.",
            "allow_unencrypted_volume = true",
            "",
            "[tls]",
            f"certificate = {json.dumps(str(data / 'tls' / 'certificate.pem'))}",
            f"private_key = {json.dumps(str(data / 'tls' / 'private-key.pem'))}",
            "",
            "[listen]",
            *(f"{service} = {here(service)}" for service in PORTS),
            f"auth = {json.dumps([f'unix:{_auth_socket(data, name)}'])}",
            "",
            "[setup]",
            'name = "Sealbox on this machine"',
            f'url = "https://localhost:{ports["https"]}"',
            f"imap_port = {ports['imaps']}",
            f"pop3_port = {ports['pop3s']}",
            "# Nothing here sends mail.",
            "smtp_port = 0",
            "smtp_starttls_port = 0",
            "",
            "[metrics]",
            f'listen = ["127.0.0.1:{metrics}"]',
            "",
        )
    )


_LINES = {
    **{f'{service} = ["127.0.0.1:': service for service in PORTS},
    'url = "https://localhost:': "https",
    "imap_port = ": "imaps",
    "pop3_port = ": "pop3s",
}
"""How lines with a port begin as the quick start writes them, and whose port it is."""

_PORT_LINE = re.compile(rf'^({"|".join(map(re.escape, _LINES))})\d+((?:"\]?)?)$', re.MULTILINE)
_METRICS_LINES = re.compile(r'^\[metrics\]\nlisten = \["127\.0\.0\.1:\d+"\]$', re.MULTILINE)


def _settings(data: Path, ports: dict[str, int], metrics: int) -> Config:
    """The settings in ``data``, written on the first run; later only folder and ports are put in.

    Raises:
        CannotPrepare: they are wrong, or were changed so that they do not serve here.
        StoreError: the disk says no.
    """
    path, name = data / FILE_NAME, _own_name(data)
    fresh = _config_text(data, ports, metrics, name)
    with storage_errors():
        before = path.read_bytes() if path.exists() else fresh.encode()
    try:
        text = before.decode("utf-8")
        was = _config_text(Path(str(tomllib.loads(text).get("data"))), ports, metrics, name)
        # Only lines that are as the quick start wrote them; an edited one stays as it is.
        now_of = dict(zip(was.splitlines(), fresh.splitlines(), strict=True))
        text = "".join(
            line.replace(old, now_of.get(old, old))
            for line in text.splitlines(keepends=True)
            for old in (line.rstrip("\r\n"),)
        )
        text = _PORT_LINE.sub(lambda found: f"{found[1]}{ports[_LINES[found[1]]]}{found[2]}", text)
        text = _METRICS_LINES.sub(f'[metrics]\nlisten = ["127.0.0.1:{metrics}"]', text)
        config = parse(text, path)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise CannotPrepare(f"{path}: this is not TOML: {exc}") from None
    except ConfigError as exc:
        raise CannotPrepare(str(exc)) from None
    elsewhere = [
        service
        for service, port in ports.items()
        # The door came later than the other ports: settings without it are whole.
        if f"127.0.0.1:{port}" not in getattr(config.listen, service)
        and (service != "https" or config.listen.https)
    ]
    if config.data != data or elsewhere:
        what = ", ".join(f"listen.{service}" for service in elsewhere) or "data"
        raise CannotPrepare(
            f"{path} was edited and contradicts the command line ({what}): serve it as it is "
            f"with 'sealbox serve --data {data}', or remove the file and the quick start writes it anew"
        )
    if text.encode() != before or not path.exists():
        replace_file(path, text.encode())
    return config


def _own_name(data: Path) -> str:
    """A random name for what belongs to the data folder and lies elsewhere; the folder may be moved."""
    name = data / "quickstart-id"
    if not name.exists():
        write_new(name, os.urandom(8).hex().encode("ascii"))
    return name.read_text("ascii")


def note_path(data: Path) -> Path:
    """Where the quick start keeps the demo password: with the user, not with the data."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "sealbox" / f"quickstart-{_own_name(data)}.json"


def _auth_socket(data: Path, name: str) -> Path:
    """Where mail servers have passwords checked: in the data folder, unless its path is too long for that."""
    inside = data / AUTH_SOCKET
    if len(os.fsencode(inside)) <= SOCKET_PATH_MAX_BYTES:
        return inside
    return Path(tempfile.gettempdir()) / f"sealbox-{name}" / AUTH_SOCKET


def _make_own_folder(folder: Path) -> None:
    """A folder where everybody may make some. Raises CannotPrepare if it is somebody else's."""
    with storage_errors():
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise CannotPrepare(f"{folder} belongs to somebody else")


def new_password() -> str:
    """A random password that can be typed."""
    letters = random_characters(PASSWORD_CHARS)
    return "-".join(letters[at : at + 4] for at in range(0, PASSWORD_CHARS, 4))


def _make_account(data: Path) -> tuple[str, str, str]:
    """Create the demonstration account; its password, its recovery key and an invitation's token."""
    directory = open_directory(data)
    try:
        password = new_password()
        create_account(data, directory, NewAccount(USER, password.encode()))
        directory.set_default_domain("localhost")
        with _keyring(data, directory, password) as keyring:
            made = keyring.replace_recovery_key()
            return password, made.printed.text(), _invite(keyring)
    finally:
        directory.close()


@contextmanager
def _keyring(data: Path, directory: Directory, password: str) -> Iterator[Keyring]:
    opened = open_as_owner(data, directory, USER, password.encode(), now=time.time())
    try:
        yield Keyring(data, directory, opened.record.account_id, opened.master)
    finally:
        opened.wipe()


def _invite(keyring: Keyring) -> str:
    now = int(time.time())
    return invite(keyring, InvitationFacts("quick start", now, now + INVITATION_S, Scope())).text()


def _invitation(data: Path, kept: str, password: str) -> str:
    """The token of an invitation: the one that was kept, or a new one if that was used or runs out soon."""
    token = read_token(kept)
    found = None if token is None else read_invitation(data, token.id)
    if found is not None and found.not_after > time.time() + INVITATION_LEFT_S:
        return kept
    directory = open_directory(data)
    try:
        with _keyring(data, directory, password) as keyring:
            remove_invitations(data, keyring.account_id)
            return _invite(keyring)
    finally:
        directory.close()


def prepare(data: Path, port_base: int) -> Prepared:
    """Make what is missing below ``data``; what is there is kept.

    Raises:
        CannotPrepare: the folder holds something else, its password note is lost, or its settings say
            something else than the command line.
        StoreError: the disk says no.
    """
    ports = {service: port_base + offset for service, offset in PORTS.items()}
    init_root(data)
    tls = data / "tls"
    tls.mkdir(mode=0o700, exist_ok=True)
    certificate, private_key = tls / "certificate.pem", tls / "private-key.pem"
    if not certificate.exists():
        private_key.unlink(missing_ok=True)
        make_certificate(certificate, private_key)
    # Other users' programs have to read the certificate. They may enter the folders, not list them.
    for folder in (data, tls):
        folder.chmod(0o711)
    certificate.chmod(0o644)
    note = note_path(data)
    recovery_key = None
    directory = open_directory(data)
    try:
        is_new = not directory.accounts()
    finally:
        directory.close()
    if is_new:
        password, recovery_key, invitation = _make_account(data)
        note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_note(note, data, password, invitation)
    try:
        kept = json.loads(note.read_text("utf-8"))
        password, invitation = str(kept["password"]), str(kept.get("invitation", ""))
    except (OSError, ValueError, KeyError):
        raise CannotPrepare(
            f"the password note {note} is lost: serve this data with 'sealbox serve --data {data}', "
            "or start afresh in an empty folder"
        ) from None
    folder = _auth_socket(data, _own_name(data)).parent
    if folder != data:
        _make_own_folder(folder)
    settings = _settings(data, ports, port_base + METRICS_PORT)
    if (fresh := _invitation(data, invitation, password)) != invitation:
        _write_note(note, data, password, fresh)
    return Prepared(settings, ports, password, recovery_key, certificate, note, is_new, fresh)


def _write_note(note: Path, data: Path, password: str, invitation: str) -> None:
    fields = {"data": str(data), "user": USER, "password": password, "invitation": invitation}
    with storage_errors():
        replace_file(note, json.dumps(fields).encode())


def _deliver_samples(port: int) -> None:
    with smtplib.LMTP("127.0.0.1", port, "localhost", timeout=DELIVERY_S) as lmtp:
        for sender, message in sample_messages(USER, datetime.now(UTC)):
            lmtp.sendmail(sender, [USER], message, mail_options=["BODY=8BITMIME"])


def announce(prepared: Prepared, as_json: bool) -> None:
    """Deliver the samples on the first run and say what to type; in a thread, the server is running."""
    threading.Thread(target=_announce, args=(prepared, as_json), daemon=True).start()


def _announce(prepared: Prepared, as_json: bool) -> None:
    if prepared.is_new:
        try:
            _deliver_samples(prepared.ports["lmtp"])
        except (OSError, smtplib.SMTPException) as exc:
            print(f"sealbox: the sample mail was not delivered ({type(exc).__name__})", file=sys.stderr)
    print(_json_line(prepared) if as_json else _welcome(prepared), flush=True)


def _json_line(prepared: Prepared) -> str:
    return json.dumps(
        {
            "pid": os.getpid(),
            "data": str(prepared.config.data),
            **prepared.ports,
            "invite": prepared.invite,
            "metrics": prepared.metrics,
            "user": USER,
            "password": prepared.password,
            "cafile": str(prepared.certificate),
            "auth": prepared.auth,
        }
    )


def _this_command() -> str:
    """How to call this program again from a shell."""
    return shlex.quote(str(Path(sys.executable).parent / "sealbox"))


def _welcome(prepared: Prepared) -> str:
    ports = prepared.ports
    recovery = (
        f"  Recovery key    {prepared.recovery_key}\n{'':18}(shown this once; the only way back in)\n"
        if prepared.recovery_key
        else ""
    )
    door = (
        "\nOr open this link in a browser: it sets up one mail program, works once and for a day.\n\n"
        f"  {prepared.invite}\n"
        if prepared.invite
        else ""
    )
    auth = f"\n{'':18}Postfix and Exim have passwords checked at {prepared.auth}" if prepared.auth else ""
    metrics = f"\n  Numbers         http://127.0.0.1:{prepared.metrics}/metrics" if prepared.metrics else ""
    return f"""
Sealbox is serving. Type this into Thunderbird (Account Settings > Add Mail Account > Configure manually):

  Your name       Demo
  Email address   {USER}
  Password        {prepared.password}
{recovery}
  Incoming        IMAP   127.0.0.1   port {ports["imaps"]}   SSL/TLS    Normal password
     or           POP3   127.0.0.1   port {ports["pop3s"]}   SSL/TLS    Normal password
     or STARTTLS  IMAP port {ports["imap"]}, POP3 port {ports["pop3"]}
  Username        {USER}
  Outgoing        none yet: Sealbox stores mail, it does not send it{auth}{metrics}

The certificate is self-signed: confirm it once, or trust {prepared.certificate}
(to a program that says it is for another name, the server is localhost).
A handful of messages waits in the inbox. To deliver one more (nobody has to be logged in):

  python3 -c "import smtplib, sys; smtplib.LMTP('127.0.0.1', {ports["lmtp"]}).sendmail(
      'me@example.org', ['{USER}'], sys.stdin.buffer.read())" < message.eml

Another account:  {_this_command()} account add NAME@localhost --data {shlex.quote(str(prepared.config.data))}
Data: {prepared.config.data}
Settings: {prepared.config.path} (yours to change: --data and --port-base put in their lines alone)
The password is kept for you in {prepared.note}
(a real server keeps it nowhere). Stop with Ctrl-C; run again to go on with the same mail.
{door}"""
