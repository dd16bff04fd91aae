"""sealbox account vacuum. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import click

from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_STORAGE, Cli, Refusal, command, find_account_here
from deploy.texts import size_text
from mailstore import rewriting
from mailstore.damage import ACCOUNT_SECTION, GUIDE
from mailstore.errors import Busy, DatabaseDamaged, KeysChanged, NoSuchAccount
from mailstore.keys import process_hardening
from mailstore.room import volume_of

PATIENCE_S = 60.0
"""Seconds to wait for sessions and a snapshot to end."""


@click.command(epilog=EPILOG)
@click.argument("name")
@password_stdin_option
@command
def vacuum(cli: Cli, name: str, from_stdin: bool) -> None:
    """Give the space that deleted mail has left in the account NAME back to the disk; no mail is changed.

    The database is written anew without free pages, compared with the old one, and takes its place in one
    step; if it is interrupted before that, nothing has changed. The server may run: the account's sessions
    are ended and can log in again when it is done, some 20 seconds for each gigabyte; mail is delivered
    meanwhile. It needs as much free space as the account takes. The next snapshot takes the whole account
    once more; older ones stay as they are.
    """
    process_hardening()
    secret = current_secret(from_stdin)
    with cli.directory() as directory:
        record = find_account_here(cli, directory, name)
        try:
            done = rewriting.vacuum_account(cli.root, directory, record, secret, cli.params, PATIENCE_S)
        except rewriting.NoRoomToRewrite as error:
            raise no_room(cli, error) from None
        except NoSuchAccount:
            raise Refusal("the account has no database yet, so there is nothing to do") from None
        except KeysChanged:
            raise  # no session is to be waited for
        except Busy:
            raise Refusal(
                "the account's sessions, or a snapshot of it, did not end within a minute: try again, or stop"
                " the server; nothing was changed",
                EXIT_BUSY,
            ) from None
        except DatabaseDamaged:
            raise damaged() from None
    freed = done.before_bytes - done.after_bytes
    cli.answer(
        {
            "account": record.account_id,
            "name": record.name,
            "before_bytes": done.before_bytes,
            "after_bytes": done.after_bytes,
        },
        f"{record.name}: {size_text(done.before_bytes)} before, {size_text(done.after_bytes)} now"
        f" ({size_text(max(freed, 0))} given back); the next snapshot takes all of it once more",
    )


def no_room(cli: Cli, error: rewriting.NoRoomToRewrite) -> Refusal:
    """What to say where a copy of an account does not fit."""
    return Refusal(
        f"a copy of the account needs {size_text(error.needed_bytes)}, and there is less free on"
        f" {volume_of(cli.root)}: make room, and run it again; nothing was changed",
        EXIT_STORAGE,
    )


def damaged() -> Refusal:
    """What to say where a copy would be one of a damaged database."""
    return Refusal(
        f'the database is damaged, nothing was changed: see {GUIDE}, "{ACCOUNT_SECTION}"', EXIT_STORAGE
    )
