"""Fuzz targets of what is stored and mailed: messages, key headers, sealed mail, segments, logs, texts."""

from __future__ import annotations

import io
import json
from pathlib import Path

from backup.catalogue import Server
from backup.errors import SegmentDamaged
from backup.reading import OpenSegment
from backup.sealing import Sealer, info_for
from backup.segment import (
    LENGTH_BYTES,
    DatabasePart,
    Header,
    Kind,
    Malformed,
    SegmentName,
    StreamId,
    decode_header,
    padding_bytes,
    parse_name,
)
from mailstore import sealed
from mailstore.errors import HeaderTampered, PasswordUnusable, SealedMessageDamaged, TooNew
from mailstore.keys import AccountId, load_private_key, load_public_key, new_private_key, parse_secret
from mailstore.keys import decode_header as decode_keys
from mailstore.keys.header import encode_header
from mailstore.mime import (
    SectionKind,
    SectionSpec,
    base_subject,
    decode_body,
    decode_words,
    filename,
    html_to_text,
    load,
    part_text,
    resolve,
    sent_date,
)
from mailstore.prepared import decompress, prepare
from mailstore.sealed import SealedId, open_sealed
from mailstore.search_form import search_form
from mailstore.wal import frames_of, read_wal
from tests.fuzz.target import Target
from tests.integration.difficult import difficult_messages
from tests.property.mime_grammar import check_body, check_envelope

VECTORS = Path(__file__).parent.parent / "vectors"
KEY = load_private_key(new_private_key())
ACCOUNT = AccountId("ab" * 16)
SEALED_ID = SealedId("0" * 16 + "-" + "1" * 16)
STREAM = StreamId("cd" * 16)
NAME = SegmentName(STREAM, 2, 1_800_000_000_000, Kind.CHANGES)
MAX_BYTES = 16 * 1024


def mime(data: bytes) -> None:
    """Any bytes are a message: its stored answers obey the grammar, its sections lie inside it."""
    ready = prepare(data)
    assert b"".join(map(decompress, ready.frames)) == data
    check_body(ready.bodystructure, extended=True)
    check_body(ready.body, extended=False)
    check_envelope(ready.envelope)
    root = load(ready.parts)
    for kind in SectionKind:
        for numbers in ((), (1,), (1, 2), (2, 1, 1)):
            resolve(root, SectionSpec(numbers, kind, (b"Subject",)))
    waiting = [root]
    while waiting:
        part = waiting.pop()
        waiting += [*part.children, *([part.message] if part.message else [])]
        raw = data[part.body_start : part.body_end]
        decode_body(part, raw)
        part_text(part, raw).encode("utf-8")
        (filename(part) or "").encode("utf-8")


def text(data: bytes) -> None:
    """Markup, encoded words, subjects, dates and the form that is searched."""
    source = data.decode("utf-8", "replace")
    assert len(html_to_text(source)) <= 2 * len(source)
    decode_words(data).encode("utf-8")
    base_subject(source)
    sent_date(data)
    found = search_form(source)
    assert search_form(found) == found, "what is in the form stays as it is"


def key_header(data: bytes) -> None:
    """A key header is refused or is exactly what it would be written as; so is one with a formal seal."""
    for raw in (data, data + b"seal " + bytes(64).hex().encode()[:64] + b"\n"):
        try:
            signed = decode_keys(raw)
        except (HeaderTampered, TooNew):
            continue
        written = encode_header(signed.header, bytes(32))
        assert written.startswith(signed.body)


def secret(data: bytes) -> None:
    """What somebody types as a password."""
    try:
        parse_secret(data)
    except PasswordUnusable:
        pass


def sealed_message(data: bytes) -> None:
    """A sealed message as it lies there, and one whose inside is these bytes."""
    inside = sealed.MAGIC + sealed._SUITE.encrypt(
        data, load_public_key(KEY.public), info=sealed._info(ACCOUNT, SEALED_ID)
    )
    for blob in (data, inside):
        try:
            open_sealed(KEY, ACCOUNT, SEALED_ID, blob)
        except SealedMessageDamaged:
            pass


def segment(data: bytes) -> None:
    """A segment as an object, as content of a sound envelope, and its texts by themselves."""
    sink = io.BytesIO()
    info = info_for(NAME.stream, NAME.sequence)
    sealer = Sealer(sink, KEY.public, info, lambda digest: digest + digest)
    sealer.write(data)
    sealer.finish()
    for blob in (data, sink.getvalue()):
        try:
            OpenSegment(NAME, _reader(blob), len(blob), sealer.content_key).check()
        except SegmentDamaged:
            pass
    try:
        decode_header(data)
    except Malformed:
        pass
    try:
        Server().apply(NAME, data)
    except SegmentDamaged:
        pass
    name = parse_name(data.decode("utf-8", "replace"))
    assert name is None or parse_name(str(name)) == name


def _reader(blob: bytes):  # type: ignore[no-untyped-def]  # as backup.sealing.ReadAt
    return lambda offset, size: blob[offset : offset + size]


def wal(data: bytes) -> None:
    """A write-ahead log that anybody may have written."""
    found = read_wal(_reader(data))
    frames = frames_of(_reader(data))
    if found is not None:
        assert frames is not None and found.position.frames <= len(frames.pages)
        assert found.commits.items() <= frames.commits.items()


def _messages() -> list[bytes]:
    return [data for _, data in difficult_messages() if len(data) <= MAX_BYTES]


def _headers() -> list[bytes]:
    header: str = json.loads((VECTORS / "keys.json").read_text("utf-8"))["header"]
    return [header.encode("utf-8")]


def _segments() -> list[bytes]:
    database = DatabasePart(4, ((1, 2), (4, 1)))
    header = Header(name=NAME, account=ACCOUNT, previous=bytes(32), database=database, files=(("keys", 3),))
    facts = {"accounts": {ACCOUNT: None}, "aliases": {}, "domains": ["a.example"], "heads": {}}
    written = header.encode()
    content = written + bytes(header.payload_bytes + padding_bytes(header, len(written)))
    return [
        written[LENGTH_BYTES:],
        content,
        json.dumps(facts).encode("utf-8"),
        str(NAME).encode("ascii"),
    ]


_MIME_WORDS = (
    *(b"Content-Type: multipart/mixed; boundary=a\r\n", b"\r\n--a\r\n", b"\r\n--a--\r\n", b"\r\n\r\n"),
    *(b"Content-Type: message/rfc822\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n", b"quoted-printable"),
    *(b"=?utf-8?q?", b"?=", b"; name*0*=utf-8''", b"; charset=utf-16\r\n", b"References: <a@b>\r\n"),
    *(b"To: g: a@b, c;\r\n", b"(", b")", b"<", b">", b'"', b"\\", b"Subject: ", b"<style>", b"&#x41;"),
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000",
)

DATA_TARGETS = (
    Target("mime", mime, _messages, _MIME_WORDS),
    Target(
        "text",
        text,
        lambda: [b"<p>a<br>b</p>&amp;", "Müller\u0301\ufdfa".encode(), *_messages()[:20]],
        _MIME_WORDS,
    ),
    Target("key_header", key_header, _headers),
    Target(
        "secret", secret, lambda: [b"correct horse", b"sbrk-0000-1111", b"abcd-efgh-jkmn-pqrs-tvwx-yz01-2345"]
    ),
    Target("sealed_message", sealed_message, lambda: [sealed.MAGIC + bytes(1200), bytes(16)]),
    Target("segment", segment, _segments),
    Target("wal", wal, lambda: [bytes.fromhex("377f0682002de218") + bytes(24) + bytes(4120)]),
)
