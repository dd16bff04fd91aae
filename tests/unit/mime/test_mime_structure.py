"""BODYSTRUCTURE and BODY, sections, the stored tree."""

import pytest

from mailstore.mime import (
    HeaderFilter,
    MimeLimits,
    PartTreeDamaged,
    SectionKind,
    SectionSpec,
    Span,
    body,
    bodystructure,
    dump,
    find_part,
    load,
    resolve,
    scan,
)

MESSAGE = (
    b'Subject: outer\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\r\ntwo\r\n\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
    b'Subject: inner\r\nFrom: a@b\r\nContent-Type: multipart/alternative; boundary="i"\r\n\r\n'
    b"--i\r\n\r\nplain\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>\r\n--i--\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: simple\r\n\r\ntext\r\n"
    b"--b\r\nContent-Type: image/png; name=\xe4\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <c@d>\r\n"
    b"Content-MD5: Q\r\nContent-Language: en\r\nContent-Location: l\r\n\r\nAAAA\r\n--b--\r\n"
)
TREE = scan(MESSAGE)


def test_bodystructure_example() -> None:
    """Every kind of part with and without extension data (RFC 3501 section 7.4.2)."""
    sender = b'((NIL NIL "a" "b"))'
    inner = b'(NIL "inner" ' + b" ".join([sender] * 3) + b" NIL NIL NIL NIL NIL)"
    simple = b'(NIL "simple" NIL NIL NIL NIL NIL NIL NIL NIL)'
    us_ascii = b'("charset" "us-ascii")'
    assert body(TREE, MESSAGE) == (
        b'(("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 10 2)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 136 ' + inner + b" "
        b'(("text" "plain" '
        + us_ascii
        + b' NIL NIL "7bit" 5 0)("text" "html" NIL NIL NIL "7bit" 3 0) "alternative") 11)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 23 '
        + simple
        + b' ("text" "plain" '
        + us_ascii
        + b' NIL NIL "7bit" 4 0) 2)'
        b'("image" "png" ("name" {1}\r\n\xe4) "<c@d>" NIL "base64" 4) "mixed")'
    )
    extended = bodystructure(TREE, MESSAGE)
    assert extended.endswith(
        b'("image" "png" ("name" {1}\r\n\xe4) "<c@d>" NIL "base64" 4 "Q" NIL "en" "l")'
        b' "mixed" ("boundary" "b") NIL NIL NIL)'
    )
    assert b'"alternative" ("boundary" "i") NIL NIL NIL) 11 NIL ("attachment" NIL) NIL NIL)' in extended


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'),
        (
            b"Content-Type: multipart/mixed; boundary=b\n\n",
            b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
            b' "mixed" ("boundary" "b") NIL NIL NIL)',
        ),
        (
            b"Content-Type: message/rfc822\n\n",
            b'("message" "rfc822" NIL NIL NIL "7bit" 0 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)'
            b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) 0 NIL NIL NIL NIL)',
        ),
        (
            b'Content-Type: a/b; x="q\\"q"\nContent-Disposition: inline; filename=y\n'
            b"Content-Language: en,de\n\n",
            b'("a" "b" ("x" "q\\"q") NIL NIL "7bit" 0 NIL ("inline" ("filename" "y")) ("en" "de") NIL)',
        ),
    ],
)
def test_small_structures(data: bytes, expected: bytes) -> None:
    """Nothing at all, a multipart and a message without content, quoting, disposition, languages."""
    assert bodystructure(scan(data), data) == expected


ROOT_HEADER = MESSAGE[: TREE.body_start]
IMAGE_MIME = MESSAGE[TREE.children[3].header_start : TREE.children[3].body_start]


