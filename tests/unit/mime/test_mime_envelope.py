"""Address lists, envelopes, message ids."""

import pytest

from mailstore.mime import Address, MimeLimits, addresses, envelope, message_ids
from mailstore.mime.address import GROUP_END
from mailstore.mime.quoting import nstring, string, string_list


def person(name: bytes | None, mailbox: bytes, host: bytes, route: bytes | None = None) -> Address:
    """A mailbox."""
    return Address(name, route, mailbox, host)


def group(name: bytes) -> Address:
    """The start of a group."""
    return Address(None, None, name, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b", [person(None, b"a", b"b")]),
        (b"<a@b>", [person(None, b"a", b"b")]),
        (b" A B <a@b> , c@d", [person(b"A B", b"a", b"b"), person(None, b"c", b"d")]),
        (b'"B, A" <a@b>', [person(b"B, A", b"a", b"b")]),
        (b'"A \\"x\\" \\\\" <a@b>', [person(b'A "x" \\', b"a", b"b")]),
        (b'A "B. C" D\r\n <a@b>', [person(b"A B. C D", b"a", b"b")]),
        (b"J.R. X <a@b>", [person(b"J.R. X", b"a", b"b")]),
        (b"a@b (A (B) C)", [person(b"A (B) C", b"a", b"b")]),
        (b"A (c) <a@b>", [person(b"A", b"a", b"b")]),
        (b"<a (c)@ (d) b . e>", [person(None, b"a", b"b.e")]),
        (b"A <a (c)@b>", [person(b"A", b"a", b"b")]),
        (b"(c) <a@b>", [person(b"c", b"a", b"b")]),
        (b"a@b <a@b>", [person(b"a@b", b"a", b"b")]),
        (b'"a b"@c', [person(None, b"a b", b"c")]),
        (b"a . b @ c . d", [person(None, b"a.b", b"c.d")]),
        (b"a@[192.0.2.1]", [person(None, b"a", b"[192.0.2.1]")]),
        (b"A <a@[IPv6:::1]>", [person(b"A", b"a", b"[IPv6:::1]")]),
        (b"A <@x,@y:a@b>", [person(b"A", b"a", b"b", b"@x,@y")]),
        (b"=?utf-8?q?a?= =?utf-8?q?b?= <a@b>", [person(b"=?utf-8?q?a?= =?utf-8?q?b?=", b"a", b"b")]),
        (b"\xe4\xf6 <\xfc@\xdf>", [person(b"\xe4\xf6", b"\xfc", b"\xdf")]),
        (b"g:;", [group(b"g"), GROUP_END]),
        (
            b"my g: a@b, C <c@d>;, e@f",
            [
                group(b"my g"),
                person(None, b"a", b"b"),
                person(b"C", b"c", b"d"),
                GROUP_END,
                person(None, b"e", b"f"),
            ],
        ),
        (b"g: a@b", [group(b"g"), person(None, b"a", b"b"), GROUP_END]),
        (b"root", [person(None, b"root", b"")]),
        (b"John Doe", [person(b"John Doe", b"", b"")]),
        (b"MAILER-DAEMON <>", [person(b"MAILER-DAEMON", b"", b"")]),
        (b"A <a@b", [person(b"A", b"a", b"b")]),
        (b"A <a@b, c@d", [person(b"A", b"a", b"b"), person(None, b"c", b"d")]),
        (b"A <a@b> B <c@d>", [person(b"A", b"a", b"b"), person(b"B", b"c", b"d")]),
        (b'"open <a@b>', [person(b"open <a@b>", b"", b"")]),
        (b",, ,", []),
        (b"", []),
    ],
)
def test_address_lists(value: bytes, expected: list[Address]) -> None:
    """Names, comments, quoting, routes, groups, 8-bit bytes and what is made of broken input."""
    assert list(addresses(value)) == expected


