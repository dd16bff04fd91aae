"""What every command shares: where the data is, JSON or text, errors as one sentence and an exit code.

Exit codes and sentences are those of ``deploy.cli.sentences``.
"""

import functools
import json
import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec

import click
from pydantic import ValidationError

from backup.errors import (
    BackupError,
    ChainBroken,
    ImageUnreadable,
    SecretOfThen,
    SegmentDamaged,
    StoreUnavailable,
)
from backup.limits import BackupLimits
from deploy import config as configuration
from deploy.cli.owner import Owner, other_owner, working_as
from deploy.cli.sentences import (
    EXIT_BUSY,
    EXIT_REFUSED,
    EXIT_SECRET,
    EXIT_STORAGE,
    EXIT_TAMPERED,
    EXIT_USAGE,
    explain,
)
from deploy.config_directory import put_directory_by
from deploy.config_node import NodeSection, call_node_by
from mailstore.account import open_directory
from mailstore.directory import AccountRecord, Directory
from mailstore.errors import (
    Busy,
    LeaseOver,
    NoSuchAccount,
    NotInitialised,
    ServerKeyLost,
    StoreError,
)
from mailstore.keys import Argon2Params
from mailstore.lease import forget_lease
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.server_key import DirectoryUnderKey, Found, WrongServerKey, is_begun
from mailstore.this_node import require_here

P = ParamSpec("P")

DEFAULT_DATA = Path("/var/lib/sealbox")

EPILOG = """\b
Exit codes: 0 done, 1 unexpected error, 2 wrong usage, 3 refused, 4 wrong
secret, 5 busy (try again), 6 disk full or damaged, 7 key header changed
from outside or data of a newer program."""


