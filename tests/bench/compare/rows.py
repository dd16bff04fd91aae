"""All rows, in the order in which they are played."""

from __future__ import annotations

from tests.bench.compare import rows_live, rows_read, rows_write
from tests.bench.compare.play import Row
from tests.bench.compare.size import Size


def all_rows(size: Size) -> list[Row]:
    """Those first that ask of messages that nobody has asked of before."""
    return [
        *rows_read.first_rows(size),
        *rows_read.search_rows(size),
        *rows_read.sort_rows(),
        *rows_read.resync_rows(size),
        *rows_read.fetch_rows(size),
        *rows_write.store_rows(size),
        *rows_write.append_rows(size),
        *rows_write.move_rows(size),
        *rows_write.pop3_rows(size),
        *rows_write.lmtp_rows(size),
        *rows_live.told_rows(size),
        *rows_live.login_rows(size),
        *rows_live.mixed_rows(size),
    ]
