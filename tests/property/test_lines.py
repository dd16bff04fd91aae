"""Lines, dot-stuffing and the end of mail data: properties under any chunking and any octets."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from protocols.lines import DotStuffer, Line, LineBuffer, LongLine, MailData

WIRE_ALPHABET = st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\0", b".."]), max_size=40).map(
    b"".join
)
OCTETS = st.one_of(WIRE_ALPHABET, st.binary(max_size=200))
CUTS = st.lists(st.integers(min_value=1, max_value=9), max_size=60)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut into pieces of the given sizes, the rest in one."""
    found = []
    for size in cuts:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


def received(parts: list[bytes]) -> tuple[bytes, bytes, MailData]:
    """The message, what came behind its end, and the reader."""
    reader = MailData()
    message, behind = [], []
    for part in parts:
        body, rest = reader.feed(part)
        message.append(body)
        behind.append(rest)
    return b"".join(message), b"".join(behind), reader


def naive_end(data: bytes) -> int:
    """Where the first CRLF ``.`` CRLF ends, the beginning counting as a line end; -1 if nowhere."""
    if data.startswith(b".\r\n"):
        return 3
    found = data.find(b"\r\n.\r\n")
    return found + 5 if found >= 0 else -1


def stuffed(message: bytes) -> bytes:
    """Dot-stuffing as RFC 5321 section 4.5.2 describes it, at CRLF only."""
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", message)


@given(OCTETS, OCTETS, CUTS)
def test_data_survives_stuffing_under_any_chunking(message: bytes, behind: bytes, cuts: list[int]) -> None:
    """unstuff(stuff(message)) == message, and what follows the end is handed back untouched."""
    message += b"" if message.endswith(b"\r\n") or not message else b"\r\n"
    wire = stuffed(message) + b".\r\n" + behind
    got, rest, reader = received(pieces(wire, cuts))
    assert (got, rest, reader.ended) == (message, behind, True)


@given(OCTETS, CUTS)
@example(b"\n.\r\n.\r\n", [1, 1, 1, 1, 1, 1])
@example(b"\r\n.\r\r\n.\r\n", [])
def test_only_the_strict_end_ends(wire: bytes, cuts: list[int]) -> None:
    """The data ends at the first CRLF dot CRLF and nowhere else, however it is cut."""
    whole = received([wire])
    cut = received(pieces(wire, cuts))
    end = naive_end(wire)
    for message, behind, reader in (whole, cut):
        assert reader.ended == (end >= 0)
        if end >= 0:
            assert behind == wire[end:]
            assert message == re.sub(rb"(\A|\r\n)\.", rb"\1", wire[: end - 3])
    assert cut[2].ambiguous == whole[2].ambiguous


@given(OCTETS, CUTS)
def test_ambiguity_is_a_lone_dot_between_sloppy_line_ends(wire: bytes, cuts: list[int]) -> None:
    """Exactly a dot alone between line ends of any kind, not both CRLF, makes a message ambiguous."""
    reader = received(pieces(wire + b"x", cuts))[2]
    end = naive_end(wire)
    data = b"\r\n" + (wire if end < 0 else wire[: end - 3])
    dots = [found.start() for found in re.finditer(rb"(?<=[\r\n])\.(?=[\r\n])", data + b"x")]
    lone = [dot for dot in dots if data[dot - 2 : dot] != b"\r\n" or data[dot + 1 : dot + 3] != b"\r\n"]
    assert reader.ambiguous == bool(lone)


@given(st.binary(max_size=300), CUTS)
def test_mail_data_holds_back_two_octets_at_most(wire: bytes, cuts: list[int]) -> None:
    """Memory of the reader does not grow with the input."""
    reader = MailData()
    fed = given_out = removed = 0
    for part in pieces(wire, cuts):
        body, rest = reader.feed(part)
        fed += len(part)
        given_out += len(body) + len(rest)
        removed = fed - given_out
        assert len(reader._undecided) <= 2
    assert removed >= 0


def canonical(message: bytes) -> bytes:
    """The message as POP3 sends it: bare LF as CRLF, the last line ended."""
    lines = re.sub(rb"(?<!\r)\n", b"\r\n", message)
    return lines if not lines or lines.endswith(b"\r\n") else lines + b"\r\n"


@given(OCTETS, CUTS)
@example(b"a\r", [])
@example(b"a\r\n.b\n.", [2, 1, 1, 1])
def test_stuffer_and_reader_are_inverse(message: bytes, cuts: list[int]) -> None:
    """What the stuffer sends is read back as the message with canonical line ends."""
    stuffer = DotStuffer()
    wire = b"".join(stuffer.feed(part) for part in pieces(message, cuts)) + stuffer.finish()
    got, rest, reader = received([wire])
    assert (got, rest, reader.ended) == (canonical(message), b"", True)


@given(st.binary(max_size=400), CUTS, st.integers(min_value=1, max_value=30))
def test_line_buffer_is_the_same_under_any_chunking(data: bytes, cuts: list[int], limit: int) -> None:
    """The same lines come out however the stream is cut; nothing above the limit is kept."""

    def events(parts: list[bytes]) -> list[Line | LongLine]:
        lines = LineBuffer()
        found: list[Line | LongLine] = []
        for part in parts:
            lines.feed(part)
            while (event := lines.next_line(limit)) is not None:
                found.append(event)
            assert len(lines) <= limit
        return found

    whole, cut = events([data]), events(pieces(data, cuts))
    assert [one if isinstance(one, Line) else LongLine for one in whole] == [
        one if isinstance(one, Line) else LongLine for one in cut
    ]
    assert all(len(one.text) < limit for one in whole if isinstance(one, Line))


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\r" not in line)))
def test_lines_come_out_as_they_went_in(lines: list[bytes]) -> None:
    """Lines with CRLF are strict; with LF alone they are not."""
    buffer = LineBuffer()
    buffer.feed(b"".join(line + b"\r\n" for line in lines) + b"bare\n")
    for line in lines:
        assert buffer.next_line(1000) == Line(line, strict=True)
    assert buffer.next_line(1000) == Line(b"bare", strict=False)
    assert buffer.next_line(1000) is None
