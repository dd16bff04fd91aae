"""sealbox account check: every flaw is found, what is derived is made anew, and no message is ever lost."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner
from transfer_world import DIFFICULT, PASSWORD, SEEN, TINY, Silent, TransferWorld, difficult_mail

from deploy.cli import root as root_module
from deploy.cli import transfer
from deploy.cli.main import main
from mailstore.account_check import Checked, check_account
from mailstore.flaws import Flaw
from mailstore.locks import locked
from mailstore.model import MailboxName
from mailstore.opened_account import opened_account
from mailstore.ops import mailboxes, messages
from mailstore.prepared import FRAME_BYTES, ReadyMessage, compress, prepare
from mailstore.uidset import UidSet

LONG = b"Subject: long\r\n\r\n" + bytes(range(256)) * (2 * FRAME_BYTES // 256 + 5)
KEPT_OF_1 = "SELECT * FROM message_meta WHERE message_id = 1"
Damage = Sequence[str]


@pytest.fixture
def filled(world: TransferWorld) -> TransferWorld:
    """Ada has difficult mail, one message that lies in two mailboxes, and a long one."""
    mail = difficult_mail()
    mail["Long"] = [(LONG, SEEN, 1)]
    world.fill("ada", mail)
    return world


def checked(world: TransferWorld, *, repair: bool = False) -> Checked:
    """Check Ada's account."""
    done = Checked()
    with opened_account(world.wanted("ada"), writes=repair) as account:
        check_account(account, account.wanted.mime, Silent(), done, repair=repair)
    return done


def damage(world: TransferWorld, *statements: str) -> None:
    """Change the database as no program would."""

    def change(txn) -> None:
        for statement in statements:
            txn.run(statement)

    with world.opened("ada") as account:
        account.database.pragma("PRAGMA foreign_keys=OFF")
        account.database.write(1_000, change)


def rows(world: TransferWorld, sql: str):
    """What a query says."""
    with world.opened("ada") as account:
        return account.database.read(0, lambda txn: txn.rows(sql))


def shapes(done: Checked) -> dict[Flaw, tuple[int, int]]:
    """How often each flaw was found, and repaired."""
    return {flaw: (tally.count, tally.repaired) for flaw, tally in done.flaws.items()}


def test_a_healthy_account_has_no_flaws(filled: TransferWorld) -> None:
    """Whatever is in the messages; and a repair changes nothing at all."""
    before = filled.contents("ada")
    done = checked(filled)
    assert (done.flaws, done.outdated, done.is_sound) == ({}, 0, True)
    assert done.messages == sum(map(len, before.values()))
    assert done.mailboxes == len(before)
    kept = rows(filled, "SELECT * FROM placed"), rows(filled, "SELECT * FROM mailbox")
    repaired = checked(filled, repair=True)
    assert (repaired.flaws, repaired.renewed) == ({}, 0)
    assert (rows(filled, "SELECT * FROM placed"), rows(filled, "SELECT * FROM mailbox")) == kept


GONE = "DELETE FROM sqlite_master WHERE name = 'placed_deleted'"
LONG_ID = "(SELECT max(id) FROM message)"
DERIVED: dict[str, tuple[Flaw, Damage]] = {
    "a counter": (Flaw.COUNTERS, ["UPDATE mailbox SET unseen = unseen + 1 WHERE name = 'INBOX'"]),
    "a size of a mailbox": (Flaw.COUNTERS, ["UPDATE mailbox SET size_bytes = 0 WHERE name = 'INBOX'"]),
    "uid_next": (Flaw.UIDS, ["UPDATE mailbox SET uid_next = 3 WHERE name = 'INBOX'"]),
    "uid_next below expunged": (Flaw.UIDS, ["INSERT INTO expunged VALUES(1, 1, 5000)"]),
    "highest_modseq": (Flaw.MODSEQS, ["UPDATE placed SET modseq = 900 WHERE mailbox_id = 1 AND uid = 2"]),
    "no answers": (Flaw.ANSWERS, ["DELETE FROM message_meta WHERE message_id = 1"]),
    "a tree of nothing": (Flaw.ANSWERS, ["UPDATE message_meta SET parts = x'ff00' WHERE message_id = 1"]),
    "a header's size": (Flaw.FACTS, ["UPDATE message SET header_bytes = 7 WHERE id = 1"]),
    "a message's size": (Flaw.FACTS, ["UPDATE message SET size_bytes = 1 << 60 WHERE id = 1"]),
    "stray rows": (Flaw.STRAY_ROWS, ["INSERT INTO kept_fields VALUES(999, 0, x'')"]),
    "a keyword of nothing": (Flaw.STRAY_ROWS, ["INSERT INTO keyword VALUES(999, 'x')"]),
    "not listed": (
        Flaw.STRAY_CONTENT,
        ["DELETE FROM message_meta WHERE message_id = 1", "DELETE FROM message WHERE id = 1"],
    ),
    "a long one not listed": (Flaw.STRAY_CONTENT, [f"DELETE FROM message WHERE id = {LONG_ID}"]),
}


