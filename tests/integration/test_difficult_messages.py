"""Hundreds of broken and strange messages through the real server: the octets survive, clients can parse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from difficult import Named, difficult_messages, with_nul
from imap_wire import session
from imapclient import IMAPClient
from imapclient.response_types import Envelope
from running import Server

pytestmark = pytest.mark.integration

ITEMS = ["ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[]", "RFC822.SIZE", "PREVIEW"]
BATCH = 40
MAILBOX = "Archive"


def batches(messages: Sequence[Named]) -> Iterator[Sequence[Named]]:
    """The messages, some at a time."""
    for at in range(0, len(messages), BATCH):
        yield messages[at : at + BATCH]


def first_leaf(structure: Any) -> tuple[str, int]:
    """Part number and size in octets of the first part that is no multipart."""
    path = []
    while structure.is_multipart:
        structure = structure[0][0]
        path.append("1")
    return ".".join(path or ["1"]), structure[6]


def check(client: IMAPClient, name: str, uid: int, message: bytes, got: dict[bytes, Any]) -> None:
    """What was fetched is the message, and its parts are where BODYSTRUCTURE says."""
    assert got[b"BODY[]"] == message, name
    assert got[b"RFC822.SIZE"] == len(message), name
    assert isinstance(got[b"ENVELOPE"], Envelope), name
    # RFC 8970 section 3.1: at most 200 characters, and those are UTF-8.
    assert len((got[b"PREVIEW"] or b"").decode("utf-8")) <= 200, name
    part, size = first_leaf(got[b"BODYSTRUCTURE"])
    item = f"BODY[{part}]".encode()
    leaf = client.fetch([uid], [b"BODY.PEEK" + item[4:]])[uid][item]
    assert len(leaf or b"") == size, name


def test_octets_survive_and_clients_can_parse(server: Server) -> None:
    """Each message comes back as it went in, with an ENVELOPE and a BODYSTRUCTURE that IMAPClient reads."""
    messages = list(difficult_messages())
    assert len(messages) >= 300
    with IMAPClient("localhost", server.info["imaps"], ssl_context=server.tls(), timeout=60) as client:
        client.login(server.user, server.password)
        client.select_folder(MAILBOX)
        uid = client.folder_status(MAILBOX, ["UIDNEXT"])[b"UIDNEXT"]
        for batch in batches(messages):
            client.multiappend(MAILBOX, [message for _, message in batch])
            client.noop()
            uids = range(uid, uid + len(batch))
            fetched = client.fetch(list(uids), ITEMS)
            for one, (name, message) in zip(uids, batch, strict=True):
                check(client, name, one, message, fetched[one])
            uid += len(batch)


def test_nul_survives_in_literal8(server: Server) -> None:
    """What holds NULs comes in with a literal8 and is given back as it was."""
    with session(server, MAILBOX.encode()) as wire:
        for name, message in with_nul():
            tag = wire.tag()
            wire.send(b"%b APPEND %b ~{%d+}\r\n%b\r\n" % (tag, MAILBOX.encode(), len(message), message))
            assert wire.until(tag + b" ").status == b"OK", name
            answer = wire.command(b"UID FETCH * (ENVELOPE BODYSTRUCTURE BODY.PEEK[] BINARY.PEEK[])")
            assert answer.status == b"OK", name
            (response,) = (one for one in answer.untagged if b" FETCH (" in one)
            assert b"BODY[] {%d}\r\n%b" % (len(message), message) in response, name
            assert b"BINARY[] ~{%d}\r\n%b" % (len(message), message) in response, name
