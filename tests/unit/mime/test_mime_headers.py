"""Header blocks, Content fields and their parameters."""

import pytest

from mailstore.mime import Disposition, MimeLimits, fields, filename, header_fields, scan, unfold
from mailstore.mime.content import parameter, without_comments

HEADER = b"From: a\r\nTO : b\r\n c\r\nX-From: d\r\nfrom: e\r\nbroken line\r\n\r\n"


def test_fields_have_offsets() -> None:
    """Names, raw values with their folding, white space before the colon; other lines are no fields."""
    found = [(one.name, HEADER[one.value_start : one.value_end]) for one in fields(HEADER)]
    assert found == [(b"From", b" a"), (b"TO", b" b\r\n c"), (b"X-From", b" d"), (b"from", b" e")]
    assert len(fields(HEADER, MimeLimits(max_header_fields=2))) == 2


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b" a\r\n\tb ", b"a\tb"), (b" a\n b", b"a b"), (b"", b""), (b" \r\n ", b""), (b" a\rb\r", b"a b")],
)
def test_unfold(raw: bytes, value: bytes) -> None:
    """Line ends go, the white space after them stays; a lone CR becomes a space."""
    assert unfold(raw) == value


@pytest.mark.parametrize(
    ("names", "invert", "expected"),
    [
        ((b"FROM",), False, b"From: a\r\nfrom: e\r\n\r\n"),
        ((b"to", b"x-from"), False, b"TO : b\r\n c\r\nX-From: d\r\n\r\n"),
        ((b"absent",), False, b"\r\n"),
        ((), False, b"\r\n"),
        ((b"from", b"to"), True, b"X-From: d\r\nbroken line\r\n\r\n"),
        ((), True, HEADER),
    ],
)
def test_header_fields(names: tuple[bytes, ...], invert: bool, expected: bytes) -> None:
    """Fields as stored and in their order, then the blank line (RFC 3501 section 6.4.5)."""
    assert header_fields(HEADER, names, invert=invert) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"A: b", b"A: b\r\n\r\n"),
        (b"A: b\n\n", b"A: b\n\r\n"),
        (b"", b"\r\n"),
        (b"\nA: b", b"\r\n"),
        (b"A: b\nlike A: b", b"A: b\n\r\n"),
    ],
)
def test_header_fields_of_odd_headers(header: bytes, expected: bytes) -> None:
    """Bare line feeds stay, a missing line end is added, nothing behind the blank line counts."""
    assert header_fields(header, (b"a",)) == expected


@pytest.mark.parametrize(
    ("value", "params"),
    [
        (b"text/x; a=b; C=\"d e\" ;f='g'", ((b"a", b"b"), (b"C", b"d e"), (b"f", b"'g'"))),
        (b'text/x;a="\\"\\\\;b=c"', ((b"a", b'"\\;b=c'),)),
        (b'text/x; a="open', ((b"a", b"open"),)),
        (b"text/x; a = b (c; d=e)", ((b"a", b"b"),)),
        (b'text/x; a="(b)"', ((b"a", b"(b)"),)),
        (b"text/x; name=a b.txt; c=d e", ((b"name", b"a b.txt"), (b"c", b"d"))),
        (b"text/x; ; nonsense; a=; =b; c=d", ((b"a", b""), (b"c", b"d"))),
        (b"text/x\r\n ;\r\n\ta=b", ((b"a", b"b"),)),
        (b"text/x; a*0*=utf-8''%41; a*1=b", ((b"a*0*", b"utf-8''%41"), (b"a*1", b"b"))),
    ],
)
def test_parameters_stay_as_sent(value: bytes, params: tuple[tuple[bytes, bytes], ...]) -> None:
    """Quoting and comments are resolved, RFC 2231 pieces are not put together."""
    assert scan(b"Content-Type: " + value + b"\n\n").content.params == params


def test_content_fields() -> None:
    """Every Content field of a part, in the form in which BODYSTRUCTURE wants it."""
    content = scan(
        b"content-type: IMAGE/Png (c)\nContent-Transfer-Encoding: BASE64 (x)\nContent-Id: <a@b>\n"
        b"Content-Description: d\n e\nContent-MD5: Q\nContent-Language: en, (x) de ,\n"
        b"Content-Location: http://x/\n y\nContent-Disposition: ATTACHMENT; Filename=z\n"
        b"Content-ID: <second>\n\n"
    ).content
    assert (content.type, content.subtype, content.params) == (b"image", b"png", ())
    assert (content.encoding, content.content_id, content.description) == (b"base64", b"<a@b>", b"d e")
    assert (content.md5, content.language, content.location) == (b"Q", (b"en", b"de"), b"http://x/y")
    assert content.disposition == Disposition(b"attachment", ((b"Filename", b"z"),))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (((b"N", b"a"),), (b"a", None)),
        (((b"n*", b"iso-8859-1'en'%E4"),), (b"\xe4", "iso-8859-1")),
        (((b"n*0*", b"utf-8''%41"), (b"n*1", b"%42"), (b"n*2*", b"%43")), (b"A%42C", "utf-8")),
        (((b"n*1", b"b"), (b"n*0", b"a"), (b"n*3", b"d")), (b"ab", None)),
        (((b"n", b"plain"), (b"n*", b"''ext")), (b"ext", "")),
        (((b"n*1", b"b"),), None),
        (((b"n*0*", b"no quotes %41"),), (b"no quotes A", None)),
        (((b"n*x", b"b"), (b"nn", b"c")), None),
    ],
)
def test_parameter_pieces(params: tuple[tuple[bytes, bytes], ...], expected: object) -> None:
    """Continuations in numerical order up to a gap; charset and percent signs (RFC 2231)."""
    assert parameter(params, b"n") == expected


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"Content-Disposition: attachment; filename*=utf-8''%C3%A4.txt", "ä.txt"),
        (b'Content-Disposition: attachment; filename="=?utf-8?q?=C3=A4?=.txt"', "ä.txt"),
        (b"Content-Disposition: attachment; filename=\xe4.txt", "ä.txt"),
        (b"Content-Type: image/png; name=x.png\nContent-Disposition: inline", "x.png"),
        (b"Content-Disposition: attachment", None),
        (b"Content-Disposition: ; filename=x", None),
    ],
)
def test_filename(header: bytes, name: str | None) -> None:
    """Extended parameters, encoded words, raw 8-bit bytes, and the name parameter as fallback."""
    assert filename(scan(header + b"\n\n")) == name


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"a(b(c)d)e", b"a e"),
        (b'"(a)"(b)', b'"(a)" '),
        (b"a(\\)b)c", b"a c"),
        (b"a(b", b"a"),
        (b"a)b(c)", b"a)b "),
    ],
)
def test_without_comments(value: bytes, left: bytes) -> None:
    """Comments nest and escape; quoted strings are left alone (RFC 5322 section 3.2.2)."""
    assert without_comments(value) == left