@pytest.mark.parametrize("name", DERIVED)
def test_what_is_derived_is_made_anew_from_the_messages(filled: TransferWorld, name: str) -> None:
    """It is found, repaired only when asked for, and afterwards everything is as it was before the damage."""
    flaw, statements = DERIVED[name]
    before, kept = filled.contents("ada"), rows(filled, KEPT_OF_1)
    uids = rows(filled, "SELECT mailbox_id, uid, message_id FROM placed")
    damage(filled, *statements)
    found = checked(filled)
    assert flaw in found.flaws
    assert not found.is_sound
    assert not any(tally.repaired for tally in found.flaws.values())
    assert checked(filled).flaws == found.flaws, "a check without repair changes nothing"
    repaired = checked(filled, repair=True)
    assert repaired.is_sound
    assert flaw in repaired.flaws
    assert checked(filled).flaws == {}
    assert filled.contents("ada") == before
    assert rows(filled, KEPT_OF_1) == kept
    assert rows(filled, "SELECT mailbox_id, uid, message_id FROM placed") == uids


LOST: dict[str, tuple[Flaw, Damage]] = {
    "a frame": (Flaw.CONTENT, [f"DELETE FROM content WHERE id = {LONG_ID} << 16 | 1"]),
    "the last frame": (Flaw.CONTENT, [f"DELETE FROM content WHERE id = {LONG_ID} << 16 | 3"]),
    "all frames": (Flaw.CONTENT, [f"DELETE FROM content WHERE id >> 16 = {LONG_ID}"]),
    "no frame at all": (Flaw.CONTENT, [f"UPDATE content SET frame = x'00' WHERE id = {LONG_ID} << 16 | 1"]),
    "another frame": (
        Flaw.CONTENT,
        [f"UPDATE content SET frame = x'{compress(b'x').hex()}' WHERE id = {LONG_ID} << 16 | 2"],
    ),
    "an order": (
        Flaw.CONTENT,
        [
            f"UPDATE content SET id = 1 << 60 WHERE id = {LONG_ID} << 16 | 2",
            f"UPDATE content SET id = {LONG_ID} << 16 | 2 WHERE id = {LONG_ID} << 16 | 3",
            f"UPDATE content SET id = {LONG_ID} << 16 | 3 WHERE id = 1 << 60",
        ],
    ),
    "the message behind a place": (
        Flaw.STRAY_ROWS,
        [
            f"DELETE FROM content WHERE id >> 16 = {LONG_ID}",
            f"DELETE FROM message_meta WHERE message_id = {LONG_ID}",
            f"DELETE FROM kept_fields WHERE message_id = {LONG_ID}",
            f"DELETE FROM message WHERE id = {LONG_ID}",
        ],
    ),
    "a part of what is not listed": (
        Flaw.STRAY_CONTENT,
        [
            f"DELETE FROM content WHERE id = {LONG_ID} << 16 | 3",
            f"DELETE FROM message WHERE id = {LONG_ID}",
        ],
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_named_and_left_as_it_is(filled: TransferWorld, name: str) -> None:
    """No repair makes a message shorter, or takes away what is left of it."""
    flaw, statements = LOST[name]
    damage(filled, *statements)
    content = rows(filled, "SELECT * FROM content"), rows(filled, "SELECT * FROM placed")
    listed = rows(filled, "SELECT * FROM message")
    done = checked(filled, repair=True)
    assert done.flaws[flaw].count > done.flaws[flaw].repaired
    assert not done.is_sound
    assert (rows(filled, "SELECT * FROM content"), rows(filled, "SELECT * FROM placed")) == content
    assert rows(filled, "SELECT * FROM message") == listed


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM placed WHERE message_id = 1",
        "UPDATE placed SET mailbox_id = 999 WHERE message_id = 1",
    ],
)
def test_a_message_in_no_mailbox_is_put_into_one(filled: TransferWorld, statement: str) -> None:
    """Twice does not matter: the mailbox may be there already."""
    (data, _flags, _date) = filled.contents("ada")["INBOX"][0]
    damage(filled, statement)
    assert Flaw.UNPLACED in checked(filled).flaws
    assert checked(filled, repair=True).is_sound
    assert [one[0] for one in filled.contents("ada")["Recovered"]] == [data]
    damage(filled, "DELETE FROM placed WHERE message_id = 2")
    assert checked(filled, repair=True).is_sound
    assert [one[0] for one in filled.contents("ada")["Recovered"]] == [data, DIFFICULT[1]]
    assert checked(filled).flaws == {}


