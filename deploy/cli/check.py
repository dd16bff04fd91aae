"""sealbox backup check and drill: what a restore would bring. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import random
import time

import click

from backup.drill import Drill, Drilled
from backup.drill_login import opener
from backup.moment import utc_ms
from backup.restore_accounts import Wishes
from backup.restore_check import check_state
from deploy.cli.asking import current_secret, password_stdin_option, secret_of_then
from deploy.cli.root import EPILOG, EXIT_STORAGE, Cli, Refusal, command
from deploy.cli.snapshot_store import (
    StoreOptions,
    chosen_sources,
    configured,
    opened_state,
    parse_time,
    scratch_folder,
    signed_by,
    store_options,
)
from deploy.object_store import open_store
from deploy.texts import counted, size_text

Fields = dict[str, object]


@click.command(epilog=EPILOG)
@click.argument("account")
@click.option("--at", metavar="TIME", help="The newest state not later than this; without it the newest.")
@password_stdin_option
@store_options
@command
def check(cli: Cli, account: str, at: str | None, from_stdin: bool, options: StoreOptions) -> None:
    """Prove with the owner's secret that a point in time of ACCOUNT is sound; exit code 6 if it is not.

    It is rebuilt in a scratch folder and every page is read with the account's key; the account itself is not
    changed. The secret is today's: the state's own key header has to be one of this account, but is not
    opened, nor is mail that waited to be filed. Only a state from before 'sealbox account rekey' is opened by
    its own header; if the password was another one then, it is asked for, too (the second line).
    """
    wishes = Wishes(parse_time(at), signed_by=signed_by(cli.root, options))
    secret = current_secret(from_stdin)
    with (
        scratch_folder(cli.root) as work,
        chosen_sources(cli, work, wishes, options) as sources,
    ):
        found = check_state(
            cli.root, sources, work, wishes, account, secret, lambda: secret_of_then(from_stdin), cli.params
        )
    state = f"sound as of {utc_ms(found.taken_ms)}"
    cli.answer(
        {"taken": utc_ms(found.taken_ms), "pages": found.pages, "wrong": found.wrong},
        f"{state}: {size_text(found.size_bytes)}, every page is authentic and the database is whole"
        if found.wrong is None
        else f"NOT {state}: {found.wrong}: choose an earlier time with --at",
    )
    if found.wrong is not None:
        raise SystemExit(EXIT_STORAGE)


@click.command(epilog=EPILOG)
@click.option(
    "--accounts", type=click.IntRange(1), metavar="N", help="How many; default snapshots.drill_accounts."
)
@command
def drill(cli: Cli, accounts: int | None) -> None:
    """Restore some accounts to scratch, compare them with the living; exit code 6 if one is not proven.

    Living mail is not touched; what was restored is thrown away.
    """
    config = configured(cli)
    count = accounts or config.snapshots.drill_accounts
    store = open_store(config.backup, config.snapshots)
    with (
        opened_state(cli.root) as state,
        cli.directory() as directory,
        scratch_folder(cli.root) as scratch,
    ):
        names = {str(record.account_id): record.name for record in directory.accounts()}
        name, secret = config.backup.drill_account, config.backup.drill_password
        opens = opener(cli.root, directory, name, secret, cli.params) if name and secret else None
        drills = Drill(cli.root, state, store, scratch, config.snapshots, opens)
        chosen = drills.choose(count, random.SystemRandom())
        found = [drills.run(stream, int(time.time() * 1000)) for stream in chosen]
    fields = [_drill_fields(one, names) for one in found]
    cli.answer({"drilled": fields}, *(_drill_line(one, names) for one in found))
    if not found:
        raise Refusal("there is nothing in the store to restore yet")
    if any(one.trouble for one in found):
        raise SystemExit(EXIT_STORAGE)


def _drill_fields(one: Drilled, names: dict[str, str]) -> Fields:
    return {
        "account": one.account,
        "name": names.get(one.account),
        "pages": one.pages,
        "pages_compared": one.compared,
        "opened": one.opened,
        "trouble": one.trouble,
    }


def _drill_line(one: Drilled, names: dict[str, str]) -> str:
    if one.trouble:
        return f"{names.get(one.account, one.account)}  NOT proven: {one.trouble}"
    opened = ", opened and compared" if one.opened else ""
    name = names.get(one.account, one.account)
    if not one.pages:
        return f"{name}  proven: its keys are restored; it has no mail database yet"
    compared = f"{one.compared} equal to the living database"
    if not one.compared:
        compared = "none compared, as the living database has changed since"
    return f"{name}  proven: {counted(one.pages, 'page')} restored, {compared}{opened}"
