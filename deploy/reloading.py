"""What a reload (SIGHUP) changes, and what only a restart does."""

from __future__ import annotations

from dataclasses import replace

from deploy.config import Config

FIXED = ("data", "listen", "workers", "metrics")
"""One data root was locked and checked, sockets are bound, and processes run: until a restart."""


def reloaded(began: Config, fresh: Config) -> Config:
    """The configuration that counts after a reload; it equals ``fresh`` unless that needs a restart."""
    return replace(fresh, **{name: getattr(began, name) for name in FIXED})
