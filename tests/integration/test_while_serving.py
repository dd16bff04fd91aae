"""What administration and other sessions do to sessions that live, through any worker."""

from __future__ import annotations

import imaplib
import poplib
import re
import smtplib
import threading
from pathlib import Path

import pytest
from imap_wire import Wire, connect, session, timed
from on_workers import one_on_each
from running import Server, eventually

pytestmark = pytest.mark.integration

PASSWORD = "another quite long password"
PROMPT_S = 5.0


def idle(wire: Wire) -> None:
    """Begin IDLE."""
    wire.send(b"idle IDLE\r\n")
    assert wire.until(b"+ ").tagged


def done(wire: Wire) -> None:
    """End IDLE."""
    wire.send(b"DONE\r\n")
    assert wire.until(b"idle ").status == b"OK"


def pop(server: Server, user: str, password: str) -> poplib.POP3_SSL:
    """A POP3 session of some user."""
    client = poplib.POP3_SSL("127.0.0.1", server.info["pop3s"], context=server.tls(), timeout=30)
    try:
        client.user(user)
        client.pass_(password)
    except poplib.error_proto:
        client.close()
        raise
    return client


def log_in(server: Server, user: str, password: str, source: str) -> bytes:
    """OK or NO; from an address of its own, which has no failures to wait for."""
    with connect(server, source=source) as wire:
        return wire.command(f'LOGIN "{user}" "{password}"'.encode()).status


def test_idle_hears_of_everything(server: Server) -> None:
    """IDLE on each worker hears of appends, flags, expunges through the other, and of deliveries."""
    sessions = one_on_each(server)
    one, another = list(sessions.values())[:2]
    for listener, actor in ((one, another), (another, one)):
        for wire in (listener, actor):
            assert wire.command(b"NOOP").status == b"OK"
        there = int(listener.command(b"STATUS INBOX (MESSAGES)").untagged[-1].split()[-1].rstrip(b")"))
        idle(listener)
        assert actor.append(b"INBOX", b"Subject: appended\r\n\r\ntext\r\n").status == b"OK"
        assert listener.until(b"* %d EXISTS" % (there + 1)).tagged
        assert actor.command(b"STORE * +FLAGS.SILENT (\\Flagged $Heard)").status == b"OK"
        heard = listener.until(b"* %d FETCH" % (there + 1)).tagged
        while b"$Heard" not in heard:
            heard = listener.until(b"* %d FETCH" % (there + 1)).tagged
        assert b"\\Flagged" in heard
        server.deliver(b"Subject: delivered\r\n\r\ntext\r\n")
        assert listener.until(b"* %d EXISTS" % (there + 2)).tagged
        assert actor.command(b"NOOP").status == b"OK"
        assert actor.command(b"STORE %d +FLAGS.SILENT (\\Deleted)" % (there + 1)).status == b"OK"
        assert actor.command(b"EXPUNGE").status == b"OK"
        assert listener.until(b"* %d EXPUNGE" % (there + 1)).tagged
        done(listener)
        assert listener.command(b"NOOP").status == b"OK"
    for wire in sessions.values():
        wire.close()


def test_idle_elsewhere_is_silent(server: Server) -> None:
    """IDLE hears nothing of another mailbox, and of its own at once all the same."""
    with session(server) as listener, session(server, b"Archive") as actor:
        idle(listener)
        assert actor.append(b"Archive", b"Subject: elsewhere\r\n\r\ntext\r\n").status == b"OK"
        assert actor.append(b"INBOX", b"Subject: here\r\n\r\ntext\r\n").status == b"OK"
        answer = listener.until(b"* ")
        assert answer.tagged.endswith(b" EXISTS")
        done(listener)


def added(
    server: Server, *options: str, user: str | None = None, password: str | None = None
) -> tuple[str, str]:
    """A new app password and the id of its keyslot."""
    answer = server.cli(
        "app-password", "add", user or server.user, "--label", "test", "--password-stdin", *options,
        stdin=(password or server.password) + "\n",
    )  # fmt: skip
    return str(answer["app_password"]), str(answer["id"])


