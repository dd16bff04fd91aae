"""Mail for the tests of what is kept of a mailbox."""

from __future__ import annotations

from hypothesis import strategies as st

from mailstore import search
from mailstore.model import (
    Flags,
    NewMessage,
    SortBy,
    SortKey,
    SystemFlag,
)
from mailstore.store import Account
from mailstore.uidset import UidSet
from tests.unit.store.store_world import World, now

MAIL = b"Subject: x\r\n\r\ntext\r\n"
ORDERS = st.lists(
    st.builds(
        SortBy, st.sampled_from([one for one in SortKey if one is not SortKey.RELEVANCY]), st.booleans()
    ),
    min_size=1,
    max_size=3,
)
KEYS = st.sampled_from(
    [
        search.All(),
        search.And((search.All(), search.All())),
        search.Not(search.HasFlag(SystemFlag.SEEN)),
        search.Uids(UidSet.of([2])),
    ]
)
LETTERS = st.sampled_from("ab")


def mail(subject: str, reply: bool, own: str, to: str, day: int) -> NewMessage:
    """A message that others may be equal to in anything, or answer."""
    fields = (
        f"Subject: {'Re: ' if reply else ''}{subject}",
        f"From: {to}@x.example",
        f"Message-ID: <{own}@x>",
        f"References: <{to}@x>",
        f"Date: {day} Jan 2026 12:00:00 +0000",
    )
    return NewMessage("\r\n".join((*fields, "", "text", "")).encode(), Flags(), 1_700_000_000 + day)


MAILS = st.builds(mail, LETTERS, st.booleans(), LETTERS, LETTERS, st.integers(1, 3))


def filled(world: World, count: int) -> Account:
    """A session whose INBOX has ``count`` messages, and was selected."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(MAIL)] * count))
    now(account.select("INBOX", False))
    return account
