"""The command ``sealbox``: its subcommands in one list. Exit codes: see deploy/cli/sentences.py."""

import inspect
import os
import re
from importlib import import_module
from pathlib import Path

import click

from deploy.cli.root import EPILOG, GivenPaths

COMMANDS = {
    "account": "account.account",
    "alias": "domain.alias",
    "app-password": "app_password.app_password",
    "backup": "backup.backup",
    "check-config": "server.check_config",
    "completion": "completion.completion",
    "directory": "directory.directory",
    "domain": "domain.domain",
    "export": "export_mail.export_command",
    "import": "import_mail.import_command",
    "invite": "invite.invite_command",
    "kick": "who.kick",
    "node": "node.node",
    "privacy": "privacy.privacy",
    "quickstart": "server.quickstart",
    "recovery-key": "account.recovery_key",
    "restore": "restore.restore",
    "serve": "server.serve",
    "server-key": "server_key.server_key",
    "top": "top.top",
    "volume": "volume.volume",
    "who": "who.who",
}
"""Where each command is, under ``deploy.cli``: the module and its name there."""

_CLAUSE_ENDS = re.compile(r"[.;:](?: |$)")


class Commands(click.Group):
    """The group of all commands; it imports one when it is asked for.

    A server keeps what it has imported for as long as it runs, and has no use for the other commands.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, None if there is none."""
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, name = where.split(".")
        found: click.Command = getattr(import_module(f"deploy.cli.{module}"), name)
        _shorten(found)
        return found


def _shorten(command: click.Command) -> None:
    """Have lists of commands show the first clause of its help, whole: click would cut it at some word."""
    text = inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")
    command.short_help = _CLAUSE_ENDS.split(text, 1)[0]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _shorten(below)


@click.group(cls=Commands, epilog=EPILOG)
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
