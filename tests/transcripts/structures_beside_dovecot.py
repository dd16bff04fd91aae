"""Compares ENVELOPE and BODYSTRUCTURE of the difficult messages with Dovecot's and prints every difference.

    .venv/bin/python -m tests.transcripts.structures_beside_dovecot [--all]

Needs Debian's dovecot-imapd. Shown is what no cause in ``structure_causes.py`` covers, and how many messages
each cause covers; ``--all`` shows every difference with its cause. DIFFERENCES.md explains the causes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailstore import mime
from tests.integration.difficult import Named, difficult_messages, with_nul
from tests.transcripts.dovecot_world import DovecotServer, is_installed
from tests.transcripts.meaning import Tree, tree
from tests.transcripts.structure_causes import cause
from tests.transcripts.structures import Unlike, unlike_envelopes, unlike_structures

EXPLAINED = Path(__file__).parent / "DIFFERENCES.md"
_SHOWN_CHARS = 200
_CAUSE = re.compile(r"^### Structures: (.+)$", re.MULTILINE)
_FETCHED = re.compile(r"\* [0-9]+ FETCH ")


@dataclass(frozen=True, slots=True)
class Found:
    """A difference, the message it is in, and the cause that covers it, if one does."""

    message: str
    unlike: Unlike
    cause: str | None

    def __str__(self) -> str:
        one = self.unlike
        ours, theirs = (repr(value)[:_SHOWN_CHARS] for value in (one.ours, one.theirs))
        return f"{self.message}: {one.what} ({self.cause})\n    ours:   {ours}\n    theirs: {theirs}"


def ours(message: bytes) -> tuple[Tree, Tree]:
    """ENVELOPE and BODYSTRUCTURE as our server sends them."""
    root = mime.scan(message)
    sent = (mime.envelope(message[: root.body_start]), mime.bodystructure(root, message))
    (envelope,), (structure,) = (tree(one.decode("latin-1")) for one in sent)
    return envelope, structure


def theirs(folder: Path, messages: Iterable[Named]) -> Iterator[tuple[Named, tuple[Tree, Tree]]]:
    """The same of every message by a Dovecot that keeps its data in ``folder``."""
    server = DovecotServer(folder, [Path("messages")])
    try:
        with server.session("messages") as client:
            for named in messages:
                data = named[1]
                client.say(b"APPEND INBOX ~{%d+}\r\n%b" % (len(data), data))
                if b"1 EXISTS" not in client.ask(b"SELECT INBOX"):
                    raise RuntimeError("the message is not there")
                answer = client.ask(b"FETCH 1 (ENVELOPE BODYSTRUCTURE)").decode("latin-1")
                begin = _FETCHED.search(answer)
                if begin is None:
                    raise RuntimeError("Dovecot does not tell the structure")
                (items, *_) = tree(answer[begin.end() :])
                yield named, (items[items.index("ENVELOPE") + 1], items[items.index("BODYSTRUCTURE") + 1])
                client.say(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
                client.say(b"CLOSE")
    finally:
        server.stop()


def differences(folder: Path) -> Iterator[Found]:
    """Every difference in all difficult messages."""
    for (name, message), (envelope, structure) in theirs(folder, (*difficult_messages(), *with_nul())):
        own_envelope, own_structure = ours(message)
        for one in (
            *unlike_envelopes(own_envelope, envelope),
            *unlike_structures(own_structure, structure),
        ):
            yield Found(name, one, cause(message, one))


def causes_explained() -> set[str]:
    """The causes that DIFFERENCES.md has a section for."""
    return set(_CAUSE.findall(EXPLAINED.read_text(encoding="utf-8")))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--all", action="store_true", help="show what is explained too")
    options = parser.parse_args()
    if not is_installed():
        sys.exit("there is no Dovecot here: apt install dovecot-imapd")
    covered: dict[str | None, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory(prefix="sealbox-dovecot-") as scratch:
        Path(scratch).chmod(0o755)
        for one in differences(Path(scratch) / "dovecot"):
            covered[one.cause].add(one.message)
            if options.all or one.cause is None:
                print(one)
    for name, messages in covered.items():
        print(f"{name or 'not explained'}: {len(messages)} messages")


if __name__ == "__main__":
    main()
