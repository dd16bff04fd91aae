"""What every format has to keep: what goes out comes back as it was, once, and nothing else is touched."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transfer_world import ALL_FLAGS, NONE, SEEN, TransferWorld, difficult_mail

from mailstore.account import account_paths
from mailstore.model import Flags, SystemFlag
from mailstore.ops import messages
from mailstore.sealed import Facts, deliver, new_sealed_id, seal
from mailstore.transfer.eml_source import EmlSource
from mailstore.transfer.eml_target import EmlTarget
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.maildir_target import MaildirTarget
from mailstore.transfer.manifest import MANIFEST
from mailstore.transfer.mbox_source import MboxSource
from mailstore.transfer.mbox_target import MboxTarget
from mailstore.transfer.target import TargetUnusable
from mailstore.uidset import UidSet

MIB = 1024 * 1024
FORMATS = {
    "mbox": (MboxTarget, MboxSource),
    "maildir": (MaildirTarget, MaildirSource),
    "eml": (EmlTarget, EmlSource),
}
kinds = pytest.mark.parametrize("kind", FORMATS)


def target(kind: str, folder: Path):
    """What writes the format."""
    return FORMATS[kind][0](folder)


def source(kind: str, folder: Path):
    """What reads the format."""
    return FORMATS[kind][1](folder, MIB)


def same(world: TransferWorld) -> bool:
    """Whether Bob has what Ada has."""
    return world.contents("bob") == world.contents("ada")


@kinds
def test_mail_comes_back_as_it_went(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """Bytes, flags, keywords, dates, order, names and subscriptions, of whatever a mailbox may hold."""
    world.fill("ada", difficult_mail())
    exported = world.take_out("ada", target(kind, tmp_path / "out"))
    assert world.progress.done == world.progress.expected
    imported = world.take_in("bob", source(kind, tmp_path / "out"))
    assert same(world)
    assert world.subscriptions("bob") == world.subscriptions("ada")
    assert (imported.messages, imported.unusable_count) == (exported.messages, 0)
    assert world.progress.done == world.progress.expected
    again = world.take_in("bob", source(kind, tmp_path / "out"))
    assert (again.messages, again.already_there) == (0, exported.messages)


@kinds
def test_many_keywords_come_back(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """More than a Maildir has letters for."""
    mail = [
        (b"Subject: %d\r\n\r\n" % at, Flags(SEEN.system, (f"k{at}", f"k{at + 1}")), at) for at in range(60)
    ]
    world.fill("ada", {"A": mail, "B": [(b"", Flags(SystemFlag.NONE, ("k1", "other")), 0)]})
    world.take_out("ada", target(kind, tmp_path / "out"))
    world.take_in("bob", source(kind, tmp_path / "out"))
    assert {len(flags.keywords) for _, flags, _ in world.contents("bob")["A"]} == {2}
    assert {name: set(map(repr, mail)) for name, mail in world.contents("bob").items()} == {
        name: set(map(repr, mail)) for name, mail in world.contents("ada").items()
    }


@kinds
def test_only_the_owner_can_read_an_export(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """Files 0600, folders 0700, whatever the umask."""
    world.fill("ada", {"A/B": [(b"x", NONE, 0)]})
    world.take_out("ada", target(kind, tmp_path / "out"))
    found = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o600}
    assert not [path for path in found if path.name.endswith(".partial")]


@kinds
def test_an_export_goes_nowhere_else(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """Not into a folder of other things, another account's export or another format's."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_bytes(b"precious")
    with pytest.raises(TargetUnusable):
        world.take_out("ada", target(kind, tmp_path / "full"))
    world.take_out("ada", target(kind, tmp_path / "out"))
    other = "eml" if kind == "mbox" else "mbox"
    for name, wanted, update in (("bob", kind, True), ("ada", kind, False), ("ada", other, True)):
        with pytest.raises(TargetUnusable):
            world.take_out(name, target(wanted, tmp_path / "out"), update=update)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]


