"""The HTTPS door of a running server: from a link to the mail."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from running import Server, eventually, raw

from mailstore.invitation_files import read_invitation, write_invitation
from mailstore.keys import AccountId, InvitationFacts, Scope, SlotId, make_invitation, new_slot_id

pytestmark = pytest.mark.integration

CHOSEN = "a password of my own"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def request(server: Server, method: str, path: str, **form: str) -> tuple[int, str]:
    """Status and body of a response."""
    door = http.client.HTTPSConnection("localhost", server.info["https"], context=server.tls(), timeout=30)
    with contextlib.closing(door):
        door.request(method, path, urlencode(form) if method == "POST" else None, FORM)
        answer = door.getresponse()
        return answer.status, answer.read().decode("utf-8")


def secret_in(page: str) -> str:
    """The secret that a page shows."""
    found = re.search(r'class="secret">([^<]+)<', page)
    assert found
    return found[1]


def invited(server: Server, *more: str) -> str:
    """The path of a new link to the account."""
    made = server.cli("invite", server.user, "--password-stdin", *more, stdin=f"{server.password}\n")
    return urlsplit(made["invite"]).path


def test_from_the_link_to_the_mail(server: Server) -> None:
    """What a user does: look, press, log in; and the link is used up."""
    path = invited(server, "--label", "phone", "--protocol", "imap", "--read-only")
    assert request(server, "GET", path)[0] == 200
    status, page = request(server, "POST", path, **{"as": "other"})
    assert status == 200
    with server.imap(password=secret_in(page)) as client:
        assert client.select("INBOX", readonly=True)[0] == "OK"
        assert client.create("new")[0] == "NO"
    assert request(server, "POST", path, **{"as": "other"})[0] == 410
    (slot,) = [
        one
        for one in server.cli("app-password", "list", server.user)["app_passwords"]
        if one["label"] == "phone"
    ]
    assert (slot["protocols"], slot["read_only"], slot["not_after"]) == (["imap"], True, None)


def test_the_link_of_the_quick_start(server: Server) -> None:
    """It is for this account, and one that is started again has one that works."""
    path = urlsplit(server.info["invite"]).path
    assert server.info["invite"] == f"https://localhost:{server.info['https']}{path}"
    assert server.user in request(server, "POST", path, **{"as": "other"})[1]


def test_a_new_account_is_its_owners_alone(server: Server) -> None:
    """The link asks for a password, shows a recovery key, and goes on to a device."""
    made = server.cli("account", "add", "ann@localhost", "--invite", "--valid", "7d")
    path = urlsplit(made["invite"]).path
    assert request(server, "POST", path, password="short", again="short")[0] == 400
    status, page = request(server, "POST", path, password=CHOSEN, again=CHOSEN)
    assert status == 200
    device = re.search(r'action="(/invite/[^"]+)"', page)
    assert device
    with server.imap("ann@localhost", CHOSEN), server.imap("ann@localhost", secret_in(page)):
        pass
    profile = request(server, "GET", device[1])[0], http_profile(server, device[1])
    assert profile[0] == 200
    assert b"com.apple.mail.managed" in profile[1]
    assert request(server, "POST", path, password="another " + CHOSEN, again="another " + CHOSEN)[0] == 410
    server.cli("account", "delete", "ann@localhost", "--yes")


def http_profile(server: Server, path: str) -> bytes:
    """Apple's profile behind a link."""
    door = http.client.HTTPSConnection("localhost", server.info["https"], context=server.tls(), timeout=30)
    with contextlib.closing(door):
        door.request("POST", path, "as=apple", FORM)
        answer = door.getresponse()
        assert answer.getheader("Content-Type") == "application/x-apple-aspen-config"
        return answer.read()


