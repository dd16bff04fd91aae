"""What the quick start leaves on the disk, and who may read it."""

from __future__ import annotations

import dataclasses
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from deploy.config import FILE_NAME
from deploy.first_run import SOCKET_PATH_MAX_BYTES, USER, CannotPrepare, prepare
from mailstore.account import open_directory
from mailstore.invitation_files import invitations, write_invitation
from mailstore.invitations import Place, join
from mailstore.keys import read_token
from mailstore.model import AccessProtocol

PORT_BASE = 1100


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_other_users_may_read_the_certificate_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """A mail program of another user has to trust the certificate; all else is private, with any umask."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data = tmp_path / "data"
    before = os.umask(umask)
    try:
        prepared = prepare(data, PORT_BASE)
        # Data of an earlier version, whose certificate was private.
        for path in (data, prepared.certificate.parent):
            path.chmod(0o700)
        prepared.certificate.chmod(0o600)
        prepare(data, PORT_BASE)
    finally:
        os.umask(before)
    open_to_others = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (data, *data.rglob("*"), *(tmp_path / "state").rglob("*.json"))
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_to_others == {"data": 0o711, "data/tls": 0o711, "data/tls/certificate.pem": 0o644}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a quick start that has run."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    prepare(tmp_path / "data", PORT_BASE)
    return tmp_path / "data"


def edit(data: Path, *changes: tuple[str, str]) -> str:
    """Change the settings as somebody with an editor does; the new text."""
    path = data / FILE_NAME
    text = path.read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text, "utf-8")
    return text


def test_settings_that_were_edited_stay(data: Path) -> None:
    """To the octet, and they are what is served with."""
    text = edit(
        data,
        ('hostname = "localhost"', 'hostname = "mail.example.org"  # mine\nworkers = 1'),
        ("[listen]", "[login]\nlist_scram = true\n\n[listen]"),
        ('lmtp = ["127.0.0.1:1124"]', 'lmtp = ["127.0.0.1:1124", "127.0.0.1:2400"]'),
    )
    config = prepare(data, PORT_BASE).config
    assert (data / FILE_NAME).read_text("utf-8") == text
    assert (config.hostname, config.workers, config.login.list_scram) == ("mail.example.org", 1, True)


def test_only_what_the_command_line_says_changes_in_edited_settings(data: Path) -> None:
    """Other ports, and a folder that was moved: their lines, and nothing else."""
    text = edit(data, ('hostname = "localhost"', 'hostname = "mail.example.org"'))
    moved = data.rename(data.with_name("moved"))
    config = prepare(moved, 2100).config
    changed = text.replace(str(data), str(moved))
    for before in ('"127.0.0.1:', '"https://localhost:', "imap_port = ", "pop3_port = "):
        changed = changed.replace(f"{before}11", f"{before}21")
    assert (moved / FILE_NAME).read_text("utf-8") == changed
    assert (config.data, config.tls.certificate.parent) == (moved, moved / "tls")
    assert config.listen.imaps == ("127.0.0.1:2193",)


def test_a_mail_server_has_passwords_checked_in_the_folder(data: Path) -> None:
    """Programs are told where; whoever has switched that off is left alone."""
    prepared = prepare(data, PORT_BASE)
    assert prepared.auth == str(data / "auth.sock")
    assert prepared.config.listen.auth == (f"unix:{data}/auth.sock",)
    edit(data, (f'auth = ["unix:{data}/auth.sock"]', "auth = []"))
    assert prepare(data, PORT_BASE).auth is None


def test_nobody_is_told_to_send_mail_where_nothing_sends(data: Path) -> None:
    """The door knows of no server for that, so no page, profile or record does."""
    offered = prepare(data, PORT_BASE).config.setup_facts.offered
    assert offered == {AccessProtocol.IMAP, AccessProtocol.POP3}


def test_numbers_are_served_at_a_port_of_the_quick_start(data: Path) -> None:
    """It moves with the others; whoever has taken the section out, or changed the port, is left alone."""
    assert prepare(data, PORT_BASE).metrics == PORT_BASE + 90
    assert prepare(data, 2100).config.metrics.listen == ("127.0.0.1:2190",)
    assert prepare(data, 2100).metrics == 2190
    edit(data, ('listen = ["127.0.0.1:2190"]', 'listen = ["127.0.0.1:9999"]  # mine'))
    assert prepare(data, PORT_BASE).metrics == 9999
    edit(data, ('[metrics]\nlisten = ["127.0.0.1:9999"]  # mine\n', ""))
    assert prepare(data, PORT_BASE).metrics is None


def test_a_folder_whose_name_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is in a folder for temporary files that nobody else can enter."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data = tmp_path / ("x" * SOCKET_PATH_MAX_BYTES)
    found = prepare(data, PORT_BASE).auth
    assert found is not None
    assert Path(found).parent.parent == temporary
    assert stat.S_IMODE(Path(found).parent.stat().st_mode) == 0o700
    assert prepare(data, PORT_BASE).auth == found
    Path(found).parent.rmdir()
    Path(found).parent.symlink_to(tmp_path)
    with pytest.raises(CannotPrepare, match="somebody else"):
        prepare(data, PORT_BASE)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('imap = ["127.0.0.1:1143"]', "imap = []", "listen.imap"),
        ("data = ", 'data = "/elsewhere" # ', "data"),
        ("[listen]", "[listen", "not TOML"),
        ("[listen]", "[listne]", "listne"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_left(data: Path, old: str, new: str, why: str) -> None:
    """Nothing is served elsewhere than what is printed says, and nobody's work is overwritten."""
    text = edit(data, (old, new))
    with pytest.raises(CannotPrepare, match=why):
        prepare(data, PORT_BASE)
    assert (data / FILE_NAME).read_text("utf-8") == text


def test_a_quick_start_of_before_the_door_goes_on_without(data: Path) -> None:
    """Its settings are not changed behind anybody's back, and no link is printed that nothing opens."""
    text = edit(data, ('https = ["127.0.0.1:1180"]\n', ""))
    prepared = prepare(data, PORT_BASE)
    assert prepared.invite is None
    assert prepared.config.listen.https == ()
    assert (data / FILE_NAME).read_text("utf-8") == text


def test_the_link_is_printed_again_until_it_is_used(data: Path) -> None:
    """Each start costs no new key; after its use, or when it has nearly run out, there is another."""
    first = prepare(data, PORT_BASE)
    assert first.invite == f"https://localhost:1180/invite/{first.invitation}"
    assert prepare(data, PORT_BASE).invitation == first.invitation
    token = read_token(first.invitation)
    assert token is not None
    directory = open_directory(data)
    try:
        assert join(Place(data, directory), token).name == USER
    finally:
        directory.close()
    second = prepare(data, PORT_BASE)
    assert second.invitation != first.invitation
    (kept,) = invitations(data)
    write_invitation(data, dataclasses.replace(kept, not_after=int(time.time()) + 3000))
    assert prepare(data, PORT_BASE).invitation not in (first.invitation, second.invitation)
    assert len(invitations(data)) == 1
