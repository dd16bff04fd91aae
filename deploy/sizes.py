"""Sizes as text for people."""

from __future__ import annotations

from tqdm import tqdm

_KIB = 1024


def size_text(size_bytes: int) -> str:
    """Octets in the largest unit that there is one of, in powers of 1024."""
    return f"{size_bytes} B" if size_bytes < _KIB else str(tqdm.format_sizeof(size_bytes, "B", _KIB))
