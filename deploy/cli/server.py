"""``sealbox serve``, ``sealbox check-config`` and ``sealbox quickstart``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import click

from deploy import config as configuration
from deploy import first_run, serving
from deploy.cli.owner import other_owner
from deploy.cli.root import EXIT_REFUSED, EXIT_USAGE, GivenPaths, Refusal, explain, put_directory_of
from mailstore.account import check_root
from mailstore.errors import (
    DirectoryKeyWrong,
    DirectoryLost,
    DirectoryRefused,
    DirectoryUnavailable,
    ServerKeyLost,
    StoreError,
    TooNew,
)

_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file."
)
_DATA = click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Data root that holds sealbox.toml."
)
_NAMED = (ServerKeyLost, DirectoryLost, DirectoryKeyWrong, DirectoryRefused, DirectoryUnavailable, TooNew)
"""What is wrong with the data that the configuration can be to blame for."""

_JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def _refuse(sentence: str, exit_code: int = EXIT_REFUSED) -> NoReturn:
    click.echo(f"sealbox: {sentence}", err=True)
    sys.exit(exit_code)


def _load(context: click.Context, config: Path | None, data: Path | None) -> configuration.Config:
    given = context.find_object(GivenPaths) or GivenPaths()
    path = configuration.find(config or given.config, data or given.data)
    try:
        return configuration.load(path)
    except configuration.ConfigError as exc:
        for mistake in exc.mistakes:
            click.echo(f"sealbox: {exc.path}: {mistake}", err=True)
        sys.exit(EXIT_USAGE)


def _refuse_as_root(data: Path) -> None:
    try:
        owner = other_owner(data)
    except StoreError as exc:
        _refuse(*explain(exc))
    if owner is not None:
        _refuse(f"the data in {data} belong to {owner}: start the server as that user")


def _serve(config: configuration.Config, on_ready: first_run.Ready, about_ports: str = "") -> None:
    try:
        serving.run(config, on_ready)
    except serving.CannotBind as exc:
        _refuse(f"{exc}{about_ports}")
    except serving.CannotServe as exc:
        _refuse(str(exc))
    except StoreError as exc:
        _refuse(*explain(exc, config.data))


@click.command()
@_CONFIG
@_DATA
@click.pass_context
def serve(context: click.Context, config: Path | None, data: Path | None) -> None:
    """Serve IMAP, POP3 and LMTP until SIGTERM; SIGHUP reloads certificates and limits.

    Mail that was taken is on the disk, sealed, before the sender is told so: however the server ends, it is
    there.
    """
    loaded = _load(context, config, data)
    _refuse_as_root(loaded.data)
    _serve(loaded, lambda: click.echo(f"sealbox: serving {loaded.data}", err=True))


@click.command("check-config")
@_CONFIG
@_DATA
@_JSON
@click.pass_context
def check_config(context: click.Context, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Read the configuration and name every mistake in it; exit code 2 when there is one.

    So is what would keep the server from starting: a data root or swap that is not encrypted, a folder for a
    socket that is not there. Nothing is changed, and no mail is touched.
    """
    given = context.find_object(GivenPaths) or GivenPaths()
    path = configuration.find(config or given.config, data or given.data)
    mistakes: tuple[str, ...] = ()
    try:
        loaded = configuration.load(path)
        mistakes = tuple(serving.hindrances(loaded))
        check_root(loaded.data)
    except configuration.ConfigError as exc:
        mistakes = exc.mistakes
    except _NAMED as exc:
        mistakes += (explain(exc)[0],)
    except StoreError:
        pass  # the server itself has to be able to read its data
    if as_json:
        click.echo(json.dumps({"config": str(path), "mistakes": mistakes}))
    elif mistakes:
        for mistake in mistakes:
            click.echo(f"sealbox: {path}: {mistake}", err=True)
    else:
        click.echo(f"{path} is in order")
    if mistakes:
        sys.exit(EXIT_USAGE)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Data root.")
@click.option(
    "--port-base",
    type=click.IntRange(1, 65000),
    default=1100,
    show_default=True,
    metavar="N",
    help="Number that the ports are counted from.",
)
@_JSON
def quickstart(data: Path, port_base: int, as_json: bool) -> None:
    """Make an account with sample mail in DIR and serve it on 127.0.0.1; for trying out, not for real mail.

    Ports are N+43 (IMAP), N+93 (IMAPS), N+10 (POP3), N+95 (POP3S), N+24 (LMTP), N+80 (HTTPS) and
    N+90 (metrics).
    """
    _refuse_as_root(data)
    try:
        serving.check_not_served(data.resolve())
        put_directory_of(None, data, data)
        prepared = first_run.prepare(data.resolve(), port_base)
    except StoreError as exc:
        _refuse(*explain(exc, data))
    except Refusal as exc:
        _refuse(exc.sentence, exc.exit_code)
    except (serving.CannotServe, first_run.CannotPrepare) as exc:
        _refuse(str(exc))
    _serve(prepared.config, lambda: first_run.announce(prepared, as_json), "; --port-base chooses others")