def test_app_password_and_its_revocation(server: Server) -> None:
    """It opens IMAP and POP3; revoked, its sessions on all workers hear BYE at once and it opens nothing."""
    secret, slot = added(server)
    live = one_on_each(server, password=secret)
    idling = session(server, password=secret)
    idle(idling)
    owner = session(server)
    maildrop = pop(server, server.user, secret)
    assert maildrop.stat()[0] > 0
    maildrop.quit()
    server.cli("app-password", "revoke", server.user, slot, "--password-stdin", stdin=server.password + "\n")
    for wire in (idling, *live.values()):
        wire.socket.settimeout(PROMPT_S)
        assert wire.until(b"* BYE").tagged
        wire.close()
    assert log_in(server, server.user, secret, "127.0.2.1") == b"NO"
    with pytest.raises(poplib.error_proto):
        pop(server, server.user, secret)
    assert timed(owner) < PROMPT_S
    owner.close()


def test_scopes(server: Server) -> None:
    """An app password for IMAP opens no POP3; a read-only one changes nothing."""
    secret, _ = added(server, "--protocol", "imap")
    with session(server, password=secret) as wire:
        assert wire.append(b"INBOX", b"Subject: may write\r\n\r\ntext\r\n").status == b"OK"
    with pytest.raises(poplib.error_proto):
        pop(server, server.user, secret)
    secret, _ = added(server, "--read-only")
    with session(server, password=secret, mailbox=b"") as wire:
        answer = wire.command(b"SELECT INBOX")
        assert answer.tagged.split()[2] == b"[READ-ONLY]"
        before = wire.command(b"UID FETCH 1:* (FLAGS)").untagged
        for command in (
            b"STORE 1 +FLAGS (\\Deleted)",
            b"EXPUNGE",
            b"COPY 1 Archive",
            b"MOVE 1 Archive",
            b"CREATE new",
            b"RENAME Archive Elsewhere",
            b"DELETE Archive",
            b"SUBSCRIBE new",
        ):
            assert wire.command(command).status == b"NO", command
        assert wire.append(b"INBOX", b"Subject: may not\r\n\r\ntext\r\n").status == b"NO"
        assert wire.command(b"FETCH 1 (BODY[])").status == b"OK"
        assert wire.command(b"UID FETCH 1:* (FLAGS)").untagged == before, "not even \\Seen"
    maildrop = pop(server, server.user, secret)
    with pytest.raises(poplib.error_proto):
        maildrop.dele(1)
    maildrop.close()


def test_an_account_comes_and_goes(server: Server) -> None:
    """Added while serving it takes mail and logins; deleted it ends its sessions and leaves no file."""
    user = "grace@localhost"
    server.cli("account", "add", user, "--password-stdin", stdin=PASSWORD + "\n")
    server.deliver(b"Subject: welcome\r\n\r\ntext\r\n", to=user)
    folder = Path(server.cli("account", "show", user)["folder"])
    assert folder.is_dir()
    wires = [session(server, user=user, password=PASSWORD) for _ in range(4)]
    maildrop = pop(server, user, PASSWORD)
    assert maildrop.stat()[0] == 1
    idle(wires[0])
    server.deliver(b"Subject: once more\r\n\r\ntext\r\n", to=user)
    assert wires[0].until(b"* 2 EXISTS").tagged
    answer = server.cli("account", "delete", user, "--yes")
    assert answer["deleted"] == user
    for wire in wires:
        wire.socket.settimeout(PROMPT_S)
        assert wire.until(b"* BYE").tagged
        wire.close()
    with pytest.raises((poplib.error_proto, OSError, EOFError)):
        for _ in range(3):
            maildrop.retr(1)
    maildrop.close()
    eventually(lambda: not folder.exists())
    assert log_in(server, user, PASSWORD, "127.0.2.2") == b"NO"
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        server.deliver(b"Subject: too late\r\n\r\ntext\r\n", to=user)
    # The same name again is another account, with nothing of the first.
    server.cli("account", "add", user, "--password-stdin", stdin=PASSWORD + "\n")
    with session(server, user=user, password=PASSWORD) as wire:
        assert wire.command(b"STATUS INBOX (MESSAGES)").untagged[-1].endswith(b"(MESSAGES 0)")
    server.cli("account", "delete", user, "--yes")
    assert "Traceback" not in server.errors()


