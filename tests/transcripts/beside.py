"""Plays a transcript against a server that is not ours and collects, by command, what it answers otherwise.

Compared is the meaning of the responses to a command (see ``meaning``), whatever their order. When the
server leaves the path of the transcript (no continuation where one is expected, a hang-up), the rest of
that command is left out and the play goes on with the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

from tests.transcripts.meaning import meaning, mod_sequences, together
from tests.transcripts.runner import NotHere, Peer, Step, World, octets, steps

ANSWER_S = 5.0
HANG_UP_S = 0.05
UNASKED_S = 0.8
"""How long a response may take that nobody has asked for, as in IDLE."""

_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n\Z")
_SAID_LITERAL = re.compile(r"\{(\d+)\}\Z")
_HOLE = re.compile(r"<(\*|[a-z_]+)>")
_QRESYNC = re.compile(r"(?<=SELECT )(\S+)( \(QRESYNC \()(\d+) (\d+)")
_SINCE = re.compile(r"(CHANGEDSINCE |UNCHANGEDSINCE |\bMODSEQ )(\d+)")
_ANY_TEXT = re.compile(r"\S+ (?:OK|NO|BAD) <\*>")


class ForeignWorld(World, Protocol):
    """A world that knows the UIDVALIDITY that transcripts call 7."""

    def validity(self, mailbox: str) -> str:
        """The UIDVALIDITY of a mailbox when it was asked for first."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a command was answered otherwise; ``line`` is where its answer is written."""

    transcript: str
    tag: str
    line: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.transcript}.txt:{self.line}: {self.tag}"]
        parts += [f"    ours:   {one}" for one in self.missing]
        parts += [f"    theirs: {one}" for one in self.unexpected]
        return "\n".join(parts)


