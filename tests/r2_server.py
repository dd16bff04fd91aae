"""The S3 server of the tests: Cloudflare's own local R2, at a port of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploy.two_nodes.r2 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, LocalR2, is_installed
from tests.ports import free_port

__all__ = ["ACCESS_KEY_ID", "BUCKETS", "SECRET_ACCESS_KEY", "R2Server", "require"]

BUCKETS = ("snapshots", "other")


class R2Server(LocalR2):
    """The running server."""

    def __init__(self, folder: Path) -> None:
        """Start; waits until it answers."""
        super().__init__(folder, free_port(), BUCKETS)
        try:
            self.wait(time.sleep)
        except BaseException:
            self.stop()
            raise


def require() -> None:
    """Skip where it is not installed; where CI runs that is a failure."""
    if not is_installed():
        assert not os.environ.get("CI"), "deploy/test has to install the S3 server"
        pytest.skip("the S3 server is not installed: deploy/test does it where npm is")
