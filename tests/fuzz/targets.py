"""All fuzz targets by name."""

from __future__ import annotations

from tests.fuzz.data_targets import DATA_TARGETS
from tests.fuzz.proxy_targets import PROXY_TARGETS
from tests.fuzz.target import Target
from tests.fuzz.transfer_targets import TRANSFER_TARGETS
from tests.fuzz.wire_targets import WIRE_TARGETS

_ALL = (*WIRE_TARGETS, *PROXY_TARGETS, *DATA_TARGETS, *TRANSFER_TARGETS)
TARGETS: dict[str, Target] = {one.name: one for one in _ALL}
