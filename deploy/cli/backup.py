"""sealbox backup and its commands. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, suppress
from itertools import groupby
from pathlib import Path

import click

from backup.catalogue import stream_of_server
from backup.former_keys import decode_former
from backup.job import (
    TROUBLE,
    Places,
    all_is_stored,
    failing_accounts,
    is_hindered,
    note_verified,
    refused_deletes,
)
from backup.keypair import generate, read_public_key
from backup.moment import utc_ms
from backup.restore import Listing, list_store
from backup.restore_accounts import AccountStreams, Sources, Wishes, by_private_key, streams_of_state
from backup.retention import chains, misdated
from backup.run_request import RunRequest
from backup.segment import SERVER, SegmentName
from backup.signing import Signer
from backup.source import keys_of
from backup.state import FORGOTTEN, State, Stream
from backup.take_over import adopt_forgotten
from backup.verify import Report, Verifier, expected_by_server, expected_by_state, stored_names
from backup.wall_clock import read_look
from deploy.cli.check import check, drill
from deploy.cli.owner import as_caller
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_REFUSED, EXIT_STORAGE, Cli, Refusal, command
from deploy.cli.snapshot_store import (
    StoreOptions,
    chosen_store,
    configured,
    opened_state,
    private_key,
    progress_bar,
    scratch_folder,
    signed_by,
    store_options,
)
from deploy.config import Config
from deploy.object_store import open_store
from deploy.snapshots import open_job
from deploy.texts import counted, size_text
from mailstore.account import read_server_key
from mailstore.directory import AccountRecord, is_elsewhere
from mailstore.errors import Busy, StorageFull
from mailstore.keys import PrivateKey
from mailstore.locks import locked
from mailstore.server_key import FORMER_KEYS_NOTE, read_note
from mailstore.set_aside import Copy, replaced_copies

_POLL_S = 0.2
_FROM_BEFORE = "from before a --take-over: 'sealbox backup list --private-key' says whose"
Fields = dict[str, object]


@click.group(epilog=EPILOG)
def backup() -> None:
    """Take, inspect, prove and delete snapshots; 'sealbox restore' restores them."""


backup.add_command(check)
backup.add_command(drill)


@backup.command(epilog=EPILOG)
@click.option(
    "--private",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="File to make for the private key.",
)
@click.option(
    "--public",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="File to make for the public key.",
)
@command
def keygen(cli: Cli, private: Path, public: Path) -> None:
    """Make the backup key pair: the public key stays on the server, the private one belongs elsewhere.

    The private key opens snapshots, but not the mail in them, which opens with its owner's secret alone.
    """
    try:
        with as_caller():
            generate(private, public)
    except FileExistsError:
        raise Refusal("one of the files already exists: keys are never overwritten") from None
    cli.answer(
        {"private": str(private), "public": str(public)},
        f"public key:  {public.absolute()}  (set backup.public_key to it)",
        f"private key: {private}  (keep it off this server; without it a lost server stays lost)",
    )


def _here(cli: Cli, records: list[AccountRecord]) -> set[str]:
    return {record.name for record in records if not is_elsewhere(cli.root, record)}


@backup.command(epilog=EPILOG)
@command
def status(cli: Cli) -> None:
    """Show the state of the snapshots: what waits, what is stored, when a restore was last proven.

    No mail is read or changed.
    """
    config = configured(cli)
    with opened_state(cli.root) as state, cli.directory() as directory:
        records, aside = directory.accounts(), replaced_copies(cli.root)
        names = {str(record.account_id): record.name for record in records}
        waiting = [one.size_bytes for one in state.waiting()]
        streams = [one for one in state.streams() if one.account != SERVER]
        accounts = [_account_fields(state, stream, names) for stream in streams]
        look = read_look(Places(cli.root).clock)
        trouble, refused = state.setting(TROUBLE) or None, refused_deletes(state)
        failing = [names.get(one, one) for one in failing_accounts(state)]
    missing = sorted(_here(cli, records) - {str(one["name"]) for one in accounts})
    running = _job_runs(cli.root)
    server_key = read_server_key(cli.root)
    signing_key = Signer(server_key).public.hex()
    former = decode_former(read_note(cli.root, server_key, FORMER_KEYS_NOTE))
    fields: Fields = {
        "store": config.backup.store,
        "signing_key": signing_key,
        "former_signing_keys": [{"key": one.public.hex(), "until": utc_ms(one.until_ms)} for one in former],
        "running": running,
        "trouble": trouble,
        "deletes_refused": refused,
        "clock_doubt_s": look.doubt_s if look else 0.0,
        "waiting_segments": len(waiting),
        "waiting_bytes": sum(waiting),
        "without_snapshot": missing,
        "failing": failing,
        "replaced": [_aside_fields(one, config, names) for one in aside],
        "accounts": accounts,
    }
    lines = [
        f"store: {config.backup.store}",
        f"signing key: {signing_key}  (write it down beside the private key)",
        *(f"until {utc_ms(one.until_ms)} it was {one.public.hex()}" for one in former),
        "the snapshot job is running" if running else _NOT_RUNNING,
        f"waiting for the store: {counted(len(waiting), 'snapshot')}, {size_text(sum(waiting))}",
        *([f"TROUBLE: {trouble}"] if trouble else []),
        *([f"old snapshots are not deleted: {refused}"] if refused else []),
        *([_doubt(look.doubt_s)] if look and look.doubt_s else []),
        *_aside_lines(aside, config),
        *(f"{name}  no snapshot yet" for name in missing),
        *map(_failing, failing),
        *(_account_line(one) for one in accounts),
    ]
    cli.answer(fields, *lines)


_NOT_RUNNING = (
    "the snapshot job is NOT running: the server is down, was started before [backup] was set,"
    " or its log says why"
)


def _failing(name: str) -> str:
    return f"{name}  its changes have no snapshot: the log says why"


def _doubt(doubt_s: float) -> str:
    return (
        "nothing is deleted from the store before the clock has run evenly for a day"
        f" ({math.ceil(doubt_s / 3600)} h to go): so it is on a new server, and after a jump"
    )


def _aside_fields(one: Copy, config: Config, names: dict[str, str]) -> Fields:
    return {
        "folder": str(one.folder),
        "name": names.get(one.account_id),
        "bytes": one.size_bytes,
        "until": _until(one, config),
    }


def _aside_lines(aside: list[Copy], config: Config) -> list[str]:
    if not aside:
        return []
    size = size_text(sum(one.size_bytes for one in aside))
    first, last = (_until(one, config) for one in (aside[0], aside[-1]))
    accounts = len({one.account_id for one in aside})
    what = f"{counted(len(aside), 'copy', 'copies')} of {counted(accounts, 'account')}"
    return [f"kept aside by restores: {what}, {size}; removed from {first} to {last}"]


def _until(one: Copy, config: Config) -> str:
    return utc_ms(int(one.expires_s(config.snapshots.retention_s) * 1000))


def _account_fields(state: State, stream: Stream, names: dict[str, str]) -> Fields:
    stored = [one for one in state.segments(stream.stream) if one.stored]
    points = [name for chain in chains(one.name for one in stored) for name in chain.segments]
    return {
        "account": stream.account,
        "name": names.get(stream.account),
        "deleted": stream.gone_ms is not None,
        "points": len(points),
        "oldest": utc_ms(points[0].taken_ms) if points else None,
        "newest": utc_ms(points[-1].taken_ms) if points else None,
        "bytes": sum(one.size_bytes for one in stored),
        "dated_ahead": len(misdated(points, int(time.time() * 1000))),
        "proven": utc_ms(stream.proven_ms) if stream.proven_ms else None,
    }


def _account_line(one: Fields) -> str:
    why = _FROM_BEFORE if str(one["account"]).startswith(FORGOTTEN) else "deleted"
    name = one["name"] or f"{one['account']} ({why})"
    size, points = size_text(int(str(one["bytes"]))), counted(int(str(one["points"])), "point")
    return (
        f"{name}  newest {one['newest'] or 'none'}, {points} since {one['oldest'] or '-'},"
        f" {size}, restore proven {one['proven'] or 'never'}{_ahead(one)}"
    )


def _ahead(one: Fields) -> str:
    if not one["dated_ahead"]:
        return ""
    return f"; {one['dated_ahead']} DATED AHEAD by a wrong clock: no --at reaches them"


def _job_runs(root: Path) -> bool:
    if not Places(root).folder.is_dir():
        return False
    try:
        with locked(Places(root).lock, exclusive=True, timeout_s=0.0):
            return False
    except Busy:
        return True


@backup.command(epilog=EPILOG)
@click.option(
    "--take-over", is_flag=True, help="Continue in a store with snapshots that this server does not know."
)
@click.option(
    "--wait",
    "wait_s",
    type=float,
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
@command
def run(cli: Cli, take_over: bool, wait_s: float) -> None:
    """Take a snapshot of everything that changed, now, and wait until it is stored.

    Mail is copied as it lies on the disk, encrypted, and stays as it is.
    """
    config = configured(cli)
    running = _job_runs(cli.root)
    if running and take_over:
        raise Refusal("stop the server first: its records of snapshots are going to change", EXIT_BUSY)
    if running:
        stored = _ask_job(cli.root, wait_s)
    else:
        with ExitStack() as stack:
            job, state = open_job(config, stack, patience_s=0.0)
            if take_over:
                _take_over(config, state)
            stored = job.run_once(wait_s)
    with opened_state(cli.root) as state, cli.directory() as directory:
        waiting, trouble = len(state.waiting()), state.setting(TROUBLE) or None
        names = {str(record.account_id): record.name for record in directory.accounts()}
        failing = [names.get(one, one) for one in failing_accounts(state)]
    cli.answer(
        {"stored": stored, "waiting_segments": waiting, "trouble": trouble, "failing": failing},
        "everything that changed is stored"
        if stored
        else f"not stored yet: {counted(waiting, 'snapshot')}: {trouble or '-'}",
        *map(_failing, failing),
    )
    if not stored:
        raise SystemExit(EXIT_STORAGE if failing else EXIT_BUSY)


def _ask_job(root: Path, wait_s: float) -> bool:
    """Ask the running job to do it; returns whether everything was stored in time."""
    request = RunRequest(Places(root).folder)
    request.ask()
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        time.sleep(_POLL_S)
        if not request.is_open():
            with opened_state(root) as state:
                stored = all_is_stored(state)
                if stored or is_hindered(state):
                    return stored
    return False


def _take_over(config: Config, state: State) -> None:
    assert config.backup.public_key is not None, "the configuration was checked"
    listing = list_store(open_store(config.backup, config.snapshots))
    now_ms = int(time.time() * 1000)
    adopt_forgotten(state, listing, read_public_key(config.backup.public_key), now_ms)


@backup.command("list", epilog=EPILOG)
@click.argument("account", required=False)
@store_options
@command
def list_points(cli: Cli, account: str | None, options: StoreOptions) -> None:
    """List the points in time in the store: a summary of all accounts, or each point of ACCOUNT.

    No mail is read or changed.
    """
    store, _ = chosen_store(cli, options)
    listing = list_store(store)
    if options.private_key is None:
        with opened_state(cli.root) as state:
            listing = listing.known_to(state)
    found = []
    for known in _known_streams(cli, options, listing):
        points = [
            one
            for stream in known.streams
            for chain in chains(listing.streams.get(stream, ()))
            for one in chain.segments
        ]
        if account in (None, known.account, known.name):
            found.append((known.account, known.name, points))
    if account is not None and not found:
        raise Refusal(
            "there are no snapshots of that account"
            if options.private_key is not None
            else "there are no snapshots of that account that this server can name: of one that was deleted,"
            " or that lay here before a --take-over, --private-key lists them"
        )
    if account is not None:
        _, address, points = found[0]
        now_ms = int(time.time() * 1000)
        ahead = frozenset(
            one for _, of in groupby(points, lambda one: one.stream) for one in misdated(of, now_ms)
        )
        cli.answer(
            {"name": address, "points": [_point(one, listing, ahead) for one in points]},
            *(_point_line(one, listing, ahead) for one in points),
        )
        return
    fields = [
        {"account": name, "name": address, "points": len(points), **_range(points)}
        for name, address, points in found
    ]
    cli.answer(
        {"store": store.description, "accounts": fields, "foreign_objects": listing.foreign},
        *(
            f"{one['name'] or one['account']}  {one['points']} points, {one['oldest']} to {one['newest']}"
            for one in fields
        ),
    )


def _range(points: list[SegmentName]) -> dict[str, str | None]:
    return {
        "oldest": utc_ms(points[0].taken_ms) if points else None,
        "newest": utc_ms(points[-1].taken_ms) if points else None,
    }


def _point(name: SegmentName, listing: Listing, ahead: frozenset[SegmentName]) -> Fields:
    return {
        "time": utc_ms(name.taken_ms),
        "kind": str(name.kind),
        "bytes": listing.sizes[name],
        "object": str(name),
        "dated_ahead": name in ahead,
    }


def _point_line(name: SegmentName, listing: Listing, ahead: frozenset[SegmentName]) -> str:
    wrong = "  DATED AHEAD by a wrong clock" if name in ahead else ""
    return f"{utc_ms(name.taken_ms)}  {name.kind}  {size_text(listing.sizes[name])}{wrong}"


def _known_streams(cli: Cli, options: StoreOptions, listing: Listing) -> list[AccountStreams]:
    key = private_key(options)
    if key is not None:
        with scratch_folder(cli.root) as scratch:
            return _sources(cli, options, listing, key, scratch).streams()
    with opened_state(cli.root) as state, cli.directory() as directory:
        return streams_of_state(state, directory)


def _sources(cli: Cli, options: StoreOptions, listing: Listing, key: PrivateKey, scratch: Path) -> Sources:
    store, _ = chosen_store(cli, options)
    wishes = Wishes(newest_sound=True, signed_by=signed_by(cli.root, options))
    return by_private_key(store, listing, key, scratch, wishes)


@backup.command(epilog=EPILOG)
@click.option("--quick", is_flag=True, help="Look at the listing only; nothing is downloaded.")
@store_options
@command
def verify(cli: Cli, quick: bool, options: StoreOptions) -> None:
    """Prove that every object is what was written and builds on the one before; exit code 6 if not.

    No mail is changed, and none read: that takes its owner's secret, see 'sealbox backup check'.

    Without --private-key the objects are compared with the server's own records.
    """
    store, _ = chosen_store(cli, options)
    key = private_key(options)
    before = None
    if key is None:
        with opened_state(cli.root) as state:
            before = stored_names(state)
    listing = list_store(store)
    total = 0 if quick else sum(listing.sizes.values())
    with scratch_folder(cli.root) as scratch, progress_bar(cli, total, "verifying") as progress:
        if key is not None:
            sources = _sources(cli, options, listing, key, scratch)
            assert sources.server is not None, "by the private key there is always one"
            verifier = Verifier(
                store,
                listing,
                lambda _name: key,
                scratch,
                deep=not quick,
                progress=progress,
                trust=sources.source.trust,
            )
            report = verifier.verify(expected_by_server(sources.server, stream_of_server(key.public)))
        else:
            with opened_state(cli.root) as state:
                verifier = Verifier(
                    store, listing, keys_of(state), scratch, deep=not quick, progress=progress
                )
                report = verifier.verify(expected_by_state(state, before))
                if not quick and not report.findings:
                    with suppress(StorageFull):  # what it has found is the same without a note
                        note_verified(state, int(time.time() * 1000))
    _answer_report(cli, report)


def _answer_report(cli: Cli, report: Report) -> None:
    fields: Fields = {
        "streams": report.streams,
        "segments": report.segments,
        "bytes_read": report.bytes_read,
        "unopened": report.unopened,
        "findings": [{"object": one.key, "why": one.why} for one in report.findings],
    }
    lines = [f"{one.key}: {one.why}" for one in report.findings]
    summary = f"{counted(report.segments, 'segment')} of {counted(report.streams, 'stream')},"
    summary += f" {size_text(report.bytes_read)} read"
    if report.unopened:
        summary += f" ({report.unopened} of a lost server not opened: use --private-key)"
    cli.answer(fields, *lines, f"{summary}: {'NOT in order' if lines else 'in order'}")
    if lines:
        raise SystemExit(EXIT_STORAGE)


@backup.command(epilog=EPILOG)
@command
def prune(cli: Cli) -> None:
    """Delete expired snapshots now; the server does so every hour.

    Mail that its owner has deleted is gone for good with the last snapshot that has it; mail that is in an
    account stays there.
    """
    config = configured(cli)
    with ExitStack() as stack:
        try:
            job, state = open_job(config, stack, patience_s=0.0)
        except Busy:
            raise Refusal("the server's snapshot job is running and prunes by itself", EXIT_BUSY) from None
        deleted = job.prune() + job.prune_left_over()
        job.remove_expired()
        refused, doubt_s = refused_deletes(state), job.clock_doubt_s
    cli.answer(
        {"deleted": [str(name) for name in deleted], "refused": refused, "clock_doubt_s": doubt_s},
        f"{counted(len(deleted), 'segment')} deleted"
        if refused is None
        else f"the store refuses deletions: {refused}",
        *(["rules of the bucket have to delete instead: see deploy/OPERATIONS.md"] if refused else []),
        *([_doubt(doubt_s)] if doubt_s else []),
    )
    if refused is not None:
        raise SystemExit(EXIT_REFUSED)
