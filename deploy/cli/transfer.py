"""What import and export share: the bar, and the errors that only they have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

from deploy.cli.root import EXIT_BUSY, EXIT_STORAGE, Cli, Refusal
from mailstore.keys import process_hardening
from mailstore.transfer.source import SourceUnavailable, SourceUnusable
from mailstore.transfer.target import TargetUnusable

MOST_SHOWN = 20
"""At most this many messages that could not be moved are named one by one; --json names more."""


class Bar:
    """A bar with rate and time left."""

    def __init__(self, bar: tqdm[NoReturn]) -> None:
        self._bar = bar

    def expect(self, size_bytes: int) -> None:
        """There is so much more to do."""
        self._bar.total = (self._bar.total or 0) + size_bytes
        self._bar.refresh()

    def advance(self, size_bytes: int) -> None:
        """So much more has been done."""
        self._bar.update(size_bytes)


@contextmanager
def transfer_bar(cli: Cli, what: str) -> Iterator[Bar]:
    """A bar for people at a terminal; its total grows as more becomes known."""
    hidden = cli.as_json or not sys.stderr.isatty()
    with tqdm(total=0, unit="iB", unit_scale=True, unit_divisor=1024, desc=what, disable=hidden) as bar:
        yield Bar(bar)


@contextmanager
def transferring(what: str) -> Iterator[None]:
    """What a transfer runs in: no core dump, and the errors that only transfers have become Refusal.

    ``what`` says what an OSError is about.
    """
    process_hardening()
    try:
        yield
    except SourceUnavailable as error:
        raise Refusal(str(error), EXIT_BUSY) from None
    except (SourceUnusable, TargetUnusable) as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        reason = error.strerror or "input/output error"
        raise Refusal(f"{what}: {reason}: see what is in the way, and run it again", EXIT_STORAGE) from None
