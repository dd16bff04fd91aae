"""sealbox backup check. Exit codes: see deploy/cli/root.py."""

from __future__ import annotations

import click

from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.root import EPILOG, EXIT_STORAGE, Cli, command
from deploy.cli.snapshot_store import (
    StoreOptions,
    chosen_sources,
    parse_time,
    scratch_folder,
    signed_by,
    size_text,
    store_options,
    utc,
)
from deploy.restore_check import check_state
from deploy.restoring import Wishes


@click.command(epilog=EPILOG)
@click.argument("account")
@click.option("--at", metavar="TIME", help="The newest state not later than this; without it the newest.")
@password_stdin_option
@store_options
@command
def check(cli: Cli, account: str, at: str | None, from_stdin: bool, options: StoreOptions) -> None:
    """Prove with the owner's secret that a point in time of ACCOUNT is sound; exit code 6 if it is not.

    It is put together aside and every page is read with the account's key; the account stays as it is.
    """
    wishes = Wishes(parse_time(at), signed_by=signed_by(cli.root, options))
    secret = current_secret(from_stdin)
    with (
        scratch_folder(cli.root) as work,
        chosen_sources(cli, work, wishes, options) as sources,
    ):
        found = check_state(cli.root, sources, work, wishes, account, secret, cli.params)
    state = f"sound as of {utc(found.taken_ms)}"
    cli.answer(
        {"taken": utc(found.taken_ms), "pages": found.pages, "wrong": found.wrong},
        f"{state}: {size_text(found.pages * 4096)}, every page is authentic and the database is whole"
        if found.wrong is None
        else f"NOT {state}: {found.wrong}: choose an earlier time with --at",
    )
    if found.wrong is not None:
        raise SystemExit(EXIT_STORAGE)