def test_a_changed_password(server: Server) -> None:
    """`account passwd` while serving: the new one opens, the old one does not, a disabled account neither."""
    user = "ada@localhost"
    server.cli("account", "add", user, "--password-stdin", stdin=PASSWORD + "\n")
    with session(server, user=user, password=PASSWORD):
        server.cli("account", "passwd", user, "--password-stdin", stdin=f"{PASSWORD}\n{PASSWORD} 2\n")
        assert log_in(server, user, PASSWORD, "127.0.2.3") == b"NO"
        assert log_in(server, user, PASSWORD + " 2", "127.0.2.4") == b"OK"
    server.cli("account", "disable", user)
    assert log_in(server, user, PASSWORD + " 2", "127.0.2.5") == b"NO"
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        server.deliver(b"Subject: disabled\r\n\r\ntext\r\n", to=user)
    server.cli("account", "enable", user)
    client: imaplib.IMAP4_SSL = server.imap(user, PASSWORD + " 2")
    client.logout()


def test_an_account_is_vacuumed_while_its_user_is_in(server: Server) -> None:
    """Sessions on all workers end with BYE, mail is delivered meanwhile, and the next login has all of it."""
    sessions = one_on_each(server)
    count = int(
        next(iter(sessions.values())).command(b"STATUS INBOX (MESSAGES)").untagged[-1].split()[-1][:-1]
    )
    for wire in sessions.values():
        idle(wire)
    done = server.cli("account", "vacuum", server.user, "--password-stdin", stdin=server.password + "\n")
    server.deliver(b"Subject: afterwards\r\n\r\ntext\r\n")
    assert done["after_bytes"] <= done["before_bytes"]
    for wire in sessions.values():
        assert wire.until(b"* BYE").tagged
        wire.close()
    with session(server) as again:
        assert int(again.command(b"STATUS INBOX (MESSAGES)").untagged[-1].split()[-1][:-1]) == count + 1


def test_an_account_gets_a_new_master_key_while_its_user_is_in(server: Server) -> None:
    """Sessions on all workers end with BYE, an app password opens nothing any more, and every message that
    was answered 250 before, meanwhile and afterwards is there once."""
    user = "eve@localhost"
    server.cli("account", "add", user, "--password-stdin", stdin=PASSWORD + "\n")
    secret, _ = added(server, user=user, password=PASSWORD)
    sessions = one_on_each(server, user=user, password=PASSWORD)
    for wire in sessions.values():
        idle(wire)
    taken: list[int] = []
    enough = threading.Event()

    def deliver_on_and_on() -> None:
        while not enough.is_set():
            server.deliver(b"Subject: number %d\r\n\r\ntext\r\n" % len(taken), to=user)
            taken.append(len(taken))

    sender = threading.Thread(target=deliver_on_and_on)
    sender.start()
    try:
        eventually(lambda: len(taken) > 3)
        done = server.cli("account", "rekey", user, "--password-stdin", stdin=PASSWORD + "\n")
        after = len(taken)
        eventually(lambda: len(taken) > after + 3)
    finally:
        enough.set()
        sender.join()
    assert done["finished"] and done["revoked_app_passwords"] == ["test"]
    for wire in sessions.values():
        assert wire.until(b"* BYE").tagged
        wire.close()
    assert log_in(server, user, secret, "127.0.2.9") == b"NO"
    with session(server, user=user, password=PASSWORD) as again:
        answer = again.command(b"UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    found = re.findall(rb"Subject: number (\d+)", b"".join(answer.untagged))
    assert sorted(map(int, found)) == taken
    folder = Path(server.cli("account", "show", user)["folder"])
    assert all(path.name.startswith("0000000000000000-") for path in (folder / "inbox").iterdir())
    assert "damaged" not in server.errors()
    server.cli("account", "delete", user, "--yes")
