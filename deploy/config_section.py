"""What the sections of the configuration have in common."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator, model_validator


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
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError):
            raise ValueError("certificate and private key are not PEM files that belong together") from None
        return self
