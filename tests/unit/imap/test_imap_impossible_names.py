"""Names that no mailbox can have."""

from __future__ import annotations

import pytest

from protocols.imap.grammar.table import Unparsed
from tests.unit.imap.grammar_world import parse


@pytest.mark.parametrize("name", [b"&A-", b"{1+}\r\n\xe9", b"{3+}\r\na\0b", b'"a\0b"', b"x" * 1001])
@pytest.mark.parametrize(
    "command",
    [
        b"SELECT %b",
        b"EXAMINE %b",
        b"STATUS %b (MESSAGES)",
        b"CREATE %b",
        b"DELETE %b",
        b"RENAME %b other",
        b"RENAME INBOX %b",
        b"SUBSCRIBE %b",
        b"UNSUBSCRIBE %b",
        b"LIST %b *",
        b'LIST "" %b',
        b"APPEND %b {1+}\r\nx",
        b"COPY 1 %b",
        b"UID MOVE 1 %b",
        b"GETQUOTAROOT %b",
    ],
)
def test_names_that_cannot_be_are_no_mistake_of_the_grammar(command: bytes, name: bytes) -> None:
    """NO and not BAD: programs probe names, and BAD counts towards the end of the connection."""
    result = parse(command.replace(b"%b", name))
    assert isinstance(result, Unparsed)
    assert (result.refusal.status, result.refusal.code) == (b"NO", b"CANNOT")
