"""Reading a write-ahead log without the key, against logs that SQLCipher wrote."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailstore.engine import Database, DatabaseKey, Txn, open_connection
from mailstore.wal import FRAME_HEADER_BYTES, HEADER_BYTES, Read, frames_of, read_wal, salts_of

KEY = DatabaseKey(b"k" * 32, b"s" * 16)
PAGE = 4096
STRIDE = FRAME_HEADER_BYTES + PAGE


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database of one table, its creation copied back into the main file."""
    made = open_connection(tmp_path / "mail.db", KEY)
    made.write(0, lambda txn: txn.run("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)"))
    assert made.checkpoint()
    yield made
    made.close()


def add(database: Database, size: int) -> None:
    """One transaction with one row."""

    def insert(txn: Txn) -> None:
        txn.run("INSERT INTO t(x) VALUES(randomblob(?))", (size,))

    database.write(0, insert)


def reader(data: bytes) -> Read:
    """Read from bytes as from a file."""
    return lambda offset, size: data[offset : offset + size]


def test_every_commit_is_found_and_nothing_behind_the_last(database: Database, tmp_path: Path) -> None:
    """After each transaction the position is at the end of the log; a cut log ends at an earlier commit."""
    wal = tmp_path / "mail.db-wal"
    ends = []
    for size in (10, 9_000, 50_000, 10):
        add(database, size)
        content = read_wal(reader(wal.read_bytes()))
        assert content is not None and content.page_size == PAGE
        assert HEADER_BYTES + content.position.frames * STRIDE == wal.stat().st_size
        ends.append(content.position)
    data = wal.read_bytes()
    frames = range(HEADER_BYTES, len(data), STRIDE)
    for cut in (*range(HEADER_BYTES, len(data), STRIDE // 2), *(at - 1 for at in frames[1:]), len(data) - 1):
        content = read_wal(reader(data[:cut]))
        whole = [end for end in ends if HEADER_BYTES + end.frames * STRIDE <= cut]
        assert (content.position if content else None) == (whole[-1] if whole else None)


def test_a_flipped_bit_ends_the_log_before_it(database: Database, tmp_path: Path) -> None:
    """No frame at or behind the damage counts."""
    for size in (10, 9_000, 10):
        add(database, size)
    data = (tmp_path / "mail.db-wal").read_bytes()
    heads = range(HEADER_BYTES, len(data), STRIDE)
    for at in (
        *range(0, len(data), 997),
        *(head + octet for head in heads for octet in range(FRAME_HEADER_BYTES)),
    ):
        broken = bytearray(data)
        broken[at] ^= 4
        content = read_wal(reader(bytes(broken)))
        frame = (at - HEADER_BYTES) // STRIDE if at >= HEADER_BYTES else 0
        assert (content.position.frames if content else 0) <= frame


def test_frames_of_an_earlier_log_do_not_count(database: Database, tmp_path: Path) -> None:
    """A log that was begun anew without being cut keeps old frames behind the new ones."""
    wal = tmp_path / "mail.db-wal"
    add(database, 100_000)
    old = salts_of(reader(wal.read_bytes()))
    assert database.pragma("PRAGMA wal_checkpoint(RESTART)")[0][0] == 0
    add(database, 10)
    data = wal.read_bytes()
    content = read_wal(reader(data))
    assert content is not None and content.position.salts == salts_of(reader(data)) != old
    assert HEADER_BYTES + content.position.frames * STRIDE < len(data)
    found = frames_of(reader(data))
    assert found is not None and found.salts == content.position.salts
    assert set(content.latest) == set(found.pages)
    assert found.commits == content.commits
    assert content.commits[content.position.frames] == content.position.checksum


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x37\x7f\x06\x82",
        bytes(HEADER_BYTES),
        struct.pack(">IIIIIIII", 0x377F0682, 3_007_000, 4096, 0, 1, 2, 3, 4),
        struct.pack(">IIIIIIII", 0x377F0682, 3_007_000, 100, 0, 1, 2, 3, 4),
        b"SQLite format 3\0" * 8,
    ],
)
def test_what_is_no_log_has_no_frames(data: bytes) -> None:
    """An empty, short or foreign file is answered with None."""
    assert read_wal(reader(data)) is None
    assert frames_of(reader(data)) is None
    assert salts_of(reader(data)) is None
