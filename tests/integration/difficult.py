"""Messages that have broken mail programs: each with a name, none from anybody's mailbox."""

from __future__ import annotations

import base64
import encodings.aliases
from collections.abc import Iterator
from urllib.parse import quote

Named = tuple[str, bytes]

_SAMPLE = "Zażółć gęślą jaźń — Größe, naïve, Ελληνικά, Привет, 日本語, 한국어, עברית, ✉"
_HEAD = (
    b"From: Ann <ann@example.org>\r\nTo: joe@example.net\r\nSubject: x\r\n"
    b"Date: Mon, 7 Feb 2022 21:52:25 +0000\r\n"
)
_FIELDS = (
    b"From",
    b"Sender",
    b"Reply-To",
    b"To",
    b"Cc",
    b"Bcc",
    b"Subject",
    b"Date",
    b"Message-ID",
    b"In-Reply-To",
)
_HUGE = 1_000_000
_NOT_TEXT = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}


def charsets() -> list[str]:
    """Every text encoding that Python knows and this platform has."""
    found = []
    for name in sorted(set(encodings.aliases.aliases.values()) - _NOT_TEXT):
        try:
            "a".encode(name)
        except LookupError:
            continue
        found.append(name)
    return found


def _in_every_charset() -> Iterator[Named]:
    for name in charsets():
        raw = _SAMPLE.encode(name, "replace")
        label = name.replace("_", "-").encode()
        word = b"=?" + label + b"?B?" + base64.b64encode(raw) + b"?="
        encoded = base64.encodebytes(raw).replace(b"\n", b"\r\n")
        kind = b'Content-Type: text/plain; charset="' + label + b'"\r\n'
        yield (
            f"charset {name}",
            b"Subject: "
            + word
            + b"\r\nFrom: "
            + word
            + b" <a@b>\r\n"
            + kind
            + b"Content-Transfer-Encoding: base64\r\n\r\n"
            + encoded,
        )
        bare = raw.replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"")
        yield (
            f"charset {name} as it is",
            b"Subject: "
            + bare
            + b'\r\nTo: "'
            + bare.replace(b'"', b"")
            + b'" <a@b>\r\n'
            + kind
            + b"Content-Transfer-Encoding: 8bit\r\n\r\n"
            + bare
            + b"\r\n",
        )


def _rfc2231() -> Iterator[Named]:
    name = quote("Größe 日本.pdf").encode()
    for number, parameters in enumerate(
        (
            b"filename*=utf-8''" + name,
            b"filename*=''" + name,
            b"filename*=bogus'xx'" + name,
            b"filename*=utf-8'" + name,
            b"filename*0*=utf-8''Gr%C3; filename*1*=%B6; filename*2=\"se.txt\"",
            b'filename*1="b"; filename*0="a"',
            b'filename*0="a"; filename*2="c"',
            b'filename*00="a"; filename*0="b"; filename*="c"',
            b"filename*99999=x; filename*-1=y; filename*x=z",
            b"filename*=utf-8''%",
            b"filename*=utf-8''%zz%E9",
            b"filename=\"=?utf-8?B?w6k=?=\"; filename*=utf-8''%C3%A9",
            b'filename="a\\"b\\\\c"',
            b"filename=a b c.txt",
            b'filename="unterminated',
            b"; ".join(b'p%d="%d"' % (n, n) for n in range(3000)),
            b"; ".join(b"filename*%d=x" % n for n in range(3000)),
        )
    ):
        yield (
            f"parameters {number}",
            _HEAD
            + b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; "
            + parameters
            + b"\r\n\r\nx\r\n",
        )


def _multipart(body: bytes, boundary: bytes = b"b", extra: bytes = b"") -> bytes:
    return _HEAD + b'Content-Type: multipart/mixed; boundary="' + boundary + b'"' + extra + b"\r\n\r\n" + body


def _broken() -> Iterator[Named]:
    part = b"--b\r\nContent-Type: text/plain\r\n\r\ntext\r\n"
    shapes = (
        b"",
        b"--b",
        b"--b--",
        b"--b--\r\n",
        b"--b\r\n",
        b"no parts at all\r\n",
        part,
        part + part,
        part + b"--b--",
        b"preamble\r\n" + part + b"--b--\r\nepilogue\r\n",
        part + b"--b-- \t\r\nafter",
        part + b"--b--\r\n" + part,
        part + b"--b-",
        part + b"--bb\r\n\r\nother\r\n--b--\r\n",
        b"--b\r\n--b\r\n--b\r\n--b--\r\n",
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + part + b"--b--\r\n",
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n--b--\r\n",
        b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"U3ViamVjdDogeA0KDQp4\r\n--b--\r\n",
        b"--b\nContent-Type: text/html\n\n<p>\n--b--\n",
        b"--b\r\nno header at all\r\n--b--\r\n",
        b"--b\r\n: empty name\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n folded first line\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\nA=B=C!!\xff\r\n--b--\r\n",
        b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=ZZ=\r\n=3\r\n--b--\r\n",
        b"--b\r\nContent-Transfer-Encoding: x-own\r\n\r\nx\r\n--b--\r\n",
    )
    for number, body in enumerate(shapes):
        yield f"multipart {number}", _multipart(body)
        yield f"digest {number}", _multipart(body).replace(b"multipart/mixed;", b"multipart/digest;", 1)
    for number, kind in enumerate(
        (
            b"",
            b"text",
            b"text/",
            b"/plain",
            b"text/plain;",
            b"text/plain; charset",
            b"text/plain; charset=",
            b'text/plain; charset="',
            b"text/plain;;;; charset=utf-8",
            b"TEXT / PLAIN",
            b"text/plain (comment; x=y)",
            b"(((text/plain",
            b"multipart/mixed",
            b"multipart/mixed; boundary=",
            b'multipart/mixed; boundary=" "',
            b"message/rfc822",
            b"message/partial; id=x",
            b"message/external-body; access-type=x",
            b"*/*",
            b"text/\xe9",
            b"NIL",
            b'"text/plain"',
            b'text/plain; name="\xc3\xa9"',
            b"a" * 3000 + b"/b",
        )
    ):
        yield f"type {number}", _HEAD + b"Content-Type: " + kind + b"\r\n\r\nSubject: inner\r\n\r\ntext\r\n"