@pytest.mark.parametrize(
    ("numbers", "kind", "expected"),
    [
        ((), SectionKind.WHOLE, MESSAGE),
        ((), SectionKind.HEADER, ROOT_HEADER),
        ((), SectionKind.TEXT, MESSAGE[len(ROOT_HEADER) :]),
        ((), SectionKind.MIME, None),
        ((1,), SectionKind.WHOLE, b"one\r\ntwo\r\n"),
        ((1,), SectionKind.MIME, b"Content-Type: text/plain; charset=utf-8\r\n\r\n"),
        ((1,), SectionKind.HEADER, None),
        ((1,), SectionKind.TEXT, None),
        ((1, 1), SectionKind.WHOLE, None),
        ((2,), SectionKind.MIME, b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"),
        (
            (2,),
            SectionKind.HEADER,
            b'Subject: inner\r\nFrom: a@b\r\nContent-Type: multipart/alternative; boundary="i"\r\n\r\n',
        ),
        ((2,), SectionKind.TEXT, b"--i\r\n\r\nplain\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>\r\n--i--"),
        ((2, 1), SectionKind.WHOLE, b"plain"),
        ((2, 1), SectionKind.MIME, b"\r\n"),
        ((2, 2), SectionKind.WHOLE, b"<p>"),
        ((2, 3), SectionKind.WHOLE, None),
        ((2, 2), SectionKind.HEADER, None),
        ((3, 1), SectionKind.WHOLE, b"text"),
        ((3, 1), SectionKind.MIME, b"Subject: simple\r\n\r\n"),
        ((3, 2), SectionKind.WHOLE, None),
        ((3, 1, 1), SectionKind.WHOLE, None),
        ((3,), SectionKind.TEXT, b"text"),
        ((4,), SectionKind.WHOLE, b"AAAA"),
        ((4,), SectionKind.MIME, IMAGE_MIME),
        ((5,), SectionKind.WHOLE, None),
        ((0,), SectionKind.WHOLE, None),
    ],
)
def test_sections(numbers: tuple[int, ...], kind: SectionKind, expected: bytes | None) -> None:
    """Part numbers and section texts of RFC 3501 section 6.4.5, also from the stored tree."""
    for tree in (TREE, load(dump(TREE))):
        found = resolve(tree, SectionSpec(numbers, kind))
        assert found is None or isinstance(found, Span)
        assert (None if found is None else MESSAGE[found.start : found.end]) == expected


def test_sections_of_a_simple_message() -> None:
    """Part 1 of a message that is no multipart is its body."""
    data = b"A: b\r\n\r\nbody"
    root = scan(data)
    assert resolve(root, SectionSpec((1,))) == Span(8, 12)
    assert resolve(root, SectionSpec((1,), SectionKind.MIME)) == Span(0, 8)
    assert resolve(root, SectionSpec((1,), SectionKind.HEADER)) is None
    assert resolve(root, SectionSpec((2,))) is None
    assert resolve(root, SectionSpec((1, 1))) is None


def test_sections_of_a_message_that_is_a_message() -> None:
    """With message/rfc822 at the top, part 1 is the held message and 1.1 its body."""
    data = b"Content-Type: message/rfc822\n\nA: b\n\nbody"
    root = scan(data)
    assert resolve(root, SectionSpec((1,))) == Span(30, 40)
    assert resolve(root, SectionSpec((1,), SectionKind.HEADER)) == Span(30, 36)
    assert resolve(root, SectionSpec((1, 1))) == Span(36, 40)
    assert resolve(root, SectionSpec((1, 1, 1))) is None


def test_part_of_an_empty_multipart() -> None:
    """The empty text part that BODYSTRUCTURE shows can be fetched and has no parts."""
    root = scan(b"Content-Type: multipart/mixed; boundary=b\n\npreamble")
    assert resolve(root, SectionSpec((1,))) == Span(root.body_end, root.body_end)
    assert resolve(root, SectionSpec((1, 1))) is None
    assert find_part(root, (2,)) is None


def test_header_filters() -> None:
    """HEADER.FIELDS names the header to filter, of the message or of the message in a part."""
    fields = (b"SUBJECT",)
    found = resolve(TREE, SectionSpec((), SectionKind.HEADER_FIELDS, fields))
    assert found == HeaderFilter(Span(0, TREE.body_start), fields, invert=False)
    inner = TREE.children[1].message
    assert inner is not None
    found = resolve(TREE, SectionSpec((2,), SectionKind.HEADER_FIELDS_NOT, fields))
    assert found == HeaderFilter(Span(inner.header_start, inner.body_start), fields, invert=True)
    assert resolve(TREE, SectionSpec((1,), SectionKind.HEADER_FIELDS, fields)) is None


def test_stored_form_is_small_and_stable() -> None:
    """The stored form of a plain mail; changing it needs a new version byte."""
    assert dump(scan(b"A: b\r\n\r\nbody\r\n")) == b'1[0,8,14,1,"text","plain",[["charset","us-ascii"]]]'


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"1",
        b"2[0,0,0]",
        b"1[0,0]",
        b"1[0,0,0",
        b"1{}",
        b"1[]",
        b"1[0,5,4]",
        b"1[-1,0,0]",
        b"1[0,0,0.5]",
        b"1[0,0,true]",
        b"1[0,0,0,-1]",
        b"1[0,0,0,0,5]",
        b'1[0,0,0,0,"\xc4\x80"]',
        b"1[0,0,0,0,null]",
        b'1[0,0,0,0,"a","b",[["x"]]]',
        b'1[0,0,0,0,"a","b",{}]',
        b'1[0,0,0,0,"a","b",[],"7bit",null,null,null,"x"]',
        b'1[0,0,5,0,"a","b",[],"7bit",null,null,null,null,[],null,[[0,0,6]]]',
        b'1[0,0,5,0,"a","b",[],"7bit",null,null,null,null,[],null,[[0,0,3],[2,2,3]]]',
        b'1[0,0,5,0,"a","b",[],"7bit",null,null,null,null,[],null,[5]]',
        b'1[0,0,5,0,"a","b",[],"7bit",null,null,null,null,[],null,[],[0,0,9]]',
        b'1[0,0,5,0,"a","b",[],"7bit",null,null,null,null,[],null,[],null,0]',
        b"1" + b"[" * 100_000,
        b"1\xff",
    ],
)
def test_damaged_trees_are_refused(stored: bytes) -> None:
    """Whatever dump has not written raises PartTreeDamaged and nothing else."""
    with pytest.raises(PartTreeDamaged):
        load(stored)


