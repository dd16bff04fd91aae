"""The settings of a node: a server that shares its directory with others."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from deploy.config_section import Section
from mailstore.directory import call_node, is_node_name


class NodeSection(Section):
    """What the others call this server; empty for one that shares its directory with nobody."""

    name: str = ""

    @field_validator("name")
    @classmethod
    def _label(cls, name: str) -> str:
        if name and not is_node_name(name):
            raise ValueError("write lower-case letters, digits and hyphens, 63 at most")
        return name


def call_node_by(root: Path, section: object) -> None:
    """Let this process know how a ``[node]`` section calls the server of a data root.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    call_node(root, NodeSection.model_validate(section).name or None)
