"""The move of an account from one node to another: which steps there are, and who may take which. Pure.

A move is one row of the directory. The source begins it and offers snapshots, the target copies them; then
the source closes the account and offers the last one, and the target takes the account: node, generation and
the end of the move are one transaction. Whoever gives up does so before that, or comes too late. So the
account is the source's until that transaction, and the target's from then on, whoever is killed when.

What each side has on its disk is a mark with the move's id: of the source, that the account is closed; of the
target, that the folder in its place is what it has built. A mark decides nothing: what it means is what the
directory says, see :func:`source_due` and :func:`target_due`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from typing import Any, NewType, Protocol, runtime_checkable

from mailstore.directory.interface import AccountRecord, Directory, Recipient
from mailstore.errors import AlreadyThere, DirectoryNotShared, MoveOver, MoveUnderWay, OnAnotherNode
from mailstore.keys import AccountId
from mailstore.limits import MoveLimits

MoveId = NewType("MoveId", str)

FORGOTTEN_S = 3_600.0
"""Seconds for which a move that has failed is remembered for whoever asked for it."""


class Side(StrEnum):
    """Who takes a step."""

    SOURCE = "source"
    TARGET = "target"


class Phase(StrEnum):
    """How far a move has come, and so whose turn it is."""

    BEGUN = "begun"
    """The source has been asked; it takes a snapshot."""

    COPYING = "copying"
    """The target copies what the ticket names. The account is open at the source."""

    COPIED = "copied"
    """The target has that. The source closes the account, or offers what has come since."""

    LAST = "last"
    """The account is closed at the source, and the ticket names everything: the target may take it."""

    FAILED = "failed"
    """It goes no further, and ``trouble`` says why. The account is the source's."""


class Trouble(StrEnum):
    """Why a move has failed; of the side that says so, or of the other one where it is silent."""

    NONE = ""
    SILENCE = "silence"
    SESSIONS = "sessions"
    DISK_FULL = "disk full"
    STORE = "object store"
    OTHER_STORE = "other object store"
    DAMAGED = "damaged"
    OTHER = "other"


_STEPS = frozenset(
    {
        (Side.SOURCE, Phase.BEGUN, Phase.BEGUN),  # it is there, but its snapshots keep it waiting
        (Side.SOURCE, Phase.BEGUN, Phase.COPYING),
        (Side.TARGET, Phase.COPYING, Phase.COPYING),  # it is at work, and says how far
        (Side.TARGET, Phase.COPYING, Phase.COPIED),
        (Side.SOURCE, Phase.COPIED, Phase.COPYING),  # much has come meanwhile: once more, before it closes
        (Side.SOURCE, Phase.COPIED, Phase.COPIED),  # as with BEGUN; or it has just closed the account
        (Side.SOURCE, Phase.COPIED, Phase.LAST),
        *((side, phase, Phase.FAILED) for side in Side for phase in Phase if phase is not Phase.FAILED),
    }
)


@dataclass(frozen=True, slots=True)
class Move:
    """One move. ``generation`` is the account's when it was begun: if it is another one, it is no more."""

    account_id: AccountId
    move_id: MoveId
    source: str
    target: str
    generation: int
    phase: Phase = Phase.BEGUN
    ticket: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the target needs to know of the snapshots, with their keys; what is in it only the two know."""

    copied_bytes: int = 0
    """What the target has fetched of it."""

    is_closed: bool = False
    """Whether the source has closed the account, so that the target has to look often."""

    failed: Side | None = None
    trouble: Trouble = Trouble.NONE


@dataclass(frozen=True, slots=True)
class Seen:
    """A move as the directory has it now, and for how long nobody has taken a step, by its clock."""

    move: Move
    silent_s: float


@dataclass(frozen=True, slots=True)
class View:
    """What the directory says of an account at one moment."""

    record: AccountRecord | None
    seen: Seen | None


class Moves(Protocol):
    """The moves of a directory; all methods block, and raise what its other methods do.

    Each is one transaction, which no other one overlaps.
    """

    def all(self) -> list[Seen]:
        """Those that are not over."""

    def view(self, account_id: AccountId) -> View:
        """Account and move, from the directory itself and never from memory."""

    def begin(self, move: Move) -> None:
        """See :func:`require_beginning`. Raises what that does, NoSuchAccount, NoSuchNode."""

    def step(self, move: Move, side: Side, phase: Phase, **changed: Any) -> Move:
        """See :func:`stepped`; ``move`` names the move, the directory says how far it is. Raises MoveOver."""

    def finish(self, move: Move) -> AccountRecord:
        """Give the account to the target and end the move, see :func:`taken`. Raises MoveOver."""

    def cancel(self, move: Move) -> bool:
        """End a move; False if it was over already."""


@runtime_checkable
class Shared(Protocol):
    """A directory of several nodes."""

    def moves(self) -> Moves:
        """The moves between them."""


def moves_of(directory: Directory) -> Moves:
    """The moves of a directory. Raises DirectoryNotShared: there are no nodes between which to move."""
    if not isinstance(directory, Shared):
        raise DirectoryNotShared
    return directory.moves()


def require_beginning(record: AccountRecord, under_way: Move | None, wanted: Move) -> None:
    """Whether the move may begin. Raises OnAnotherNode, AlreadyThere, MoveUnderWay."""
    if record.node != wanted.source or record.node_generation != wanted.generation:
        raise OnAnotherNode
    if wanted.target == wanted.source:
        raise AlreadyThere
    if not is_past(record, under_way):
        raise MoveUnderWay


def stepped(found: Move | None, move_id: MoveId, side: Side, phase: Phase, **changed: Any) -> Move:
    """The move after a step to ``phase``; ``changed`` are other fields. Raises MoveOver.

    One that has failed needs no keys of snapshots any more, and has none.
    """
    if found is None or found.move_id != move_id or (side, found.phase, phase) not in _STEPS:
        raise MoveOver
    if phase is Phase.FAILED:
        changed["ticket"] = None
    return replace(found, phase=phase, **changed)


def taken(record: AccountRecord | None, found: Move | None, move_id: MoveId) -> AccountRecord:
    """The account's record once the target has it. Raises MoveOver: it does not get it."""
    if record is None or found is None or found.move_id != move_id or found.phase is not Phase.LAST:
        raise MoveOver
    if is_past(record, found):
        raise MoveOver
    return replace(record, node=found.target, node_generation=found.generation + 1)


