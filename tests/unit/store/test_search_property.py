"""SEARCH by SQL and residual text agrees with a naive filter over the same messages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_world import World, now

from mailstore import search
from mailstore.model import Flags, ModSeq, NewMessage, SystemFlag
from mailstore.store import Mailbox
from mailstore.uidset import UidSet

DAY = date(2026, 1, 10)
EPOCH = date(1970, 1, 1)
WORDS = ("alpha", "Beta", "gamma", "GRÖSSE")


@dataclass(frozen=True)
class Mail:
    """One message in plain terms."""

    uid: int
    subject: str
    body: str
    flags: SystemFlag
    keywords: tuple[str, ...]
    day: int
    size: int

    def text(self) -> tuple[bytes, int]:
        """The message and its internal date."""
        sent = (DAY + timedelta(days=self.day)).strftime("%d %b %Y") + " 12:00:00 +0000"
        head = f"Subject: {self.subject}\r\nDate: {sent}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        data = (head + self.body).encode()
        return data.ljust(self.size), ((DAY - EPOCH).days + self.day) * 86_400 + 4000


MAILS = [
    Mail(
        number + 1,
        WORDS[number % 4] if number % 3 else "",
        " ".join(WORDS[: number % 5]),
        SystemFlag(number % 32),
        ("$Work",) if number % 2 else (),
        number % 5 - 2,
        300 + 10 * number,
    )
    for number in range(24)
]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    """A mailbox with ``MAILS``."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "root")
        account = world.login()
        for mail in MAILS:
            data, when = mail.text()
            now(account.append("Drafts", [NewMessage(data, Flags(mail.flags, mail.keywords), when)]))
        yield now(account.select("Drafts", True))
        world.close()


TEXTS = st.sampled_from(["", "alpha", "BETA", "größe", "GROSSE", "a b", "zzz"])
DAYS = st.none() | st.integers(-3, 3).map(lambda n: DAY + timedelta(days=n))
UIDS = st.sets(st.integers(1, 60), max_size=60).map(lambda numbers: search.Uids(UidSet.of(numbers)))
LEAVES = st.one_of(
    st.just(search.All()),
    st.integers(0, 31).map(lambda n: search.HasFlag(SystemFlag(n))),
    st.sampled_from(["$work", "$other"]).map(search.HasKeyword),
    UIDS,
    st.builds(search.DateRange, st.sampled_from(["internal", "sent"]), DAYS, DAYS),
    st.integers(290, 560).map(search.Larger),
    st.integers(290, 560).map(search.Smaller),
    TEXTS.map(lambda text: search.HeaderText("SUBJECT", text)),
    TEXTS.map(search.BodyText),
    TEXTS.map(search.AnyText),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(search.Not, inner),
        st.builds(search.Or, inner, inner),
        st.lists(inner, max_size=3).map(lambda keys: search.And(tuple(keys))),
    ),
    max_leaves=8,
)

AMONG_SETS = st.one_of(
    UIDS,
    UIDS.map(search.Not),
    st.builds(search.Or, UIDS, LEAVES),
    st.builds(search.Or, UIDS.map(search.Not), UIDS),
    st.builds(lambda *keys: search.Not(search.And(keys)), UIDS, LEAVES),
)
SEEN = search.HasFlag(SystemFlag.SEEN)
STRANGE = tuple(search.Not(search.HasKeyword(f"k{number}")) for number in range(1900))
BELOW = tuple(search.Larger(size) for size in range(-1500, 405))
MANY_KEYS = {
    "equal": search.And((SEEN,) * 1999),
    "equal keywords": search.And((search.HasKeyword("$work"),) * 1900),
    "different": search.And((*STRANGE, SEEN)),
    "under NOT": search.Not(search.And(BELOW)),
    "beside text": search.And((*BELOW, search.Not(search.HeaderText("SUBJECT", "alpha")))),
    "with text under NOT": search.Not(search.And((*BELOW, search.HeaderText("SUBJECT", "alpha")))),
}


def plain(text: str) -> str:
    """What is left of the few letters here without case and diacritics."""
    return text.casefold().replace("ö", "o")


def naive(key: search.Key, mail: Mail) -> bool:
    """What the RFC says, message by message."""
    day = DAY + timedelta(days=mail.day)
    match key:
        case search.All():
            return True
        case search.HasFlag(flag):
            return mail.flags & flag == flag
        case search.HasKeyword(keyword):
            return keyword in [one.lower() for one in mail.keywords]
        case search.Uids(uids):
            return mail.uid in uids
        case search.DateRange(_, first, before):
            return (first is None or day >= first) and (before is None or day < before)
        case search.Larger(size):
            return mail.size > size
        case search.Smaller(size):
            return mail.size < size
        case search.HeaderText(_, text):
            return plain(text) in plain(mail.subject)
        case search.BodyText(text):
            return plain(text) in plain(mail.body)
        case search.AnyText(text):
            inside = (mail.subject, mail.body, "utf-8 text/plain subject date content-type 12:00:00")
            return any(plain(text) in plain(one) for one in inside)
        case search.Not(inner):
            return not naive(inner, mail)
        case search.Or(left, right):
            return naive(left, mail) or naive(right, mail)
        case search.And(keys):
            return all(naive(one, mail) for one in keys)
    raise AssertionError("not generated here")


@given(key=TREES)
def test_sql_agrees_with_a_naive_filter(mailbox: Mailbox, key: search.Key) -> None:
    """Whatever the tree, the same messages are found."""
    found = now(mailbox.search(key, ModSeq(0))).uids
    assert list(found) == [mail.uid for mail in MAILS if naive(key, mail)]


@given(keys=st.lists(AMONG_SETS, max_size=30))
def test_many_sets_of_uids_agree_with_a_naive_filter(mailbox: Mailbox, keys: list[search.Key]) -> None:
    """However many sets there are and wherever they stand, the same messages are found."""
    key = search.And(tuple(keys))
    found = now(mailbox.search(key, ModSeq(0))).uids
    assert list(found) == [mail.uid for mail in MAILS if naive(key, mail)]


@pytest.mark.parametrize("name", MANY_KEYS)
def test_as_many_keys_as_a_command_may_have_are_answered(mailbox: Mailbox, name: str) -> None:
    """SQLite refuses expressions that are a thousand levels deep, and a row of ANDs is one level each."""
    key = MANY_KEYS[name]
    expected = [mail.uid for mail in MAILS if naive(key, mail)]
    assert 0 < len(expected) < len(MAILS)
    assert list(now(mailbox.search(key, ModSeq(0))).uids) == expected


def test_many_keys_on_every_level_are_answered(mailbox: Mailbox) -> None:
    """As deep as a command may nest, with as many keys as it may have spread over the levels."""
    key: search.Key = SEEN
    for level in range(99):
        key = search.Not(search.And((key, *(search.Larger(-20 * level - n) for n in range(19)))))
    found = now(mailbox.search(key, ModSeq(0))).uids
    assert list(found) == [mail.uid for mail in MAILS if naive(key, mail)]
