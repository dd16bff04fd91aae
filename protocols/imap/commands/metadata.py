"""Handlers for GETMETADATA and SETMETADATA (RFC 5464), and the METADATA response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailstore.errors import LimitExceeded
from mailstore.model import SpecialUse
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.metadata import Depth, GetMetadata, SetMetadata
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.responses import lines

SPECIAL_USE = "/private/specialuse"
"""RFC 6154 section 4: the special use of a mailbox, as an entry."""
_SPECIAL_USES = frozenset(use.value.encode("ascii") for use in SpecialUse)
_DONE = Answer(b"done")


def chosen(stored: Mapping[str, bytes], entries: Iterable[str], depth: Depth) -> dict[str, bytes | None]:
    """The entries to tell. One asked for by its name alone is NIL when there is none (section 4.4.1)."""
    if depth is Depth.ENTRY:
        return {entry: stored.get(entry) for entry in entries}
    found: dict[str, bytes | None] = {}
    for entry in entries:
        for name, value in stored.items():
            below = name[len(entry) + 1 :] if name.startswith(entry + "/") else None
            if name == entry or (below and (depth is Depth.ALL or "/" not in below)):
                found[name] = value
    return found


def metadata_line(ctx: Context, name: str, values: Mapping[str, bytes | None]) -> bytes:
    """METADATA with values (section 4.4.1)."""
    pairs = b" ".join(
        b"%s %s" % (lines.astring(entry.encode("ascii")), _value(value)) for entry, value in values.items()
    )
    mailbox = lines.mailbox(name, ctx.utf8) if name else b'""'
    return lines.untagged(b"METADATA %s (%s)" % (mailbox, pairs))


def _value(value: bytes | None) -> bytes:
    # RFC 5464 section 5: NUL needs a literal8.
    if value is not None and b"\0" in value:
        return b"~" + lines.literal(value)
    return lines.nstring(value)


def special_use_entry(attributes: Iterable[bytes]) -> dict[str, bytes]:
    """The entry of the special use among attributes of LIST, nothing when there is none."""
    uses = [attribute for attribute in attributes if attribute in _SPECIAL_USES]
    return {SPECIAL_USE: uses[0]} if uses else {}


async def get_metadata(ctx: Context, request: GetMetadata) -> Answer:
    """GETMETADATA; values above MAXSIZE are left out, the longest of them is told (section 4.2.1)."""
    account = ctx.the_account()
    stored = await account.annotations(request.mailbox or None)
    if request.mailbox and any(SPECIAL_USE.startswith(entry) for entry in request.entries):
        uses = {info.name: info.special_use for info in (await account.list_mailboxes()).mailboxes}
        use = uses.get(request.mailbox)
        stored = {**stored, **special_use_entry((use.value.encode("ascii"),) if use else ())}
    values = chosen(stored, request.entries, request.depth)
    longest = 0
    if request.max_size is not None:
        sizes = {entry: len(value or b"") for entry, value in values.items()}
        values = {entry: value for entry, value in values.items() if sizes[entry] <= request.max_size}
        longest = max((size for entry, size in sizes.items() if entry not in values), default=0)
    if values:
        ctx.output.put(metadata_line(ctx, request.mailbox, values))
    return Answer(b"done", b"METADATA LONGENTRIES %d" % longest) if longest else _DONE


async def set_metadata(ctx: Context, request: SetMetadata) -> Answer:
    """SETMETADATA, all or none (section 4.3); OVERQUOTA (RFC 9208) where the account would be too large."""
    if any(len(value or b"") > ctx.limits.metadata_value_max_bytes for value in request.values.values()):
        limit = ctx.limits.metadata_value_max_bytes
        raise Disallowed(b"a value is too long", b"METADATA MAXSIZE %d" % limit)
    if not request.mailbox and any(entry.startswith("/shared/") for entry in request.values):
        # What all users of the server would see is the operator's (section 3.2).
        raise Disallowed(b"server-wide entries are set by the administrator", b"NOPERM")
    if request.mailbox and SPECIAL_USE in request.values:
        raise Disallowed(b"a special use is chosen when the mailbox is created", b"CANNOT")
    try:
        versions = await ctx.the_account().annotate(request.mailbox or None, request.values)
    except LimitExceeded:
        raise Disallowed(b"too many entries, or too long together", b"METADATA TOOMANY") from None
    if ctx.watch is not None:
        ctx.watch.picture.annotated(request.mailbox, request.values, versions)
    return _DONE
