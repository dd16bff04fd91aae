"""Varied messages for searching and sorting beside another server; the same for every seed. Pure.

Good mail in many charsets and encodings, and what real mail gets wrong: 8-bit headers, unknown charsets,
missing and repeated fields, groups, comments in addresses, blanks at the ends of lines.
"""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

WORDS = (
    "invoice", "Garden", "meeting", "REPORT", "holiday", "draft", "contract", "ferry", "window", "kettle",
    "Müller", "café", "Straße", "naïve", "Ångström", "Zürich", "garçon", "señor", "привет", "Москва",
    "Ελλάδα", "日本", "résumé", "Øresund", "[list]", "_score_", "a.b", "x@y", "100%", "(note)",
)  # fmt: skip
NAMES = ("Ada", "Björn", "Zoë", "ann", "Carlos", "Дмитрий", "O'Neil", "van Dyk", "Łukasz")
HOSTS = ("example.org", "mail.example.com", "x.example", "Example.NET")
FILES = ("logo.png", "report final.pdf", "Übersicht.xls", "data.csv")
FIRST_DAY = datetime(2025, 3, 1, 12, tzinfo=UTC)
_CHARSETS = ("utf-8", "iso-8859-1", "koi8-r", "iso-2022-jp", "windows-1252", "us-ascii", "x-unknown", "")


def _word(rng: random.Random) -> str:
    return rng.choice(WORDS)


def _text(rng: random.Random, size: int = 40) -> str:
    words = [_word(rng) for _ in range(rng.randint(5, size))]
    lines, line = [], ""
    for word in words:
        line = f"{line} {word}".strip()
        if len(line) > rng.randint(20, 60):
            lines.append(line)
            line = ""
    return "\r\n".join([*lines, line, ""])


