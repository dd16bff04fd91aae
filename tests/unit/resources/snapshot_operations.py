"""What the snapshot job and restores do."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from account_operations import TOUCH, TREE
from everything import (
    SERVER_KEY,
    Operation,
    Step,
    World,
    files,
)
from mail_operations import append_and_expunge, deliver

from backup.errors import ObjectStoreError
from backup.job import Places
from backup.key_rotation import finish, rotate
from backup.keypair import generate, read_private_key, read_public_key
from backup.reading import open_file
from backup.rebuild import Rebuilder, Rebuilt
from backup.restore import Restorer, list_store
from backup.retention import chains
from backup.segment import SegmentName
from backup.signing import Signer, Trust
from backup.state import Segment, State
from backup.store_s3 import find_credentials
from backup.verify import Verifier, expected_by_state
from mailstore import set_aside
from mailstore.account import init_root, open_directory, read_server_key
from mailstore.account_database import account_database
from mailstore.durable import storage_errors


def _copy_of(world: World) -> None:
    for folder in ("replaced", "backup/scratch/restore"):
        copy = world.root / folder / f"{world.account_id}-1"
        copy.mkdir(parents=True)
        shutil.copy(world.paths.keys, copy / "keys")


def _remove_expired(world: World) -> None:
    """The first look at their age, and the one when their time is over."""
    for now_s in (time.time() + 1, time.time() + 100):
        set_aside.remove_expired(world.root, now_s, 50)


def _look_for_copies(world: World) -> None:
    set_aside.replaced_copies(world.root)
    set_aside.copies_of(world.root, world.account_id)


def _no_copies(world: World) -> None:
    for folder in ("replaced", "backup"):
        shutil.rmtree(world.root / folder, ignore_errors=True)


def _changed(world: World) -> None:
    world.open_session()
    append_and_expunge(world)
    world.close_session()
    deliver(world)


def _upload(world: World) -> None:
    """Nothing waits for the object store."""
    world.empty_inbox()
    world.snapshotter.clean()
    world.upload()


def _staged(world: World) -> object:
    """What waits for the object store, in the records and in the folder."""
    return len(world.state.waiting()), len(list(world.place.joinpath("staging").iterdir()))


def _newest(world: World) -> tuple[Path, Segment]:
    """The first segment of the account, in a file."""
    stream = world.state.stream(world.account_id)
    assert stream is not None
    segment = world.state.segments(stream.stream)[0]
    path = world.spare / "segment"
    path.write_bytes(world.store.get(str(segment.name), 0, segment.size_bytes))
    return path, segment


def _read_segment(world: World) -> None:
    path, segment = world.made
    with open_file(path, segment.name, segment.content_key) as found:
        found.check()
        Trust(Signer(SERVER_KEY).public).check(segment.name, signed=found.signed, path=path)


def _chain(world: World) -> tuple[SegmentName, ...]:
    return chains(world.names())[-1].segments


def _look_for_segments(world: World) -> None:
    world.made = world.source(), _chain(world)


def _rebuild(world: World) -> None:
    _rebuilt(world)


def _rebuilt(world: World) -> Rebuilt:
    source, chain = world.made
    return Rebuilder(source, world.place / "scratch", 1).rebuild(chain, world.spare / "rebuilt")


def _restore(world: World) -> None:
    """Put back the database of the snapshot, with today's keyslots."""
    rebuilt = _rebuilt(world)
    folder = world.spare / "rebuilt"
    with storage_errors():
        (folder / "keys").unlink()
    restorer = Restorer(world.root, world.made[0], world.place / "scratch", 1)
    restorer.install(world.account_id, folder, rebuilt, 7, patience_s=0.0)


def _restored(world: World) -> object:
    with account_database(world.paths, world.key()) as database:
        assert database.pragma("PRAGMA integrity_check") == [("ok",)]
        assert database.pragma("PRAGMA cipher_integrity_check") == []
        count = database.read(0, lambda txn: txn.value("SELECT count(*) FROM placed"))
    return count, world.owner().header.slots, sorted(path.name for path in world.paths.inbox.iterdir())


def _as_before(world: World) -> None:
    _no_copies(world)
    _empty_scratch(world)
    world.paths.restored.unlink(missing_ok=True)


def _verify(world: World) -> None:
    keys = {
        one.name: one.content_key for two in world.state.streams() for one in world.state.segments(two.stream)
    }
    verifier = Verifier(world.store, list_store(world.store), keys.get, world.place / "scratch", deep=True)
    assert verifier.verify(expected_by_state(world.state)).findings == []


def _remove(*names: str) -> Step:
    def remove(world: World) -> None:
        for name in names:
            path = world.spare / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    return remove


