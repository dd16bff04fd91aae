"""A sorted result that a client keeps by ADDTO and REMOVEFROM alone, position by position (RFC 5267)."""

from __future__ import annotations

import re

from imap_wire import Answer

from tests.wire import numbers

_RESULT = re.compile(rb'\* ESEARCH \(TAG "([^"]+)"\) UID(?: ALL (\S+))?\Z')
_CHANGE = re.compile(rb'\* ESEARCH \(TAG "([^"]+)"\) UID (ADDTO|REMOVEFROM) \(([0-9:, ]+)\)\Z')

CRITERIA = b"(REVERSE SUBJECT SIZE) UTF-8 UNFLAGGED"
NOW = b"UID SORT RETURN (ALL) " + CRITERIA
LIVE = b"UID SORT RETURN (ALL UPDATE) " + CRITERIA


def sorted_now(answer: Answer) -> list[int]:
    """The result that answers ``NOW`` or ``LIVE``, in order."""
    tag = answer.tagged.split(b" ")[0]
    (found,) = (m for one in answer.untagged if (m := _RESULT.match(one)) and m[1] == tag)
    return numbers(found[2]) if found[2] else []


class SortedResult:
    """UIDs in order, of which the answer to ``LIVE`` was the beginning."""

    def __init__(self, answer: Answer) -> None:
        self.uids = sorted_now(answer)
        self.ended = False
        """The server has said that it keeps the result no longer."""
        self._tag = answer.tagged.split(b" ")[0]
        self.changes = 0

    def hear(self, response: bytes) -> bool:
        """Follow a response; False when it is about something else."""
        if response.startswith(b'* NO [NOUPDATE "%s"]' % self._tag):
            self.ended = True
            return True
        found = _CHANGE.match(response)
        if found is None or found[1] != self._tag:
            return bool((whole := _RESULT.match(response)) and whole[1] == self._tag)
        words = found[3].split(b" ")
        for position, listed in zip(map(int, words[::2]), words[1::2], strict=True):
            self._change(found[2], position - 1, numbers(listed))
        self.changes += 1
        return True

    def _change(self, word: bytes, at: int, uids: list[int]) -> None:
        if word == b"REMOVEFROM":
            assert self.uids[at : at + len(uids)] == uids, "what leaves is not at its position"
            del self.uids[at : at + len(uids)]
        else:
            assert 0 <= at <= len(self.uids), "no such position"
            assert not set(uids) & set(self.uids), "what comes is there already"
            self.uids[at:at] = uids
