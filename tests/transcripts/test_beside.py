"""The second opinion's own tools: none differs from itself, and what is changed is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts.beside import Beside, CommandEnd
from tests.transcripts.meaning import meaning, together
from tests.transcripts.memory_world import MemoryWorld

FILES = sorted(Path(__file__).parent.glob("*.txt"))


class OwnWorld(MemoryWorld):
    """Our server in memory, whose UIDVALIDITY is the one that transcripts name."""

    def validity(self, mailbox: str) -> str:
        """See ``ForeignWorld``."""
        return "7"


def played(path: Path) -> Beside:
    """The transcript beside our own server."""
    beside = Beside(path, OwnWorld())
    beside.play()
    return beside


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_difference_from_ourselves(path: Path) -> None:
    """What a transcript says is what our server means, command by command."""
    assert [str(one) for one in played(path).differences] == []


@pytest.mark.parametrize(
    ("name", "line", "changed", "tag"),
    [
        ("move", "S: * OK [COPYUID 7 2 1] moved", "S: * OK [COPYUID 7 2 9] moved", "a1"),
        ("move", "S: a1 OK done", "S: a1 NO done", "a1"),
        ("move", "S: * 2 EXPUNGE\nS: a1", "S: a1", "a1"),
        ("move", "S: * 2 EXPUNGE\nS: a1", "S: * 2 EXPUNGE\nS: * 2 EXISTS\nS: a1", "a1"),
        ("two_sessions", "S: * 1 FETCH (FLAGS (\\Seen \\Recent))", "S: * 1 FETCH (FLAGS (\\Seen))", "a2"),
        ("binary", "S~ \\0\\x01ab\\0 BINARY[2]", "S~ \\0\\x01aB\\0 BINARY[2]", "a2"),
        ("searchres", "C: a4 UID SEARCH RETURN (ALL) NOT $", "C: a4 UID SEARCH RETURN (ALL) $", "a4"),
        ("list", '"/" Lost/Found', '"/" Lost/found', "a4"),
        ("unselect", "S! * <*> EXPUNGE", "S! * <*> EXISTS", "a6"),
        ("revoked", "S2: * BYE this session has been ended, please log in again\nS2#\n", "", "b1"),
        ("foreign", "C: GET / HTTP/1.1\nS: * BYE this is an IMAP server\nS#", "C: a NOOP\nS: a OK\nS#", "a"),
    ],
)
def test_what_is_changed_is_found(tmp_path: Path, name: str, line: str, changed: str, tag: str) -> None:
    """A transcript that says something else differs at that command."""
    text = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8")
    assert line in text
    path = tmp_path / f"{name}.txt"
    path.write_text(text.replace(line, changed, 1), encoding="utf-8")
    assert tag in {one.tag for one in played(path).differences}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("* 1 FETCH (UID 4 FLAGS (\\Seen b))", '* 1 FETCH (FLAGS ("b" \\Seen) UID 4)'),
        ('* LIST (\\b \\a) "/" "INBOX"', "* LIST (\\a \\b \\UnMarked) / {5}\r\nINBOX"),
        ("a1 OK [READ-WRITE] selected", "a1 OK [read-write] chosen"),
        ("* STATUS x (MESSAGES 1 UIDVALIDITY 7)", '* STATUS "x" (UIDVALIDITY 99 MESSAGES 1)'),
        ("* OK [APPENDUID 7 1] stored", "* OK [APPENDUID 8 1] kept"),
        ("+ go ahead", "+ OK"),
    ],
)
def test_same_meaning(one: str, other: str) -> None:
    """Order, quoting, wording and a server's own numbers do not count."""
    assert meaning(one) == meaning(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("* 1 FETCH (FLAGS (\\Seen))", "* 2 FETCH (FLAGS (\\Seen))"),
        ("* 1 FETCH (BODY[] NIL)", '* 1 FETCH (BODY[] "NIL")'),
        ("* 1 FETCH (BODY[] {1}\r\na)", "* 1 FETCH (BODY[] {1}\r\nA)"),
        ("a1 OK done", "a1 NO done"),
        ("a1 NO [NONEXISTENT] x", "a1 NO x"),
        ("* SEARCH 1 2", "* SEARCH 1"),
        ("* LIST (\\a) / x", "* LIST (\\b) / x"),
        ("* OK [COPYUID 7 1 2] x", "* OK [COPYUID 7 2 1] x"),
        ("* 1 EXISTS", "* 1 RECENT"),
    ],
)
def test_another_meaning(one: str, other: str) -> None:
    """Anything else counts."""
    assert meaning(one) != meaning(other)


def test_order_of_expunges_does_not_count() -> None:
    """Messages 1 and 3 go, whichever goes first (RFC 3501 section 7.4.1); other ones are others."""
    first, last = together(["* 1 EXPUNGE", "* 2 EXPUNGE"]), together(["* 3 EXPUNGE", "* 1 EXPUNGE"])
    assert first == last == ["* EXPUNGE of 1 3"]
    assert together(["* 1 EXPUNGE", "* 3 EXPUNGE"]) != first


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"a NOOP\r\n", [8]),
        (b"a LOGIN {1+}\r\nx {2}\r\n{}\r\n", [25]),
        (b"a APPEND x {4+}\r\na\r\nb\r\nb NOOP\r\n", [23, 31]),
        (b"a X {0+}\r\n\r\n", [12]),
    ],
)
def test_end_of_commands(data: bytes, ends: list[int]) -> None:
    """Byte by byte: a command ends with the line that no literal follows."""
    end = CommandEnd()
    assert [at for at in range(1, len(data) + 1) if end.feed(data[at - 1 : at])] == ends
