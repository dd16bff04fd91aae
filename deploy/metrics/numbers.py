"""Numbers that were served, and what two looks at them say about the time between. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """One look. ``at_s`` is when it was, by a clock that never goes back."""

    samples: dict[tuple[str, Labels], float]
    at_s: float

    def get(self, name: str, **labels: str) -> float | None:
        """One number; None if it is not there."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def sum(self, name: str, **labels: str) -> float:
        """All numbers of a name whose labels include these."""
        return sum(value for _, value in self.having(name, **labels))

    def having(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """The numbers of a name whose labels include these, each with its labels."""
        for (found, own), value in self.samples.items():
            if found == name and labels.items() <= dict(own).items():
                yield dict(own), value


MOST_SAMPLES = 20_000
"""In one answer; ours has some hundreds for each worker's process."""


def read(text: str, at_s: float) -> Numbers:
    """The numbers in an answer of ``deploy.metrics.http``.

    Raises:
        ValueError: these are no numbers of a server's. What answers may be anybody's, so nothing in a label
            may be more than text on a terminal.
    """
    samples: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if not all(map(str.isprintable, one.labels.values())) or len(samples) >= MOST_SAMPLES:
                raise ValueError("labels that cannot be shown, or too many of them")
            if math.isfinite(one.value):
                samples[one.name, tuple(sorted(one.labels.items()))] = float(one.value)
    return Numbers(samples, at_s)


@dataclass(frozen=True, slots=True)
class Between:
    """What has happened between two looks."""

    before: Numbers
    now: Numbers

    @property
    def seconds(self) -> float:
        """The time between."""
        return max(self.now.at_s - self.before.at_s, 1e-6)

    def rate(self, name: str, **labels: str) -> float:
        """How often a second; a server that was started anew has counted from 0."""
        grown = 0.0
        for own, value in self.now.having(name, **labels):
            before = self.before.get(name, **own) or 0.0
            grown += value - before if value >= before else value
        return grown / self.seconds

    def quantile_s(self, share: float, name: str, **labels: str) -> float | None:
        """The time that so many of a histogram's events stayed below; None when there were none.

        As Prometheus's histogram_quantile: between two bounds a straight line is taken for true.
        """
        counts: defaultdict[float, float] = defaultdict(float)
        for own, value in self.now.having(f"{name}_bucket", **labels):
            before = self.before.get(f"{name}_bucket", **own) or 0.0
            counts[float(own["le"])] += value - before if value >= before else value
        total = counts.get(math.inf, 0.0)
        if not total:
            return None
        wanted, below, bound_below = share * total, 0.0, 0.0
        for bound in sorted(counts):
            if counts[bound] >= wanted:
                if math.isinf(bound) or counts[bound] == below:
                    return bound_below
                return bound_below + (bound - bound_below) * (wanted - below) / (counts[bound] - below)
            below, bound_below = counts[bound], bound
        return bound_below
