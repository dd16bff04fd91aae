"""How rows are played: the servers in turn, again and again, and what is kept of each turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tests.bench.compare.peers import Peer, pause
from tests.bench.compare.size import Size
from tests.bench.process_figures import cpu_ms

QUIET_S = 0.25
QUIET_SHARE = 0.04
"""Of one core: a server that uses less has nothing of its own left to do."""

LASTING_S = 4.0
"""Longer than Sealbox waits before it indexes what has come (``store.index_delay_s``)."""


class Unit(Enum):
    """What a figure counts, and whether more of it is better."""

    MS = "ms"
    PER_S = "/s"
    MB_S = "MB/s"
    MIB = "MiB"
    KIB = "KiB"

    @property
    def more_is_better(self) -> bool:
        """Rates are; times and memory are not."""
        return self in (Unit.PER_S, Unit.MB_S)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a turn has to say beside its time: octets received, latencies in seconds."""

    octets: int = 0
    latencies: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """One turn that is ready to begin."""

    run: Callable[[], Outcome]
    operations: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn that was played."""

    seconds: float
    cpu_ms: float
    operations: int
    outcome: Outcome


Samples = list[Sample]


def per_operation(samples: Samples) -> float:
    """Milliseconds of one operation, the median of the turns."""
    return statistics.median(1000 * one.seconds / one.operations for one in samples)


def rate(samples: Samples) -> float:
    """Operations a second, the median of the turns."""
    return statistics.median(one.operations / one.seconds for one in samples)


def throughput(samples: Samples) -> float:
    """Megabytes a second, the median of the turns."""
    return statistics.median(one.outcome.octets / one.seconds / 1e6 for one in samples)


def percentile(percent: int) -> Callable[[Samples], float]:
    """Milliseconds within which so many of all latencies of all turns were."""

    def value(samples: Samples) -> float:
        taken = sorted(latency for one in samples for latency in one.outcome.latencies)
        return 1000 * taken[min(len(taken) * percent // 100, len(taken) - 1)]

    return value


def cpu_per_operation(samples: Samples) -> float:
    """Milliseconds of CPU time of all the server's processes, the median of the turns."""
    return statistics.median(one.cpu_ms / one.operations for one in samples)


VALUES = {Unit.MS: per_operation, Unit.PER_S: rate, Unit.MB_S: throughput}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``times`` is the goal beside Dovecot as it comes, ``at_most`` one of our own."""

    name: str
    unit: Unit
    times: float = 0.0
    at_most: float = 0.0
    value: Callable[[Samples], float] | None = None

    def of(self, samples: Samples) -> float:
        """The figure."""
        return (self.value or VALUES[self.unit])(samples)


@dataclass(frozen=True, slots=True)
class Row:
    """What is played in turn; ``prepare`` is told the turn, of which 0 is not measured.

    ``warm`` False leaves turn 0 out: the row is about what has never been asked before.
    """

    key: str
    figures: tuple[Figure, ...]
    prepare: Callable[[Peer, int], Work]
    warm: bool = True
    grows: bool = False
    """Whether it may cost more in a larger mailbox."""
    leaves_work: bool = False
    """Whether a server may have something to do afterwards that it begins only seconds later."""


SLOW_S, SLOW_TURNS = 10.0, 2
"""A server that takes longer for a turn has so few of a row, the first included: it need not be exact."""


@dataclass
class Played:
    """The samples of one row by the kind of server."""

    row: Row
    samples: dict[str, Samples] = field(default_factory=dict)


def measure(peer: Peer, work: Work) -> Sample:
    """Play one turn."""
    before, began = cpu_ms(peer.process.pid), time.perf_counter()
    outcome = work.run()
    seconds = time.perf_counter() - began
    cpu = cpu_ms(peer.process.pid) - before
    peer.look_at_memory()
    return Sample(seconds, cpu, work.operations, outcome)


def until_quiet(peers: Sequence[Peer], at_most_s: float, lasting_s: float = QUIET_S) -> None:
    """Wait until no server does anything of its own, such as writing back its log; not for ever."""
    deadline, quiet_s = time.monotonic() + at_most_s, 0.0
    while quiet_s < lasting_s and time.monotonic() < deadline:
        before = [cpu_ms(peer.process.pid) for peer in peers]
        pause(QUIET_S)
        ran = sum(cpu_ms(peer.process.pid) for peer in peers) - sum(before)
        quiet_s = quiet_s + QUIET_S if ran < 1000 * QUIET_S * QUIET_SHARE * len(peers) else 0.0


def play(row: Row, peers: Sequence[Peer], size: Size) -> Played:
    """Play a row: ours, the others, ours again, until each has had ``size.pairs`` turns that count."""
    until_quiet(peers, size.quiet_s)
    played = Played(row, {peer.kind: [] for peer in peers})
    try:
        for turn in range(0 if row.warm else 1, size.pairs + 1):
            for peer in peers:
                samples = played.samples[peer.kind]
                if len(samples) >= SLOW_TURNS and samples[-1].seconds > SLOW_S:
                    continue
                try:
                    sample = measure(peer, row.prepare(peer, turn))
                except OSError as error:
                    raise RuntimeError(f"{peer.kind}, {row.key}: {error}; {peer.last_words()}") from error
                if turn or sample.seconds > SLOW_S:
                    samples.append(sample)
    finally:
        for peer in peers:
            peer.end_row()
    if row.leaves_work:
        until_quiet(peers, size.quiet_s, LASTING_S)
    return played


def ratio(unit: Unit, ours: float, theirs: float) -> float:
    """How many times as fast we are, or as little memory we need; above 1 is better."""
    return ours / theirs if unit.more_is_better else theirs / ours
