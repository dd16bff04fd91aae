"""sealbox who, sealbox kick: the sessions of a running server. Exit codes: see deploy/cli/sentences.py."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from backup.moment import utc_ms
from deploy import control
from deploy.cli.root import EPILOG, EXIT_BUSY, Cli, Refusal, command, find_account
from deploy.texts import counted, utc_s

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@contextmanager
def _server(cli: Cli) -> Iterator[None]:
    try:
        yield
    except control.NotServed:
        raise Refusal(
            f"no server runs on {cli.root}: start it, or name the data root of the one that runs with --data"
        ) from None
    except control.NoAnswer:
        raise Refusal(
            "a worker of the server does not answer: look at the server's log, and try again", EXIT_BUSY
        ) from None


def _duration(seconds: float) -> str:
    """A time in its largest unit."""
    unit_s, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{int(seconds) // unit_s} {unit}"


@click.command(epilog=EPILOG)
@command
def who(cli: Cli) -> None:
    """Show who is logged in by IMAP or POP3: account, protocol, address, since when, idle for how long.

    Asks the running server, which writes nothing of it anywhere. No mail is read or changed. Addresses are
    shown if the access log may have them.
    """
    with _server(cli):
        found = control.who(cli.root)
    with cli.directory() as directory:
        names = {str(one.account_id): one.name for one in directory.accounts()}
    sessions = sorted(
        ((names.get(one.account, one.account), one) for one in found.sessions),
        key=lambda named: (named[0], named[1].since_s),
    )
    fields = [
        {
            "name": name,
            "account": one.account,
            "protocol": one.protocol,
            "address": one.address,
            "since": utc_ms(int(one.since_s) * 1000),
            "idle_s": round(one.idle_s),
        }
        for name, one in sessions
    ]
    cli.answer(
        {"sessions": fields, "not_logged_in": found.not_logged_in},
        *(
            f"{name}  {one.protocol}  {one.address}  since {utc_s(int(one.since_s))}"
            f"  idle {_duration(one.idle_s)}"
            for name, one in sessions
        ),
        f"{counted(len(sessions), 'session')}; not logged in: {counted(found.not_logged_in, 'connection')}",
    )


@click.command(epilog=EPILOG)
@click.argument("name")
@command
def kick(cli: Cli, name: str) -> None:
    """End all sessions of the account NAME; no mail is lost, and what a client has asked for is finished.

    Clients are told (BYE, -ERR) and may log in again: to keep them out, see 'sealbox account disable' and
    'sealbox app-password revoke'. Nothing of it is written anywhere.
    """
    with cli.directory() as directory:
        record = find_account(directory, name)
    with _server(cli):
        ended = control.disconnect(cli.root, str(record.account_id))
    cli.answer(
        {"account": record.account_id, "name": record.name, "ended": ended},
        f"ended {counted(ended, 'session')} of {record.name}" if ended else f"{record.name} has no session",
    )
