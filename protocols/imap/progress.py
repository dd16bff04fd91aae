"""Progress reports while a command runs for long (RFC 9585), so that clients do not give up on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from protocols.imap.context import Context
from protocols.imap.grammar.table import Parsed
from protocols.imap.responses import lines

_UNCOUNTED = b'INPROGRESS ("%b" NIL NIL)'
"""The work is one transaction, so there is no count to report (RFC 9585 section 4)."""


@contextmanager
def progress_reports(ctx: Context, parsed: Parsed) -> Iterator[None]:
    """Report every ``progress_interval_s`` seconds that the command is running, while the block runs."""
    if not parsed.spec.shows_progress:
        yield
        return
    line = lines.tagged(b"*", b"OK", b"in progress", _UNCOUNTED % parsed.tag)
    clock, interval_s = ctx.services.clock, ctx.limits.progress_interval_s
    timer: Any = None

    def tell() -> None:
        nonlocal timer
        ctx.output.put_now(line)
        timer = clock.callLater(interval_s, tell)

    timer = clock.callLater(interval_s, tell)
    try:
        yield
    finally:
        timer.cancel()
