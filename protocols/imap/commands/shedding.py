"""Which clients say that they work in the background and can wait (Apple's Technical Note TN3189). Pure.

Since iOS 18.5 Mail says in ID (RFC 2971) what a connection is for: the field ``event`` is a list of words
with commas between them, to be heeded only where ``name`` begins with ``com.apple.``. With ``indexer`` or
``back-fill`` among them the connection fetches mail that nobody is waiting for. Answered NO [UNAVAILABLE],
the client comes back in about a day; after an update of the system a great many of them come at once.
"""

from __future__ import annotations

from collections.abc import Sequence

APPLE = b"com.apple."
BACKGROUND_EVENTS = frozenset({b"indexer", b"back-fill"})


def can_wait(fields: Sequence[tuple[bytes, bytes | None]]) -> bool:
    """Whether the fields of ID (names in lower case) are those of background work."""
    said = dict(fields)
    if not (said.get(b"name") or b"").startswith(APPLE):
        return False
    words = (said.get(b"event") or b"").split(b",")
    return any(word.strip() in BACKGROUND_EVENTS for word in words)
