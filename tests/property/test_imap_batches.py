"""UID ranges of UIDBATCHES cover every message once (RFC 10022 section 3.1.3)."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from mailstore.model import MailboxId, MailboxStatus, ModSeq, Opened, Uid, UidValidity
from mailstore.uidset import UidSet
from protocols.imap.picture.view import View


@given(st.sets(st.integers(1, 10_000), max_size=200), st.integers(1, 60))
def test_batches_tile_the_mailbox(uids: set[int], size: int) -> None:
    """No gap, no overlap, all full but the last, which ends at 1."""
    status = MailboxStatus(MailboxId(1), len(uids), 0, 0, 0, 0, Uid(20_000), UidValidity(1), ModSeq(1), "m")
    opened = Opened(MailboxId(1), "x", False, status, array("I", sorted(uids)), None, (), UidSet())
    batches = list(View(opened).batches(size))
    held = [[uid for uid in uids if low <= uid <= high] for high, low in batches]
    assert sum(map(len, held)) == len(uids)
    assert all(len(one) == size for one in held[:-1])
    assert all(0 < len(one) <= size for one in held)
    assert [low - 1 for _, low in batches[:-1]] == [high for high, _ in batches[1:]]
    if uids:
        assert (batches[0][0], batches[-1][1]) == (max(uids), 1)
