"""The sockets that are bound: who may connect to those on the machine."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

import pytest

from deploy.config import Config, ConfigError, parse
from deploy.first_run import make_certificate
from deploy.sockets import CannotListen, bind_all, close_all


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A configuration with three Unix sockets and nothing else."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    return (
        f'data = "{tmp_path}/data"\nsocket_group = "GROUP"\n'
        f'[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
        f'[listen]\nimaps = []\npop3s = []\nlmtp = ["unix:{tmp_path}/lmtp"]\n'
        f'auth = ["unix:{tmp_path}/auth"]\nrecipients = ["unix:{tmp_path}/recipients"]\n'
    )


def config_for(text: str, group: str) -> Config:
    """With the group put in."""
    return parse(text.replace("GROUP", group), Path("x"))


def possible_group() -> grp.struct_group:
    """One that this process may give a file to, and another than its own where there is one."""
    numbers = [one.gr_gid for one in grp.getgrall()] if os.geteuid() == 0 else os.getgroups()
    return grp.getgrgid(next((one for one in numbers if one != os.getegid()), os.getegid()))


def test_unix_sockets_are_for_their_owner_and_one_group(text: str, tmp_path: Path) -> None:
    """Everybody else would be able to deliver mail, to try passwords and to ask who is here."""
    group = possible_group()
    listeners = bind_all(config_for(text, group.gr_name))
    try:
        assert [one.service for one in listeners] == ["lmtp", "auth", "recipients"]
        for name in ("lmtp", "auth", "recipients"):
            found = (tmp_path / name).stat()
            assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (group.gr_gid, 0o660)
    finally:
        close_all(listeners)
    assert not (tmp_path / "auth").exists()


def test_without_a_group_it_is_the_servers_own(text: str, tmp_path: Path) -> None:
    """As it was before there was a setting."""
    listeners = bind_all(config_for(text, ""))
    found = (tmp_path / "auth").stat()
    close_all(listeners)
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (os.getegid(), 0o660)


def test_a_group_that_the_server_is_not_in(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left listening, and the operator is told which socket it is."""

    def refuse(path: Path, uid: int, gid: int, **_more: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(CannotListen, match="lmtp for lmtp: Operation not permitted"):
        bind_all(config_for(text, possible_group().gr_name))
    assert not (tmp_path / "lmtp").exists()


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("GROUP", "no-such-group", "'socket_group': there is no such group"),
        (
            "unix:",
            "127.0.0.1:25",
            "'listen.auth': write unix:/path: what is said there must not leave the machine",
        ),
        ("unix:", "unix:x", "'listen.auth': write unix:/path: what is said there must not leave the machine"),
    ],
)
def test_mistakes_in_the_configuration(text: str, old: str, new: str, mistake: str) -> None:
    """Passwords, and who is here, are nothing for a network."""
    head, name, tail = text.partition("auth = ")
    wrong = head + name + tail.replace("unix:", new, 1) if old == "unix:" else text.replace(old, new)
    with pytest.raises(ConfigError) as caught:
        parse(wrong.replace("GROUP", ""), Path("x"))
    assert mistake in caught.value.mistakes
