"""Whatever page of mail.db is damaged: every reader answers as before or fails, and none with something else.

SQLCipher hands a damaged page out as zeros, and SQLite does not mind where a long value ends in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from store_world import World, now

from mailstore import mime, search
from mailstore.account_database import mail_key
from mailstore.engine import Database, DatabaseKey, Txn, open_connection
from mailstore.errors import StoreError
from mailstore.model import FetchPlan, NewMessage, SortBy, SortKey
from mailstore.ops import content, maildrop, metadata, sorting
from mailstore.ops import search as search_ops

PAGE = 4096
Read = Callable[[Txn], Any]


def long_mail(chance: random.Random) -> bytes:
    """With an envelope, a structure, references and a text of some pages each."""
    people = ", ".join(
        f"{chance.randbytes(9).hex()} <{chance.randbytes(6).hex()}@example.org>" for _ in range(150)
    )
    known = " ".join(f"<{chance.randbytes(12).hex()}@example.org>" for _ in range(150))
    names = [chance.randbytes(20).hex() for _ in range(100)]
    parts = "".join(f"--b\r\nContent-Type: text/plain; name={one}\r\n\r\n{one}\r\n" for one in names)
    return (
        f"Subject: {chance.randbytes(1000).hex()}\r\nTo: {people}\r\nReferences: {known}\r\n"
        f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n"
    ).encode()


def readers(mailbox: int, word: str) -> Iterator[Read]:
    """All that reads long values."""
    uids = list(range(1, 5))
    whole = content.SectionRead(mime.SectionSpec())
    everything = search.Not(search.HeaderText("X-NONE", "none"))
    for plan in (
        FetchPlan(envelope=True),
        FetchPlan(body=True, bodystructure=True),
        FetchPlan(preview=True, object_ids=True),
        FetchPlan(sections=(whole,), max_bytes=1_000_000),
    ):
        yield lambda txn, plan=plan: content.fetch(txn, mailbox, uids, plan, 0)
    yield lambda txn: content.content(txn, mailbox, uids, [whole], 1_000_000)
    yield lambda txn: content.read_span(txn, 3, 10_000, 10_000)
    yield lambda txn: metadata.get(txn, None)
    yield lambda txn: search_ops.run(txn, mailbox, search.BodyText(word), 0)
    yield lambda txn: search_ops.run(txn, mailbox, search.HeaderText("TO", word), 0)
    yield lambda txn: sorting.sort(
        txn, mailbox, everything, [SortBy(SortKey.SUBJECT)], 0, lambda _: None, None
    )[0]
    yield lambda txn: sorting.to_thread(txn, mailbox, everything, 0, None, None)
    yield lambda txn: maildrop.listing(txn, mailbox)


ONE_LARGE = metadata.AnnotationLimits(max_entries=1, max_bytes=10_000, quota_bytes=None)


def opened(path: Path, key: DatabaseKey) -> Database:
    """Without what another connection has left."""
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return open_connection(path, key)


def test_no_reader_takes_a_damaged_page_for_what_it_held(world: World) -> None:
    """One page after the other."""
    account, chance = world.login(), random.Random(1)
    mail = [long_mail(chance) for _ in range(4)]
    now(account.append("Drafts", [NewMessage(one) for one in mail]))
    comment = {"/private/comment": chance.randbytes(9_000)}
    now(account._opened.write(metadata.set_values, None, comment, ONE_LARGE))
    mailbox = now(account.select("Drafts", True)).opened.mailbox_id
    key = mail_key(account._opened._hold.master)
    account.release_at_once()
    world.clock.advance(0)
    path = world.paths.mail_db
    whole = path.read_bytes()
    word = mail[3].rpartition(b"\r\n--b--")[0][-30:].decode()
    reads = list(readers(mailbox, word))
    database = opened(path, key)
    right = [database.read(0, read) for read in reads]
    database.close()
    failed = 0
    for page in range(1, len(whole) // PAGE):
        middle = page * PAGE + PAGE // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        for number, (read, expected) in enumerate(zip(reads, right, strict=True)):
            try:
                database = opened(path, key)
            except StoreError:
                break
            try:
                assert database.read(0, read) == expected, (page, number)
            except StoreError:
                failed += 1
            database.close()
    assert failed > len(whole) // PAGE // 2
