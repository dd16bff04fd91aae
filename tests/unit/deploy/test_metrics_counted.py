"""What passes by a worker's meters: deliveries by result, and limits that commands have met."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metrics_world import merged, worker
from twisted.internet.defer import CancelledError, Deferred

from deploy.metrics.counted import CountedDeliveries, CountedLog
from deploy.metrics.meters import SETTINGS, Meters
from mailstore.errors import DirectoryUnavailable, MessageTooLarge, OverQuota, StorageFailed, StorageFull
from mailstore.sealed import Facts
from protocols.access_log import Entry


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Meters]:
    """The meters of a worker."""
    with worker(tmp_path, "worker-0") as found:
        yield found


class Store:
    """A store whose deliveries end as the test says."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    async def recipient(self, address: bytes, size_bytes: int | None) -> None:
        """Nobody."""

    async def deliver(self, recipient: Any, message: bytes, facts: Facts) -> None:
        """As ``DeliveryStore``."""
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "result", "limit"),
    [
        (None, "delivered", None),
        (OverQuota(), "over_quota", "quota"),
        (MessageTooLarge(), "too_large", "store.max_message_bytes"),
        (StorageFull(), "no_room", "store.min_free_bytes"),
        (StorageFailed(), "unavailable", None),
        (ValueError("what a client sent"), "error", None),
        (CancelledError(), None, None),
    ],
)
def test_deliveries_by_result(
    meters: Meters, tmp_path: Path, error: BaseException | None, result: str | None, limit: str | None
) -> None:
    """The failure goes on to the session as it is; one that nobody heard of is none."""
    times = iter((10.0, 10.5))
    store = CountedDeliveries(Store(error), meters, lambda: next(times))
    recipient: Any = None
    ended: list[Any] = []
    Deferred.fromCoroutine(store.deliver(recipient, b"", Facts(0))).addBoth(ended.append)
    assert ended[0] is None if error is None else ended[0].value is error
    known = ("delivered", "over_quota", "too_large", "no_room", "unavailable", "error")
    found = {one: merged(tmp_path, "sealbox_deliveries_total", result=one) for one in known}
    assert {one for one, count in found.items() if count} == {result} - {None}
    assert merged(tmp_path, "sealbox_delivery_seconds_sum") == (0.5 if result else 0)
    if limit is not None:
        assert merged(tmp_path, "sealbox_limits_hit_total", setting=limit) == 1


def test_mail_that_no_directory_can_place_counts_as_turned_away(meters: Meters, tmp_path: Path) -> None:
    """Such a delivery never begins, and the alert is to fire all the same."""

    class Away(Store):
        async def recipient(self, address: bytes, size_bytes: int | None) -> None:
            raise DirectoryUnavailable

    times = iter((10.0, 10.5))
    ended: list[Any] = []
    store = CountedDeliveries(Away(None), meters, lambda: next(times))
    Deferred.fromCoroutine(store.recipient(b"", None)).addBoth(ended.append)
    assert isinstance(ended[0].value, DirectoryUnavailable)
    assert merged(tmp_path, "sealbox_deliveries_total", result="unavailable") == 1


def test_a_command_that_meets_a_limit(meters: Meters, tmp_path: Path) -> None:
    """The log gets its line, the numbers the setting."""
    lines: list[Entry] = []

    class Log:
        record = staticmethod(lines.append)

    entry = Entry("", "", "IMAP APPEND", 0, "NO OVERQUOTA", True, took_s=0.002, limit="quota")
    CountedLog(Log(), meters).record(entry)
    assert lines == [entry]
    assert merged(tmp_path, "sealbox_limits_hit_total", setting="quota") == 1
    assert merged(tmp_path, "sealbox_command_seconds_count", protocol="imap", command="APPEND") == 1


_TOLD = re.compile(r"""(?:limit\(|limit=|: )"((?:[a-z0-9]+\.[a-z_]+)|quota|store)"[,)}\n]""")


def test_every_limit_that_is_told_of_exists_from_the_start() -> None:
    """A rate of something that was never there before is none."""
    rooms = Path(__file__).resolve().parents[3] / "protocols"
    told = {name for path in rooms.rglob("*.py") for name in _TOLD.findall(path.read_text("utf-8"))}
    assert len(told) > 15
    assert told <= set(SETTINGS)
    assert tuple(sorted(SETTINGS)) == SETTINGS
