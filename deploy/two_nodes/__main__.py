"""``deploy/two-nodes``: start everything, say what there is, and leave nothing when asked to end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType
from typing import NoReturn

import click

from deploy.cli.sentences import explain
from deploy.two_nodes.programs import CannotStart
from deploy.two_nodes.stage import Stage, become_unprivileged, missing, set_up
from deploy.two_nodes.welcome import json_line, welcome
from mailstore.errors import StoreError

WATCH_S = 0.5
EXIT_REFUSED = 3


class Ended(Exception):
    """Somebody has asked us to end."""


class Signals:
    """Signals are remembered and looked at between two steps, so that no step is left half undone."""

    def __init__(self) -> None:
        self._end, self._again = threading.Event(), threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGUSR1, self._on_again)

    def _on_end(self, _number: int, _frame: FrameType | None) -> None:
        self._end.set()

    def _on_again(self, _number: int, _frame: FrameType | None) -> None:
        self._again.set()

    def pause(self, seconds: float) -> None:
        """Wait. Raises Ended."""
        if self._end.wait(seconds):
            raise Ended

    def take_again(self) -> bool:
        """Whether nodes that have ended are to be started again; asked for once, it is told once."""
        asked = self._again.is_set()
        self._again.clear()
        return asked


def _watch(stage: Stage, signals: Signals) -> NoReturn:
    """Say what has ended, and start nodes again when asked to. Raises Ended."""
    told = set[str]()
    while True:
        signals.pause(WATCH_S)
        gone = {one.name for one in stage.programs() if one.has_ended}
        for name in sorted(gone - told):
            _say(f"{name} has ended; 'kill -USR1 {os.getpid()}' starts nodes again")
        told = gone
        if signals.take_again():
            for node in stage.nodes.values():
                if node.program is not None and node.program.has_ended:
                    node.start()
                    _say(f"node-{node.name} is started again, process {node.program.pid}")


def _say(text: str) -> None:
    click.echo(f"sealbox: {text}", err=True)


def _run(base: int, as_json: bool, signals: Signals) -> None:
    with ExitStack() as ends:
        stage = set_up(base, ends, signals.pause)
        click.echo(json_line(stage) if as_json else welcome(stage))
        try:
            _watch(stage, signals)
        finally:
            _say("ending")


@click.command()
@click.option(
    "--port-base",
    type=click.IntRange(1, 65000),
    default=3000,
    show_default=True,
    metavar="N",
    help="Number that the ports are counted from.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once everything runs.")
def main(port_base: int, as_json: bool) -> None:
    """Show two nodes with accounts, a directory in PostgreSQL and a bucket, on 127.0.0.1 and for trying out.

    Runs until Ctrl-C or SIGTERM, and removes everything then. Root runs it as the user postgres or nobody.
    Ports of node a are those of a quick start beyond N+100 (N+193 is IMAP over TLS), of node b beyond N+200.
    """
    signals = Signals()
    os.umask(0o077)  # files are readable by their owner only
    if absent := missing():
        for sentence in absent:
            _say(sentence)
        sys.exit(EXIT_REFUSED)
    try:
        become_unprivileged()
        _say("starting PostgreSQL, a bucket and two nodes (a quarter of a minute)")
        _run(port_base, as_json, signals)
    except Ended:
        return
    except CannotStart as exc:
        _say(str(exc))
    except StoreError as exc:
        _say(explain(exc)[0])
    except OSError as exc:
        _say(f"{exc.filename or 'a file'}: {exc.strerror}")
    sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main(prog_name="deploy/two-nodes")
