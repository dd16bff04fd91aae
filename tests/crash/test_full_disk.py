"""A disk that is full: temporary answers, nothing lost, sessions live, and all is well when there is room."""

from __future__ import annotations

import contextlib
import os
import resource
import smtplib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_wire import Wire, session
from running import Server, eventually

from mailstore.limits import StoreLimits

pytestmark = [pytest.mark.crash, pytest.mark.integration]

VOLUME_BYTES = 16 * 1024 * 1024
RANDOM_BYTES = 30_000
BODY = b"\r\n\r\n" + os.urandom(RANDOM_BYTES).hex().encode() + b"\r\n"
"""Compressed or not, sealed or filed, it takes as many octets on the disk as are random."""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "volume"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES},mode=700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        assert not os.environ.get("CI"), "CI has to be able to mount a tmpfs, or the proof is missing"
        pytest.skip("this machine does not allow mounting a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def serving(data: Path, state: Path) -> Iterator[Server]:
    """A server for one test."""
    server = Server(data, environment={"XDG_STATE_HOME": str(state)}).start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.kill()


def send(server: Server, number: int) -> int:
    """Deliver a message; the reply code to its data."""
    with smtplib.LMTP("127.0.0.1", server.info["lmtp"], local_hostname="localhost", timeout=30) as lmtp:
        try:
            lmtp.sendmail("sender@example.org", [server.user], b"Subject: number %d." % number + BODY)
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        except smtplib.SMTPRecipientsRefused as error:
            return int(next(iter(error.recipients.values()))[0])
        return 250


def count(wire: Wire, number: int) -> int:
    """How many messages with this number are in the inbox."""
    assert wire.command(b"NOOP").status == b"OK"
    answer = wire.command(b'SEARCH SUBJECT "number %d."' % number)
    assert answer.status == b"OK"
    return len(answer.texts(b"SEARCH")[0].split()) if answer.texts(b"SEARCH") else 0


def fill(path: Path) -> None:
    """Write a file until nothing more fits."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


def stay_full(path: Path, wire: Wire) -> None:
    """Fill until no checkpoint makes room any more, for longer than it takes one to begin."""
    refused = 0

    def once_more() -> bool:
        nonlocal refused
        fill(path)
        refused = refused + 1 if wire.append(b"INBOX", b"Subject: probe" + BODY).status == b"NO" else 0
        threading.Event().wait(StoreLimits().checkpoint_delay_s / 8)
        return refused > 10

    eventually(once_more, seconds=60)


def assert_refusing(server: Server, wire: Wire) -> None:
    """No mail is taken and nothing is appended, and the session goes on reading."""
    workers = server.workers()
    for number in (1100, 1101, 1102):
        assert send(server, number) in (451, 452)
    for _ in range(3):
        assert wire.append(b"INBOX", b"Subject: number 1200." + BODY).status == b"NO"
    assert wire.command(b"NOOP").status == b"OK"
    assert wire.command(b"FETCH 1 (FLAGS BODY.PEEK[])").status == b"OK"
    for _ in range(4):
        # Also on the worker where the account is not open yet, and with messages that are \\Recent.
        with session(server) as other:
            assert other.command(b"FETCH 1:* (FLAGS ENVELOPE)").status == b"OK"
            assert other.command(b'SEARCH SUBJECT "number 1."').status == b"OK"
            assert other.command(b"NOOP").status == b"OK"
    assert wire.command(b'CREATE "no room for it either"').status in (b"NO", b"OK")
    assert server.workers() == workers
    assert list(server.data.rglob("inbox/.*")) == [], "a failed delivery leaves nothing behind"


def assert_well(server: Server, wire: Wire, kept: list[int]) -> None:
    """All that was taken is there once, what was refused is not, and everything works."""
    assert send(server, 300) == 250
    assert wire.append(b"INBOX", b"Subject: number 301." + BODY).status == b"OK"
    eventually(lambda: count(wire, 300) == 1)
    assert [count(wire, number) for number in (*kept, 301)] == [1] * (len(kept) + 1)
    assert [count(wire, number) for number in (1100, 1101, 1102, 1200)] == [0] * 4
    wire.close()
    assert server.stop() == 0
    assert "Traceback" not in server.errors()
    server.start()
    with session(server) as again:
        assert [count(again, number) for number in (*kept, 300, 301)] == [1] * (len(kept) + 2)
    assert server.stop() == 0


def test_the_volume_is_full(volume: Path, tmp_path: Path) -> None:
    """452 or 451 to the sender, NO to APPEND; with room again everything goes on."""
    with serving(volume / "data", tmp_path / "state") as server, contextlib.ExitStack() as stack:
        wire = stack.enter_context(session(server))
        kept: list[int] = []
        # How many fit depends on what is filed and checkpointed meanwhile; more than this cannot.
        while len(kept) <= VOLUME_BYTES // RANDOM_BYTES and send(server, len(kept) + 1) == 250:
            kept.append(len(kept) + 1)
        assert 0 < len(kept) <= VOLUME_BYTES // RANDOM_BYTES, "the volume fills up with mail"
        # What waits in the inbox cannot be filed now; it is safe where it is.
        stay_full(volume / "filler", wire)
        assert_refusing(server, wire)
        (volume / "filler").unlink()
        subprocess.run(["mount", "-o", f"remount,size={4 * VOLUME_BYTES}", str(volume)], check=True)
        eventually(lambda: send(server, 400) == 250)
        eventually(lambda: count(wire, kept[-1]) == 1, seconds=60)
        assert_well(server, wire, kept)


def test_no_file_may_grow(tmp_path: Path) -> None:
    """The same by a limit on the size of files, which needs no rights of its own."""
    with serving(tmp_path / "data", tmp_path / "state") as server, contextlib.ExitStack() as stack:
        wire = stack.enter_context(session(server))
        assert send(server, 1) == 250
        eventually(lambda: count(wire, 1) == 1)
        before = {}
        for pid in server.workers():
            before[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[pid][1]))
        assert_refusing(server, wire)
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        assert_well(server, wire, [1])
