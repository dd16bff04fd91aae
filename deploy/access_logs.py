"""The access log that a configuration asks for."""

from __future__ import annotations

from typing import Any

from deploy.config import Config
from mailstore.executor import Executor
from protocols.access_log import FileAccessLog


def new_access_log(config: Config, reactor: Any, executor: Executor) -> FileAccessLog:
    """A log in the configured folder, which is made; ``executor`` writes it. Raises OSError."""
    config.log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileAccessLog(
        config.log_folder, config.log_limits, reactor, config.access_log.addresses, executor.call
    )
