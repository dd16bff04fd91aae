"""What the commands about snapshots share: which store, which keys, progress, times."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from backup.former_keys import FormerKey, decode_former
from backup.job import Places
from backup.keypair import read_private_key
from backup.limits import BackupLimits
from backup.restore import list_store
from backup.restore_accounts import Sources, Wishes, by_private_key, by_state
from backup.signing import PUBLIC_BYTES, Signer, Trust
from backup.state import STATE_FILE, State
from backup.stores import ObjectStore
from deploy import config as configuration
from deploy.cli.owner import as_caller
from deploy.cli.root import EXIT_BUSY, EXIT_USAGE, Cli, Refusal
from deploy.config import BackupSection
from deploy.object_store import open_store
from mailstore.account import key_in_use, read_server_key
from mailstore.durable import make_folder, storage_errors
from mailstore.errors import Busy, NotInitialised, ServerKeyLost
from mailstore.keys import PrivateKey
from mailstore.locks import locked
from mailstore.server_key import FORMER_KEYS_NOTE, read_note
from mailstore.set_aside import RESTORE_LOCK, RESTORE_WORK

ANYBODY = "anybody"


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Where the snapshots are, given on the command line instead of in a configuration."""

    store: str | None
    endpoint: str | None
    region: str
    credentials: Path | None
    private_key: Path | None
    signed_by: str | None


def store_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where snapshots are and what opens them, as one argument ``options``."""

    @click.option(
        "--signed-by",
        metavar="KEY",
        help="Signing key of the lost server, as 'sealbox backup status' showed it, or 'anybody'.",
    )
    @click.option(
        "--private-key", type=click.Path(path_type=Path), metavar="FILE", help="Backup private key."
    )
    @click.option("--credentials", type=click.Path(path_type=Path), metavar="FILE", help="TOML with S3 keys.")
    @click.option("--region", default="auto", show_default=True, help="Region of the S3 service.")
    @click.option("--endpoint", metavar="URL", help="Address of the S3 service.")
    @click.option("--store", metavar="URL", help="s3://BUCKET/PREFIX or file:///FOLDER.")
    @functools.wraps(function)
    def body(*args: Any, **kwargs: Any) -> None:
        names = ("store", "endpoint", "region", "credentials", "private_key", "signed_by")
        options = StoreOptions(**{name: kwargs.pop(name) for name in names})
        function(*args, options=options, **kwargs)

    return body


def configured(cli: Cli) -> configuration.Config:
    """The configuration, which must name a store. Raises Refusal."""
    try:
        config = configuration.load(cli.config_path)
    except configuration.ConfigError as error:
        raise Refusal("; ".join(error.mistakes), EXIT_USAGE) from None
    if not config.backup.store:
        raise Refusal("no store for snapshots is configured: see [backup] in example.toml", EXIT_USAGE)
    return config


def chosen_store(cli: Cli, options: StoreOptions) -> tuple[ObjectStore, BackupLimits]:
    """The store named by the options, else by the configuration. Raises Refusal, StoreRefused."""
    if options.store is None:
        config = configured(cli)
        return open_store(config.backup, config.snapshots), config.snapshots
    section = BackupSection.model_construct(
        store=options.store, endpoint=options.endpoint, region=options.region, credentials=options.credentials
    )
    if not options.store.startswith(("file:///", "s3://")):
        raise Refusal("--store has to be s3://BUCKET/PREFIX or file:///FOLDER", EXIT_USAGE)
    with as_caller():
        return open_store(section, BackupLimits()), BackupLimits()


def private_key(options: StoreOptions) -> PrivateKey | None:
    """The operator's private key, if it was given. Raises KeyFileInvalid, StorageFailed."""
    if options.private_key is None:
        return None
    with as_caller():
        return read_private_key(options.private_key)


def signed_by(root: Path, options: StoreOptions) -> Trust | None:
    """The required signing key: the one that was given, else that of the server in ``root``, if any.

    Raises Refusal.
    """
    if options.signed_by is None:
        try:
            return Trust(Signer(read_server_key(root)).public, former=_known_former_keys(root))
        except (NotInitialised, ServerKeyLost):
            return None
    if options.signed_by == ANYBODY:
        return None
    try:
        key = bytes.fromhex(options.signed_by)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_BYTES:
        raise Refusal(f"--signed-by takes 64 hexadecimal digits, or {ANYBODY!r}", EXIT_USAGE)
    return Trust(key)


def _known_former_keys(root: Path) -> tuple[FormerKey, ...]:
    """Those that the server in ``root`` knows: the store may not know them yet."""
    return decode_former(read_note(root, read_server_key(root), FORMER_KEYS_NOTE))


def has_snapshots(root: Path) -> bool:
    """Whether this server has taken snapshots, ever."""
    return (Places(root).folder / STATE_FILE).exists()


@contextmanager
def opened_state(root: Path) -> Iterator[State]:
    """The server's own knowledge of its snapshots. Raises Refusal when it has none."""
    if not has_snapshots(root):
        raise Refusal(
            "this server has taken no snapshots yet: 'sealbox backup run' takes them now;"
            " with --private-key the store itself is read"
        )
    with key_in_use(root) as server_key:
        state = State(Places(root).folder, server_key)
    try:
        yield state
    finally:
        state.close()


@contextmanager
def chosen_sources(cli: Cli, work: Path, wishes: Wishes, options: StoreOptions) -> Iterator[Sources]:
    """The snapshots by the private key if it was given, else by what the server knows.

    Raises Refusal, KeyFileInvalid, and as ``read_server`` does.
    """
    store, _ = chosen_store(cli, options)
    listing, key = list_store(store), private_key(options)
    if key is not None:
        yield by_private_key(store, listing, key, work, wishes)
        return
    with opened_state(cli.root) as state:
        yield by_state(store, listing, state)


@contextmanager
def restore_folder(root: Path) -> Iterator[Path]:
    """The folder in which one restore at a time rebuilds accounts; an interrupted one continues in it.

    Raises Refusal when another restore is running.
    """
    places = Places(root)
    with storage_errors():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        places.make()
    with ExitStack() as held:
        try:
            held.enter_context(locked(root / RESTORE_LOCK, exclusive=True, timeout_s=0.0))
        except Busy:
            sentence = "another restore is running in this data root: try again when it has finished"
            raise Refusal(sentence, EXIT_BUSY) from None
        with storage_errors():
            make_folder(root / RESTORE_WORK)
        yield root / RESTORE_WORK


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A folder on the volume of ``root`` that is removed afterwards."""
    places = Places(root)
    with storage_errors():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        places.make()
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=places.scratch))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def progress_bar(cli: Cli, total_bytes: int, what: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left, for people at a terminal."""
    hidden = cli.as_json or not sys.stderr.isatty()
    with tqdm(
        total=total_bytes, unit="iB", unit_scale=True, unit_divisor=1024, desc=what, disable=hidden
    ) as bar:

        def _advance(size: int) -> None:
            bar.update(size)

        yield _advance


def parse_time(text: str | None) -> int | None:
    """ms since the epoch of an ISO 8601 time; without a zone it is UTC. Raises Refusal."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal("write the time like 2026-11-21T08:30:00Z", EXIT_USAGE) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.replace(microsecond=0).timestamp()) * 1000 + found.microsecond // 1000