def test_address_limit_includes_group_markers() -> None:
    """At most max_addresses entries come back, also when a group is cut off."""
    assert len(addresses(b"g: a@b, c@d, e@f;", MimeLimits(max_addresses=2))) == 2
    assert len(addresses(b"a@b, c@d, e@f", MimeLimits(max_addresses=2))) == 2


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"", b'""'),
        (b'a"b\\c', b'"a\\"b\\\\c"'),
        (b"\xe4", b"{1}\r\n\xe4"),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"a\0b", b'"ab"'),
        (b"\xe4\0", b"{1}\r\n\xe4"),
        (b"x" * 999, b'"' + b"x" * 999 + b'"'),
        (b"x" * 1000, b"{1000}\r\n" + b"x" * 1000),
        (b"\x01\x7f", b'"\x01\x7f"'),
    ],
)
def test_strings(value: bytes, sent: bytes) -> None:
    """Quoted where legal, else literal; never a NUL."""
    assert string(value) == sent
    assert nstring(value) == sent


def test_nil_and_lists() -> None:
    """NIL for nothing, a bare string for one, a list for more."""
    assert nstring(None) == b"NIL"
    assert string_list(()) == b"NIL"
    assert string_list((b"en",)) == b'"en"'
    assert string_list((b"en", b"de")) == b'("en" "de")'


def test_envelope_example() -> None:
    """The example of RFC 3501 section 8, rebuilt."""
    header = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\n"
        b"Subject: IMAP4rev1 WG mtg summary\r\n and minutes\r\nTo: imap@cac.washington.edu\r\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
        b"Message-Id: <B27397-0100000@cac.washington.edu>\r\n\r\n"
    )
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert envelope(header) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        + b" ".join([gray] * 3)
        + b' ((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")'
        b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.edu>")'
    )


A = b'((NIL NIL "a" "x"))'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
        (b"Subject:\n", b'(NIL "" NIL NIL NIL NIL NIL NIL NIL NIL)'),
        (b"From: a@x\nSender: \n", b"(NIL NIL %b %b %b NIL NIL NIL NIL NIL)" % (A, A, A)),
        (b"From: a@x\nReply-To: r@x\n", b'(NIL NIL %b %b ((NIL NIL "r" "x")) NIL NIL NIL NIL NIL)' % (A, A)),
        (b"Sender: a@x\n", b"(NIL NIL NIL %b NIL NIL NIL NIL NIL NIL)" % A),
        (
            b"To: a@x\nTo: b@y\n",
            b'(NIL NIL NIL NIL NIL ((NIL NIL "a" "x")(NIL NIL "b" "y")) NIL NIL NIL NIL)',
        ),
        (b"Bcc: g:;\n", b'(NIL NIL NIL NIL NIL NIL NIL ((NIL NIL "g" NIL)(NIL NIL NIL NIL)) NIL NIL)'),
        (b"subject: \xe4\0\nSubject: 2\n", b"(NIL {1}\r\n\xe4 NIL NIL NIL NIL NIL NIL NIL NIL)"),
        (b"In-Reply-To : <a@b>\n", b'(NIL NIL NIL NIL NIL NIL NIL NIL "<a@b>" NIL)'),
    ],
)
def test_envelopes(header: bytes, expected: bytes) -> None:
    """Absent and empty fields, defaults, repeated fields, groups, literals."""
    assert envelope(header) == expected


@pytest.mark.parametrize(
    ("header", "own", "references"),
    [
        (b"", None, ()),
        (b"Message-ID: <a@b> <c@d>\n", b"a@b", ()),
        (b'Message-ID: <"a"@b>\n', b"a@b", ()),
        (b"References: <a@b>\n <c@d> junk <e\n @f>\nIn-Reply-To: <x@y>\n", None, (b"a@b", b"c@d", b"e@f")),
        (b"References: junk\nIn-Reply-To: <x@y> <z@y>\n", None, (b"x@y",)),
        (b"In-Reply-To: your message of Monday\n", None, ()),
        (b"Message-ID: a@b\n", None, ()),
    ],
)
def test_message_ids(header: bytes, own: bytes | None, references: tuple[bytes, ...]) -> None:
    """Valid ids only; In-Reply-To counts if References has none (RFC 5256 section 3)."""
    found = message_ids(header)
    assert (found.message_id, found.references) == (own, references)


def test_reference_limit_keeps_the_root_and_the_latest() -> None:
    """Of a long chain the first and the last ids tell where the message belongs."""
    header = b"References: " + b" ".join(b"<%d@x>" % number for number in range(9)) + b"\n"
    assert message_ids(header, MimeLimits(max_references=3)).references == (b"0@x", b"7@x", b"8@x")
