"""What POP3 clients keep of a mailbox stays true when it comes back from a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.catalogue import Server
from backup.segment import Kind, SegmentName, StreamId
from backup.store_file import FileStore
from mailstore.directory import DomainLimits
from mailstore.model import Pop3Settings
from protocols.limits import LoginLimits, Pop3Limits
from protocols.pop3.server import Pop3Factory
from tests.integration.snapshot_world import SnapshotWorld, message
from tests.login_guard import make_guard
from tests.unit.store.store_world import NAME, PASSWORD, World
from tests.wire import TLS, Client, RecordingLog

SETTINGS = Pop3Settings("Archive", retr_marks_seen=True, dele_to_trash=True, login_delay_s=0)


def unique_ids(mail: World) -> list[bytes]:
    """The unique-ids of the maildrop, in order."""
    guard = make_guard(mail.store, LoginLimits(), mail.clock)
    client = Client(Pop3Factory(guard, Pop3Limits(), TLS, RecordingLog(), mail.clock, True))
    said = client.say(b"USER %s\r\nPASS %s\r\nUIDL\r\nQUIT\r\n" % (NAME, PASSWORD))
    lines = said.partition(b" messages\r\n")[2].split(b"\r\n")
    return [line.split()[1] for line in lines if line[:1].isdigit()]


@pytest.fixture
def world(tmp_path: Path) -> SnapshotWorld:
    """A server with snapshots into a folder."""
    (tmp_path / "objects").mkdir()
    return SnapshotWorld(tmp_path, FileStore(tmp_path / "objects"))


def test_unique_ids_survive_a_restore_and_are_never_given_again(world: SnapshotWorld) -> None:
    """RFC 1939 section 7: those that came back keep theirs; who comes after gets one nobody has seen."""
    world.append(message("one", b"1"), message("two", b"2"))
    world.pass_time(200)
    kept = unique_ids(world.mail)
    world.append(message("three", b"3"), message("four", b"4"))
    lost = unique_ids(world.mail)[2:]
    restored = world.restored("again")
    assert unique_ids(restored) == kept
    for _ in range(2):
        restored.deliver(message("five", b"5"))
    new = unique_ids(restored)
    assert new[:2] == kept and len({*kept, *lost, *new}) == 6
    restored.close()
    world.close()


def test_pop3_settings_come_back_with_their_account(world: SnapshotWorld, tmp_path: Path) -> None:
    """They are part of the server's stream; an account without any has none there."""
    account_id = world.mail.directory.accounts()[0].account_id
    world.append(message("one", b"1"))
    world.pass_time(200)
    (tmp_path / "before").mkdir()
    before = world.read_server(tmp_path / "before")
    assert before.accounts[account_id].pop3 == Pop3Settings()
    world.mail.directory.set_pop3(account_id, SETTINGS)
    world.pass_time(200)
    restored = world.restored("again")
    assert restored.directory.accounts()[0].pop3 == SETTINGS
    restored.close()
    world.close()


def test_limits_of_domains_come_back(world: SnapshotWorld, tmp_path: Path) -> None:
    """They are part of the server's stream while there are any."""
    directory = world.mail.directory
    directory.limit_domain("example.org", quota_bytes=5000, accounts=0, aliases=7)
    world.append(message("one", b"1"))
    world.pass_time(200)
    restored = world.restored("limited")
    assert restored.directory.domain_limits() == {"example.org": DomainLimits(5000, 0, 7)}
    restored.close()
    directory.limit_domain("example.org", quota_bytes=None, accounts=None, aliases=None)
    world.pass_time(200)
    (tmp_path / "after").mkdir()
    after = world.read_server(tmp_path / "after")
    assert (after.domain_quotas, after.domain_numbers) == ({}, {})
    world.close()


def test_a_record_without_pop3_settings_has_the_defaults() -> None:
    """As versions before them wrote it, and those that leave one out."""
    server = Server()
    name = SegmentName(StreamId("0" * 32), 0, 1_800_000_000_000, Kind.FULL)
    entry = (
        b'{"name": "a@b.c", "public_key": "", "header_generation": 1, "quota_bytes": null,'
        b' "created": 1, "disabled": false%s}'
    )
    one, other = entry % b"", entry % b', "pop3": {"login_delay_s": 5}'
    server.apply(name, b'{"accounts": {"1": %s, "2": %s}}' % (one, other))
    assert server.accounts["1"].pop3 == Pop3Settings()
    assert server.accounts["2"].pop3 == Pop3Settings(login_delay_s=5)
