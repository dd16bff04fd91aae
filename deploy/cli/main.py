"""The command ``sealbox``: its subcommands in one list. Exit codes: see deploy/cli/root.py."""

import os
from pathlib import Path

import click

from deploy.cli.account import account, recovery_key
from deploy.cli.app_password import app_password
from deploy.cli.backup import backup
from deploy.cli.completion import completion
from deploy.cli.domain import alias, domain
from deploy.cli.export_mail import export_command
from deploy.cli.import_mail import import_command
from deploy.cli.invite import invite_command
from deploy.cli.privacy import privacy
from deploy.cli.restore import restore
from deploy.cli.root import EPILOG, GivenPaths
from deploy.cli.server import check_config, quickstart, serve
from deploy.cli.top import top
from deploy.cli.volume import volume
from deploy.cli.who import kick, who

COMMANDS: tuple[click.Command, ...] = (
    account,
    alias,
    app_password,
    backup,
    check_config,
    completion,
    domain,
    export_command,
    import_command,
    invite_command,
    kick,
    privacy,
    quickstart,
    recovery_key,
    restore,
    serve,
    top,
    volume,
    who,
)


@click.group(epilog=EPILOG)
@click.option(
    "--data", type=click.Path(path_type=Path), envvar="SEALBOX_DATA", metavar="DIR", help="Data root."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="SEALBOX_CONFIG",
    metavar="FILE",
    help="Configuration file.",
)
@click.version_option(package_name="sealbox", prog_name="sealbox")
@click.pass_context
def main(context: click.Context, data: Path | None, config: Path | None) -> None:
    """Sealbox, the mail server whose operator cannot read the mail.

    --data and --config may be given here or after the subcommand; SEALBOX_DATA and SEALBOX_CONFIG in the
    environment are used last.
    """
    # Files that a command creates are readable by their owner only.
    os.umask(0o077)
    context.obj = GivenPaths(config, data)


for _command in COMMANDS:
    main.add_command(_command)
