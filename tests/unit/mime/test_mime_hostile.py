"""Messages made to hurt: each of these must be read in time linear in its size.

A quadratic reader would need minutes to hours for them: the suite's own patience is the check.
"""

import tracemalloc
from collections.abc import Callable

import pytest

from mailstore.mime import (
    MimeLimits,
    Part,
    addresses,
    base_subject,
    bodystructure,
    decode_words,
    dump,
    envelope,
    fields,
    header_fields,
    html_to_text,
    load,
    message_ids,
    scan,
    sent_date,
    sort_keys,
)

MEGABYTE = 1 << 20


def count(part: Part) -> int:
    """Parts in the tree."""
    below = [*part.children, *([part.message] if part.message else [])]
    return 1 + sum(count(child) for child in below)


def test_hundred_thousand_addresses() -> None:
    """The envelope of a very long To field; the limit also holds across repeated fields."""
    entries = [b'"N, N" <a%d@example.org>' % number for number in range(100_000)]
    assert len(addresses(b", ".join(entries))) == 100_000
    header = b"To: " + b",\r\n ".join(entries) + b"\r\n" * 2
    assert envelope(header, MimeLimits(max_header_bytes=len(header))).count(b"example.org") == 100_000
    assert envelope(header).count(b"example.org") < 50_000


SIGNS = [bytes([byte]) for byte in b'()<>@,:;"\\[]. \t\r\0\xff']
TANGLES = b'a |()|"a"|<a@|g:a,|a@b<|(\\|\\(|[a|=?|=?a?q?|=?a?q?b?= |\n |<@a,'.split(b"|")