def test_too_deep_trees_are_refused() -> None:
    """load has the depth limit of scan."""
    data = b"Content-Type: message/rfc822\n\n" * 5
    stored = dump(scan(data))
    assert load(stored) == scan(data)
    with pytest.raises(PartTreeDamaged):
        load(stored, MimeLimits(max_depth=3))


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'a*0="x"; a*1=y', b'("a" "xy")'),
        (b'b=1; A*1="y"; c=2; a*0=x', b'("b" "1" "a" "xy" "c" "2")'),
        (b"a*0*=utf-8''%C3; a*1*=%B6; a*2=\"s %.\"", b'("a*" "utf-8\'\'%C3%B6s%20%25.")'),
        (b"a*0=x; a*2=z", b'("a*0" "x" "a*2" "z")'),
        (b"a*1=x", b'("a*1" "x")'),
        (b"a*00=x; a*01=y", b'("a*00" "x" "a*01" "y")'),
        (b"a*0=x; a*1*=%41", b'("a*0" "x" "a*1*" "%41")'),
        (b"a=w; a*0=x; a*1=y", b'("a" "w" "a*0" "x" "a*1" "y")'),
        (b"a=w; a*0*=''x; a*1=y", b'("a" "w" "a*" "\'\'xy")'),
        (b"a*0=x; a*0=y", b'("a*0" "x" "a*0" "y")'),
        (b"a*=''x", b'("a*" "\'\'x")'),
    ],
)
def test_continued_parameters(sent: bytes, told: bytes) -> None:
    """A value in pieces is told as one, if the pieces are whole (RFC 2231 section 3, 4.1, 6)."""
    message = b"Content-Type: x/y; " + sent + b"\r\nContent-Disposition: z; " + sent + b"\r\n\r\n"
    structure = bodystructure(scan(message), message)
    assert structure == b'("x" "y" %b NIL NIL "7bit" 0 NIL ("z" %b) NIL NIL)' % (told, told)
