"""Dovecot's mailbox of the benchmark, filled by MULTIAPPEND."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

from raw_imap import RawImap

USER = "user"
BATCH = 500


def fill(client: RawImap, mail: Iterable[tuple[bytes, int]]) -> None:
    """Append messages to the inbox with MULTIAPPEND (RFC 3502) and LITERAL+ (RFC 7888)."""
    waiting = iter(mail)
    while batch := list(itertools.islice(waiting, BATCH)):
        pieces = [b"APPEND INBOX"]
        for data, date in batch:
            stamp = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(date)).encode()
            pieces.append(b' "%s" {%d+}\r\n%s' % (stamp, len(data), data))
        client.command(b"".join(pieces))
