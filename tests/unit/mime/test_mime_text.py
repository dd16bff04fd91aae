"""Decoding of words, bodies, charsets and markup; sort keys and dates."""

import base64

import pytest

from mailstore.mime import (
    MimeLimits,
    base_subject,
    decode_body,
    decode_words,
    html_to_text,
    part_text,
    scan,
    sent_date,
    sort_keys,
    text_pieces,
)
from mailstore.mime.charsets import decode
from mailstore.mime.collation import unicode_casemap


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?a=C3=A4_b?=", "aä b"),
        (b"=?UTF-8?B?w6Q=?=", "ä"),
        (b"=?iso-8859-1*de?q?=E4?= x", "ä x"),
        (b"x =?utf-8?q?a?= \r\n =?utf-8?q?b?= y", "x ab y"),
        (b"=?utf-8?q?a?= =?iso-8859-1?q?=E4?=", "aä"),
        (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        (b"=?utf-8?b?w6?= =?utf-8?b?Q=?=", "\ufffd"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        (b"=?utf-8?q?a b?=", "a b"),
        (b"=?x-nobody-knows?q?=E4?=", "ä"),
        (b"=?rot13?q?abc?= =?hex?q?6162?= =?zlib?b?eJw=?=", "abc6162x\x9c"),
        (b"=?gb2312?b?xOO6ww==?=", "你好"),
        (b"=?utf-7?q?+2AA-?=", "\ufffd"),
        (b"=?utf-8?q?broken", "=?utf-8?q?broken"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"\xc3\xa4", "ä"),
        (b"\xe4", "ä"),
        (b"", ""),
    ],
)
def test_decode_words(value: bytes, text: str) -> None:
    """RFC 2047, joined words, split characters, unknown and dangerous charsets, raw 8-bit bytes."""
    assert decode_words(value) == text
    decode_words(value).encode("utf-8")


@pytest.mark.parametrize(
    ("encoding", "raw", "decoded"),
    [
        (b"base64", b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"base64", b"aGV*sbG8", b"hello"),
        (b"base64", b"aGVsbG8=junk", b"hello"),
        (b"base64", b"aGVsb", b"hel"),
        (b"base64", b"", b""),
        (b"BASE64", b"====", b""),
        (b"quoted-printable", b"a=3D=\r\nb=20 \r\nc=zz=", b"a=b \r\nc=zz"),
        (b"7bit", b"=3D", b"=3D"),
        (b"x-unknown", b"=3D", b"=3D"),
    ],
)
def test_decode_body(encoding: bytes, raw: bytes, decoded: bytes) -> None:
    """Transfer encodings, also broken or cut off, in any case."""
    part = scan(b"Content-Transfer-Encoding: " + encoding + b"\n\n")
    assert decode_body(part, raw) == decoded


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"foo \r\nbar\t \r\n", b"foo\r\nbar\r\n"),
        (b"foo \nbar\t\n", b"foo\nbar\n"),
        (b"foo = \t\r\nbar", b"foo bar"),
        (b"foo=   \nbar", b"foobar"),
        (b"foo=20\t\r\n", b"foo \r\n"),
        (b"last \t", b"last"),
        (b"last=20 ", b"last "),
        (b"   \r\n \t\r\n", b"\r\n\r\n"),
        (b"in the mid dle\tof a line\r\n", b"in the mid dle\tof a line\r\n"),
    ],
)
def test_transport_padding_is_no_content(raw: bytes, decoded: bytes) -> None:
    """RFC 2045 section 6.7, rule 3: white space at the end of an encoded line was added on the way."""
    assert decode_body(scan(b"Content-Transfer-Encoding: quoted-printable\n\n"), raw) == decoded


def test_long_bodies_decode_as_short_ones() -> None:
    """Bodies are decoded in pieces; where one ends is not to be seen."""
    quoted = scan(b"Content-Transfer-Encoding: quoted-printable\n\n")
    line = b"=C3=A4 soft line break = \t\r\nand a hard one=20 \t\r\n"
    assert decode_body(quoted, line * 5_000) == decode_body(quoted, line) * 5_000
    for odd in range(1, 6):
        assert decode_body(quoted, b"x" * odd + b"=3D" * 60_000) == b"x" * odd + b"=" * 60_000
    data = bytes(range(256)) * 1_001
    for shift in range(4):
        raw = b"*" * shift + base64.encodebytes(data)
        assert decode_body(scan(b"Content-Transfer-Encoding: base64\n\n"), raw) == data


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-16", "utf-7", "iso-2022-jp", "gb18030", "euc-kr", "windows-1251", "x-none"]
)
def test_long_text_is_decoded_as_short_text(charset: str) -> None:
    """Text is decoded in pieces; where one ends is not to be seen, whatever state the charset has there."""
    known = charset != "x-none"
    unit = "мир and peace\r\n" if charset not in ("euc-kr",) else "평화 and peace\r\n"
    raw = (unit * 20_000).encode(charset if known else "utf-8")
    part = scan(f"Content-Type: text/plain; charset={charset}\n\n".encode())
    assert "".join(text_pieces(part, raw)) == unit * 20_000


