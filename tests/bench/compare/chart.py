"""The comparison as a picture, in one version for light pages and one for dark ones (SVG, by matplotlib)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.compare.peers import CRYPT, NAMES, OURS, PLAIN
from tests.bench.compare.report import Grown, Line, number

MISSING = "no chart, because matplotlib is not here: .venv/bin/pip install -e .[bench]"

_BEGINNINGS = (
    "search-from",
    "sort-date",
    "select",
    "flags",
    "store-one",
    "copy",
    "pop3-one",
    "told-one",
    "peak",
)
"""Rows before which the chart leaves a gap."""


@dataclass(frozen=True, slots=True)
class Colours:
    """Of one version."""

    name: str
    paper: str
    ink: str
    faint: str
    grid: str
    plain: str
    crypt: str
    goal: str
    worse: str


VERSIONS = (
    Colours("light", "#ffffff", "#1f2328", "#59636e", "#d8dee4", "#0969da", "#8c6bc8", "#1a7f37", "#fff1e8"),
    Colours("dark", "#0d1117", "#e6edf3", "#9198a1", "#2a313c", "#58a6ff", "#b794f4", "#3fb950", "#241a12"),
)


@contextmanager
def _plot(colours: Colours) -> Iterator[Any]:
    """matplotlib's pyplot, in the colours of one version. Raises ImportError."""
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sealbox",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "text.color": colours.ink,
        "axes.labelcolor": colours.ink,
        "axes.edgecolor": colours.grid,
        "xtick.color": colours.faint,
        "ytick.color": colours.ink,
        "figure.facecolor": colours.paper,
        "axes.facecolor": colours.paper,
        "savefig.facecolor": colours.paper,
        "legend.frameon": False,
    }
    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context(settings):
        yield pyplot


def _written(name: str, folder: Path, draw: Any, alternative: str) -> str:
    """Draw both versions; how a page shows them, or nothing where matplotlib is not installed."""
    try:
        for colours in VERSIONS:
            with _plot(colours) as pyplot:
                figure = draw(pyplot, colours)
                path = folder / f"{name}-{colours.name}.svg"
                figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
                pyplot.close(figure)
                # matplotlib ends lines of paths with blanks.
                path.write_text(
                    "\n".join(map(str.rstrip, path.read_text("utf-8").splitlines())) + "\n", "utf-8"
                )
    except ImportError:
        return ""
    light, dark = (f"{name}-{colours.name}.svg" for colours in VERSIONS)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{alternative}"></picture>\n'
    )


def draw(lines: Sequence[Line], folder: Path) -> str:
    """How many times as fast Sealbox is, row by row; see :func:`_written`."""
    shown = [line for line in lines if line.ratios]
    return _written(
        "compare",
        folder,
        lambda pyplot, colours: _ratios(pyplot, colours, shown),
        "How many times as fast as Dovecot Sealbox is, row by row; the table below has the figures",
    )


def _ratios(pyplot: Any, colours: Colours, lines: Sequence[Line]) -> Any:
    figure, axes = pyplot.subplots(figsize=(10.5, 0.26 * len(lines) + 1.2))
    places = _places(lines)
    values = [value for line in lines for value in line.ratios.values()] + [line.times or 1 for line in lines]
    low, high = min(*values, 0.5) / 1.6, max(*values, 2.0) * 1.6
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.axvspan(low, 1, color=colours.worse, zorder=0)
    axes.axvline(1, color=colours.faint, linewidth=1, zorder=1)
    for line, place in zip(lines, places, strict=True):
        _one_row(axes, colours, line, place)
    axes.set_yticks(places, [line.name for line in lines], fontsize=9)
    axes.set_ylim(places[-1] - 0.7, places[0] + 0.7)
    ticks = [10.0**power for power in range(-3, 5) if low < 10.0**power < high]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks], fontsize=9)
    axes.tick_params(axis="x", which="both", length=0)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.tick_top()
    axes.grid(axis="x", color=colours.grid, linewidth=0.7, zorder=0)
    for side in ("left", "right", "bottom", "top"):
        axes.spines[side].set_visible(False)
    for where, text, side in ((0.94, "Sealbox is slower", "right"), (1.06, "Sealbox is faster", "left")):
        axes.annotate(
            text,
            (where, 1),
            xytext=(0, 22),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            fontsize=9,
            color=colours.faint,
        )
    axes.legend(
        handles=_legend(pyplot, colours, lines),
        loc="lower left",
        bbox_to_anchor=(-0.42, 1.045),
        ncols=3,
        fontsize=9.5,
        borderaxespad=0,
        columnspacing=1.6,
    )
    return figure