def _nested() -> Iterator[Named]:
    for depth in (1, 2, 3, 10, 40, 100, 300):
        message = b"Subject: innermost\r\n\r\ninnermost\r\n"
        tree = b"--x\r\n\r\ninnermost\r\n--x--\r\n"
        for level in range(depth):
            message = b"Subject: %d\r\nContent-Type: message/rfc822\r\n\r\n" % level + message
            mark = b"l%d" % level
            head = b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n" % (
                b"x" if level == 0 else b"l%d" % (level - 1)
            )
            tree = b"--%b\r\n%b%b\r\n--%b--\r\n" % (mark, head, tree, mark)
        yield f"messages in each other {depth}", message
        yield f"multiparts in each other {depth}", _multipart(tree, b"l%d" % (depth - 1))


def _headers() -> Iterator[Named]:
    for field in _FIELDS:
        for number, value in enumerate(
            (
                b"",
                b" ",
                b"\xe9\xff",
                "é 日本".encode(),
                b"=?utf-8?q?=FF?= =?x?x?x?=",
                b'"unterminated',
                b"(" * 500,
                b"<",
                b"a@",
                b"@b",
                b"group:;",
                b"group: a@b, c@d;",
                b"<@route:a@b>",
                b"a b c <d@e>, , ,f@g",
                b'"a\\"b" <c@d>',
                b"NIL",
                b"{3}",
            )
        ):
            yield f"{field.decode()} {number}", field + b": " + value + b"\r\n\r\ntext\r\n"
        yield f"{field.decode()} twice", field + b": one@x\r\n" + field + b": two@x\r\n\r\ntext\r\n"
        yield f"{field.decode()} folded", field + b":\r\n one@x\r\n\t,two@x\r\n\r\ntext\r\n"
    for number, message in enumerate(
        (
            b"x",
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"no colon\r\n",
            b"Subject: only a header",
            b"Subject: x\r\n",
            b"\r\nbody",
            b": x\r\n\r\ny",
            b" folded\r\n\r\ny",
            b"From ann Mon Feb 7\r\nSubject: mbox\r\n\r\ny",
            b"A:b\nC:d\n\nbare LF\n",
            b"A:b\rC:d\r\rbare CR\r",
            b"A: b\r\n\nmixed\n\r\n",
            b"A: b\n\r\nmixed\r\n",
            b"A: b\r\r\n\r\r\nx",
            b"\xff\xfe" * 50,
            b"A: b\r\n\r\n.\r\n..\r\n",
            b"A: b\r\n\r\n" + b"long" * 50_000,
            b"A: b\r\n\r\nno end of line",
        )
    ):
        yield f"shape {number}", message


def _huge() -> Iterator[Named]:
    end = b"\r\n\r\ntext\r\n"
    yield "huge subject", b"Subject: " + b"x" * _HUGE + end
    yield "huge folded subject", b"Subject: " + b"\r\n ".join([b"word"] * (_HUGE // 8)) + end
    yield "huge encoded subject", b"Subject: " + b" ".join([b"=?utf-8?q?=C3=A9?="] * (_HUGE // 40)) + end
    yield "many fields", b"".join(b"X-%d: y\r\n" % number for number in range(20_000)) + end[2:]
    yield "many addresses", b"To: " + b", ".join(b"n%d@x" % number for number in range(20_000)) + end
    yield "many references", b"References: " + b" ".join(b"<%d@x>" % number for number in range(20_000)) + end
    yield "many parts", _multipart(b"--b\r\n\r\nx\r\n" * 3000 + b"--b--\r\n")
    yield "many comments", b"From: " + b"(x)" * 50_000 + b" a@b" + end


def difficult_messages() -> Iterator[Named]:
    """All of them; none holds NUL."""
    for source in (_in_every_charset, _rfc2231, _broken, _nested, _headers, _huge):
        yield from source()


def with_nul() -> Iterator[Named]:
    """Messages that only a literal8 may carry (RFC 3516 section 4.4)."""
    binary = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    yield "binary", binary + bytes(range(256)) * 40
    yield "binary part", _multipart(b"--b\r\n" + binary + b"\0\r\n\0\r\n--b--\r\n")
    yield "NUL in a header", b"Subject: a\0b\r\nFrom: \0 <a\0@b>\r\n\r\ntext\r\n"
    for name in ("utf_16", "utf_32_be"):
        kind = b'Content-Type: text/plain; charset="' + name.replace("_", "-").encode() + b'"\r\n\r\n'
        yield f"charset {name} as it is", kind + _SAMPLE.encode(name)