def test_of_many_who_press_at_once_one_gets_the_password(server: Server) -> None:
    """All see the same page before."""
    path = invited(server)
    statuses: list[int] = []
    together = threading.Barrier(6)

    def press() -> None:
        together.wait()
        statuses.append(request(server, "POST", path, **{"as": "other"})[0])

    threads = [threading.Thread(target=press) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    # Those that fail are slowed; some may be told to try later.
    assert sorted(statuses)[0] == 200
    assert set(sorted(statuses)[1:]) <= {410, 429}


def test_links_are_listed_and_revoked(server: Server) -> None:
    """Without a password; the list has no secret."""
    path = invited(server, "--label", "lost")
    (found,) = [one for one in server.cli("invite", "--list")["invitations"] if one["label"] == "lost"]
    assert path.removeprefix("/invite/").startswith(found["id"])
    assert path.removeprefix("/invite/")[8:] not in str(found)
    server.cli("invite", "--revoke", found["id"])
    assert request(server, "POST", path, **{"as": "other"})[0] == 410


def door_of(server: Server) -> int:
    """The process of the door; it may be starting."""
    return int(eventually(lambda: [pid for pid, name in server.children().items() if name == "door"])[0])


def test_a_killed_door_comes_back_and_the_mail_has_noticed_nothing(server: Server) -> None:
    """It is a process of its own, and links outlive it."""
    path = invited(server)
    with server.imap() as client:
        before, workers = door_of(server), server.workers()
        os.kill(before, signal.SIGKILL)
        assert client.noop()[0] == "OK"
        eventually(lambda: door_of(server) != before)
        assert request(server, "POST", path, **{"as": "other"})[0] == 200
        assert server.workers() == workers


def test_the_door_holds_no_account_open(server: Server) -> None:
    """Whoever breaks into it finds no database."""
    with server.imap():
        open_files = [os.readlink(one) for one in Path(f"/proc/{door_of(server)}/fd").iterdir()]
    assert not [one for one in open_files if "mail.db" in one]


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"POST /invite/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000,
        b"POST /invite/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"
        + b"x" * 100_000,
        b"a LOGIN joe secret\r\n\r\n",
        bytes(range(256)) * 100,
    ],
)
def test_bad_manners_are_answered_and_end_the_connection(server: Server, said: bytes) -> None:
    """With a status of its own, in bounded memory."""
    with raw(server, "https") as client:
        with contextlib.suppress(OSError):
            client.sendall(said)
        heard = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                heard += data
    # A client that goes on sending may be cut off before it has read the answer.
    assert heard == b"" or re.match(rb"HTTP/1\.1 (400|413|431|501) ", heard)
    assert request(server, "GET", "/nothing")[0] == 404


def test_a_crowd_that_says_nothing_keeps_nobody_out(server: Server) -> None:
    """One address has a bounded number of connections; the others of this machine are not counted with it."""
    with contextlib.ExitStack() as crowd:
        for _ in range(60):
            crowd.enter_context(socket.create_connection(("127.0.0.1", server.info["https"]), 10))
        with server.imap() as client:
            assert client.noop()[0] == "OK"
    eventually(lambda: _status_of(server) == 404)


def _status_of(server: Server) -> int:
    try:
        return request(server, "GET", "/nothing")[0]
    except OSError:
        return 0


def test_old_tls_and_other_protocols_are_refused(server: Server) -> None:
    """As at every other port."""
    context = server.tls()
    context.set_alpn_protocols(["imap"])
    with (
        pytest.raises(ssl.SSLError),
        socket.create_connection(("127.0.0.1", server.info["https"]), 10) as plain,
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def expired_invitation(data: Path) -> SlotId:
    """One whose time is over, as a server without the door has it from before."""
    made, token = make_invitation(
        AccountId("0" * 32), new_slot_id(()), InvitationFacts("old", 1, 2, Scope()), bytes(32)
    )
    write_invitation(data, made)
    return token.id


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that a test stops and starts."""
    server = Server(tmp_path / "data").start()
    yield server
    if server.process is not None:
        server.stop()


def changed(data: Path, *changes: tuple[str, str]) -> Callable[[str], str]:
    """Settings of the quick start, changed."""

    def change(text: str) -> str:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return text

    return change


def test_expired_invitations_go_without_the_door_too(own: Server) -> None:
    """They hold a wrapped master key; those that have time left stay."""
    kept = urlsplit(own.info["invite"]).path.removeprefix("/invite/")[:8]
    own.stop()
    gone = expired_invitation(own.data)
    assert read_invitation(own.data, gone) is not None
    own.start_with(lambda text: re.sub(r"(?m)^https = .*\n", "", text))
    assert "door" not in own.children().values()
    eventually(lambda: read_invitation(own.data, gone) is None)
    assert read_invitation(own.data, SlotId(kept)) is not None


def test_behind_a_proxy_and_with_another_name(own: Server) -> None:
    """The door speaks in the clear then, believes the proxy, and SIGHUP gives it new settings."""
    info = own.info
    own.stop()
    proxied = changed(own.data, ("[setup]", "[https]\nbehind_proxy = true\n\n[setup]"))
    own.start_with(proxied)
    own.info = info

    def page(**headers: str) -> tuple[int, str]:
        door = http.client.HTTPConnection("127.0.0.1", info["https"], timeout=30)
        with contextlib.closing(door):
            door.request("GET", "/invite/" + "0" * 40, headers=headers)
            answer = door.getresponse()
            return answer.status, answer.read().decode("utf-8")

    assert page()[0] == 400
    status, text = page(**{"X-Forwarded-For": "203.0.113.7"})
    assert status == 200
    assert "Sealbox on this machine" in text
    config = own.data.parent / f"{own.data.name}.toml"
    config.write_text(config.read_text("utf-8").replace("Sealbox on this machine", "Another name"), "utf-8")
    assert own.process is not None
    own.process.send_signal(signal.SIGHUP)
    eventually(lambda: "Another name" in page(**{"X-Forwarded-For": "203.0.113.7"})[1])
    assert own.stop() == 0
    assert "203.0.113.7" in "".join(one.read_text() for one in (own.data / "log").glob("access-*"))
