"""What the search index takes of each message: all that ``search_text`` compares with a text, in its form."""

from __future__ import annotations

from collections.abc import Iterable

from mailstore.engine import Txn
from mailstore.errors import StorageFailed
from mailstore.limits import StoreLimits
from mailstore.ops.content import MessageReader, small_header
from mailstore.ops.search_index import IndexText
from mailstore.ops.search_text import body_forms, field_forms, header_forms


def texts_after(txn: Txn, message_id: int, limits: StoreLimits) -> list[IndexText]:
    """The texts of the messages behind ``message_id`` that make up one batch, in order of their ids."""
    rows = txn.rows(
        f"SELECT s.object_id, s.id, s.size_bytes, s.header_bytes, {small_header('s')}"
        " FROM message AS s WHERE s.id > ?"
        " ORDER BY s.id LIMIT ?",
        (message_id, limits.index_batch_messages),
    )
    batch: list[IndexText] = []
    chars = 0
    for object_id, *row in rows:
        if chars >= limits.index_batch_chars:
            break
        text, read = _text(object_id, MessageReader(txn, *row), limits)
        batch.append(text)
        chars += read
    return batch


def _text(object_id: str, reader: MessageReader, limits: StoreLimits) -> tuple[IndexText, int]:
    """The text of one message, and how many characters of it have been read."""
    most_chars = limits.index_message_chars
    try:
        header = _joined(header_forms(reader), most_chars)
        body = _joined(body_forms(reader), most_chars)
        fields = {} if header is None else dict(field_forms(reader))
    except (StorageFailed, ValueError):
        # Whoever searches it is told of the damage.
        return IndexText(reader.message_id, object_id, None, None), 0
    read = sum(most_chars if one is None else len(one) for one in (header, body))
    kept = {name: form if len(form) <= limits.index_field_chars else None for name, form in fields.items()}
    return IndexText(reader.message_id, object_id, header, body, kept), read


def _joined(forms: Iterable[str], most_chars: int) -> str | None:
    """All the forms; None when they are more than that."""
    kept: list[str] = []
    chars = 0
    for form in forms:
        chars += len(form)
        if chars > most_chars:
            return None
        kept.append(form)
    return "".join(kept)
