"""``sealbox privacy check``: do the promises hold here and now? Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import click

from deploy import config as configuration
from deploy.cli.owner import as_caller
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, command
from deploy.privacy.checks import of_the_data, of_the_machine
from deploy.privacy.finding import Finding, State

_ONLY_TESTED = (
    "The numbers are those of the promises in SECURITY.md. Of 3, 12, 13, 14 and 15 there is nothing to look"
    " at on a machine: tests prove them."
)


@click.group(epilog=EPILOG)
def privacy() -> None:
    """Look whether what users were promised is kept."""


@privacy.command(epilog=EPILOG)
@command
def check(cli: Cli) -> None:
    """Look at the running server and its data; exit code 6 if a promise is not kept, and what to do.

    Exit code 5 if all that could be looked at is in order, but not everything could: the server does not
    run, the store does not answer, or this user may not look into the server's processes, as root may.
    Nothing is changed, and no mail is read.
    """
    try:
        config = configuration.load(cli.config_path)
    except configuration.ConfigError as error:
        raise Refusal("; ".join(error.mistakes), EXIT_USAGE) from None
    with as_caller():
        found = [*of_the_machine(config)]
    found += of_the_data(config)
    broken, unseen = ([one for one in found if one.state is state] for state in (State.BROKEN, State.UNSEEN))
    cli.answer(
        {
            "kept": not broken and not unseen,
            "not_kept": sorted({number for one in broken for number in one.promises}),
            "not_seen": sorted({number for one in unseen for number in one.promises}),
            "checks": [_fields(one) for one in found],
        },
        *map(_line, found),
        _ONLY_TESTED,
    )
    if broken:
        raise SystemExit(EXIT_STORAGE)
    if unseen:
        raise SystemExit(EXIT_BUSY)


def _fields(one: Finding) -> dict[str, object]:
    return {
        "promises": one.promises,
        "check": one.check,
        "state": one.state.name.lower(),
        "said": one.said,
        "step": one.step,
    }


def _line(one: Finding) -> str:
    numbers = ", ".join(map(str, one.promises))
    word = "promises" if len(one.promises) > 1 else "promise"
    step = f"\n{'':10}-> {one.step}" if one.step else ""
    return f"{one.state:<9} {one.check}: {one.said} ({word} {numbers}){step}"