def given_back(record: AccountRecord | None, found: Move | None, move_id: MoveId) -> AccountRecord | None:
    """The account's record once a move that could have been taken has ended otherwise; None: it is as it was.

    Its generation grows, so that nothing which was said of the move, and comes once more, gives it away.
    """
    if record is None or found is None or found.move_id != move_id or found.phase is not Phase.LAST:
        return None
    if is_past(record, found):
        return None
    return replace(record, node_generation=record.node_generation + 1)


class Due(Enum):
    """What a side has to do now."""

    NOTHING = auto()
    OFFER = auto()
    """Take a snapshot, write the ticket, go to COPYING."""

    CLOSE = auto()
    """Put the mark in place, see everybody out, take the last snapshot, write the ticket, go to LAST."""

    GIVE_UP = auto()
    """Go to FAILED: the other side has been silent, or the account closed, for too long."""

    FORGET = auto()
    """Remove what nobody has asked about: why the move has failed."""

    REOPEN = auto()
    """Remove the mark: the account stays."""

    SET_ASIDE = auto()
    """The account has gone: put its files aside, the mark last."""

    COPY = auto()
    """Build what the ticket names in scratch, go to COPIED."""

    TAKE = auto()
    """Build the last changes, put the folder in its place with the mark, finish."""

    SETTLE = auto()
    """The account has come: remove the mark, and what is in scratch."""

    THROW_AWAY = auto()
    """The account has not come: remove what was built, in its place or in scratch."""


def is_over(move: Move | None) -> bool:
    """Whether it leads nowhere any more."""
    return move is None or move.phase is Phase.FAILED


def is_past(record: AccountRecord | None, move: Move | None) -> bool:
    """Whether it is over, or the account has been given away beside it, as when its node was lost."""
    if record is None or move is None or is_over(move):
        return True
    return record.node != move.source or record.node_generation != move.generation


def source_due(view: View, me: str, mark: MoveId | None, limits: MoveLimits, closed_s: float = 0.0) -> Due:
    """What node ``me`` has to do about an account that it gives away; ``mark`` is in its folder, and has been
    for ``closed_s`` seconds as far as the caller knows."""
    record, seen = view.record, view.seen
    if record is None:
        return Due.NOTHING
    if record.node != me:
        return Due.NOTHING if mark is None else Due.SET_ASIDE
    if mark is not None and (seen is None or is_past(record, seen.move) or mark != seen.move.move_id):
        return Due.REOPEN
    if seen is None or is_past(record, seen.move):
        return Due.FORGET if seen is not None and seen.silent_s > FORGOTTEN_S else Due.NOTHING
    longest_s = limits.silence_max_s if mark is None else limits.closed_max_s
    if max(seen.silent_s, closed_s) > longest_s or (seen.move.phase is Phase.LAST and mark is None):
        return Due.GIVE_UP
    match seen.move.phase:
        case Phase.BEGUN:
            return Due.OFFER
        case Phase.COPIED:
            return Due.CLOSE
    return Due.NOTHING


def target_due(view: View, me: str, mark: MoveId | None, has_scratch: bool) -> Due:
    """What node ``me`` has to do about an account that it is given; ``mark`` is in the folder in place."""
    record, seen = view.record, view.seen
    move = None if seen is None or seen.move.target != me else seen.move
    if move is None or is_past(record, move):
        if mark is None and not has_scratch:
            return Due.NOTHING
        return Due.SETTLE if record is not None and record.node == me else Due.THROW_AWAY
    match move.phase:
        case Phase.COPYING:
            return Due.COPY
        case Phase.LAST:
            return Due.TAKE
    return Due.NOTHING


def may_serve(
    record: AccountRecord | Recipient, me: str | None, mark: MoveId | None, last_generation: int
) -> bool:
    """Whether node ``me`` may open an account: the directory may be an old one, the folder is its own.

    What ``this_node`` decides by; it looks at the mark by itself, which says that the account is about to go.
    ``mark`` is the source's, ``last_generation`` what the folder was opened under last, or will be.
    """
    return record.node == me and mark is None and last_generation <= record.node_generation