def test_an_index_that_misses_rows_is_rebuilt(filled: TransferWorld) -> None:
    """So that EXPUNGE finds what it has to remove."""
    damage(
        filled,
        "CREATE TABLE aside AS SELECT * FROM sqlite_master WHERE name = 'placed_deleted'",
    )
    with filled.opened("ada") as account:
        account.database.pragma("PRAGMA writable_schema=ON")
        account.database.write(
            0, lambda txn: txn.run("DELETE FROM sqlite_master WHERE name='placed_deleted'")
        )
        account.database.pragma("PRAGMA writable_schema=RESET")
        account.database.write(0, lambda txn: txn.run("UPDATE placed SET flags = flags | 8 WHERE uid = 1"))
        account.database.pragma("PRAGMA writable_schema=ON")
        account.database.write(0, lambda txn: txn.run("INSERT INTO sqlite_master SELECT * FROM aside"))
        account.database.pragma("PRAGMA writable_schema=RESET")
        account.database.write(0, lambda txn: txn.run("DROP TABLE aside"))
    assert shapes(checked(filled)) == {Flaw.STRUCTURE: (1, 0)}
    assert shapes(checked(filled, repair=True)) == {Flaw.STRUCTURE: (1, 1)}
    assert checked(filled).flaws == {}


def test_outdated_answers_are_no_damage_and_renewed(filled: TransferWorld) -> None:
    """Another version, or other limits, may have kept something else, or nothing."""
    damage(
        filled,
        "UPDATE message_meta SET sort_subject = 'other' WHERE message_id = 1",
        "DELETE FROM kept_fields WHERE message_id IN (1, 2)",
    )
    done = checked(filled)
    assert (done.flaws, done.outdated, done.renewed) == ({}, 2, 0)
    done = checked(filled, repair=True)
    assert (done.flaws, done.outdated, done.renewed) == ({}, 2, 2)
    assert checked(filled).outdated == 0