def test_text_pieces_of_html_and_reports() -> None:
    """Markup is not text wherever a piece ends; the body of a report is, that of an attached image is not."""
    part = scan(b"Content-Type: text/html; charset=utf-8\n\n")
    raw = b"<p>a&amp;b &#228; &notanentity;" * 20_000
    assert "".join(text_pieces(part, raw)) == "\na&b ä ¬anentity;" * 20_000
    assert "".join(text_pieces(part, b"x" * 16_380 + b"&eacute;tude")) == "x" * 16_380 + "étude"
    report = scan(b"Content-Type: message/delivery-status\n\n")
    assert "".join(text_pieces(report, b"Status: 5.1.1")) == "Status: 5.1.1"
    assert "".join(text_pieces(scan(b"Content-Type: image/png\n\n"), b"x")) == ""


@pytest.mark.parametrize(
    ("charset", "value", "text"),
    [
        ("us-ascii", b"\xc3\xa4", "ä"),
        ("windows-1252", b"\x80", "€"),
        ("ISO_8859-15", b"\xa4", "€"),
        ("koi8-r", b"\xc1", "а"),
        ("utf-16", b"\xff\xfea\0", "a"),
        ("utf-8", b"a\xc3", "a\ufffd"),
        ("x-mac-roman", b"\x8a", "ä"),
        ("idna", b"xn--a", "xn--a"),
        ("unicode_escape", b"\\x41", "\\x41"),
        ("../../etc", b"\xe4", "ä"),
        ("a" * 1000, b"a", "a"),
        ("\0", b"a", "a"),
        (None, b"\xff", "ÿ"),
        (None, b"\xc3\xa4\xc3", "ä\ufffd"),
        ("us-ascii", b"\xe4", "ä"),
    ],
)
def test_charsets(charset: str | None, value: bytes, text: str) -> None:
    """Charsets by any of their names; what is no charset counts as unknown."""
    assert decode(value, charset) == text


def test_part_text() -> None:
    """Body to text through transfer encoding, charset and markup; other types have none."""
    part = scan(
        b"Content-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
    )
    assert part_text(part, b"<p>a=E4</p>b") == "aä\nb"
    assert part_text(scan(b"\n"), b"a\xc3\xa4bc", MimeLimits(max_text_bytes=2)) == "aÃ"
    assert part_text(scan(b"Content-Type: image/png\n\n"), b"x") == ""


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a<br>b<p>c</p> d", "a\nb\nc\nd"),
        ("<head><title>t</title></head><body>b", "b"),
        ("a<style>x{}</style>b<SCRIPT >x</script >c", "abc"),
        ("a<script>never closed", "a"),
        ("a<!-- x > y -->b<!-- open", "ab"),
        ("&lt;b&gt; &amp;&nbsp;&auml;&#228;&#xe4;", "<b> & äää"),
        ("&#" + "1" * 5000 + ";", "\ufffd"),
        ("&#xD800;&#0;", "\ufffd\ufffd"),
        ("1 < 2 <3 <", "1 < 2 <3 <"),
        ("a<b", "a"),
        ("<!DOCTYPE html><?xml?>a", "a"),
        ("<td>a<td>b", "a b"),
        ("a\r\n\r\n  b \t c", "a\nb c"),
        ("<head>no end <body>b", "b"),
        ("<header>h</header>b", "h\nb"),
        ("", ""),
    ],
)
def test_html_to_text(source: str, text: str) -> None:
    """Blocks, invisible elements, comments, references, and markup that is none."""
    assert html_to_text(source) == text


@pytest.mark.parametrize(
    ("subject", "base", "is_reply"),
    [
        ("hello", "hello", False),
        ("Re: hello", "hello", True),
        ("RE : re:Fwd:  FW: hello", "hello", True),
        ("Re[2]: x", "x", True),
        ("Re [a] : x", "x", True),
        ("[list] Re: [list] x", "x", True),
        ("[list] x", "x", False),
        ("[a] [b] x", "x", False),
        ("[list]", "[list]", False),
        ("Re: [list]", "[list]", True),
        ("x (fwd) (FWD) ", "x", True),
        ("[fwd: Re: x]", "x", True),
        ("[Fwd: [fwd: x (fwd)] ]", "x", True),
        ("a  b\tc", "a b c", False),
        ("Re:", "", True),
        ("Rest: x", "Rest: x", False),
        ("re x", "re x", False),
        ("", "", False),
        ("İ Re: (fwd)", "İ Re:", True),
    ],
)
def test_base_subject(subject: str, base: str, is_reply: bool) -> None:
    """RFC 5256 section 2.1, each of its steps."""
    assert base_subject(subject) == (base, is_reply)


