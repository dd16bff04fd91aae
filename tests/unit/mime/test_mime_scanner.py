"""Where parts begin and end: boundaries, line ends, missing pieces, limits."""

import pytest

from mailstore.mime import MimeLimits, Part, bodystructure, dump, load, scan


def bodies(data: bytes) -> list[bytes]:
    """The bodies of the children of the message's root, as they lie in it."""
    return [data[child.body_start : child.body_end] for child in scan(data).children]


def kinds(part: Part) -> object:
    """The tree as nested lists of subtypes."""
    below = [kinds(child) for child in part.children] or ([kinds(part.message)] if part.message else [])
    name = part.content.subtype.decode()
    return [name, *below] if below else name


MIXED = b'Content-Type: multipart/mixed; boundary="b"\n\n'


@pytest.mark.parametrize(
    ("data", "header_end"),
    [
        (b"", 0),
        (b"A: b\r\n\r\nbody", 8),
        (b"A: b\n\nbody", 6),
        (b"A: b\r\n\nbody", 7),
        (b"A: b\n\r\nbody", 7),
        (b"\r\nbody", 2),
        (b"\nbody", 1),
        (b"A: b\r\n", 6),
        (b"no field at all", 15),
        (b"A: b\n \n\nbody", 8),
    ],
)
def test_header_ends_after_its_first_empty_line(data: bytes, header_end: int) -> None:
    """LF and CRLF alike; without an empty line everything is header."""
    root = scan(data)
    assert (root.header_start, root.header_end, root.body_end) == (0, header_end, len(data))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--b\n\none\n--b\n\ntwo\n--b--\n", [b"one", b"two"]),
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (b"--b\r\n\none\n--b\n\r\ntwo\r\n--b--", [b"one", b"two"]),
        (b"preamble\n--b\n\none\n--b--\nepilogue\n--b\n\nnot a part\n", [b"one"]),
        (b"--b \t\n\none\n--b-- \n", [b"one"]),
        (b"--b\n\none\n\n--b--\n", [b"one\n"]),
        (b"--b\n\none\n--b\n\ntwo", [b"one", b"two"]),
        (b"--b\n\none\n--b", [b"one"]),
        (b"--b\n--b\n\n--b--", [b"", b""]),
        (b"--b\nA: b\n--b\n\n\n--b--", [b"", b""]),
        (b"--b\n\none --b\n --b\n- --b\n--b--", [b"one --b\n --b\n- --b"]),
        (b"--bc\n\none\n--b--", [b"one"]),
        (b"nothing here", []),
        (b"--b--\n\none", []),
        (b"", []),
    ],
)
def test_boundaries(body: bytes, expected: list[bytes]) -> None:
    """The line end before a delimiter is its own; padding, preamble, epilogue, missing ends."""
    assert bodies(MIXED + body) == expected


def test_outer_delimiter_ends_the_inner_multipart() -> None:
    """A missing inner closing delimiter does not swallow what follows (RFC 2046 section 5.1.2)."""
    inner = (
        b"--b\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\none\n--i\n\ntwo\n--b\n\nthree\n--b--"
    )
    data = MIXED + inner
    root = scan(data)
    assert kinds(root) == ["mixed", ["alternative", "plain", "plain"], "plain"]
    assert bodies(data)[1] == b"three"


@pytest.mark.parametrize(("outer", "inner"), [(b"x", b"xy"), (b"xy", b"x"), (b"x", b"x")])
def test_boundary_that_begins_like_another(outer: bytes, inner: bytes) -> None:
    """The longer boundary is meant; of two equal ones the inner (RFC 2046 section 5.1.2)."""
    data = b"Content-Type: multipart/mixed; boundary=%b\n\n--%b\n" % (outer, outer)
    data += b"Content-Type: multipart/related; boundary=%b\n\n--%b\n\none\n--%b\n\ntwo\n--%b--\n" % (
        (inner,) * 4
    )
    data += b"\n--%b\n\nthree\n--%b--\n" % (outer, outer)
    assert kinds(scan(data)) == ["mixed", ["related", "plain", "plain"], "plain"]


def test_delimiter_matching_only_a_middle_level() -> None:
    """An outer prefix that matches every inner delimiter hides no delimiter of the level between."""
    data = b"Content-Type: multipart/mixed; boundary=f\n\n--f\nContent-Type: multipart/related; boundary=z\n"
    data += b"\n--z\n"
    data += b"Content-Type: multipart/alternative; boundary=ff\n\n--ff\n\n1\n--ff\n\n2\n--ff--\n"
    data += b"--z\n\n3\n--z--\n--f--\n"
    assert kinds(scan(data)) == ["mixed", ["related", ["alternative", "plain", "plain"], "plain"]]


def test_digest_children_are_messages() -> None:
    """In multipart/digest a part without Content-Type is a message (RFC 2046 section 5.1.5)."""
    data = b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: s\n\nhi\n--b\n"
    data += b"Content-Type: text/html\n\nx\n--b--"
    assert kinds(scan(data)) == ["digest", ["rfc822", "plain"], "html"]