def _encoded(rng: random.Random, text: str) -> bytes:
    """A header value: plain, as encoded words of either kind, or as it is in UTF-8."""
    if text.isascii():
        return text.encode()
    match rng.randrange(4):
        case 0:
            return b"=?utf-8?B?" + base64.b64encode(text.encode()) + b"?="
        case 1:
            return (
                b"=?UTF-8?q?" + quopri.encodestring(text.encode(), header=True).replace(b"=\n", b"") + b"?="
            )
        case 2:
            halves = text[: len(text) // 2], text[len(text) // 2 :]
            return b"\r\n ".join(b"=?utf-8?B?%b?=" % base64.b64encode(half.encode()) for half in halves)
        case _:
            return text.encode()


def _address(rng: random.Random) -> bytes:
    name = rng.choice(NAMES)
    user = rng.choice(("ada", "bjorn", "info", "no-reply", "Sales", "x.y"))
    host = rng.choice(HOSTS)
    match rng.randrange(9):
        case 0:
            return f"{user}@{host}".encode()
        case 1:
            return (
                f'"{name}, Dr." <{user}@{host}>'.encode() if name.isascii() else f"<{user}@{host}>".encode()
            )
        case 2:
            return f"{user}@{host} ({name})".encode() if name.isascii() else f"{user}@{host}".encode()
        case 3:
            return f"<{user} (at work)@ (here) {host}>".encode()
        case _:
            return _encoded(rng, name) + f" <{user}@{host}>".encode()


def _addresses(rng: random.Random) -> bytes:
    some = b", ".join(_address(rng) for _ in range(rng.randint(1, 3)))
    match rng.randrange(12):
        case 0:
            return b"undisclosed-recipients:;"
        case 1:
            return b"Friends: " + some + b";"
        case 2:
            return some.replace(b", ", b",\r\n\t")
        case _:
            return some


def _subject(rng: random.Random) -> bytes:
    text = " ".join(_word(rng) for _ in range(rng.randint(1, 5)))
    prefix = rng.choice(("", "", "", "Re: ", "RE: ", "Fwd: ", "[team] ", "Re: [team] ", "re[2]: "))
    suffix = rng.choice(("", "", "", " (fwd)"))
    value = prefix.encode() + _encoded(rng, text) + suffix.encode()
    return value.replace(b" ", b"\r\n  ", 1) if rng.random() < 0.1 else value


def _header(rng: random.Random, number: int) -> bytes:
    sent = FIRST_DAY + timedelta(hours=7 * rng.randrange(200))
    zone = rng.choice(("+0000", "-0800", "+0530"))
    lines = [b"Received: from %b by mx.example.org; %b" % (rng.choice(HOSTS).encode(), _date(sent, "+0000"))]
    if rng.random() < 0.95:
        lines.append(b"From: " + _address(rng))
    if rng.random() < 0.9:
        lines.append(b"To: " + _addresses(rng))
    if rng.random() < 0.3:
        lines.append(b"Cc: " + _addresses(rng))
    if rng.random() < 0.1:
        lines.append(b"Bcc: " + _address(rng))
    if rng.random() < 0.93:
        lines.append(b"Subject: " + _subject(rng))
    if rng.random() < 0.9:
        lines.append(b"Date: " + (_date(sent, zone) if rng.random() < 0.95 else b"yesterday"))
    if rng.random() < 0.2:
        lines.append(b"X-Note: " + _encoded(rng, _word(rng) + " " + _word(rng)))
    lines.append(b"Message-ID: <%d@example.org>" % number)
    return b"\r\n".join(lines) + b"\r\nMIME-Version: 1.0\r\n"


def _date(when: datetime, zone: str) -> bytes:
    return (when.strftime("%a, %d %b %Y %H:%M:%S ") + zone).encode()


def _plain(rng: random.Random) -> bytes:
    charset = rng.choice(_CHARSETS)
    text = _text(rng)
    raw = text.encode("utf-8" if charset in ("x-unknown", "us-ascii", "") else charset, "ignore")
    kind = b"Content-Type: text/plain; charset=%b\r\n" % charset.encode() if charset else b""
    match rng.randrange(4):
        case 0:
            encoding, raw = b"base64", base64.encodebytes(raw).replace(b"\n", b"\r\n")
        case 1:
            encoding = b"quoted-printable"
            raw = quopri.encodestring(raw.replace(b"\r\n", b"\n")).replace(b"\n", b" \r\n")
        case _:
            encoding = b"8bit"
    return kind + b"Content-Transfer-Encoding: %b\r\n\r\n%b\r\n" % (encoding, raw)


def _html(rng: random.Random) -> bytes:
    parts = "".join(
        rng.choice(("<p>{}</p>\r\n", "<b>{}</b> ", "{} ", '<a href="http://{}.example/">{}</a>\r\n')).replace(
            "{}", _word(rng)
        )
        for _ in range(20)
    )
    source = (
        f"<html><head><style>p {{ color: red }}</style></head><body>{parts}&amp; &eacute;</body></html>\r\n"
    )
    return b"Content-Type: text/html; charset=utf-8\r\n\r\n" + source.encode()


def _multipart(rng: random.Random, kind: bytes, parts: list[bytes]) -> bytes:
    mark = b"b%d" % rng.randrange(1 << 30)
    inside = b"".join(b"\r\n--%b\r\n%b" % (mark, part) for part in parts)
    head = b'Content-Type: multipart/%b; boundary="%b"\r\n\r\nfor old programs\r\n' % (kind, mark)
    return head + inside + b"\r\n--%b--\r\n" % mark


def _attachment(rng: random.Random) -> bytes:
    name = rng.choice(FILES)
    if name.isascii():
        parameter = f'filename="{name}"'
    else:
        parameter = "filename*=utf-8''" + "".join(f"%{byte:02X}" for byte in name.encode())
    body = base64.encodebytes(rng.randbytes(60)).replace(b"\n", b"\r\n")
    return (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; %b\r\n\r\n%b" % (parameter.encode(), body)
    )


def _enclosed(rng: random.Random) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" + _header(rng, rng.randrange(1 << 20)) + _plain(rng)


def _report(rng: random.Random) -> bytes:
    status = b"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; %b\r\n" % _address(rng)
    return _multipart(rng, b"report", [_plain(rng), status])


_BODIES: tuple[tuple[Callable[[random.Random], bytes], int], ...] = (
    (_plain, 9),
    (_html, 3),
    (lambda rng: _multipart(rng, b"alternative", [_plain(rng), _html(rng)]), 4),
    (lambda rng: _multipart(rng, b"mixed", [_plain(rng), _attachment(rng)]), 3),
    (lambda rng: _multipart(rng, b"mixed", [_plain(rng), _enclosed(rng), _attachment(rng)]), 2),
    (_report, 1),
)


def message(seed: int, number: int) -> bytes:
    """Message ``number`` of the mailbox of ``seed``, lines ending in CRLF."""
    rng = random.Random(f"{seed} {number}")
    (body,) = rng.choices([make for make, _ in _BODIES], [weight for _, weight in _BODIES])
    return _header(rng, number) + body(rng)


def internal_date(seed: int, number: int) -> datetime:
    """When it arrived."""
    return FIRST_DAY + timedelta(minutes=random.Random(f"{seed} {number} arrival").randrange(80_000))
