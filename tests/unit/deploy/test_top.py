"""``sealbox top``: what two looks at a server's numbers say, and how that looks on a terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from deploy.cli import top as command
from deploy.cli.main import main
from deploy.metrics.numbers import Between, Numbers, read
from deploy.metrics.screen import count, duration, rate, screen, size
from deploy.metrics.summary import Summary, summary_of
from deploy.sockets import DOOR, SERVICES

NOW_S = 1_800_000_000.0


def exposition(*, at: int = 1, **other: float) -> str:
    """A server's answer after ``at`` minutes of the same; ``other`` are numbers without labels."""
    numbers = {
        'sealbox_build{version="0.1.0",python="3.11.2"}': 1,
        "sealbox_start_time_seconds": NOW_S - 3600,
        "sealbox_workers": 2,
        "sealbox_workers_configured": 2,
        'sealbox_sessions{service="imaps"}': 1203,
        'sealbox_logins_total{protocol="imap",result="ok"}': 12 * at,
        'sealbox_logins_total{protocol="imap",result="wrong"}': 3 * at,
        'sealbox_commands_total{protocol="imap",command="FETCH",result="ok"}': 600 * at,
        'sealbox_commands_total{protocol="imap",command="NOOP",result="ok"}': 60 * at,
        'sealbox_commands_total{protocol="imap",command="LIST",result="ok"}': 5,
        'sealbox_command_seconds_bucket{protocol="imap",command="FETCH",le="0.01"}': 300 * at,
        'sealbox_command_seconds_bucket{protocol="imap",command="FETCH",le="0.1"}': 600 * at,
        'sealbox_command_seconds_bucket{protocol="imap",command="FETCH",le="+Inf"}': 600 * at,
        'sealbox_deliveries_total{result="delivered"}': 50 * at,
        "sealbox_messages_filed_total": 40 * at,
        "sealbox_sealed_messages": 7,
        "sealbox_volume_free_bytes": 480 * 2**30,
        "sealbox_volume_size_bytes": 1000 * 2**30,
        "sealbox_certificate_expiry_timestamp_seconds": NOW_S + 60 * 86_400,
        "sealbox_backup_configured": 1,
        "sealbox_backup_newest_proof_timestamp_seconds": NOW_S - 3 * 86_400,
        "sealbox_backup_first_stored_timestamp_seconds": NOW_S - 30 * 86_400,
    }
    return "".join(f"{name} {value}\n" for name, value in (numbers | other).items())


def looks(**other: float) -> Summary:
    """What a minute says."""
    return summary_of(Between(read(exposition(at=1), 100.0), read(exposition(at=2, **other), 160.0)), NOW_S)


def test_a_minute_of_a_server() -> None:
    """Logins and mail a minute, commands a second, the busiest first; what did not happen is left out."""
    found = looks()
    assert found.logins["imap"] == pytest.approx({"ok": 12, "wrong": 3, "later": 0, "error": 0})
    assert found.deliveries["delivered"] == pytest.approx(50)
    assert [(row.name, row.ok) for row in found.commands] == [("imap FETCH", 10.0), ("imap NOOP", 1.0)]
    assert found.commands[0].half_s == pytest.approx(0.01)
    assert found.commands[0].most_s == pytest.approx(0.091)
    assert found.commands[1].half_s is None
    assert (found.up_s, found.sessions, found.sealed, found.troubles) == (3600, {"imaps": 1203}, 7, ())


def test_a_server_that_was_started_anew_has_counted_from_nothing() -> None:
    """No rate is below zero."""
    between = Between(read(exposition(at=9), 0.0), read(exposition(at=1), 60.0))
    found = summary_of(between, NOW_S)
    assert found.commands[0].ok == 10.0
    assert found.deliveries["delivered"] == pytest.approx(50)


def test_two_looks_at_the_same_moment() -> None:
    """Nothing is divided by nothing."""
    one = read(exposition(), 5.0)
    assert summary_of(Between(one, one), NOW_S).commands == ()
    assert summary_of(Between(Numbers({}, 0.0), Numbers({}, 0.0)), NOW_S).version == "?"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sealbox_workers", 1, "missing: 1 worker"),
        ("sealbox_volume_free_bytes", 2**30, "0.1% of the volume are free"),
        ("sealbox_backup_store_trouble", 1, "takes no snapshots"),
        ("sealbox_backup_failing_accounts", 2, "2 accounts without a new snapshot"),
        ("sealbox_backup_oldest_change_seconds", 2000, "half an hour"),
        ("sealbox_certificate_expiry_timestamp_seconds", NOW_S + 86_400, "ends in 1 day:"),
        ("sealbox_backup_newest_proof_timestamp_seconds", 0, "sealbox backup drill"),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(name: str, value: float, said: str) -> None:
    """In red, below everything."""
    (trouble,) = looks(**{name: value}).troubles
    assert said in trouble
    assert said in drawn(looks(**{name: value}), 120, 30)


@pytest.mark.parametrize("first_s", [0.0, NOW_S - 9 * 86_400])
def test_a_new_server_has_not_neglected_anything(first_s: float) -> None:
    """Ten days without a proof count from the first snapshot, of which there may be none yet."""
    found = looks(
        sealbox_backup_newest_proof_timestamp_seconds=0,
        sealbox_backup_first_stored_timestamp_seconds=first_s,
    )
    assert (found.proven_s, found.troubles) == (None, ())


