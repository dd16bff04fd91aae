"""What other programs and servers may have written: every octet string is mail, a response, or refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mailstore.model import Flags
from mailstore.transfer.arrival import arrival_date
from mailstore.transfer.eml_format import facts_in, parse_line
from mailstore.transfer.imap_responses import Malformed, facts_of, fetched, listed, responses
from mailstore.transfer.line_ends import to_crlf, to_lf
from mailstore.transfer.maildir_format import (
    flags_in,
    keywords_by_letter,
    more_keywords,
    order_of,
    subscriptions_in,
    uids_by_base_name,
)
from mailstore.transfer.mbox_format import from_line_date, parse, render
from mailstore.transfer.mbox_source import MboxSource
from mailstore.transfer.source import SourceMailbox
from tests.fuzz.target import Target

_LARGEST = 10_000
_MBOX_WORDS = (
    b"From ", b"\nFrom a Mon Jan  2 03:04:05 2023\n", b"\n\n", b"\r\n", b">From ", b"Status: RO\n",
    b"X-Sealbox: 12 lf\n", b"X-Status: \nX-Keywords:\n", b"X-Mozilla-Status: 0009\n", b"Content-Length: 5\n",
)  # fmt: skip
_IMAP_WORDS = (b"(", b")", b"{3}", b'"', b"NIL", b"UID 1", b"BODY[]", b"FLAGS (", b"\\Seen", b"INTERNALDATE ")


class _Nothing:
    """A destination that has nothing."""

    def expect(self, size_bytes: int) -> None:
        """As :meth:`Destination.expect`."""

    def wants(self, internal_date: int) -> bool:
        """As :meth:`Destination.wants`."""
        return True

    def may_have(self, size_bytes: int, internal_date: int) -> bool:
        """As :meth:`Destination.may_have`."""
        return False

    def take_by_header(self, size_bytes: int, internal_date: int, header: bytes) -> bool:
        """As :meth:`Destination.take_by_header`."""
        return False


def mbox(data: bytes) -> None:
    """Any file is read to its end, all of it counted; any message comes back as it was written."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        source = MboxSource(Path(file.name), _LARGEST)
        found = list(source.messages(SourceMailbox(file.name, ("x",)), _Nothing()))
    assert sum(one.source_bytes for one in found) == len(data)
    flags = Flags(keywords=("k",))
    line, _, raw = render(data, flags, 86_399).partition(b"\n")
    assert from_line_date(line) == 86_399
    assert parse(raw) == (data, flags, False)
    shorter = to_lf(data)
    assert shorter is None or to_crlf(shorter) == data
    assert arrival_date(data) is not None


def imap_answers(data: bytes) -> None:
    """What a server says is read, or malformed; pieces come as ``imaplib`` cuts them."""
    pieces = data.split(b"\0")
    for one in responses([tuple(pieces[:2]), *pieces[2:]]):
        for read in (lambda said: facts_of(fetched(said)), lambda said: listed(said, "INBOX.")):
            try:
                read(one)
            except Malformed:
                pass


def maildir_names(data: bytes) -> None:
    """Names of files, and Dovecot's lists of them, may be anything."""
    name = data.decode("utf-8", "surrogateescape")
    uids = uids_by_base_name(data)
    flags_in(name, keywords_by_letter(data))
    order_of(name, uids)
    more_keywords(data)
    subscriptions_in(data)
    for line in data.splitlines():
        facts_in(parse_line(line))


TRANSFER_TARGETS = (
    Target("mbox", mbox, lambda: [b"From a Mon Jan  2 03:04:05 2023\nSubject: x\n\nx\n\n", b""], _MBOX_WORDS),
    Target(
        "imap_answers",
        imap_answers,
        lambda: [b"1 (UID 2 FLAGS () BODY[] {3}\0abc\0)", b'(\\Sent) "/" {1}\0a\0', b"1 (RFC822.SIZE 3)"],
        _IMAP_WORDS,
    ),
    Target(
        "maildir_names",
        maildir_names,
        lambda: [
            b"3 V1 N2\n1 :1.x:2,S\n",
            b"V\t2\n\na\tb\n",
            b"0 work\n",
            b'{"file": "x", "internal_date": 1}',
        ],
        (b":2,", b"\n", b" :", b"\t", b"&AOQ-"),
    ),
)
