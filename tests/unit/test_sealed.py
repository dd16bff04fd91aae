"""Sealed messages: only the account opens them, under their own name; delivery is all or nothing."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from keys_world import make_world

from mailstore import durable, sealed
from mailstore.errors import (
    Busy,
    NoSuchAccount,
    NoSuchMessage,
    SealedMessageDamaged,
    StorageFailed,
    StorageFull,
)
from mailstore.filing import Filer
from mailstore.keys import AccountId, load_private_key, new_private_key
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.sealed import (
    Facts,
    SealedId,
    SealedLimits,
    clean_leftovers,
    deliver,
    new_sealed_id,
    open_sealed,
    padded_size,
    pending,
    read_sealed,
    remove,
    seal,
)

ACCOUNT = AccountId("0123456789abcdef" * 2)
PAIR = load_private_key(new_private_key())
ID = new_sealed_id(clock_ns=lambda: 1_700_000_000_000_000_000, random=bytes)
FACTS = Facts(
    received=1_700_000_000,
    envelope_from=b"ann@example.net",
    envelope_to=b"joe+lists@example.org",
    mailbox_hint="lists",
    trace_header=b"Return-Path: <ann@example.net>\r\n",
    flags=(b"\\Seen", b"$Junk"),
)
MESSAGE = b"Subject: hello\r\n\r\nworld\r\n"


@pytest.fixture
def world(tmp_path):
    """A root with one account."""
    yield from make_world(tmp_path)


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        Facts(0),
        Facts(-1),
        Facts(5, mailbox_hint=""),
        Facts(5, b"\xff\x00", b"\r\n", "é", b"", (b"",)),
    ],
)
@pytest.mark.parametrize("message", [b"", b"x", MESSAGE, bytes(300_000)])
def test_round_trip(facts, message):
    """Facts and message come back exactly."""
    blob = seal(PAIR.public, ACCOUNT, ID, message, facts)
    assert open_sealed(PAIR, ACCOUNT, ID, blob) == (facts, message)


def test_ciphertext_shows_nothing():
    """Neither message nor envelope is visible, and sealing twice gives different bytes."""
    first, second = (seal(PAIR.public, ACCOUNT, ID, MESSAGE, FACTS) for _time in range(2))
    assert first[8:] != second[8:]
    for word in (b"hello", b"joe", b"ann", b"lists", b"Seen", ACCOUNT.encode(), ID.encode()):
        assert word not in first


def test_only_this_account_and_name():
    """Another account's key, another account id and another file name do not open it."""
    blob = seal(PAIR.public, ACCOUNT, ID, MESSAGE, FACTS)
    other_id = SealedId(ID[:-1] + "1")
    for pair, account, sealed_id in (
        (load_private_key(new_private_key()), ACCOUNT, ID),
        (PAIR, AccountId("f" * 32), ID),
        (PAIR, ACCOUNT, other_id),
    ):
        with pytest.raises(SealedMessageDamaged):
            open_sealed(pair, account, sealed_id, blob)


def test_every_damaged_byte_is_noticed():
    """Each byte changed, and each length cut, is damage and nothing else."""
    blob = seal(PAIR.public, ACCOUNT, ID, MESSAGE, FACTS)
    for at in range(len(blob)):
        for damaged in (blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :], blob[:at]):
            with pytest.raises(SealedMessageDamaged):
                open_sealed(PAIR, ACCOUNT, ID, damaged)
    with pytest.raises(SealedMessageDamaged):
        open_sealed(PAIR, ACCOUNT, ID, blob + b"\0")


def raw_blob(plaintext):
    """What a sender with the public key could make of any plaintext."""
    public = sealed.load_public_key(PAIR.public)
    info = b"sealbox/1/sealed\0" + ACCOUNT.encode() + b"\0" + ID.encode()
    return sealed.MAGIC + sealed._SUITE.encrypt(plaintext, public, info=info)


PLAIN_FACTS = bytes.fromhex("01 0000000000000005 00" + "00000000" * 4)


def plain(facts=PLAIN_FACTS, message=b"hello", message_size=None, padding=None):
    """A plaintext by the book, or not."""
    size = len(message) if message_size is None else message_size
    data = len(facts).to_bytes(4, "big") + size.to_bytes(8, "big") + facts + message
    return data + (bytes(padded_size(len(data)) - len(data)) if padding is None else padding)


