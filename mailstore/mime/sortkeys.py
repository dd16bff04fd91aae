"""What SORT and THREAD compare: base subject, first mailboxes, sent date (RFC 5256, 5957)."""

import re
from dataclasses import dataclass
from datetime import date

from mailstore.mime.address import Address, addresses
from mailstore.mime.collation import unicode_casemap
from mailstore.mime.content import without_comments
from mailstore.mime.headers import collect, field_pattern
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.text import decode_words

_SORT_FIELDS = field_pattern(rb"date|subject|from|to|cc")
_BLANKS = re.compile(r"\s+")
_BLOB = re.compile(r"\[[^\[\]]*\] *")
_REPLY_MARK = re.compile(r"(?:re|fwd?) *(?:\[[^\[\]]*\] *)?:", re.I)
_TRAILER = "(fwd)"
_EPOCH = date(1970, 1, 1).toordinal()
_MONTHS = {
    name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_TIME = rb"(\d{1,2})[ \t]*[:.][ \t]*(\d{1,2})(?:[ \t]*[:.][ \t]*(\d{1,2}))?"
_ZONE = rb"(?:[ \t]*([+-]\d{4})|[ \t]*([A-Za-z]{1,5}))?"
_DATE = re.compile(
    rb"\s*(?:[A-Za-z]{1,10}[ \t]*[,.]?[ \t]*)?(\d{1,2})[ \t-]*"
    rb"([A-Za-z]{3})[A-Za-z]{0,6}\.?[ \t,-]*(\d{2,4})(?!\d)"
    rb"(?:[ \t,]*" + _TIME + _ZONE + rb")?"
)
_C_DATE = re.compile(
    rb"\s*[A-Za-z]{3,10}[ \t,]+([A-Za-z]{3})[a-z]*[ \t]+(\d{1,2})[ \t,]+"
    + _TIME
    + _ZONE
    + rb"[ \t]+(\d{4})(?!\d)"
)
_ZONE_HOURS = {b"EDT": -4, b"EST": -5, b"CDT": -5, b"CST": -6, b"MDT": -6, b"MST": -7, b"PDT": -7, b"PST": -8}
_DATE_MAX_BYTES = 200
_FEW = MimeLimits(max_addresses=3)


@dataclass(frozen=True, slots=True, repr=False)
class SortKeys:
    """Sort keys of one message; text as ``i;unicode-casemap`` compares it, "" where the field is missing.

    ``subject``: base subject; ``is_reply``: something that marks replies or forwards was removed
    from it (RFC 5256 sections 2.1 and 3). ``sender``, ``to``, ``cc``: mailbox of the first address in the
    envelope, which is the name of a group where the field begins with one (RFC 5256 section 3).
    ``display_from``, ``display_to``: its display name or whole address (RFC 5957 section 3).
    ``date``: seconds since 1970 UTC, None if there is no valid date (RFC 5256 section 2.2);
    ``sent_day``: days since 1970 as written, disregarding time and zone (SENTON and its kin).
    """

    subject: str
    is_reply: bool
    sender: str
    to: str
    cc: str
    display_from: str
    display_to: str
    date: int | None
    sent_day: int | None


def base_subject(subject: str) -> tuple[str, bool]:
    """The base subject of a decoded subject and whether it was that of a reply or forward.

    RFC 5256 section 2.1, in linear time: nothing is copied until the end, and a run of blobs is
    looked at once.
    """
    text = _BLANKS.sub(" ", subject)
    lowered = text.lower() if len(text.lower()) == len(text) else text
    start, end, is_reply = 0, len(text), False
    while True:
        while end > start:
            if text[end - 1] == " ":
                end -= 1
            elif lowered.endswith(_TRAILER, start, end):
                end, is_reply = end - len(_TRAILER), True
            else:
                break
        start, marked = _after_leaders(text, start, end)
        is_reply = is_reply or marked
        if not (lowered.startswith("[fwd:", start, end) and lowered.endswith("]", start, end)):
            return text[start:end], is_reply
        start, end, is_reply = start + 5, end - 1, True


def _after_leaders(text: str, start: int, end: int) -> tuple[int, bool]:
    """Where the subject goes on after reply marks and blobs, and whether there was a mark."""
    marked = False
    while True:
        while start < end and text[start] == " ":
            start += 1
        last_blob, after = start, start
        while (blob := _BLOB.match(text, after, end)) is not None:
            last_blob, after = after, blob.end()
        mark = _REPLY_MARK.match(text, after, end)
        if mark is None:
            # A blob is removed only if something is left behind it.
            return (after if after < end else last_blob), marked
        start, marked = mark.end(), True


def _zone_seconds(offset: bytes | None, name: bytes | None) -> int:
    if offset:
        seconds = int(offset[1:3]) * 3600 + int(offset[3:5]) * 60
        return -seconds if offset.startswith(b"-") else seconds
    # Unknown names count as -0000 (RFC 5322 section 4.3).
    return _ZONE_HOURS.get(name.upper(), 0) * 3600 if name else 0


def sent_date(value: bytes) -> tuple[int, int] | None:
    """Seconds since 1970 UTC, and days since 1970 as written, of a Date value; None if invalid.

    RFC 5322 sections 3.3 and 4.3, and the form of C's asctime. A date with an invalid time counts
    as midnight UTC (RFC 5256 section 2.2).
    """
    value = without_comments(value[:_DATE_MAX_BYTES])
    if match := _DATE.match(value):
        day, month, year, hour, minute, second, offset, zone = match.groups()
    elif match := _C_DATE.match(value):
        month, day, hour, minute, second, offset, zone, year = match.groups()
    else:
        return None
    number = int(year)
    if len(year) < 4:
        number += 2000 if len(year) == 2 and number < 50 else 1900
    try:
        days = date(number, _MONTHS[month.lower()], int(day)).toordinal() - _EPOCH
    except (ValueError, KeyError):
        return None
    clock = int(hour or 0), int(minute or 0), int(second or 0)
    if hour is None or clock[0] > 23 or clock[1] > 59 or clock[2] > 60:
        return days * 86_400, days
    seconds = clock[0] * 3600 + clock[1] * 60 + clock[2]
    return days * 86_400 + seconds - _zone_seconds(offset, zone), days


def _first(values: list[bytes] | None) -> Address | None:
    """The first address as the envelope has it: repeated fields are one list."""
    # One address decides, so a long list is not parsed to its end.
    found = addresses(b",".join(values), _FEW) if values else ()
    return found[0] if found else None


def _key(value: bytes | None, limits: MimeLimits) -> str:
    if not value:
        return ""
    text = decode_words(value[: 8 * limits.max_sort_key_chars])
    return unicode_casemap(text[: limits.max_sort_key_chars])


def _display(one: Address | None, limits: MimeLimits) -> str:
    if one is None:
        return ""
    if one.name:
        return _key(one.name, limits)
    host = b"@" + one.host if one.host else b""
    return _key((one.mailbox or b"") + host, limits)


def sort_keys(header: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> SortKeys:
    """The sort keys of the header block ``header``; never raises."""
    values = collect(header, _SORT_FIELDS, limits)
    subject, is_reply = base_subject(
        decode_words(values.get(b"subject", [b""])[0][: 8 * limits.max_sort_key_chars])
    )
    sender, to, cc = (_first(values.get(name)) for name in (b"from", b"to", b"cc"))
    sent = sent_date(values.get(b"date", [b""])[0])
    return SortKeys(
        unicode_casemap(subject[: limits.max_sort_key_chars]),
        is_reply,
        _key(sender.mailbox if sender else None, limits),
        _key(to.mailbox if to else None, limits),
        _key(cc.mailbox if cc else None, limits),
        _display(sender, limits),
        _display(to, limits),
        sent[0] if sent else None,
        sent[1] if sent else None,
    )
