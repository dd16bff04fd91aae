"""The staging folder: sealed segments on their way to the object store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from backup.sealing import Sealer, info_for
from backup.segment import Header, SegmentName, padding_bytes
from backup.signing import Signer
from backup.state import Segment
from mailstore.durable import FILE_MODE, sync_folder
from mailstore.keys import PublicKey

_ZEROS_BYTES = 1024 * 1024


def staged_name(name: SegmentName) -> str:
    """The file in the staging folder in which a segment waits."""
    return str(name).replace("/", "-")


def write_segment(
    staging: Path, header: Header, payload: Iterable[bytes], public_key: PublicKey, signer: Signer
) -> Segment:
    """Seal and sign a segment into its file, durably. Raises OSError, after which nothing is left."""
    path = staging / staged_name(header.name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            info = info_for(header.name.stream, header.name.sequence)
            sealer = Sealer(file, public_key, info, partial(signer.sign, header.name))
            encoded = header.encode()
            sealer.write(encoded)
            for piece in payload:
                sealer.write(piece)
            for piece in _zeros(padding_bytes(header, len(encoded))):
                sealer.write(piece)
            sealer.finish()
            file.flush()
            os.fsync(file.fileno())
        sync_folder(staging)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Segment(header.name, sealer.size_bytes, sealer.sha256, sealer.content_key, stored=False)


def _zeros(size: int) -> Iterator[bytes]:
    for start in range(0, size, _ZEROS_BYTES):
        yield bytes(min(_ZEROS_BYTES, size - start))
