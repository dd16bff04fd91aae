"""Modes, owners and content of real files below a data root."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest
from privacy_world import ACCOUNT, made_root

from deploy.config import Config
from deploy.privacy import files
from deploy.privacy.finding import State


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A data root that is in order."""
    return made_root(tmp_path)


def modes(config: Config) -> files.Finding:
    """The finding about who may read what."""
    return files.modes([*files.entries(config.data)], config)


def content(config: Config) -> files.Finding:
    """The finding about what is in the files."""
    return files.content([*files.entries(config.data)], config.data)


def test_a_root_as_the_server_makes_it_is_in_order(config: Config) -> None:
    """With the socket for its group, and the certificate that mail programs have to read."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(config.data / "auth.sock"))
        (config.data / "auth.sock").chmod(0o660)
        assert modes(config).state is State.HOLDS, modes(config).said
    assert content(config).state is State.HOLDS, content(config).said
    assert files.secrets(config).state is State.HOLDS


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("server.key", 0o644),
        ("server.key", 0o640),
        (f"accounts/01/{ACCOUNT}/mail.db", 0o604),
        (f"accounts/01/{ACCOUNT}/keys", 0o620),
        (f"accounts/01/{ACCOUNT}", 0o711),
        ("accounts", 0o750),
        ("log", 0o755),
        ("tls/private-key.pem", 0o640),
        ("tls/certificate.pem", 0o666),
        ("", 0o755),
    ],
)
def test_what_others_may_read_or_change_is_seen(config: Config, name: str, mode: int) -> None:
    """One file or folder is enough; its name is not repeated, its inode is."""
    path = config.data / name
    path.chmod(mode)
    found = modes(config)
    assert (found.state, found.promises) == (State.BROKEN, (1, 2))
    assert f"inode {path.stat().st_ino} in " in found.said


def test_a_file_of_another_user_is_seen(config: Config) -> None:
    """Left by a command that root ran, say."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(config.data / "server.key", 12345, 12345)
    assert modes(config).state is State.BROKEN


def test_what_mkfs_makes_in_a_volume_is_no_file_of_another_user(config: Config) -> None:
    """Only in the data root itself: anywhere else nobody has put it there rightly."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(config.data, 12345, 12345)
    for entry in files.entries(config.data):
        os.chown(entry.path, 12345, 12345)
    (config.data / "lost+found").mkdir(0o700)
    assert modes(config).state is State.HOLDS, modes(config).said
    (config.data / "accounts" / "lost+found").mkdir(0o700)
    assert modes(config).state is State.BROKEN


def test_a_key_outside_that_everybody_may_read_is_seen(config: Config) -> None:
    """The certificate's private key, wherever it is."""
    config.tls.private_key.chmod(0o604)
    found = files.secrets(config)
    assert (found.state, found.promises) == (State.BROKEN, (4, 6))


MAIL = b"Received: from mx.example.net by mail.example.org\r\nSubject: hello\r\n\r\nText\r\n"


@pytest.mark.parametrize(
    "beginning",
    [
        MAIL,
        MAIL.replace(b"\r\n", b"\n"),
        b"From ada@example.org Mon Feb  7 21:52:25 2022\n" + MAIL,
        b"X-Spam: no\r\nX-Other: yes\r\n" + MAIL,
        b"subject: hello\n\ntext",
        b"\0\1\2 a header of a file\n" + MAIL,
        b"\x7fELF\2\1\1",
    ],
)
def test_mail_and_cores_in_the_clear_are_seen(config: Config, beginning: bytes) -> None:
    """Anywhere below the data root, whatever the file is called; neither name nor content is repeated."""
    path = config.data / "backup" / "ada@example.org"
    path.write_bytes(beginning)
    found = content(config)
    assert (found.state, found.promises) == (State.BROKEN, (1, 5))
    assert f"inode {path.stat().st_ino} in backup" in found.said
    assert "ada" not in found.said + found.step
    assert "hello" not in found.said


def test_a_database_in_the_clear_is_seen(config: Config) -> None:
    """Made by SQLite itself, in place of an account's."""
    path = config.data / "accounts" / "01" / ACCOUNT / "mail.db"
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE message (text)")
    database.close()
    found = content(config)
    assert found.state is State.BROKEN
    place = f"inode {path.stat().st_ino} in accounts/01/{ACCOUNT}"
    assert f"a database that is not encrypted ({place})" in found.said


def test_what_cannot_be_read_is_not_passed() -> None:
    """It is said where there is such a file."""
    root = Path("/data")
    entry = files.Entry(root / "x", os.stat_result((0o100600, 4, 0, 1, 0, 0, 0, 0, 0, 0)), None)
    assert files.content([entry], root).state is State.UNSEEN


def test_folders_behind_links_are_walked(config: Config, tmp_path: Path) -> None:
    """A data root that is a link itself, and accounts on another disk; a circle of links is walked once."""
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "disk" / "circle").symlink_to(config.data)
    (config.data / "elsewhere").symlink_to(tmp_path / "disk")
    assert modes(config).state is State.HOLDS
    plain = tmp_path / "disk" / "mail"
    plain.write_bytes(MAIL)
    plain.chmod(0o644)
    (tmp_path / "link").symlink_to(config.data)
    for root in (config.data, tmp_path / "link"):
        found = [*files.entries(root)]
        assert files.content(found, root).state is State.BROKEN
        assert files.modes(found, config).state is State.BROKEN
