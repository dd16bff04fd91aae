"""sealbox account move. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field

import click

from deploy.cli.root import EPILOG, Cli, Refusal, command, find_account, find_account_here
from deploy.cli.sentences import EXIT_BUSY, EXIT_REFUSED, EXIT_STORAGE
from deploy.cli.snapshot_store import configured
from deploy.texts import counted
from mailstore.account import AccountPaths, account_paths
from mailstore.directory import (
    AccountRecord,
    Directory,
    Move,
    MoveId,
    Moves,
    Phase,
    Seen,
    Side,
    Trouble,
    View,
    is_over,
    moves_of,
    node_name,
)
from mailstore.errors import DirectoryNotShared, MoveUnderWay
from mailstore.invitation_files import invitations
from mailstore.limits import MoveLimits

_POLL_S = 0.1
_SELDOM = 10
"""Of how many looks at the account's folder one asks the directory, too, while the node copies for long."""

_SOON_S = 3.0
_REOPEN_S = 10.0
"""Seconds that the server has to open an account that does not move, until it is called closed."""

_LATE_S = 15.0
"""Seconds beyond the longest silence after which a server's own process is given up, too."""

_NO_NAME = "this server has no name: set [node] name in its configuration"

_ENDS: dict[Trouble, tuple[int, str]] = {
    Trouble.SILENCE: (EXIT_BUSY, "{} did not answer in time: does its server run, with [backup] and [node]?"),
    Trouble.SESSIONS: (
        EXIT_BUSY,
        "on {} its sessions, or a command, did not end in time: try again",
    ),
    Trouble.DISK_FULL: (EXIT_STORAGE, "the disk of {} is full: make room there"),
    Trouble.STORE: (EXIT_BUSY, "{} cannot use the object store: its log says why"),
    Trouble.OTHER_STORE: (
        EXIT_REFUSED,
        "the snapshots of {} go into another bucket: all nodes need prefixes of one bucket, or folders that"
        " all of them see",
    ),
    Trouble.DAMAGED: (EXIT_STORAGE, "something is damaged on {}: its log says what"),
    Trouble.OTHER: (EXIT_BUSY, "it failed on {}: its log says why"),
}


@dataclass(slots=True)
class _Course:
    """What the command has seen of a move."""

    move: Move
    paths: AccountPaths
    begun_s: float = field(default_factory=time.monotonic)
    closed_s: float | None = None
    phase: Phase | None = None
    changed_s: float = field(default_factory=time.monotonic)

    def wait(self) -> None:
        """Until the directory is to be asked: soon if the account is closed, or a step was just taken."""
        is_soon = self.is_closed() or time.monotonic() < self.changed_s + _SOON_S
        for _ in range(1 if is_soon else _SELDOM):
            time.sleep(_POLL_S)
            if self.is_closed():
                return

    def is_closed(self) -> bool:
        """Whether it has been, at any time."""
        if self.closed_s is None and self.paths.moving.exists():
            self.closed_s = time.monotonic()
        return self.closed_s is not None

    def looked_at(self, cli: Cli, seen: Seen | None) -> None:
        """Note what there is, and tell people of it."""
        if seen is None or seen.move.move_id != self.move.move_id:
            return
        self.move = seen.move
        if self.phase is not self.move.phase:
            self.phase, self.changed_s = self.move.phase, time.monotonic()
            if self.phase is Phase.COPYING:
                cli.remark(f"node {self.move.target} can copy now; the account stays open")
            elif self.phase is Phase.LAST:
                cli.remark("the account is closed, and its last changes are copied")


@click.command(epilog=EPILOG)
@click.argument("name", metavar="ACCOUNT")
@click.argument("node", required=False)
@click.option("--cancel", is_flag=True, help="End the move that is under way; the account stays here.")
@command
def move(cli: Cli, name: str, node: str | None, cancel: bool) -> None:
    """Move an account, with all its mail, from this server to the node NODE of the same directory.

    The other node copies it from the snapshots, which takes as long as it is large, while it is in use. Then
    its sessions end, the last changes are copied, and within seconds it is open at the other node: with the
    same messages, UIDs, flags, passwords and settings, so that mail programs notice nothing but a lost
    connection. Mail that arrives in these seconds is put off, and senders bring it again. Links of
    invitations that nobody has used stop working.

    Both servers have to run, with [backup] in one bucket. If anything fails, or one of them is killed, the
    account is open again on one of the two, with everything in it, at the latest after [node]
    move_closed_max_s. What was here is kept in replaced/ for [snapshots] retention_days.
    """
    if cancel is (node is not None):
        raise Refusal("give a node to move the account to, or --cancel")
    mine = node_name(cli.root)
    if mine is None:
        raise Refusal(_NO_NAME)
    with cli.directory() as directory:
        moves = moves_of(directory)
        if node is None:
            _cancel(cli, moves, find_account(directory, name))
            return
        limits = configured(cli).node.move_limits()
        record = find_account_here(cli, directory, name)
        wanted = Move(record.account_id, MoveId(os.urandom(16).hex()), mine, node, record.node_generation)
        links = len(invitations(cli.root, record.account_id))
        moves.begin(wanted)
        if links:
            cli.remark(f"once it has moved, {counted(links, 'link')} of invitations will lead nowhere")
        course = _Course(wanted, account_paths(cli.root, record.account_id))
        after = _followed(cli, moves, course, limits)
    _answer(cli, after, course)