def _places(lines: Sequence[Line]) -> list[float]:
    """Heights, downwards, with a gap where rows of another kind begin."""
    places, at, last = [], 0.0, ""
    for line in lines:
        at -= 1.5 if line.key in _BEGINNINGS and line.key != last else 1.0
        last = line.key
        places.append(at)
    return places


def _one_row(axes: Any, colours: Colours, line: Line, place: float) -> None:
    ratios = line.ratios
    if PLAIN in ratios:
        axes.plot(
            [1, ratios[PLAIN]], [place, place], color=colours.plain, linewidth=3.5, alpha=0.55, zorder=2
        )
        axes.plot(ratios[PLAIN], place, "o", color=colours.plain, markersize=6, zorder=4)
    if CRYPT in ratios:
        axes.plot(ratios[CRYPT], place, "D", color=colours.crypt, markersize=4.5, zorder=3)
    if line.times:
        axes.plot(line.times, place, "|", color=colours.goal, markersize=11, markeredgewidth=2.2, zorder=5)
    shown = number(ratios[PLAIN]) if PLAIN in ratios else ""
    is_short = line.is_met is False
    axes.annotate(
        shown,
        (1, place),
        xytext=(30, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8.5,
        color=colours.ink if is_short else colours.goal if line.is_met else colours.faint,
    )


def _legend(pyplot: Any, colours: Colours, lines: Sequence[Line]) -> list[Any]:
    line2d = pyplot.matplotlib.lines.Line2D
    label = f"beside {NAMES[PLAIN]} (number: green where the goal is met)"
    handles = [line2d([], [], color=colours.plain, marker="o", linewidth=3.5, label=label)]
    if any(CRYPT in line.ratios for line in lines):
        label = f"beside {NAMES[CRYPT]}"
        handles.append(line2d([], [], color=colours.crypt, marker="D", linewidth=0, label=label))
    goal = line2d([], [], color=colours.goal, marker="|", markersize=11, markeredgewidth=2.2, linewidth=0)
    goal.set_label("goal")
    return [*handles, goal]


def draw_growth(grown: Sequence[Grown], folder: Path) -> str:
    """Figures by the size of the mailbox; see :func:`_written`."""
    return _written(
        "growth",
        folder,
        lambda pyplot, colours: _growth(pyplot, colours, grown),
        "How each figure grows with the mailbox; the table below has the exponents",
    )


def _growth(pyplot: Any, colours: Colours, grown: Sequence[Grown]) -> Any:
    columns = 5
    rows = -(-len(grown) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(11.5, 1.9 * rows + 0.7), squeeze=False, sharex=True, sharey=True
    )
    shades = {OURS: colours.goal, PLAIN: colours.plain, CRYPT: colours.crypt}
    for place, axes in enumerate(grid.flat):
        if place >= len(grown):
            axes.set_visible(False)
            continue
        one = grown[place]
        for kind, values in one.values.items():
            axes.plot(
                list(values), list(values.values()), "o-", color=shades[kind], markersize=4, label=NAMES[kind]
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(one.name, fontsize=8.5, loc="left")
        axes.tick_params(labelsize=8, labelbottom=place + columns >= len(grown), which="both", length=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
            axis.set_minor_locator(pyplot.NullLocator())
        axes.grid(color=colours.grid, linewidth=0.6)
        for side in ("right", "top"):
            axes.spines[side].set_visible(False)
    figure.suptitle("Milliseconds (upwards) by messages in the mailbox", x=0.01, ha="left", fontsize=12)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=3, fontsize=9)
    figure.tight_layout()
    return figure
