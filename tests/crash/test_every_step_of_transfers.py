"""kill -9 before every single step of an import and of exports: run again, they end as ever."""

from __future__ import annotations

import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from transfer_world import ALL, ALL_FLAGS, NONE, SEEN, Silent, TransferWorld

from mailstore.transfer import importing
from mailstore.transfer.eml_source import EmlSource
from mailstore.transfer.eml_target import EmlTarget
from mailstore.transfer.exporting import Exported, export_mail
from mailstore.transfer.importing import Imported, import_mail
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.maildir_target import MaildirTarget
from mailstore.transfer.manifest import read_manifest
from mailstore.transfer.mbox_source import MboxSource
from mailstore.transfer.mbox_target import MboxTarget
from mailstore.transfer.sqlite_target import SqliteTarget

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]
MIB = 1024 * 1024
MAIL = [
    (b"Subject: %d\r\n\r\nFrom here\r\n" % at, flags, at) for at, flags in enumerate((NONE, SEEN, ALL_FLAGS))
]
TARGETS = {"mbox": MboxTarget, "maildir": MaildirTarget, "eml": EmlTarget}
SOURCES = {"mbox": MboxSource, "maildir": MaildirSource, "eml": EmlSource}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A folder with a data root: Ada has two mailboxes, Bob none but INBOX."""
    world = TransferWorld(tmp_path / "template" / "data")
    for name in ("ada", "bob"):
        with world.opened(name) as account:
            account.database.write(0, lambda txn: txn.run("DELETE FROM mailbox WHERE name <> 'INBOX'"))
            account.database.write(0, lambda txn: txn.run("DELETE FROM subscription"))
    world.fill("ada", {"INBOX": MAIL, "A/B": MAIL[:1]})
    return tmp_path / "template"


def test_an_import_that_died_is_run_again(
    template: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole batches stay, and nothing is there twice."""
    monkeypatch.setattr(importing, "BATCH_MESSAGES", 2)
    TransferWorld.again(template / "data").take_out("ada", MaildirTarget(template / "out"))

    def take_in(folder: Path, _say: Say, begin: Begin) -> None:
        wanted = TransferWorld.again(folder / "data").wanted("bob")
        begin()
        import_mail(wanted, MaildirSource(folder / "out", MIB), ALL, Silent(), nullcontext, Imported())

    def check(folder: Path, _said: bytes) -> None:
        world = TransferWorld.again(folder / "data")
        found = world.contents("bob")
        assert len(found["INBOX"]) in (0, 2, 3)
        world.take_in("bob", MaildirSource(folder / "out", MIB))
        assert world.contents("bob") == world.contents("ada")

    assert each_step(template, place / "steps", take_in, check) > 20


@pytest.mark.parametrize("kind", TARGETS)
def test_an_export_that_died_is_run_again(template: Path, place: Path, kind: str) -> None:
    """What the manifest says is there is there, whole; the rest comes with the next run."""

    def take_out(folder: Path, _say: Say, begin: Begin) -> None:
        wanted = TransferWorld.again(folder / "data").wanted("ada")
        begin()
        export_mail(wanted, TARGETS[kind](folder / "out"), Silent(), nullcontext, Exported(), update=False)

    def check(folder: Path, _said: bytes) -> None:
        world = TransferWorld.again(folder / "data")
        manifest = read_manifest(folder / "out")
        whole = {"INBOX": 3, "A": 0, "A/B": 1}
        if manifest is not None:
            world.take_in("bob", SOURCES[kind](folder / "out", MIB))
            found = {name: len(mail) for name, mail in world.contents("bob").items() if mail}
            assert found == {name: whole[name] for name in manifest.mailboxes if whole[name]}
        if manifest is None or not manifest.complete:
            world.take_out("ada", TARGETS[kind](folder / "out"))
        world.take_in("bob", SOURCES[kind](folder / "out", MIB))
        assert world.contents("bob") == world.contents("ada")
        assert not [path for path in folder.rglob("*") if path.name.endswith((".partial", ".tmp"))]

    assert each_step(template, place / "steps", take_out, check) > 20


def test_an_export_into_one_file_that_died_is_run_again(template: Path, place: Path) -> None:
    """The file has its name once everything is in it."""

    def take_out(folder: Path, _say: Say, begin: Begin) -> None:
        wanted = TransferWorld.again(folder / "data").wanted("ada")
        begin()
        with closing(SqliteTarget(folder / "out.db")) as target:
            export_mail(wanted, target, Silent(), nullcontext, Exported(), update=False)

    def check(folder: Path, _said: bytes) -> None:
        world = TransferWorld.again(folder / "data")
        if not (folder / "out.db").exists():
            with closing(SqliteTarget(folder / "out.db")) as target:
                world.take_out("ada", target)
        with closing(sqlite3.connect(folder / "out.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = database.execute("SELECT data FROM message ORDER BY mailbox_id, uid").fetchall()
            assert sorted(data for (data,) in rows) == sorted(data for data, _, _ in [*MAIL, MAIL[0]])
        assert {one.name for one in folder.iterdir()} == {"data", "out.db"}

    assert each_step(template, place / "steps", take_out, check) > 20
