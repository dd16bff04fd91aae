"""The process of the HTTPS door, a copy of the supervisor (see ``deploy.forking``).

It has no account open and shares no memory with one that is: whatever strangers send here reaches neither the
workers' keys nor their time. It has the key of an account for as long as an invitation is exchanged.
"""

from __future__ import annotations

from typing import Any

from deploy.config import Config
from deploy.forking import Inherited
from deploy.worker import Serving, Sockets, serve


def run(config: Config, sockets: Sockets, inherited: Inherited) -> int:
    """Run the door; the process's exit code."""

    def make(reactor: Any) -> Serving:
        # Imported late: no other process needs what makes pages.
        from deploy.door_service import DoorService

        return DoorService(reactor, config)

    return serve(config, "door", make, sockets, inherited)