def _empty_scratch(world: World) -> None:
    _remove("rebuilt")(world)
    for path in world.place.joinpath("scratch").iterdir():
        path.unlink()


def _state(world: World) -> None:
    world.made = State(world.spare / "state", SERVER_KEY)
    assert world.made.streams() == []


def _no_state(world: World) -> None:
    if world.made is not None:
        world.made.close()
    _remove("state")(world)


def _room_for_state(world: World) -> None:
    world.made = None
    (world.spare / "state").mkdir()


def _read_keys(world: World) -> None:
    read_private_key(world.spare / "private")
    read_public_key(world.spare / "public")


def _generate(world: World) -> None:
    generate(world.spare / "private", world.spare / "public")


OVERWRITTEN = r"(pwrite|fsync) spare/root/(server\.key|directory\.db|backup/state\.db) "
"""Files that have lost their names already are overwritten where that can be done."""


def _root_of_its_own(world: World) -> None:
    init_root(world.spare / "root")
    places = Places(world.spare / "root")
    places.make()
    State(places.folder, read_server_key(places.root)).close()


def _opens(world: World) -> object:
    """Finish what there is to finish, and see that the key in its place opens everything."""
    root = world.spare / "root"
    finish(root, 0)
    open_directory(root).close()
    State(Places(root).folder, read_server_key(root)).close()
    return files(world)


BACKUP = [
    Operation(
        "exchange the server's key",
        lambda world: rotate(world.spare / "root", 0),
        prepare=_root_of_its_own,
        undo=_remove("root"),
        state=_opens,
        may_go_on=f"{TOUCH}|{OVERWRITTEN}",
        again=True,
    ),
    Operation(
        "copies of an account",
        lambda world: (
            set_aside.replaced_copies(world.root),
            set_aside.copies_of(world.root, world.account_id),
        ),
        prepare=_copy_of,
        undo=_no_copies,
    ),
    Operation(
        "remove_expired",
        _remove_expired,
        prepare=_copy_of,
        undo=_no_copies,
        may_go_on=TREE,
        again=True,
    ),
    Operation("Places.make", lambda world: Places(world.root).make(), undo=_no_copies, again=True),
    Operation(
        "open the job's state",
        _state,
        prepare=_room_for_state,
        undo=_no_state,
        state=lambda world: "open or not",
    ),
    Operation(
        "clean the staging folder",
        lambda world: world.snapshotter.clean(),
        prepare=lambda world: (world.place / "staging" / "rubbish").write_bytes(b"x"),
        undo=lambda world: (world.place / "staging" / "rubbish").unlink(missing_ok=True),
    ),
    Operation(
        "read a segment",
        _read_segment,
        prepare=lambda world: setattr(world, "made", _newest(world)),
        undo=_remove("segment"),
    ),
    Operation(
        "fetch a segment",
        lambda world: world.made[0].fetch(world.made[1][0], world.spare / "fetched"),
        prepare=_look_for_segments,
        undo=_remove("fetched"),
        may_go_on=TOUCH,
        others=(ObjectStoreError,),
        again=True,
    ),
    Operation(
        "rebuild",
        _rebuild,
        prepare=_look_for_segments,
        undo=_empty_scratch,
        state=lambda world: [path.name for path in sorted((world.spare / "rebuilt").rglob("*"))],
        may_go_on=TOUCH,
        others=(ObjectStoreError,),
        again=True,
    ),
    Operation(
        "restore in place",
        _restore,
        prepare=_look_for_segments,
        undo=_as_before,
        state=_restored,
        may_go_on=f"{TOUCH}|(lstat|open|scandir|rmdir|unlink) spare/rebuilt",
        others=(ObjectStoreError,),
        again=True,
    ),
    Operation(
        "find_credentials",
        lambda world: find_credentials(None, {"CREDENTIALS_DIRECTORY": str(world.spare)}),
        prepare=lambda world: (world.spare / "sealbox-s3").write_text(
            'access_key_id = "a"\nsecret_access_key = "b"\n'
        ),
        undo=_remove("sealbox-s3"),
    ),
    Operation("verify", _verify, undo=_empty_scratch, may_go_on=TOUCH, others=(ObjectStoreError,)),
    Operation("make a key pair", _generate, undo=_remove("private", "public")),
    Operation(
        "read a key pair",
        _read_keys,
        prepare=_generate,
        undo=_remove("private", "public"),
    ),
    # These make the chain longer that the others read.
    Operation("take a snapshot", lambda world: world.take(), prepare=_changed, undo=_upload, state=_staged),
    Operation(
        "merge snapshots",
        lambda world: world.take(merge=True),
        prepare=_changed,
        undo=_upload,
        state=_staged,
        undone=True,
    ),
]
