"""What the sections of the configuration have in common."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from OpenSSL import SSL
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from protocols.tls import TlsContext

L = TypeVar("L")


class Section(BaseModel):
    """A table of the configuration: what it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSection(Section):
    """Certificate chain and private key (PEM files), reread on SIGHUP."""

    certificate: Path
    private_key: Path

    @field_validator("certificate", "private_key")
    @classmethod
    def _readable(cls, path: Path) -> Path:
        if not path.is_file() or not os.access(path, os.R_OK, effective_ids=True):
            raise ValueError("the file is missing or cannot be read")
        return path

    @model_validator(mode="after")
    def _belong_together(self) -> TlsSection:
        # By what the workers use, whose OpenSSL need not be the one of Python's ssl.
        try:
            TlsContext(self.certificate, self.private_key, b"imap")
        except (OSError, SSL.Error):
            raise ValueError("certificate and private key are not PEM files that belong together") from None
        return self


def _bounded(kind: Any) -> Any:
    """Numbers in limits are counts, sizes or times: never negative."""
    return Annotated[kind, Field(ge=0)] if kind in (int, float) else kind


def section_of(limits: type[Any]) -> type[BaseModel]:
    """A section with the fields and defaults of a dataclass of limits, and with its own checks."""
    hints = get_type_hints(limits)
    fields: dict[str, Any] = {
        one.name: (_bounded(hints[one.name]), one.default)
        for one in dataclasses.fields(limits)
        if one.default is not dataclasses.MISSING
    }

    def fits(section: BaseModel) -> BaseModel:
        limits(**section.model_dump())  # its ValueError is named together with all other mistakes
        return section

    checks: dict[str, Any] = {"fits": model_validator(mode="after")(fits)}
    return create_model(limits.__name__, __base__=Section, __validators__=checks, **fields)


def limits_of(section: BaseModel, limits: type[L]) -> L:
    """The limits that such a section has set."""
    return limits(**section.model_dump())
