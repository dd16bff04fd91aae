"""sealbox restore: accounts, or single mailboxes, from snapshots. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from backup.errors import BackupError
from backup.job import Places
from backup.moment import utc_ms
from backup.restore import list_store
from backup.restore_accounts import Restored, Restoring, Sources, Wishes, by_private_key, by_state
from backup.restore_messages import RestoredMailbox, restore_mailbox
from backup.restored_keys import Keyslots
from backup.take_over import TakeOver
from deploy.cli.asking import current_secret, password_stdin_option, secret_of_then
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_REFUSED, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, command
from deploy.cli.snapshot_store import (
    StoreOptions,
    chosen_sources,
    chosen_store,
    opened_state,
    parse_time,
    private_key,
    progress_bar,
    restore_folder,
    scratch_folder,
    signed_by,
    store_options,
)
from deploy.config import FILE_NAME
from deploy.texts import counted, size_text
from mailstore.account import open_directory
from mailstore.errors import NoSuchMailbox

_OTHER_MASTER = (
    "; IT IS FROM BEFORE A NEW MASTER KEY: it opens with the password, the app passwords and the recovery key"
    " of then, also for whoever knows the old key: run 'sealbox account rekey' again"
)

_OLD_SERVER_KEY = (
    "THE SERVER'S KEY IS AN OLD ONE: it was exchanged since, and somebody may know it: run"
    " 'sealbox server-key rotate' before the server starts; with --signed-by and the newest signing key,"
    " a restore into a new data root brings the newest key instead"
)

_MOST_NAMED = 20
"""At most this many objects that were passed over are named one by one."""


@click.command(epilog=EPILOG)
@click.argument("accounts", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All accounts; on a new machine the server too.")
@click.option("--at", metavar="TIME", help="The newest state not later than this, e.g. 2026-11-21T08:30:00Z.")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DIR", help="Data root; default: the server's."
)
@click.option(
    "--replace", is_flag=True, help="Replace accounts that exist; what is replaced is kept in replaced/."
)
@click.option(
    "--newest-sound", is_flag=True, help="Where an object is damaged, take the newest state before it."
)
@click.option(
    "--keyslots",
    type=click.Choice([one.value for one in Keyslots]),
    default=Keyslots.NOW.value,
    show_default=True,
    help="Which secrets open the account: today's, where they are known, or those of the snapshot.",
)
@click.option("--messages", metavar="MAILBOX", help="Put only this mailbox's messages into a new mailbox.")
@password_stdin_option
@store_options
@command
def restore(
    cli: Cli,
    accounts: tuple[str, ...],
    everyone: bool,
    at: str | None,
    into: Path | None,
    replace: bool,
    newest_sound: bool,
    keyslots: str,
    messages: str | None,
    from_stdin: bool,
    options: StoreOptions,
) -> None:
    """Restore ACCOUNTS (addresses or ids) from their snapshots.

    With --replace the mail of then takes the place of the mail of now, which is kept aside for as long as
    snapshots are; without it, and with --messages, no mail that is there is changed.

    With --private-key and the store nothing else is needed, not even the old server. Accounts that exist are
    left alone without --replace; an interrupted restore continues when it is run again. One restore runs at a
    time; with --messages any number.
    """
    if bool(accounts) == everyone:
        raise Refusal("name the accounts, or say --all", EXIT_USAGE)
    root = into or cli.root
    wishes = Wishes(
        parse_time(at),
        replace,
        newest_sound,
        keyslots=Keyslots(keyslots),
        signed_by=signed_by(root, options),
    )
    if messages is not None:
        if everyone or len(accounts) != 1:
            raise Refusal("--messages is for one account", EXIT_USAGE)
        secret = current_secret(from_stdin)
        _restore_messages(cli, root, accounts[0], messages, secret, wishes, options, from_stdin)
        return
    is_new = not root.exists()
    with restore_folder(root) as work:
        with _cleared(root) if is_new else nullcontext():
            found, sources = _restore(cli, root, work, accounts, wishes, options)
        if not found:
            raise Refusal("there is nothing to restore: no account of this directory has a snapshot there")
        if all(one.trouble is None for one in found):
            shutil.rmtree(work, ignore_errors=True)
    _answer(cli, root, found, sources.passed_over)
    if accounts and all(one.skipped for one in found):
        raise SystemExit(EXIT_REFUSED)


@contextmanager
def _cleared(root: Path) -> Iterator[None]:
    """Remove a data root that this restore has created, if nothing could be restored into it."""
    try:
        yield
    except BackupError:
        if [path.name for path in root.iterdir()] == [Places(root).folder.name]:
            shutil.rmtree(root, ignore_errors=True)
        raise


def _restore(
    cli: Cli,
    root: Path,
    work: Path,
    accounts: tuple[str, ...],
    wishes: Wishes,
    options: StoreOptions,
) -> tuple[list[Restored], Sources]:
    store, _ = chosen_store(cli, options)
    key = private_key(options)
    listing = list_store(store)
    if key is not None:
        sources = by_private_key(store, listing, key, work, wishes)
        take_over = TakeOver.look(root, sources)
        is_made, made = take_over.make_server(FILE_NAME)
        if is_made:
            cli.remark(f"made the server's directory in {root}" + (f" and {made}" if made else ""))
            if take_over.has_replaced_key:
                cli.remark(_OLD_SERVER_KEY)
        found = _accounts(cli, root, work, sources, accounts, wishes)
        unknown = take_over.finish(key.public, int(time.time() * 1000))
        if unknown and not accounts:
            cli.remark(
                f"not in this directory: {counted(unknown, 'account')} of the snapshots: 'sealbox backup list"
                " --private-key' names them, 'sealbox restore' with a name brings that one back"
            )
        return found, sources
    with opened_state(cli.root) as state:
        sources = by_state(store, listing, state)
        return _accounts(cli, root, work, sources, accounts, wishes), sources


def _accounts(
    cli: Cli, root: Path, work: Path, sources: Sources, accounts: tuple[str, ...], wishes: Wishes
) -> list[Restored]:
    directory = open_directory(root)
    try:
        chosen = [sources.find(directory, one) for one in accounts] or sources.everyone(directory)
    finally:
        directory.close()
    total = 0
    with progress_bar(cli, 0, "restoring") as progress:
        restorer = Restoring(root, sources, work, wishes, progress)
        targets, hopeless = restorer.targets(chosen)
        total = sum(one.size_bytes for one in targets)
    with progress_bar(cli, total, "restoring") as progress:
        return hopeless + Restoring(root, sources, work, wishes, progress).restore(targets)


def _answer(cli: Cli, root: Path, found: list[Restored], of_server: tuple[str, ...]) -> None:
    fields = [
        {
            "account": one.account_id,
            "name": one.name,
            "taken": utc_ms(one.taken_ms) if one.taken_ms else None,
            "pages": one.pages,
            "kept": str(one.kept) if one.kept else None,
            "skipped": one.skipped,
            "trouble": one.trouble,
            "damage": one.damage,
            "passed_over": one.passed_over,
            "keyslots": one.keyslots,
            "old_master_key": one.difference.other_master,
            "keyslots_only_then": one.difference.only_then,
            "keyslots_only_now": one.difference.only_now,
        }
        for one in found
    ]
    cli.answer(
        {"root": str(root), "restored": fields, "passed_over": of_server}, *(_line(one) for one in found)
    )
    passed_over = [*of_server, *(text for one in found for text in one.passed_over)]
    for text in passed_over[:_MOST_NAMED]:
        cli.remark(f"passed over {text}")
    if passed_over[_MOST_NAMED:]:
        cli.remark(f"passed over {len(passed_over) - _MOST_NAMED} more: 'sealbox backup verify' names them")
    if any(one.damage or (one.trouble and not one.may_be_tried_again) for one in found):
        raise SystemExit(EXIT_STORAGE)
    if any(one.trouble for one in found):
        cli.remark("what was not restored now can be later: run it again")
        raise SystemExit(EXIT_BUSY)
    if any(one.skipped for one in found):
        cli.remark("accounts that already exist were left alone: --replace replaces them")


def _line(one: Restored) -> str:
    name = one.name or one.account_id
    if one.trouble:
        return f"{name}  NOT restored: {one.trouble}"
    if one.skipped:
        return f"{name}  already exists, left alone"
    kept = f"; what it replaced is in {one.kept}" if one.kept else ""
    done = f"{name}  restored as of {utc_ms(one.taken_ms)}, {size_text(one.size_bytes)}{kept}{_secrets(one)}"
    if one.damage:
        return f"{done}; BUT DAMAGED: {one.damage}: restore an earlier time with --at, or --newest-sound"
    return done


def _secrets(one: Restored) -> str:
    """What was revoked, replaced or made since, and whether it opens the account now."""
    then, now = (", ".join(slots) for slots in (one.difference.only_then, one.difference.only_now))
    if one.difference.other_master:
        return _OTHER_MASTER
    if one.keyslots is Keyslots.NOW:
        return f"; revoked or replaced since and left out: {then}" if then else ""
    if one.kept and not then and not now:
        return "; it opens with the snapshot's secrets"
    back = f"; OPENS THE ACCOUNT AGAIN though revoked or replaced since: {then}" if then else ""
    return back + (f"; made since and gone: {now}" if now else "")


def _restore_messages(
    cli: Cli,
    root: Path,
    account: str,
    mailbox: str,
    secret: bytes,
    wishes: Wishes,
    options: StoreOptions,
    from_stdin: bool,
) -> None:
    try:
        # A folder of its own: somebody may be restoring this account at the same time, or any other.
        with scratch_folder(root) as work, chosen_sources(cli, work, wishes, options) as sources:
            done = restore_mailbox(
                *(root, sources, work, wishes, account, mailbox, secret),
                lambda: secret_of_then(from_stdin),
                cli.params,
            )
    except NoSuchMailbox:
        sentence = "there was no mailbox of that name then: check the name, or choose another time with --at"
        raise Refusal(sentence) from None
    _answer_messages(cli, done)


def _answer_messages(cli: Cli, done: RestoredMailbox) -> None:
    cli.answer(
        {"mailbox": done.mailbox, "messages": done.messages, "taken": utc_ms(done.taken_ms)},
        f"{counted(done.messages, 'message')} as of {utc_ms(done.taken_ms)}"
        f" restored to the mailbox {done.mailbox!r}",
    )
