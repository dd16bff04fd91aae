"""Whatever reads text that a stranger chose costs time linear in it: four times as long, four times the time.

Runs of combining characters, which normalising sorts one by one, and of anything that a pattern or a
decoder might start over with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailstore import mime, modified_utf7, search
from mailstore.errors import MailboxNameInvalid
from mailstore.mime.charsets import codec_of, decode_pieces
from mailstore.mime.collation import unicode_casemap
from mailstore.model import Flags, ModSeq, NewMessage
from mailstore.names import for_creation
from mailstore.transfer import arrival, eml_format, imap_responses, maildir_format, mbox_format
from protocols.access_log import user_agent
from protocols.limits import AccessLogLimits
from tests.growth import LINEAR_AT_MOST, growth
from tests.unit.store.store_world import World, now

MARKS = "\u0301\u0327\u0316"
SIZE = 1 << 15

TEXT_READERS: dict[str, Callable[[str], object]] = {
    "collation": unicode_casemap,
    "base subject": mime.base_subject,
    "visible text": mime.html_to_text,
}
TEXTS = [MARKS, "a\u0301", "\ufdfa", "<p>", "<!-", "&", "&#", " \n", "[", "re:", "<title>", "<a", "fwd [x"]

BYTE_READERS: dict[str, Callable[[bytes], object]] = {
    "encoded words": mime.decode_words,
    "addresses": mime.addresses,
    "sort keys": lambda value: mime.sort_keys(b"Subject: %b\r\nFrom: %b\r\n\r\n" % (value, value)),
    "content fields": lambda value: mime.scan(b"Content-Type: %b\r\n\r\n" % value),
    "quoted-printable": lambda value: mime.decode_body(QUOTED, value),
    "base64": lambda value: mime.decode_body(BASE64, value),
    "modified UTF-7": lambda value: _refused(lambda: modified_utf7.decode(value)),
    "mbox message": mbox_format.parse,
    "mbox notes": lambda value: mbox_format.parse(b"Status:" + value + b"\rx\n\n" + value),
    "mbox written": lambda value: mbox_format.parse(mbox_format.render(value, Flags(), 0)),
    "line From": lambda value: mbox_format.from_line_date(b"From " + value + b"\r"),
    "IMAP response": lambda value: _malformed(lambda: imap_responses.fetched([b"1 (" + value + b"]", b""])),
    "IMAP name": lambda value: _malformed(lambda: imap_responses.listed([b"() NIL " + value], "")),
    "UIDs of a Maildir": lambda value: maildir_format.uids_by_base_name(b"3 V1\n1 " + value),
    "keywords of a Maildir": maildir_format.keywords_by_letter,
    "name in a Maildir": lambda value: maildir_format.flags_in(value.decode("latin-1"), {}),
    "line of a list": eml_format.parse_line,
    "arrival": lambda value: arrival.arrival_date(b"Received: " + value + b"\n\n"),
    "user agent": lambda value: user_agent(((b"name", value), (b"version", value)), AccessLogLimits()),
}
BYTES = [
    MARKS.encode(), b" ", b"\t\r\n", b"=", b"= \t", b"=?", b"=?utf-8?q?=CC=81?= ", b"(", b"\"", b"\\",
    b">", b">From ", b"From ", b"Mon Jan 1 ", b"Status:", b"[", b"(", b"{1", b":2,", b"1 :x\n",
    b"<a@b", b"a;a*0*=b", b"&AME-", b"&", b"+AGE", b"a/b;", b"*", b":",
]  # fmt: skip
QUOTED = mime.scan(b"Content-Transfer-Encoding: quoted-printable\n\n")
BASE64 = mime.scan(b"Content-Transfer-Encoding: base64\n\n")
CHARSETS = ["utf-8", "utf-7", "utf-16", "iso-2022-jp", "iso-2022-kr", "hz", "gb18030", "windows-1253", "big5"]


def _refused(work: Callable[[], object]) -> None:
    try:
        work()
    except (ValueError, MailboxNameInvalid):
        pass


def _malformed(work: Callable[[], object]) -> None:
    try:
        work()
    except imap_responses.Malformed:
        pass


@pytest.mark.parametrize("unit", TEXTS, ids=ascii)
@pytest.mark.parametrize("reader", TEXT_READERS)
def test_reading_text_is_linear(reader: str, unit: str) -> None:
    """Sort keys, subjects and markup."""
    read = TEXT_READERS[reader]

    def work(size: int) -> Callable[[], object]:
        text = unit * (size // len(unit))
        return lambda: read(text)

    assert growth(work, SIZE) < LINEAR_AT_MOST


MIXED: dict[str, tuple[Callable[[bytes], object], bytes, bytes, bytes]] = {
    "a route that may begin": (mime.addresses, b" ()", b"@", b","),
    "a route behind blanks": (mime.addresses, b" ", b"@", b",a"),
    "many angles": (mime.addresses, b"<a ", b">", b"<,"),
}


@pytest.mark.parametrize("case", MIXED)
def test_reading_a_mixture_is_linear(case: str) -> None:
    """What only several together make slow: much of one, something that counts, much of another."""
    read, first, middle, last = MIXED[case]

    def work(size: int) -> Callable[[], object]:
        value = b"<" + first * (size // len(first)) + middle + last * (size // len(last))
        return lambda: read(value)

    assert growth(work, SIZE) < LINEAR_AT_MOST


@pytest.mark.parametrize("names", [1, 2000])
def test_choosing_header_fields_is_linear(names: int) -> None:
    """However often one field is folded and however many others there are, for any number of names."""
    wanted = [b"x%d" % number for number in range(names)] + [b"subject"]

    def work(size: int) -> Callable[[], object]:
        header = b"Subject:" + b"\n " * (size // 2) + b"\n" + b"a:\n" * (size // 3) + b"\n"
        return lambda: mime.header_fields(header, wanted)

    assert growth(work, SIZE * 4) < LINEAR_AT_MOST


def test_many_names_cost_no_more_than_few() -> None:
    """A header is read once, not once for each name that a client asks for."""
    header = b"a:\n" * 200_000 + b"\n"
    wanted = [b"x%d" % number for number in range(4000)]

    def work(count: int) -> Callable[[], object]:
        return lambda: mime.header_fields(header, wanted[:count])

    assert growth(work, 1000) < 2


@pytest.mark.parametrize("unit", BYTES, ids=ascii)
@pytest.mark.parametrize("reader", BYTE_READERS)
def test_reading_bytes_is_linear(reader: str, unit: bytes) -> None:
    """Header values, bodies, and what clients send."""
    read = BYTE_READERS[reader]

    def work(size: int) -> Callable[[], object]:
        value = unit * (size // len(unit))
        return lambda: read(value)

    assert growth(work, SIZE) < LINEAR_AT_MOST


@pytest.mark.parametrize("unit", [b"\xff", b"\x1b$B", b"+AGE", b"+", b"\x80A", b"~{"], ids=ascii)
@pytest.mark.parametrize("charset", CHARSETS)
def test_decoding_is_linear(charset: str, unit: bytes) -> None:
    """Every charset, of bytes that are none of its characters or never leave its special states."""
    assert codec_of(charset)

    def work(size: int) -> Callable[[], object]:
        value = unit * (size // len(unit))
        return lambda: list(decode_pieces(value, charset))

    assert growth(work, 4 * SIZE) < LINEAR_AT_MOST


def test_a_mailbox_name_is_bounded_before_it_is_normalised() -> None:
    """Names that are too long are not put in order first, however they are written."""

    def work(size: int) -> Callable[[], object]:
        name = MARKS * (size // len(MARKS))
        return lambda: _refused(lambda: for_creation(name))

    assert growth(work, SIZE) < LINEAR_AT_MOST


@pytest.fixture
def messages(tmp_path: Path) -> Callable[[bytes], Callable[[search.Key], object]]:
    """Makes a mailbox of one message, and tells how it is searched."""

    def make(message: bytes) -> Callable[[search.Key], object]:
        world = World(tmp_path / str(len(list(tmp_path.iterdir()))))
        account = world.login()
        now(account.append("Drafts", [NewMessage(message)]))
        mailbox = now(account.select("Drafts", True))
        return lambda key: now(mailbox.search(key, ModSeq(0)))

    return make


@pytest.mark.parametrize(
    "header", [b"Subject: ", b"Content-Type: text/plain; charset=utf-8\r\n\r\n"], ids=["header", "body"]
)
def test_a_message_of_marks_is_searched_in_linear_time(
    messages: Callable[[bytes], Callable[[search.Key], object]], header: bytes
) -> None:
    """A message from a stranger that is nothing but combining characters, and a search of its owner's."""
    keys = (search.HeaderText("SUBJECT", "hello"), search.BodyText("hello"), search.AnyText("hello"))

    def work(size: int) -> Callable[[], object]:
        find = messages(header + (MARKS * (size // len(MARKS))).encode())
        return lambda: [find(key) for key in keys]

    assert growth(work, SIZE) < LINEAR_AT_MOST


def test_a_search_for_marks_takes_linear_time(
    messages: Callable[[bytes], Callable[[search.Key], object]],
) -> None:
    """What a client searches for can be such a text as well."""
    find = messages(b"Subject: x\r\n\r\nx\r\n")

    def work(size: int) -> Callable[[], object]:
        key = search.BodyText(MARKS * (size // len(MARKS)) + "x")
        return lambda: find(key)

    assert growth(work, SIZE) < LINEAR_AT_MOST
