"""Account folders below the data root: where they are, making, listing, locking and destroying them."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailstore.address import require_address
from mailstore.directory import (
    AccountRecord,
    Directory,
    directory_exists,
    directory_of,
    directory_place,
    given_to_this,
    is_under_servers_key,
    make_directory,
)
from mailstore.durable import (
    make_folder,
    make_folders,
    remove_tree,
    shred,
    storage_errors,
    write_new,
)
from mailstore.errors import (
    AccountExists,
    DirectoryEmpty,
    DirectoryLost,
    NoSuchAccount,
    NotInitialised,
    OutcomeUnknown,
    PasswordUnusable,
    ServerKeyLost,
)
from mailstore.invitation_files import remove_invitations
from mailstore.keys import (
    KEYS_FILE,
    KEYS_LOCK,
    NEW_KEYS_FILE,
    AccountId,
    Argon2,
    Argon2Params,
    Header,
    SlotFacts,
    SlotKind,
    argon2id,
    load_private_key,
    make_slot,
    new_master,
    new_private_key,
    new_scram_setup,
    new_slot_id,
    parse_secret,
    wipe,
    wrap_private_key,
    write_header,
)
from mailstore.locks import LOCK_TIMEOUT_S, HeldLock, locked
from mailstore.page_journal import PAGE_JOURNAL
from mailstore.server_key import (
    SERVER_KEY_BYTES,
    SERVER_KEY_NAME,
    key_lock,
    parse_server_key,
    write_first_key,
)
from mailstore.set_aside import copies_of, shred_keys

SNAPSHOT_RETENTION_DAYS = 10
_SECONDS_PER_DAY = 86_400
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class AccountPaths:
    """The files of one account."""

    folder: Path

    @property
    def keys(self) -> Path:
        """The key header."""
        return self.folder / KEYS_FILE

    @property
    def keys_lock(self) -> Path:
        """flock for changes of the key header."""
        return self.folder / KEYS_LOCK

    @property
    def mail_db(self) -> Path:
        """The mail database."""
        return self.folder / "mail.db"

    @property
    def wal(self) -> Path:
        """The database's write-ahead log."""
        return self.folder / "mail.db-wal"

    @property
    def page_journal(self) -> Path:
        """Notes of checkpoints; see ``mailstore.page_journal``."""
        return self.folder / PAGE_JOURNAL

    @property
    def rewritten(self) -> Path:
        """A copy of the mail database that is to take its place; see ``mailstore.rewriting``."""
        return self.folder / "mail.db-new"

    @property
    def restored(self) -> Path:
        """Left by a restore until the next unlock; see ``mailstore.restored_mark``."""
        return self.folder / "restored"

    @property
    def made(self) -> Path:
        """An empty file: mail.db has been created once, so a missing or empty one has been lost."""
        return self.folder / "made"

    @property
    def node(self) -> Path:
        """The generation under which the account was opened last; see ``mailstore.this_node``."""
        return self.folder / "node"

    @property
    def moving(self) -> Path:
        """Closes the account until a move has ended; see ``mailstore.move_mark``."""
        return self.folder / "moving"

    @property
    def arrived(self) -> Path:
        """Says which move has put the folder here; see ``mailstore.move_mark``."""
        return self.folder / "arrived"

    @property
    def leave(self) -> Path:
        """Asks everybody to leave; see ``mailstore.eviction``."""
        return self.folder / "leave"

    @property
    def search_db(self) -> Path:
        """The search index, derived data."""
        return self.folder / "search.db"

    @property
    def search_db_files(self) -> tuple[Path, ...]:
        """The index's files in the order to remove them in: SQLite removes a log that has no database."""
        files = (self.folder / f"search.db{ending}" for ending in ("", "-wal", "-shm"))
        return (*files, self.search_progress)

    @property
    def search_progress(self) -> Path:
        """How far the search index has come; see ``mailstore.index_progress``."""
        return self.folder / "search.db-progress"

    @property
    def search_users_lock(self) -> Path:
        """flock: shared by those who have the search index open, exclusive for whoever removes it."""
        return self.folder / "search.db-users"

    @property
    def search_write_lock(self) -> Path:
        """flock of the one process that fills the search index."""
        return self.folder / "search.db-write"

    @property
    def inbox(self) -> Path:
        """Sealed messages that are not filed yet."""
        return self.folder / "inbox"

    @property
    def lock(self) -> Path:
        """flock for maintenance; see :func:`account_lock`."""
        return self.folder / "lock"


