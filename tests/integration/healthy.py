"""While something hostile goes on: other sessions are answered, workers live, their memory stays bounded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from imap_wire import Wire
from on_workers import one_on_each
from running import Server

PROMPT_S = 5.0
"""Longest answer to a NOOP of somebody else; generous, because tests share two cores."""
GROWTH_KIB = 64 * 1024
PAUSE_S = 0.02


def peak_kib(pid: int) -> int | None:
    """VmHWM of a process; None when it may not be read."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except PermissionError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")), None)


class _Witness:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.slowest_s = 0.0
        self.answers = 0
        self.failure: BaseException | None = None

    def watch(self, over: threading.Event) -> None:
        """NOOP and a small FETCH, one behind the other."""
        try:
            while not self.answers or not over.wait(PAUSE_S):
                began = time.monotonic()
                assert self.wire.command(b"NOOP").status == b"OK"
                assert self.wire.command(b"FETCH 1 (FLAGS ENVELOPE)").status == b"OK"
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.answers += 1
        except BaseException as error:  # noqa: BLE001  # reported by the main thread
            self.failure = error


@contextlib.contextmanager
def healthy(server: Server, growth_kib: int = GROWTH_KIB) -> Iterator[None]:
    """Fail when a session on any worker suffers from what is done inside, or a worker does."""
    witnesses = {pid: _Witness(wire) for pid, wire in one_on_each(server).items()}
    before = {pid: peak_kib(pid) for pid in witnesses}
    errors = server.errors()
    over = threading.Event()
    threads = [threading.Thread(target=one.watch, args=(over,)) for one in witnesses.values()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for one in witnesses.values():
            one.wire.close()
    assert set(server.workers()) == set(witnesses), "a worker was replaced"
    for pid, one in witnesses.items():
        if one.failure is not None:
            raise AssertionError("a session that did nothing wrong was harmed") from one.failure
        assert one.slowest_s < PROMPT_S
        peak, first = peak_kib(pid), before[pid]
        if peak is not None and first is not None:
            assert peak - first < growth_kib, "memory"
    said = server.errors()[len(errors) :]
    assert "Traceback" not in said, said[-3000:]
    assert "failed, id" not in said, said[-3000:]
