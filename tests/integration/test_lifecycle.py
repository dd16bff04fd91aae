"""The life of a server: stop, reload, death of a worker or of the supervisor, refusals to start."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from imap_wire import Wire, connect, session
from on_workers import one_on_each
from running import SEALBOX, Server, eventually

from deploy.first_run import make_certificate
from deploy.supervisor import LONGEST_WITHOUT_WORKER_S

pytestmark = pytest.mark.integration

JSON_KEYS = {
    "pid",
    "data",
    "imap",
    "imaps",
    "pop3",
    "pop3s",
    "lmtp",
    "user",
    "password",
    "cafile",
    "auth",
    "https",
    "invite",
    "metrics",
}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server for one test, which may kill it."""
    running = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def certificate_of(server: Server) -> x509.Certificate:
    """What the server shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", server.info["imaps"]), 30)
    with context.wrap_socket(plain) as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)


def subjects(wire: Wire, word: str) -> int:
    """How many messages of the selected mailbox have the word in the subject."""
    assert wire.command(b"NOOP").status == b"OK"
    answer = wire.command(b'SEARCH SUBJECT "' + word.encode() + b'"')
    assert answer.status == b"OK"
    return len(answer.texts(b"SEARCH")[0].split()) if answer.texts(b"SEARCH") else 0


def test_sigterm(own: Server) -> None:
    """Clients hear BYE, the exit code is 0, no WAL is left, and mail taken just before is there later."""
    with session(own) as wire, connect(own, "pop3s") as pop, connect(own) as fresh:
        idle = session(own)
        idle.send(b"i IDLE\r\n")
        assert idle.line().startswith(b"+")
        assert own.process is not None
        own.deliver(b"Subject: at the last moment\r\n\r\ntext\r\n")
        own.process.send_signal(signal.SIGTERM)
        for one in (wire, fresh, idle):
            assert one.until(b"* BYE").tagged
            one.close()
        pop.close()
        assert own.stop() == 0
    assert list(own.data.rglob("*-wal")) == [] == list(own.data.rglob("*-shm"))
    assert "Traceback" not in own.errors()
    own.start()
    with session(own) as wire:
        assert subjects(wire, "at the last moment") == 1
    assert own.stop() == 0


def test_sighup(own: Server) -> None:
    """A new certificate is for new connections; old ones live on; a broken configuration changes nothing."""
    tls = own.data / "tls"
    assert own.process is not None
    with session(own) as wire:
        before = certificate_of(own)
        fresh = own.data.parent / "fresh"
        fresh.mkdir()
        make_certificate(fresh / "certificate.pem", fresh / "private-key.pem")
        for name in ("private-key.pem", "certificate.pem"):
            (fresh / name).rename(tls / name)
        expected = x509.load_pem_x509_certificate((tls / "certificate.pem").read_bytes())
        assert certificate_of(own) == before
        own.process.send_signal(signal.SIGHUP)
        # Each worker reloads by itself: several connections in a row have to agree.
        eventually(lambda: all(certificate_of(own) == expected for _ in range(8)))
        assert wire.command(b"NOOP").status == b"OK"

        (own.data / "sealbox.toml").write_text("this is = not [ TOML")
        own.process.send_signal(signal.SIGHUP)
        eventually(lambda: "configuration not reloaded" in own.errors())
        assert wire.command(b"NOOP").status == b"OK"
        assert certificate_of(own).public_bytes(Encoding.DER) == expected.public_bytes(Encoding.DER)
    # A worker that dies meanwhile is replaced all the same, with what was in order.
    killed = own.workers()[0]
    os.kill(killed, signal.SIGKILL)
    for wire in one_on_each(own, killed=killed).values():
        assert wire.command(b"NOOP").status == b"OK"
        wire.close()
    assert own.stop() == 0


def test_a_worker_is_killed(own: Server) -> None:
    """It is replaced; the sessions of the other worker go on; the account works on the new one too."""
    sessions = one_on_each(own)
    (killed, lost), (other, kept) = list(sessions.items())[:2]
    os.kill(killed, signal.SIGKILL)
    assert lost.rest() == b""
    assert kept.command(b"NOOP").status == b"OK"
    own.deliver(b"Subject: after the loss\r\n\r\ntext\r\n")
    eventually(lambda: subjects(kept, "after the loss") == 1)
    kept.close()
    lost.close()
    again = one_on_each(own, killed=killed)
    assert other in again
    for wire in again.values():
        assert subjects(wire, "after the loss") == 1
        wire.close()
    assert own.stop() == 0


def test_all_workers_are_killed_again_and_again(own: Server) -> None:
    """Whenever none is left, the supervisor starts one within a second: it says in its log in how many."""

    def back_within_a_second(since: int) -> bool:
        for pid in own.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pauses = re.findall(r"; starting [a-z0-9 ]+ in ([0-9.]+) s", own.errors()[since:])
        return any(float(one) <= LONGEST_WITHOUT_WORKER_S for one in pauses)

    for _ in range(7):
        eventually(own.workers)
        eventually(partial(back_within_a_second, len(own.errors())))
    with session(own) as wire:
        assert wire.command(b"NOOP").status == b"OK"
    assert own.stop() == 0


def test_the_supervisor_is_killed(own: Server) -> None:
    """The workers end by themselves, as they would on SIGTERM; the data can be served again."""
    workers = own.workers()
    assert own.process is not None
    with session(own) as wire:
        own.process.kill()
        own.process.wait(30)
        assert wire.until(b"* BYE").tagged
    assert own.process.stdout is not None
    own.process.stdout.close()
    own.process = None
    eventually(lambda: not any(map(alive, workers)))
    assert list(own.data.rglob("*-wal")) == []
    with session(own.start()) as wire:
        assert wire.command(b"NOOP").status == b"OK"
    assert own.stop() == 0


def test_quickstart_again(own: Server) -> None:
    """The same data again: same password, same mail; and the line for scripts has exactly its keys."""
    first = dict(own.info)
    assert set(first) == JSON_KEYS
    assert own.process is not None
    assert first["pid"] == own.process.pid
    with session(own) as wire:
        uids = wire.command(b"UID SEARCH ALL").texts(b"SEARCH")
    assert own.stop() == 0
    own.start()
    assert {**own.info, "pid": 0} == {**first, "pid": 0}
    with session(own) as wire:
        assert wire.command(b"UID SEARCH ALL").texts(b"SEARCH") == uids != []
    assert own.stop() == 0


def refusal(own: Server, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and standard error of a server that does not start."""
    done = subprocess.run(
        [*SEALBOX, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
        env={**os.environ, **own.environment},
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_a_second_server_refuses(own: Server) -> None:
    """Data that is being served is refused with one sentence, and nothing happens to the first server."""
    workers = own.workers()
    config = str(own.data / "sealbox.toml")
    code, said = refusal(own, "serve", "--config", config)
    assert code == 3
    assert said[-1] == "sealbox: another server runs on this data root: stop it first"
    code, said = refusal(own, "quickstart", "--data", str(own.data), "--port-base", str(own.base + 7))
    assert code == 3
    assert said[-1] == "sealbox: another server runs on this data root: stop it first"
    assert own.workers() == workers
    with session(own) as wire:
        assert wire.command(b"NOOP").status == b"OK"
    # The refused quick start has not changed what the first server reads on SIGHUP.
    assert f":{own.info['imaps']}" in (own.data / "sealbox.toml").read_text()
    assert own.stop() == 0


def test_an_unencrypted_volume_is_refused(own: Server) -> None:
    """Without allow_unencrypted_volume the server says why it does not start, and exits with 3."""
    assert own.stop() == 0
    config = own.data / "sealbox.toml"
    text = config.read_text()
    assert "allow_unencrypted_volume = true" in text
    config.write_text(text.replace("allow_unencrypted_volume = true", "allow_unencrypted_volume = false"))
    code, said = refusal(own, "serve", "--config", str(config))
    assert code == 3
    assert len(said) == 1
    refused = (
        "sealbox: the data root does not lie on a LUKS volume: put it on one (sealbox volume create), or set"
    )
    assert said[0].startswith(refused)


def test_an_empty_data_root_is_not_served(own: Server, tmp_path: Path) -> None:
    """A volume that is not mounted leaves an empty folder; nobody is told that the accounts are gone."""
    assert own.stop() == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    config = tmp_path / "empty.toml"
    text = (own.data / "sealbox.toml").read_text("utf-8")
    config.write_text(re.sub(r"^data = .*$", f'data = "{empty}"', text, flags=re.MULTILINE), "utf-8")
    done = subprocess.run([*SEALBOX, "serve", "--config", str(config)], capture_output=True, check=False)
    assert done.returncode == 3
    assert b"is the volume mounted?" in done.stderr
    assert list(empty.iterdir()) == []
