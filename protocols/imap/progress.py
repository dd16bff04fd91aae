"""Progress reports while a command runs for long (RFC 9585), so that clients do not give up on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mailstore.model import Progress
from protocols.imap.context import Context
from protocols.imap.grammar.table import Parsed
from protocols.imap.responses import lines


@contextmanager
def progress_reports(ctx: Context, parsed: Parsed) -> Iterator[None]:
    """Report every ``progress_interval_s`` seconds that the command is running, while the block runs."""
    if not parsed.spec.shows_progress:
        yield
        return
    tag, progress = parsed.tag, Progress()
    ctx.progress = progress
    clock, interval_s = ctx.services.clock, ctx.limits.progress_interval_s
    timer: Any = None

    def tell() -> None:
        nonlocal timer
        code = b'INPROGRESS ("%b" %b)' % (tag, _counts(progress))
        ctx.output.put_now(lines.tagged(b"*", b"OK", b"in progress", code))
        timer = clock.callLater(interval_s, tell)

    timer = clock.callLater(interval_s, tell)
    try:
        yield
    finally:
        timer.cancel()


def _counts(progress: Progress) -> bytes:
    """How much of how much is done (RFC 9585 section 4); NIL where that is not counted, or no longer."""
    done, goal = progress.done, progress.goal
    return b"%d %d" % (done, goal) if done < goal else b"NIL NIL"
