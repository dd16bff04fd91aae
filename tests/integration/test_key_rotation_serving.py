"""The real server gets a new key, is lost, and comes back with nothing but the operator's notes."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import messages
from running import SEALBOX, eventually
from snapshot_server import ADA, BOB, Site, SnapshotServer, make_site, sealbox
from stores_world import BUCKET, fresh_prefix
from test_disaster import assert_verified, inbox_of

from tests.r2_server import R2Server

pytestmark = pytest.mark.integration

EXIT_BUSY = 5


@pytest.fixture
def site(r2: R2Server, tmp_path: Path) -> Site:
    """What outlives a server."""
    return make_site(tmp_path, f"s3://{BUCKET}/{fresh_prefix()}", r2.endpoint)


@pytest.fixture
def server(site: Site, tmp_path: Path) -> Iterator[SnapshotServer]:
    """A server with two accounts, not started."""
    made = SnapshotServer(site, tmp_path / "first")
    made.add_accounts()
    yield made
    made.end()


@pytest.fixture
def anew(site: Site, tmp_path: Path) -> Iterator[SnapshotServer]:
    """Another machine."""
    made = SnapshotServer(site, tmp_path / "anew")
    yield made
    made.end()


def deliver(server: SnapshotServer, seed: int) -> str:
    """Mail comes and is stored; a time at which it was."""
    before, since_s = len(inbox_of(server, ADA)), time.time()
    server.deliver(*messages(2, seed=seed))
    eventually(lambda: len(inbox_of(server, ADA)) == before + 2)
    server.wait_stored({ADA: since_s, BOB: 0.0})
    found = sealbox("backup", "status", "--config", server.config)
    return str(next(one["newest"] for one in found["accounts"] if one["name"] == ADA))


def refused(*arguments: object) -> int:
    """The exit code of an exchange, which says what to do."""
    command = [*SEALBOX, "server-key", "rotate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert b"stop it first" in done.stderr
    return done.returncode


def test_a_machine_is_lost_after_its_key_was_exchanged(
    server: SnapshotServer, anew: SnapshotServer, tmp_path: Path
) -> None:
    """As deploy/OPERATIONS.md says, step by step; the notes are private key, bucket and signing key."""
    data = ("--data", server.data)
    server.start()
    before = deliver(server, 31)
    mail_before = inbox_of(server, ADA)
    assert refused(*data) == EXIT_BUSY
    assert server.stop() == 0
    noted = sealbox("server-key", "rotate", *data)
    server.start()
    assert sealbox("backup", "run", "--config", server.config)["stored"]
    deliver(server, 32)
    mail = inbox_of(server, ADA)
    assert len(mail) == 4 and set(mail_before) < set(mail)
    assert_verified(server)
    assert sealbox("backup", "drill", "--config", server.config)["drilled"]
    assert server.stop() == 0
    shutil.rmtree(server.data)

    restore = ("restore", "--all", "--data", anew.data, *anew.site.store_options)
    answer = sealbox(*restore, "--signed-by", noted["signing_key"])
    assert answer["passed_over"] == []
    assert [(one["name"], one["trouble"]) for one in answer["restored"]] == [(ADA, None), (BOB, None)]
    anew.start()
    assert inbox_of(anew, ADA) == mail
    deliver(anew, 33)
    assert_verified(anew)
    assert anew.stop() == 0
    third = tmp_path / "third"
    then = sealbox(
        *("restore", ADA, "--data", third, *anew.site.store_options, "--at", before),
        *("--signed-by", noted["signing_key"]),
    )
    assert [one["trouble"] for one in then["restored"]] == [None]


def test_a_key_elsewhere_is_exchanged_by_a_start(server: SnapshotServer, tmp_path: Path) -> None:
    """The server runs with the old one as long as the operator has not put the new one in its place."""
    place, new = tmp_path / "credential", tmp_path / "new.key"
    (server.data / "server.key").rename(place)
    (server.data / "server.key").symlink_to(place)
    data = ("--data", server.data)
    assert not sealbox("server-key", "rotate", *data, "--new-key", new)["in_place"]
    server.start()
    deliver(server, 41)
    assert refused(*data, "--new-key", tmp_path / "other") == EXIT_BUSY
    assert server.stop() == 0
    place.write_bytes(new.read_bytes())
    server.start()
    assert not (server.data / "server.key.handover").exists()
    deliver(server, 42)
    assert len(inbox_of(server, ADA)) == 4
    assert "everything is under the new one" in server.errors()
    assert_verified(server)
