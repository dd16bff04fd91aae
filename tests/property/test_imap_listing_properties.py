"""Patterns of LIST mean what the naive reading says, in linear time."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from mailstore.model import MailboxId, MailboxInfo, MailboxList
from protocols.imap.listing import Pattern, list_lines, lsub_lines
from protocols.imap.requests import List, ListSelection

NAMES = st.text("ab/", max_size=8)


def naive(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, for short input only."""
    parts = {"*": ".*", "%": "[^/]*"}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in pattern) + r"\Z")


@given(st.text("ab/*%", max_size=8), NAMES)
def test_pattern_means_what_it_says(pattern: str, name: str) -> None:
    """The bit-parallel matcher agrees with backtracking."""
    assert Pattern(pattern).matches(name) == bool(naive(pattern).match(name))


def test_hostile_pattern_is_linear() -> None:
    """A pattern made to backtrack costs next to nothing."""
    pattern = Pattern("*a%" * 300 + "b")
    started = time.process_time()
    assert not pattern.matches("a" * 1000)
    assert time.process_time() - started < 1


@given(
    st.sets(NAMES.filter(lambda name: name and all(name.split("/"))), max_size=6),
    st.sets(NAMES.filter(lambda name: name and all(name.split("/"))), max_size=4),
    st.text("ab/*%", min_size=1, max_size=5),
)
def test_recursive_match_never_hides_a_subscription(
    names: set[str], subscribed: set[str], pattern: str
) -> None:
    """With % each subscription shows itself or a superior (RFC 5258 section 3.1); LSUB agrees."""
    infos = tuple(
        MailboxInfo(MailboxId(1), name, None, name in subscribed, False, "F") for name in sorted(names)
    )
    mailboxes = MailboxList(infos, tuple(sorted(subscribed - names)))
    both = frozenset({ListSelection.SUBSCRIBED, ListSelection.RECURSIVEMATCH})
    listed = {line.name: line for line in list_lines(mailboxes, List("", (pattern,), both, extended=True))}
    lsub = {line.name for line in lsub_lines(mailboxes, "", pattern)}
    matcher = naive(pattern)
    assert {name for name in subscribed if matcher.match(name)} <= set(listed)
    assert lsub <= set(listed)
    for name, line in listed.items():
        assert matcher.match(name)
        assert name in subscribed or line.child_info
        assert line.child_info == any(other.startswith(name + "/") for other in subscribed)