@kinds
def test_a_complete_export_is_brought_up_to_date(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """New messages, other flags, what was expunged, a mailbox that is gone; nothing is written twice."""
    three = [(b"Subject: %d\r\n\r\n" % at, NONE, at) for at in range(3)]
    world.fill("ada", {"A": three, "B": three, "Gone": three, "Gone/below": three})
    world.take_out("ada", target(kind, tmp_path / "out"))
    with world.opened("ada") as account:
        account.database.write(0, change)
    world.fill("ada", {"B": [(b"new", ALL_FLAGS, 9)]})
    done = world.take_out("ada", target(kind, tmp_path / "out"), update=True)
    assert done.messages == 9
    assert done.written == (3 if kind == "mbox" else 1)
    world.take_in("bob", source(kind, tmp_path / "out"))
    found = world.contents("bob")
    assert found.pop("Gone") == []  # made again, because there is a mailbox below it
    assert found == world.contents("ada")


def change(txn) -> None:
    """Expunge the first message of B, flag the second, delete Gone but not what is below it."""
    ids = dict(txn.rows("SELECT name, id FROM mailbox"))
    messages.expunge_unconditionally(txn, ids["B"], UidSet.of([1]))
    txn.run("UPDATE placed SET flags = 5 WHERE mailbox_id = ? AND uid = 2", (ids["B"],))
    txn.run("UPDATE mailbox SET highest_modseq = highest_modseq + 1 WHERE id = ?", (ids["B"],))
    messages.remove_all(txn, ids["Gone"])
    txn.run("DELETE FROM mailbox WHERE id = ?", (ids["Gone"],))
    txn.run("DELETE FROM subscription WHERE name = 'Gone'")


@kinds
@pytest.mark.parametrize("after", range(6))
def test_an_export_that_was_interrupted_goes_on(
    world: TransferWorld, tmp_path: Path, kind: str, after: int
) -> None:
    """Wherever it ended, a mailbox that is not whole is not counted, and nothing is missing afterwards."""
    two = [(b"Subject: %d\r\n\r\n" % at, ALL_FLAGS, at) for at in range(2)]
    world.fill("ada", {"A": two, "B": two, "C": two})
    left = [after]

    class Dying(FORMATS[kind][0]):  # type: ignore[misc]
        def mailbox(self, leaving):
            writer = super().mailbox(leaving)
            add = writer.add

            def add_or_die(facts, data):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                add(facts, data)

            writer.add = add_or_die
            return writer

    with pytest.raises(KeyboardInterrupt):
        world.take_out("ada", Dying(tmp_path / "out"))
    world.take_in("bob", source(kind, tmp_path / "out"))
    assert sum(map(len, world.contents("bob").values())) == after // 2 * 2
    done = world.take_out("ada", target(kind, tmp_path / "out"))
    assert done.messages == 6
    assert done.written == (6 - after // 2 * 2 if kind == "mbox" else 6 - after)
    world.take_in("bob", source(kind, tmp_path / "out"))
    assert same(world)
    assert not list((tmp_path / "out").rglob("*.partial"))


@kinds
def test_files_of_others_in_an_export_stay(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """Dovecot may deliver into a Maildir that was exported; somebody may keep a note."""
    world.fill("ada", {"A": [(b"x", NONE, 0)]})
    world.take_out("ada", target(kind, tmp_path / "out"))
    (tmp_path / "out" / "note").write_bytes(b"x")
    theirs = {"mbox": "A.sbd/x", "maildir": ".A/cur/1.theirs:2,", "eml": "A/theirs.eml"}[kind]
    (tmp_path / "out" / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / theirs).write_bytes(b"precious")
    with world.opened("ada") as account:
        account.database.write(0, lambda txn: txn.run("DELETE FROM placed"))
        account.database.write(0, lambda txn: txn.run("DELETE FROM mailbox WHERE name = 'A'"))
    world.take_out("ada", target(kind, tmp_path / "out"), update=True)
    assert (tmp_path / "out" / theirs).read_bytes() == b"precious"
    assert (tmp_path / "out" / "note").exists()
    world.take_in("bob", source(kind, tmp_path / "out"))
    assert not world.contents("bob").get("A")


@kinds
def test_a_manifest_leads_nowhere_else(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """An export that somebody has changed imports nothing from outside its folder."""
    world.fill("ada", {"A": [(b"From x", NONE, 0)]})
    for name in ("out", "elsewhere"):
        world.take_out("ada", target(kind, tmp_path / name))
    manifest = tmp_path / "out" / MANIFEST
    path = {"mbox": "A.mbox", "maildir": ".A", "eml": "A"}[kind]
    text = manifest.read_text()
    assert f'"{path}"' in text
    manifest.write_text(text.replace(f'"{path}"', f'"../elsewhere/{path}"'))
    world.take_in("bob", source(kind, tmp_path / "out"))
    assert not world.contents("bob").get("A")
    manifest.write_text("{" * 100_000)
    world.take_in("bob", source(kind, tmp_path / "out"))  # as any folder of that format


@kinds
def test_a_restored_account_is_written_anew(world: TransferWorld, tmp_path: Path, kind: str) -> None:
    """Its UIDs may mean other messages than those that were exported."""
    world.fill("ada", {"A": [(b"Subject: a\r\n\r\n", NONE, 0)]})
    world.take_out("ada", target(kind, tmp_path / "out"))

    def restored(txn) -> None:
        txn.run("UPDATE mailbox SET uid_validity = uid_validity + 1000")
        messages.remove_all(txn, txn.value("SELECT id FROM mailbox WHERE name = 'A'"))
        txn.run("UPDATE mailbox SET uid_next = 1")

    with world.opened("ada") as account:
        account.database.write(0, restored)
    world.fill("ada", {"A": [(b"Subject: b\r\n\r\n", NONE, 0)]})
    world.take_out("ada", target(kind, tmp_path / "out"), update=True)
    world.take_in("bob", source(kind, tmp_path / "out"))
    assert same(world)


def test_mail_that_waits_is_exported(world: TransferWorld, tmp_path: Path) -> None:
    """Sealed mail of an account that nobody has ever logged in to is filed, once, and damaged mail stays."""
    record = world.add_account("eve")
    inbox = account_paths(world.root, record.account_id).inbox
    sent = [b"Subject: %d\r\n\r\n" % at for at in range(250)]
    for at, data in enumerate(sent):
        sealed_id = new_sealed_id()
        blob = seal(record.public_key, record.account_id, sealed_id, data, Facts(at))
        deliver(inbox, sealed_id, blob[: -1 if at == 7 else None])
    assert world.take_out("eve", EmlTarget(tmp_path / "out")).messages == 249
    assert not [path for path in inbox.iterdir() if path.name.endswith(".sealed")]
    found = world.contents("eve")["INBOX"]
    assert {data for data, _, _ in found} == {*sent} - {sent[7]}
    assert world.take_out("eve", EmlTarget(tmp_path / "out"), update=True).messages == 249


@kinds
def test_what_is_damaged_is_named_and_all_else_is_exported(
    world: TransferWorld, tmp_path: Path, kind: str
) -> None:
    """Some pages of the disk are lost, and with them the messages that were on them, no others."""
    chance = random.Random(1)
    mail = [(b"Subject: %d\r\n\r\n" % at + chance.randbytes(20_000), SEEN, at) for at in range(30)]
    world.fill("ada", {"A": mail})
    with world.opened("ada") as account:
        path = account.paths.mail_db
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for part in range(3, 9):  # in tenths; most pages are of messages
            file.seek(pages * part // 10 * 4096)
            file.write(bytes(4096))
    done = world.take_out("ada", target(kind, tmp_path / "out"))
    assert 3 <= done.damaged_count == len(done.damaged) <= 6
    assert done.messages == 30 - done.damaged_count
    assert all(one.startswith("'A', UID ") for one in done.damaged)
    world.take_in("bob", source(kind, tmp_path / "out"))
    lost = {int(one.rpartition(" ")[2]) for one in done.damaged}
    assert world.contents("bob")["A"] == [one for uid, one in enumerate(mail, 1) if uid not in lost]
