"""Files of a test that fails only now and then are kept where they survive the runs after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def kept_when_failing(place: Path) -> Iterator[None]:
    """Copy ``place`` aside when the test inside fails; the failure's message says where to."""
    try:
        yield
    except BaseException as error:
        kept = Path(tempfile.mkdtemp(prefix=f"sealbox-{place.name}-"))
        shutil.copytree(place, kept, dirs_exist_ok=True)
        error.add_note(f"the files are kept in {kept}")
        raise