def drawn(found: Summary, width: int, height: int, server: str = "a:9190") -> str:
    """The screen as text."""
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(screen(found, width=width, height=height, server=server, clock="12:00:00"), height=height)
    return console.export_text()


@pytest.mark.parametrize("service", [one for one in SERVICES if one != DOOR])
def test_sessions_of_each_service_are_shown(service: str) -> None:
    """Where there are some."""
    lines = drawn(looks(**{f'sealbox_sessions{{service="{service}"}}': 4321}), 120, 24).splitlines()
    assert any(line.startswith(f"│ {service} ") and "4,321" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (40, 24), (20, 5)])
def test_a_screen_fits_its_terminal(width: int, height: int) -> None:
    """No line is longer, and there are no more of them, however much there is to say."""
    busy = looks()
    row = busy.commands[0]
    many = tuple(replace(row, name=f"imap UID LONGCOMMAND{number}") for number in range(60))
    for found in (busy, replace(busy, commands=many, troubles=("something is wrong " * 20,) * 3)):
        lines = drawn(found, width, height).splitlines()
        assert len(lines) <= height
        assert max(map(len, lines)) <= width


def test_everything_is_there_at_the_smallest_usual_size() -> None:
    """80 columns by 24 lines."""
    text = drawn(looks(), 80, 24)
    for word in (
        "1,203",
        "imap FETCH",
        "10.0",
        "91 ms",
        "480 GiB",
        "48%",
        "60 d",
        "3 d ago",
        "2/2 workers",
    ):
        assert word in text, word


def test_nothing_is_cut_at_the_smallest_usual_size() -> None:
    """Whatever the values are: an operator need not guess a word."""
    long_s = 10 * 3600 - 60
    found = looks(
        sealbox_sealed_oldest_age_seconds=long_s,
        sealbox_backup_oldest_change_seconds=long_s,
        sealbox_certificate_expiry_timestamp_seconds=NOW_S + long_s,
        sealbox_backup_newest_proof_timestamp_seconds=NOW_S - 99 * 86_400,
        sealbox_volume_free_bytes=1000 * 2**30,
    )
    found = replace(found, workers=16, workers_configured=16, up_s=long_s, lag_s=0.2, troubles=())
    text = drawn(found, 80, 24, server="127.0.0.1:9190")
    assert text.count("9 h 59 min") == 4
    assert "\u2026" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count(7), "7"),
        (count(1203), "1,203"),
        (count(452_300), "452.3k"),
        (count(3_100_000), "3.1M"),
        (count(None), "-"),
        (rate(0), "·"),
        (rate(0.25), "0.2"),
        (rate(1234.6), "1,235"),
        (duration(None), "-"),
        (duration(0.0004), "0.4 ms"),
        (duration(0.25), "250 ms"),
        (duration(12.34), "12.3 s"),
        (duration(600), "10 min"),
        (duration(5 * 3600 + 600), "5 h 10 min"),
        (duration(10 * 3600 - 1), "9 h 59 min"),
        (duration(30 * 3600), "30 h"),
        (duration(9 * 86_400), "9 d"),
        (size(None), "-"),
        (size(3 * 2**40), "3.00 TiB"),
        (size(12), "12 B"),
    ],
)
def test_numbers_for_people(text: str, expected: str) -> None:
    """Short, and with their unit."""
    assert text == expected


def refusal(*arguments: str) -> tuple[int, str]:
    """The exit code and the sentence."""
    done = CliRunner().invoke(main, ["top", *arguments, "--json"])
    return done.exit_code, json.loads(done.stderr)["error"]


def test_a_server_that_cannot_be_asked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next step: it does not run, serves no numbers, or is something else."""
    code, said = refusal("--url", "http://127.0.0.1:1/metrics")
    assert (code, "is the server running?" in said) == (5, True)
    code, said = refusal("--url", "file:///etc/passwd")
    assert (code, said) == (2, "write --url http://HOST:PORT/metrics")
    code, said = refusal("--config", str(tmp_path / "nothing.toml"))
    assert code == 2

    class Answer(io.BytesIO):
        """Of a server that is none of ours."""

    for text in (b"<html>hello</html>", b"\xff\xfe", b"up 1\n", b"x" * (command.ANSWER_MAX_BYTES + 10)):
        monkeypatch.setattr(command._OPENER, "open", lambda *_, timeout, text=text: Answer(text))
        code, said = refusal("--url", "http://127.0.0.1:9/metrics")
        assert (code, "no numbers of Sealbox" in said) == (2, True)


def test_json_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object, for programs."""
    monkeypatch.setattr(command, "_look", lambda _: read(exposition(), 0.0))
    monkeypatch.setattr(command, "ONCE_S", 0.0)
    done = CliRunner().invoke(main, ["top", "--url", "http://x/metrics", "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["workers"], found["sessions"], found["snapshots"]) == (2, {"imaps": 1203}, True)
    done = CliRunner().invoke(main, ["top", "--url", "http://x/metrics", "--once"])
    assert "2/2 workers" in done.stdout
