"""Account folders: creating, locking, destroying, also when a crash comes in between."""

import stat

import pytest
from keys_world import NAME, PASSWORD, TINY, make_world

from mailstore import account as account_module
from mailstore import durable
from mailstore.account import (
    NewAccount,
    account_paths,
    create_account,
    destroy_account,
    exclusive_lock,
    orphan_folders,
    shared_lock,
)
from mailstore.errors import (
    AccountExists,
    AddressInvalid,
    AuthenticationFailed,
    Busy,
    HeaderTampered,
    NoSuchAccount,
    PasswordUnusable,
    StorageFull,
)
from mailstore.keys import AccountId, Scope, SlotId, new_recovery_key
from mailstore.sealed import Facts, deliver, new_sealed_id, seal
from mailstore.staged_keys import accept_header


@pytest.fixture
def world(tmp_path):
    """A root with one account."""
    yield from make_world(tmp_path)


def make(world, name="ann@example.org", password=PASSWORD):
    """A second account."""
    return create_account(
        world.root, world.directory, NewAccount(name, password, 10**9), params=TINY, argon2=world.argon2
    )


def test_layout(world):
    """The folder lies under the first two digits of its id and is its owner's alone."""
    folder = world.paths.folder
    assert folder == world.root / "accounts" / folder.name[:2] / folder.name
    assert {path.name for path in folder.iterdir()} == {"inbox", "keys", "keys.lock", "lock"}
    for path in (folder, folder.parent, folder.parent.parent, world.paths.inbox):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (world.paths.keys, world.paths.lock, world.paths.keys_lock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_is_made_durable_whoever_has_made_it(tmp_path, monkeypatch):
    """Two accounts may want the same one, or the first to want it may have died before it was durable."""
    synced = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    for _ in range(2):
        durable.make_folder(tmp_path / "a5")
    assert synced == [tmp_path, tmp_path]


def test_created_account_opens(world):
    """The password opens it; the record says what was asked for."""
    record = make(world)
    assert (record.name, record.quota_bytes, record.disabled) == ("ann@example.org", 10**9, False)
    assert world.open(PASSWORD, "ann").record == record
    assert record.account_id != world.record.account_id


@pytest.mark.parametrize(
    ("name", "password", "error"),
    [
        (NAME, PASSWORD, AccountExists),
        ("JOE@EXAMPLE.ORG", PASSWORD, AccountExists),
        ("info@example.org", PASSWORD, AccountExists),
        ("ann", PASSWORD, AddressInvalid),
        ("ann@example.org", b"", PasswordUnusable),
        ("ann@example.org", b"a\0b", PasswordUnusable),
        pytest.param(
            "ann@example.org",
            new_recovery_key(SlotId("k7qm2x9a")).text().encode(),
            PasswordUnusable,
            id="recovery key",
        ),
    ],
)
def test_refused_account_leaves_nothing(world, name, password, error):
    """A refusal leaves neither a folder nor an entry."""
    world.directory.add_alias("info@example.org", world.record.account_id)
    with pytest.raises(error):
        make(world, name, password)
    assert orphan_folders(world.root, world.directory) == []
    assert len(world.directory.accounts()) == 1


def test_disk_full_while_creating(world, monkeypatch):
    """No space: nothing is left behind, the error says so."""

    def no_space(*_arguments):
        raise OSError(28, "no space")

    monkeypatch.setattr(account_module, "write_new", no_space)
    with pytest.raises(StorageFull):
        make(world)
    assert orphan_folders(world.root, world.directory) == []
    assert len(world.directory.accounts()) == 1


@pytest.mark.parametrize("account_id", ["", "..", "../" * 10 + "etc", "A" * 32, "a" * 31, "a" * 32 + "\n"])
def test_paths_stay_inside(world, account_id):
    """Only an account id becomes a path."""
    with pytest.raises(NoSuchAccount):
        account_paths(world.root, AccountId(account_id))


def test_locks(world):
    """Shared with shared, exclusive with nobody; waiting ends with Busy."""
    paths = world.paths
    with shared_lock(paths, 0), shared_lock(paths, 0), pytest.raises(Busy), exclusive_lock(paths, 0):
        pass
    with exclusive_lock(paths, 0), pytest.raises(Busy), shared_lock(paths, 0.02):
        pass
    with exclusive_lock(paths, 0):
        pass


def test_lock_of_a_missing_account(world):
    """Locking makes no folder."""
    with pytest.raises(NoSuchAccount), shared_lock(account_paths(world.root, AccountId("0" * 32)), 0):
        pass


def destroy(world):
    """Destroy the account with a short patience."""
    return destroy_account(
        world.root, world.directory, world.record.account_id, clock=lambda: 1000.0, lock_timeout_s=0.05
    )


def test_destroy(world):
    """Keys, files and entry go; the report says what is left until when."""
    world.paths.mail_db.write_bytes(b"x" * 5000)
    sealed_id = new_sealed_id()
    blob = seal(world.record.public_key, world.record.account_id, sealed_id, b"hello", Facts(0))
    deliver(world.paths.inbox, sealed_id, blob)
    size = sum(path.stat().st_size for path in world.paths.folder.rglob("*") if path.is_file())
    done = destroy(world)
    assert (done.files_removed, done.bytes_removed) == (6, size)
    assert [(left.what, left.until) for left in done.left] == [
        ("encrypted snapshots in the backup store", 1000 + 10 * 86_400)
    ]
    assert not world.paths.folder.exists()
    assert world.directory.accounts() == []
    with pytest.raises(AuthenticationFailed):
        world.open()
    destroy(world)


def test_keys_are_overwritten_before_they_are_unlinked(world):
    """A second name of the file shows that its bytes were replaced, not only forgotten."""
    before = world.paths.keys.read_bytes()
    kept = world.root / "kept"
    kept.hardlink_to(world.paths.keys)
    destroy(world)
    after = kept.read_bytes()
    assert len(after) == len(before)
    assert before[:64] not in after


@pytest.mark.parametrize("step", ["shred", "remove_tree"])
def test_destroy_after_a_crash(world, monkeypatch, step):
    """Interrupted before any step, the same call finishes the work; keys always go first."""

    def crash(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(account_module, step, crash)
        with pytest.raises(KeyboardInterrupt):
            destroy(world)
    assert world.paths.folder.exists()
    assert world.paths.keys.exists() == (step == "shred")
    assert len(world.directory.accounts()) == 1
    destroy(world)
    assert not world.paths.folder.exists()
    assert world.directory.accounts() == []


def test_destroy_after_a_crash_before_the_entry(world):
    """With the folder gone already, the entry still goes."""
    import shutil

    shutil.rmtree(world.paths.folder)
    done = destroy(world)
    assert (done.files_removed, world.directory.accounts()) == (0, [])


def test_destroy_waits_for_a_snapshot(world):
    """While a snapshot holds the lock nothing is touched."""
    with shared_lock(world.paths, 0), pytest.raises(Busy):
        destroy(world)
    world.open()


def test_delivery_to_a_destroyed_account(world):
    """Mail under way to an account that goes is refused, not stored nowhere."""
    sealed_id = new_sealed_id()
    destroy(world)
    with pytest.raises(NoSuchAccount):
        deliver(world.paths.inbox, sealed_id, b"blob")


def test_orphans(world):
    """A folder that the directory does not know is found."""
    record = make(world)
    world.directory.remove_account(record.account_id)
    assert orphan_folders(world.root, world.directory) == [record.account_id]


def test_restored_header(world):
    """A header of the past opens only after the restore has told the directory."""
    old = world.paths.keys.read_bytes()
    world.keyring().add_app_password("phone", Scope())
    world.paths.keys.write_bytes(old)
    with pytest.raises(HeaderTampered):
        world.open()
    accept_header(world.root, world.directory, world.record.account_id)
    assert world.open().header.generation == 1
