"""Sample mail for the quick start: a handful of messages that show what mail can be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc0500f000381018034a8ddf50000000049454e44ae426082"
)


def _message(sender: str, to: str, subject: str, text: str, date: datetime) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = format_datetime(date)
    message["Message-ID"] = make_msgid(domain="samples.example")
    message.set_content(text)
    return message


def _with_html(to: str, date: datetime) -> EmailMessage:
    message = _message(
        "Zoë Brücke <zoe@samples.example>",
        to,
        "Größe: ein Gruß mit Umlauten ✉",
        "Plain text, for those who like it.\n",
        date,
    )
    page = "<p>And the <b>same</b> in HTML, with an image.</p><img src='cid:dot'>"
    message.add_alternative(page, subtype="html")
    message.get_payload()[1].add_related(_PIXEL, "image", "png", cid="<dot>")  # type: ignore[union-attr,index]  # just made
    return message


def _with_files(to: str, date: datetime) -> EmailMessage:
    message = _message(
        "accounts@samples.example", to, "Invoice 2026-11 with attachments", "Two files are attached.\n", date
    )
    message.add_attachment(
        b"date,amount\r\n2026-11-01,12.50\r\n", "text", "csv", filename="Rechnung größer.csv"
    )
    message.add_attachment(_PIXEL, maintype="image", subtype="png", filename="logo.png")
    return message


def sample_messages(to: str, now: datetime) -> Iterator[tuple[str, bytes]]:
    """Envelope sender and bytes of each sample, oldest first."""
    welcome = _message(
        "Sealbox <welcome@samples.example>",
        to,
        "Welcome to your sealed mailbox",
        "This message was sealed to your public key before it touched the disk.\n"
        "It was filed into your encrypted database when you logged in.\n",
        now - timedelta(minutes=9),
    )
    yield "welcome@samples.example", welcome.as_bytes()
    yield "zoe@samples.example", _with_html(to, now - timedelta(minutes=8)).as_bytes()
    yield "accounts@samples.example", _with_files(to, now - timedelta(minutes=7)).as_bytes()
    ada = "Ada <ada@samples.example>"
    quoted = "> It was filed into your encrypted database when you logged in.\n\nGood.\n"
    reply = _message(ada, to, "Re: Welcome to your sealed mailbox", quoted, now - timedelta(minutes=6))
    reply["In-Reply-To"] = reply["References"] = welcome["Message-ID"]
    yield "ada@samples.example", reply.as_bytes()
    forwarded = _message(ada, to, "Fwd: a message in a message", "See below.\n", now - timedelta(minutes=5))
    forwarded.add_attachment(welcome)
    yield "ada@samples.example", forwarded.as_bytes()
    yield (
        "",
        b"From: cron@samples.example\r\nSubject: raw 8-bit \xe4\xf6\xfc and no Date\r\n\r\n"
        b"A message as old programs write it: no MIME, no Date, Latin-1 bytes \xe4\xf6\xfc.\r\n"
        b".\r\n..a line that begins with dots\r\n",
    )
