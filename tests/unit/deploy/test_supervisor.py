"""When the supervisor starts a dead worker again; the reactor's clock is the test's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from deploy import config
from deploy.first_run import make_certificate
from deploy.supervisor import (
    LONGEST_WITHOUT_WORKER_S,
    RESTART_PAUSE_FIRST_S,
    RESTART_PAUSE_MAX_S,
    YOUNG_S,
    Supervisor,
    _Slot,
)


class Machine(Clock):
    """A clock that also starts processes; they do nothing until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[Any] = []
        self.out_of_processes = False
        self.configs: list[config.Config] = []

    def start(self, _name: str, run: Any, _keep: object, parent: Any) -> Any:
        """As ``deploy.forking.start``."""
        self.configs.append(run.args[0])
        if self.out_of_processes:
            raise BlockingIOError
        self.running.append(parent)
        return SimpleNamespace(send=lambda _number: None)

    def serve(self) -> None:
        """Every process says that it is ready."""
        for process in self.running:
            process.ready()

    def kill(self, number: int = 0) -> None:
        """One of the processes dies."""
        self.running.pop(number).ended(-9)


@pytest.fixture
def machine() -> Machine:
    """A machine on which nothing runs."""
    return Machine()


@pytest.fixture
def starting(machine: Machine, tmp_path: Path) -> Supervisor:
    """Two workers that do not serve yet."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    text = (
        f'data = "{tmp_path}"\nworkers = 2\n[tls]\n'
        f'certificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
    )
    made = Supervisor(machine, config.parse(text, tmp_path / "x"), [], lambda: None, machine.start)
    for slot in made._slots:
        made._spawn(slot)
    return made


@pytest.fixture
def supervisor(starting: Supervisor, machine: Machine) -> Supervisor:
    """Two workers that serve."""
    machine.serve()
    return starting


def test_a_worker_that_served_is_replaced_at_once_however_often_it_is_killed(
    machine: Machine, supervisor: Supervisor
) -> None:
    """Kills every few seconds leave no gap, however long they go on."""
    for _ in range(50):
        machine.advance(YOUNG_S)
        machine.kill()
        machine.advance(0)
        assert len(machine.running) == 2
        machine.serve()


def test_all_workers_killed_again_and_again_are_back_within_a_second(
    machine: Machine, supervisor: Supervisor
) -> None:
    """Though each of them dies as soon as it is ready."""
    for _ in range(20):
        while machine.running:
            machine.kill()
        machine.advance(LONGEST_WITHOUT_WORKER_S)
        assert machine.running
        machine.serve()


def test_the_last_worker_does_not_wait_for_the_pause_of_another(
    machine: Machine, supervisor: Supervisor
) -> None:
    """One died young again and again and has a long pause; then the other does so too."""
    for _ in range(8):
        machine.kill(1)
        machine.advance(RESTART_PAUSE_MAX_S)
    machine.kill(1)
    for _ in range(5):
        machine.kill()
        machine.advance(LONGEST_WITHOUT_WORKER_S)
        assert len(machine.running) == 1


def test_a_worker_that_dies_young_is_started_after_pauses_that_grow(
    machine: Machine, supervisor: Supervisor
) -> None:
    """While another serves, a loop of starts and deaths is slowed down, to a bound."""
    pauses = []
    for _ in range(10):
        machine.kill(1)
        before = machine.seconds()
        while len(machine.running) < 2:
            machine.advance(RESTART_PAUSE_FIRST_S)
        pauses.append(machine.seconds() - before)
    assert pauses[:4] == [RESTART_PAUSE_FIRST_S * 2**n for n in range(4)]
    assert pauses[-1] == max(pauses) == RESTART_PAUSE_MAX_S


def test_a_machine_out_of_processes_is_tried_again(machine: Machine, supervisor: Supervisor) -> None:
    """A failed fork is not the end of the worker's place."""
    machine.advance(YOUNG_S)
    machine.out_of_processes = True
    machine.kill()
    machine.kill()
    for _ in range(20):
        machine.advance(LONGEST_WITHOUT_WORKER_S)
    machine.out_of_processes = False
    machine.advance(LONGEST_WITHOUT_WORKER_S)
    assert machine.running