def account_paths(root: Path, account_id: AccountId) -> AccountPaths:
    """Where the account lives below ``root``. Raises NoSuchAccount for text that is no account id."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise NoSuchAccount
    return AccountPaths(root / "accounts" / account_id[:2] / account_id)


def shared_lock(paths: AccountPaths, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[HeldLock]:
    """Hold the maintenance lock as a snapshot does: no checkpoint can run meanwhile. Raises Busy."""
    return account_lock(paths, exclusive=False, timeout_s=timeout_s)


def exclusive_lock(
    paths: AccountPaths, timeout_s: float = LOCK_TIMEOUT_S
) -> AbstractContextManager[HeldLock]:
    """Hold the maintenance lock alone: checkpoint, new master key, restore. Raises Busy."""
    return account_lock(paths, exclusive=True, timeout_s=timeout_s)


def account_lock(
    paths: AccountPaths, *, exclusive: bool, timeout_s: float
) -> AbstractContextManager[HeldLock]:
    """The maintenance lock. Blocks up to ``timeout_s``. Raises Busy, NoSuchAccount."""
    return _lock_file(paths.lock, exclusive=exclusive, timeout_s=timeout_s)


@contextmanager
def keys_lock(paths: AccountPaths, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the right to change the key header. Raises Busy, NoSuchAccount."""
    with _lock_file(paths.keys_lock, exclusive=True, timeout_s=timeout_s):
        yield


def init_root(root: Path) -> None:
    """Make the data root, a server's key and the directory, where missing.

    Where there are accounts, or only one of key and directory, nothing is created: it was lost. Raises
    ServerKeyLost, DirectoryLost, StorageFailed, StorageFull.
    """
    check_root(root)
    make_root(root, None)


def make_root(root: Path, server_key: bytes | None) -> None:
    """As ``init_root``, with a given server key (a restore has it), and also where there are accounts.

    Raises:
        ServerKeyLost: there is a directory, and no key is given. StorageFailed, StorageFull.
    """
    with storage_errors():
        make_folders(root)
        make_folder(root / "accounts")
        # Check this before the key: a concurrent first start creates the key first, then the directory.
        is_needed = is_under_servers_key(root)
        if not (root / SERVER_KEY_NAME).exists():
            if is_needed and server_key is None:
                raise ServerKeyLost
            write_first_key(root, server_key or os.urandom(SERVER_KEY_BYTES))
    with key_in_use(root) as key:
        make_directory(root, key)


def check_root(root: Path) -> None:
    """Check that the server's own files are there if there are accounts.

    Raises ServerKeyLost, DirectoryLost, StorageFailed.
    """
    try:
        read_server_key(root)
    except NotInitialised:
        return
    if not has_directory(root) and _has_accounts(root):
        raise DirectoryLost if directory_place(root) is None else DirectoryEmpty


def has_server(root: Path) -> bool:
    """Whether the server's key and its directory are there. Raises StorageFailed."""
    with storage_errors():
        return (root / SERVER_KEY_NAME).exists() and has_directory(root)


def _has_accounts(root: Path) -> bool:
    with storage_errors():
        return next((root / "accounts").glob(f"??/*/{KEYS_FILE}"), None) is not None


def has_directory(root: Path) -> bool:
    """Whether a data root has been made here. Raises StorageFailed."""
    with storage_errors():
        return directory_exists(root)


def open_directory(root: Path) -> Directory:
    """The directory of a data root. One in PostgreSQL says what is wrong with it when it is first used.

    Raises NotInitialised, ServerKeyLost, DirectoryLost, DatabaseDamaged, StorageFailed, TooNew.
    """
    with key_in_use(root) as server_key:
        if directory_place(root) is None and not has_directory(root):
            raise DirectoryLost if _has_accounts(root) else NotInitialised
        return directory_of(root, server_key)


@contextmanager
def key_in_use(root: Path) -> Iterator[bytes]:
    """The server's key, for opening what is encrypted under it: inside, nobody exchanges the two.

    Raises as :func:`read_server_key`, and Busy.
    """
    read_server_key(root)  # where there is none, the lock makes no file
    with key_lock(root):
        yield read_server_key(root)


def read_server_key(root: Path) -> bytes:
    """The server's 32-byte key. Raises NotInitialised, ServerKeyLost, StorageFailed."""
    with storage_errors():
        try:
            raw = (root / SERVER_KEY_NAME).read_bytes()
        except FileNotFoundError:
            is_lost = is_under_servers_key(root) or _has_accounts(root)
            raise (ServerKeyLost if is_lost else NotInitialised) from None
    return parse_server_key(raw)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account is made of. ``quota_bytes`` None means no limit."""

    name: str = field(repr=False)
    password: bytes = field(repr=False)
    quota_bytes: int | None = None


def create_account(
    root: Path,
    directory: Directory,
    wanted: NewAccount,
    *,
    params: Argon2Params | None = None,
    argon2: Argon2 = argon2id,
    clock: Callable[[], float] = time.time,
    before_known: Callable[[Header, bytearray], object] = lambda _header, _master: None,
) -> AccountRecord:
    """Make an account that ``wanted.password`` opens. Costs one Argon2 run; blocks.

    ``before_known`` gets header and master key as the last step before the directory knows the account. A
    crash leaves either all of it or a folder that the directory does not know, which :func:`orphan_folders`
    lists. Raises AddressInvalid, PasswordUnusable, AccountExists, StorageFull, StorageFailed.
    """
    name = require_address(wanted.name).full
    if directory.login(name) is not None:
        raise AccountExists
    account_id, now = AccountId(os.urandom(16).hex()), int(clock())
    master = new_master()
    try:
        header = _first_header(account_id, wanted.password, master, params or Argon2Params(), argon2, now)
        paths = account_paths(root, account_id)
        record = AccountRecord(
            account_id, name, header.public_key, header.generation, wanted.quota_bytes, now, disabled=False
        )
        record = given_to_this(root, record)
        try:
            _make_account_folder(paths, header, master)
            before_known(header, master)
            directory.add_account(record)
        except OutcomeUnknown:
            raise  # if the directory knows the account after all, here is what it needs
        except BaseException:
            shutil.rmtree(paths.folder, ignore_errors=True)
            raise
    finally:
        wipe(master)
    return record


@dataclass(frozen=True, slots=True)
class Left:
    """Something of a destroyed account that still exists, and until when (epoch s)."""

    what: str
    until: int


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What :func:`destroy_account` did; ``left`` lists what only time removes."""

    account_id: AccountId
    files_removed: int
    bytes_removed: int
    left: tuple[Left, ...]