class Refusal(Exception):
    """A command's own error: one sentence with what to do, and an exit code."""

    def __init__(self, sentence: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(sentence)
        self.sentence, self.exit_code = sentence, exit_code


@dataclass(frozen=True, slots=True)
class GivenPaths:
    """The places given as options, of the group or of the command."""

    config: Path | None = None
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Cli:
    """What a command works with."""

    root: Path
    as_json: bool
    params: Argon2Params
    config_path: Path
    """The configuration file, which may be missing."""

    @contextmanager
    def directory(self) -> Iterator[Directory]:
        """The open directory."""
        directory = open_directory(self.root)
        try:
            yield directory
        finally:
            directory.close()

    def answer(self, fields: Mapping[str, object], *lines: str) -> None:
        """Print the result on standard output: ``fields`` with --json, else ``lines``."""
        for line in [json.dumps(fields)] if self.as_json else lines:
            click.echo(line)

    def remark(self, line: str) -> None:
        """Print something for people on standard error."""
        if not self.as_json:
            click.echo(line, err=True)


def _settings(config: Path | None, data: Path | None) -> dict[str, Any]:
    """The configuration file as it is; a mistake elsewhere in it does not stop administration."""
    path = configuration.find(config, data)
    if config is None and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise Refusal("the configuration file cannot be read: check --config", EXIT_USAGE) from None


def data_root(config: Path | None, data: Path | None) -> Path:
    """The data root: ``data`` if given, else the configuration's key ``data``, else the default."""
    if data is not None:
        return data
    value = _settings(config, None).get("data", str(DEFAULT_DATA))
    if not isinstance(value, str):
        raise Refusal("the configuration's 'data' is not a path: correct the file", EXIT_USAGE)
    return Path(value)


def argon2_params(config: Path | None, data: Path | None) -> Argon2Params:
    """The cost of new keyslots: the configuration's, or RFC 9106's second choice."""
    section = _settings(config, data).get("argon2", {})
    try:
        return configuration.argon2_params(section)
    except ValidationError:
        raise Refusal(
            "the configuration's [argon2] is wrong: see 'sealbox check-config'", EXIT_USAGE
        ) from None


def put_directory_of(config: Path | None, data: Path | None, root: Path) -> None:
    """Let this process know where the configuration puts the directory of a data root, and how it calls the
    server. Raises Refusal."""
    settings = _settings(config, data)
    section = "directory"
    try:
        put_directory_by(root, settings.get(section, {}))
        section = "node"
        call_node_by(root, settings.get(section, {}), _end_with_lease)
    except ValidationError:
        raise Refusal(
            f"the configuration's [{section}] is wrong: see 'sealbox check-config'", EXIT_USAGE
        ) from None


def _end_with_lease() -> NoReturn:
    """In a thread: another node may have the accounts by now; commands may be killed at any step."""
    click.echo(f"sealbox: {explain(LeaseOver())[0]}", err=True)
    os._exit(EXIT_BUSY)


def mail_limits(cli: Cli) -> tuple[StoreLimits, MimeLimits]:
    """The configuration's bounds on accounts and messages, or the defaults."""
    settings = _settings(cli.config_path if cli.config_path.exists() else None, cli.root)
    try:
        return configuration.mail_limits(settings.get("store", {}), settings.get("mime", {}))
    except ValidationError:
        raise Refusal(
            "the configuration's [store] or [mime] is wrong: see 'sealbox check-config'", EXIT_USAGE
        ) from None


def node_section(cli: Cli) -> NodeSection:
    """What the configuration says of this node; it was read when the command began."""
    settings = _settings(cli.config_path if cli.config_path.exists() else None, cli.root)
    return NodeSection.model_validate(settings.get("node", {}))


def deletion_hold_days(cli: Cli) -> float:
    """The days in which a new account is held, or the default, which is none."""
    settings = _settings(cli.config_path if cli.config_path.exists() else None, cli.root)
    try:
        return configuration.deletion_hold_days(settings.get("accounts", {}))
    except ValidationError:
        raise Refusal(
            "the configuration's [accounts] is wrong: see 'sealbox check-config'", EXIT_USAGE
        ) from None


def retention_days(cli: Cli) -> float:
    """How long snapshots are kept; a mistake in the configuration does not stop a deletion."""
    try:
        return configuration.load(cli.config_path).snapshots.retention_days
    except configuration.ConfigError:
        return BackupLimits().retention_days


def command(function: Callable[Concatenate[Cli, P], None]) -> Callable[..., None]:
    """Make ``function`` a command's body: adds --data, --config and --json, and explains errors.

    Root works as the user who owns the data.
    """
    return _command(function, other_owner)


def machine_command(function: Callable[Concatenate[Cli, P], None]) -> Callable[..., None]:
    """As ``command``, for what concerns the machine and not the data: root stays root."""
    return _command(function, lambda _: None)


def _command(
    function: Callable[Concatenate[Cli, P], None], work_as: Callable[[Path], Owner | None]
) -> Callable[..., None]:
    @click.option("--json", "as_json", is_flag=True, help="Answer, also about errors, in JSON.")
    @click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file.")
    @click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Data root.")
    @click.pass_context
    @functools.wraps(function)
    def body(
        context: click.Context,
        /,
        as_json: bool,
        config: Path | None,
        data: Path | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        given = context.find_object(GivenPaths) or GivenPaths()
        owner: Owner | None = None
        cli: Cli | None = None
        try:
            # A --config given to the command beats a --data given to the group.
            nearest = data if data is not None or config is not None else given.data
            chosen = given.config if config is None else config
            cli = Cli(
                data_root(chosen, nearest),
                as_json,
                argon2_params(chosen, nearest),
                configuration.find(chosen, nearest),
            )
            put_directory_of(chosen, nearest, cli.root)
            owner = work_as(cli.root)
            with working_as(owner):
                _finish_key_exchange(cli)
                function(cli, *args, **kwargs)
        except Refusal as refusal:
            _fail(refusal.sentence, refusal.exit_code, as_json)
        except StoreError as error:
            sentence, exit_code = explain(error, cli.root if cli else None)
            if owner is not None and exit_code == EXIT_STORAGE:
                sentence += f" (tried as {owner}, who owns the data)"
            _fail(sentence, exit_code, as_json)
        except BackupError as error:
            # Its texts are sentences that contain nothing but names of objects.
            _fail(str(error), _exit_code(error), as_json)
        finally:
            if cli is not None:
                forget_lease(cli.root)

    return body


def _finish_key_exchange(cli: Cli) -> None:
    """Go on with what 'sealbox server-key rotate' has begun. Raises StoreError."""
    if not is_begun(cli.root) or cli.root.stat().st_uid != os.geteuid():
        return  # what another user than the owner writes, the server could not read
    from backup.key_rotation import finish

    try:
        found = finish(cli.root, int(time.time() * 1000))
    except (NotInitialised, ServerKeyLost, WrongServerKey, DirectoryUnderKey):
        return  # the command itself says what that means for it
    except Busy:
        raise Refusal(
            "the server's key is being exchanged, and something else has the directory open: if a server runs"
            " whose new key was put in its place, restart it",
            EXIT_BUSY,
        ) from None
    if found is Found.FINISHED:
        cli.remark("the server's key was exchanged: what was left of that is done now")


def _exit_code(error: BackupError) -> int:
    match error:
        case StoreUnavailable():
            return EXIT_BUSY
        case SecretOfThen():
            return EXIT_SECRET
        case SegmentDamaged() | ChainBroken() | ImageUnreadable():
            return EXIT_STORAGE
        case _:
            return EXIT_REFUSED


def find_account(directory: Directory, name: str) -> AccountRecord:
    """The account called ``name``. Raises NoSuchAccount."""
    record = directory.login(name)
    if record is None:
        raise NoSuchAccount
    return record


def find_account_here(cli: Cli, directory: Directory, name: str) -> AccountRecord:
    """The same, for what is done to the account's files. Raises NoSuchAccount, OnAnotherNode."""
    record = find_account(directory, name)
    require_here(cli.root, record)
    return record


def _fail(sentence: str, exit_code: int, as_json: bool) -> NoReturn:
    text = json.dumps({"error": sentence, "exit_code": exit_code}) if as_json else f"sealbox: {sentence}"
    click.echo(text, err=True)
    sys.exit(exit_code)


__all__ = [
    "DEFAULT_DATA",
    "EPILOG",
    "EXIT_BUSY",
    "EXIT_REFUSED",
    "EXIT_SECRET",
    "EXIT_STORAGE",
    "EXIT_TAMPERED",
    "EXIT_USAGE",
    "Cli",
    "GivenPaths",
    "Refusal",
    "argon2_params",
    "command",
    "data_root",
    "deletion_hold_days",
    "explain",
    "find_account",
    "find_account_here",
    "machine_command",
    "mail_limits",
    "put_directory_of",
    "retention_days",
]