@pytest.mark.parametrize(
    ("value", "seconds", "day"),
    [
        (b"Mon, 16 Nov 2026 10:00:00 +0100", 1794819600, 20773),
        (b"16 Nov 2026 10:00 +0100 (CET)", 1794819600, 20773),
        (b" Mon , 16 Nov 2026 01:00:00 +0200", 1794783600, 20773),
        (b"Mon, 16-Nov-26 09:00:00 GMT", 1794819600, 20773),
        (b"Mon, 16 Nov 26 04:00:00 EST", 1794819600, 20773),
        (b"Mon Nov 16 09:00:00 2026", 1794819600, 20773),
        (b"Mon Nov 16 09:00:00 UTC 2026", 1794819600, 20773),
        (b"(c) Mon, (d) 16 Nov (e) 2026 09:00:00 -0000", 1794819600, 20773),
        (b"1 Jan 70 00:00:00 +0000", 0, 0),
        (b"31 Dec 1969 23:59:60 Z", 0, -1),
        (b"1 Jan 1970 25:00:00 +0000", 0, 0),
        (b"1 January 1970", 0, 0),
        (b"1 Jan 123 00:00 Z", 1672531200, 19358),
    ],
)
def test_sent_dates(value: bytes, seconds: int, day: int) -> None:
    """Usual, obsolete and foreign forms; the day disregards time and zone, a wrong time is midnight."""
    assert sent_date(value) == (seconds, day)


@pytest.mark.parametrize(
    "value", [b"", b"today", b"31 Feb 2026 00:00 Z", b"1 Xyz 2026", b"1 Jan 99999", b"Mon", b"\xff"]
)
def test_invalid_dates(value: bytes) -> None:
    """No date, no sort key: the caller falls back to the internal date (RFC 5256 section 2.2)."""
    assert sent_date(value) is None


def test_sort_keys() -> None:
    """All keys of a header, decoded, titlecased and decomposed; a group sorts by its name."""
    keys = sort_keys(
        b"Subject: Re: =?utf-8?q?STRASSE_=C3=84?=\r\nFrom: =?utf-8?q?J=C3=96?= <Jo@X>, b@y\r\nTo: g: A@B;\r\n"
        b"Cc: none\r\nDate: 1 Jan 1970 00:00:05 Z\r\n\r\n"
    )
    assert (keys.subject, keys.is_reply) == ("STRASSE A\u0308", True)
    assert (keys.sender, keys.to, keys.cc) == ("JO", "G", "NONE")
    assert (keys.display_from, keys.display_to) == ("JO\u0308", "G")
    assert (keys.date, keys.sent_day) == (5, 0)


def test_sort_keys_of_nothing() -> None:
    """Missing fields sort as empty text; the length of a key is bounded."""
    keys = sort_keys(b"")
    assert (keys.subject, keys.sender, keys.display_to, keys.date, keys.is_reply) == ("", "", "", None, False)
    long = sort_keys(b"Subject: " + b"x" * 50 + b"\nFrom: " + b"y" * 50, MimeLimits(max_sort_key_chars=10))
    assert (long.subject, long.sender) == ("X" * 10, "Y" * 10)


@pytest.mark.parametrize(
    ("field", "mailbox", "display"),
    [
        (b"Friends: b@x, a@x;", "FRIENDS", "FRIENDS"),
        (b"Undisclosed recipients:;", "UNDISCLOSED RECIPIENTS", "UNDISCLOSED RECIPIENTS"),
        (b'"Quoted, group": a@x;', "QUOTED, GROUP", "QUOTED, GROUP"),
        (b"b@x, Friends: a@x;", "B", "B@X"),
        (b"Name <b@x>", "B", "NAME"),
        (b"b@x (Name)", "B", "NAME"),
        (b"", "", ""),
    ],
)
def test_the_first_address_of_the_envelope_decides(field: bytes, mailbox: str, display: str) -> None:
    """RFC 5256 section 3, RFC 5957 section 3: where that is the beginning of a group, its name does."""
    header = b"From: %b\r\nTo: %b\r\nCc: %b\r\n\r\n" % (field, field, field)
    keys = sort_keys(header)
    assert (keys.sender, keys.to, keys.cc) == (mailbox, mailbox, mailbox)
    assert (keys.display_from, keys.display_to) == (display, display)


def test_repeated_fields_sort_as_the_envelope_tells_them() -> None:
    """They are one list."""
    assert sort_keys(b"To:\r\nTo: b@x\r\n\r\n").to == "B"


def test_the_collation_is_unicode_casemap() -> None:
    """RFC 5051: by titlecase, so what stands between the cases in ASCII is behind the letters."""
    subjects = ["a", "_", "B", "[", "É", "f", "ﬁ", "z", "ß"]
    assert sorted(subjects, key=unicode_casemap) == ["a", "B", "É", "f", "ﬁ", "z", "[", "_", "ß"]
    assert unicode_casemap("ı ǆ ῼ 가") == "I DZ\u030c ΩΙ 가"
