"""The settings of the directory: in the data root, or in PostgreSQL."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from deploy.config_section import Section
from mailstore.directory import PostgresPlace, has_driver, put_directory
from mailstore.limits import DirectoryLimits

DRIVER_MISSING = (
    "the driver for PostgreSQL is not installed: run 'pip install \"sealbox[postgresql]\"' where sealbox is"
)
_DEFAULTS = DirectoryLimits()


class DirectorySection(Section):
    """Where the directory is; with an empty ``url`` in the data root."""

    url: str = ""
    key_file: Path | None = None
    connections: int = Field(default=_DEFAULTS.connections, ge=1)
    connect_timeout_s: float = Field(default=_DEFAULTS.connect_timeout_s, ge=2)  # libpq knows no less
    query_timeout_s: float = Field(default=_DEFAULTS.query_timeout_s, ge=0.1)
    retry_max_s: float = Field(default=_DEFAULTS.retry_max_s, ge=0.1)
    heartbeat_s: float = Field(default=_DEFAULTS.heartbeat_s, ge=0.1)
    cached_records: int = Field(default=_DEFAULTS.cached_records, ge=0)

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("write postgresql://ROLE@HOST/DATABASE")
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise ValueError(
                "no password here, for this file is in the snapshots: write it into a file that only the"
                " server can read, and name that by ?passfile=/etc/sealbox/pgpass"
            )
        return url

    @field_validator("key_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("write an absolute path")
        return path

    @model_validator(mode="after")
    def _complete(self) -> DirectorySection:
        if self.url and not has_driver():
            raise ValueError(DRIVER_MISSING)
        return self

    def place(self) -> PostgresPlace | None:
        """Where it is, None for the data root."""
        if not self.url:
            return None
        names = [one.name for one in fields(DirectoryLimits)]
        limits = DirectoryLimits(**{name: getattr(self, name) for name in names})
        return PostgresPlace(self.url, self.key_file, limits)


def put_directory_by(root: Path, section: object) -> None:
    """Let this process know where a ``[directory]`` section puts the directory of a data root.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    put_directory(root, DirectorySection.model_validate(section).place())