class CommandEnd:
    """Tells whether what a client has sent so far is a whole command."""

    def __init__(self) -> None:
        self._missing = 0
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Take more; whether the command is whole now."""
        data = self._rest + data
        while data:
            if self._missing:
                taken = min(self._missing, len(data))
                self._missing -= taken
                data = data[taken:]
                continue
            line, end, data = data.partition(b"\n")
            found = _LITERAL.search(line + end)
            if found is not None:
                self._missing = int(found[1])
                if not data:
                    self._rest = b""
                    return False
            elif not end:
                self._rest = line
                return False
            elif not data:
                self._rest = b""
                return True
        self._rest = b""
        return False


@dataclass
class _Client:
    """A connection and the command it is in."""

    peer: Peer
    heard: bytes = b""
    tag: str = "greeting"
    line: int = 0
    """Where the last answer stands."""
    ended: bool = False
    """The server has answered the command with its tagged response, or left its path."""
    whole: bool = True
    has_more: bool = False
    """The command came in more than one piece, without waiting for the server to ask."""
    is_asked: bool = False
    """The server waits for more of the command."""
    waits_s: float = 0.0
    """How long to listen for more before the next command."""
    lost: bool = False
    """The server waits for something that the transcript does not say."""
    end: CommandEnd = field(default_factory=CommandEnd)

    def response(self, wait_s: float) -> str | None:
        """One response with its literals; None when none comes in time."""
        size = 0
        while True:
            end = self.heard.find(b"\r\n", size)
            if end >= 0:
                found = _LITERAL.search(self.heard[size : end + 2])
                if found is None:
                    text = self.heard[:end].decode("latin-1")
                    self.heard = self.heard[end + 2 :]
                    return text
                size = end + 2 + int(found[1])
                if len(self.heard) >= size:
                    continue
                size = 0
            more = self.peer.receive(wait_s)
            if not more:
                return None
            self.heard += more


def expected(block: Sequence[Step]) -> Iterator[tuple[str, str]]:
    """The responses that server lines show: how they are to come, and the text with its literals."""
    waiting = list(block)
    while waiting:
        step = waiting.pop(0)
        how = step.how
        text = "" if how == "#" else _server_text(step)
        while (found := _SAID_LITERAL.search(text)) and waiting:
            if waiting[0].how == "*":
                # Whatever the literal holds.
                text = text[: found.start()] + '"<*>"' + _server_text(waiting.pop(0))
                continue
            missing = int(found[1])
            text += "\r\n"
            while waiting:
                piece = _server_text(waiting.pop(0))
                text += piece
                missing -= len(piece)
                if missing < 0 or not waiting:
                    break
                text += "\r\n"
                missing -= 2
        yield how, text


def _server_text(step: Step) -> str:
    if step.how == "~":
        return octets("~", step.text).decode("latin-1")
    return step.text


class Beside:
    """One transcript beside another server, to be played once."""

    def __init__(self, path: Path, world: ForeignWorld) -> None:
        self._path = path
        self._world = world
        self._clients: dict[str, _Client] = {}
        self._captured: dict[str, str] = {}
        self._sequences: dict[int, int] = {}
        self._forbidden: list[str] = []
        self.differences: list[Difference] = []
        self.left_out: tuple[Step, str] | None = None

    def play(self) -> None:
        """Play everything that this server can be asked; see ``differences`` and ``left_out``."""
        for (kind, who), block in groupby(steps(self._path), key=lambda step: (step.kind, step.who)):
            for_this = list(block)
            try:
                if kind == "@":
                    self._act(for_this)
                elif kind == "C":
                    for step in for_this:
                        self._send(self._client(who), step)
                else:
                    self._hear(self._client(who), for_this)
            except _LeftOut:
                break
        for client in self._clients.values():
            if not client.lost:
                self._unasked(client, max(client.waits_s, HANG_UP_S))

    def _act(self, block: list[Step]) -> None:
        for step in block:
            name, *words = step.text.split()
            try:
                self._world.act(name, words)
            except NotHere as reason:
                self.left_out = step, str(reason)
                raise _LeftOut from None

    def _client(self, who: str) -> _Client:
        client = self._clients.get(who)
        if client is None:
            client = self._clients[who] = _Client(self._world.connect())
        return client

    def _again(self, client: _Client) -> None:
        """Come again after a hang-up; what the transcript did since it connected is lost."""
        client.peer = self._world.connect()
        client.heard, client.lost = b"", False
        if client.peer.receive(0.2).startswith(b"* "):
            client.heard = b""

    def _send(self, client: _Client, step: Step) -> None:
        was_asked, client.is_asked = client.is_asked, False
        begins = client.whole and not was_asked
        data = octets(step.how, step.text)
        client.whole = client.end.feed(data)
        if begins:
            # Refused early: what was sent behind may have been taken for further commands.
            client.lost = client.lost or (client.has_more and client.ended)
            if not client.lost:
                self._unasked(client, client.waits_s)
            if client.lost or client.peer.closed:
                self._again(client)
            client.tag = step.text.split(" ")[0]
            client.ended = client.has_more = False
        client.has_more = client.has_more or not (begins or was_asked)
        if client.ended:
            return
        try:
            client.peer.send(octets(step.how, self._in_their_terms(step.text)))
        except KeyError as hole:
            client.ended = True
            self._differ(client, step.number, [], [f"not asked: <{hole.args[0]}> was never told"])

    def _unasked(self, client: _Client, wait_s: float) -> None:
        """What came after the last answer: it was not to come."""
        said = []
        while (response := client.response(wait_s)) is not None:
            said.append(response)
        client.waits_s = 0.0
        client.lost = client.lost or any(one.startswith("* BYE") for one in said)
        unexpected = [one for one in map(meaning, said) if one is not None]
        if unexpected:
            self._differ(client, client.line, [], unexpected)

    def _in_their_terms(self, text: str) -> str:
        """A client line with their UIDVALIDITY and mod-sequences in place of ours."""
        text = _HOLE.sub(lambda hole: self._captured[hole[1]], text)
        text = _QRESYNC.sub(
            lambda found: f"{found[1]}{found[2]}{self._world.validity(found[1])} {self._sequence(found[4])}",
            text,
        )
        text = text.replace(";UIDVALIDITY=7", ";UIDVALIDITY=" + self._world.validity("INBOX"))
        return _SINCE.sub(lambda found: f"{found[1]}{self._sequence(found[2])}", text)

    def _sequence(self, ours: str) -> int:
        """Their mod-sequence for ours: the one told in its place, or as far from the nearest one told."""
        number = int(ours)
        below = max((one for one in self._sequences if one <= number), default=None)
        above = min((one for one in self._sequences if one > number), default=None)
        if below is None:
            return number if above is None else max(self._sequences[above] - (above - number), min(number, 1))
        far = self._sequences[below] + (number - below)
        return far if above is None else max(min(far, self._sequences[above] - 1), self._sequences[below])

    def _hear(self, client: _Client, block: list[Step]) -> None:
        wanted = list(expected(block))
        client.is_asked, client.line = wanted[-1][1].startswith("+"), block[-1].number
        if client.ended and client.tag != "greeting":
            return
        said = self._answers(client, wanted)
        patterns = [(how, text, _meant(text)) for how, text in wanted if how != "#"]
        missing: list[str] = []
        heard = {response: one for response in said if (one := meaning(response)) is not None}
        left = together([one for one in map(meaning, said) if one is not None])
        lines = together([one for how, _, one in patterns if one is not None and how != "!"])
        for line in lines:
            found = next((one for one in left if self._matches(line, one)), None)
            if found is None:
                missing.append(line)
            else:
                left.remove(found)
        forbidden = [one for how, _, one in patterns if how == "!" and one is not None]
        if any(how == "*" for how, _, _ in patterns):
            left = [one for one in left if any(_pattern(bad).match(one) for bad in forbidden)]
        if wanted[-1][0] == "#" and not client.peer.closed:
            missing.append("hangs up")
        self._learn(patterns, heard)
        if missing or left:
            # A server that goes another way may be about to hang up.
            client.waits_s = HANG_UP_S
            self._differ(client, block[-1].number, missing, left)

    def _answers(self, client: _Client, wanted: list[tuple[str, str]]) -> list[str]:
        """Everything the server says up to where the block ends."""
        last = wanted[-1][1]
        said: list[str] = []
        tagged = last.startswith(client.tag + " ")
        asked = tagged or last.startswith("+") or wanted[-1][0] == "#" or client.tag == "greeting"
        enough = sum(how != "!" for how, _ in wanted)
        tags = [at for at, (_, text) in enumerate(wanted) if text.startswith(client.tag + " ")]
        any_plus = any(text.startswith("+") for _, text in wanted)
        behind = len([how for how, _ in wanted[tags[0] + 1 :] if how != "#"]) if tags else 0
        while (response := client.response(ANSWER_S if asked else UNASKED_S)) is not None:
            said.append(response)
            if response.startswith(client.tag + " "):
                client.ended = not tags or " BAD" in response
                said += [one for _ in range(behind) if (one := client.response(UNASKED_S)) is not None]
                break
            if response.startswith("+") and not (any_plus and not last.startswith("+")):
                client.ended = tagged
                break
            if not asked and len(said) >= enough:
                break
            if client.tag == "greeting" and wanted[-1][0] != "#":
                break
        if wanted[-1][0] == "#" and not client.peer.closed:
            more = client.response(ANSWER_S)
            said += [more] if more is not None else []
        client.lost = client.ended and bool(said) and said[-1].startswith("+")
        return said

    def _matches(self, line: str, said: str) -> bool:
        return _pattern(line).match(said) is not None

    def _learn(self, patterns: list[tuple[str, str, str | None]], heard: dict[str, str]) -> None:
        """What holes stand for, and which of their mod-sequences stands where one of ours does."""
        for _, text, line in patterns:
            for response, one in heard.items():
                if line is not None and _pattern(line).match(one):
                    raw = _pattern(text).match(response)
                    self._captured.update(raw.groupdict() if raw else {})
                    for ours, theirs in zip(mod_sequences(text), mod_sequences(response), strict=False):
                        self._sequences.setdefault(ours, theirs)

    def _differ(self, client: _Client, line: int, missing: list[str], unexpected: list[str]) -> None:
        self.differences.append(
            Difference(self._path.stem, client.tag, line, tuple(missing), tuple(unexpected))
        )


def _meant(text: str) -> str | None:
    """The meaning of a line of a transcript; where anything may stand, a response code may."""
    line = meaning(text)
    return f"{line}<*>" if line is not None and _ANY_TEXT.match(text) else line


class _LeftOut(Exception):
    """The world cannot go on."""


def _pattern(line: str) -> re.Pattern[str]:
    parts, at, named = [], 0, set()
    for hole in _HOLE.finditer(line):
        parts.append(re.escape(line[at : hole.start()]))
        name = hole[1]
        parts.append(".*" if name == "*" or name in named else f"(?P<{name}>[^ )\\]]+)")
        named.add(name)
        at = hole.end()
    return re.compile("".join(parts) + re.escape(line[at:]) + r"\Z", re.DOTALL)