def test_message_part() -> None:
    """A message/rfc822 part holds a message with a header and a body of its own."""
    data = b"Content-Type: message/rfc822\n\nSubject: s\n\none\ntwo"
    root = scan(data)
    assert root.message is not None and root.lines == 3
    assert data[root.message.header_start : root.message.body_start] == b"Subject: s\n\n"
    assert data[root.message.body_start : root.message.body_end] == b"one\ntwo"


@pytest.mark.parametrize(
    ("body", "lines"), [(b"", 0), (b"a", 0), (b"a\n", 1), (b"a\r\nb", 1), (b"\n\n", 2), (b"\r", 0)]
)
def test_lines_are_line_feeds(body: bytes, lines: int) -> None:
    """A last line without a line end is not counted."""
    assert scan(b"\n" + body).lines == lines


@pytest.mark.parametrize(
    "value",
    [
        b"multipart/mixed",
        b"multipart/mixed; boundary=",
        b'multipart/mixed; boundary=""',
        b"text",
        b"/",
        b"",
        b"a b/c",
    ],
)
def test_unusable_type_is_plain_text(value: bytes) -> None:
    """RFC 2045 section 5.2: a Content-Type that makes no sense counts as text/plain."""
    root = scan(b"Content-Type: " + value + b"\n\n--b\n\none\n")
    assert (root.content.type, root.content.subtype, root.children) == (b"text", b"plain", ())


def test_boundary_in_pieces() -> None:
    """A boundary continued as in RFC 2231 is put together; the tree keeps the pieces."""
    data = b'Content-Type: multipart/mixed; boundary*0="a b"; boundary*1="c "\n\n--a bc\n\none\n--a bc--\n'
    assert bodies(data) == [b"one"]
    assert scan(data).content.params == ((b"boundary*0", b"a b"), (b"boundary*1", b"c "))


def test_depth_limit_leaves_an_opaque_leaf() -> None:
    """The multipart beyond max_depth is one octet stream of its full length."""
    data = MIXED + b"--b\nContent-Type: multipart/related; boundary=i\n\n--i\n\none\n--i--\n--b\n\ntwo\n--b--"
    root = scan(data, MimeLimits(max_depth=2))
    assert kinds(root) == ["mixed", "octet-stream", "plain"]
    opaque = root.children[0]
    assert data[opaque.body_start : opaque.body_end] == b"--i\n\none\n--i--"


def test_part_limit_gives_the_rest_to_the_last_part() -> None:
    """Nothing of the message is lost when max_parts is reached."""
    data = MIXED + b"--b\n\n1\n--b\n\n2\n--b\n\n3\n--b--"
    root = scan(data, MimeLimits(max_parts=3))
    assert len(root.children) == 2
    assert data[root.children[1].body_start : root.children[1].body_end] == b"2\n--b\n\n3\n--b--"
    assert scan(data, MimeLimits(max_parts=1)).content.subtype == b"octet-stream"


def test_header_limit_bounds_what_is_parsed() -> None:
    """A Content field beyond max_header_bytes is not seen; the header still ends where it ends."""
    data = b"X: " + b"y" * 100 + b"\nContent-Type: text/html\n\nbody"
    root = scan(data, MimeLimits(max_header_bytes=50))
    assert root.content.subtype == b"plain" and data[root.body_start :] == b"body"


def test_every_beginning_of_a_message_is_a_message() -> None:
    """Cut after any byte, the offsets stay inside what is there and the first part stays itself."""
    data = (
        MIXED + b"--b\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"
    )
    for size in range(len(data) + 1):
        root = scan(data[:size])
        assert root.body_end == size
        assert all(child.body_end <= size for child in root.children)
    assert kinds(scan(data)) == ["mixed", ["rfc822", "plain"], "plain"]


def test_nothing_of_the_message_is_in_a_repr() -> None:
    """Objects of this package may end up in logs; their content must not."""
    root = scan(
        b"Content-Type: text/plain; name=secret\nContent-Disposition: inline; filename=secret\n\nsecret"
    )
    assert "secret" not in repr(root) + repr(root.content) + repr(root.content.disposition)


@pytest.mark.parametrize(("depth", "parts"), [(0, 1), (101, 1), (1, 0)])
def test_impossible_limits_are_refused(depth: int, parts: int) -> None:
    """Limits that the program cannot keep are an error when they are set, not when mail arrives."""
    with pytest.raises(ValueError, match="max_depth"):
        MimeLimits(max_depth=depth, max_parts=parts)


def test_greatest_depth_can_be_described() -> None:
    """At the greatest depth that can be set, scanning, comparing and rendering still work."""
    data = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * 200
    bounds = MimeLimits(max_depth=100)
    root = scan(data, bounds)
    assert load(dump(root), bounds) == root
    assert bodystructure(root, data, bounds).startswith(b"(" * 99)
