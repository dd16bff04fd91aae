"""How commands ask the running job for a snapshot of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.run_request import RunRequest
from mailstore.errors import StorageFailed


def test_a_request_is_open_until_it_was_served(tmp_path: Path) -> None:
    """Whoever asks can tell that the job is at it, and that it is done."""
    command, job = RunRequest(tmp_path), RunRequest(tmp_path)
    assert not command.is_open()
    command.ask()
    assert job.is_waiting() and command.is_open()
    with job.served() as asked:
        assert asked and command.is_open() and not job.is_waiting()
    assert not command.is_open()
    with job.served() as asked:
        assert not asked


def test_a_request_made_while_one_is_served_is_for_the_next_time(tmp_path: Path) -> None:
    """What changed since the first may not be in what is being taken."""
    request = RunRequest(tmp_path)
    request.ask()
    with request.served():
        request.ask()
    assert request.is_waiting() and request.is_open()


def test_a_request_is_over_when_serving_it_failed(tmp_path: Path) -> None:
    """Nobody waits for ever for a job that could not do it."""
    request = RunRequest(tmp_path)
    request.ask()
    with pytest.raises(StorageFailed), request.served():
        raise StorageFailed
    assert not request.is_open()


def test_what_a_killed_job_left_does_not_keep_a_request_open(tmp_path: Path) -> None:
    """The next turn clears it away, asked or not."""
    (tmp_path / "running-now").touch()
    request = RunRequest(tmp_path)
    with request.served() as asked:
        assert not asked
    assert not request.is_open()
