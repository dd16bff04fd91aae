"""What the store does with accounts, their keys and the directory."""

from __future__ import annotations

import shutil
from typing import Any

from backup_world import PASSWORD, TINY, message
from everything import (
    NAME,
    OTHER,
    Operation,
    World,
    files,
)
from keys_world import outcome
from twisted.internet.defer import Deferred

from mailstore.account import (
    NewAccount,
    account_paths,
    create_account,
    destroy_account,
    init_root,
    open_directory,
    orphan_folders,
    read_server_key,
)
from mailstore.account_database import account_database, mail_key
from mailstore.directory import directory_of
from mailstore.errors import AuthenticationFailed
from mailstore.keyring import Keyring
from mailstore.keys import Scope
from mailstore.model import AccessProtocol
from mailstore.opening import Proven, open_as_owner
from mailstore.ops.contents import contents
from mailstore.pop3_login import may_log_in
from mailstore.ready_database import make_ready
from mailstore.rekeying import rekey_account
from mailstore.restored_mark import mark_restored, restored_mark
from mailstore.sealed import Facts, deliver, new_sealed_id, seal
from mailstore.staged_keys import accept_header

OTHER_PASSWORD = b"another password"


def _create(world: World) -> None:
    wanted = NewAccount(OTHER, OTHER_PASSWORD)
    create_account(world.root, world.directory, wanted, params=TINY)


def _destroy(world: World) -> None:
    record = world.directory.login(OTHER)
    if record is not None:
        destroy_account(world.root, world.directory, record.account_id)


def _accounts(world: World) -> object:
    return len(world.directory.accounts()), len(orphan_folders(world.root, world.directory)), files(world)


def _keyslots(world: World) -> object:
    return sorted(slot.label for slot in world.owner().header.slots), files(world)


def revoke_all(world: World) -> None:
    """Only the keyslots stay that the account has from the beginning."""
    for slot in world.keyring().slots()[2:]:
        world.keyring().revoke(slot.id)


def _prepare_rekeying(world: World) -> None:
    """Another account, with a database, an app password, and a message that waits."""
    _create(world)
    owner = _other(world)
    paths = account_paths(world.root, owner.record.account_id)
    with account_database(paths, mail_key(owner.master), may_create=True) as database:
        make_ready(paths, database)
    Keyring(world.root, world.directory, owner.record.account_id, owner.master, TINY).add_app_password(
        "phone", Scope()
    )
    sealed_id = new_sealed_id()
    blob = seal(owner.record.public_key, owner.record.account_id, sealed_id, message("waiting"), Facts(0))
    deliver(paths.inbox, sealed_id, blob)
    world.made = owner.record


def _other(world: World) -> Proven:
    return open_as_owner(world.root, world.directory, OTHER, OTHER_PASSWORD, now=0, params=TINY)


def _rekey(world: World) -> None:
    rekey_account(world.root, world.directory, world.made, OTHER_PASSWORD, TINY, 0.0)


def _rekeyed(world: World) -> object:
    """Which keyslots there are, that they open the database, and what lies about afterwards."""
    owner = _other(world)
    paths = account_paths(world.root, owner.record.account_id)
    with account_database(paths, mail_key(owner.master)) as database:
        database.read(0, contents)
    return sorted(slot.label for slot in owner.header.slots), files(world)


def _result(answer: Deferred[Any]) -> Any:
    found = outcome(answer)
    if isinstance(found, Exception):
        raise found
    return found


def _unlock(world: World, name: str = NAME) -> Any:
    unlocker = world.mail.store._unlocker
    return _result(Deferred.fromCoroutine(unlocker.unlock(name, PASSWORD, AccessProtocol.IMAP)))


def _unlock_nobody(world: World) -> None:
    try:
        _unlock(world, "nobody@example.org")
    except AuthenticationFailed:
        return
    raise AssertionError("nobody was let in")


def _unlock_by_scram(world: World) -> None:
    unlocker = world.mail.store._unlocker
    _result(Deferred.fromCoroutine(unlocker.scram_setup(NAME)))
    unlocked, _ = _result(
        Deferred.fromCoroutine(unlocker.unlock_by_scram(NAME, world.exchange, AccessProtocol.IMAP))
    )
    unlocked.wipe()


