"""The numbers for Prometheus, from the real server: what is counted, and what outlives its processes."""

from __future__ import annotations

import os
import poplib
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from imap_wire import connect
from running import Server, eventually

from deploy.metrics.process import FRESH_S

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A quick start server."""
    place = tmp_path_factory.mktemp("metrics")
    running = Server(place / "data", environment={"XDG_STATE_HOME": str(place / "state")}).start()
    yield running
    if running.process is not None:
        running.stop()


def counted(server: Server, value: float | None, name: str, **labels: str) -> None:
    """It is so, at the latest when what was told before is no longer repeated, and workers have looked."""
    eventually(lambda: server.number(name, **labels) == value)


def number_now(server: Server, name: str, **labels: str) -> float | None:
    """A number that is not told again from before this call."""
    began_s = time.monotonic()
    eventually(lambda: time.monotonic() - began_s > FRESH_S)
    return server.number(name, **labels)


def child(server: Server, name: str) -> int:
    """The process of the server that is called so."""
    return next(pid for pid, found in server.children().items() if found == name)


def test_what_happens_is_counted_over_all_workers(server: Server) -> None:
    """Logins by result, sessions, commands, deliveries and what was filed of them."""
    before = server.number("sealbox_deliveries_total", result="delivered") or 0
    server.deliver(*[b"Subject: one more\r\n\r\nbody\r\n"] * 3)
    clients = [server.imap() for _ in range(4)]
    for client in clients:
        client.select("INBOX")
        client.noop()
    maildrop = server.pop()
    with connect(server) as wire:
        assert wire.command(b'LOGIN "%s" "wrong"' % server.user.encode()).status == b"NO"
    with pytest.raises(poplib.error_proto, match="unknown command"):
        maildrop._shortcmd("NONSENSE")

    counted(server, 4, "sealbox_logins_total", protocol="imap", result="ok")
    counted(server, 1, "sealbox_logins_total", protocol="imap", result="wrong")
    counted(server, 1, "sealbox_logins_total", protocol="pop3", result="ok")
    counted(server, before + 3, "sealbox_deliveries_total", result="delivered")
    for command in ("SELECT", "NOOP"):
        labels = {"protocol": "imap", "command": command}
        counted(server, 4, "sealbox_commands_total", result="ok", **labels)
        counted(server, 4, "sealbox_command_seconds_count", **labels)
        assert (server.number("sealbox_command_seconds_sum", **labels) or 0) > 0
    unknown = {"protocol": "pop3", "command": "unknown", "result": "failed"}
    counted(server, 1, "sealbox_commands_total", **unknown)
    counted(server, 4, "sealbox_sessions", service="imaps")
    counted(server, 1, "sealbox_sessions", service="pop3s")
    eventually(lambda: (server.number("sealbox_messages_filed_total") or 0) >= before + 3)
    assert (server.number("sealbox_open_accounts") or 0) >= 1
    assert (server.number("sealbox_awake_accounts") or 0) >= 1
    for client in clients:
        client.logout()
    maildrop.quit()
    counted(server, 0, "sealbox_sessions", service="imaps")


def test_the_server_itself_is_described(server: Server) -> None:
    """Volume, certificate, sealed mail, workers, version, snapshots."""
    stats = os.statvfs(server.data)
    counted(server, stats.f_blocks * stats.f_frsize, "sealbox_volume_size_bytes")
    assert 0 < (server.number("sealbox_volume_free_bytes") or 0) < stats.f_blocks * stats.f_frsize
    started_s = server.number("sealbox_start_time_seconds") or 0
    days = ((server.number("sealbox_certificate_expiry_timestamp_seconds") or 0) - started_s) / 86_400
    assert 390 < days < 400
    counted(server, 0, "sealbox_backup_configured")
    eventually(lambda: server.number("sealbox_sealed_messages") is not None)
    assert b'sealbox_build{python="' in server.metrics()
    configured = server.number("sealbox_workers_configured")
    counted(server, configured, "sealbox_workers")


def test_a_dead_worker_costs_no_total(server: Server) -> None:
    """What it has counted stays, its sessions are gone, and that it was replaced is told."""
    configured = server.number("sealbox_workers_configured")
    counted(server, configured, "sealbox_workers")
    server.imap().logout()
    logins = number_now(server, "sealbox_logins_total", protocol="imap", result="ok")
    clients = [server.imap() for _ in range(3)]
    counted(server, 3, "sealbox_sessions", service="imaps")
    killed = server.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not set(killed) & set(server.workers()) and len(server.workers()) == configured)
    counted(server, configured, "sealbox_worker_restarts_total")
    counted(server, configured, "sealbox_workers")
    counted(server, 0, "sealbox_sessions", service="imaps")
    counted(server, (logins or 0) + 3, "sealbox_logins_total", protocol="imap", result="ok")
    for client in clients:
        client.shutdown()


def test_mail_goes_on_whatever_happens_to_the_metrics(server: Server) -> None:
    """Their process is killed under a client that has a session, and comes back with all numbers."""
    client = server.imap()
    logins = number_now(server, "sealbox_logins_total", protocol="imap", result="ok")
    workers = server.workers()
    victim = child(server, "metrics")
    os.kill(victim, signal.SIGKILL)
    assert client.noop()[0] == "OK"
    eventually(lambda: victim not in server.children() and "metrics" in server.children().values())
    counted(server, logins, "sealbox_logins_total", protocol="imap", result="ok")
    assert server.workers() == workers
    client.logout()


def test_clients_without_a_question_keep_nobody_out(server: Server) -> None:
    """As many as may connect say nothing, and more: who asks is answered, and mail does not notice."""
    silent = [socket.create_connection(("127.0.0.1", server.info["metrics"]), 30) for _ in range(40)]
    try:
        counted(server, 0, "sealbox_backup_configured")
        server.imap().logout()
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b"", "the oldest had to go for it"
    finally:
        for one in silent:
            one.close()


def test_nothing_is_counted_where_nobody_listens(tmp_path: Path) -> None:
    """Without the section: no folder, no process, no port."""
    own = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    assert own.stop() == 0
    without = f'[metrics]\nlisten = ["127.0.0.1:{own.info["metrics"]}"]\n'

    def change(text: str) -> str:
        assert without in text
        return text.replace(without, "")

    folder = own.data / "metrics"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    own.start_with(change)
    try:
        own.imap().logout()
        assert "metrics" not in own.children().values()
        assert not folder.exists()
        with pytest.raises(OSError, match="refused"):
            own.metrics()
    finally:
        assert own.stop() == 0
