"""METADATA where a transcript would be too long, and what is chosen of stored entries (RFC 5464)."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from protocols.imap.commands.metadata import chosen
from protocols.imap.grammar.metadata import Depth
from protocols.limits import ImapLimits
from tests.wire import ImapWorld

NAMES = st.lists(st.sampled_from(["private", "shared", "a", "ab", "b"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


def test_values_are_bounded_all_or_none() -> None:
    """A value over the limit is refused with the limit, and its companions are not stored (section 4.3)."""
    world = ImapWorld(limits=dataclasses.replace(ImapLimits(), metadata_value_max_bytes=4))
    client = world.logged_in()
    said = client.say(b'a SETMETADATA INBOX (/private/a "1234" /private/b "12345")\r\n')
    assert said == b"a NO [METADATA MAXSIZE 4] a value is too long\r\n"
    assert world.account.annotations == {}


def test_octet_by_octet() -> None:
    """A command that arrives in pieces sets what it says."""
    world = ImapWorld()
    client = world.logged_in()
    said = b""
    for octet in b'a SETMETADATA INBOX (/private/a "x\\"y" /private/b ~{2+}\r\n\0\r /private/c NIL)\r\n':
        said += client.say(bytes([octet]))
    assert said == b"a OK done\r\n"
    assert list(world.account.annotations.values()) == [{"/private/a": b'x"y', "/private/b": b"\0\r"}]


@given(st.dictionaries(NAMES, st.binary(max_size=3)), st.lists(NAMES, max_size=3))
def test_depth(stored: dict[str, bytes], entries: list[str]) -> None:
    """Each depth shows what the next shallower one shows, and nothing from elsewhere (section 4.2.2)."""
    alone = {name for name, value in chosen(stored, entries, Depth.ENTRY).items() if value is not None}
    children = set(chosen(stored, entries, Depth.CHILDREN))
    everything = set(chosen(stored, entries, Depth.ALL))
    assert alone <= children <= everything <= set(stored)
    assert all(any(f"{name}/".startswith(f"{entry}/") for entry in entries) for name in everything)
    assert all(any(name.count("/") <= entry.count("/") + 1 for entry in entries) for name in children)
