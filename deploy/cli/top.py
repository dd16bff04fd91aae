"""``sealbox top``: the running server's numbers, live in the terminal.

Exit codes: see deploy/cli/sentences.py.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from http.client import HTTPException
from urllib.error import HTTPError, URLError

import click
from rich.console import Console
from rich.live import Live

from deploy import config as configuration
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_USAGE, Cli, Refusal, command
from deploy.metrics.numbers import Between, Numbers, read
from deploy.metrics.screen import screen
from deploy.metrics.summary import Summary, summary_of

ANSWER_MAX_BYTES = 8 * 1024 * 1024
PATIENCE_S = 10.0
"""For each piece of an answer, and for all of it."""
ONCE_S = 1.0
"""Between the two looks of --once and --json: a rate needs a time."""

_PIECE_BYTES = 65_536
_REASON_MAX_CHARS = 200
_NO_NUMBERS = "what {place} answers are no numbers of Sealbox"

OFF = (
    'no numbers are served: set [metrics] listen = ["127.0.0.1:9190"] in {path} and restart the server,'
    " or name another with --url"
)


@click.command(epilog=EPILOG)
@click.option("--once", is_flag=True, help="Print one screen and end.")
@click.option(
    "--every", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, metavar="SECONDS",
    help="Time between two looks.",
)  # fmt: skip
@click.option("--url", metavar="URL", help="Where the numbers are; without it, where the configuration says.")
@command
def top(cli: Cli, once: bool, every: float, url: str | None) -> None:
    """Show what the running server does: sessions, logins, commands, mail, snapshots, the machine.

    Reads what the server serves for Prometheus ([metrics] listen): numbers, and nothing of anybody's mail.
    Rates are of the time since the last look: logins and mail a minute, commands a second. q or Ctrl-C ends
    it. Nothing is changed, and no mail is read.
    """
    place = url or _place(cli)
    if not place.startswith(("http://", "https://")):
        raise Refusal("write --url http://HOST:PORT/metrics", EXIT_USAGE)
    server = place.partition("://")[2].partition("/")[0]
    before = _look(place)
    if once or cli.as_json:
        time.sleep(ONCE_S)
        found = _summary(place, before, _look(place))
        if cli.as_json:
            cli.answer(asdict(found))
        else:
            console = _console()
            _print(console, found, server)
        return
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise Refusal("this is no terminal: use --once or --json", EXIT_USAGE)
    _live(place, server, every, before)


def _place(cli: Cli) -> str:
    try:
        config = configuration.load(cli.config_path)
    except configuration.ConfigError as error:
        raise Refusal("; ".join(error.mistakes), EXIT_USAGE) from None
    if not config.metrics.listen:
        raise Refusal(OFF.format(path=cli.config_path), EXIT_USAGE)
    host, _, port = config.metrics.listen[0].rpartition(":")
    # Whoever listens on all addresses is reached at the machine's own.
    return f"http://{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}/metrics"  # noqa: S104 - compared, not bound


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Numbers are where the configuration says, or nowhere."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        """None: the redirect is taken for an error."""


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
"""Neither a proxy nor another server is asked, whatever the environment and the answer say."""


def _look(place: str) -> Numbers:
    """Raises Refusal."""
    try:
        text = _fetched(place)
    except (URLError, OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = getattr(error, "reason", error)
        why = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        shown = "".join(one if one.isprintable() else "?" for one in why[:_REASON_MAX_CHARS])
        raise Refusal(f"{place} does not answer ({shown}): is the server running?", EXIT_BUSY) from None
    try:
        numbers = read(text.decode("utf-8"), time.monotonic())
    except (ValueError, KeyError):
        raise Refusal(_NO_NUMBERS.format(place=place), EXIT_USAGE) from None
    if len(text) > ANSWER_MAX_BYTES or not any(True for _ in numbers.having("sealbox_build")):
        raise Refusal(_NO_NUMBERS.format(place=place), EXIT_USAGE)
    return numbers


def _fetched(place: str) -> bytes:
    """The answer, or a little more than may be of it. Raises OSError, URLError, HTTPException."""
    text, until = b"", time.monotonic() + PATIENCE_S
    with _OPENER.open(place, timeout=PATIENCE_S) as answer:
        while len(text) <= ANSWER_MAX_BYTES and (more := answer.read1(_PIECE_BYTES)):
            text += more
            if time.monotonic() > until:
                raise TimeoutError("it is too slow")
    return text


def _summary(place: str, before: Numbers, now: Numbers) -> Summary:
    """Raises Refusal."""
    try:
        return summary_of(Between(before, now), time.time())
    except (ValueError, KeyError, OverflowError):
        raise Refusal(_NO_NUMBERS.format(place=place), EXIT_USAGE) from None


def _print(console: Console, found: Summary, server: str) -> None:
    width, height = console.size
    height = max(height, 24)
    drawn = screen(found, width=width, height=height, server=server, clock=_clock(), below="")
    console.print(drawn, height=height)


def _console() -> Console:
    """One for which what a server says is text, and nothing to be obeyed."""
    return Console(markup=False, emoji=False, highlight=False)


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def _live(place: str, server: str, every: float, before: Numbers) -> None:
    console = _console()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        last, wait_s = before, ONCE_S
        while not pressed(wait_s):
            wait_s = every
            try:
                now = _look(place)
                found = _summary(place, last, now)
            except Refusal as error:
                live.update(error.sentence, refresh=True)
                continue
            width, height = console.size
            live.update(
                screen(found, width=width, height=height, server=server, clock=_clock()), refresh=True
            )
            last = now


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Tells, after so many seconds at most, whether somebody wants to end this; Ctrl-C does too."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([terminal], [], [], left)[0]:
                key = os.read(terminal, 1)
                if key in (b"q", b"Q", b"\x03", b"\x04", b""):
                    return True
        return False

    try:
        tty.setcbreak(terminal)
        yield pressed
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
