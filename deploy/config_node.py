"""The settings of a node: a server that shares its directory with others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from OpenSSL import SSL
from pydantic import Field, field_validator, model_validator

from deploy.config_section import Section
from mailstore.directory import call_node, is_node_name
from mailstore.lease import DEFAULT_LEASE_S, DEFAULT_MARGIN_S, MARGINS, put_lease
from mailstore.limits import MoveLimits
from protocols.limits import NodeLimits
from protocols.node_tls import NodeTlsClient

_DEFAULTS = NodeLimits()
_MOVES = MoveLimits()


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """What nodes know each other by (PEM): the certificate chain, its key, and the nodes' own authority."""

    certificate: Path
    private_key: Path
    authority: Path


class NodeSection(Section):
    """What the others call this server; empty for one that shares its directory with nobody."""

    name: str = ""
    certificate: Path | None = None
    private_key: Path | None = None
    ca: Path | None = None
    lease_s: float = Field(default=DEFAULT_LEASE_S, gt=0)
    lease_margin_s: float = Field(default=DEFAULT_MARGIN_S, gt=0)
    connect_timeout_s: float = Field(default=_DEFAULTS.connect_timeout_s, gt=0)
    answer_timeout_s: float = Field(default=_DEFAULTS.answer_timeout_s, gt=0)
    silent_s: float = Field(default=_DEFAULTS.silent_s, ge=0)
    connections_max: int = Field(default=_DEFAULTS.connections_max, ge=1)
    move_silence_max_s: float = Field(default=_MOVES.silence_max_s, ge=10)
    move_closed_max_s: float = Field(default=_MOVES.closed_max_s, ge=10)
    move_late_max_bytes: int = Field(default=_MOVES.late_max_bytes, ge=0)
    move_rounds_max: int = Field(default=_MOVES.rounds_max, ge=1)
    move_at_once: int = Field(default=_MOVES.at_once, ge=1)
    recover_at_once: int = Field(default=8, ge=1)

    @field_validator("name")
    @classmethod
    def _label(cls, name: str) -> str:
        if name and not is_node_name(name):
            raise ValueError("write lower-case letters, digits and hyphens, 63 at most")
        return name

    @model_validator(mode="after")
    def _margin(self) -> NodeSection:
        if self.lease_s < MARGINS * self.lease_margin_s:
            raise ValueError("lease_s has to be at least three times lease_margin_s")
        return self

    @model_validator(mode="after")
    def _files(self) -> NodeSection:
        given = (self.certificate, self.private_key, self.ca)
        if not any(given):
            return self
        if not all(given):
            raise ValueError("certificate, private_key and ca are needed all three, or none of them")
        files = self.files()
        assert files is not None
        for path in (files.certificate, files.private_key, files.authority):
            if not path.is_file() or not os.access(path, os.R_OK, effective_ids=True):
                raise ValueError("certificate, private_key or ca is missing or cannot be read")
        try:
            NodeTlsClient(files.certificate, files.private_key, files.authority)
        except (OSError, SSL.Error):
            raise ValueError("certificate, private_key and ca are not PEM files that fit") from None
        return self

    def files(self) -> NodeFiles | None:
        """None where this server neither takes mail from other nodes nor brings any."""
        if self.certificate is None or self.private_key is None or self.ca is None:
            return None
        return NodeFiles(self.certificate, self.private_key, self.ca)

    def limits(self) -> NodeLimits:
        """The bounds on what others are asked."""
        return NodeLimits(**{one.name: getattr(self, one.name) for one in fields(NodeLimits)})

    def move_limits(self) -> MoveLimits:
        """The bounds on moving accounts."""
        return MoveLimits(**{one.name: getattr(self, f"move_{one.name}") for one in fields(MoveLimits)})

    def check_listening(self, setting: str, endpoints: tuple[str, ...]) -> None:
        """Raises ValueError: nodes cannot be told from strangers."""
        if endpoints and (self.files() is None or not self.name):
            raise ValueError(f"'listen.{setting}': set name, certificate, private_key and ca in [node]")


def call_node_by(root: Path, section: object, at_end: Callable[[], None] | None = None) -> None:
    """Let this process know how a ``[node]`` section calls the server of a data root.

    ``at_end`` is called in a thread if the node's lease ends.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    read = NodeSection.model_validate(section)
    call_node(root, read.name or None)
    put_lease(root, read.lease_s, read.lease_margin_s, at_end)
