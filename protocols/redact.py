"""Describing failures in the log without what the failing code was working on."""

from __future__ import annotations

import secrets
import traceback

from protocols.store_api import AccountApi


def correlation_id() -> str:
    """A short random name that ties a reply to a line in the log."""
    return secrets.token_hex(4)


def incident(command: bytes, name: str, account: AccountApi | None, error: BaseException) -> str:
    """The log's line about a command that failed; ``name`` is its :func:`correlation_id`."""
    whose = f", account {account.account_id}" if account is not None else ""
    return f"{command.decode('ascii')} failed, id {name}{whose}: {describe(error)}"


def describe(error: BaseException) -> str:
    """Type and stack of an exception without its text, which may hold mail (UnicodeDecodeError's does)."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )
    return f"{type(error).__name__} at {places}"
