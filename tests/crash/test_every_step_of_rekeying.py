"""kill -9 or a power cut at any step of a change of an account's keys: it opens, with all that was in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import stepper
from copies import syncs_told, without_syncs_of_sqlite
from power import each_cut
from recorder import record
from rekey_world import MESSAGE, RekeyWorld, staged
from steps import Begin, Say, each_step

from mailstore.former_key import waiting_messages
from mailstore.ops.contents import TableContents
from mailstore.sealed import damaged_messages

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]
KEPT = ("mailbox", "annotation", "subscription", "placed", "message", "content")
"""Tables that a login without new mail leaves as they are."""


def filled(folder: Path) -> dict[str, TableContents]:
    """Make an account, close it, deliver a message that waits; what is in its database."""
    world = RekeyWorld(folder / "root")
    world.fill()
    found = world.contents()
    world.deliver(MESSAGE % (8, 8))
    world.close()
    return found


def rekey(folder: Path, say: Say, begin: Begin) -> None:
    """As ``sealbox account rekey`` does it."""
    world = RekeyWorld(folder / "root")
    begin()
    world.rekey()
    say(b"done")


def opens_whole(folder: Path, before: dict[str, TableContents]) -> RekeyWorld:
    """See that the password opens all that was there, and that nothing is left of what was interrupted."""
    again = RekeyWorld(folder / "root")
    with again.owned():
        pass
    assert "keys-new" not in staged(again.paths)
    after = again.contents()
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert not staged(again.paths)
    return again


def test_an_account_survives_a_change_of_its_keys(tmp_path: Path, place: Path) -> None:
    """It has old keys or new, mail that waited is filed, a second run works, and all is there each time."""
    before = filled(tmp_path / "template")
    new: set[bool] = set()

    def check(folder: Path, said: bytes) -> None:
        again = opens_whole(folder, before)
        with again.owned() as (_, keyring):
            is_new = not any(slot.label == "phone" for slot in keyring.slots())
        assert is_new or b"done" not in said
        new.add(is_new)
        again.deliver(MESSAGE % (9, 9))
        expected = ["0", "1", "2", "3", "8", "9"]
        assert again.subjects() == expected
        again.rekey()
        again.file_waiting()
        assert again.subjects() == expected
        assert waiting_messages(again.paths.inbox) == [] == damaged_messages(again.paths.inbox)
        again.close()

    assert each_step(tmp_path / "template", place / "steps", rekey, check) > 40
    assert new == {False, True}


def rekey_and_tell_syncs(folder: Path, say: Say, begin: Begin) -> None:
    """The same; see ``copies``."""
    with syncs_told(say):
        rekey(folder, say, begin)


def test_power_cut_in_a_change_of_keys(place: Path) -> None:
    """The new files take the old ones' names when all of them are on the disk, and not before."""
    root = place / "root"
    before = filled(root)
    made, _ = record(root, lambda say, begin: rekey_and_tell_syncs(root, say, begin))

    def check(folder: Path, _said: bytes) -> None:
        again = opens_whole(folder, before)
        assert again.subjects() == ["0", "1", "2", "3", "8"]
        assert damaged_messages(again.paths.inbox) == []
        again.close()

    assert each_cut(without_syncs_of_sqlite(made), place, check) > 20
