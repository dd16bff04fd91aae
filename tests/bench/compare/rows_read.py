"""Rows that change nothing in the mailbox: searches, sorting, resynchronising, and all kinds of FETCH."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from tests.bench.compare import corpus
from tests.bench.compare.peers import Peer
from tests.bench.compare.play import Figure, Outcome, Row, Unit, Work
from tests.bench.compare.size import Size
from tests.bench.raw_imap import RawImap

THUNDERBIRD = (
    b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority"
    b" X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"
)
APPLE = b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
PARTIAL = 65_536
CHANGED_BLOCKS = 20
"""The one percent of changed messages lies in so many places."""

Lines = Callable[[Peer, int], Sequence[bytes]]


def playing(client: RawImap, lines: Sequence[bytes], operations: int = 0) -> Work:
    """Commands one after the other; each is an operation unless said otherwise."""

    def run() -> Outcome:
        return Outcome(sum(client.play(line) for line in lines))

    return Work(run, operations or len(lines))


def _commands(
    key: str, figure: Figure, lines: Lines, mailbox: str = "INBOX", warm: bool = True, grows: bool = False
) -> Row:
    def prepare(peer: Peer, turn: int) -> Work:
        return playing(peer.session(mailbox), lines(peer, turn))

    return Row(key, (figure,), prepare, warm, grows)


def word(turn: int) -> bytes:
    """A rare word, another one each turn."""
    return corpus.word(17 + 31 * turn).encode()


def inside(turn: int) -> bytes:
    """What is inside such a word."""
    return word(turn)[1:-1]


def search_rows(size: Size) -> list[Row]:
    """Searches for text; another one each turn, so that nobody can remember the answer."""

    def address(turn: int) -> bytes:
        return b".%d@" % (300 + turn)

    def message_id(turn: int) -> bytes:
        return corpus.message_id(37 * turn % size.messages)

    def searching(key: str, name: str, goal: float, field: bytes, needle: Callable[[int], bytes]) -> Row:
        def lines(_: Peer, turn: int) -> Sequence[bytes]:
            return [b"SEARCH %s %s" % (field, needle(turn))]

        return _commands(key, Figure(name, Unit.MS, times=goal), lines, grows=True)

    return [
        searching("search-from", "SEARCH FROM", 5, b"FROM", address),
        searching("search-subject", "SEARCH SUBJECT", 5, b"SUBJECT", word),
        searching("search-message-id", "SEARCH HEADER Message-ID", 5, b"HEADER Message-ID", message_id),
        searching("search-body", "SEARCH BODY, a word", 100, b"BODY", word),
        searching("search-body-part", "SEARCH BODY, a part of a word", 100, b"BODY", inside),
        searching("search-text", "SEARCH TEXT, a word", 100, b"TEXT", word),
        searching("search-text-part", "SEARCH TEXT, a part of a word", 100, b"TEXT", inside),
    ]


def sort_rows() -> list[Row]:
    """SORT and THREAD, asked before."""
    wanted = (
        ("sort-date", "SORT (DATE), repeated", b"SORT (DATE) UTF-8 ALL"),
        ("sort-subject", "SORT (SUBJECT), repeated", b"SORT (SUBJECT) UTF-8 ALL"),
        ("thread", "THREAD REFERENCES, repeated", b"THREAD REFERENCES UTF-8 ALL"),
    )
    return [
        _commands(key, Figure(name, Unit.MS, times=1.5), lambda *_, line=line: [line], grows=True)
        for key, name, line in wanted
    ]


def _number(name: bytes, raw: bytes) -> int:
    found = re.search(name + rb" (\d+)", raw)
    assert found is not None
    return int(found[1])


def change_some(peer: Peer, turn: int, size: Size) -> None:
    """Another session changes the flags of one percent of the messages, in some places."""
    block = max(size.messages // 100 // CHANGED_BLOCKS, 1)
    step = max(size.messages // CHANGED_BLOCKS, 1)
    ranges = b",".join(b"%d:%d" % (at, at + block - 1) for at in range(1, size.messages - block + 1, step))
    sign = b"+" if turn % 2 else b"-"
    peer.session("INBOX", "another").play(b"STORE %s %sFLAGS.SILENT (\\Answered)" % (ranges, sign))


def resync_rows(size: Size) -> list[Row]:
    """A mailbox selected again, and a client that comes back with what it knew (RFC 7162)."""

    def returning(quick: bool, changes: bool) -> Callable[[Peer, int], Work]:
        def prepare(peer: Peer, turn: int) -> Work:
            client = peer.session("INBOX")
            client.play(b"ENABLE QRESYNC" if quick else b"ENABLE CONDSTORE")
            known = client.command(b"SELECT INBOX")
            modseq = _number(b"HIGHESTMODSEQ", known.raw)
            if changes:
                change_some(peer, turn, size)
            if quick:
                validity = _number(b"UIDVALIDITY", known.raw)
                return playing(client, [b"SELECT INBOX (QRESYNC (%d %d))" % (validity, modseq)])
            fetch = b"UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE %d)" % modseq
            return playing(client, [b"SELECT INBOX (CONDSTORE)", fetch], operations=1)

        return prepare

    rows = [_commands("select", Figure("SELECT in a session", Unit.MS, times=0.5), _select, grows=True)]
    for quick, name in ((False, "CONDSTORE"), (True, "QRESYNC")):
        for changes, what in ((False, "nothing changed"), (True, "1 % changed")):
            key = f"{name.lower()}-{'some' if changes else 'none'}"
            figure = Figure(f"{name}, {what}", Unit.MS, times=1.2)
            rows.append(Row(key, (figure,), returning(quick, changes), grows=True))
    return rows


def _select(_: Peer, __: int) -> Sequence[bytes]:
    return [b"SELECT INBOX"]


def first_rows(size: Size) -> list[Row]:
    """What mail programs ask of messages that nobody has asked of before; these have to be played first."""
    half = max(size.messages // 2, 1)
    each = max(half // size.pairs, 1)

    def asking(start: int, items: bytes, again: bool) -> Callable[[Peer, int], Work]:
        def prepare(peer: Peer, turn: int) -> Work:
            client = peer.session("INBOX")
            if again and not turn:  # all that this row will ask for
                return playing(client, [b"UID FETCH %d:%d %s" % (start + 1, start + half, items)], half)
            first = start + 1 + each * (turn - 1)
            return playing(client, [b"UID FETCH %d:%d %s" % (first, first + each - 1, items)], each)

        return prepare

    rows = []
    for key, start, items, name, goals in (
        ("thunderbird", 0, THUNDERBIRD, "headers as Thunderbird asks", (1.5, 0.7)),
        ("apple", half, APPLE, "ENVELOPE BODYSTRUCTURE as Apple Mail asks", (2.0, 2.0)),
    ):
        for again, goal in zip((False, True), goals, strict=True):
            figure = Figure(f"{name}, {'repeated' if again else 'first'}", Unit.PER_S, times=goal)
            row_key = f"{key}-{'repeated' if again else 'first'}"
            rows.append(Row(row_key, (figure,), asking(start, items, again), warm=again))
    return rows


def fetch_rows(size: Size) -> list[Row]:
    """Flags, single messages, parts of large ones, and everything."""

    def flags(peer: Peer, _: int) -> Work:
        return playing(peer.session("INBOX"), [b"FETCH 1:* (FLAGS)"], size.messages)

    def chosen(turn: int, count: int) -> list[int]:
        return random.Random(turn).choices(range(1, count + 1), k=size.few)

    def everything(peer: Peer, _: int) -> Work:
        return playing(peer.session("INBOX"), [b"FETCH 1:* (BODY.PEEK[])"], size.messages)

    def one(_: Peer, turn: int) -> Sequence[bytes]:
        return [b"FETCH %d (BODY.PEEK[])" % at for at in chosen(turn, size.messages)]

    def text(_: Peer, turn: int) -> Sequence[bytes]:
        return [b"FETCH %d (BODY.PEEK[1.1])" % at for at in chosen(turn, size.large)]

    def partial(_: Peer, turn: int) -> Sequence[bytes]:
        places = [(at, PARTIAL * (number % 10)) for number, at in enumerate(chosen(turn, size.large))]
        return [b"FETCH %d (BODY.PEEK[]<%d.%d>)" % (at, place, PARTIAL) for at, place in places]

    return [
        Row("flags", (Figure("FETCH 1:* FLAGS", Unit.PER_S, times=0.8),), flags),
        _commands("one-message", Figure("one message at random", Unit.MS, times=0.9), one, grows=True),
        _commands("text-part", Figure("text of a message of 1-5 MB", Unit.MS, times=0.9), text, "Large"),
        _commands("partials", Figure("64 KB of a message of 1-5 MB", Unit.MS, times=0.9), partial, "Large"),
        Row("download", (Figure("download of everything", Unit.MB_S, times=0.8),), everything),
    ]
