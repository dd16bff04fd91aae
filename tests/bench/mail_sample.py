"""Generated mail for benchmarks: varied, the same every time, nothing in it belongs to anybody."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

FIRST_DAY = datetime(2021, 1, 4, 8, 0, tzinfo=UTC)
RARE_WORD = "quince"
"""Stands in about one subject of a hundred, for SEARCH SUBJECT."""

LARGE_EVERY = 25
"""Every so many messages one has an attachment and about 20 KB."""

_WORDS = (
    "garden", "ladder", "invoice", "harbour", "winter", "meeting", "copper", "lantern", "draft", "river",
    "station", "kettle", "bread", "summer", "ticket", "window", "carpet", "orchard", "letter", "signal",
    "forest", "bicycle", "ferry", "market", "council", "museum", "delivery", "question", "printer",
    "chapter", "holiday", "weather", "contract", "kitchen", "budget", "village", "plan", "note", "railway",
    "balance", "theatre", "saddle", "morning", "report", "mountain", "paper", "engine", "budget", "castle",
    "thread",
)  # fmt: skip
_NAMES = (
    "Ada", "Bruno", "Carla", "Dmitri", "Esther", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lars",
    "Maria", "Nils", "Olga",
)  # fmt: skip
_SURNAMES = (
    "Abel", "Brandt", "Castillo", "Dahl", "Eriksen", "Fontaine", "Grimm", "Horvat", "Ivanov", "Jansen",
    "Kovač", "Lindqvist",
)  # fmt: skip


def _text(rng: random.Random, size: int) -> str:
    lines: list[str] = []
    length = 0
    while length < size:
        line = " ".join(rng.choices(_WORDS, k=rng.randint(4, 11)))
        lines.append(line)
        length += len(line) + 2
    return "\r\n".join(lines) + "\r\n"


def _address(rng: random.Random) -> str:
    name, surname = rng.choice(_NAMES), rng.choice(_SURNAMES)
    where = f"{name}.{rng.randint(1, 999)}@{rng.choice(_WORDS)}.example"
    if not surname.isascii():
        encoded = base64.b64encode(f"{name} {surname}".encode()).decode()
        return f"=?utf-8?B?{encoded}?= <{where.lower()}>"
    return f"{name} {surname} <{where.lower()}>"


def _header(rng: random.Random, number: int, sent: datetime) -> list[str]:
    subject = rng.choices(_WORDS, k=rng.randint(2, 7))
    if rng.random() < 0.01:
        subject[rng.randrange(len(subject))] = RARE_WORD
    relay = f"from {rng.choice(_WORDS)}.example ([192.0.2.{rng.randint(1, 254)}]) by mx.example.org"
    stamp = sent.strftime("%a, %d %b %Y %H:%M:%S +0000")
    lines = [
        f"Return-Path: <bounce-{number}@{rng.choice(_WORDS)}.example>",
        f"Received: {relay} with ESMTPS\r\n id {rng.getrandbits(64):x} for <user@example.org>; {stamp}",
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=mail.example; s=s1;\r\n"
        f" h=from:to:subject:date; bh={rng.getrandbits(250):x};\r\n b={rng.getrandbits(500):x}",
        f"From: {_address(rng)}",
        f"To: {', '.join(_address(rng) for _ in range(rng.randint(1, 3)))}",
        f"Subject: {' '.join(subject).capitalize()}",
        f"Date: {stamp}",
        f"Message-ID: <{number}.{rng.getrandbits(40):x}@mail.example>",
        "MIME-Version: 1.0",
    ]
    if rng.random() < 0.3:
        lines.append(f"Cc: {_address(rng)}")
    if rng.random() < 0.2:
        lines.append(f"List-Id: <{rng.choice(_WORDS)}.lists.example>")
    return lines


def _alternative(rng: random.Random, size: int) -> tuple[str, str]:
    boundary = f"=_{rng.getrandbits(80):x}"
    plain = _text(rng, size // 2)
    html = "<html><body>" + "".join(f"<p>{line}</p>\r\n" for line in plain.splitlines()) + "</body></html>"
    body = (
        f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain}"
        f"\r\n--{boundary}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--{boundary}--\r\n"
    )
    return f'Content-Type: multipart/alternative; boundary="{boundary}"', body


def _with_attachment(rng: random.Random, size: int = 12_500) -> tuple[str, str]:
    boundary = f"=_{rng.getrandbits(80):x}"
    inner_type, inner = _alternative(rng, 2000)
    attached = base64.encodebytes(rng.randbytes(size)).decode().replace("\n", "\r\n")
    body = (
        f"--{boundary}\r\n{inner_type}\r\n\r\n{inner}\r\n--{boundary}\r\n"
        'Content-Type: application/pdf; name="paper.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="paper.pdf"\r\n\r\n{attached}\r\n--{boundary}--\r\n'
    )
    return f'Content-Type: multipart/mixed; boundary="{boundary}"', body


def message(number: int) -> tuple[bytes, int]:
    """Message ``number`` with CRLF lines, and its internal date in epoch seconds."""
    rng = random.Random(number)
    sent = FIRST_DAY + timedelta(minutes=25 * number)
    header = _header(rng, number, sent)
    if number % LARGE_EVERY == 0:
        kind, body = _with_attachment(rng)
    elif number % 3 == 0:
        kind, body = _alternative(rng, rng.randint(1100, 2600))
    else:
        kind, body = "Content-Type: text/plain; charset=utf-8", _text(rng, rng.randint(1300, 3100))
    text = "\r\n".join([*header, kind]) + "\r\n\r\n" + body
    return text.encode("utf-8"), int(sent.timestamp())


def messages(count: int) -> Iterator[tuple[bytes, int]]:
    """The first ``count`` messages."""
    return map(message, range(count))


def plain_10k(number: int) -> bytes:
    """A message of text alone, 10,000 bytes."""
    rng = random.Random(number)
    head = "\r\n".join(_header(rng, number, FIRST_DAY)).encode() + b"\r\n\r\n"
    return (head + _text(rng, 10_000).encode())[:9998] + b"\r\n"


def attachment_10k(number: int) -> bytes:
    """A message of about 10,000 bytes, half of it an attachment that hardly compresses."""
    rng = random.Random(number)
    kind, body = _with_attachment(rng, 3_700)
    return "\r\n".join([*_header(rng, number, FIRST_DAY), kind, "", body]).encode()


def large(number: int) -> bytes:
    """A message of 1 to 5 MB, nearly all of it an attachment; 1.1 is its text."""
    rng = random.Random(number)
    kind, body = _with_attachment(rng, rng.randint(740_000, 3_600_000))
    return "\r\n".join([*_header(rng, number, FIRST_DAY), kind, "", body]).encode()