def _recheck(world: World) -> None:
    assert world.account is not None
    _result(Deferred.fromCoroutine(world.mail.store.recheck(world.account.unlocked)))


TOUCH = "utime "
"""Only the time of a file that is there already."""

TREE = r"(lstat|open|scandir|rmdir|unlink) root/(accounts|replaced|backup)/[^.]*$"
"""The removal of a folder is tried several times."""

SETTLED = (
    f"{TOUCH}|(BEGIN|COMMIT|SELECT id,) root/directory.db|stat root/invitations"
    r"|(fsync|open|pwrite|read|rename|scandir|stat|unlink) root/accounts/\*\*"
)
"""Once the new keys count, the rest is done by whoever comes next; before that, too, there is such a step."""

ACCOUNTS = [
    Operation(
        "init_root",
        lambda world: init_root(world.spare / "root"),
        undo=lambda world: shutil.rmtree(world.spare / "root", ignore_errors=True),
        may_go_on=TOUCH,
        again=True,
    ),
    Operation("open_directory", lambda world: open_directory(world.root).close(), may_go_on=TOUCH),
    Operation("read_server_key", lambda world: read_server_key(world.root)),
    Operation("create_account", _create, undo=_destroy, state=_accounts, may_go_on=TOUCH),
    Operation(
        "destroy_account",
        _destroy,
        prepare=_create,
        undo=_destroy,
        state=_accounts,
        may_go_on=f"{TOUCH}|{TREE}",
        again=True,
    ),
    Operation(
        "accept_header",
        lambda world: accept_header(world.root, world.directory, world.account_id),
        may_go_on=TOUCH,
    ),
    Operation("mark_restored", lambda world: mark_restored(world.paths, 7), undo=lambda world: unmark(world)),
    Operation(
        "restored_mark",
        lambda world: restored_mark(world.paths),
        prepare=lambda world: mark_restored(world.paths, 7),
        undo=lambda world: unmark(world),
    ),
    Operation("orphan_folders", lambda world: orphan_folders(world.root, world.directory)),
    Operation("unlock", lambda world: _unlock(world).wipe()),
    Operation("unlock by a name that nobody has", _unlock_nobody),
    Operation("unlock by SCRAM", _unlock_by_scram),
    Operation(
        "recheck",
        _recheck,
        prepare=lambda world: world.open_session(),
        undo=lambda world: world.close_session(),
    ),
    Operation(
        "add_app_password",
        lambda world: world.keyring().add_app_password("tablet", Scope()),
        undo=revoke_all,
        state=_keyslots,
        may_go_on=TOUCH,
    ),
    Operation(
        "change_password",
        lambda world: world.keyring().change_password(PASSWORD),
        state=_keyslots,
        may_go_on=TOUCH,
    ),
    Operation(
        "revoke",
        lambda world: world.keyring().revoke(world.made.slot.id),
        prepare=lambda world: setattr(world, "made", world.keyring().add_app_password("tablet", Scope())),
        undo=revoke_all,
        state=_keyslots,
        may_go_on=TOUCH,
    ),
    Operation(
        "rekey_account",
        _rekey,
        prepare=_prepare_rekeying,
        undo=_destroy,
        state=_rekeyed,
        may_go_on=SETTLED,
    ),
    Operation(
        "may_log_in",
        lambda world: may_log_in(world.paths.folder, 0, 1e9),
        prepare=lambda world: (world.paths.folder / "pop3-login").unlink(missing_ok=True),
    ),
    Operation(
        "directory", lambda world: _directory(world), undo=lambda world: _no_alias(world), may_go_on=TOUCH
    ),
]


def unmark(world: World) -> None:
    """As if nothing had been restored."""
    world.paths.restored.unlink(missing_ok=True)


def _directory(world: World) -> None:
    directory = directory_of(world.root, read_server_key(world.root))
    try:
        directory.resolve(NAME)
        directory.login("nobody@example.org")
        directory.set_quota(world.account_id, None)
        directory.add_alias("alias@example.org", world.account_id)
    finally:
        directory.close()


def _no_alias(world: World) -> None:
    for alias in world.directory.aliases():
        world.directory.remove_alias(alias.address)
