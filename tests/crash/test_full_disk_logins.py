"""Logins while the disk is full: an answer for each, and no process ends by SIGBUS."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
from small_disks import KINDS, fill, small_disk

from mailstore.directory import EmbeddedDirectory
from mailstore.engine import Database, DatabaseKey, close_all, open_connection
from mailstore.errors import StoreError

pytestmark = pytest.mark.crash

KEY = DatabaseKey(bytes(32), bytes(16))
ENOUGH_KIB = 512
FREE_KIB = (*range(0, 132, 4), ENOUGH_KIB)


def open_and_write(path: Path) -> None:
    """A connection that reads and writes."""
    opened: list[Database] = []
    try:
        opened.append(open_connection(path, KEY))
        opened[0].read(0, lambda txn: txn.rows("SELECT * FROM here"))
        opened[0].write(0, lambda txn: txn.run("INSERT INTO here VALUES(1)"))
    finally:
        close_all(opened)


def look_into(path: Path) -> None:
    """A question to the directory."""
    directory = EmbeddedDirectory(path, bytes(32))
    try:
        directory.accounts()
    finally:
        directory.close()


def answer(work: Callable[[Path], None], path: Path) -> str:
    """What becomes of it."""
    try:
        work(path)
    except StoreError as error:
        return type(error).__name__
    return "done"


def try_all(disk: Path, told: Queue[tuple[int, str, str]]) -> None:
    """Open both kinds of database with ever more room; in a process that may die of it."""
    for free_kib in FREE_KIB:
        fill(disk, free_kib * 1024)
        opened = answer(open_and_write, disk / "mail.db")
        fill(disk, free_kib * 1024)
        told.put((free_kib, opened, answer(look_into, disk / "directory.db")))


@pytest.mark.parametrize("kind", KINDS)
def test_no_database_is_opened_into_a_page_that_the_disk_does_not_have(tmp_path: Path, kind: str) -> None:
    """Whatever is free, it is opened or the disk is said to be full; the process lives."""
    with small_disk(tmp_path, kind) as disk:
        first = open_connection(disk / "mail.db", KEY)
        first.write(0, lambda txn: txn.run("CREATE TABLE here(x)"))
        close_all([first])
        look_into(disk / "directory.db")
        context = multiprocessing.get_context("spawn")
        told: Queue[tuple[int, str, str]] = context.Queue()
        child = context.Process(target=try_all, args=(disk, told))
        child.start()
        child.join()
        assert child.exitcode == 0
        answers = {free_kib: said for free_kib, *said in (told.get(timeout=60) for _ in FREE_KIB)}
        assert {one for said in answers.values() for one in said} == {"StorageFull", "done"}
        assert answers[0] == ["StorageFull"] * 2 and answers[ENOUGH_KIB] == ["done"] * 2
