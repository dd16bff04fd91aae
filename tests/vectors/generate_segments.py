"""Write segments-2.json: run it only when the format changes, and say so in backup/FORMAT.md.

All randomness but HPKE's comes from SHAKE-256 of a name; the library takes none for HPKE, so the objects
differ in each run while everything that opens them stays the same.
"""

import base64
import hashlib
import io
import itertools
import json
from functools import partial
from pathlib import Path

from backup.sealing import Sealer, info_for
from backup.segment import (
    PAGE_BYTES,
    SERVER,
    SERVER_FILE,
    DatabasePart,
    Header,
    Kind,
    SegmentName,
    StreamId,
    padding_bytes,
    parse_name,
)
from backup.signing import Signer
from mailstore.keys import load_private_key, new_private_key

HERE = Path(__file__).parent
ACCOUNT = "00112233445566778899aabbccddeeff"
STREAM = StreamId("0f" * 16)
SERVER_KEY = bytes(range(32))
SIGNER = Signer(SERVER_KEY)
MAIL = tuple(f"inbox/17979cfe362a000{number}-0123456789abcdef.sealed" for number in range(2))


def fixed(name):
    """Bytes that depend on ``name`` and the number of the call alone."""
    counter = itertools.count()
    return lambda count: hashlib.shake_256(f"{name} {next(counter)}".encode()).digest(count)


def page(number):
    """A page that compresses well, so that this file stays small."""
    return bytes([number]) * PAGE_BYTES


def sealed(header, payload, key):
    """A whole object."""
    sink = io.BytesIO()
    info = info_for(header.name.stream, header.name.sequence)
    sealer = Sealer(sink, key.public, info, partial(SIGNER.sign, header.name), fixed("content key"))
    encoded = header.encode()
    sealer.write(encoded + payload + bytes(padding_bytes(header, len(encoded))))
    sealer.finish()
    return sink.getvalue(), sealer.content_key


def described(name, data, content_key, **more):
    """One object as the file holds it."""
    return {
        "name": str(name),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_key": content_key.hex(),
        **more,
        "object": base64.b64encode(data).decode(),
    }


def stream(key):
    """Three segments of an account, and one of the server's stream; the state they lead to."""
    first = Header(
        SegmentName(STREAM, 1, 1_800_000_000_000, Kind.FULL),
        ACCOUNT,
        None,
        DatabasePart(3, ((1, 3),)),
        (("keys", 4), (MAIL[0], 5)),
    )
    data, content_key = sealed(first, page(1) + page(2) + page(3) + b"keys" + b"first", key)
    objects = [described(first.name, data, content_key)]
    second = Header(
        SegmentName(STREAM, 2, 1_800_000_060_000, Kind.CHANGES),
        ACCOUNT,
        hashlib.sha256(data).digest(),
        DatabasePart(4, ((2, 1), (4, 1))),
        ((MAIL[1], 6),),
        (MAIL[0],),
    )
    data, content_key = sealed(second, page(12) + page(14) + b"second", key)
    objects.append(described(second.name, data, content_key))
    third = Header(
        SegmentName(STREAM, 3, 1_800_000_120_000, Kind.CHANGES),
        ACCOUNT,
        hashlib.sha256(data).digest(),
        DatabasePart(2, ((1, 1),)),
        (("keys", 3),),
    )
    data, content_key = sealed(third, page(21) + b"new", key)
    objects.append(described(third.name, data, content_key))
    tree = json.dumps({"default_domain": "example.org", "domains": ["example.org"]}).encode()
    server = Header(
        SegmentName(StreamId("f0" * 16), 1, 1_800_000_180_000, Kind.FULL),
        SERVER,
        None,
        None,
        ((SERVER_FILE, len(tree)),),
    )
    data, content_key = sealed(server, tree, key)
    objects.append(described(server.name, data, content_key))
    image = page(21) + page(12)
    state = {
        "mail.db_sha256": hashlib.sha256(image).hexdigest(),
        "files": {"keys": b"new".hex(), MAIL[1]: b"second".hex()},
    }
    return objects, state


def refused(objects, key):
    """Objects that have to be refused, and why."""
    first, second = (base64.b64decode(one["object"]) for one in objects[:2])
    content_key = bytes.fromhex(objects[0]["content_key"])
    name, other = objects[0]["name"], objects[1]["name"]
    wrong = [
        ("a bit of the last tag is flipped", name, first[:-65] + bytes([first[-65] ^ 1]) + first[-64:]),
        ("a bit of the box is flipped", name, first[:100] + bytes([first[100] ^ 1]) + first[101:]),
        ("another version", name, first[:7] + b"\x03" + first[8:]),
        ("the version before, which has no signature", name, first[:7] + b"\x01" + first[8:-64]),
        ("the end is cut", name, first[:-1]),
        ("something follows", name, first + b"\0"),
        ("it stands in another's place", other, first),
        ("another's box is in front", name, second[:1176] + first[1176:]),
        ("nothing", name, b""),
    ]
    found = [described(one, data, content_key, why=why) for why, one, data in wrong]
    header = Header(SegmentName(STREAM, 1, 1, Kind.FULL), ACCOUNT, None, DatabasePart(1, ((1, 1),)), ())
    for why, old, new in (
        ("unknown version of the header", b'"version":2', b'"version":3'),
        ("a name that leads elsewhere", b'"files":[]', b'"files":[["../x",0]]'),
        ("a space in the header", b'"files":[]', b'"files": []'),
        ("a full segment with gaps", b'"runs":[[1,1]]', b'"runs":[[2,1]]'),
    ):
        text = header.encode()[4:].replace(old, new)
        sink = io.BytesIO()
        sealer = Sealer(sink, key.public, info_for(STREAM, 1), partial(SIGNER.sign, header.name), fixed(why))
        sealer.write(len(text).to_bytes(4, "big") + text + page(1))
        sealer.finish()
        found.append(described(header.name, sink.getvalue(), sealer.content_key, why=why))
    encoded = header.encode()
    sink = io.BytesIO()
    sign = partial(SIGNER.sign, header.name)
    sealer = Sealer(sink, key.public, info_for(STREAM, 1), sign, fixed("padding"))
    sealer.write(encoded + page(1) + b"\1" * padding_bytes(header, len(encoded)))
    sealer.finish()
    found.append(described(header.name, sink.getvalue(), sealer.content_key, why="padding that is not zeros"))
    return found


def not_signed(objects):
    """Objects that are to be refused where the server's key is known."""
    first = base64.b64decode(objects[0]["object"])
    name, content_key = objects[0]["name"], bytes.fromhex(objects[0]["content_key"])
    parsed = parse_name(name)
    other = Signer(bytes(32)).sign(parsed, hashlib.sha256(first[:-64]).digest())
    wrong = [
        ("a bit of the signature is flipped", first[:-1] + bytes([first[-1] ^ 1])),
        ("another server's signature", first[:-64] + other),
    ]
    return [described(name, data, content_key, why=why) for why, data in wrong]


def main():
    """Write the file."""
    raw = new_private_key(fixed("private key"))
    key = load_private_key(raw)
    objects, state = stream(key)
    tree = {
        "server_key": SERVER_KEY.hex(),
        "signing_key": SIGNER.public.hex(),
        "private_key": base64.b64encode(raw).decode(),
        "public_key_sha256": hashlib.sha256(key.public).hexdigest(),
        "objects": objects,
        "state": state,
        "refused": refused(objects, key),
        "not_signed_by_the_server": not_signed(objects),
    }
    (HERE / "segments-2.json").write_text(json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
