"""What was measured, as tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.compare.memory import MemoryFound
from tests.bench.compare.peers import CRYPT, NAMES, OURS, PLAIN
from tests.bench.compare.play import Figure, Played, cpu_per_operation, ratio


@dataclass
class Line:
    """One line of the table: figures by the kind of server, CPU in milliseconds an operation."""

    key: str
    name: str
    unit: str
    values: dict[str, float]
    cpu_ms: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    """How many times as fast we are as each of the others, or as little memory we need."""
    times: float = 0.0
    at_most: float = 0.0

    @property
    def goal(self) -> str:
        """As the table says it."""
        if self.at_most:
            return f"≤ {self.at_most:g} {self.unit}"
        return f"{self.times:g} ×" if self.times else ""

    @property
    def is_met(self) -> bool | None:
        """None where there is no goal, or nobody to compare with."""
        if self.at_most:
            return self.values[OURS] <= self.at_most
        if self.times and PLAIN in self.ratios:
            return self.ratios[PLAIN] >= self.times
        return None


def _line(key: str, figure: Figure, values: dict[str, float], cpu: dict[str, float]) -> Line:
    ratios = {
        kind: ratio(figure.unit, values[OURS], value)
        for kind, value in values.items()
        if kind != OURS and value > 0 and values[OURS] > 0
    }
    return Line(key, figure.name, figure.unit.value, values, cpu, ratios, figure.times, figure.at_most)


def lines_of(played: Played) -> list[Line]:
    """The lines of one row."""
    cpu = {kind: cpu_per_operation(samples) for kind, samples in played.samples.items()}
    return [
        _line(
            played.row.key,
            figure,
            {kind: figure.of(samples) for kind, samples in played.samples.items()},
            cpu if not number else {},
        )
        for number, figure in enumerate(played.row.figures)
    ]


def memory_lines(wanted: dict[str, Figure], found: dict[str, MemoryFound], key: str) -> list[Line]:
    """The lines about memory."""
    return [
        _line(key, figure, {kind: one.values[name] for kind, one in found.items()}, {})
        for name, figure in wanted.items()
    ]


def number(value: float) -> str:
    """Three digits that matter, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _times(value: float | None) -> str:
    return "" if value is None else number(value) if value < 100 else f"{value:,.0f}"


def table(lines: Sequence[Line]) -> str:
    """All lines in Markdown."""
    kinds = [kind for kind in (OURS, PLAIN, CRYPT) if any(kind in line.values for line in lines)]
    others = kinds[1:]
    heads = [*(NAMES[kind] for kind in kinds), *(f"CPU ms: {NAMES[kind]}" for kind in kinds)]
    heads += [f"times {NAMES[kind]}" for kind in others] + ["goal", "met"]
    out = ["| | unit | " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 1) + "---|"]
    for line in lines:
        cells = [line.name, line.unit]
        cells += [number(line.values[kind]) for kind in kinds]
        cells += [number(line.cpu_ms[kind]) if kind in line.cpu_ms else "" for kind in kinds]
        cells += [_times(line.ratios.get(kind)) for kind in others]
        cells += [line.goal, {True: "yes", False: "no", None: ""}[line.is_met]]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


@dataclass
class Grown:
    """One growing row: our and Dovecot's figures by the size of the mailbox."""

    name: str
    unit: str
    values: dict[str, dict[int, float]]
    cpu_ms: dict[str, dict[int, float]]


def exponent(values: dict[int, float]) -> float:
    """Of the power of the size that these figures follow best: 0 is flat, 1 in proportion."""
    points = [(math.log(size), math.log(value)) for size, value in values.items() if value > 0]
    if len(points) < 2:
        return 0.0
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)


def growth_table(grown: Sequence[Grown]) -> str:
    """Figures at every size and the exponents of these and of the CPU time, in Markdown."""
    kinds = list(grown[0].values)
    sizes = list(grown[0].values[OURS])
    heads: list[str] = []
    for kind in kinds:
        heads += [f"{NAMES[kind]}: {sizes[0]:,}", *(f"{size:,}" for size in sizes[1:]), "exponent", "of CPU"]
    out = ["| ms | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for one in grown:
        cells = [one.name]
        for kind in kinds:
            cells += [number(one.values[kind][size]) for size in sizes]
            cells += [f"{exponent(found[kind]):.2f}" for found in (one.values, one.cpu_ms)]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)