def require_stays(directory: Directory, record: AccountRecord) -> None:
    """For what may not happen while the account is copied. Raises MoveUnderWay."""
    with suppress(DirectoryNotShared):
        seen = moves_of(directory).view(record.account_id).seen
        if seen is not None and not is_over(seen.move):
            raise MoveUnderWay


def _cancel(cli: Cli, moves: Moves, record: AccountRecord) -> None:
    seen = moves.view(record.account_id).seen
    if seen is None or not moves.cancel(seen.move):
        raise Refusal("this account is not being moved: 'sealbox account show' says where it is")
    stays = f"stays on node {seen.move.source}"
    if seen.move.source == node_name(cli.root):
        stays = _stays(account_paths(cli.root, record.account_id))
    cli.answer(
        {"account": record.account_id, "name": record.name, "cancelled": True}, f"{record.name}: {stays}"
    )


def _followed(cli: Cli, moves: Moves, course: _Course, limits: MoveLimits) -> AccountRecord:
    """The account's record once it has moved. Raises Refusal: it has not."""
    try:
        while True:
            view = moves.view(course.move.account_id)
            course.looked_at(cli, view.seen)
            if _is_over(moves, course, view, limits):
                break
            course.wait()
    except KeyboardInterrupt:
        if moves.cancel(course.move):
            raise Refusal(f"cancelled: the account {_stays(course.paths)}", EXIT_BUSY) from None
        view = moves.view(course.move.account_id)
    if view.record is not None and view.record.node == course.move.target:
        return view.record
    if view.record is None:
        raise Refusal("the account has not moved: it was deleted", EXIT_BUSY)
    raise Refusal(f"the move was cancelled: the account {_stays(course.paths)}", EXIT_BUSY)


def _is_over(moves: Moves, course: _Course, view: View, limits: MoveLimits) -> bool:
    """Whether the move is. Raises Refusal: it has failed."""
    seen = view.seen
    if seen is None or seen.move.move_id != course.move.move_id:
        return True
    move = seen.move
    if move.phase is Phase.FAILED:
        moves.cancel(move)
        raise _refusal(course, move.failed or Side.SOURCE, move.trouble)
    # The source gives up a silent target; if it does not, it is silent itself.
    if seen.silent_s > max(limits.silence_max_s, limits.closed_max_s) + _LATE_S and moves.cancel(move):
        raise _refusal(course, Side.SOURCE, Trouble.SILENCE)
    return False


def _stays(paths: AccountPaths) -> str:
    """Says that an account stays here, and whether it is open, for which the server gets some seconds."""
    until = time.monotonic() + _REOPEN_S
    while paths.moving.exists():
        if time.monotonic() > until:
            return (
                "stays here, but is still closed: the server opens it when its snapshot process runs and"
                " reaches PostgreSQL"
            )
        time.sleep(_POLL_S)
    return "stays here, and is open"


def _refusal(course: _Course, side: Side, trouble: Trouble) -> Refusal:
    exit_code, sentence = _ENDS.get(trouble, _ENDS[Trouble.OTHER])
    node = course.move.target if side is Side.TARGET else course.move.source
    return Refusal(
        f"the account {_stays(course.paths)}: {sentence.format(f'node {node}')}",
        exit_code,
    )


def _answer(cli: Cli, record: AccountRecord, course: _Course) -> None:
    now_s = time.monotonic()
    closed_s = 0.0 if course.closed_s is None else now_s - course.closed_s
    fields = {
        "account": record.account_id,
        "name": record.name,
        "from": course.move.source,
        "node": record.node,
        "node_generation": record.node_generation,
        "seconds": round(now_s - course.begun_s, 2),
        "closed_seconds": round(closed_s, 2),
    }
    cli.answer(
        fields,
        f"{record.name}: on node {record.node} now, after {now_s - course.begun_s:.0f} s;"
        f" it was closed for {closed_s:.1f} s",
    )