def test_plain_by_the_book():
    """The helper above makes valid plaintext, so that the cases below fail for their own reason."""
    assert open_sealed(PAIR, ACCOUNT, ID, raw_blob(plain())) == (Facts(5), b"hello")


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        bytes(11),
        plain(message_size=2**63),
        plain(message_size=4),
        plain(message_size=7),
        plain(padding=b""),
        plain(padding=b"\1"),
        plain(padding=bytes(100)),
        plain(facts=b""),
        plain(facts=b"\2" + PLAIN_FACTS[1:]),
        plain(facts=PLAIN_FACTS[:9] + b"\2" + PLAIN_FACTS[10:]),
        plain(facts=PLAIN_FACTS[:-4]),
        plain(facts=PLAIN_FACTS + b"\0"),
        plain(facts=PLAIN_FACTS + b"\xff\xff\xff\xff"),
        plain(facts=PLAIN_FACTS + bytes(4) * 129),
        plain(facts=bytes.fromhex("01 0000000000000005 01 00000000 00000000 00000001 ff 00000000")),
        plain(facts=bytes.fromhex("01 0000000000000005 00 00000000 00000000 00000001 41 00000000")),
    ],
)
def test_malformed_plaintext(plaintext):
    """Authentic but malformed content is damage: lengths, padding, version, counts, encodings."""
    with pytest.raises(SealedMessageDamaged):
        open_sealed(PAIR, ACCOUNT, ID, raw_blob(plaintext))


def test_too_large_to_read():
    """The limit holds before anything is decrypted."""
    blob = seal(PAIR.public, ACCOUNT, ID, MESSAGE, FACTS)
    with pytest.raises(SealedMessageDamaged):
        open_sealed(PAIR, ACCOUNT, ID, blob, SealedLimits(blob_bytes=len(blob) - 1))
    assert open_sealed(PAIR, ACCOUNT, ID, blob, SealedLimits(blob_bytes=len(blob))) == (FACTS, MESSAGE)


def test_too_large_to_read_from_the_inbox(tmp_path):
    """A file of just the limit is read; no more than an octet of a longer one is."""
    deliver(tmp_path, ID, b"x" * 100)
    assert read_sealed(tmp_path, ID, SealedLimits(blob_bytes=100)) == b"x" * 100
    with pytest.raises(SealedMessageDamaged):
        read_sealed(tmp_path, ID, SealedLimits(blob_bytes=99))


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (100, 104), (1000, 1024), (1025, 1088), (10**6, 1015808)],
)
def test_padme(size, padded):
    """Known sizes of the Padmé scheme."""
    assert padded_size(size) == padded


def test_sizes_tell_little():
    """Messages of nearly the same size give files of the same size."""
    sizes = {len(seal(PAIR.public, ACCOUNT, ID, bytes(10_000 + more), Facts(0))) for more in range(0, 60, 7)}
    assert len(sizes) == 1


def test_names_sort_by_arrival():
    """Names are fixed in width, sort by time and say nothing else."""
    times = [5, 10**9, 10**18, 1_800_000_000_000_000_000]
    names = [new_sealed_id(clock_ns=lambda now=now: now) for now in times]
    assert names == sorted(names)
    assert {len(name) for name in names} == {33}


def test_delivery(world):
    """A delivered message is listed, read and removed; its file is the owner's alone."""
    inbox = world.paths.inbox
    ids = [new_sealed_id(clock_ns=lambda now=now: now) for now in (3, 1, 2)]
    for sealed_id in ids:
        deliver(inbox, sealed_id, b"blob " + sealed_id.encode())
    assert pending(inbox) == sorted(ids)
    assert read_sealed(inbox, ids[0]) == b"blob " + ids[0].encode()
    assert {path.stat().st_mode & 0o777 for path in inbox.iterdir()} == {0o600}
    remove(inbox, ids[0])
    remove(inbox, ids[0])
    assert pending(inbox) == sorted(ids[1:])
    with pytest.raises(NoSuchMessage):
        read_sealed(inbox, ids[0])


def test_other_files_are_not_mail(world):
    """Temporary and foreign names in the folder are not listed."""
    for name in (".x.tmp", "x.sealed", "README", f"{ID}.sealed.bak", f".{ID}.tmp"):
        (world.paths.inbox / name).write_bytes(b"x")
    assert pending(world.paths.inbox) == []


@pytest.mark.parametrize("sealed_id", ["", "../../x", ID + "/x", ID.upper(), ID + "\n"])
def test_names_stay_inside(world, sealed_id):
    """Only a sealed id becomes a file name."""
    for action in (
        lambda: deliver(world.paths.inbox, sealed_id, b""),
        lambda: remove(world.paths.inbox, sealed_id),
    ):
        with pytest.raises(StorageFailed):
            action()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "fsync of the folder"])
def test_failing_disk(world, monkeypatch, code, call):
    """Whatever step fails, no file stays and the error is the right one."""

    def fail(*_arguments, **_more):
        raise OSError(code, "failed")

    if call == "write":
        real = os.fdopen
        monkeypatch.setattr(durable.os, "fdopen", lambda *a, **k: _Failing(real(*a, **k), fail))
    elif call == "fsync":
        monkeypatch.setattr(durable.os, "fsync", fail)
    elif call == "fsync of the folder":
        monkeypatch.setattr(sealed, "sync_folder", fail)
    else:
        monkeypatch.setattr(durable.Path, "rename", fail)
    with pytest.raises(StorageFailed if code == errno.EIO else StorageFull):
        deliver(world.paths.inbox, ID, b"blob")
    monkeypatch.undo()
    assert list(world.paths.inbox.iterdir()) == []


