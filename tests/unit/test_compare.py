"""What the comparison with Dovecot makes of what was measured."""

from __future__ import annotations

import email
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.compare import corpus
from tests.bench.compare.peers import CRYPT, OURS, PLAIN, Peer
from tests.bench.compare.play import (
    Figure,
    Outcome,
    Played,
    Row,
    Sample,
    Unit,
    Work,
    percentile,
    play,
)
from tests.bench.compare.report import Grown, exponent, growth_table, lines_of, number, table
from tests.bench.compare.results import replace_section
from tests.bench.compare.size import smallest


def _samples(*seconds: float, operations: int = 10) -> list[Sample]:
    return [Sample(one, 4.0, operations, Outcome(octets=5_000_000)) for one in seconds]


def _never(_: Peer, __: int) -> Work:
    raise AssertionError


def _played(figure: Figure, ours: float, plain: float) -> Played:
    samples = {OURS: _samples(ours), PLAIN: _samples(plain)}
    return Played(Row("row", (figure,), _never), samples)


@pytest.mark.parametrize("unit", [Unit.MS, Unit.PER_S, Unit.MB_S])
def test_twice_as_fast_is_two_in_every_unit(unit: Unit) -> None:
    """Times and rates are compared the other way round."""
    (line,) = lines_of(_played(Figure("row", unit, times=1.5), 0.5, 1.0))
    assert line.ratios == {PLAIN: 2.0}
    assert line.is_met is True
    assert line.cpu_ms == {OURS: 0.4, PLAIN: 0.4}


def test_a_figure_is_the_median_of_the_turns() -> None:
    """One slow turn does not count."""
    figure = Figure("row", Unit.MS)
    assert figure.of(_samples(0.1, 9.0, 0.2)) == pytest.approx(20.0)


def test_percentiles_are_of_all_turns_together() -> None:
    """Ninety-nine of a hundred are not slower than the 99th percentile."""
    samples = [
        Sample(1.0, 1.0, 50, Outcome(latencies=tuple(number / 1000 for number in range(start, 100, 2))))
        for start in (0, 1)
    ]
    assert percentile(50)(samples) == pytest.approx(50.0)
    assert percentile(99)(samples) == pytest.approx(99.0)


@pytest.mark.parametrize(("ours_s", "is_met"), [(0.029, True), (0.031, False)])
def test_a_goal_of_our_own_needs_nobody_beside(ours_s: float, is_met: bool) -> None:
    """Three milliseconds an operation, whatever Dovecot takes."""
    (line,) = lines_of(_played(Figure("row", Unit.MS, at_most=3.0), ours_s, 0.001))
    assert line.is_met is is_met


def test_the_table_says_which_goals_are_missed() -> None:
    """A line each, with both figures, their ratio and the goal."""
    (line,) = lines_of(_played(Figure("SELECT", Unit.MS, times=0.5), 0.04, 0.01))
    shown = table([line]).splitlines()
    assert shown[-1] == "| SELECT | ms | 4.00 | 1.00 | 0.400 | 0.400 | 0.250 | 0.5 × | no |"
    assert CRYPT not in shown[0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123, "0.0123"), (0.5, "0.500"), (1.0, "1.00"), (99.94, "99.9"), (12345.6, "12,346"), (0.0, "0")],
)
def test_three_digits_of_a_figure_are_shown(value: float, shown: str) -> None:
    """What is beyond them is noise."""
    assert number(value) == shown


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_is_that_of_the_power(power: int) -> None:
    """Flat, linear, quadratic."""
    assert exponent({size: 3.0 * size**power for size in (1_000, 10_000, 100_000)}) == pytest.approx(power)


def test_growth_shows_every_size_and_both_exponents() -> None:
    """Wall time in proportion, CPU time flat."""
    grown = Grown("row", "ms", {OURS: {10: 1.0, 100: 10.0}}, {OURS: {10: 2.0, 100: 2.0}})
    assert growth_table([grown]).splitlines()[-1] == "| row | 1.00 | 10.0 | 1.00 | 0.00 |"


@pytest.mark.parametrize(("slow_s", "turns"), [(60.0, range(6)), (-1.0, range(2))])
def test_servers_have_their_turns_in_turn(
    monkeypatch: pytest.MonkeyPatch, slow_s: float, turns: range
) -> None:
    """One turn to warm up that does not count, then each as often as asked for; a slow one less often."""
    monkeypatch.setattr("tests.bench.compare.play.SLOW_S", slow_s)
    counted = len(turns) if slow_s < 0 else len(turns) - 1
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    heard: list[tuple[str, int]] = []

    def prepare(peer: Peer, turn: int) -> Work:
        heard.append((peer.kind, turn))
        return Work(Outcome, 1)

    peers = [Peer(kind, process, {}, Path(), Path()) for kind in (OURS, PLAIN)]
    with process:
        played = play(Row("row", (Figure("row", Unit.MS),), prepare), peers, replace(smallest(10), pairs=5))
    assert heard == [(kind, turn) for turn in turns for kind in (OURS, PLAIN)]
    assert {kind: len(samples) for kind, samples in played.samples.items()} == {OURS: counted, PLAIN: counted}


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    """A second run does not leave the first one's table behind."""
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\n<!-- compare: begin -->\nold\n<!-- compare: end -->\n\n## Other\n")
    replace_section(path, "compare", "new\n")
    assert (
        path.read_text() == "# Results\n\n<!-- compare: begin -->\nnew\n<!-- compare: end -->\n\n## Other\n"
    )


def test_replies_name_messages_that_came_before() -> None:
    """Threads of a few messages; every message can be found by its Message-ID."""
    known: set[str] = set()
    for at in range(3 * corpus.CONVERSATION):
        message = email.message_from_bytes(corpus.message(at)[0])
        named = (message["References"] or "").split()
        assert set(named) <= known
        assert bool(named) == bool(at % corpus.CONVERSATION)
        assert message["Message-ID"].encode() == corpus.message_id(at)
        known.add(message["Message-ID"])


def test_rare_words_are_different_words() -> None:
    """Otherwise a search for one would find the messages of another."""
    assert len({corpus.word(at) for at in range(corpus.WORDS)}) == corpus.WORDS