@pytest.mark.parametrize("free", [False, True])
def test_nothing_is_repaired_where_a_page_is_damaged(filled: TransferWorld, free: bool) -> None:
    """What cannot be read might be taken for gone: the counters stay wrong."""
    filled.fill("ada", {"Random": [(b"\r\n" + random.Random(1).randbytes(1_000_000), SEEN, 1)]})
    if free:
        with filled.opened("ada") as account:
            account.database.write(0, mailboxes.delete, MailboxName("Random"))
    damage(filled, "UPDATE mailbox SET unseen = 99 WHERE name = 'INBOX'")
    (path,) = (filled.root / "accounts").rglob("mail.db")
    with path.open("r+b") as file:
        file.seek(-100 * 4096, os.SEEK_END)  # the message came last, and its text fills pages of its own
        file.write(bytes(8))
    done = checked(filled, repair=True)
    assert done.flaws[Flaw.PAGES].count == 1
    assert (Flaw.UNREADABLE in done.flaws) is not free
    assert not any(tally.repaired for tally in done.flaws.values())
    assert rows(filled, "SELECT unseen FROM mailbox WHERE name = 'INBOX'") == [(99,)]


def test_a_search_index_in_use_stays(filled: TransferWorld) -> None:
    """It is thrown away only where nobody has it open."""
    with filled.opened("ada") as account:
        paths = account.paths
    paths.search_db.write_bytes(b"x")
    with locked(paths.search_users_lock, exclusive=False):
        assert not checked(filled, repair=True).index_removed
        assert paths.search_db.exists()
    assert checked(filled, repair=True).index_removed
    assert not paths.search_db.exists()


class Meddling(Silent):
    """Between two messages somebody else expunges one and files another."""

    def __init__(self, database):
        super().__init__()
        self._database = database

    def advance(self, size_bytes):
        """Change the mailbox."""
        super().advance(size_bytes)
        self._database.write(1_000, self._change)

    @staticmethod
    def _change(txn):
        last = txn.value("SELECT max(uid) FROM placed WHERE mailbox_id = 1")
        messages.expunge_unconditionally(txn, 1, UidSet(((last, last),)))
        messages.add_messages(txn, 1, [ReadyMessage(prepare(b"Subject: new\r\n\r\nx"), SEEN, 1)])


@pytest.mark.parametrize("repair", [False, True])
def test_changes_while_it_looks_are_no_flaws(filled: TransferWorld, repair: bool) -> None:
    """The server runs and the user is in: what was there when it began may be gone, and more be there."""
    done = Checked()
    with filled.opened("ada") as other, opened_account(filled.wanted("ada"), writes=repair) as account:
        check_account(account, account.wanted.mime, Meddling(other.database), done, repair=repair)
    assert done.flaws == {}
    assert done.messages > 0


def test_memory_holds_few_examples_however_many_flaws(world: TransferWorld) -> None:
    """Ten of each kind are named."""
    world.fill("ada", {"INBOX": [(b"x", SEEN, 1)] * 30})
    damage(world, "DELETE FROM message_meta")
    tally = checked(world).flaws[Flaw.ANSWERS]
    assert (tally.count, tally.examples) == (30, list(range(1, 11)))


@pytest.fixture
def command(filled: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run sealbox account check on Ada's account."""
    monkeypatch.setattr(root_module, "argon2_params", lambda _config, _data: TINY)
    monkeypatch.setattr(transfer, "process_hardening", lambda: None)

    def run(*arguments: str, stdin: str = PASSWORD.decode() + "\n"):
        call = ["--data", str(filled.root), "account", "check", "ada@example.org", "--password-stdin"]
        result = CliRunner().invoke(main, [*call, *arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_says_what_is_wrong_and_exits_with_6(filled: TransferWorld, command: Callable) -> None:
    """One sentence for each finding, without a word of the mail; 0 when all could be repaired."""
    assert command()[0] == 0
    damage(filled, "UPDATE mailbox SET unseen = 99", "DELETE FROM message_meta WHERE message_id = 2")
    code, out, err = command()
    assert (code, err) == (6, "--repair mends what can be derived\n")
    assert out.splitlines()[0].startswith("NOT sound: ")
    assert "1, 0 repaired: what clients are told about messages is missing or unreadable (messages 2)" in out
    code, out, _err = command("--json", "--repair")
    found = json.loads(out)
    assert (code, found["sound"], found["search_index"]) == (0, True, "removed")
    assert found["flaws"]["answers"] == {"count": 1, "repaired": 1, "examples": [2]}
    assert command("--json", stdin="wrong\n")[0] == 4