def test_taking_back_what_is_not_there_hides_no_error(world, monkeypatch):
    """The rename failed, and so does the removal: the sender hears of the full disk."""

    def fail(*_arguments, **_more):
        raise OSError(errno.ENOSPC, "failed")

    def busy(*_arguments):
        raise Busy("another process counts")

    monkeypatch.setattr(durable.Path, "rename", fail)
    monkeypatch.setattr(sealed, "remove", busy)
    with pytest.raises(StorageFull):
        deliver(world.paths.inbox, ID, b"blob")
    monkeypatch.undo()
    assert list(world.paths.inbox.iterdir()) == []


def test_what_was_taken_back_in_need_is_gone(world, monkeypatch):
    """It is in place when the folder cannot be synced, and nobody was told that it is there."""

    def fail(*_arguments, **_more):
        raise OSError(errno.EIO, "failed")

    def busy(*_arguments):
        raise Busy("another process counts")

    monkeypatch.setattr(sealed, "sync_folder", fail)
    monkeypatch.setattr(sealed, "remove", busy)
    with pytest.raises(StorageFailed):
        deliver(world.paths.inbox, ID, b"blob")
    assert list(world.paths.inbox.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "look"),
    [
        ("open", lambda paths: sealed.read_being_delivered(paths.inbox, ID, 100)),
        ("glob", lambda paths: sealed.damaged_messages(paths.inbox)),
        ("exists", lambda paths: Filer(paths, ACCOUNT, PAIR, StoreLimits(), MimeLimits()).is_there(ID)),
    ],
)
def test_a_disk_that_fails_while_one_looks(world, monkeypatch, method, look):
    """It has the store's name for it."""

    def fail(*_arguments, **_more):
        raise OSError(errno.EIO, "failed")

    monkeypatch.setattr(sealed.Path, method, fail)
    with pytest.raises(StorageFailed):
        look(world.paths)


class _Failing:
    """A file whose writes fail."""

    def __init__(self, file, fail):
        self.file, self.write = file, fail

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.file.close()


def test_steps_of_a_delivery(world, monkeypatch):
    """File fsynced, then renamed, then the folder fsynced: in this order, each once."""
    steps = []
    real_fsync, real_rename = os.fsync, durable.Path.rename

    def fsync(descriptor):
        steps.append("fsync " + ("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"))
        real_fsync(descriptor)

    def rename(path, target):
        steps.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(durable.os, "fsync", fsync)
    monkeypatch.setattr(durable.Path, "rename", rename)
    deliver(world.paths.inbox, ID, b"blob")
    assert steps == ["fsync file", "rename", "fsync folder"]


def test_leftovers(world):
    """Old temporary files go, young ones and everything else stay."""
    inbox = world.paths.inbox
    old, young = inbox / f".{ID}.tmp", inbox / f".{new_sealed_id()}.tmp"
    for path in (old, young, inbox / f"{ID}.sealed", inbox / ".other.tmp"):
        path.write_bytes(b"x")
        os.utime(path, (1000, 1000))
    os.utime(young, (9000, 9000))
    assert clean_leftovers(inbox, now=1000 + 3601.0) == 1
    assert not old.exists()
    assert len(list(inbox.iterdir())) == 3


def test_missing_inbox(world):
    """An account that is gone is told apart from a broken disk."""
    world.paths.inbox.rmdir()
    with pytest.raises(NoSuchAccount):
        deliver(world.paths.inbox, ID, b"")
    with pytest.raises(NoSuchAccount):
        pending(world.paths.inbox)


def test_facts_do_not_show():
    """The envelope is not in a repr."""
    assert repr(FACTS) == "Facts(received=1700000000)"


def test_flags_are_bounded() -> None:
    """So many and no more, whatever else the facts hold."""
    blob = seal(PAIR.public, ACCOUNT, ID, MESSAGE, replace(FACTS, flags=(b"a", b"b", b"c")))
    with pytest.raises(SealedMessageDamaged):
        open_sealed(PAIR, ACCOUNT, ID, blob, SealedLimits(flags=2))
    assert open_sealed(PAIR, ACCOUNT, ID, blob, SealedLimits(flags=3))[0].flags == (b"a", b"b", b"c")


def test_a_field_is_no_longer_than_what_is_left() -> None:
    """Whoever sealed the message said how long each is."""
    packed = sealed._pack_facts(FACTS)
    assert sealed._unpack_facts(packed, SealedLimits()) == FACTS
    for cut in range(1, len(FACTS.flags[-1]) + 1):
        with pytest.raises(SealedMessageDamaged):
            sealed._unpack_facts(packed[:-cut], SealedLimits())


def test_a_delivery_under_way_is_read_up_to_a_size(tmp_path: Path) -> None:
    """At it, and not an octet beyond."""
    (tmp_path / f".{ID}.tmp").write_bytes(b"x" * 100)
    assert sealed.read_being_delivered(tmp_path, ID, 100) == b"x" * 100
    assert sealed.read_being_delivered(tmp_path, ID, 99) is None
