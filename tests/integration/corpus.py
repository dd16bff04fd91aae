"""Varied mail, made from a fixed seed: plain, MIME, 8-bit, broken, long lines, large, empty."""

from __future__ import annotations

import random
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP

_WORDS = [
    "sealed",
    "mail",
    "arrives",
    "while",
    "nobody",
    "is",
    "in",
    "Größe",
    "naïve",
    "日本語",
    "Ελληνικά",
    "✉",
    "1234",
    "lorem",
    "ipsum",
]


def _mime(number: int, rng: random.Random) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = f"Sender {number} <sender{number}@example.org>"
    message["To"] = "Zoë <demo@localhost>, list: a@b, c@d;" if number % 7 == 0 else "demo@localhost"
    message["Subject"] = " ".join(rng.choices(_WORDS, k=6))
    message["Date"] = f"{number % 28 + 1:d} Nov 2026 10:{number % 60:02d}:00 +0100"
    message["Message-ID"] = f"<{number}.{rng.random()}@example.org>"
    message.set_content("\r\n".join(" ".join(rng.choices(_WORDS, k=9)) for _ in range(rng.randrange(1, 60))))
    if number % 3 == 0:
        message.add_alternative("<p>" + "<b>x</b>" * rng.randrange(50) + "</p>", subtype="html")
    if number % 5 == 0:
        message.add_attachment(
            rng.randbytes(rng.randrange(20_000)), "application", "octet-stream", filename="ä b.bin"
        )
    return message.as_bytes()


def _odd(number: int, rng: random.Random) -> bytes:
    shapes = (
        b"Subject: no body\r\n\r\n",
        b"Subject: 8 bit \xe4\xf6\xfc\r\nFrom: \xc3\xa4 <x@y>\r\n\r\n\xff\xfe raw bytes \x80\r\n",
        b"Subject: long line\r\n\r\n" + b"x" * 5000 + b"\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nnever closed\r\n",
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner body\r\n",
        b"Subject: dots\r\n\r\n.\r\n..\r\n.dot\r\n",
        b"From: broken <<<@@>>\r\nTo: (((\r\nSubject: =?utf-8?b?broken?=\r\n\r\ntext\r\n",
        b"X-Many: 1\r\n" * 300 + b"\r\nmany headers\r\n",
    )
    return b"X-Number: %d\r\n" % number + shapes[number % len(shapes)] + rng.randbytes(0)


def messages(count: int, seed: int = 1) -> Iterator[bytes]:
    """``count`` messages with CRLF line ends; the same ones for the same seed."""
    rng = random.Random(seed)
    for number in range(count):
        yield _odd(number, rng) if number % 4 == 3 else _mime(number, rng)
