"""mbox: messages one after the other in a file, each behind a line ``From``, quoted as mboxrd. Pure.

Before each message that is exported stand four fields that are not part of it: ``Status`` (R: seen),
``X-Status`` (A, F, D, T: answered, flagged, deleted, draft), ``X-Keywords``, and ``X-Sealbox`` with its size
in bytes and whether its lines end with CRLF in truth (``lf``) or as they do in the file (``exact``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mailstore.mime import sent_date
from mailstore.model import Flags, SystemFlag
from mailstore.transfer.keywords import usable_keywords
from mailstore.transfer.line_ends import to_crlf, to_lf

FROM = b"From "
"""What every message begins with."""

MAX_FROM_LINE_BYTES = 1000
"""Longest line that can begin a message (RFC 5322 section 2.1.1); a longer one is a line of a text."""

_X_STATUS = (
    ("A", SystemFlag.ANSWERED),
    ("F", SystemFlag.FLAGGED),
    ("D", SystemFlag.DELETED),
    ("T", SystemFlag.DRAFT),
)
_MOZILLA = ((1, SystemFlag.SEEN), (2, SystemFlag.ANSWERED), (4, SystemFlag.FLAGGED))
_MOZILLA_EXPUNGED = 8
"""Bits of Thunderbird's ``X-Mozilla-Status``; what is expunged stays in the file until it is compacted."""

_TO_QUOTE = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_UNQUOTED = re.compile(rb"^From ", re.MULTILINE)

_OURS = re.compile(
    rb"Status: ([RO]*)\nX-Status: ([AFDT]*)\nX-Keywords:([^\n]*)\nX-Sealbox: (\d{1,12}) (lf|exact)\n"
)
_NOTES = re.compile(
    rb"^(Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|X-Mozilla-Status|X-Mozilla-Status2|X-Mozilla-Keys)"
    rb":[ \t]*+([^\r\n]*+)\r?\n",
    re.MULTILINE | re.IGNORECASE,
)
_FROM_DATE = re.compile(
    rb"From (?:.* )?((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? "
    rb"(?:\d{1,2} )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [^\r\n]*)\r?\n?"
)
_BARE_FROM_LINE = re.compile(rb"From (?:-? *)\r?\n?")
_EMPTY_LINE_AT_END = re.compile(rb"(?<=\n)\r?\n\Z")
_FIRST_LINE = re.compile(rb"[!-9;-~]+[ \t]*:|\r?\n|>From ")


def from_line_date(line: bytes) -> int | None:
    """The date in a line that begins a message, in seconds since the epoch; 0 where it has none.

    None when it begins no message: a line of a text that was not quoted. Times without a zone are UTC.
    """
    if len(line) > MAX_FROM_LINE_BYTES:
        return None
    found = _FROM_DATE.fullmatch(line)
    if found is None:
        return 0 if _BARE_FROM_LINE.fullmatch(line) else None
    date = sent_date(found[1])
    return None if date is None else max(date[0], 0)


def begins_message(line: bytes) -> bool:
    """Whether a line can be the first of a message: a field, or the empty line behind no field at all.

    A text may well contain a line ``From`` with a date; what follows it hardly ever looks like this.
    """
    return _FIRST_LINE.match(line) is not None


def render(data: bytes, flags: Flags, internal_date: int) -> bytes:
    """A message as it stands in the file, the line ``From`` and the empty line behind it included."""
    shorter = to_lf(data)
    written = data if shorter is None else shorter
    system = flags.system
    letters = "".join(letter for letter, flag in _X_STATUS if system & flag)
    fields = (
        f"From MAILER-DAEMON {datetime.fromtimestamp(internal_date, UTC).ctime()}\n"
        f"Status: {'RO' if system & SystemFlag.SEEN else 'O'}\nX-Status: {letters}\n"
        f"X-Keywords: {' '.join(flags.keywords)}\n"
        f"X-Sealbox: {len(data)} {'exact' if shorter is None else 'lf'}\n"
    )
    end = b"\n" if written.endswith(b"\n") else b"\n\n"
    return fields.encode("ascii") + _TO_QUOTE.sub(rb">\1", written) + end


def parse(raw: bytes) -> tuple[bytes, Flags, bool]:
    """The message in what stands behind a line ``From``, its flags, and whether Thunderbird has expunged it.

    ``raw`` goes up to the next such line. Of a message that this program has exported the bytes are those it
    was stored with. Of others, the fields are taken out in which programs note flags, and LF becomes CRLF.
    """
    ours = _OURS.match(raw)
    if ours is not None:
        data = _QUOTED.sub(rb"\1", raw[ours.end() :])
        size = int(ours[4])
        data = to_crlf(data) if ours[5] == b"lf" else data
        if size <= len(data) <= size + len(b"\r\n\r\n"):
            return data[:size], _flags({"status": ours[1], "x-status": ours[2], "x-keywords": ours[3]}), False
    return _parse_of_others(raw)


def _parse_of_others(raw: bytes) -> tuple[bytes, Flags, bool]:
    raw = _EMPTY_LINE_AT_END.sub(b"", raw)  # it belongs to the next message
    crlf, lf = raw.find(b"\r\n\r\n"), raw.find(b"\n\n")
    ends = [at for at in (crlf, lf) if at >= 0]
    end = min(ends) + 2 if ends else len(raw)
    header, body = raw[:end], raw[end:]
    notes: dict[str, bytes] = {}
    for found in _NOTES.finditer(header):
        notes.setdefault(found[1].decode("ascii").lower(), found[2])
    header = _NOTES.sub(b"", header)
    if not (b"content-length:" in header.lower() and _UNQUOTED.search(body)):
        body = _QUOTED.sub(rb"\1", body)
    expunged = bool(_mozilla(notes) & _MOZILLA_EXPUNGED)
    return to_crlf(header + body), _flags(notes), expunged


def _mozilla(notes: dict[str, bytes]) -> int:
    try:
        return int(notes.get("x-mozilla-status", b"0").strip(), 16)
    except ValueError:
        return 0


def _flags(notes: dict[str, bytes]) -> Flags:
    system = SystemFlag.SEEN if b"R" in notes.get("status", b"") else SystemFlag.NONE
    letters = notes.get("x-status", b"").decode("ascii", "replace")
    for letter, flag in _X_STATUS:
        system |= flag if letter in letters else SystemFlag.NONE
    for bit, flag in _MOZILLA:
        system |= flag if _mozilla(notes) & bit else SystemFlag.NONE
    words = notes.get("x-keywords", b"") + b" " + notes.get("x-mozilla-keys", b"")
    return Flags(system, usable_keywords(words.decode("utf-8", "replace").split()))
