"""The ENVELOPE of a message, ready to send, and its ids for threading.

RFC 3501 section 7.4.2, RFC 9051 section 7.5.2, RFC 5256 section 3.
"""

import re
from dataclasses import dataclass

from mailstore.mime.address import Address, addresses
from mailstore.mime.headers import collect, field_pattern
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.quoting import nstring

_ENVELOPE_FIELDS = field_pattern(rb"date|subject|from|sender|reply-to|to|cc|bcc|in-reply-to|message-id")
_THREAD_FIELDS = field_pattern(rb"message-id|references|in-reply-to")
_MESSAGE_ID = re.compile(rb"<([^<>]+)>")


@dataclass(frozen=True, slots=True, repr=False)
class MessageIds:
    """A message's own id and those of its ancestors, oldest first, without angle brackets."""

    message_id: bytes | None
    references: tuple[bytes, ...]


def address_list(header_values: list[bytes] | None, limits: MimeLimits) -> bytes:
    """Repeated fields count as one list (RFC 5322 section 4.5.3); an empty list is NIL."""
    if not header_values:
        return b"NIL"
    found = addresses(b",".join(header_values) if len(header_values) > 1 else header_values[0], limits)
    return b"(%b)" % b"".join([_address(one) for one in found]) if found else b"NIL"


def _address(one: Address) -> bytes:
    return b"(%b %b %b %b)" % (nstring(one.name), nstring(one.route), nstring(one.mailbox), nstring(one.host))


def envelope(header: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> bytes:
    """The envelope of the header block ``header`` as FETCH sends it, parentheses included.

    Sender and Reply-To default to From. Of a repeated field that is no address list the first
    counts. 8-bit values are literals, so the result is legal whatever the client has enabled.
    """
    values = collect(header, _ENVELOPE_FIELDS, limits)
    get = values.get
    sender = address_list(get(b"from"), limits)
    lists = [sender]
    for name in (b"sender", b"reply-to"):
        sent = get(name)
        rendered = address_list(sent, limits) if sent and sent != get(b"from") else b"NIL"
        lists.append(sender if rendered == b"NIL" else rendered)
    lists += [address_list(get(name), limits) for name in (b"to", b"cc", b"bcc")]
    date, subject, reply, own = [
        nstring(found[0] if (found := get(name)) else None)
        for name in (b"date", b"subject", b"in-reply-to", b"message-id")
    ]
    return b"(%b %b %b %b %b)" % (date, subject, b" ".join(lists), reply, own)


def _ids(value: bytes) -> list[bytes]:
    found = []
    for match in _MESSAGE_ID.finditer(value):
        # <"a"@b> and <a@b> are the same id (RFC 5256 section 3); folding left white space inside.
        message_id = b"".join(match[1].split()).replace(b'"', b"").replace(b"\\", b"").replace(b"\0", b"")
        if message_id:
            found.append(message_id)
    return found


def message_ids(header: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> MessageIds:
    """The ids by which the message is threaded (RFC 5256 section 3, REFERENCES).

    ``references`` are the ids in References or, only if that has none, the first in In-Reply-To.
    Of too many references the first and the latest are kept.
    """
    values = collect(header, _THREAD_FIELDS, limits)
    own = _ids(values.get(b"message-id", [b""])[0])
    references = _ids(b" ".join(values.get(b"references", [])))
    if not references:
        references = _ids(values.get(b"in-reply-to", [b""])[0])[:1]
    elif len(references) > limits.max_references:
        references = [references[0], *references[len(references) - limits.max_references + 1 :]]
    return MessageIds(own[0] if own else None, tuple(references))
