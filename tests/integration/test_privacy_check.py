"""``sealbox privacy check`` against the real server, and against ports that do what it must never do."""

from __future__ import annotations

import functools
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from running import SEALBOX, Server
from snapshot_server import SnapshotServer, make_site, sealbox
from stores_world import BUCKET, fresh_prefix

from deploy.first_run import CERTIFICATE_DAYS, make_certificate
from deploy.object_store import answers_as
from deploy.privacy.finding import State
from deploy.privacy.ports import judged
from protocols.port_look import NoAnswer, OpenPort, look
from tests.r2_server import R2Server

pytestmark = pytest.mark.integration

LUKS = [4]
"""What a machine of developers does not keep."""


def checked(server: Server, user: int | None = None) -> dict[str, Any]:
    """The command's answer, run by ``user``; the exit code says the same as it."""
    command = [*SEALBOX, "privacy", "check", "--data", str(server.data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, user=user, group=user)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (6 if found["not_kept"] else 5 if found["not_seen"] else 0)
    assert server.info["user"] not in done.stdout + done.stderr
    return found


def states(found: dict[str, Any]) -> dict[str, set[str]]:
    """How each check went, by its name."""
    by_name: dict[str, set[str]] = {}
    for one in found["checks"]:
        by_name.setdefault(one["check"], set()).add(one["state"])
    return by_name


def test_a_fresh_server_keeps_all_but_what_its_disk_breaks(server: Server) -> None:
    """On an unencrypted volume promise 4 does not hold, whether or not the server may serve from it."""
    found = checked(server)
    broken = {one["check"]: one["promises"] for one in found["checks"] if one["state"] == "broken"}
    # Swap is this machine's: where there is some, it may be in the clear.
    assert {name: numbers for name, numbers in broken.items() if name != "swap"} == {"LUKS": LUKS}
    assert found["not_seen"] == []
    assert [one["check"] for one in found["checks"]].count("TLS") == 5
    assert {"core dumps", "outgoing connections", "file modes", "plain content"} <= states(found).keys()


def test_a_plain_copy_in_the_data_of_a_running_server_is_seen(server: Server) -> None:
    """And that it may be read by others; without it all is well again."""
    copy = server.data / "accounts" / "export.mbox"
    copy.write_bytes(b"From ada@example.org Mon Feb  7 21:52:25 2022\nSubject: a secret\n\ntext\n")
    copy.chmod(0o644)
    found = checked(server)
    assert set(found["not_kept"]) >= {1, 2, 5}
    assert (states(found)["file modes"], states(found)["plain content"]) == ({"broken"}, {"broken"})
    copy.unlink()
    assert states(checked(server))["plain content"] == {"holds"}


def test_an_old_log_line_is_seen_until_it_is_gone(server: Server) -> None:
    """In a file that another program has renamed."""
    old = server.data / "log" / "access.log.1"
    when = (datetime.now(UTC) - timedelta(days=10, hours=1)).isoformat(timespec="seconds")
    old.write_text(f'{{"time":"{when}","address":"-"}}\n')
    old.chmod(0o600)
    assert {10, 11} <= set(checked(server)["not_kept"])
    old.unlink()
    assert states(checked(server))["age of log lines"] == {"holds"}


def test_what_is_left_of_accounts_is_seen(server: Server) -> None:
    """A folder without an account, and a copy that a restore has left of an account that is gone."""
    account = "ab" * 16
    for folder in (server.data / "accounts" / "ab" / account, server.data / "replaced" / f"{account}-1"):
        folder.mkdir(parents=True, mode=0o700)
    found = states(checked(server))
    assert (found["deleted accounts"], found["replaced by restores"]) == ({"broken"}, {"broken"})
    for folder in (server.data / "accounts" / "ab" / account, server.data / "replaced" / f"{account}-1"):
        folder.rmdir()
    found = states(checked(server))
    assert (found["deleted accounts"], found["replaced by restores"]) == ({"holds"}, {"holds"})


def test_an_account_without_keys_is_seen(server: Server) -> None:
    """Its deletion was interrupted after the first step; the next run of the command finishes it."""
    server.cli("account", "add", "left@localhost", "--password-stdin", stdin="correct horse battery\n")
    folder = Path(server.cli("account", "show", "left@localhost")["folder"])
    (folder / "keys").unlink()
    assert states(checked(server))["deleted accounts"] == {"broken"}
    server.cli("account", "delete", "left@localhost", "--yes")
    assert states(checked(server))["deleted accounts"] == {"holds"}


def test_without_a_server_it_says_what_it_could_not_see(tmp_path: Path) -> None:
    """Processes and ports are not passed."""
    server = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    assert server.stop() == 0
    found = checked(server)
    assert (states(found)["processes"], states(found)["TLS"]) == ({"unseen"}, {"unseen"})
    assert {1, 9, 16} <= set(found["not_seen"])


NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users get to, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users")
def test_root_sees_what_the_servers_user_does_not(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets of its processes; that is said, and root leaves no file of its own behind."""
    server = Server(place / "data", environment={"XDG_STATE_HOME": str(place / "state")}).start()
    assert server.stop() == 0
    for path in (place, *place.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    start = functools.partial(subprocess.Popen, user=NOBODY, group=NOBODY, extra_groups=[])
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", start)
        server.start_with(lambda text: text)
    try:
        by_owner, by_root = states(checked(server, NOBODY)), states(checked(server))
    finally:
        assert server.stop() == 0
    assert (by_owner["outgoing connections"], by_root["outgoing connections"]) == ({"unseen"}, {"holds"})
    assert by_owner["core dumps"] == by_root["core dumps"] == {"holds"}
    assert [path for path in server.data.rglob("*") if path.stat().st_uid != NOBODY] == []


def test_a_server_with_snapshots_keeps_its_promises(r2: R2Server, tmp_path: Path) -> None:
    """With a store that answers, to which its process for snapshots is connected."""
    site = make_site(tmp_path, f"s3://{BUCKET}/{fresh_prefix()}", r2.endpoint)
    server = SnapshotServer(site, tmp_path / "data")
    server.add_accounts()
    for path, mode in ((server.data, 0o700), (server.config, 0o600), (tmp_path / "s3.toml", 0o600)):
        path.chmod(mode)
    server.start()
    try:
        assert sealbox("backup", "run", "--config", server.config)["stored"]
        found = checked(server)
        assert set(found["not_kept"]) <= {*LUKS, 1}, found
        assert found["not_seen"] == []
        assert states(found)["snapshots in the store"] == {"holds"}
        assert states(found)["outgoing connections"] == {"holds"}
    finally:
        server.end()


@contextmanager
def port(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A port that does with each connection what it is told to."""

    def each() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                try:
                    serve(connection)
                except OSError:  # the client has hung up
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=each)
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate, with its key beside it."""
    make_certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return tmp_path / "certificate.pem"


def secured(certificate: Path, lowest: ssl.TLSVersion) -> Callable[[socket.socket], None]:
    """A server's handshake; it speaks versions from ``lowest`` on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = lowest

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    return serve


@pytest.mark.parametrize("lowest", ["TLSv1", "TLSv1_1"])
def test_a_port_that_agrees_to_old_tls_is_seen(certificate: Path, lowest: str) -> None:
    """It speaks 1.3 as well, so mail programs notice nothing."""
    with port(secured(certificate, ssl.TLSVersion[lowest])) as address:
        seen = look("imaps", address)
    assert seen.old_tls == "TLSv1.1"
    found = judged(seen, "imaps", certificate.read_bytes(), datetime.now(UTC).timestamp())
    assert (found.state, found.promises) == (State.BROKEN, (4, 9))


def test_a_port_that_refuses_old_tls_is_in_order(certificate: Path) -> None:
    """The same server with 1.2 as its lowest version."""
    with port(secured(certificate, ssl.TLSVersion.TLSv1_2)) as address:
        seen = look("pop3s", address)
    assert (seen.old_tls, seen.clear) == (None, ())


def test_a_store_is_known_by_its_certificate(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At an address that name servers do not tell at present; nobody else can pass for it."""
    with port(secured(certificate, ssl.TLSVersion.TLSv1_2)) as address:
        assert not answers_as("localhost", address)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert answers_as("localhost", address)
        assert not answers_as("s3.example.com", address)


def test_an_expired_or_foreign_certificate_is_seen(certificate: Path, tmp_path: Path) -> None:
    """Also one that was renewed on disk while the server shows the old one."""
    with port(secured(certificate, ssl.TLSVersion.TLSv1_2)) as address:
        seen = look("imaps", address)
    pem, now_s = certificate.read_bytes(), datetime.now(UTC).timestamp()
    assert judged(seen, "imaps", pem, now_s).state is State.HOLDS
    day_s = 86_400
    for moment_s in (now_s + (CERTIFICATE_DAYS + 1) * day_s, now_s - day_s):
        assert "certificate" in judged(seen, "imaps", pem, moment_s).said
        assert judged(seen, "imaps", pem, moment_s).state is State.BROKEN
    make_certificate(tmp_path / "renewed.pem", tmp_path / "renewed-key.pem")
    renewed = judged(seen, "imaps", (tmp_path / "renewed.pem").read_bytes(), now_s)
    assert renewed.state is State.BROKEN
    assert "SIGHUP" in renewed.step


IMAP_IN_CLEAR = {
    b"1 CAPABILITY": b"* CAPABILITY IMAP4rev2 AUTH=PLAIN\r\n1 OK done\r\n",
    b"1 STARTTLS": b"1 OK begin\r\n",
    b'2 LOGIN "" ""': b"2 NO wrong name or password\r\n",
    b"3 AUTHENTICATE PLAIN": b"+ \r\n",
}
POP3_IN_CLEAR = {
    b"CAPA": b"+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n",
    b"STLS": b"+OK begin\r\n",
    b"USER sealbox": b"+OK\r\n",
    b"AUTH PLAIN": b"+ \r\n",
}


@pytest.mark.parametrize(
    ("service", "answers", "greeting", "problems"),
    [("imap", IMAP_IN_CLEAR, b"* OK\r\n", 4), ("pop3", POP3_IN_CLEAR, b"+OK\r\n", 4)],
)
def test_a_port_that_takes_passwords_before_tls_is_seen(
    certificate: Path, service: Any, answers: dict[bytes, bytes], greeting: bytes, problems: int
) -> None:
    """A refusal because of the password is too late: it has been sent in the clear."""
    tls = secured(certificate, ssl.TLSVersion.TLSv1_2)

    def serve(connection: socket.socket) -> None:
        connection.sendall(greeting)
        line = b""
        while octet := connection.recv(1):
            line += octet
            if line.endswith(b"\r\n"):
                command, line = line.rstrip(), b""
                connection.sendall(answers[command])
                if command.endswith((b"STARTTLS", b"STLS")):
                    tls(connection)
                    return

    with port(serve) as address:
        seen = look(service, address)
    assert len(seen.clear) == problems, seen.clear
    found = judged(seen, service, certificate.read_bytes(), datetime.now(UTC).timestamp())
    assert found.state is State.BROKEN


def test_a_port_that_says_nothing_is_not_passed(server: Server) -> None:
    """LMTP in place of IMAP, and nobody at all."""
    with pytest.raises(NoAnswer):
        look("imaps", ("127.0.0.1", server.info["lmtp"]), timeout_s=5)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
    with pytest.raises(NoAnswer):
        look("imap", address, timeout_s=5)


def test_the_doors_of_the_server_itself(server: Server) -> None:
    """All four, as the command sees them."""
    for service in ("imap", "imaps", "pop3", "pop3s"):
        seen: OpenPort = look(service, ("127.0.0.1", server.info[service]))
        assert (seen.old_tls, seen.clear) == (None, ()), service
