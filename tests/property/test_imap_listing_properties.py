"""Patterns of LIST mean what the naive reading says, in linear time."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from mailstore.model import MailboxId, MailboxInfo, MailboxList
from protocols.imap.grammar.mailbox import List, ListSelection
from protocols.imap.responses.listing import Patterns, list_lines, lsub_lines

NAMES = st.text("ab/", max_size=8)


def naive(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, for short input only."""
    parts = {"*": ".*", "%": "[^/]*"}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in pattern) + r"\Z")


@given(st.lists(st.text("ab/*%", max_size=8), max_size=4), NAMES)
def test_patterns_mean_what_they_say(patterns: list[str], name: str) -> None:
    """The bit-parallel matcher agrees with backtracking, of whichever pattern."""
    assert Patterns(patterns).match(name) == any(naive(pattern).match(name) for pattern in patterns)


def cost_s(patterns: list[str], names: list[str]) -> float:
    """CPU time of matching all names against all patterns, none of which fits; the best of several runs."""
    costs = []
    for _ in range(5):
        started = time.thread_time()
        compiled = Patterns(patterns)
        assert not any(compiled.match(name) for name in names)
        costs.append(time.thread_time() - started)
    return min(costs)


def test_a_pattern_made_to_backtrack_costs_what_the_name_is_long() -> None:
    """Four times as long a name against four times as long a pattern: backtracking would never end."""
    small, large = ("*a%" * 50 + "b", "a" * 500), ("*a%" * 200 + "b", "a" * 2000)
    assert cost_s([large[0]], [large[1]]) < 10 * cost_s([small[0]], [small[1]])


def test_more_patterns_cost_no_more_for_each_name() -> None:
    """Four times as many patterns and names cost four times as much, where one by one it would be sixteen."""

    def both(count: int) -> float:
        patterns = [f"*{number:03}%b" for number in range(count)]
        return cost_s(patterns, ["a" * 100 + f"{number:03}" for number in range(count)])

    assert both(400) < 10 * both(100)


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
    listed = {
        line.name: line for line in list_lines(mailboxes, List("", (pattern,), both, extended=True)) if line
    }
    lsub = {line.name for line in lsub_lines(mailboxes, "", pattern) if line}
    matcher = naive(pattern)
    assert {name for name in subscribed if matcher.match(name)} <= set(listed)
    assert lsub <= set(listed)
    for name, line in listed.items():
        assert matcher.match(name)
        assert name in subscribed or line.child_info
        assert line.child_info == any(other.startswith(name + "/") for other in subscribed)
