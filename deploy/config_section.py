"""What the sections of the configuration have in common."""

from __future__ import annotations

import os
from pathlib import Path

from OpenSSL import SSL
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from protocols.tls import TlsContext


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