def test_a_worker_that_is_killed_before_it_serves_is_started_again(
    machine: Machine, starting: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    """Short of memory, most likely: that is no reason to end the others, and it has left no message."""
    machine.kill()
    machine.advance(LONGEST_WITHOUT_WORKER_S)
    assert len(machine.running) == 2 and not starting.failed
    assert "was killed by signal 9" in caplog.text


def test_a_worker_that_gives_up_before_it_serves_ends_the_server(
    machine: Machine, starting: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps it from starting, a mistake in the settings or a port, would keep it from starting again."""
    ended: list[bool] = []
    monkeypatch.setattr(starting, "_stop_and_exit", lambda: ended.append(True))
    machine.running.pop().ended(1)
    machine.advance(LONGEST_WITHOUT_WORKER_S)
    assert ended and starting.failed and len(machine.running) == 1


def test_a_worker_that_cannot_be_made_at_the_start_ends_the_server(
    machine: Machine, starting: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few it would never say that it serves; the others are ended."""
    ended: list[bool] = []
    monkeypatch.setattr(starting, "_stop_and_exit", lambda: ended.append(True))
    machine.out_of_processes = True
    machine.kill()
    machine.advance(LONGEST_WITHOUT_WORKER_S)
    assert ended and starting.failed


def test_a_snapshot_job_that_cannot_be_made_at_the_start_is_tried_again(
    machine: Machine, starting: Supervisor
) -> None:
    """The server serves without it."""
    slot = _Slot("snapshots")
    starting._slots.append(slot)
    machine.out_of_processes = True
    starting._spawn(slot)
    machine.out_of_processes = False
    machine.serve()
    machine.advance(RESTART_PAUSE_FIRST_S)
    assert slot.process is not None and not starting.failed


def test_a_reload_does_not_lead_to_another_data_root(
    machine: Machine, supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is started later would serve it beside the others, unlocked and unchecked."""
    began = machine.configs[0]
    text = began.text.replace(f'data = "{began.data}"', f'data = "{tmp_path}/other"\nlog_level = "debug"')
    monkeypatch.setattr("deploy.supervisor.load", lambda path: config.parse(text, path))
    supervisor.reload()
    machine.kill()
    machine.advance(RESTART_PAUSE_MAX_S)
    assert machine.configs[-1].data == began.data
    assert machine.configs[-1].log_level == "debug"


@pytest.fixture
def counting(machine: Machine, tmp_path: Path) -> Supervisor:
    """Two workers that count, and what serves the numbers; they do not serve yet."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    text = (
        f'data = "{tmp_path}"\nworkers = 2\n[tls]\n'
        f'certificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
        '[metrics]\nlisten = ["127.0.0.1:9190"]\n'
    )
    sockets: Any = [SimpleNamespace(fileno=lambda: 99)]
    found = config.parse(text, tmp_path / "x")
    made = Supervisor(machine, found, [], lambda: None, machine.start, sockets)
    for slot in made._slots:
        made._spawn(slot)
    return made


def test_a_worker_that_dies_has_nothing_open_any_more(
    machine: Machine, counting: Supervisor, tmp_path: Path
) -> None:
    """Its gauges go with it, at once; its totals are for the one that takes its place."""
    machine.serve()
    folder = tmp_path / "metrics"
    folder.mkdir()
    for name in ("gauge_livesum_worker-0", "gauge_livesum_worker-1", "counter_worker-0"):
        (folder / f"{name}.db").write_bytes(b"x" * 16)
    machine.kill(0)
    gone = {path.stem for path in folder.iterdir() if path.read_bytes() == bytes(8) + b"x" * 8}
    assert gone == {"gauge_livesum_worker-0"}


def test_metrics_that_die_cost_no_mail(machine: Machine, counting: Supervisor) -> None:
    """Nor does the server wait for them at its start; they are started again as all others."""
    for process in machine.running[:2]:
        process.ready()
    assert counting.is_serving
    assert counting._announced
    for _ in range(5):
        machine.kill(2)
        assert len(machine.running) == 2
        machine.advance(RESTART_PAUSE_MAX_S)
        assert len(machine.running) == 3
