"""From bytes to a request: any way of cutting the stream gives the same, and everything has its bound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.https.connection import Connection, Refused, Request, Response
from protocols.limits import HttpsLimits

POST = (
    b"POST /invite/abc?a=b HTTP/1.1\r\nHost: Mail.Example.org:8443\r\nUser-Agent: Browser/1\r\n"
    b"X-Forwarded-For: 198.51.100.1, 192.0.2.9\r\nContent-Length: 8\r\n\r\nas=apple"
)


def events(pieces: list[bytes], limits: HttpsLimits | None = None) -> Request | Refused | bytes | None:
    """The first event that is more than a wish for more."""
    connection = Connection(limits or HttpsLimits())
    for piece in pieces:
        connection.feed(piece)
        event = connection.next_event()
        if event is not None:
            return event
    return None


def test_a_request() -> None:
    """What the door wants to know of it."""
    assert events([POST]) == Request(
        "POST", "/invite/abc", "a=b", "mail.example.org", b"Browser/1", b"192.0.2.9", b"as=apple"
    )


@pytest.mark.parametrize("at", range(1, len(POST)))
def test_a_request_in_two_pieces(at: int) -> None:
    """Wherever it is cut."""
    assert events([POST[:at], POST[at:]]) == events([POST])


def test_a_request_octet_by_octet() -> None:
    """The slowest way."""
    assert events([bytes([one]) for one in POST]) == events([POST])


def test_a_body_in_chunks() -> None:
    """RFC 9112, section 7.1."""
    head = POST.replace(b"Content-Length: 8", b"Transfer-Encoding: chunked").removesuffix(b"as=apple")
    assert events([head + b"3\r\nas=\r\n5\r\napple\r\n0\r\n\r\n"]) == events([POST])


def test_a_client_that_waits_is_told_to_continue() -> None:
    """RFC 9110, section 10.1.1; .NET does so before every POST."""
    connection = Connection(HttpsLimits())
    head, _, body = POST.replace(b"Content", b"Expect: 100-continue\r\nContent").partition(b"\r\n\r\n")
    connection.feed(head + b"\r\n\r\n")
    said = connection.next_event()
    assert isinstance(said, bytes)
    assert said.startswith(b"HTTP/1.1 100 ")
    assert connection.next_event() is None
    connection.feed(body)
    assert connection.next_event() == events([POST])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host (RFC 9112, section 3.2)
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\nbad header\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"a CAPABILITY\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_what_is_no_request(data: bytes, status: int) -> None:
    """The status that its client gets."""
    assert events([data]) == Refused(status)


def test_head_max_bytes() -> None:
    """A longer head is refused, in one line or in many, and never kept."""
    limits = HttpsLimits(head_max_bytes=1024)
    most = b"GET / HTTP/1.1\r\nHost: a\r\nA: "
    fits = most + b"x" * (1024 - len(most) - 4) + b"\r\n\r\n"
    assert isinstance(events([fits], limits), Request)
    assert events([b"GET /" + b"x" * 1100], limits) == Refused(431)
    assert events([most + b"\r\n" + b"B: c\r\n" * 200], limits) == Refused(431)


@pytest.mark.parametrize("chunked", [False, True])
def test_body_max_bytes(chunked: bool) -> None:
    """A longer body is refused by what is said of it, or once it has come."""
    limits = HttpsLimits(body_max_bytes=10)

    def sent(size: int) -> bytes:
        if not chunked:
            return b"Content-Length: %d\r\n\r\n%b" % (size, b"x" * size)
        return b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * size + b"0\r\n\r\n"

    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    assert isinstance(events([head + sent(10)], limits), Request)
    assert events([head + sent(11)], limits) == Refused(413)
    if not chunked:
        assert events([head + b"Content-Length: 11\r\n\r\n"], limits) == Refused(413)


def test_what_follows_the_request_is_never_read() -> None:
    """So nobody smuggles a second one in behind it."""
    connection = Connection(HttpsLimits())
    connection.feed(POST + POST)
    assert isinstance(connection.next_event(), Request)
    assert b"connection: close" in connection.answer(Response(200, "text/plain", b"x"))


def test_head_has_no_body() -> None:
    """RFC 9110, section 9.3.2; its length is told all the same."""
    connection = Connection(HttpsLimits())
    connection.feed(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(connection.next_event(), Request)
    said = connection.answer(Response(200, "text/plain", b"body"))
    assert b"content-length: 4" in said
    assert said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.org:443", "example.org"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_the_host_without_its_port(host: str, name: str) -> None:
    """It tells which domain is asked about."""
    asked = events([b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"])
    assert isinstance(asked, Request)
    assert asked.host == name


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"as=apple", {"as": "apple"}),
        (b"password=p%C3%A4ss+word&again=", {"password": "päss word", "again": ""}),
        (b"a=%FF", {}),  # not UTF-8
        (b"&".join(b"a%d=b" % number for number in range(21)), {}),
        (b"\xff\xfe=\x00", {"ÿþ": "\x00"}),
        (b"", {}),
    ],
)
def test_a_form(body: bytes, fields: dict[str, str]) -> None:
    """What cannot be read is empty, and then lacks what is needed."""
    asked = events([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body])
    assert isinstance(asked, Request)
    assert asked.form() == fields


def test_a_request_shows_no_secret() -> None:
    """Whatever prints it."""
    shown = repr(events([POST]))
    assert "invite" not in shown
    assert "apple" not in shown


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_give_an_event_or_wait_for_more(pieces: list[bytes]) -> None:
    """And an answer can be given to whatever was refused."""
    connection = Connection(HttpsLimits(head_max_bytes=1024))
    for piece in pieces:
        connection.feed(piece)
        event = connection.next_event()
        if isinstance(event, Request | Refused):
            status = event.status if isinstance(event, Refused) else 200
            said = connection.answer(Response(status, "text/plain", b"x"))
            assert said == b"" or said.startswith(b"HTTP/1.1 %d " % status)
            return


@given(st.data())
def test_any_cut_gives_the_same(data: st.DataObject) -> None:
    """A stream knows no packets."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(POST)), max_size=5)))
    places = [0, *cuts, len(POST)]
    pieces = [POST[low:high] for low, high in itertools.pairwise(places)]
    assert events(pieces) == events([POST])