def destroy_account(
    root: Path,
    directory: Directory,
    account_id: AccountId,
    *,
    retention_days: float = SNAPSHOT_RETENTION_DAYS,
    clock: Callable[[], float] = time.time,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Destroyed:
    """Remove an account for good: keys first, also in invitations and in copies that restores have left, then
    files, then the directory entry.

    After the first step nothing can open the rest. After a crash at any point, call it again. Snapshots,
    which include the key header, are encrypted and expire after ``retention_days``. Raises Busy,
    StorageFailed.
    """
    paths = account_paths(root, account_id)
    sizes: list[int] = []
    remove_invitations(root, account_id)
    copies = copies_of(root, account_id)
    for copy in copies:
        sizes += _sizes(copy)
        with storage_errors():
            shred_keys(copy)
    try:
        with keys_lock(paths, lock_timeout_s), exclusive_lock(paths, lock_timeout_s), storage_errors():
            sizes += _sizes(paths.folder)
            shred(paths.folder / NEW_KEYS_FILE)
            shred(paths.keys)
    except NoSuchAccount:
        pass  # An earlier run got past the folder.
    with storage_errors():
        for folder in (*copies, paths.folder):
            remove_tree(folder)
    directory.remove_account(account_id)
    until = int(clock() + retention_days * _SECONDS_PER_DAY)
    return Destroyed(
        account_id, len(sizes), sum(sizes), (Left("encrypted snapshots in the backup store", until),)
    )


def orphan_folders(root: Path, directory: Directory) -> list[AccountId]:
    """Account folders that the directory does not know: left by a crash while creating or restoring."""
    known = {record.account_id for record in directory.accounts()}
    with storage_errors():
        found = [
            AccountId(folder.name)
            for folder in (root / "accounts").glob("??/*")
            if _ACCOUNT_ID.fullmatch(folder.name)
        ]
    return sorted(account_id for account_id in found if account_id not in known)


def holds_mail(paths: AccountPaths) -> bool:
    """Whether an account's folder has a database, or mail that waits. Raises StorageFailed."""
    with storage_errors():
        return paths.mail_db.exists() or (paths.inbox.is_dir() and any(paths.inbox.iterdir()))


def _first_header(
    account_id: AccountId, password: bytes, master: bytearray, params: Argon2Params, argon2: Argon2, now: int
) -> Header:
    secret = parse_secret(password)
    if secret.printed is not None and secret.printed.kind is SlotKind.RECOVERY_KEY:
        raise PasswordUnusable
    raw = new_private_key()
    facts = SlotFacts(new_slot_id(()), SlotKind.PASSWORD, "password", now)
    slot = make_slot(account_id, facts, params, secret.password, master, argon2=argon2)
    public, private = load_private_key(raw).public, wrap_private_key(account_id, raw, master)
    return Header(account_id, 1, public, private, new_scram_setup(), (slot,))


def _make_account_folder(paths: AccountPaths, header: Header, master: bytearray) -> None:
    with storage_errors():
        make_folder(paths.folder.parent.parent)
        make_folder(paths.folder.parent)
        make_folder(paths.folder)
        make_folder(paths.inbox)
        write_new(paths.lock, b"")
        write_new(paths.keys_lock, b"")
    write_header(paths.folder, header, master)


@contextmanager
def _lock_file(path: Path, *, exclusive: bool, timeout_s: float) -> Iterator[HeldLock]:
    with storage_errors():
        if not path.parent.is_dir():
            raise NoSuchAccount
    with locked(path, exclusive=exclusive, timeout_s=timeout_s) as held:
        yield held


def _sizes(folder: Path) -> list[int]:
    """The octets of each file in a folder. Raises StorageFailed."""
    sizes = []
    with storage_errors():
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):  # Filing removes sealed messages while we count.
                if path.is_file():
                    sizes.append(path.stat().st_size)
    return sizes
