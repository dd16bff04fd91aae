"""Makes the same random searches and sorts in equal mailboxes of ours and of Dovecot's and compares them.

    .venv/bin/python -m tests.transcripts.searches_beside_dovecot
        [--messages 400] [--searches 800] [--sorts 200] [--seed 1] [--all]

Needs Debian's dovecot-imapd; both servers run as processes of their own. Shown is what no cause in
``search_causes.py`` covers, and how many answers each cause touches; ``--all`` shows every difference with
its cause. DIFFERENCES.md explains the causes.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailstore.account import NewAccount, create_account
from tests.transcripts.dovecot_world import DovecotServer, SideConnection, is_installed
from tests.transcripts.sealbox_server import CHEAP, SealboxServer
from tests.transcripts.search_causes import cause
from tests.transcripts.search_mail import internal_date, message
from tests.transcripts.searches import (
    Misplaced,
    Search,
    Sort,
    Unlike,
    answer,
    misplaced,
    random_search,
    random_sort,
    unlike,
)
from tests.transcripts.socket_peer import SocketPeer

EXPLAINED = Path(__file__).parent / "DIFFERENCES.md"
_CAUSE = re.compile(r"^### Searches: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is compared."""

    messages: int = 400
    searches: int = 800
    sorts: int = 200
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """A difference and the cause that covers it, if one does."""

    what: Unlike | Misplaced
    cause: str | None

    def __str__(self) -> str:
        match self.what:
            case Unlike(search, number, ours):
                return f"{search.key} {search.text!r}: {number} {'ours' if ours else 'theirs'} ({self.cause})"
            case Misplaced(sort, first, second):
                return f"{sort.criterion}: {first} before {second} with ours ({self.cause})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was asked and how many of the answers are unlike; ``found`` has a line for each message."""

    asked: int
    unlike: int
    found: tuple[Found, ...]


@contextmanager
def _sessions(folder: Path) -> Iterator[tuple[SideConnection, SideConnection]]:
    """A session of joe's with each server."""
    ours = SealboxServer(folder / "sealbox")
    try:
        create_account(ours.root, ours.directory, NewAccount("joe@localhost", b"secret"), params=CHEAP)
        ours.directory.set_default_domain("localhost")
        theirs = DovecotServer(folder / "dovecot", [Path("searches")])
        try:
            with (
                SideConnection(SocketPeer(ours.ports["imaps"], ours.tls())) as own,
                theirs.session("searches") as other,
            ):
                yield own, other
        finally:
            theirs.stop()
    finally:
        ours.stop()


def compare(folder: Path, size: Size) -> Comparison:
    """Fill the mailbox of both, ask both the same, and look for the causes of what differs."""
    mail = [message(size.seed, number) for number in range(size.messages)]
    asked: dict[Search | Sort, None] = {}
    rng = random.Random(f"{size.seed} searches")
    for make, count in ((random_search, size.searches), (random_sort, size.sorts)):
        for _ in range(count):
            asked[make(rng)] = None
    found: list[Found] = []
    touched = 0
    with _sessions(folder) as sessions:
        for session in sessions:
            for number, data in enumerate(mail):
                stamp = internal_date(size.seed, number).strftime("%d-%b-%Y %H:%M:%S +0000").encode()
                session.say(b'APPEND INBOX "%b" {%d+}\r\n%b' % (stamp, len(data), data))
            session.say(b"SELECT INBOX")
        for one in asked:
            ours, theirs = (answer(session, one.command()) for session in sessions)
            differences = list(_differences(one, ours, theirs, mail))
            found += differences
            touched += bool(differences)
    return Comparison(len(asked), touched, tuple(found))


def _differences(
    one: Search | Sort, ours: list[int], theirs: list[int], mail: list[bytes]
) -> Iterator[Found]:
    if isinstance(one, Search):
        for unfound in unlike(one, ours, theirs):
            yield Found(unfound, cause(mail[unfound.number - 1], unfound))
    else:
        assert sorted(ours) == sorted(theirs)
        for pair in misplaced(one, ours, theirs):
            # Both go by the same collation: there is no reason to differ.
            yield Found(pair, None)


def causes_explained() -> set[str]:
    """The causes that DIFFERENCES.md has a section for."""
    return set(_CAUSE.findall(EXPLAINED.read_text(encoding="utf-8")))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in (("messages", 400), ("searches", 800), ("sorts", 200), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--all", action="store_true", help="show what is explained too")
    options = parser.parse_args()
    if not is_installed():
        sys.exit("there is no Dovecot here: apt install dovecot-imapd")
    with tempfile.TemporaryDirectory(prefix="sealbox-dovecot-") as scratch:
        Path(scratch).chmod(0o755)
        size = Size(options.messages, options.searches, options.sorts, options.seed)
        outcome = compare(Path(scratch), size)
    covered: dict[str | None, set[object]] = defaultdict(set)
    for one in outcome.found:
        covered[one.cause].add(one.what.search if isinstance(one.what, Unlike) else one.what.sort)
        if options.all or one.cause is None:
            print(one)
    print(f"{outcome.unlike} of {outcome.asked} answers are unlike")
    for name, answers in covered.items():
        print(f"{name or 'not explained'}: {len(answers)} answers")


if __name__ == "__main__":
    main()
