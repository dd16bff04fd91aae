"""Plays a transcript against a server: what the wire shows is what the test says.

A transcript is a text file. Lines begin with

    #       a comment; the first ones name the RFC sections
    @       an action of the world: see ``World`` below
    C: ..   the client sends the line with CRLF; ``C2:`` is a second client, and so on
    C~ ..   the client sends exactly this, with \\r \\n \\0 \\x.. escapes and without a line end
    S: ..   the server says exactly this line
    S~ ..   the server says exactly this line, with escapes as in ``C~``
    S* ..   the server says this line after any number of others
    S! ..   none of the lines that a following ``S*`` passes over is like this
    S# ..   the server hangs up (nothing may be left unsaid)

Inside server lines ``<*>`` stands for anything and ``<name>`` captures a word that later lines
repeat as ``<name>``. Everything the server says has to be accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ANSWER_S = 10.0
"""How long a line that is expected may take to come."""
QUIET_S = 0.02
"""How long a connection is listened to at the end, when nothing is expected any more."""

_LINE = re.compile(r"(?P<kind>[CS])(?P<who>\d?)(?P<how>[:~*!#]) ?(?P<text>.*)\Z")
_KINDS = {"C:", "C~", "S:", "S~", "S*", "S!", "S#"}
_HOLE = re.compile(r"<(\*|[a-z_]+)>")


class Peer(Protocol):
    """One client's connection."""

    def send(self, data: bytes) -> None:
        """Send octets."""

    def receive(self, wait_s: float) -> bytes:
        """What has come since the last call; over sockets this waits so long when nothing has."""

    @property
    def closed(self) -> bool:
        """Whether the server has hung up."""


class NotHere(Exception):
    """This world cannot do what the transcript asks for; the text says why."""


class World(Protocol):
    """The server under test. Actions come from ``@name words`` lines."""

    def connect(self) -> Peer:
        """A new connection in the state that the actions so far ask for."""

    def act(self, name: str, words: list[str]) -> None:
        """Do ``@name words``.

        Raises:
            KeyError: an action it does not know.
            NotHere: one that it cannot do.
        """


@dataclass
class Mismatch(AssertionError):
    """The server said something else."""

    path: Path
    number: int
    expected: str
    said: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.number}: expected {self.expected!r}, server said {self.said!r}"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a transcript: an action (``kind`` is ``@``) or something said."""

    number: int
    kind: str
    who: str
    how: str
    text: str


def steps(path: Path) -> Iterator[Step]:
    """The lines of a transcript without the comments.

    Raises:
        ValueError: a line that is none of a transcript.
    """
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not raw.strip() or raw.startswith("#"):
            continue
        if raw.startswith("@"):
            yield Step(number, "@", "", "", raw[1:])
            continue
        found = _LINE.match(raw)
        if found is None or found["kind"] + found["how"] not in _KINDS:
            raise ValueError(f"{path.name}:{number}: not a transcript line")
        yield Step(number, found["kind"], found["who"], found["how"], found["text"])


def octets(how: str, text: str) -> bytes:
    """What a line with or without escapes stands for; a line without them is one with CRLF."""
    if how == ":":
        return text.encode("utf-8") + b"\r\n"
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


@dataclass
class Talk:
    """A connection and what it has heard."""

    peer: Peer
    heard: bytearray = field(default_factory=bytearray)

    def line(self, wait_s: float = ANSWER_S) -> str | None:
        """The next line the server says; None when it says none in time, or has hung up."""
        while (end := self.heard.find(b"\n")) < 0:
            more = self.peer.receive(wait_s)
            if not more:
                return None
            self.heard += more
        text = bytes(self.heard[:end]).rstrip(b"\r").decode("latin-1")
        del self.heard[: end + 1]
        return text


class Transcript:
    """One file, to be played once."""

    def __init__(self, path: Path, world: World) -> None:
        self._path = path
        self._world = world
        self._talks: dict[str, Talk] = {}
        self._captured: dict[str, str] = {}
        self._forbidden: list[str] = []
        self._number = 0

    def play(self) -> tuple[Step, str] | None:
        """Play all lines.

        Returns:
            None, or the step that the world cannot do and why; the rest was left out.

        Raises:
            Mismatch: the first line that is not as written.
        """
        left_out = None
        for step in steps(self._path):
            self._number = step.number
            if step.kind != "@":
                self._step(step)
                continue
            name, *words = step.text.split()
            try:
                self._world.act(name, words)
            except NotHere as reason:
                left_out = step, str(reason)
                break
        for talk in self._talks.values():
            self._nothing_left(talk, QUIET_S)
        return left_out

    def _step(self, step: Step) -> None:
        if step.who not in self._talks:
            self._talks[step.who] = Talk(self._world.connect())
        talk = self._talks[step.who]
        match step.kind + step.how:
            case "C:":
                self._nothing_left(talk)
                talk.peer.send(octets(step.how, self._filled(step.text)))
            case "C~":
                talk.peer.send(octets(step.how, self._filled(step.text)))
            case "S:":
                self._expect(step.text, talk.line())
            case "S~":
                self._expect(octets(step.how, step.text).decode("latin-1"), talk.line())
            case "S*":
                self._skip_to(step.text, talk)
            case "S!":
                self._forbidden.append(step.text)
            case _:
                self._nothing_left(talk, ANSWER_S)
                if not talk.peer.closed:
                    raise Mismatch(self._path, self._number, "hanging up", "nothing")

    def _filled(self, text: str) -> str:
        return _HOLE.sub(lambda hole: self._captured[hole.group(1)], text)

    def _pattern(self, text: str) -> re.Pattern[str]:
        parts: list[str] = []
        at = 0
        for hole in _HOLE.finditer(text):
            parts.append(re.escape(text[at : hole.start()]))
            name = hole.group(1)
            if name == "*":
                parts.append(".*")
            elif name in self._captured:
                parts.append(re.escape(self._captured[name]))
            else:
                parts.append(f"(?P<{name}>[^ )\\]]+)")
            at = hole.end()
        return re.compile("".join(parts) + re.escape(text[at:]) + r"\Z")

    def _matches(self, text: str, said: str) -> bool:
        found = self._pattern(text).match(said)
        if found is not None:
            self._captured.update(found.groupdict())
        return found is not None

    def _expect(self, text: str, said: str | None) -> None:
        if said is None or not self._matches(text, said):
            raise Mismatch(self._path, self._number, text, said or "nothing")

    def _skip_to(self, text: str, talk: Talk) -> None:
        while (said := talk.line()) is not None:
            if self._matches(text, said):
                self._forbidden.clear()
                return
            if any(self._pattern(bad).match(said) for bad in self._forbidden):
                raise Mismatch(self._path, self._number, "not this line", said)
        raise Mismatch(self._path, self._number, text, "nothing")

    def _nothing_left(self, talk: Talk, wait_s: float = 0.0) -> None:
        said = talk.line(wait_s)
        if said is not None:
            raise Mismatch(self._path, self._number, "nothing", said)
