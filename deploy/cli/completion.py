"""sealbox completion. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from deploy.cli.root import EPILOG

SHELLS = ("bash", "fish", "zsh")
_PROGRAM, _VARIABLE = "sealbox", "_SEALBOX_COMPLETE"


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options with the Tab key; no mail is touched.

    For bash: sealbox completion bash > /etc/bash_completion.d/sealbox
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    of_all = made(context.find_root().command, {}, _PROGRAM, _VARIABLE)
    # Not the class's own: bash is not to be asked for its version where the package is built.
    click.echo(ShellComplete.source(of_all))
