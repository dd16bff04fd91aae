"""What the log says about damaged files: which account, which file, where to read on; never an address."""

from __future__ import annotations

import logging
import random

import pytest
from store_world import NAME, TINY, World, now

from mailstore import damage, errors
from mailstore.account import NewAccount, create_account
from mailstore.keys import KEYS_FILE
from mailstore.model import AccessProtocol, NewMessage

PAGE = 4096
READ_ON = 'see deploy/OPERATIONS.md, "An account is damaged"'


@pytest.fixture(autouse=True)
def at_error(caplog: pytest.LogCaptureFixture) -> None:
    """All that an operator reads without asking for more."""
    caplog.set_level(logging.INFO)


@pytest.fixture
def closed(world: World) -> World:
    """An account with mail whose database is closed and checkpointed."""
    account, chance = world.login(), random.Random(1)
    for _ in range(30):
        text = b"Subject: a\r\n\r\n" + chance.randbytes(4000).hex().encode()
        now(account.append("INBOX", [NewMessage(text)]))
    account.release_at_once()
    world.clock.advance(0)
    assert not world.paths.wal.exists()
    return world


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, and that nobody's address is in it."""
    assert NAME.decode() not in caplog.text
    return [record.getMessage() for record in caplog.records]


def overwrite(world: World, first: int, pages: int) -> None:
    """Put zeros where pages were, the first being 1."""
    with world.paths.mail_db.open("r+b") as file:
        file.seek((first - 1) * PAGE)
        file.write(bytes(pages * PAGE))


def test_a_damaged_database_is_named_with_its_account_once_an_opening(
    closed: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Every statement of every connection meets it, and one line says so."""
    overwrite(closed, 3, closed.paths.mail_db.stat().st_size // PAGE - 2)
    account_id = closed.paths.folder.name
    with pytest.raises(errors.DatabaseDamaged):
        closed.login()
    found = [line for line in lines(caplog) if "is damaged" in line]
    assert found == [f"account {account_id}: mail.db is damaged (code 11): {READ_ON}"]
    with pytest.raises(errors.DatabaseDamaged):
        closed.login()
    assert len([line for line in lines(caplog) if "is damaged" in line]) == 2


def test_a_session_that_meets_damage_again_and_again_is_told_of_once(
    closed: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Two connections of one opening, many commands: one line."""
    account = closed.login()
    overwrite(closed, 3, closed.paths.mail_db.stat().st_size // PAGE - 2)
    for _ in range(2):
        with pytest.raises(errors.DatabaseDamaged):
            now(account.append("INBOX", [NewMessage(b"Subject: a\r\n\r\n")]))
        with pytest.raises(errors.DatabaseDamaged):
            now(account.status("INBOX"))
    assert len([line for line in lines(caplog) if "is damaged" in line]) == 1


def test_a_database_that_is_none_any_more_is_named(closed: World, caplog: pytest.LogCaptureFixture) -> None:
    """Zeros from the first page on: SQLite calls that something else."""
    overwrite(closed, 1, 1)
    with pytest.raises(errors.DatabaseDamaged):
        closed.login()
    account_id = closed.paths.folder.name
    assert f"account {account_id}: mail.db is damaged (code 26): {READ_ON}" in lines(caplog)


@pytest.mark.parametrize("octets", [bytes(200), b"x"])
def test_a_damaged_key_header_is_named(
    closed: World, caplog: pytest.LogCaptureFixture, octets: bytes
) -> None:
    """Zeros, or one octet at its end: the user is told to call the operator, who has to find it."""
    keys = closed.paths.folder / KEYS_FILE
    keys.write_bytes(keys.read_bytes()[: -len(octets)] + octets)
    with pytest.raises(errors.HeaderTampered):
        closed.login()
    account_id = closed.paths.folder.name
    assert f"account {account_id}: keys is damaged or was exchanged: {READ_ON}" in lines(caplog)


def test_strangers_fill_no_log_with_a_damaged_key_header(
    closed: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once a minute, however many try the name with whatever secret; of each account."""
    now_s = 1_000_000.0
    monkeypatch.setattr(damage.time, "monotonic", lambda: now_s)
    create_account(closed.root, closed.directory, NewAccount("bob@example.org", b"any"), params=TINY)
    for keys in closed.root.glob("accounts/*/*/keys"):
        keys.write_bytes(b"rubbish")
    for _ in range(3):
        for name in (NAME, b"bob@example.org"):
            with pytest.raises(errors.HeaderTampered):
                now(closed.store.login(name, b"wrong", AccessProtocol.IMAP))
    assert len([line for line in lines(caplog) if "keys is damaged" in line]) == 2
    now_s += damage.TELL_AGAIN_S
    with pytest.raises(errors.HeaderTampered):
        closed.login()
    assert len([line for line in lines(caplog) if "keys is damaged" in line]) == 3


def test_a_damaged_waiting_message_is_named(closed: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is kept, and the log says where."""
    closed.deliver(b"Subject: b\r\n\r\n")
    (sealed,) = closed.paths.inbox.iterdir()
    sealed.write_bytes(sealed.read_bytes()[:-1])
    closed.login()
    account_id = closed.paths.folder.name
    said = f"account {account_id}: inbox/{sealed.stem}.damaged is kept and cannot be opened: {READ_ON}"
    assert said in lines(caplog)
    assert [one.name for one in closed.paths.inbox.iterdir()] == [f"{sealed.stem}.damaged"]