@pytest.mark.parametrize("unit", [*SIGNS, *TANGLES])
def test_fields_of_one_thing(unit: bytes) -> None:
    """Every field reader takes very long runs of any small pattern."""
    value = unit * (MEGABYTE // 8 // len(unit))
    addresses(value)
    sent_date(value)
    decode_words(value)
    base_subject(value.decode("latin-1"))
    fold = value.replace(b"\n", b"\n ")
    header = b"".join(b"%b: %b\r\n" % (name, fold) for name in (b"From", b"Subject", b"References", b"Date"))
    sort_keys(header)
    message_ids(header)
    data = b"Content-Type: %b\r\nContent-Disposition: %b\nContent-Language: %b\n\n" % (fold, fold, fold)
    bodystructure(scan(data), data)


@pytest.mark.parametrize(
    "unit", ["<", ">", "<a", "<!--", "<script>", "</", "&", "&#", "&#1", "<p>", "\n ", "<head>", "< ", "&a;"]
)
def test_markup_of_one_thing(unit: str) -> None:
    """Markup repeated without end or closing."""
    html_to_text(unit * (MEGABYTE // 2 // len(unit)))


@pytest.mark.parametrize(
    "unit", ["[a]", "re:", "[fwd:", "(fwd)", "[", "re[", "re [a]", " ", "[a] ", "fwd:[x] re: "]
)
def test_subjects_of_one_thing(unit: str) -> None:
    """Nothing in the removal of reply marks starts over."""
    base_subject(unit * (MEGABYTE // 2 // len(unit)))
    base_subject(unit * 50_000 + "]" * 50_000)


def test_parameter_flood() -> None:
    """RFC 2231 pieces without end: the first max_parameters are kept."""
    flood = b"".join(b';\r\n a*%d="%d"' % (number, number) for number in range(50_000))
    data = b"Content-Type: text/plain" + flood + b"\r\n\r\n"
    root = scan(data)
    assert len(root.content.params) == MimeLimits().max_parameters
    for pattern in (b";", b"; ", b"a", b"a ", b"a=", b'a="', b"=;", b";a*0*=''"):
        scan(b"Content-Type: text/plain; " + pattern * (MEGABYTE // 2 // len(pattern)) + b"\n\n")


def test_ten_megabytes_of_header() -> None:
    """A header of 10 MB is skipped as a whole and parsed up to its limit."""
    data = b"X-A: " + b"a" * 60 + b"\r\n"
    header = data * (10 * MEGABYTE // len(data)) + b"\r\n"
    root = scan(header + b"body")
    assert root.body_start == len(header)
    assert len(fields(header)) == MimeLimits().max_header_fields
    assert header_fields(header, (b"X-B",)) == b"\r\n"
    envelope(header)
    folded = b"A:" + b"\r\n x" * (10 * MEGABYTE // 4)
    assert scan(folded).body_start == len(folded)
    assert header_fields(folded, (b"a",)) == folded + b"\r\n\r\n"


def test_fifty_thousand_parts() -> None:
    """The tree stops at max_parts, and is still described and stored."""
    data = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 50_000
    root = scan(data)
    assert count(root) == MimeLimits().max_parts
    assert bodystructure(root, data).count(b'"plain"') == MimeLimits().max_parts - 1
    assert load(dump(root)) == root


@pytest.mark.parametrize(
    "layer",
    [
        b"Content-Type: message/rfc822\n\n",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n",
        b"Content-Type: multipart/digest; boundary=b\n\n--b\n\n",
    ],
)
def test_five_thousand_levels(layer: bytes) -> None:
    """Nesting is followed to max_depth; what lies deeper is one leaf."""
    data = layer * 5_000
    root = scan(data)
    depth, node = 1, root
    while below := [*node.children, *([node.message] if node.message else [])]:
        depth, node = depth + 1, below[0]
    assert depth <= MimeLimits().max_depth
    bodystructure(root, data)
    assert load(dump(root)) == root


def test_unclosed_multiparts_beside_each_other() -> None:
    """Each inner boundary is looked for only as far as its multipart can reach."""
    one = b"--b\nContent-Type: multipart/mixed; boundary=x%d\n\n"
    data = b"Content-Type: multipart/mixed; boundary=b\n\n"
    data += b"".join(one % number + b"x" * 1_000 + b"\n" for number in range(9_000))
    assert count(scan(data)) == 9_001


@pytest.mark.parametrize("unit", [b"\n--", b"\n--b", b"\n--bb", b"\n--b--", b"\r\n--bbb\r\n", b"\n", b"--b"])
def test_bodies_full_of_almost_boundaries(unit: bytes) -> None:
    """Lines that begin like one or several of the open boundaries."""
    data = b""
    for level in range(1, 20):
        data += b"Content-Type: multipart/mixed; boundary=%b\n\n--%b\n" % (b"b" * level, b"b" * level)
    scan(data + unit * (MEGABYTE // len(unit)))
    data = b"Content-Type: multipart/mixed; boundary=%b\n\n" % (b"b" * 100_000)
    scan(data + unit * (MEGABYTE // len(unit)))


def test_large_attachment() -> None:
    """A large body is crossed at memory speed, with and without line ends."""
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n\r\n"
    for body in (b"A" * 76 + b"\r\n", b"A", b"\n-"):
        filled = body * (20 * MEGABYTE // len(body))
        root = scan(head + filled + b"\r\n--b--\r\n")
        assert root.children[0].body_size == len(filled)


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (b'From: "%b" <a@example.org>\r\n\r\n', envelope),
        (b'Content-Type: text/plain; name="%b"\r\n\r\n', scan),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\\"])
def test_quoted_pairs_take_memory_as_their_text_does(
    header: bytes, read: Callable[[bytes], object], end: bytes
) -> None:
    """A pattern that remembers at each pair how to go back takes a hundred times the text."""
    text = header % (b"\\x" * (MEGABYTE // 8) + end)
    tracemalloc.start()
    try:
        read(text)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 24 * len(text)


@pytest.mark.parametrize(
    ("written", "name", "mailbox"),
    [
        (b'"a \\"b\\" c" <x@y>', b'a "b" c', b"x"),
        (b'"" <x@y>', b"", b"x"),
        (b'"a\\\\" <x@y>', b"a\\", b"x"),
        (b'"\\a\\"\\\\"@y', None, b'a"\\'),
    ],
)
def test_quoted_pairs_in_addresses(written: bytes, name: bytes | None, mailbox: bytes) -> None:
    """A quoted string ends with the first quote that is not quoted itself."""
    (address,) = addresses(written)
    assert (address.name, address.mailbox, address.host) == (name, mailbox, b"y")
