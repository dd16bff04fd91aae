"""The whole disaster: a server with everything on it is lost, and made anew from bucket and private key."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import messages
from running import eventually
from snapshot_server import ADA, BOB, PASSWORDS, Site, SnapshotServer, make_site, sealbox
from stores_world import BUCKET, fresh_prefix
from test_clients import crlf, digest, mbsync_config, sync

from tests.r2_server import R2Server

pytestmark = pytest.mark.integration

DELIVERED = 25
_TRACE = re.compile(rb"\AReturn-Path:.*\r\n(Delivered-To:.*\r\n)?Received:.*\r\n([ \t].*\r\n)*")


def folders(place: Path) -> dict[str, list[tuple[str, str]]]:
    """Of every folder of a Maildir tree: digests of the messages with their flags."""
    found: dict[str, list[tuple[str, str]]] = {}
    mail = place / "mail"
    for folder in sorted(path.parent for path in mail.rglob("cur")):
        files = [*(folder / "cur").iterdir(), *(folder / "new").iterdir()]
        found[str(folder.relative_to(mail))] = sorted(
            (digest(crlf(path.read_bytes())), path.name.partition(":2,")[2]) for path in files
        )
    return found


def inbox_of(server: SnapshotServer, user: str) -> list[str]:
    """Digests of the messages in a user's INBOX."""
    client = server.imap(user, PASSWORDS[user])
    client.select("INBOX", readonly=True)
    answer = client.fetch("1:*", "(BODY.PEEK[])")[1]
    client.logout()
    return sorted(digest(part[1]) for part in answer if isinstance(part, tuple))


def waited(server: SnapshotServer) -> list[str]:
    """Digests of the messages in Bob's INBOX, without the trace header that LMTP puts in front."""
    client = server.imap(BOB, PASSWORDS[BOB])
    client.select("INBOX", readonly=True)
    answer = client.fetch("1:*", "(BODY.PEEK[])")[1]
    client.logout()
    return sorted(digest(_TRACE.sub(b"", part[1], 1)) for part in answer if isinstance(part, tuple))


def live_a_little(server: SnapshotServer, folder: Path) -> float:
    """Mail comes by LMTP; a client changes, deletes, adds and files; when it had done so."""
    server.deliver(*messages(DELIVERED, seed=11))
    # The account is still open from an earlier login, so mail is filed as it comes.
    eventually(lambda: len(inbox_of(server, ADA)) == DELIVERED)
    config = mbsync_config(folder, server)
    sync(config)
    inbox = folder / "mail" / "INBOX"
    files = sorted([*(inbox / "new").iterdir(), *(inbox / "cur").iterdir()])
    assert len(files) == DELIVERED
    for path in files[:8]:
        path.rename(inbox / "cur" / f"{path.name.partition(':')[0]}:2,FRS")
    for path in files[8:11]:
        path.unlink()
    filed = folder / "mail" / "Archive" / "2026"
    for name in ("cur", "new", "tmp"):
        (filed / name).mkdir(parents=True)
    for number, data in enumerate(messages(6, seed=12)):
        (filed / "cur" / f"{number}.test:2,S").write_bytes(data.replace(b"\r\n", b"\n"))
    sync(config)
    synced_s = time.time()
    sync(config)
    return synced_s


def uid_validity(server: SnapshotServer, user: str = ADA) -> int:
    """Of INBOX."""
    client = server.imap(user, PASSWORDS[user])
    answer = client.status("INBOX", "(UIDVALIDITY)")[1][0]
    client.logout()
    found = re.search(rb"UIDVALIDITY (\d+)", answer)
    assert found is not None
    return int(found[1])


def assert_verified(server: SnapshotServer) -> None:
    """By the server's own records, and by the private key alone."""
    for options in ([], server.site.store_options):
        report = sealbox("backup", "verify", "--config", server.config, *options)
        assert report["findings"] == [] and report["segments"] > 3, report["findings"]


@pytest.fixture
def site(r2: R2Server, tmp_path: Path) -> Site:
    """What outlives a server."""
    return make_site(tmp_path, f"s3://{BUCKET}/{fresh_prefix()}", r2.endpoint)


@pytest.fixture
def lost(site: Site, tmp_path: Path) -> Iterator[SnapshotServer]:
    """The server that will be lost."""
    server = SnapshotServer(site, tmp_path / "lost")
    server.add_accounts()
    yield server.start()
    server.end()


@pytest.fixture
def anew(site: Site, tmp_path: Path) -> Iterator[SnapshotServer]:
    """The new one: a folder with a configuration, not started."""
    server = SnapshotServer(site, tmp_path / "anew")
    yield server
    server.end()


def test_everything_comes_back(lost: SnapshotServer, anew: SnapshotServer, tmp_path: Path) -> None:
    """Mail, flags, folders, waiting mail and accounts are as they were; only UIDVALIDITY is not."""
    synced_s = live_a_little(lost, tmp_path / "before")
    before, validity = folders(tmp_path / "before"), uid_validity(lost)
    assert {len(before["INBOX"]), len(before["Archive/2026"])} == {DELIVERED - 3, 6}
    # Nobody has ever opened this account: its mail waits, sealed.
    waiting = list(messages(4, seed=13))
    changed_s = time.time()
    lost.deliver(*waiting, to=BOB)
    (inbox,) = (path for path in lost.data.glob("accounts/*/*/inbox") if any(path.iterdir()))
    assert len(list(inbox.iterdir())) == len(waiting)
    lost.wait_stored({ADA: synced_s, BOB: changed_s})
    assert lost.stop() == 0
    shutil.rmtree(lost.data)

    answer = sealbox("restore", "--all", "--data", anew.data, *anew.site.store_options)
    assert sorted(one["name"] for one in answer["restored"]) == [ADA, BOB]
    assert all(one["trouble"] is None and not one["skipped"] for one in answer["restored"])
    anew.start()
    sync(mbsync_config(tmp_path / "after", anew))
    assert folders(tmp_path / "after") == before
    assert uid_validity(anew) != validity
    assert waited(anew) == sorted(map(digest, waiting))

    anew.deliver(*messages(2, seed=14))
    assert sealbox("backup", "run", "--config", anew.config)["stored"]
    assert_verified(anew)
    assert sealbox("backup", "drill", "--config", anew.config)["drilled"]
    assert anew.stop() == 0
    again = sealbox("restore", "--all", "--data", tmp_path / "third", *anew.site.store_options)
    assert sorted((one["name"], one["trouble"]) for one in again["restored"]) == [(ADA, None), (BOB, None)]
    assert "[backup]" in (tmp_path / "third" / "sealbox.toml").read_text()
