"""Any bytes are a message: scan, describe, store, address and decode never fail and never lie."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from imapclient.response_parser import parse_fetch_response
from mime_grammar import check_body, check_envelope

from mailstore.mime import (
    MimeLimits,
    Part,
    SectionKind,
    SectionSpec,
    Span,
    addresses,
    base_subject,
    body,
    bodystructure,
    decode_body,
    decode_words,
    dump,
    envelope,
    fields,
    filename,
    find_part,
    header_fields,
    html_to_text,
    load,
    message_ids,
    part_text,
    resolve,
    scan,
    sent_date,
    sort_keys,
)

FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"--a",
    b"--a--",
    b"--ab",
    b"--b\n",
    b"\n--a\n",
    b"\r\n--a\r\n",
    b"\r\n--ab\r\n",
    b"\n--a--\n",
    b"\n--ab--\n",
    b"\n\n",
    b"\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=a",
    b"Content-Type: multipart/digest; boundary=ab\n\n",
    b'Content-Type: multipart/alternative;\r\n boundary="b"\r\n\r\n',
    b"Content-Type: message/rfc822\n\n",
    b"Content-Type: message/global\r\n\r\n",
    b"Content-Type: text/html; charset*0*=utf-8''%41; charset*1=b (c)\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: quoted-printable\n",
    b'Content-Disposition: attachment; filename="\xff\\"x"\n',
    b"Content-Language: en, de\n",
    b"Content-Location: x y\n",
    b"Content-MD5: Q2hlY2s=\n",
    b"Content-ID: <a@b>\n",
    b"From: ",
    b"To: a@b, c <d@e>",
    b"Cc: g: x@y, z;",
    b"Subject: Re: [x] =?utf-8?q?=C3=A4?= (fwd)",
    b"Date: Mon, 16 Nov 2026 10:00:00 +0100",
    b"References: <a@b> <c@d>",
    b"=?utf-8?b?",
    b"?=",
    b'"',
    b"\\",
    b"<",
    b">",
    b"@",
    b"(",
    b")",
    b":",
    b";",
    b",",
    b"[",
    b"]",
    b"word",
    b"=41=\n=",
    b"\xe4\xf6",
]

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|\{([0-9]+)\}\r\n', re.S)

messages = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)), max_size=30).map(b"".join),
)
small = MimeLimits(max_depth=3, max_parts=4, max_parameters=2, max_addresses=3, max_references=2)
limits = st.sampled_from([MimeLimits(), small, MimeLimits(max_depth=1), MimeLimits(max_parts=1)])


def walk(part: Part) -> list[Part]:
    """The part and all below it."""
    below = [*part.children, *([part.message] if part.message else [])]
    return [part, *(one for child in below for one in walk(child))]


def as_imapclient(answer: bytes) -> list[bytes | tuple[bytes, bytes]]:
    """The answer as imaplib hands it on: each literal in a pair with the text before it."""
    pieces: list[bytes | tuple[bytes, bytes]] = []
    position = start = 0
    while token := TOKEN.search(answer, position):
        position = token.end()
        if token[1] is not None:
            end = position + int(token[1])
            pieces.append((answer[start : position - 2], answer[position:end]))
            start = position = end
    return [*pieces, answer[start:]]


@settings(max_examples=300, deadline=None)
@given(messages, limits)
def test_offsets_nest_and_are_in_order(data: bytes, bounds: MimeLimits) -> None:
    """Every part lies inside the body around it, siblings do not overlap, limits hold."""
    root = scan(data, bounds)
    assert (root.header_start, root.body_end) == (0, len(data))
    parts = walk(root)
    assert len(parts) <= bounds.max_parts
    for part in parts:
        assert part.header_start <= part.body_start <= part.body_end
        inner = [part.message] if part.message else list(part.children)
        low = part.body_start
        for child in inner:
            assert low <= child.header_start and child.body_end <= part.body_end
            low = child.body_end
        if part.content.is_message:
            assert part.message is not None
            assert (part.message.header_start, part.message.body_end) == (part.body_start, part.body_end)


@settings(max_examples=300, deadline=None)
@given(messages, limits)
def test_structure_obeys_the_grammar(data: bytes, bounds: MimeLimits) -> None:
    """BODYSTRUCTURE, BODY and ENVELOPE of any bytes pass the strict reader and IMAPClient."""
    root = scan(data, bounds)
    structure = bodystructure(root, data, bounds)
    check_body(structure, extended=True)
    check_body(body(root, data, bounds), extended=False)
    found = envelope(data[: root.body_start], bounds)
    check_envelope(found)
    for item, answer in ((b"BODYSTRUCTURE", structure), (b"X-ENVELOPE", found)):
        assert parse_fetch_response(as_imapclient(b"1 (UID 5 " + item + b" " + answer + b")"))[5]


@settings(max_examples=200, deadline=None)
@given(messages, limits)
def test_stored_tree_is_the_same_tree(data: bytes, bounds: MimeLimits) -> None:
    """load undoes dump, whatever the message."""
    root = scan(data, bounds)
    assert load(dump(root)) == root


@settings(max_examples=200, deadline=None)
@given(messages, st.lists(st.integers(0, 3), max_size=4), st.sampled_from(SectionKind))
def test_sections_lie_inside_the_message(data: bytes, numbers: list[int], kind: SectionKind) -> None:
    """A section is nothing or a span of the message, and the same from the stored tree."""
    root = scan(data)
    spec = SectionSpec(tuple(numbers), kind, (b"From",))
    found = resolve(root, spec)
    assert found == resolve(load(dump(root)), spec)
    span = found if isinstance(found, Span) or found is None else found.span
    if span is None:
        return
    assert 0 <= span.start <= span.end <= len(data)
    part = find_part(root, spec.part)
    assert part is not None
    assert part.header_start <= span.start and span.end <= part.body_end


@settings(max_examples=200, deadline=None)
@given(messages)
def test_text_of_any_part_is_text(data: bytes) -> None:
    """Decoding gives text that UTF-8 can express and file names likewise; nothing raises."""
    for part in walk(scan(data)):
        raw = data[part.body_start : part.body_end]
        decode_body(part, raw)
        part_text(part, raw).encode("utf-8")
        (filename(part) or "").encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(messages)
def test_header_readers_never_fail(data: bytes) -> None:
    """Sort keys, ids, addresses, subjects and dates come out of any bytes."""
    keys = sort_keys(data)
    for text in (keys.subject, keys.sender, keys.display_from, decode_words(data)):
        text.encode("utf-8")
    found = message_ids(data, small)
    assert len(found.references) <= 2 and b"" not in found.references
    assert len(addresses(data, small)) <= 3
    base_subject(data.decode("latin-1"))
    sent_date(data)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_header_filter_keeps_or_drops_each_field(data: bytes) -> None:
    """What HEADER.FIELDS sends and what HEADER.FIELDS.NOT sends make up the header together."""
    header = data[: scan(data).body_start]
    chosen = header_fields(header, (b"FROM", b"content-type"))
    others = header_fields(header, (b"FROM", b"content-type"), invert=True)
    assert chosen.endswith(b"\r\n") and others.endswith(b"\r\n")
    ours = [one.name.lower() in (b"from", b"content-type") for one in fields(header)]
    assert len(fields(chosen)) == sum(ours)
    assert len(fields(others)) == len(ours) - sum(ours)
    sent = len(chosen) + len(others) - 4
    blank = re.search(rb"(?:\A|\n)(\r?\n)\Z", header)
    kept = len(header) - (len(blank[1]) if blank else 0)
    assert kept <= sent <= kept + 2


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="<>!-/ab \n&#;x1scriptyle\"'=\ud7ff", max_size=80))
def test_html_to_text_is_bounded(source: str) -> None:
    """Text out of markup never fails and is at most as long as the markup and its line breaks."""
    assert len(html_to_text(source)) <= 2 * len(source)
    assert html_to_text(source, 3) == html_to_text(source[:3])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(alphabet="abcXYZ .,()<>@:;\\\"'é", min_size=1, max_size=12),
            st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?", fullmatch=True),
            st.from_regex(r"[a-z]{1,8}\.[a-z]{2,5}", fullmatch=True),
        ),
        max_size=6,
    )
)
def test_quoted_names_come_back(people: list[tuple[str, str, str]]) -> None:
    """A list written with quoted names is read back entry by entry."""
    written, expected = [], []
    for name, mailbox, host in people:
        raw = name.encode("utf-8")
        quoted = raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        written.append(b'"%b" <%b@%b>' % (quoted, mailbox.encode(), host.encode()))
        expected.append((raw.strip() or None, mailbox.encode(), host.encode()))
    found = addresses(b", ".join(written))
    assert [((one.name or b"").strip() or None, one.mailbox, one.host) for one in found] == expected


@given(
    st.lists(
        st.sampled_from(
            [
                b"A: 1\r\n",
                b"a : x\n",
                b"B:\r\n y\r\n",
                b"AB: 2\r\n",
                b"noise\r\n",
                b" fold\r\n",
                b"\tz\n",
                b":\n",
            ]
        ),
        max_size=8,
    ),
    st.sets(st.sampled_from([b"a", b"B", b"ab", b"(", b"c"]), max_size=3),
    st.sampled_from([b"", b"\r\n", b"\n", b"A: no end"]),
)
def test_chosen_and_other_fields_make_the_whole(lines: list[bytes], names: set[bytes], end: bytes) -> None:
    """Every field is in HEADER.FIELDS or in HEADER.FIELDS.NOT, never in both, and byte for byte."""
    block = b"".join(lines) + end
    chosen = header_fields(block, names)
    others = header_fields(block, names, invert=True)
    found = fields(block)
    wanted = [f for f in found if f.name.lower() in {name.lower() for name in names}]
    assert chosen.endswith(b"\r\n") and others.endswith(b"\r\n")
    assert len(fields(chosen)) == len(wanted)
    assert len(fields(others)) == len(found) - len(wanted)
    for one in wanted:
        assert block[one.start : one.value_end] in chosen
