"""Mailbox names, on both sides of the store."""

from __future__ import annotations

import pytest
from store_world import World, now

from mailstore.names import mailbox_name
from protocols.imap.grammar import utf7


@pytest.mark.parametrize("name", ["inbox", "Inbox/Sub", "INBOX"])
def test_inbox_in_any_case_is_inbox(name: str) -> None:
    """RFC 3501 section 5.1; what is below it keeps its case."""
    wanted = "INBOX" + name[5:]
    assert mailbox_name(name) == wanted
    assert utf7.mailbox_from_wire(name.encode(), utf8=True) == wanted
    assert utf7.mailbox_from_wire(utf7.encode(name), utf8=False) == wanted


@pytest.mark.parametrize("name", ["ınbox", "ınbox/Sub", "ınboX"])
def test_a_dotless_i_makes_another_name(name: str) -> None:
    """Its capital is I, but INBOX is case-insensitive in ASCII alone."""
    assert mailbox_name(name) == name
    assert utf7.mailbox_from_wire(name.encode(), utf8=True) == name
    assert utf7.mailbox_from_wire(utf7.encode(name), utf8=False) == name


def test_a_mailbox_with_a_dotless_i_is_not_inbox(world: World) -> None:
    """It is made beside INBOX and holds its own mail."""
    account = world.login()
    now(account.create("ınbox"))
    names = {info.name for info in now(account.list_mailboxes()).mailboxes}
    assert {"INBOX", "ınbox"} <= names
