"""Plays a transcript against a server: what the wire shows is what the test says.

A transcript is a text file. Lines begin with

    #       a comment; the first ones name the RFC sections
    @       an action of the world: see ``World`` below
    C: ..   the client sends the line with CRLF; ``C2:`` is a second client, and so on
    C~ ..   the client sends exactly this, with \\r \\n \\0 \\x.. escapes and without a line end
    S: ..   the server says exactly this line
    S* ..   the server says this line after any number of others
    S! ..   none of the lines that a following ``S*`` passes over is like this
    S# ..   the server hangs up (nothing may be left unsaid)

Inside server lines ``<*>`` stands for anything and ``<name>`` captures a word that later lines
repeat as ``<name>``. Everything the server says has to be accounted for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_LINE = re.compile(r"(?P<kind>[CS])(?P<who>\d?)(?P<how>[:~*!#]) ?(?P<text>.*)\Z")
_HOLE = re.compile(r"<(\*|[a-z_]+)>")


class Peer(Protocol):
    """One client's connection."""

    def send(self, data: bytes) -> None:
        """Send octets."""

    def receive(self) -> bytes:
        """What has come since the last call; over sockets this waits a little."""

    @property
    def closed(self) -> bool:
        """Whether the server has hung up."""


class World(Protocol):
    """The server under test. Actions come from ``@name words`` lines."""

    def connect(self) -> Peer:
        """A new connection in the state that the actions so far ask for."""

    def act(self, name: str, words: list[str]) -> None:
        """Do ``@name words``. Raises KeyError for an action it does not know."""


@dataclass
class Mismatch(AssertionError):
    """The server said something else."""

    path: Path
    number: int
    expected: str
    said: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.number}: expected {self.expected!r}, server said {self.said!r}"


@dataclass
class _Talk:
    peer: Peer
    heard: bytearray = field(default_factory=bytearray)

    def line(self) -> str | None:
        """The next line the server has said."""
        if b"\n" not in self.heard:
            self.heard += self.peer.receive()
        end = self.heard.find(b"\n")
        if end < 0:
            return None
        text = bytes(self.heard[:end]).rstrip(b"\r").decode("latin-1")
        del self.heard[: end + 1]
        return text


class Transcript:
    """One file, to be played once."""

    def __init__(self, path: Path, world: World) -> None:
        self._path = path
        self._world = world
        self._talks: dict[str, _Talk] = {}
        self._captured: dict[str, str] = {}
        self._forbidden: list[str] = []
        self._number = 0

    def play(self) -> None:
        """Play all lines.

        Raises:
            Mismatch: the first line that is not as written.
        """
        for number, raw in enumerate(self._path.read_text(encoding="utf-8").splitlines(), 1):
            self._number = number
            if not raw.strip() or raw.startswith("#"):
                continue
            if raw.startswith("@"):
                name, *words = raw[1:].split()
                self._world.act(name, words)
                continue
            found = _LINE.match(raw)
            if found is None:
                raise ValueError(f"{self._path.name}:{self._number}: not a transcript line")
            self._step(found["kind"], found["who"], found["how"], found["text"])
        for talk in self._talks.values():
            self._nothing_left(talk)

    def _step(self, kind: str, who: str, how: str, text: str) -> None:
        if who not in self._talks:
            self._talks[who] = _Talk(self._world.connect())
        talk = self._talks[who]
        match kind + how:
            case "C:":
                self._nothing_left(talk)
                talk.peer.send(self._filled(text).encode("utf-8") + b"\r\n")
            case "C~":
                talk.peer.send(
                    self._filled(text).encode("latin-1").decode("unicode_escape").encode("latin-1")
                )
            case "S:":
                self._expect(text, talk.line())
            case "S*":
                self._skip_to(text, talk)
            case "S!":
                self._forbidden.append(text)
            case "S#":
                self._nothing_left(talk)
                if not talk.peer.closed:
                    raise Mismatch(self._path, self._number, "hanging up", "nothing")
            case _:
                raise ValueError(f"{self._path.name}:{self._number}: not a transcript line")

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

    def _skip_to(self, text: str, talk: _Talk) -> None:
        while (said := talk.line()) is not None:
            if self._matches(text, said):
                self._forbidden.clear()
                return
            if any(self._pattern(bad).match(said) for bad in self._forbidden):
                raise Mismatch(self._path, self._number, "not this line", said)
        raise Mismatch(self._path, self._number, text, "nothing")

    def _nothing_left(self, talk: _Talk) -> None:
        said = talk.line()
        if said is not None:
            raise Mismatch(self._path, self._number, "nothing", said)
